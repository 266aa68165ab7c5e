"""Connects a socket to the address of a host that answers first, on an event loop.

The alternative, create_connection with happy_eyeballs_delay, leaves a socket that has just been connected to the garbage
collector where the task is cancelled: its connection stays open for a while.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Iterable
from typing import Any

_NEXT_ADDRESS = 0.25  # seconds until a host's next address is tried, too (RFC 8305)


async def dial(loop: asyncio.AbstractEventLoop, host: str, port: int) -> socket.socket:
    """A non-blocking socket, connected. The host's next address is tried as well when one has failed, or none has answered for
    _NEXT_ADDRESS seconds. Raises OSError.
    """
    connected: list[socket.socket] = []
    failed: list[str] = []
    attempts: set[asyncio.Task[None]] = set()
    addresses = _alternating(await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    try:
        for address in addresses:
            attempts.add(loop.create_task(_attempt(loop, address, connected, failed)))
            _, attempts = await asyncio.wait(attempts, timeout=_NEXT_ADDRESS, return_when=asyncio.FIRST_COMPLETED)
            if connected:
                break
        while attempts and not connected:
            _, attempts = await asyncio.wait(attempts, return_when=asyncio.FIRST_COMPLETED)
        if not connected:
            raise OSError("; ".join(dict.fromkeys(failed)) or "the host name has no address")
        return connected.pop()
    finally:
        for attempt in attempts:
            attempt.cancel()
        for sock in connected:
            sock.close()


async def _attempt(
    loop: asyncio.AbstractEventLoop, found: Any, connected: list[socket.socket], failed: list[str]
) -> None:
    """Add a socket to `connected`, or the reason why there is none to `failed`; a cancelled attempt leaves none open."""
    family, kind, protocol, _, address = found
    sock: socket.socket | None = None
    try:
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        await loop.sock_connect(sock, address)
        connected.append(sock)
    except OSError as error:
        failed.append(str(error))
    finally:
        if sock is not None and sock not in connected:
            sock.close()


def _alternating(found: Iterable[Any]) -> list[Any]:
    """Addresses so that those of IPv6 and IPv4 take turns: where one of them does not work at all, little time is lost."""
    families: dict[int, list[Any]] = {}
    for each in found:
        families.setdefault(each[0], []).append(each)
    return [each for turn in itertools.zip_longest(*families.values()) for each in turn if each is not None]
