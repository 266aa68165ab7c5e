"""Tool calls joined from fragments, by data."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import yaml

from prx.core import toolcalls
from prx.core.toolcalls import ToolCalls

CASES = yaml.safe_load((Path(__file__).parent / "toolcalls.yaml").read_text())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_joined(case):
    numbers = itertools.count(1)
    calls = ToolCalls(lambda: f"NEW{next(numbers)}")
    how = case.get("how", "piece")
    how = [how] * len(case["add"]) if isinstance(how, str) else how
    deltas = [calls.add(tuple(fragment), way) for fragment, way in zip(case["add"], how, strict=True)]
    found = [["NEW" if call.id.startswith("NEW") else call.id, call.name, call.arguments] for call in calls.calls()]
    assert found == case["calls"]
    ids = [call.id for call in calls.calls() if call.id.startswith("NEW")]
    assert len(set(ids)) == len(ids)
    assert calls.calls() == calls.calls(), "an id that was made stays"
    joined = [
        "".join(delta.arguments or "" for delta in deltas if delta.index == place) or "{}"
        for place in range(len(found))
    ]
    assert joined == [call[2] for call in found], "the deltas say the same as the calls"


def pieces(count, *, name):
    calls = ToolCalls(lambda: "made")
    for number in range(count):
        calls.add((0, None, name if number == 0 or name else None, '"}"' if number else '{"a":['))
    return calls


def test_the_work_grows_with_the_pieces_and_not_with_their_square():
    """Counted, not timed: how often a text is parsed whole does not depend on how many pieces it has."""
    parsed = []
    original = toolcalls.is_json
    toolcalls.is_json = lambda text: parsed.append(len(text)) or original(text)
    try:
        pieces(2000, name="f")
    finally:
        toolcalls.is_json = original
    assert len(parsed) <= 2


@pytest.mark.parametrize("text", ['{"a":"}{"}', '{"a":"\\\\"}', '{"a":[{"b":"\\""}]}', "[]", "5"])
def test_whole_arguments_are_known_however_they_are_cut(text):
    for cut in range(len(text) + 1):
        slot = toolcalls._Slot(0, 0)
        slot.take("c", "f", text[:cut])
        slot.take(None, None, text[cut:])
        assert slot.whole()
        slot.take(None, None, '{"')
        assert not slot.whole()


def test_half_a_pair_in_arguments_can_be_printed():
    calls = ToolCalls(lambda: "made")
    delta = calls.add((0, "c", "f", '{"a":"\ud83d"}'))
    assert delta.arguments.encode()
    assert calls.calls()[0].arguments == '{"a":"\ufffd"}'
