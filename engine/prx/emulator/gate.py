"""Limits for requests to the emulator: the Host header, the size of the body, and the time that it may take.

The emulator listens on loopback only, which does not keep out a web page: its host name may be made to resolve to 127.0.0.1
(DNS rebinding), and the browser then gives the page the answers. The Host header shows the name in that case.
"""

from __future__ import annotations

import io
import ipaddress
import re
import socket
import time
from email.message import Message
from typing import Any

MAX_BYTES = 32 << 20  # of a body
# Seconds until a request begins, for its head, for its body, and for each piece of an answer.
IDLE, HEAD, BODY, WRITE = 60.0, 10.0, 30.0, 30.0

_NAMES = re.compile(r"(?:.+\.)?localhost|localhost\.localdomain|ip6-localhost|ip6-loopback")
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:/@\s]+)(?::[0-9]*)?")
_NUMBERS = re.compile(r"(?:0x[0-9a-f]+|[0-9]+)(?:\.(?:0x[0-9a-f]+|[0-9]+)){0,3}")


class TurnedAwayError(Exception):
    """The request is refused before it is read further, and the connection closed. str(): the reason."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class LateError(Exception):
    """The request did not arrive in time."""


def check_host(headers: Message, version: str) -> None:
    """Raises TurnedAwayError for a request whose Host header names another host than this machine."""
    hosts = headers.get_all("host", [])
    if len(hosts) > 1 or (not hosts and version == "HTTP/1.1"):
        raise TurnedAwayError(400, "one Host header is needed")
    if hosts and not is_loopback(hosts[0]):
        raise TurnedAwayError(421, "this server is for localhost only; use http://127.0.0.1 or http://localhost")


def is_loopback(host: str) -> bool:
    """Whether a Host header, with or without a port, names this machine."""
    match = _HOST.fullmatch(host.strip().lower())
    if not match:
        return False
    name = match[1].removesuffix(".")
    return bool(_NAMES.fullmatch(name)) or _is_loopback_address(name.strip("[]"), six=name.startswith("["))


def _is_loopback_address(text: str, *, six: bool) -> bool:
    try:
        if six:
            address = ipaddress.IPv6Address(text)
            loopback = (address.ipv4_mapped or address).is_loopback
        else:  # 127.1, 2130706433 and 0x7f000001 are spellings of 127.0.0.1
            loopback = bool(_NUMBERS.fullmatch(text)) and socket.inet_aton(text)[0] == 127
    except (OSError, ValueError):
        loopback = False
    return loopback


def length(headers: Message) -> int:
    """The length of the body in bytes. Raises TurnedAwayError where it is not given, invalid or too large."""
    if headers.get("transfer-encoding"):
        raise TurnedAwayError(411, "give the length of the body: Content-Length instead of Transfer-Encoding")
    lengths = {text.strip() for text in headers.get_all("content-length", ["0"])}
    text = lengths.pop()
    if lengths or not (text.isascii() and text.isdigit()):
        raise TurnedAwayError(400, "Content-Length is not a single number")
    if len(text) > 18 or int(text) > MAX_BYTES:
        raise TurnedAwayError(413, f"a body may have at most {MAX_BYTES} bytes")
    return int(text)


class Timed(io.RawIOBase):
    """The bytes of a connection until a time limit, also for a client that sends byte by byte. Raises LateError after it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.allow(IDLE)

    def allow(self, seconds: float) -> None:
        """Set the limit to so many seconds from now."""
        self._end = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._end - time.monotonic()
        if left <= 0:
            raise LateError
        self._connection.settimeout(left)
        try:
            return self._connection.recv_into(buffer)
        except TimeoutError:
            raise LateError from None
