"""Framing by data: the same frames at every single cut, byte by byte, and linear in the size of an event."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import data_files
from hypothesis import given
from hypothesis import strategies as st

from prx.core.framing import FRAMINGS, _fields, frames_in
from prx.errors import OverflowedError

HERE = Path(__file__).parent / "framing"
CASES = [case for file in sorted(HERE.glob("*.yaml")) for case in data_files.read(file)]


def frames(framing, pieces, limit=1 << 20):
    framer = FRAMINGS[framing](limit)
    found = [list(frame) for piece in pieces for frame in frames_in(framer, piece)]
    return found, [list(frame) for frame in framer.tail()]


def data_of(case):
    return case["bytes"].encode("latin-1").decode("unicode_escape").encode("latin-1")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_at_every_cut(case):
    data = data_of(case)
    wanted = (case["frames"], case.get("tail", []))
    framing = case.get("framing", "sse")
    assert frames(framing, [data]) == wanted
    assert frames(framing, [data[i : i + 1] for i in range(len(data))]) == wanted
    for cut in range(len(data)):
        assert frames(framing, [data[:cut], data[cut:]]) == wanted, cut


@pytest.mark.parametrize("framing", FRAMINGS)
@given(data=st.data())
def test_any_bytes_in_any_cuts(framing, data):
    pieces = data.draw(
        st.lists(
            st.binary(max_size=12) | st.sampled_from([b"data: ", b"\n", b"\r", b"\r\n", b"{", b"}", b"[", b'"', b":"]),
            max_size=12,
        )
    )
    assert frames(framing, pieces) == frames(framing, [b"".join(pieces)])


NAMES = st.sampled_from(["", " ", "message", "error", "a", "a:b", ": a", "data", "\x0b", "\u2028", "é"]) | st.text("ab: é\x85", max_size=4)  # fmt: skip


@given(name=NAMES, data=NAMES, named=st.booleans())
def test_what_needs_no_parser_is_what_the_parser_gives(name, data, named):
    event = (f"event: {name}\n" if named else "").encode() + f"data: {data}".encode()
    assert list(FRAMINGS["sse"](1000).frames(event)) == list(_fields(event))


@pytest.mark.parametrize(
    ("framing", "lead", "end"), [("sse", b"data: ", b"\n\n"), ("ndjson", b"", b"\n"), ("json_array", b"[", b"]")]
)
def test_an_event_has_a_largest_size(framing, lead, end):
    with pytest.raises(OverflowedError, match="more than 1000 bytes"):
        frames(framing, [lead, *[b'{"' + b"x" * 98] * 12, end], limit=1000)


def test_a_long_event_is_joined_once():
    """Counted, not timed: each byte of an event in 4,000 pieces is copied a bounded number of times."""
    copied = 0

    class Counted(bytes):
        def __add__(self, other):
            nonlocal copied
            copied += len(self) + len(other)
            return Counted(bytes(self) + bytes(other))

    pieces = [Counted(b"data: " + b"x" * 94)] + [Counted(b"x" * 100)] * 4000 + [Counted(b"\n\n")]
    found, _ = frames("sse", pieces)
    assert len(found[0][1]) == 94 + 400_000
    assert copied < 3 * 400_200
