"""A response of the blocking transport: its bytes are read from the connection that it came on."""

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
