"""URLs that can be called, and the origin that a key is bound to."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from prx.errors import ConfigError


def check_url(url: str, provider: str = "") -> SplitResult:
    """A URL that can be called: http or https, a host, no user name in it. Raises ConfigError."""
    shown = url if "@" not in url else "***@" + url.rpartition("@")[2]
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits or any(ord(character) <= 32 for character in url):
        example = "https://" + url.partition("//")[2] if "//" in url else f"http://{url}"
        hint = (
            f"Write it with http:// or https:// and a host, for example {example}."
            if "@" not in url and url.strip()
            else ""
        )
        raise ConfigError(f"{shown!r} is no URL that can be called", provider=provider, hint=hint)
    if "@" in parts.netloc:
        raise ConfigError(
            f"{shown!r} has a user name or password in it",
            provider=provider,
            hint="Put the key into api_key; URLs are logged.",
        )
    return parts


def origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def host(url: str) -> str:
    """The host of a URL, "" where it has none or is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
