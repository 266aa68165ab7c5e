"""A response of the blocking transport, read from its connection."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from prx import forks
from prx.spec.model import Limits
from prx.transport.answer import DRAIN_SECONDS, Answer
from prx.transport.failures import translated
from prx.transport.http11 import Incoming
from prx.transport.watchdog import Guard, shut


class Response(Answer):
    """A response on a connection. `read` gives bytes of the body as they arrive, b"" at its end.

    receive   reads further bytes from the connection; b"" at its end
    keep      puts the connection back among the idle ones
    kept      the idle connections of this origin
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
        """Keep the connection if the whole body has been read; otherwise close it, so that the provider stops sending.

        complete: the answer has ended, and only the end of the body is missing; wait for it for DRAIN_SECONDS.
        """
        connection, self._connection = self._connection, None
        if connection is None:  # this response was closed before; its connection may serve another call by now
            return
        if self._guard is not None:  # a deadline that passes later must not end the connection's next call
            self._guard.connection = self._guard.sock = None
        same_process = self._made_in == forks.generation
        if same_process and self._is_reusable(connection, complete=complete):
            self._keep(connection, self._kept)
            return
        if same_process and not self._body.ended:
            shut(connection.sock)  # close alone would leave it open where a child of a fork has a copy
        connection.close()

    def _is_reusable(self, connection: Any, *, complete: bool) -> bool:
        """Whether the connection has no more bytes of this response."""
        try:
            if complete and not self._body.ended and connection.sock is not None:
                self._drain(connection)
        except Exception:  # the answer itself is complete: the only consequence is that the connection is closed
            return False
        stopped = self._guard is not None and self._guard.fired
        return self._body.ended and self._incoming.reusable and not stopped

    def _drain(self, connection: Any) -> None:
        """Read the end of a body (the last chunk), which comes with the last event or just after it."""
        until = time.monotonic() + DRAIN_SECONDS
        early, self._early = self._early, b""
        piece = early and self._body.feed(early)
        while not piece and not self._body.ended and (left := until - time.monotonic()) > 0:
            connection.sock.settimeout(left)
            piece = self._body.feed(self._receive())
