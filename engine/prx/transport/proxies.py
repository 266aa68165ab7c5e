"""Finds the proxy of a URL in the environment (HTTPS_PROXY, NO_PROXY, …), without asking a name server."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_LOOPBACK = (
    "localhost", "localhost.localdomain", "localhost4", "localhost4.localdomain4", "localhost6", "localhost6.localdomain6",
    "ip6-localhost", "ip6-loopback",
)  # fmt: skip
_ENTRY = re.compile(
    r"(?:\[([^\]]*)\](/\d+)?|([^:]*))(?::(\d+))?"
)  # of NO_PROXY: [fd00::]/8, [::2]:8080, host, host:443


def of_environment(url: str, environ: Mapping[str, str]) -> str:
    """The URL of the proxy for a URL, or "". Raises ValueError for an invalid URL."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    if is_loopback(host) or _excepted(host, port, environ.get("no_proxy") or environ.get("NO_PROXY") or ""):
        return ""
    names = (f"{parts.scheme}_proxy", "all_proxy")
    return next((environ[name] for base in names for name in (base, base.upper()) if environ.get(name)), "")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, in any spelling: localhost, 127.1, [::1], 0x7f000001, …"""
    name = _plain(host)
    address = _address(name)
    if address is None:
        return name in _LOOPBACK or name.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def _plain(host: str) -> str:
    return host.lower().strip("[]").rstrip(".")


def _address(name: str) -> Address | None:
    """The address that a name spells: also as 127.1, 2130706433, 0x7f.1, 0177.0.0.1 and ::ffff:127.0.0.1."""
    found: Address | None = None
    with contextlib.suppress(ValueError):
        found = ipaddress.ip_address(name.partition("%")[0] if ":" in name else name)
    if found is None and re.fullmatch(r"[0-9a-fx.]+", name):  # inet_aton ignores everything after a space
        with contextlib.suppress(OSError):
            found = ipaddress.IPv4Address(socket.inet_aton(name))
    return getattr(found, "ipv4_mapped", None) or found


def _excepted(host: str, port: int | None, no_proxy: str) -> bool:
    """Whether NO_PROXY has an entry for a host."""
    name = _plain(host)
    return any(_covers(entry, name, port) for entry in re.split(r"[\s,]+", no_proxy.lower()) if entry)


def _covers(entry: str, name: str, port: int | None) -> bool:
    if entry == "*":
        return True
    if match := _ENTRY.fullmatch(entry):  # an entry that does not match is an IPv6 address without brackets
        entry = (match[1] or match[3] or "") + (match[2] or "")
        if match[4] and int(match[4]) != port:
            return False
    address = _address(name)
    if address is not None:
        return _within(address, entry.rstrip("."))
    entry = entry.removeprefix("*").strip(".")
    return bool(entry) and (name == entry or name.endswith(f".{entry}"))


def _within(address: Address, entry: str) -> bool:
    with contextlib.suppress(ValueError):
        return address in ipaddress.ip_network(entry, strict=False)
    return address == _address(entry)
