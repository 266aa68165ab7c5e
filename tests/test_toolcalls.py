"""Tool calls joined from fragments, by data."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from helpers import data_files, properties
from helpers.examples import settled
from hypothesis import given
from hypothesis import strategies as st

from prx.core import call_arguments
from prx.core.call_arguments import Arguments
from prx.core.toolcalls import Piece, ToolCalls

CASES = data_files.read(Path(__file__).parent / "toolcalls.yaml")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_joined(case):
    numbers = itertools.count(1)
    calls = ToolCalls(lambda: f"NEW{next(numbers)}", offered=["get_weather", "get_time", "f", "g"], free=["free"])
    how = case.get("how", "piece")
    how = [how] * len(case["add"]) if isinstance(how, str) else how
    for element in case.get("not_ours", ()):
        calls.ignore_server_call(piece(element))
    deltas = [calls.add(piece(element), way) for element, way in zip(case["add"], how, strict=True)]
    deltas += calls.settle(end=True)
    found = [["NEW" if call.id.startswith("NEW") else call.id, call.name, call.arguments] for call in calls.calls()]
    assert found == case["calls"]
    assert calls.nameless() == ("" in [name for _, name, _ in found])
    assert calls.calls() == calls.calls(), "an id that was made stays"
    assert told(deltas) == {place: call[2] for place, call in enumerate(found)}, "the deltas say the same as the calls"


def piece(element):
    """[index, id, name, arguments], and the item where there is one."""
    index, called, name, arguments, *item = element
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
    original = call_arguments.is_json
    call_arguments.is_json = lambda text: parsed.append(len(text)) or original(text)
    try:
        pieces(2000, name="f")
    finally:
        call_arguments.is_json = original
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


# ------------------------------------------------------------------ the habits of servers, over any calls in any cuts

# How the pieces of a call are numbered and called: (index, id, name) of piece `at` of call number `call`.
NUMBERED = {
    "as usual": lambda call, at, name: (call, only(at, f"c{call}"), only(at, name)),
    "all said each time": lambda call, _at, name: (call, f"c{call}", name),
    "pieces under the next index": lambda call, at, name: (call + bool(at), only(at, f"c{call}"), only(at, name)),
    "an index for each piece": lambda call, at, name: (100 * call + at, only(at, f"c{call}"), only(at, name)),
    "no index": lambda call, at, name: (None, only(at, f"c{call}"), only(at, name)),
    "no index and the id each time": lambda call, at, name: (None, f"c{call}", only(at, name)),
    "index 0 for all": lambda call, at, name: (0, only(at, f"c{call}"), only(at, name)),
    "another id in each piece": lambda call, at, name: (call, f"c{call}-{at}", only(at, name)),
    "one id for all": lambda call, at, name: (call, only(at, "c"), only(at, name)),
    "no id at all": lambda call, at, name: (call, None, only(at, name)),
}
# What is sent of a call, from (its pieces, numbered as above): as (at, text).
SENT = {
    "once": lambda pieces: list(enumerate(pieces)),
    "nothing but the name first": lambda pieces: list(enumerate(["", *pieces])),
    "longer and longer": lambda pieces: [(at, "".join(pieces[: at + 1])) for at in range(len(pieces))],
    "{} first": lambda pieces: list(enumerate(["{}", *pieces])),
    "nothing, then {}, then the pieces": lambda pieces: list(enumerate(["", "{}", *pieces])),
    "an empty piece last": lambda pieces: list(enumerate([*pieces, ""])),
}
# What is said of it again at its end, as (index, id, name, arguments).
AGAIN = {
    "nothing": lambda *_: [],
    "all of it": lambda call, name, pieces: [(call, f"c{call}", name, "".join(pieces))],
    "all of it elsewhere": lambda call, name, pieces: [(call + 50, f"c{call}", name, "".join(pieces))],
    "its pieces elsewhere": lambda call, name, pieces: [
        (call + 50, f"c{call}", name if at == 0 else None, text) for at, text in enumerate(pieces)
    ],
    "all of it with other spaces": lambda call, name, pieces: [
        (call, f"c{call}", name, json.dumps(json.loads("".join(pieces)), indent=1))
    ],
}
VALUES = st.dictionaries(
    st.text('ab{}[]"\\:, ', max_size=4), st.integers(0, 99) | st.text('a{}"\\:é', max_size=5) | st.just({}) | st.lists(st.none(), max_size=2),
    min_size=1, max_size=3,
)  # fmt: skip
CALLS = st.lists(st.tuples(st.sampled_from(["get_weather", "get_time", "f", "g"]), VALUES), min_size=1, max_size=3)


def only(at, value):
    return None if at else value


HABITS = [
    (numbered, sent, again)
    for numbered, sent, again in itertools.product(NUMBERED, SENT, AGAIN)
    if again == "nothing" or numbered in {"as usual", "all said each time", "pieces under the next index"}
]


@pytest.mark.parametrize(("numbered", "sent", "again"), HABITS)
@given(called=CALLS, data=st.data())
@settled(12)
def test_any_calls_with_the_habits_of_servers(numbered, sent, again, called, data):
    """However the calls of an answer are cut, numbered and repeated, they are those of the plain stream."""
    if numbered == "one id for all":
        called = list({name: (name, value) for name, value in called}.values())  # the names alone tell them apart
    elements = []
    for call, (name, value) in enumerate(called):
        text = json.dumps(value, ensure_ascii=data.draw(st.booleans()))
        cuts = data.draw(st.lists(st.integers(1, len(text) - 1), max_size=3, unique=True).map(sorted))
        pieces = [text[start:end] for start, end in itertools.pairwise([0, *cuts, len(text)])]
        elements += [[*NUMBERED[numbered](call, at, name), part] for at, part in SENT[sent](pieces)]
        elements += map(list, AGAIN[again](call, name, pieces))
    calls = ToolCalls(lambda: "made", offered=["get_weather", "get_time", "f", "g"])
    deltas = [*(calls.add(piece(element)) for element in elements), *calls.settle(end=True)]
    assert [(call.name, json.loads(call.arguments)) for call in calls.calls()] == called, elements
    assert told(deltas) == {place: call.arguments for place, call in enumerate(calls.calls())}


ANYTHING = st.tuples(
    st.none() | st.integers(0, 2), st.none() | st.sampled_from("xy"), st.none() | st.sampled_from(["c", "d", ""]),
    st.none() | st.sampled_from(["f", "g", "free", ""]), st.none() | st.sampled_from(["", "{", "}", '{"a":', "1}", '"', "[", "]", "{}", '{"a":1}', " ", "x", "NaN"]),
)  # fmt: skip


@given(elements=st.lists(ANYTHING, max_size=8))
def test_any_pieces_at_all(elements):
    """The deltas say what the calls say, and what is no JSON or has no name is known as such."""
    properties.joined(elements)
