"""One write for the head and the beginning of a body. Uvicorn hands them to the socket one after the other: two calls of the
system, and a caller who is woken twice, for what is ready at the same moment.
"""

from __future__ import annotations

import asyncio
from typing import Any


class JoinedWrites:
    """A transport that keeps a head back until the next write, or until the loop has nothing else to do at this moment."""

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
