"""Compressed answers: unpacked in bounded steps, never trusted to be what their header says."""

from __future__ import annotations

import zlib
from typing import Any

from prx.errors import ProtocolError, TruncatedError

_STEP = 1 << 20  # bytes at most from one step
_MOST_MEMBERS = 100_000  # packed bodies one after the other, as for each event: empty ones would go on for ever


class Inflate:
    """Bytes as they are meant. A body that says gzip and is none (vcrpy keeps it so) passes unchanged."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding.strip().lower()
        self._stream: Any = None
        self._known = self._encoding in ("", "identity")
        self._tail = b""
        self._members = 1
        self._garbage = False

    def more(self) -> bytes:
        """What is left of the bytes before: one step's worth, or b"" where there is nothing."""
        while self._tail and not self._garbage:
            tail, self._tail = self._tail, b""
            if piece := self(tail):
                return piece
        return b""

    def __call__(self, data: bytes) -> bytes:
        if not self._known:
            self._recognise(data)
        if self._stream is None:
            return data
        if self._stream.eof and not self._next_member(data):
            return b""
        try:
            piece: bytes = self._stream.decompress(data, _STEP)
        except zlib.error as error:
            raise ProtocolError(f"the answer says it is {self._encoding} and cannot be unpacked: {error}") from None
        self._tail = self._stream.unconsumed_tail or self._stream.unused_data
        return piece

    @property
    def over(self) -> bool:
        """Whether what follows the packed body is no part of it; nobody needs to read that."""
        return self._garbage

    def _next_member(self, data: bytes) -> bool:
        """A packed body may be several, one after the other."""
        self._garbage = data[:1] != b"\x1f"
        if not self._garbage:
            self._members += 1
            if self._members > _MOST_MEMBERS:
                raise ProtocolError(f"the answer is packed in more than {_MOST_MEMBERS} pieces")
            self._stream = zlib.decompressobj(31)
        return not self._garbage

    def finish(self) -> None:
        if self._stream is not None and not self._stream.eof:
            raise TruncatedError("the compressed answer ended before its end")

    def _recognise(self, data: bytes) -> None:
        self._known = True
        if data[:1] in (b"\x1f", b"\x78") and self._encoding in ("gzip", "x-gzip", "deflate"):
            self._stream = zlib.decompressobj(47)  # 32 + 15: gzip or zlib, whichever it is
        elif data[:1] not in (b"{", b"[", b"d", b"e", b":", b" ", b"\n", b"<") and self._encoding not in (
            "gzip",
            "deflate",
        ):
            raise ProtocolError(f"the answer is packed as {self._encoding}, which was not asked for")
