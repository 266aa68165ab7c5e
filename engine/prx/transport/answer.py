"""The body of a response, decompressed as its bytes are fed. Without I/O, and without an HTTP library."""

from __future__ import annotations

import time

from prx import forks
from prx.errors import ProviderConnectionError
from prx.spec.model import Limits
from prx.transport.http11 import Incoming
from prx.transport.inflate import Inflate
from prx.wire import Head, too_large

DRAIN_SECONDS = 0.1  # how long to wait for the last bytes of a finished stream, so that the connection can be kept


class Answer:
    """A response whose head has been read; a transport feeds it the bytes of the body.

    `ready` and `take` give the next piece of the body, b"" at its end, or None where further bytes have to come first.
    """

    def __init__(self, incoming: Incoming, url: str, limits: Limits) -> None:
        self.head = Head(incoming.status, incoming.headers, time.time())
        self._incoming, self._body = incoming, incoming.body
        self._early, incoming.early = incoming.early, b""
        self._compressed, self._url, self._limits = 0, url, limits  # _compressed: bytes received so far
        self._made_in = forks.generation
        encoding = incoming.headers.get("content-encoding", "")
        self._inflate = Inflate(encoding) if encoding else None
        refused = not 200 <= incoming.status < 300
        # An error's body that comes byte by byte could take for ever: each byte resets the idle timeout.
        self._until = time.monotonic() + limits.idle if refused else None

    def ready(self) -> bytes | None:
        """The next piece of the bytes that were fed. Raises Error or HTTPException."""
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
        """Feed further bytes; gives the next piece. Raises Error or HTTPException."""
        piece = self._body.feed(data)
        if self._inflate is not None:
            self._compressed += len(piece)
            # The decoder counts decompressed bytes only, and empty compressed members have none.
            if self._compressed > self._limits.max_body:
                raise too_large(self._limits.max_body)
            piece = piece and self._inflate(piece)
        return piece or self.ready()

    @property
    def overdue(self) -> bool:
        """Whether an error's body has taken too long, so that the rest of it is left out."""
        return self._until is not None and time.monotonic() >= self._until

    def check_process(self) -> None:
        """Raises ProviderConnectionError in another process than the one that made the connection."""
        if self._made_in != forks.generation:
            raise ProviderConnectionError(
                "this stream was begun before a fork; only the process that began it can read it", retryable=False
            )

    def _end(self) -> bytes:
        if self._inflate is not None:
            self._inflate.finish()
        return b""
