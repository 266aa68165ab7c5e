"""What our own server does for a call beyond what ASGI knows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any

DIRECT = "prx.direct"
_MOST_HELD = 65536  # bytes of an answer; more go to the transport, which tells where a caller is too slow for them


class JoinedWrites:
    """A transport that keeps the head of an answer, and all that is written behind it meanwhile, back until the loop has done what else
    is ready at this moment. Uvicorn hands a head and its body to the socket one after the other: two calls of the system for
    one answer. And answers that are ready at the same moment go out one after the other, so that a caller on this machine is
    woken once for all of them: to wake a caller takes as long as to write to it.
    """

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._held = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._held:
            self._held += data
            if len(self._held) > _MOST_HELD:
                self.flush()
        elif data[:5] == b"HTTP/":
            self._held = data
            self._loop.call_soon(self.flush)
        else:
            self._transport.write(data)

    def writelines(self, parts: Iterable[bytes]) -> None:
        self.write(b"".join(parts))

    def write_eof(self) -> None:
        self.flush()
        self._transport.write_eof()

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def flush(self) -> None:
        """Write what is kept back."""
        held, self._held = self._held, b""
        if held and not self._transport.is_closing():
            self._transport.write(held)


class Direct:
    """What our own server tells and does without the awaiting that ASGI wants: an extension of ASGI, in a request's scope as DIRECT.

    on_left   called when the caller's connection is lost
    is_left   whether it is lost
    last      when something was last written by `write`, by the monotonic clock
    """

    def __init__(self, cycle: Any) -> None:
        """cycle: uvicorn's, of its parser httptools: the request and the response of the moment."""
        self._cycle = cycle
        self.on_left: Callable[[], None] | None = None
        self.is_left = False
        self.last = 0.0

    @property
    def has_body(self) -> bool:
        """Whether all of the request's body has come, so that nothing is waited for where it is received."""
        return not self._cycle.more_body

    @property
    def is_over(self) -> bool:
        """Whether the answer has gone out."""
        return bool(self._cycle.response_complete)

    def left(self) -> None:
        """The connection is lost."""
        self.is_left = self._cycle.disconnected = True  # uvicorn notes it at the latest of several requests only
        if self.on_left is not None:
            self.on_left()

    def write(self, piece: bytes) -> bool:
        """Write a piece of the answer's body, which is not empty; False where the body is not sent in chunks, or the caller takes it too slowly or has
        left.
        """
        cycle = self._cycle
        if not cycle.chunked_encoding or self.is_left or cycle.response_complete or cycle.flow.write_paused:
            return False
        cycle.transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.last = time.monotonic()
        return True


def offer_direct(cycle: Any) -> Direct | None:
    """Put a Direct into the scope of a request, where the parts of its server are those that it needs."""
    if not hasattr(cycle, "chunked_encoding"):
        return None
    direct = cycle.scope.setdefault("extensions", {})[DIRECT] = Direct(cycle)
    return direct
