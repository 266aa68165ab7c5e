"""Where a URL leads: scheme, host and port, and through which proxy."""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import quote, unquote, urlsplit

from prx.errors import ConfigError
from prx.record import Record
from prx.secret import Secret
from prx.transport import proxies

_PORTS = {"http": 80, "https": 443}
_IN_A_TARGET = "!#$%&'()*+,/:;=?@[]~"  # what stays as it is; anything else is percent-encoded
_MOST_REMEMBERED = 1000  # URLs; a model's name may be a part of one
T = TypeVar("T")


class Origin(Record):
    """A server. `host` is as sockets take it: without brackets, in ASCII."""

    scheme: str
    host: str
    port: int

    @property
    def bracketed(self) -> str:
        """The host as URLs write it."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def is_address(self) -> bool:
        """Whether the host is written as an IP address, so that there is no name to be asked for."""
        try:
            ipaddress.ip_address(self.host.partition("%")[0])
        except ValueError:
            return False
        return True

    @property
    def header(self) -> str:
        """The host as HTTP names it: without the scheme's own port."""
        return self.bracketed if self.port == _PORTS[self.scheme] else f"{self.bracketed}:{self.port}"


class Proxy(Origin):
    """A proxy, with the headers by which it knows us."""

    login: Secret = Secret("")

    @property
    def headers(self) -> dict[str, str]:
        """Its own credentials, as Basic authentication."""
        if not self.login:
            return {}
        return {"proxy-authorization": f"Basic {base64.b64encode(self.login.reveal().encode()).decode()}"}


def origin_of(url: str) -> tuple[Origin, str]:
    """The server of a URL, and the request target. Raises ConfigError."""
    try:
        parts = urlsplit(url)
        origin = Origin(parts.scheme, _host(parts.hostname or ""), parts.port or _PORTS[parts.scheme])
    except (ValueError, KeyError) as error:
        raise _unusable(url, error) from None
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return origin, quote(target, safe=_IN_A_TARGET)


def proxy_of(url: str, configured: str, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy for a URL: the configured one, or the environment's. Raises ConfigError."""
    try:
        proxy = configured or proxies.of_environment(url, environ)
        if not proxy:
            return None
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        login = Secret(f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else "")
        return Proxy(parts.scheme, _host(parts.hostname or ""), parts.port or _PORTS[parts.scheme], login)
    except (ValueError, KeyError) as error:
        raise _unusable("the proxy", error) from None


def remembered(routes: dict[str, T], url: str, work_out: Callable[[str], T]) -> T:
    """How a URL is reached, worked out once."""
    route = routes.get(url)
    if route is None:
        if len(routes) > _MOST_REMEMBERED:
            routes.clear()
        route = routes[url] = work_out(url)
    return route


def _host(host: str) -> str:
    if not host:
        raise ValueError("there is no host")
    if host.isascii():
        return host
    import idna  # as requests does; few hosts need it

    try:
        return idna.encode(host, uts46=True).decode()
    except idna.IDNAError as error:
        raise ValueError(str(error)) from None


def _unusable(what: str, error: Exception) -> ConfigError:
    reason = f"{error} is neither http nor https" if isinstance(error, KeyError) else str(error)
    return ConfigError(f"{what}: {reason}", hint="Check api_url, proxy and ca_file.")
