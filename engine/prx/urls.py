"""Checks URLs, and gives the origin to which a key is bound."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

from prx.errors import ConfigError

# A scheme, or a host that is followed by a port or has a dot; the words of a host are shorter than a key.
_ADDRESS = r"(?:[a-z]{2,8}://|(?:[a-z0-9-]{1,20}\.)+[a-z]{2,12}(?=[:/]|$)|[a-z0-9.-]{1,20}:\d{1,5}(?=/|$))"


def check_url(url: str, provider: str = "") -> SplitResult:
    """The parts of a URL. Raises ConfigError where it is not http or https, has no host, or has a user name."""
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits or any(ord(character) <= 32 for character in url):
        raise ConfigError(f"{_shown(url)} is not a URL that prx can call", provider=provider, hint=_example(url))
    if "@" in parts.netloc:
        raise ConfigError(
            f"{_shown(url)} has a user name or password in it",
            provider=provider,
            hint="Put the key into api_key; URLs are logged.",
        )
    return parts


def _shown(url: str) -> str:
    """A URL for an error message, without user name and query, which may hold a key. A text that is not a URL at all is
    not shown: it may be a key in the wrong place.
    """
    address = url.rpartition("@")[2].partition("?")[0].partition("#")[0]
    if not re.match(_ADDRESS, address):
        return "the text given as URL"
    return repr(f"***@{address}" if "@" in url else address)


def _example(url: str) -> str:
    advice = "Write it with http:// or https:// and a host"
    if "@" in url or not re.match(_ADDRESS, url):
        return f"{advice}, for example http://localhost:8000/v1."
    address = url.partition("?")[0]
    return (
        f"{advice}, for example {'https://' + address.partition('//')[2] if '//' in address else f'http://{address}'}."
    )


def origin(url: str) -> tuple[str, str | None, int | None]:
    """(scheme, host, port) of a URL."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def host(url: str) -> str:
    """The host of a URL, "" where it has none or is not a valid URL."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
