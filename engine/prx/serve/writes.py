"""How an answer is written to the socket of a caller."""

from __future__ import annotations

import asyncio
import time
from typing import Any

AT_ONCE = "prx.at_once"


class JoinedWrites:
    """A transport that keeps a head back until the next write, or until the loop has nothing else to do at this moment. Uvicorn hands
    a head and the beginning of its body to the socket one after the other: two calls of the system, and a caller who is woken
    twice, for what is ready at the same moment.
    """

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        elif data[:5] == b"HTTP/":
            self._head = data
            self._loop.call_soon(self._flush)
            return
        self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        head, self._head = self._head, b""
        if head and not self._transport.is_closing():
            self._transport.write(head)


class AtOnce:
    """Writes pieces of a body that has begun, without the awaiting that ASGI wants for each. An extension of ASGI that a request has
    from our own server alone, in its scope as AT_ONCE.

    last   when something was last written by it, by the monotonic clock
    """

    def __init__(self, cycle: Any) -> None:
        """cycle: uvicorn's, of its parser httptools: the request and the response of the moment."""
        self._cycle = cycle
        self.last = 0.0

    def write(self, piece: bytes) -> bool:
        """Write a piece, which is not empty; False where the body is not sent in chunks, or the caller takes it too slowly or has
        left.
        """
        cycle = self._cycle
        if not cycle.chunked_encoding or cycle.disconnected or cycle.response_complete or cycle.flow.write_paused:
            return False
        cycle.transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.last = time.monotonic()
        return True


def offer_at_once(cycle: Any) -> None:
    """Put an AtOnce into the scope of a request, where its server's parts are those that it needs."""
    if hasattr(cycle, "chunked_encoding"):
        cycle.scope.setdefault("extensions", {})[AT_ONCE] = AtOnce(cycle)
