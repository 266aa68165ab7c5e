"""Bytes to events, whatever the framing; linear in the bytes and blind to how they were cut.

Rule 1: only CR, LF and CRLF end a line, and text is UTF-8, whatever the headers say; a bad byte
becomes U+FFFD. Rule 2: what was not ended by a blank line is no event (`tail` gives it apart). Rule 3: an
event has a largest size.

sseclient-py parses the fields of an event; it is given clean whole events, because on its own it loses
the first event after a byte-order mark, joins events whose line ends differ, hands out a cut-off event as
whole, and takes quadratic time over a long one. The commonest events, one plain data line with or without a name
before it, need no parser.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from prx.errors import OverflowedError
from prx.json_text import BOM

_NAMED = re.compile(rb"event: ([^\n]*)\ndata: ([^\n]*)")


class Frame(NamedTuple):
    """One event: its name ("" for the ordinary one) and its data."""

    name: str
    data: str


class Framer(Protocol):
    """Eats bytes, gives the bytes of each event that is whole, and what is in one.

    tail   the frames of what the end of the stream left unfinished
    """

    def events(self, data: bytes) -> Iterator[bytes]: ...
    def frames(self, event: bytes) -> Iterator[Frame]: ...
    def tail(self) -> Iterator[Frame]: ...


class _Pieces:
    """Bytes not yet complete, kept in pieces: joined once, when their end has come."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.pieces: list[bytes] = []
        self.size = 0

    def add(self, piece: bytes) -> None:
        self.pieces.append(piece)
        self.size += len(piece)
        if self.size > self.limit:
            raise OverflowedError(f"an event of more than {self.limit} bytes; transport.max_event sets the limit")

    def take(self) -> bytes:
        whole = b"".join(self.pieces)
        self.pieces, self.size = [], 0
        return whole


class SseFramer:
    """Server-sent events, by the WHATWG's rules."""

    def __init__(self, limit: int) -> None:
        self.rest = _Pieces(limit)
        self.after_cr = False
        self.lead: bytes | None = b""  # the first bytes, until it is known whether they are a byte-order mark

    def events(self, data: bytes) -> Iterator[bytes]:
        data = self._line_ends(self._without_bom(data))
        rest = self.rest
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
        """Every line end as LF. A CR counts at once; the LF that may follow it in the next piece does not."""
        if self.after_cr and data:
            data = data.removeprefix(b"\n")
            self.after_cr = False
        if b"\r" not in data:
            return data
        self.after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _fields(event: bytes) -> Iterator[Frame]:
    """An event that is not one plain data line. A line of bare JSON is what a crashed server writes.

    sseclient gets each line as an event of its own, since it copies an event once for every line of it;
    what a line alone would not make it hand out is given an empty data field.
    """
    lines = [line for line in event.decode("utf-8", "replace").split("\n") if line and line[0] != ":"]
    if not lines:
        return
    from sseclient import SSEClient

    is_data = [line == "data" or line.startswith("data:") for line in lines]
    pieces = (f"{line}\n\n" if data else f"{line}\ndata\n\n" for line, data in zip(lines, is_data, strict=True))
    found = list(SSEClient(piece.encode() for piece in pieces).events())
    names = [each.event for each, data in zip(found, is_data, strict=True) if not data and each.event != "message"]
    for line in lines:
        if line[0] == "{":
            yield Frame("", line)
        elif line[:6].lower() == "error:":  # a field that there is not, in which some servers say why they stop
            yield Frame("error", line[6:].strip())
    if any(is_data):
        yield Frame(
            names[-1] if names else "", "\n".join(each.data for each, data in zip(found, is_data, strict=True) if data)
        )


class LineFramer:
    """One JSON value a line."""

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
        """Follow the nesting; true at the bracket that closes an element of the outermost array."""
        if self.in_text:
            if self.escaped:
                self.escaped = False
            elif byte == 0x5C:
                self.escaped = True
            elif byte == 0x22:
                self.in_text = False
        elif byte == 0x22:
            self.in_text = True
        elif byte in b"{[":
            self.depth += 1
        elif byte in b"}]":
            self.depth -= 1
            return self.depth == 1
        return False


def _value(line: bytes) -> Iterator[Frame]:
    text = line.decode("utf-8", "replace").strip().removeprefix("\ufeff")
    if text:
        yield Frame("", text)


def frames_in(framer: Framer, data: bytes) -> Iterator[Frame]:
    """What is in the events that these bytes complete."""
    for event in framer.events(data):
        yield from framer.frames(event)


FRAMINGS: dict[str, Callable[[int], Framer]] = {"sse": SseFramer, "ndjson": LineFramer, "json_array": ArrayFramer}
