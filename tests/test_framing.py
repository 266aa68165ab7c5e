"""Framing by data: the same frames at every single cut, byte by byte, and linear in the size of an event."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import data_files, event_stream
from hypothesis import given
from hypothesis import strategies as st

from prx.core.framing import FRAMINGS, _fields, frames_in
from prx.errors import OverflowedError, ProtocolError

HERE = Path(__file__).parent / "framing"
CASES = [case for file in sorted(HERE.glob("*.yaml")) for case in data_files.read(file)]


def frames(framing, pieces, limit=1 << 20):
    framer = FRAMINGS[framing](limit)
    found = [list(frame) for piece in pieces for frame in frames_in(framer, piece)]
    return found, [list(frame) for frame in framer.tail()]


def frames_or_error(framing, pieces):
    """What `frames` gives; where the bytes are broken, the frames before that and the error."""
    framer, found = FRAMINGS[framing](1 << 20), []
    try:
        for piece in pieces:
            found.extend(map(list, frames_in(framer, piece)))
    except ProtocolError as error:
        return found, str(error)
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
    assert frames_or_error(framing, pieces) == frames_or_error(framing, [b"".join(pieces)])


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


# ------------------------------------------------------------------ Amazon's event stream

OTHER_TYPES = (
    b"\2:a\0" b"\2:b\1" b"\2:c\2\7" b"\2:d\3\0\7" b"\2:e\4\0\0\0\7" b"\2:f\5" + bytes(8) + b"\2:g\6\0\2\n\n"
    b"\2:h\x08" + bytes(8) + b"\2:i\x09" + bytes(16) + b"\x0b:event-type\7\0\2hi"
)  # fmt: skip
GOOD = [
    event_stream.event("messageStart", {"role": "assistant"}),
    event_stream.message(b"", event_type="empty", message_type="event"),
    event_stream.framed(OTHER_TYPES, b'{"a": "\n"}'),
    event_stream.exception("throttlingException", {"message": "Too many"}),
    event_stream.message(b"no JSON", exception_type="odd", message_type="exception"),
    event_stream.message(message_type="error", error_code="InternalError", error_message="broken"),
]
FRAMES = [
    ["messageStart", '{"role": "assistant"}'],
    ["empty", ""],
    ["hi", '{"a": "\n"}'],
    ["error", '{"message": "Too many", ":exception-type": "throttlingException"}'],
    ["error", '{"message": "no JSON", ":exception-type": "odd"}'],
    ["error", '{":error-code": "InternalError", ":error-message": "broken"}'],
]


def in_any_cuts(data):
    """What is made of the bytes, at once, one by one, and cut in two at every place."""
    made = frames_or_error("aws_eventstream", [data])
    assert frames_or_error("aws_eventstream", [data[i : i + 1] for i in range(len(data))]) == made
    for cut in range(len(data)):
        assert frames_or_error("aws_eventstream", [data[:cut], data[cut:]]) == made, cut
    return made


def test_messages_of_an_event_stream():
    assert in_any_cuts(b"".join(GOOD)) == (FRAMES, [])


def test_a_message_that_is_cut_off_is_not_an_event():
    data = b"".join(GOOD)
    assert in_any_cuts(data[:-1]) == (FRAMES[:-1], [])
    assert in_any_cuts(data[: len(GOOD[0]) + 9]) == (FRAMES[:1], [])


@pytest.mark.parametrize("place", range(len(GOOD[3])))
def test_each_byte_of_a_message_is_checked(place):
    broken = bytearray(GOOD[3])
    broken[place] ^= 1
    found, error = frames_or_error("aws_eventstream", [GOOD[0], bytes(broken), GOOD[0]])
    assert found == FRAMES[:1]
    assert "a message of the event stream is broken" in error


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (b"\x05ab", "in the middle"),
        (b"\1a\7", "in the middle"),
        (b"\1a\7\0\7ab", "in the middle"),
        (b"\1a\x08\0", "in the middle"),
        (b"\1a\x0a", "unknown type 10"),
    ],
)
def test_headers_that_do_not_end(rows, words):
    found, error = in_any_cuts(event_stream.framed(rows, b"{}"))
    assert found == []
    assert words in error


def test_a_message_has_a_largest_size():
    long = event_stream.message(b"x" * 1000, event_type="a")
    assert frames("aws_eventstream", [long], limit=len(long))[0] == [["a", "x" * 1000]]
    for pieces in ([long], [long[:12]], [long[i : i + 1] for i in range(len(long))]):
        with pytest.raises(OverflowedError, match=r"transport\.max_event"):
            frames("aws_eventstream", pieces, limit=len(long) - 1)


def test_botocore_reads_the_same():
    """The messages of these tests are of our own making; so they are shown to another reader."""
    from botocore.eventstream import EventStreamBuffer

    buffer = EventStreamBuffer()
    buffer.add_data(b"".join(GOOD))
    read = [(each.headers, each.payload) for each in buffer]
    assert [headers.get(":event-type", headers.get(":exception-type")) for headers, _ in read] == [
        "messageStart", "empty", "hi", "throttlingException", "odd", None,
    ]  # fmt: skip
    assert [payload.decode() for _, payload in read[:3]] == [data for _, data in FRAMES[:3]]
