"""Connections: how many there are, how long a head may take and how large it may be. Whoever is too slow, too large or too
many is answered here, before there is a request; what is told once there is one, wire.py and app.py tell.

It stands on uvicorn's protocol of either parser and looks at nothing but its `cycle`, the request and response of the moment.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from prx.serve.writes import Direct, JoinedWrites, offer_direct

_LINGER = 1.0  # seconds in which a refused caller may send its request: closed earlier, it may not see the answer
_SAY_AGAIN = 60.0  # seconds between two lines of the log that say the same
_REASONS = {408: "Request Timeout", 431: "Request Header Fields Too Large", 503: "Service Unavailable"}
_LOG = logging.getLogger("prx.serve")

# In the class below: what the bytes that come now are part of.
_HEAD, _BODY, _UNREAD = "head", "body", "unread"


def guarded(settings: Callable[[], Any]) -> type[asyncio.Protocol]:
    """Uvicorn's protocol with the limits of a configuration, which may change while it is used."""
    return type("Guarded", (_Guarded, AutoHTTPProtocol), {"settings": staticmethod(settings), "said": [-_SAY_AGAIN]})


class _Guarded:
    settings: Callable[[], Any]
    said: list[float]  # when the log last said that there are too many, for all connections
    transport: Any
    cycle: Any
    connections: set[Any]

    _refused = False
    _timer: asyncio.TimerHandle | None = None
    _latest: Any = None  # the cycle whose head was complete last
    _directs: tuple[
        Direct, ...
    ] = ()  # of the requests that are not answered: a caller may send several, one after the other
    _head_size = 0  # of the head that is not complete

    def connection_made(self, transport: Any) -> None:
        if len(self.connections) >= self.settings().max_connections:
            self.transport, self._refused = transport, True
            self._say_too_many()
            self._write(503, "retry-after: 1\r\n")
            self._timer = asyncio.get_running_loop().call_later(_LINGER, transport.close)
            return
        super().connection_made(JoinedWrites(transport))  # type: ignore[misc]
        self._start()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            self.transport.close()
            return
        self._is_new()
        part = self._part()
        super().data_received(data)  # type: ignore[misc]
        if not self._is_new() and part != _BODY:
            self._head_size += len(data) if part == _HEAD else 0
            self._start()
            if self._head_size > self._room():
                self._end(431)

    def eof_received(self) -> None:
        """The caller sends nothing more. The loop closes the connection next, and knows nothing of what JoinedWrites keeps back."""
        if not self._refused:
            self.transport.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        if not self._refused:
            super().connection_lost(exc)  # type: ignore[misc]
        for each in self._directs:
            each.left()

    def on_headers_complete(self) -> None:
        """Called by the parser httptools for each request, also where several come at once."""
        super().on_headers_complete()  # type: ignore[misc]
        if (direct := offer_direct(self.cycle)) is not None:
            self._directs = (*(each for each in self._directs if not each.is_over), direct)

    def _is_new(self) -> bool:
        """Whether a head has been complete since this was last asked; then the next one has all the time and room."""
        if self.cycle is self._latest:
            return False
        self._latest = self.cycle
        self._stop()
        return True

    def _runs(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _room(self) -> int:
        """For a head. While an answer is made, the parser may leave whole requests that have come too early unread."""
        settings = self.settings()
        return int(settings.max_head + (settings.max_body if self._runs() else 0))

    def _part(self) -> str:
        """Of a body only what somebody waits for counts as one: whoever sends an unread one on is no caller any more."""
        if self.cycle is None or not self.cycle.more_body:
            return _HEAD
        return _UNREAD if self.cycle.response_complete else _BODY

    def _start(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self.settings().receive_timeout, self._late)

    def _stop(self) -> None:
        self._head_size = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        if self._is_new():
            return
        if self._runs():
            self._start()  # the beginning of a further request has come while one is answered
        else:
            self._end(408 if self._head_size else 0)

    def _end(self, status: int) -> None:
        """Close the connection, with this status where a request has begun and nothing else is being answered."""
        if self.transport.is_closing():
            return
        if status and not self._runs():
            self._write(status)
        self.transport.close()

    def _write(self, status: int, headers: str = "") -> None:
        head = f"HTTP/1.1 {status} {_REASONS[status]}\r\ncontent-length: 0\r\nconnection: close\r\n{headers}\r\n"
        self.transport.write(head.encode())

    def _say_too_many(self) -> None:
        if time.monotonic() - self.said[0] >= _SAY_AGAIN:
            self.said[0] = time.monotonic()
            _LOG.warning("as many connections are open as [serve] max_connections allows; further ones are refused")
