"""HTTP/1.1 through requests: its adapter, its TLS and proxy settings, its connection pools.

The session's adapter gives the pool for an origin, once; a call then takes a connection from the pool
itself. `Session.send` would do all of that anew for each call (four times the CPU), follow redirects,
read ~/.netrc, keep cookies, and hold text back until 128 bytes have come. urllib3's `urlopen` logs the path
with its query. vcrpy records and replays below both, so it sees these calls like any other.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
import zlib
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.utils import should_bypass_proxies
from urllib3.exceptions import HTTPError, NameResolutionError, NewConnectionError
from urllib3.exceptions import SSLError as UrllibSSLError
from urllib3.exceptions import TimeoutError as UrllibTimeout

from prx.errors import ConfigError, Error, OverflowedError, ProtocolError, ProviderConnectionError, ProviderTimeoutError, TruncatedError
from prx.spec.model import Transport
from prx.transport.watchdog import Guard
from prx.wire import Head, HttpRequest, Secret

_BLOCK = 65536
_INFLATED = 1 << 20  # bytes at most from one step of decompression
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
                raise ConfigError("the key has characters that a header cannot carry (a line break, a space at its end, …)")
        pool, path, headers = self._route(request.url)
        if request.query:
            path = path + request.full_url(reveal=True)[len(request.url) :]
        made = {**headers, **{name: value.reveal() if isinstance(value, Secret) else value for name, value in request.headers.items()}}
        connection = pool._get_conn()
        try:
            raw = _send(pool, connection, request, path, made, limits, guard)
        except Exception as error:
            connection.close()
            raise _mapped(error, request.url, limits, guard) from None
        return Response(raw, connection, request, limits, guard)

    def fetch(self, request: HttpRequest, limits: Transport) -> tuple[Head, bytes]:
        """A whole small response. Raises Error, OverflowedError for one that is not small."""
        response = self.send(request, limits)
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
            raise ConfigError(f"{url}: {error}", hint="Check api_url, proxy and ca_file.") from None
        plain_proxy = pool.proxy is not None and pool.scheme == "http"
        return pool, target, dict(pool.proxy_headers) if plain_proxy else {}

    def _environment_proxy(self, url: str) -> str:
        parts, env = urlsplit(url), self._environ
        if (parts.hostname or "").startswith(_LOOPBACK) or should_bypass_proxies(url, env.get("no_proxy") or env.get("NO_PROXY") or ""):
            return ""
        names = (f"{parts.scheme}_proxy", "all_proxy")
        return next((env[name] for base in names for name in (base, base.upper()) if env.get(name)), "")


def _send(pool: Any, connection: Any, request: HttpRequest, path: str, headers: Mapping[str, str], limits: Transport, guard: Guard | None) -> Any:
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
    connection.timeout = limits.first_byte
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # who refuses a request early may have answered it
        connection.request(
            request.method, path, body=request.body or None, headers=headers, preload_content=False, decode_content=False, enforce_content_length=True
        )
    raw = connection.getresponse()
    raw._connection, raw._pool = connection, pool
    if connection.sock is not None:
        connection.sock.settimeout(limits.idle)
    return raw


class Response:
    """A response being read. `read` gives bytes as they arrive, b"" at the end, inflated where needed."""

    def __init__(self, raw: Any, connection: Any, request: HttpRequest, limits: Transport, guard: Guard | None) -> None:
        self._raw, self._connection, self._guard = raw, connection, guard
        self._url, self._limits = request.url, limits
        self._ended = False
        self.head = Head(raw.status, {name.lower(): value for name, value in raw.headers.items()}, time.time())
        self._inflate = _Inflate(self.head.headers.get("content-encoding", ""))

    def read(self) -> bytes:
        """The next bytes of the body. Raises Error."""
        while True:
            data = self._inflate.pending() or self._read()
            if not data:
                self._inflate.finish()
                return b""
            if piece := self._inflate(data):
                return piece

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
        try:
            data: bytes = self._raw.read1(_BLOCK)
        except Exception as error:
            raise _mapped(error, self._url, self._limits, self._guard, reading=True) from None
        if not data:
            if self._guard is not None and self._guard.fired:
                raise _mapped(TimeoutError(), self._url, self._limits, self._guard)
            self._ended = True
        return data


class _Inflate:
    """Bytes as they are meant. A body that says gzip and is none (vcrpy keeps it so) passes unchanged."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding.strip().lower()
        self._stream: Any = None
        self._known = self._encoding in ("", "identity")
        self._tail = b""

    def pending(self) -> bytes:
        tail, self._tail = self._tail, b""
        return tail

    def __call__(self, data: bytes) -> bytes:
        if not self._known:
            self._recognise(data)
        if self._stream is None:
            return data
        try:
            piece: bytes = self._stream.decompress(data, _INFLATED)
        except zlib.error as error:
            raise ProtocolError(f"the answer says it is {self._encoding} and cannot be unpacked: {error}") from None
        self._tail = self._stream.unconsumed_tail
        return piece

    def finish(self) -> None:
        if self._stream is not None and not self._stream.eof:
            raise TruncatedError("the compressed answer ended before its end")

    def _recognise(self, data: bytes) -> None:
        self._known = True
        if data[:1] in (b"\x1f", b"\x78") and self._encoding in ("gzip", "x-gzip", "deflate"):
            self._stream = zlib.decompressobj(47)  # 32 + 15: gzip or zlib, whichever it is
        elif data[:1] not in (b"{", b"[", b"d", b"e", b":", b" ", b"\n", b"<") and self._encoding not in ("gzip", "deflate"):
            raise ProtocolError(f"the answer is packed as {self._encoding}, which was not asked for")


def _mapped(error: Exception, url: str, limits: Transport, guard: Guard | None, *, reading: bool = False) -> Error:
    """A library's exception as ours. The one border at which they are translated."""
    place = "{0.scheme}://{0.netloc}".format(urlsplit(url))
    if isinstance(error, Error):
        return error
    if guard is not None and (guard.fired or guard.remaining <= 0):
        return ProviderTimeoutError(f"the deadline passed while waiting for {place}")
    if isinstance(error, TimeoutError | UrllibTimeout) and not isinstance(error, NewConnectionError):
        seconds = limits.idle if reading else limits.first_byte
        return ProviderTimeoutError(f"{place} sent nothing for {seconds:g} s", hint="transport.idle and transport.first_byte set how long prx waits.")
    if isinstance(error, UrllibSSLError | ssl.SSLError):
        return _tls(error, place)
    if isinstance(error, UnicodeError | ValueError) and not isinstance(error, HTTPError | OSError):
        return ConfigError(f"{place}: the request cannot be sent: {type(error).__name__}")
    if isinstance(error, HTTPError | HTTPException | OSError):
        return _connection(error, place, reading)
    raise error


def _tls(error: Exception, place: str) -> Error:
    certificate = "certificate" in str(error).lower()
    hint = "For a server with a certificate of your own, set ca_file to its PEM file." if certificate else "Does the server speak TLS? Try http://."
    return ProviderConnectionError(f"{place}: TLS failed: {_reason(error)}", retryable=False, hint=hint)


def _connection(error: Exception, place: str, reading: bool) -> Error:
    if isinstance(error, NameResolutionError) or isinstance(error.__cause__, socket.gaierror):
        return ProviderConnectionError(f"the name of {place} cannot be resolved", hint="Check the host in api_url, and the network.")
    if "refused" in str(error).lower():
        return ProviderConnectionError(
            f"nobody listens at {place}: connection refused", hint=f"Is the server running? Check with: curl -i {place}/v1/models"
        )
    what = "the connection broke inside the answer" if reading else "the connection failed"
    return ProviderConnectionError(f"{place}: {what}: {_reason(error)}")


def _reason(error: Exception) -> str:
    """The last words of a chain of exceptions; urllib3 nests three."""
    inner = error.args[-1] if error.args else error
    text = str(inner) if isinstance(inner, Exception) else str(error)
    return (text.splitlines() or [type(error).__name__])[0][:200]
