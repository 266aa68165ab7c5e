"""Who may ask the emulator, how much, and how long that may take.

It listens on loopback only, and that is no wall against a page in a browser: a name of the page's own may be made to
mean 127.0.0.1 (DNS rebinding), and the browser then takes the answers for the page's. The Host header still has that name.
"""

from __future__ import annotations

import io
import ipaddress
import re
import socket
import time
from email.message import Message
from typing import Any

MOST_BYTES = 32 << 20  # of a body
IDLE, HEAD, BODY, WRITE = (
    60.0,
    10.0,
    30.0,
    30.0,
)  # seconds: until a request begins, for its head, its body, each piece of an answer

_NAMES = re.compile(r"(?:.+\.)?localhost|localhost\.localdomain|ip6-localhost|ip6-loopback")
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:/@\s]+)(?::[0-9]*)?")
_NUMBERS = re.compile(r"(?:0x[0-9a-f]+|[0-9]+)(?:\.(?:0x[0-9a-f]+|[0-9]+)){0,3}")


class TurnedAwayError(Exception):
    """A request that is not answered. str(): why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class LateError(Exception):
    """A request that is not there in time."""


def check_host(headers: Message, version: str) -> None:
    """Raises TurnedAwayError for a request that was meant for another host than this machine."""
    hosts = headers.get_all("host", [])
    if len(hosts) > 1 or (not hosts and version == "HTTP/1.1"):
        raise TurnedAwayError(400, "one Host header is needed")
    if hosts and not is_loopback(hosts[0]):
        raise TurnedAwayError(
            421, "this server answers to localhost only; ask it by http://127.0.0.1 or http://localhost"
        )


def is_loopback(host: str) -> bool:
    """Whether a Host header, with or without a port, names this machine."""
    found = _HOST.fullmatch(host.strip().lower())
    if not found:
        return False
    name = found[1].removesuffix(".")
    return bool(_NAMES.fullmatch(name)) or _is_loopback_address(name.strip("[]"), six=name.startswith("["))


def _is_loopback_address(text: str, *, six: bool) -> bool:
    try:
        if six:
            address = ipaddress.IPv6Address(text)
            found = (address.ipv4_mapped or address).is_loopback
        else:  # 127.1, 2130706433 and 0x7f000001 are 127.0.0.1, too
            found = bool(_NUMBERS.fullmatch(text)) and socket.inet_aton(text)[0] == 127
    except (OSError, ValueError):
        found = False
    return found


def length(headers: Message) -> int:
    """The length of a body. Raises TurnedAwayError for one that is not said, or too large."""
    if headers.get("transfer-encoding"):
        raise TurnedAwayError(411, "say the length of the body: Content-Length in place of Transfer-Encoding")
    said = {text.strip() for text in headers.get_all("content-length", ["0"])}
    text = said.pop()
    if said or not (text.isascii() and text.isdigit()):
        raise TurnedAwayError(400, "Content-Length is no length")
    if len(text) > 18 or int(text) > MOST_BYTES:
        raise TurnedAwayError(413, f"a body has at most {MOST_BYTES} bytes")
    return int(text)


class Timed(io.RawIOBase):
    """What arrives on a connection, up to a moment: however it drips, it has an end."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.allow(IDLE)

    def allow(self, seconds: float) -> None:
        """Set that moment anew."""
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
