"""Connects sockets in such a way that a deadline or another thread can end the attempt."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

from urllib3.util.connection import allowed_gai_family
from urllib3.util.wait import wait_for_write

from prx.transport.watchdog import NAP, Guard


def dial(host: str, port: int, options: Any, seconds: float, guard: Guard) -> socket.socket:
    """A non-blocking socket, connected to the first address of a host that answers. seconds: for each address. Raises
    OSError.
    """
    failed: OSError = OSError("the host name has no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(
        host.strip("[]"), port, allowed_gai_family(), socket.SOCK_STREAM
    ):
        try:
            return _dialled(socket.socket(family, kind, protocol), address, options, seconds, guard)
        except OSError as error:
            failed = error.with_traceback(None)  # the traceback holds this frame, and this frame the error
        if guard.fired:
            break
    try:
        raise failed
    finally:
        del failed


def _dialled(sock: socket.socket, address: Any, options: Any, seconds: float, guard: Guard) -> socket.socket:
    try:
        for option in options or ():
            sock.setsockopt(*option)
        sock.setblocking(False)
        _connect(sock, address, seconds, guard)
    except BaseException:
        sock.close()
        raise
    return sock


def _connect(sock: socket.socket, address: Any, seconds: float, guard: Guard) -> None:
    until = time.monotonic() + seconds
    try:
        sock.connect(address)
    except BlockingIOError:
        while not wait_for_write(sock, max(0.0, min(NAP, until - time.monotonic()))):
            if guard.fired or time.monotonic() >= until:
                raise TimeoutError from None
        if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(code, os.strerror(code)) from None
