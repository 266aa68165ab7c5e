"""How a process of the service ends without losing a call.

Whoever has connected is served, also who has not sent anything yet. A kept connection is closed only when it has been idle for a
while: a proxy that keeps idle connections for less than that never sends a call into one that is being closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Iterator
from typing import Any

import uvicorn

IDLE = 2.0  # seconds without a call after which a connection is closed
_HANDSHAKE = 5.0  # seconds of one that waited until the end to begin TLS
_LOOK = 0.05  # seconds between two looks at the connections


class Draining(uvicorn.Server):
    """A server whose end is begun by `drain`.

    is_alone   no other process listens at its port: it takes whoever waits there
    """

    is_alone = True

    _idle = 0.0
    _end: float | None = None

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._taking: set[asyncio.Future[None]] = set()  # connections that waited at a port and are being taken
        self._ports: list[socket.socket] = []

    def drain(self, idle: float, most: float) -> None:
        """End after the calls that run. idle: seconds after which an idle connection is closed. most: seconds for all of it."""
        self._idle, self._end = idle, time.monotonic() + most
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        loop = asyncio.get_running_loop()
        takes_all = isinstance(loop, asyncio.BaseEventLoop)  # asyncio's own loops do
        if takes_all or not self.is_alone:
            return
        for server in self.servers:
            for each in server.sockets:
                port = socket.socket(fileno=os.dup(each.fileno()))
                port.setblocking(False)
                self._ports.append(port)
                loop.add_reader(port, self._take_all, port)

    def _take_all(self, port: socket.socket) -> None:
        """Take all connections that wait at a port. uvloop takes one in each turn of its loop: of many that come at once, the last
        would wait for as long as all calls before it take.
        """
        for each in _accepted(port):
            taking = asyncio.ensure_future(self._take(each, None))
            self._taking.add(taking)
            taking.add_done_callback(self._taking.discard)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, wait for all connections to end, and end the application."""
        for port in self._ports:
            asyncio.get_running_loop().remove_reader(port)
            port.close()
        if self._end is not None:
            await self._stop_listening(sockets or [])
            await self._connections_ended(self._end)
        await super().shutdown(sockets)

    async def _stop_listening(self, sockets: list[socket.socket]) -> None:
        """Close the port, and take the connections that wait at it: closing it would reset them."""
        waiting = [os.dup(each.fileno()) for server in self.servers for each in server.sockets]
        for server in self.servers:
            server.close()
        for each in sockets:
            each.close()
        await asyncio.sleep(0)  # from now on the loop takes no connection
        for number in waiting:
            with socket.socket(fileno=number) as port:
                port.setblocking(False)
                taken = [*_accepted(port)]
            self._taking |= {asyncio.ensure_future(self._take(each, _HANDSHAKE)) for each in taken}
        await asyncio.sleep(0)

    async def _take(self, accepted: socket.socket, patience: float | None) -> None:
        """Serve a connection. Whoever speaks no TLS, or begins and says nothing more, keeps nobody else waiting. patience: seconds for
        the beginning of TLS; None for as many as the loop gives by itself.
        """
        with contextlib.suppress(OSError):
            tls = self.config.ssl
            await asyncio.get_running_loop().connect_accepted_socket(
                self._protocol, accepted, ssl=tls, ssl_handshake_timeout=patience if tls else None
            )

    def _protocol(self) -> asyncio.Protocol:
        kind: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = kind(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol

    async def _connections_ended(self, end: float) -> None:
        """Wait until all connections have ended, and end those that have been idle for long enough."""
        since: dict[Any, float] = {}
        patience = time.monotonic() + _HANDSHAKE  # whoever came earlier and says nothing has as much from now on
        while (now := time.monotonic()) < end and not self.force_exit and self._left(is_patient=now < patience):
            idle = [each for each in self.server_state.connections if _is_idle(each)]
            since = {each: since.get(each, now) for each in idle}
            for each, began in since.items():
                if now - began >= self._idle:
                    each.shutdown()
            await asyncio.sleep(_LOOK)

    def _left(self, *, is_patient: bool) -> bool:
        return bool(self.server_state.connections) or (is_patient and not all(task.done() for task in self._taking))


def _accepted(port: socket.socket) -> Iterator[socket.socket]:
    with contextlib.suppress(OSError):
        while True:
            yield port.accept()[0]


def _is_idle(connection: Any) -> bool:
    """Whether no request has come on a connection of uvicorn's yet, or all are answered."""
    cycle = connection.cycle
    return cycle is None or cycle.response_complete
