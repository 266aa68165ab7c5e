"""The server of a URL: scheme, host and port; and the proxy to it."""

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
_IN_A_TARGET = "!#$%&'()*+,/:;=?@[]~"  # characters that are not percent-encoded
_PROXIES = "Check proxy, HTTPS_PROXY and ALL_PROXY: AsyncClient takes http:// and https://; SOCKS is for Client alone."
_MAX_CACHED = 1000  # URLs; there may be any number of them, since a URL may contain a model's name
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
        """Whether the host is an IP address, so that no name server is needed."""
        try:
            ipaddress.ip_address(self.host.partition("%")[0])
        except ValueError:
            return False
        return True

    @property
    def header(self) -> str:
        """The value of the header Host: without the port if it is the scheme's default."""
        return self.bracketed if self.port == _PORTS[self.scheme] else f"{self.bracketed}:{self.port}"


class Proxy(Origin):
    """A proxy. login: user:password, or empty."""

    login: Secret = Secret("")

    @property
    def headers(self) -> dict[str, str]:
        """The header with the login, as Basic authentication; {} without one."""
        if not self.login:
            return {}
        return {"proxy-authorization": f"Basic {base64.b64encode(self.login.reveal().encode()).decode()}"}


def origin_of(url: str) -> tuple[Origin, str]:
    """(server of a URL, request target). Raises ConfigError."""
    try:
        parts = urlsplit(url)
        origin = Origin(parts.scheme, _host(parts.hostname or ""), parts.port or _PORTS[parts.scheme])
    except (ValueError, KeyError) as error:
        raise _unusable(url, error) from None
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return origin, quote(target, safe=_IN_A_TARGET)


def proxy_of(url: str, configured: str, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy of an AsyncClient for a URL: the configured one, or the environment's. Raises ConfigError."""
    try:
        proxy = configured or proxies.of_environment(url, environ)
        if not proxy:
            return None
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        default = _PORTS[parts.scheme]  # a port does not make a server of another protocol one of HTTP
        login = Secret(f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else "")
        return Proxy(parts.scheme, _host(parts.hostname or ""), parts.port or default, login)
    except (ValueError, KeyError) as error:
        raise _unusable("the proxy", error, _PROXIES) from None


def remembered(routes: dict[str, T], url: str, make: Callable[[str], T]) -> T:
    """The route of a URL from the cache `routes`; `make` makes a missing one."""
    route = routes.get(url)
    if route is None:
        if len(routes) > _MAX_CACHED:
            routes.clear()
        route = routes[url] = make(url)
    return route


def _host(host: str) -> str:
    if not host:
        raise ValueError("there is no host")
    if host.isascii():
        return host
    import idna  # imported here: few hosts need it

    try:
        return idna.encode(host, uts46=True).decode()
    except idna.IDNAError as error:
        raise ValueError(str(error)) from None


def _unusable(where: str, error: Exception, hint: str = "Check api_url, proxy and ca_file.") -> ConfigError:
    reason = f"{error} is neither http nor https" if isinstance(error, KeyError) else str(error)
    return ConfigError(f"{where}: {reason}", hint=hint)
