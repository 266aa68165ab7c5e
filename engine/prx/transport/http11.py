"""HTTP/1.1 on a socket that urllib3 has connected: one sending, one head, one body, in as few steps as it takes.

http.client and urllib3's response around it would send head and body apart, parse headers as mail, and take a
body chunk by chunk through four calls each: half of what a call costs, and more than parsing its events does.
Here a response is read as http.client reads one, its limits and exceptions included, but strictly: what two
readers could understand differently (RFC 9112, section 11.2) is refused, and a connection whose response did not
end where it should is not used again.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from http.client import BadStatusLine, HTTPException, IncompleteRead, LineTooLong, RemoteDisconnected, UnknownProtocol
from typing import Any

_BLOCK = 65536
_MAX_HEAD = 1 << 18
_MAX_HEADERS = 100
_MAX_LINE = 65536
_MAX_CHUNK_LINE = 4096
_MAX_INTERIM = 20  # 100 Continue, 103 Early Hints …, one after the other
_END_OF_HEAD = re.compile(rb"\n\r?\n")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*)\Z", re.DOTALL)
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,16})\r\n")
_HEX = re.compile(rb"[0-9a-fA-F]{1,16}\Z")
_UNSENDABLE = re.compile(r"[^\t\x20-\x7e\x80-\xff]")

ToEnd = None  # the length of a body that ends with its connection


class DrippingError(TimeoutError):
    """Headers that come in byte by byte, and longer than a silence may last."""


def head_of(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """A request's head. Raises ValueError for what a header cannot carry, without repeating it."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    text = "\r\n".join(lines)
    if text.count("\r\n") != len(lines) - 1 or any(_UNSENDABLE.search(line) for line in lines):
        raise ValueError("a header has characters that cannot be sent")
    return f"{text}\r\n\r\n".encode("latin-1")


class Incoming:
    """A response as it comes in: `status` and `headers` (names in lower case) first, then `read` its body.

    patience   seconds that a head may take from its first bytes on; the socket's own timeout is for a silence
    reusable   whether, after the end, the connection is free for another request
    """

    def __init__(self, sock: Any, patience: float = math.inf) -> None:
        self._sock, self._patience = sock, patience
        self._buffer = b""
        self.status, self.headers, version = self._head()
        self.ended = False
        self._left: int | None = 0  # bytes of the body that are to come
        self._chunks = self._frame()
        self.reusable = self._left is not ToEnd and self._keeps(version)

    def read(self) -> bytes:
        """Bytes of the body as they come, b"" at its end. Raises OSError or HTTPException."""
        data = b""
        while not data and not self.ended:
            data = self.step()
        return data

    def step(self) -> bytes:
        """As `read`, with one look at the socket at most: b"" also where nothing of the body has come."""
        if self._chunks is not None:
            data = self._pieces(self._chunks)
        elif self._left == 0:
            data, self.ended = b"", True
        else:
            data = self._plain()
        if self.ended and self._buffer:
            self.reusable = False
        return data

    # -------------------------------------------------------------- head

    def _head(self) -> tuple[int, dict[str, str], int]:
        for _ in range(_MAX_INTERIM):
            lines = self._lines_of_head()
            version, status = _status(lines[0])
            if status == 101 or not 100 <= status < 200:
                return status, _headers(lines[1:]), version
        raise HTTPException("nothing but interim responses")

    def _lines_of_head(self) -> list[str]:
        seen, until = 0, None
        while not (end := _END_OF_HEAD.search(self._buffer, max(0, seen - 3))):
            seen = len(self._buffer)
            if seen > _MAX_HEAD:
                raise LineTooLong("head")
            if seen:  # what drips in would never be a silence
                until = until or time.monotonic() + self._patience
                if time.monotonic() > until:
                    raise DrippingError
            data = self._sock.recv(_BLOCK)
            if not data:
                raise RemoteDisconnected("Remote end closed connection without response")
            self._buffer += data
        head, self._buffer = self._buffer[: end.start()], self._buffer[end.end() :]
        text = head.decode("latin-1").replace("\r\n", "\n").removesuffix("\r")
        if "\r" in text or "\0" in text:  # some take a bare CR for the end of a line
            raise HTTPException("a control character in the head")
        return text.split("\n")

    def _frame(self) -> Chunks | None:
        """Set how long the body is; its chunks, where it comes in such."""
        coding, lengths = self.headers.get("transfer-encoding", "identity").lower(), self.headers.get("content-length")
        if self.status in (204, 304) or 100 <= self.status < 200:
            return None
        if coding == "chunked":
            return Chunks()
        if coding != "identity":
            raise HTTPException("a transfer-encoding that is not understood")
        self._left = ToEnd if lengths is None else _length(lengths)
        return None

    def _keeps(self, version: int) -> bool:
        said = {word.strip() for word in self.headers.get("connection", "").lower().split(",")}
        clear = self.status != 101 and not (self._chunks and (version < 11 or "content-length" in self.headers))
        return clear and "close" not in said and (version == 11 or "keep-alive" in said)

    # -------------------------------------------------------------- body

    def _plain(self) -> bytes:
        data, self._buffer = self._buffer or self._sock.recv(_BLOCK), b""
        if self._left is ToEnd:
            self.ended = not data
            return data
        if not data:
            raise IncompleteRead(b"", self._left)
        data, self._buffer = data[: self._left], data[self._left :]
        self._left -= len(data)
        return data

    def _pieces(self, chunks: Chunks) -> bytes:
        if chunks.broken is not None:
            raise chunks.broken
        data, self._buffer = self._buffer or self._sock.recv(_BLOCK), b""
        if not data:
            if not chunks.in_trailer:
                raise IncompleteRead(b"")
            self.ended, self.reusable = True, False
            return b""
        piece = chunks.feed(data)
        if chunks.ended:
            self.ended, self._buffer = True, chunks.rest
        return piece


class Chunks:
    """A body in chunks, taken apart as it comes; linear in its bytes.

    rest   bytes not understood yet, or behind the end
    """

    def __init__(self) -> None:
        self.rest = b""
        self.ended = self.in_trailer = False
        self._left = 0  # bytes of the present chunk that are to come
        self._break_due = False
        self._trailer_size = 0
        self.broken: HTTPException | None = None

    def feed(self, data: bytes) -> bytes:
        """The data in these bytes, as far as they are sound; `broken` says what is wrong with those behind."""
        out: list[bytes] = []
        try:
            self._feed(self.rest + data if self.rest else data, out)
        except HTTPException as error:
            self.broken = error
        return out[0] if len(out) == 1 else b"".join(out)

    def _feed(self, data: bytes, out: list[bytes]) -> None:
        place = 0 if self._left or self._break_due or self.in_trailer else _whole_chunks(data, out)
        while not self.ended and (self._left or self._break_due or place < len(data)):
            if self._left:
                piece = data[place : place + self._left]
                out.append(piece)
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
        self.rest = data[place:]
        if not self.ended and len(self.rest) > _MAX_CHUNK_LINE:
            raise LineTooLong("chunk size")

    def _line(self, line: bytes) -> None:
        if self._break_due:
            if line:
                raise HTTPException("a chunk is longer than it says")
            self._break_due = False
        elif self.in_trailer:
            self.ended = not line
            self._trailer_size += len(line)
            if self._trailer_size > _MAX_HEAD:
                raise LineTooLong("trailer")
        else:
            self._left = _size(line)
            self.in_trailer = not self._left


def _whole_chunks(data: bytes, out: list[bytes]) -> int:
    """Add the chunks that are there whole, the commonest case; where they end."""
    place = 0
    while match := _CHUNK.match(data, place):
        start = match.end()
        end = start + int(match[1], 16)
        if end == start or data[end : end + 2] != b"\r\n":
            break
        out.append(data[start:end])
        place = end + 2
    return place


def _size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip(b" \t")
    if not _HEX.match(digits):
        raise IncompleteRead(b"")
    return int(digits, 16)


def _status(line: str) -> tuple[int, int]:
    """(version, status) of a status line; the version as 10 or 11."""
    version, _, rest = line.partition(" ")
    digits = rest.lstrip(" ").partition(" ")[0]
    if not version.startswith("HTTP/") or not (digits.isascii() and digits.isdigit() and len(digits) == 3):
        raise BadStatusLine(line[:80])
    if not version.startswith(("HTTP/1.", "HTTP/0.9")):
        raise UnknownProtocol(version)
    return (11 if version.startswith("HTTP/1.") and version != "HTTP/1.0" else 10), int(digits)


def _headers(lines: list[str]) -> dict[str, str]:
    """Headers by their names in lower case; the values of one that comes several times with commas between them."""
    if len(lines) > _MAX_HEADERS:
        raise HTTPException(f"got more than {_MAX_HEADERS} headers")
    if any(len(line) > _MAX_LINE for line in lines):
        raise LineTooLong("header line")
    found: dict[str, str] = {}
    name = ""
    for line in lines:
        if line[:1] in (" ", "\t") and name:
            found[name] = f"{found[name]} {line.strip()}"
            continue
        match = _HEADER.match(line)
        if match is None:
            raise HTTPException("a header line is malformed")
        name, value = match[1].lower(), match[2].strip(" \t")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _length(said: str) -> int | None:
    """The length of a body, also where it is said twice; ToEnd where it is no number."""
    lengths = {part.strip() for part in said.split(",")}
    if len(lengths) > 1:
        raise HTTPException(f"contradictory lengths of the body: {said[:80]}")
    (length,) = lengths
    return int(length) if length.isascii() and length.isdigit() and len(length) < 19 else ToEnd
