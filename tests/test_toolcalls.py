"""Tool calls joined from fragments, by data."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import yaml

from prx.core import arguments
from prx.core.arguments import Arguments
from prx.core.toolcalls import Piece, ToolCalls

CASES = yaml.safe_load((Path(__file__).parent / "toolcalls.yaml").read_text())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_joined(case):
    numbers = itertools.count(1)
    calls = ToolCalls(lambda: f"NEW{next(numbers)}", offered=["get_weather", "get_time", "f", "g"], free=["free"])
    how = case.get("how", "piece")
    how = [how] * len(case["add"]) if isinstance(how, str) else how
    for given in case.get("not_ours", ()):
        calls.not_ours(piece(given))
    deltas = [calls.add(piece(given), way) for given, way in zip(case["add"], how, strict=True)]
    deltas += calls.settle(end=True)
    found = [["NEW" if call.id.startswith("NEW") else call.id, call.name, call.arguments] for call in calls.calls()]
    assert found == case["calls"]
    assert calls.nameless() == ("" in [name for _, name, _ in found])
    assert calls.calls() == calls.calls(), "an id that was made stays"
    assert told(deltas) == {place: call[2] for place, call in enumerate(found)}, "the deltas say the same as the calls"


def piece(given):
    """[index, id, name, arguments], and the item where there is one."""
    index, called, name, arguments, *item = given
    return Piece.of((index, *(item or [None]), called, name, arguments, None))


def told(deltas):
    """The arguments of each call, as somebody joins them who has nothing but the deltas."""
    found = {}
    for delta in filter(None, deltas):
        found[delta.index] = found.get(delta.index, "") + (delta.arguments or "")
    return {place: text or "{}" for place, text in found.items()}


def pieces(count, *, name):
    calls = ToolCalls(lambda: "made")
    for number in range(count):
        calls.add(piece([0, None, name if number == 0 or name else None, '"}"' if number else '{"a":[']))
    return calls


def test_the_work_grows_with_the_pieces_and_not_with_their_square():
    """Counted, not timed: how often a text is parsed whole does not depend on how many pieces it has."""
    parsed = []
    original = arguments.is_json
    arguments.is_json = lambda text: parsed.append(len(text)) or original(text)
    try:
        pieces(2000, name="f")
    finally:
        arguments.is_json = original
    assert len(parsed) <= 2


@pytest.mark.parametrize("text", ['{"a":"}{"}', '{"a":"\\\\"}', '{"a":[{"b":"\\""}]}', "[]"])
def test_whole_arguments_are_known_however_they_are_cut(text):
    for cut in range(len(text) + 1):
        begun = Arguments()
        begun.add(text[:cut])
        begun.add(text[cut:])
        assert begun.whole
        begun.add('{"')
        assert not begun.whole


def test_half_a_pair_in_arguments_can_be_printed():
    calls = ToolCalls(lambda: "made")
    delta = calls.add(piece([0, "c", "f", '{"a":"\ud83d"}']))
    assert delta.arguments.encode()
    assert calls.calls()[0].arguments == '{"a":"\ufffd"}'
