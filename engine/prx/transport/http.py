"""HTTP/1.1 through requests: its adapter, its TLS and proxy settings, its connection pools.

The session's adapter gives the pool for an origin, once; a call then takes a connection from the pool
itself. `Session.send` would do all of that anew for each call (four times the CPU), follow redirects,
read ~/.netrc, keep cookies, and hold text back until 128 bytes have come. urllib3's `urlopen` logs the path
with its query. vcrpy records and replays below both, so it sees these calls like any other.
"""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.utils import should_bypass_proxies

from prx.errors import ConfigError, Error, OverflowedError
from prx.spec.model import Transport
from prx.transport.failures import Phase, translated
from prx.transport.inflate import Inflate
from prx.transport.watchdog import Guard
from prx.wire import Head, HttpRequest, Secret

_BLOCK = 65536
_SEND_AT_ONCE = 4 * _BLOCK
_DRAIN_SECONDS = 0.1  # how long the end of a finished stream is waited for, to keep the connection
_POOL_SIZE = 256
_SMALL = 16 << 20
_LOOPBACK = ("localhost", "127.", "::1")


class Http:
    """Connections to one provider. Its settings are made once and never changed by a call.

    proxy     URL of a proxy, or "" for those of `environ` (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY)
    ca_file   PEM file of certificate authorities to trust in place of the usual ones
    """

    def __init__(self, proxy: str = "", ca_file: str = "", environ: Mapping[str, str] | None = None) -> None:
        self._proxy, self._environ = proxy, environ or {}
        self._verify: bool | str = ca_file or True
        self._session = requests.Session()
        self._session.trust_env = False
        self._adapter = requests.adapters.HTTPAdapter(pool_connections=8, pool_maxsize=_POOL_SIZE)
        self._session.mount("https://", self._adapter)
        self._session.mount("http://", self._adapter)
        self._routes: dict[str, tuple[Any, str, Mapping[str, str]]] = {}

    def send(self, request: HttpRequest, limits: Transport, guard: Guard | None = None) -> Response:
        """Send a request and read the head of its response. Raises Error."""
        for secret in request.secrets():
            if not secret.sendable:
                raise ConfigError(
                    "the key has characters that a header cannot carry (a line break, a space at its end, …)"
                )
        pool, path, headers = self._route(request.url)
        connection = pool._get_conn()
        phase: Phase = "connect"
        failed: Error | None = None
        raw: Any = None
        sock: Any = None
        try:
            _connect(pool, connection, limits, guard)
            sock = connection.sock
            phase = "first_byte"
            raw = _ask(connection, request, path, headers, limits)
        except Exception as error:
            connection.close()
            failed = translated(error, request.url, phase, limits, guard)
        if failed is not None:
            raise failed  # outside the handler: what the libraries' frames hold, the key among it, stays behind
        raw._connection, raw._pool = connection, pool
        with contextlib.suppress(OSError, AttributeError):  # a replayed connection has no socket of its own
            sock.settimeout(limits.idle)
        return Response(raw, connection, request, limits, guard)

    def fetch(self, request: HttpRequest, limits: Transport, guard: Guard | None = None) -> tuple[Head, bytes]:
        """A whole small response. Raises Error, OverflowedError for one that is not small."""
        response = self.send(request, limits, guard)
        body, complete = b"", False
        try:
            while data := response.read():
                body += data
                if len(body) > _SMALL:
                    raise OverflowedError(f"an answer of more than {_SMALL} bytes")
            complete = True
        finally:
            response.close(complete=complete)
        return response.head, body

    def close(self) -> None:
        self._session.close()

    def _route(self, url: str) -> tuple[Any, str, Mapping[str, str]]:
        """Pool, request target and proxy headers for a URL, worked out once."""
        if url not in self._routes:
            if len(self._routes) > 1000:
                self._routes.clear()
            self._routes[url] = self._new_route(url)
        return self._routes[url]

    def _new_route(self, url: str) -> tuple[Any, str, Mapping[str, str]]:
        try:
            prepared = requests.Request("POST", url).prepare()
            proxies = {"all": proxy} if (proxy := self._proxy or self._environment_proxy(url)) else {}
            pool: Any = self._adapter.get_connection_with_tls_context(prepared, self._verify, proxies)
            target = self._adapter.request_url(prepared, proxies)
        except (requests.RequestException, OSError, ValueError) as error:
            said = re.sub(r"//[^/@\s]*@", "//***@", str(error))
            raise ConfigError(f"{url}: {said}", hint="Check api_url, proxy and ca_file.") from None
        plain_proxy = pool.proxy is not None and pool.scheme == "http"
        return pool, target, dict(pool.proxy_headers) if plain_proxy else {}

    def _environment_proxy(self, url: str) -> str:
        parts, env = urlsplit(url), self._environ
        if (parts.hostname or "").startswith(_LOOPBACK) or should_bypass_proxies(
            url, env.get("no_proxy") or env.get("NO_PROXY") or ""
        ):
            return ""
        names = (f"{parts.scheme}_proxy", "all_proxy")
        return next((env[name] for base in names for name in (base, base.upper()) if env.get(name)), "")


@cache
def _keep_queries_out_of_logs() -> None:
    """urllib3 warns of malformed headers with the whole URL; where a key is in it, it must not."""

    def without_query(record: logging.LogRecord) -> bool:
        record.msg, record.args = re.sub(r"\?[^\s)\"']*", "?***", record.getMessage()), ()
        return True

    for name in ("urllib3.connection", "urllib3.connectionpool"):
        logging.getLogger(name).addFilter(without_query)


def _connect(pool: Any, connection: Any, limits: Transport, guard: Guard | None) -> None:
    """Have a connection that stands, under the guard's eyes."""
    if guard is not None:
        guard.connection = connection
        if guard.fired or guard.remaining <= 0:
            raise TimeoutError
    if connection.sock is None:
        connection.timeout = limits.connect if guard is None else min(limits.connect, guard.remaining)
        if pool.proxy is not None and pool.scheme == "https":
            pool._prepare_proxy(connection)
        else:
            connection.connect()
    if guard is not None:
        guard.sock = connection.sock


def _ask(connection: Any, request: HttpRequest, path: str, headers: Mapping[str, str], limits: Transport) -> Any:
    """Send, and read the head. The only place that looks inside a Secret."""
    if request.query:
        _keep_queries_out_of_logs()
        path += request.full_url(reveal=True)[len(request.url) :]
    revealed = {name: value.reveal() if isinstance(value, Secret) else value for name, value in request.headers.items()}
    connection.timeout = limits.first_byte
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # who refuses a request early may have answered it
        connection.request(
            request.method,
            path,
            body=_in_blocks(request.body),
            headers={**headers, **revealed, **({"content-length": str(len(request.body))} if request.body else {})},
            preload_content=False,
            decode_content=False,
            enforce_content_length=True,
        )
    return connection.getresponse()


def _in_blocks(body: bytes) -> bytes | list[bytes] | None:
    """A large body in pieces: a socket's timeout is for all of one sending, and should be for a silence."""
    if len(body) <= _SEND_AT_ONCE:
        return body or None
    return [body[start : start + _BLOCK] for start in range(0, len(body), _BLOCK)]


class Response:
    """A response being read. `read` gives bytes as they arrive, b"" at the end, inflated where needed."""

    def __init__(self, raw: Any, connection: Any, request: HttpRequest, limits: Transport, guard: Guard | None) -> None:
        self._raw, self._connection, self._guard = raw, connection, guard
        self._url, self._limits = request.url, limits
        self._ended = False
        self.head = Head(raw.status, {name.lower(): value for name, value in raw.headers.items()}, time.time())
        self._inflate = Inflate(self.head.headers.get("content-encoding", ""))

    def read(self) -> bytes:
        """The next bytes of the body. Raises Error."""
        while True:
            data = self._inflate.pending() or self._read()
            if not data:
                self._inflate.finish()
                return b""
            if piece := self._inflate(data):
                return piece
            if self._inflate.over:
                return b""

    def close(self, *, complete: bool) -> None:
        """Give the connection back where its response is used up; otherwise close it, and stop the provider.

        complete: the answer has ended, so that the end of the body may be waited for, briefly.
        """
        try:
            if complete and not self._ended and self._connection.sock is not None:
                self._connection.sock.settimeout(_DRAIN_SECONDS)
                self._ended = not self._raw.read1(_BLOCK)
        except Exception:  # whatever it is, this connection is not used again
            self._ended = False
        if self._ended:
            self._raw.release_conn()
        else:
            self._raw.close()
            self._connection.close()

    def _read(self) -> bytes:
        if self._ended:
            return b""
        failed: Exception | None = None
        data = b""
        try:
            data = self._raw.read1(_BLOCK)
        except Exception as error:
            failed = error
        if failed is None and not data and self._guard is not None and self._guard.fired:
            failed = TimeoutError()
        if failed is not None:
            raise translated(failed, self._url, "idle", self._limits, self._guard)
        self._ended = not data
        return data
