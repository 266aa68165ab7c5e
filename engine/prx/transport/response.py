"""A response whose head has come: its bytes, unpacked, as they are fed; and the same with a connection that is read."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from prx import forks
from prx.errors import ProviderConnectionError
from prx.spec.model import Limits
from prx.transport.failures import translated
from prx.transport.http11 import Incoming
from prx.transport.inflate import Inflate
from prx.transport.watchdog import Guard, shut
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


class Response(Answer):
    """A response on a connection of the blocking transport. `read` gives bytes as they arrive, b"" at the end.

    receive   gives further bytes of the connection
    keep      takes the connection back where its response is used up
    """

    def __init__(
        self,
        incoming: Incoming,
        receive: Callable[[], bytes],
        connection: Any,
        keep: Callable[[Any, deque[Any]], None],
        kept: deque[Any],
        url: str,
        limits: Limits,
        guard: Guard | None,
    ) -> None:
        super().__init__(incoming, url, limits)
        self._receive, self._connection, self._guard = receive, connection, guard
        self._keep, self._kept = keep, kept

    def read(self) -> bytes:
        """The next bytes of the body. Raises Error."""
        failed: Exception | None = None
        piece: bytes | None = b""
        try:
            piece = self.ready()
            while piece is None:
                if self.overdue:
                    return b""
                self.check_process()
                piece = self.take(self._receive())
        except Exception as error:
            failed = error
        if failed is None and not piece and self._guard is not None and self._guard.fired:
            failed = TimeoutError()
        if failed is not None:
            raise translated(failed, self._url, "idle", self._limits, self._guard)
        return piece or b""

    def close(self, *, complete: bool) -> None:
        """Give the connection back where its response is used up; otherwise close it, and stop the provider.

        complete: the answer has ended, so that the end of the body may be waited for, briefly.
        """
        connection, self._connection = self._connection, None
        if connection is None:  # closed before: it may be another call's by now
            return
        if self._guard is not None:  # a deadline that comes later must not meet whoever has it then
            self._guard.connection = self._guard.sock = None
        ours = self._made_in == forks.generation
        if ours and self._used_up(connection, complete=complete):
            self._keep(connection, self._kept)
            return
        if ours and not self._body.ended:
            shut(connection.sock)  # the provider stops, though a child of a fork may have the connection, too
        connection.close()

    def _used_up(self, connection: Any, *, complete: bool) -> bool:
        """Whether nothing of this response is left on the connection."""
        try:
            if complete and not self._body.ended and connection.sock is not None:
                self._drain(connection)
        except Exception:  # whatever it is, this connection is not used again
            return False
        stopped = self._guard is not None and self._guard.fired
        return self._body.ended and self._incoming.reusable and not stopped

    def _drain(self, connection: Any) -> None:
        """Read the end of a body, which comes with the last event or just behind it."""
        until = time.monotonic() + DRAIN_SECONDS
        early, self._early = self._early, b""
        piece = early and self._body.feed(early)
        while not piece and not self._body.ended and (left := until - time.monotonic()) > 0:
            connection.sock.settimeout(left)
            piece = self._body.feed(self._receive())
