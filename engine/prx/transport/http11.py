"""Reads HTTP/1.1 responses from the bytes that it is fed; it has no socket and no clock.

    incoming = Incoming()
    while not incoming.head(data): ...      # data: the next bytes; b"" where the connection has ended
    body = incoming.body                    # feed it `incoming.early`, which came with the head,
    while not body.ended: body.feed(data)   # and then the next bytes

The alternative, http.client with urllib3's response around it, sends head and body apart, parses headers as mail, and
takes a body chunk by chunk through four calls each: half of what a call costs, and more than parsing its events does.
Here a response is read as http.client reads one, its limits and exceptions included, but strictly: a message that two
HTTP implementations could understand differently (RFC 9112, section 11.2) is refused, and a connection whose response
did not end where it should is not used again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from http.client import BadStatusLine, HTTPException, IncompleteRead, LineTooLong, RemoteDisconnected, UnknownProtocol

_MAX_HEAD = 1 << 18
_MAX_HEADERS = 100
_MAX_LINE = 65536
_MAX_CHUNK_LINE = 4096
_USUAL_LINE = 100  # characters of a status line that is kept
_MAX_INTERIM = 20  # 100 Continue, 103 Early Hints …, one after the other
_END_OF_HEAD = re.compile(rb"\n\r?\n")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*)\Z", re.DOTALL)
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,16})\r\n")
_HEX = re.compile(rb"[0-9a-fA-F]{1,16}\Z")
_SENDABLE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


class DrippingError(TimeoutError):
    """Headers come byte by byte, never long enough apart for a timeout, and have taken too long altogether."""


def head_of(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """A request's head. Raises ValueError for characters that a header cannot carry; the message does not repeat them."""
    text = "\r\n".join([f"{method} {target} HTTP/1.1", *map(": ".join, headers.items())])
    lines = text.replace("\r\n", "")
    has_only_own_breaks = len(text) - len(lines) == 2 * len(headers)
    # Nearly every head has only printable ASCII; these methods take a tenth of the time of the regular expression.
    if not has_only_own_breaks or not ((lines.isascii() and lines.isprintable()) or _SENDABLE.fullmatch(lines)):
        raise ValueError("a header has characters that cannot be sent")
    return f"{text}\r\n\r\n".encode("latin-1")


class Incoming:
    """A response as it arrives. Call `head` until it gives True; only then the other attributes are set.

    status, headers   names of headers in lower case
    body       reader of the body: ToLength, Chunked or ToEnd
    early      bytes of the body that came with the head
    broken_off whether the request was not sent whole, so that the connection cannot be used for another
    reusable   whether the connection, after the end of the body, can be used for another request
    """

    status: int
    headers: dict[str, str]
    body: Body
    early = b""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0  # bytes without the end of a head: a head in many small pieces is searched only once
        self._interim = 0
        self._keeps = False
        self.broken_off = False

    @classmethod
    def given(cls, status: int, headers: dict[str, str], body: Body) -> Incoming:
        """A response whose head has been read elsewhere; its connection is not used again."""
        incoming = cls()
        incoming.status, incoming.headers, incoming.body = status, headers, body
        return incoming

    @property
    def reusable(self) -> bool:
        return self._keeps and self.body.clean

    def head(self, data: bytes) -> bool:
        """Add bytes, b"" for the connection's end; gives whether the head is complete. Raises HTTPException."""
        if not data:
            raise RemoteDisconnected("Remote end closed connection without response")
        self._buffer += data
        while (lines := self._lines()) is not None:
            version, status = _status(lines[0])
            if status == 101 or not 100 <= status < 200:
                self._begin(status, _headers(lines[1:]), version)
                return True
            self._interim += 1
            if self._interim == _MAX_INTERIM:
                raise HTTPException("too many interim responses (1xx) and no final one")
        return False

    def _lines(self) -> list[str] | None:
        """The lines of the next head, removed from the buffer; None while it is not complete."""
        end = _END_OF_HEAD.search(self._buffer, max(0, self._searched - 3))
        if end is None:
            self._searched = len(self._buffer)
            if self._searched > _MAX_HEAD:
                raise LineTooLong("head")
            return None
        text = self._buffer[: end.start()].decode("latin-1").replace("\r\n", "\n").removesuffix("\r")
        del self._buffer[: end.end()]
        self._searched = 0
        if "\r" in text or "\0" in text:  # some implementations take a bare CR for the end of a line
            raise HTTPException("a control character in the head")
        return text.split("\n")

    def _begin(self, status: int, headers: dict[str, str], version: int) -> None:
        self.status, self.headers = status, headers
        self.body = body_of(status, headers)
        self._keeps = not isinstance(self.body, ToEnd) and _keeps(status, headers, version)
        self.early, self._buffer = bytes(self._buffer), bytearray()
        if self.body.ended and self.early:  # bytes after a response that has no body
            self.body.clean = False


class Reader:
    """Reads one body. `feed` takes bytes of the connection, b"" for its end, and gives those of the body; it raises
    HTTPException.

    ended    the body is complete
    broken   an error after valid bytes, to be raised once those have been handed on; or None
    clean    the body ended as HTTP requires, and no bytes followed it
    """

    __slots__ = ("broken", "clean", "ended")

    def __init__(self, *, ended: bool = False, clean: bool = True) -> None:
        self.ended, self.clean = ended, clean
        self.broken: HTTPException | None = None

    def pieces(self) -> Callable[[bytes], list[bytes]] | None:
        """A function that cuts bytes of the connection into the pieces of the body that the server has made, [] where not all of them
        are whole; None where this reader is within one, or knows of none.
        """
        return None


class ToLength(Reader):
    """A body whose length is known, in bytes."""

    __slots__ = ("_missing",)

    def __init__(self, length: int) -> None:
        super().__init__(ended=not length)
        self._missing = length

    def feed(self, data: bytes) -> bytes:
        if not data:
            raise IncompleteRead(b"", self._missing)
        if len(data) > self._missing:
            self.clean = False
            data = data[: self._missing]
        self._missing -= len(data)
        self.ended = not self._missing
        return data


class ToEnd(Reader):
    """A body that ends where the connection ends."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(clean=False)

    def feed(self, data: bytes) -> bytes:
        self.ended = not data
        return data


class Chunked(Reader):
    """A body in chunks; each byte is read once, however the chunks arrive."""

    __slots__ = ("_break_due", "_in_trailer", "_left", "_rest", "_trailer_size")

    def __init__(self) -> None:
        super().__init__()
        self._rest = b""  # an incomplete line, or bytes after the end of the body
        self._in_trailer = False
        self._left = 0  # bytes of the present chunk that have not come yet
        self._break_due = False  # whether the line break after a chunk comes next
        self._trailer_size = 0

    def feed(self, data: bytes) -> bytes:
        if not data:
            return self._cut_off()
        pieces: list[bytes] = []
        try:
            self._feed(self._rest + data if self._rest else data, pieces)
        except HTTPException as error:
            self.broken, self.ended, self.clean = error, True, False
        if self.ended and self._rest:
            self.clean = False
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def pieces(self) -> Callable[[bytes], list[bytes]] | None:
        within = self._rest or self._left or self._break_due or self._in_trailer
        return None if within else _all_whole

    def _cut_off(self) -> bytes:
        """The connection has ended: an error, unless all chunks have come and only the trailer is missing."""
        if not self._in_trailer:
            raise IncompleteRead(b"")
        self.ended, self.clean = True, False
        return b""

    def _feed(self, data: bytes, pieces: list[bytes]) -> None:
        place = 0 if self._left or self._break_due or self._in_trailer else _whole_chunks(data, pieces)
        while not self.ended and (self._left or self._break_due or place < len(data)):
            if self._left:
                piece = data[place : place + self._left]
                pieces.append(piece)
                place += len(piece)
                self._left -= len(piece)
                self._break_due = not self._left
                if self._left:
                    break
            end = data.find(b"\n", place)
            if end < 0:
                break
            if data[end - 1 : end] != b"\r" or end == place:
                raise HTTPException("a line between chunks does not end with CR LF")
            self._line(data[place : end - 1])
            place = end + 1
        self._rest = data[place:]
        if not self.ended and len(self._rest) > _MAX_CHUNK_LINE:
            raise LineTooLong("chunk size")

    def _line(self, line: bytes) -> None:
        if self._break_due:
            if line:
                raise HTTPException("a chunk is longer than it says")
            self._break_due = False
        elif self._in_trailer:
            self.ended = not line
            self._trailer_size += len(line)
            if self._trailer_size > _MAX_HEAD:
                raise LineTooLong("trailer")
        else:
            self._left = _size(line)
            self._in_trailer = not self._left


def _whole_chunks(data: bytes, out: list[bytes]) -> int:
    """Add the chunks at the beginning that are complete, the most common case; gives where they end."""
    place = 0
    while match := _CHUNK.match(data, place):
        start = match.end()
        end = start + int(match[1], 16)
        if end == start or data[end : end + 2] != b"\r\n":
            break
        out.append(data[start:end])
        place = end + 2
    return place


def _all_whole(data: bytes) -> list[bytes]:
    pieces: list[bytes] = []
    return pieces if _whole_chunks(data, pieces) == len(data) else []


def _size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip(b" \t")
    if not _HEX.match(digits):
        raise IncompleteRead(b"")
    return int(digits, 16)


def _status(line: str) -> tuple[int, int]:
    """(version, status) of a status line; the version as 10 or 11."""
    return _usual_status(line) if len(line) <= _USUAL_LINE else _read_status(line)


def _read_status(line: str) -> tuple[int, int]:
    version, _, rest = line.partition(" ")
    digits = rest.lstrip(" ").partition(" ")[0]
    if not version.startswith("HTTP/") or not (digits.isascii() and digits.isdigit() and len(digits) == 3):
        raise BadStatusLine(line[:80])
    if not version.startswith(("HTTP/1.", "HTTP/0.9")):
        raise UnknownProtocol(version)
    return (11 if version.startswith("HTTP/1.") and version != "HTTP/1.0" else 10), int(digits)


_usual_status = lru_cache(maxsize=64)(_read_status)  # a server has few status lines


def _headers(lines: list[str]) -> dict[str, str]:
    """{name in lower case: value}; the values of a header that comes several times are joined with commas."""
    if len(lines) > _MAX_HEADERS:
        raise HTTPException(f"got more than {_MAX_HEADERS} headers")
    if lines and max(map(len, lines)) > _MAX_LINE:
        raise LineTooLong("header line")
    headers: dict[str, str] = {}
    name = ""
    for line in lines:
        if line[:1] in (" ", "\t") and name:  # a line that continues the one before it
            headers[name] = f"{headers[name]} {line.strip()}"
            continue
        match = _HEADER.match(line)
        if match is None:
            raise HTTPException("a header line is malformed")
        name, value = match[1].lower(), match[2].strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


Body = ToLength | ToEnd | Chunked


def body_of(status: int, headers: Mapping[str, str]) -> Body:
    """The reader for the body of a response with this head. Raises HTTPException."""
    coding, length = headers.get("transfer-encoding", "identity").lower(), headers.get("content-length")
    if status in (204, 304) or 100 <= status < 200:
        return ToLength(0)
    if coding == "chunked":
        return Chunked()
    if coding != "identity":
        raise HTTPException("a transfer-encoding that prx does not support")
    return ToEnd() if length is None else _by_length(length)


def _by_length(content_length: str) -> ToLength | ToEnd:
    """The reader for a Content-Length, which may be repeated; one that is not a number is ignored."""
    if _is_length(content_length):
        return ToLength(int(content_length))
    lengths = {part.strip() for part in content_length.split(",")}
    if len(lengths) > 1:
        raise HTTPException(f"contradictory lengths of the body: {content_length[:80]}")
    (length,) = lengths
    return ToLength(int(length)) if _is_length(length) else ToEnd()


def _is_length(said: str) -> bool:
    return said.isascii() and said.isdigit() and len(said) < 19


def _keeps(status: int, headers: Mapping[str, str], version: int) -> bool:
    """Whether the server keeps the connection open, and it is certain where this response ends."""
    connection = headers.get("connection", "")
    options = {option.strip() for option in connection.lower().split(",")} if connection else ()
    chunked = headers.get("transfer-encoding", "").lower() == "chunked"
    end_is_certain = status != 101 and not (chunked and (version < 11 or "content-length" in headers))
    return end_is_certain and "close" not in options and (version == 11 or "keep-alive" in options)
