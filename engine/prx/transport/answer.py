"""A response whose head has come: its bytes, unpacked, as they are fed. No I/O, and no library of HTTP."""

from __future__ import annotations

import time

from prx import forks
from prx.errors import ProviderConnectionError
from prx.spec.model import Limits
from prx.transport.http11 import Incoming
from prx.transport.inflate import Inflate
from prx.wire import Head, too_large

DRAIN_SECONDS = 0.1  # how long the end of a finished stream is waited for, to keep the connection


class Answer:
    """What is read of a response, without any I/O: whoever has its bytes feeds it.

    `ready` and `take` give the next piece, b"" at the end, or None where further bytes have to come first.
    """

    def __init__(self, incoming: Incoming, url: str, limits: Limits) -> None:
        self.head = Head(incoming.status, incoming.headers, time.time())
        self._incoming, self._body = incoming, incoming.body
        self._early, incoming.early = incoming.early, b""
        self._packed, self._url, self._limits = 0, url, limits
        self._made_in = forks.generation
        encoding = incoming.headers.get("content-encoding", "")
        self._inflate = Inflate(encoding) if encoding else None
        refused = not 200 <= incoming.status < 300
        # An error's body that drips would have no end, in a chunk's size or a trailer, too.
        self._until = time.monotonic() + limits.idle if refused else None

    def ready(self) -> bytes | None:
        """The next piece of what has come. Raises Error or HTTPException."""
        if self._early:
            early, self._early = self._early, b""
            if piece := self.take(early):
                return piece
        if self._inflate is not None and (piece := self._inflate.more()):
            return piece
        if self._body.broken is not None:
            raise self._body.broken
        return self._end() if self._body.ended or (self._inflate is not None and self._inflate.over) else None

    def take(self, data: bytes) -> bytes | None:
        """The next piece, with these bytes. Raises Error or HTTPException."""
        piece = self._body.feed(data)
        if self._inflate is not None:
            self._packed += len(piece)
            if self._packed > self._limits.max_body:  # however little they unpack to
                raise too_large(self._limits.max_body)
            piece = piece and self._inflate(piece)
        return piece or self.ready()

    @property
    def overdue(self) -> bool:
        """Whether what is to come is not waited for any more."""
        return self._until is not None and time.monotonic() >= self._until

    def check_process(self) -> None:
        """Raises ProviderConnectionError in another process than the one that made the connection."""
        if self._made_in != forks.generation:
            raise ProviderConnectionError(
                "this stream was begun before a fork, and is read by the process that began it", retryable=False
            )

    def _end(self) -> bytes:
        if self._inflate is not None:
            self._inflate.finish()
        return b""
