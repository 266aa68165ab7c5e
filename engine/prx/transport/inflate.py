"""Decompresses answers in steps of limited size. Their first bytes decide, not their header, which may be wrong."""

from __future__ import annotations

import zlib
from typing import Any

from prx.errors import ProtocolError, TruncatedError

_STEP = 1 << 20  # largest result of one step, in bytes
_MAX_MEMBERS = 100_000  # some servers compress each event as a gzip member of its own; empty ones could go on for ever


class Inflate:
    """Decompresses one body. encoding: its Content-Encoding. A body that is not compressed in spite of its header passes
    unchanged: vcrpy stores recordings so.
    """

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding.strip().lower()
        self._stream: Any = None
        self._known = self._encoding in ("", "identity")  # whether it is decided if the body is compressed
        self._tail = b""  # compressed bytes for further steps
        self._members = 1
        self._garbage = False

    def more(self) -> bytes:
        """The result of the next step over bytes that were fed before, b"" where none are left."""
        while self._tail and not self._garbage:
            tail, self._tail = self._tail, b""
            if piece := self(tail):
                return piece
        return b""

    def __call__(self, data: bytes) -> bytes:
        if not self._known:
            self._begin(data)
        if self._stream is None:
            return data
        if self._stream.eof and not self._next_member(data):
            return b""
        try:
            piece: bytes = self._stream.decompress(data, _STEP)
        except zlib.error as error:
            raise ProtocolError(
                f"the answer's content-encoding is {self._encoding}, but it cannot be decompressed: {error}"
            ) from None
        self._tail = self._stream.unconsumed_tail or self._stream.unused_data
        return piece

    @property
    def over(self) -> bool:
        """Whether the compressed body has ended and the bytes that follow it are not part of it."""
        return self._garbage

    def _next_member(self, data: bytes) -> bool:
        """Begin the next gzip member; False where the bytes are not one."""
        self._garbage = data[:1] != b"\x1f"
        if not self._garbage:
            self._members += 1
            if self._members > _MAX_MEMBERS:
                raise ProtocolError(f"the answer is compressed in more than {_MAX_MEMBERS} pieces")
            self._stream = zlib.decompressobj(31)
        return not self._garbage

    def finish(self) -> None:
        """The connection has no further bytes. Raises TruncatedError for an incomplete body."""
        if self._stream is not None and not self._stream.eof:
            raise TruncatedError("the compressed answer was cut off")

    def _begin(self, data: bytes) -> None:
        """Decide by the first bytes whether the body is compressed. Raises ProtocolError for an unknown compression."""
        self._known = True
        if data[:1] in (b"\x1f", b"\x78") and self._encoding in ("gzip", "x-gzip", "deflate"):
            self._stream = zlib.decompressobj(47)  # 32 + 15: zlib finds out itself whether it is gzip or zlib
        elif data[:1] not in (b"{", b"[", b"d", b"e", b":", b" ", b"\n", b"<") and self._encoding not in (
            "gzip",
            "deflate",
        ):
            raise ProtocolError(
                f"the answer is compressed as {self._encoding}, which prx did not ask for and cannot read"
            )
