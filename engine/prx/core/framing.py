"""Cuts bytes into events, for each framing; in linear time, and with the same result wherever the chunks were cut.

Rule 1: only CR, LF and CRLF end a line, and text is UTF-8, whatever the headers say; a bad byte
becomes U+FFFD. Rule 2: bytes that no blank line ends are not an event (`tail` gives them separately). Rule 3: an
event has a largest size.

sseclient-py parses the fields of an event. It is given whole events with LF line ends, because on its own it loses
the first event after a byte-order mark, joins events whose line ends differ, hands out a cut-off event as
whole, and takes quadratic time over a long one. The most common events, one plain data line with or without a name
before it, need no parser.
"""

from __future__ import annotations

import json
import re
import struct
from binascii import crc32
from collections.abc import Callable, Iterator
from struct import unpack_from
from typing import NamedTuple, NoReturn, Protocol

from prx.errors import OverflowedError, ProtocolError
from prx.json_text import BOM, parsed

_NAMED = re.compile(rb"event: ([^\n]*)\ndata: ([^\n]*)")
_BACKSLASH, _QUOTE = b'\\"'


class Frame(NamedTuple):
    """One event: its name, "" where it has none, and its data."""

    name: str
    data: str


class Framer(Protocol):
    """One framing.

    events   the bytes of each event that these bytes complete; incomplete ones are kept
    frames   the frames in the bytes of one event
    tail     the frames in the bytes that are left when the stream has ended
    rest     the bytes behind the last event that has ended
    """

    rest: _Pieces

    def events(self, data: bytes) -> Iterator[bytes]: ...
    def frames(self, event: bytes) -> Iterator[Frame]: ...
    def tail(self) -> Iterator[Frame]: ...


class _Pieces:
    """The pieces of an incomplete event: joined only once, when it is complete. limit: its largest size in bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.pieces: list[bytes] = []
        self.size = 0

    def add(self, piece: bytes) -> None:
        self.pieces.append(piece)
        self.size += len(piece)
        if self.size > self.limit:
            self.overflow()

    def overflow(self) -> NoReturn:
        raise OverflowedError(f"an event has more than {self.limit} bytes; transport.max_event sets the limit")

    def take(self) -> bytes:
        whole = b"".join(self.pieces)
        self.pieces, self.size = [], 0
        return whole


class SseFramer:
    """Server-sent events, by the rules of the WHATWG."""

    def __init__(self, limit: int) -> None:
        self.rest = _Pieces(limit)
        self.after_cr = False
        self.lead: bytes | None = b""  # the first bytes while they may be a byte-order mark, then None

    def events(self, data: bytes) -> Iterator[bytes]:
        rest = self.rest
        if data[-2:] == b"\n\n" and not rest.pieces and self.lead is None and not self.after_cr and b"\r" not in data:
            yield from filter(None, data.split(b"\n\n"))  # whole events, as in most of what arrives
            return
        data = self._line_ends(self._without_bom(data))
        if not data:
            return
        if rest.pieces and b"\n\n" not in data and not (data[:1] == b"\n" and rest.pieces[-1][-1:] == b"\n"):
            rest.add(data)
            return
        if rest.pieces:
            data = rest.take() + data
        *events, tail = data.split(b"\n\n")
        yield from filter(None, events)
        if tail:
            rest.add(tail)

    def frames(self, event: bytes) -> Iterator[Frame]:
        if event[:6] == b"data: " and b"\n" not in event:
            return iter((Frame("", event[6:].decode("utf-8", "replace")),))
        if named := _NAMED.fullmatch(event):
            name, data = (part.decode("utf-8", "replace") for part in named.groups())
            return iter((Frame("" if name == "message" else name, data),))
        return _fields(event)

    def tail(self) -> Iterator[Frame]:
        event = (self.lead or b"") + self.rest.take()
        if event:
            yield from _fields(event)

    def _without_bom(self, data: bytes) -> bytes:
        if self.lead is None:
            return data
        data = self.lead + data
        if len(data) < 3 and BOM.startswith(data):
            self.lead = data
            return b""
        self.lead = None
        return data.removeprefix(BOM)

    def _line_ends(self, data: bytes) -> bytes:
        """The bytes with LF for every line end. A CR at the end counts at once; an LF that follows in the next bytes is
        part of it.
        """
        if self.after_cr and data:
            data = data.removeprefix(b"\n")
            self.after_cr = False
        if b"\r" not in data:
            return data
        self.after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _fields(event: bytes) -> Iterator[Frame]:
    """The frames of an event that is more than one plain data line.

    sseclient gets each line as a separate event, since it copies an event once for every line in it. It hands out no
    event without data, so a line of another field gets an empty data field.
    """
    lines = [line for line in event.decode("utf-8", "replace").split("\n") if line and line[0] != ":"]
    if not lines:
        return
    from sseclient import SSEClient

    is_data = [line == "data" or line.startswith("data:") for line in lines]
    pieces = (f"{line}\n\n" if data else f"{line}\ndata\n\n" for line, data in zip(lines, is_data, strict=True))
    parsed_lines = list(SSEClient(piece.encode() for piece in pieces).events())
    rows = list(zip(parsed_lines, is_data, strict=True))
    names = [line.event for line, data in rows if not data and line.event != "message"]
    for line in lines:
        if line[0] == "{":  # a server that crashes writes its error as a line of JSON without a field name
            yield Frame("", line)
        elif line[:6].lower() == "error:":  # not a field of SSE; some servers write in it why they stop
            yield Frame("error", line[6:].strip())
    if any(is_data):
        yield Frame(names[-1] if names else "", "\n".join(line.data for line, data in rows if data))


class LineFramer:
    """One JSON value in each line (NDJSON)."""

    def __init__(self, limit: int) -> None:
        self.rest = _Pieces(limit)

    def events(self, data: bytes) -> Iterator[bytes]:
        *lines, tail = data.split(b"\n")
        for line in lines:
            self.rest.add(line)
            yield self.rest.take()
        if tail:
            self.rest.add(tail)

    def frames(self, event: bytes) -> Iterator[Frame]:
        return _value(event)

    def tail(self) -> Iterator[Frame]:
        yield from _value(self.rest.take())


class ArrayFramer:
    """The elements of one JSON array, each as soon as it is complete."""

    def __init__(self, limit: int) -> None:
        self.rest = _Pieces(limit)
        self.depth = 0
        self.in_text = self.escaped = False

    def events(self, data: bytes) -> Iterator[bytes]:
        start = 0
        for place, byte in enumerate(data):
            if self._ends_element(byte):
                self.rest.add(data[start : place + 1])
                start = place + 1
                yield self.rest.take().lstrip(b"[, \t\r\n")
        self.rest.add(data[start:])

    def frames(self, event: bytes) -> Iterator[Frame]:
        return _value(event)

    def tail(self) -> Iterator[Frame]:
        yield from _value(self.rest.take().strip(b"[], \t\r\n"))

    def _ends_element(self, byte: int) -> bool:
        """Count the nesting; True at the bracket that closes an element of the outermost array."""
        if self.in_text:
            if self.escaped:
                self.escaped = False
            elif byte == _BACKSLASH:
                self.escaped = True
            elif byte == _QUOTE:
                self.in_text = False
        elif byte == _QUOTE:
            self.in_text = True
        elif byte in b"{[":
            self.depth += 1
        elif byte in b"}]":
            self.depth -= 1
            return self.depth == 1
        return False


class EventStreamFramer:
    """Amazon's event stream (application/vnd.amazon.eventstream): messages of a known length, with headers and two checksums.

    An event has its name in a header. A message that says that it is no event, but an exception or an error, becomes the
    event "error", whose data has the headers that say which.
    """

    def __init__(self, limit: int) -> None:
        self.rest = _Pieces(limit)
        self._needed = _PRELUDE  # bytes: first of the prelude, and when that is known, of the whole message

    def events(self, data: bytes) -> Iterator[bytes]:
        """Each as its name, a line break and its data: without the checksums, which differ even where events are alike."""
        rest, start = self.rest, 0
        while start < len(data):
            piece = data[start : start + self._needed - rest.size]
            start += len(piece)
            rest.add(piece)
            if rest.size < self._needed:
                return
            message = rest.take()
            if self._needed == _PRELUDE:
                rest.add(message)
                self._needed = self._length(message)
            else:
                self._needed = _PRELUDE
                yield _named(message)

    def frames(self, event: bytes) -> Iterator[Frame]:
        name, _, data = event.decode("utf-8", "replace").partition("\n")
        return iter((Frame(name, data),))

    def tail(self) -> Iterator[Frame]:
        self.rest.take()  # half a message, which no checksum vouches for
        return iter(())

    def _length(self, prelude: bytes) -> int:
        """The length of a message, from its first bytes."""
        length, headers, checksum = unpack_from(">III", prelude)
        if crc32(prelude[:8]) != checksum or length < _PRELUDE + _CHECKSUM + headers:
            _broken("its length does not fit its checksum")
        if length > self.rest.limit:
            self.rest.overflow()
        return int(length)


_PRELUDE, _CHECKSUM = 12, 4  # bytes at the beginning of a message, and at its end
_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}  # of the values of headers, by their type
_TEXT_TYPE, _BYTES_TYPE = 7, 6  # have their size before them
_REASONS = (":exception-type", ":error-code", ":error-message")


def _broken(why: str) -> NoReturn:
    raise ProtocolError(f"a message of the event stream is broken: {why}")


def _named(message: bytes) -> bytes:
    """A message as `events` gives it."""
    if crc32(message[:-_CHECKSUM]) != unpack_from(">I", message, len(message) - _CHECKSUM)[0]:
        _broken("its bytes do not fit their checksum")
    end = _PRELUDE + unpack_from(">I", message, 4)[0]
    headers, data = _headers(message[_PRELUDE:end]), message[end:-_CHECKSUM]
    if headers.get(":message-type") not in ("exception", "error"):
        return headers.get(":event-type", "").replace("\n", " ").encode() + b"\n" + data
    text = data.decode("utf-8", "replace")
    value = parsed(text)
    said = value if isinstance(value, dict) else {"message": text} if text.strip() else {}
    why = {name: headers[name] for name in _REASONS if name in headers}
    return b"error\n" + json.dumps({**said, **why}).encode()


def _headers(data: bytes) -> dict[str, str]:
    """The headers whose values are texts; those of other types are passed over."""
    found: dict[str, str] = {}
    place = 0
    try:
        while place < len(data):
            name_end = place + 1 + data[place]
            name, kind = data[place + 1 : name_end].decode("utf-8", "replace"), data[name_end]
            place = name_end + 1
            size = _SIZES.get(kind)
            if size is None:
                if kind not in (_TEXT_TYPE, _BYTES_TYPE):
                    _broken(f"a header of the unknown type {kind}")
                (size,) = unpack_from(">H", data, place)
                place += 2
            if kind == _TEXT_TYPE:
                found[name] = data[place : place + size].decode("utf-8", "replace")
            place += size
    except (IndexError, struct.error):
        place = len(data) + 1
    if place > len(data):
        _broken("its headers end in the middle of one")
    return found


def _value(line: bytes) -> Iterator[Frame]:
    text = line.decode("utf-8", "replace").strip().removeprefix("\ufeff")
    if text:
        yield Frame("", text)


def frames_in(framer: Framer, data: bytes) -> Iterator[Frame]:
    """The frames in the events that these bytes complete."""
    for event in framer.events(data):
        yield from framer.frames(event)


FRAMINGS: dict[str, Callable[[int], Framer]] = {
    "sse": SseFramer,
    "ndjson": LineFramer,
    "json_array": ArrayFramer,
    "aws_eventstream": EventStreamFramer,
}
