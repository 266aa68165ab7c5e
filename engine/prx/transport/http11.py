"""HTTP/1.1, fed with bytes: one response after the other, without a socket and without a clock.

    incoming = Incoming()
    while not incoming.head(data): ...      # data: what has come; b"" where the connection has ended
    body = incoming.body                    # feed it `incoming.early`, which came with the head, and then
    while not body.ended: body.feed(data)   # what comes

http.client and urllib3's response around it would send head and body apart, parse headers as mail, and take a
body chunk by chunk through four calls each: half of what a call costs, and more than parsing its events does.
Here a response is read as http.client reads one, its limits and exceptions included, but strictly: what two
readers could understand differently (RFC 9112, section 11.2) is refused, and a connection whose response did not
end where it should is not used again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http.client import BadStatusLine, HTTPException, IncompleteRead, LineTooLong, RemoteDisconnected, UnknownProtocol

_MAX_HEAD = 1 << 18
_MAX_HEADERS = 100
_MAX_LINE = 65536
_MAX_CHUNK_LINE = 4096
_MAX_INTERIM = 20  # 100 Continue, 103 Early Hints …, one after the other
_END_OF_HEAD = re.compile(rb"\n\r?\n")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*)\Z", re.DOTALL)
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,16})\r\n")
_HEX = re.compile(rb"[0-9a-fA-F]{1,16}\Z")
_SENDABLE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


class DrippingError(TimeoutError):
    """Headers that come in byte by byte, and longer than a silence may last."""


def head_of(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """A request's head. Raises ValueError for what a header cannot carry, without repeating it."""
    text = "\r\n".join([f"{method} {target} HTTP/1.1", *map(": ".join, headers.items())])
    said = text.replace("\r\n", "")
    whole = len(text) - len(said) == 2 * len(headers)
    # Nearly every head is of printable ASCII alone, which is seen in a tenth of the time that the expression takes.
    if not whole or not ((said.isascii() and said.isprintable()) or _SENDABLE.fullmatch(said)):
        raise ValueError("a header has characters that cannot be sent")
    return f"{text}\r\n\r\n".encode("latin-1")


class Incoming:
    """A response as it comes in: its head until `head` says yes, and who reads its body.

    status, headers   once the head is there; names in lower case
    body       its reader: one of ToLength, Chunked and ToEnd
    early      bytes of the body that came with the head
    broken_off whether the request did not go out whole: what follows on the connection answers nothing
    reusable   whether, after the end, the connection is free for another request
    """

    status: int
    headers: dict[str, str]
    body: Body
    early = b""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0  # so that a head that drips in is not searched from its start each time
        self._interim = 0
        self._keeps = False
        self.broken_off = False

    @classmethod
    def given(cls, status: int, headers: dict[str, str], body: Body) -> Incoming:
        """A response whose head somebody else has read; its connection is not used again."""
        incoming = cls()
        incoming.status, incoming.headers, incoming.body = status, headers, body
        return incoming

    @property
    def reusable(self) -> bool:
        return self._keeps and self.body.clean

    def head(self, data: bytes) -> bool:
        """Take bytes, b"" for the connection's end; whether the head is whole. Raises HTTPException."""
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
                raise HTTPException("nothing but interim responses")
        return False

    def _lines(self) -> list[str] | None:
        """The lines of the next head, taken off the buffer; None where it is not whole yet."""
        end = _END_OF_HEAD.search(self._buffer, max(0, self._searched - 3))
        if end is None:
            self._searched = len(self._buffer)
            if self._searched > _MAX_HEAD:
                raise LineTooLong("head")
            return None
        text = self._buffer[: end.start()].decode("latin-1").replace("\r\n", "\n").removesuffix("\r")
        del self._buffer[: end.end()]
        self._searched = 0
        if "\r" in text or "\0" in text:  # some take a bare CR for the end of a line
            raise HTTPException("a control character in the head")
        return text.split("\n")

    def _begin(self, status: int, headers: dict[str, str], version: int) -> None:
        self.status, self.headers = status, headers
        self.body = body_of(status, headers)
        self._keeps = not isinstance(self.body, ToEnd) and _keeps(status, headers, version)
        self.early, self._buffer = bytes(self._buffer), bytearray()
        if self.body.ended and self.early:  # an answer without a body has one
            self.body.clean = False


class Reader:
    """Reads one body. `feed` gives its bytes in what has come, b"" for the connection's end; it raises HTTPException.

    ended    nothing more is to come
    broken   what is wrong behind the bytes that were sound, to be raised once these are read
    clean    nothing came behind the end, and the end came as it should
    """

    __slots__ = ("broken", "clean", "ended")

    def __init__(self, *, ended: bool = False, clean: bool = True) -> None:
        self.ended, self.clean = ended, clean
        self.broken: HTTPException | None = None


class ToLength(Reader):
    """A body of so many bytes."""

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
    """A body that ends with its connection."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(clean=False)

    def feed(self, data: bytes) -> bytes:
        self.ended = not data
        return data


class Chunked(Reader):
    """A body in chunks, taken apart as it comes; linear in its bytes."""

    __slots__ = ("_break_due", "_in_trailer", "_left", "_rest", "_trailer_size")

    def __init__(self) -> None:
        super().__init__()
        self._rest = b""  # bytes not understood yet, or behind the end
        self._in_trailer = False
        self._left = 0  # bytes of the present chunk that are to come
        self._break_due = False
        self._trailer_size = 0

    def feed(self, data: bytes) -> bytes:
        if not data:
            return self._cut()
        pieces: list[bytes] = []
        try:
            self._feed(self._rest + data if self._rest else data, pieces)
        except HTTPException as error:
            self.broken, self.ended, self.clean = error, True, False
        if self.ended and self._rest:
            self.clean = False
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _cut(self) -> bytes:
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
    if lines and max(map(len, lines)) > _MAX_LINE:
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


Body = ToLength | ToEnd | Chunked


def body_of(status: int, headers: Mapping[str, str]) -> Body:
    """Who reads the body of a response, by what its head says. Raises HTTPException."""
    coding, length = headers.get("transfer-encoding", "identity").lower(), headers.get("content-length")
    if status in (204, 304) or 100 <= status < 200:
        return ToLength(0)
    if coding == "chunked":
        return Chunked()
    if coding != "identity":
        raise HTTPException("a transfer-encoding that is not understood")
    return ToEnd() if length is None else _by_length(length)


def _by_length(said: str) -> ToLength | ToEnd:
    """By a length, which may be said twice; to the end where it is no number."""
    if _is_length(said):
        return ToLength(int(said))
    lengths = {part.strip() for part in said.split(",")}
    if len(lengths) > 1:
        raise HTTPException(f"contradictory lengths of the body: {said[:80]}")
    (length,) = lengths
    return ToLength(int(length)) if _is_length(length) else ToEnd()


def _is_length(said: str) -> bool:
    return said.isascii() and said.isdigit() and len(said) < 19


def _keeps(status: int, headers: Mapping[str, str], version: int) -> bool:
    """Whether the server keeps the connection, and both sides agree where this response ends."""
    said = headers.get("connection", "")
    words = {word.strip() for word in said.lower().split(",")} if said else ()
    chunked = headers.get("transfer-encoding", "").lower() == "chunked"
    clear = status != 101 and not (chunked and (version < 11 or "content-length" in headers))
    return clear and "close" not in words and (version == 11 or "keep-alive" in words)
