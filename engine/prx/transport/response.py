"""A response being read, and what becomes of its connection."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from prx import forks
from prx.errors import OPENING, OverflowedError, ProviderConnectionError
from prx.spec.model import Limits
from prx.transport.failures import translated
from prx.transport.http11 import Incoming
from prx.transport.watchdog import Guard, shut
from prx.wire import Head, HttpRequest

if TYPE_CHECKING:
    from prx.transport.inflate import Inflate

_BLOCK = 65536
_DRAIN_SECONDS = 0.1  # how long the end of a finished stream is waited for, to keep the connection


def _inflate(encoding: str) -> Inflate:
    with OPENING:
        from prx.transport.inflate import Inflate  # few answers are packed

    return Inflate(encoding)


class Replaced:
    """A response of a connection that somebody has put in place of urllib3's own, as vcrpy does."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self.status: int = raw.status
        self.headers = {name.lower(): value for name, value in raw.headers.items()}
        self.ended = False
        self.reusable = True

    def step(self) -> bytes:
        return self.read()

    def read(self) -> bytes:
        data: bytes = self._raw.read1(_BLOCK)
        self.ended = not data
        return data


class Response:
    """A response being read. `read` gives bytes as they arrive, b"" at the end, inflated where needed."""

    def __init__(
        self,
        incoming: Incoming | Replaced,
        connection: Any,
        keep: Callable[[Any, deque[Any]], None],
        kept: deque[Any],
        request: HttpRequest,
        limits: Limits,
        guard: Guard | None,
    ) -> None:
        self._incoming, self._connection, self._guard = incoming, connection, guard
        self._keep, self._kept = keep, kept
        self._made_in, self._packed = forks.generation, 0
        self._url, self._limits = request.url, limits
        self.head = Head(incoming.status, incoming.headers, time.time())
        refused = not 200 <= incoming.status < 300
        self._until = time.monotonic() + limits.idle if refused else None
        encoding = incoming.headers.get("content-encoding", "")
        self._inflate = _inflate(encoding) if encoding else None

    def read(self) -> bytes:
        """The next bytes of the body. Raises Error."""
        inflate = self._inflate
        if inflate is None:
            return self._read()
        while True:
            data = inflate.pending() or self._read_packed()
            if not data:
                inflate.finish()
                return b""
            if piece := inflate(data):
                return piece
            if inflate.over:
                return b""

    def close(self, *, complete: bool) -> None:
        """Give the connection back where its response is used up; otherwise close it, and stop the provider.

        complete: the answer has ended, so that the end of the body may be waited for, briefly.
        """
        connection, self._connection = self._connection, None
        if connection is None:  # closed before: it may be another call's by now
            return
        if self._guard is not None:  # a deadline that comes later must not meet whoever has it then
            self._guard.connection = self._guard.sock = None
        incoming, used_up = self._incoming, False
        try:
            until = time.monotonic() + _DRAIN_SECONDS
            while (
                complete
                and self._made_in == forks.generation
                and not incoming.ended
                and (left := until - time.monotonic()) > 0
                and connection.sock is not None
            ):
                connection.sock.settimeout(left)
                if incoming.step():
                    break
            used_up = incoming.ended and incoming.reusable and not (self._guard is not None and self._guard.fired)
        except Exception:  # whatever it is, this connection is not used again
            used_up = False
        if used_up and self._made_in == forks.generation:
            self._keep(connection, self._kept)
            return
        if self._made_in == forks.generation and not incoming.ended:
            shut(connection.sock)  # the provider stops, though a child of a fork may have the connection, too
        connection.close()

    def _soon(self, until: float) -> bytes:
        """Of an error's body what comes in time: one that drips would have no end, in a chunk's size or a trailer, too."""
        data = b""
        while not data and not self._incoming.ended and time.monotonic() < until:
            data = self._incoming.step()
        return data

    def _read_packed(self) -> bytes:
        """Packed bytes; more of them than an answer may have unpacked are no answer, however little they unpack to."""
        data = self._read()
        self._packed += len(data)
        if self._packed > self._limits.max_body:
            raise OverflowedError(
                f"an answer of more than {self._limits.max_body} bytes; transport.max_body sets the limit"
            )
        return data

    def _read(self) -> bytes:
        if self._incoming.ended:
            return b""
        if self._made_in != forks.generation:
            raise ProviderConnectionError(
                "this stream was begun before a fork, and is read by the process that began it", retryable=False
            )
        failed: Exception | None = None
        data = b""
        try:
            data = self._incoming.read() if self._until is None else self._soon(self._until)
        except Exception as error:
            failed = error
        if failed is None and not data and self._guard is not None and self._guard.fired:
            failed = TimeoutError()
        if failed is not None:
            raise translated(failed, self._url, "idle", self._limits, self._guard)
        return data
