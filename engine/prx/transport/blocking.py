"""The blocking transport: HTTP/1.1 on connections of requests, with its TLS and proxy settings and connection pools.

The session's adapter is asked for the pool of an origin once; each call then takes a connection from the pool
itself. The alternatives: `Session.send` repeats all of that for each call (four times the CPU), follows redirects,
reads ~/.netrc, keeps cookies, and holds text back until 128 bytes have come. urllib3's `urlopen` logs the path
with its query. vcrpy records below both, so it sees these calls like any other.
"""

from __future__ import annotations

import contextlib
import math
import re
import ssl
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import requests
from urllib3.connection import HTTPSConnection
from urllib3.util.connection import is_connection_dropped
from urllib3.util.wait import wait_for_read

from prx import forks
from prx.errors import ConfigError, Error
from prx.record import Record
from prx.spec.model import Limits
from prx.transport import proxies
from prx.transport.dialing import dial
from prx.transport.failures import Phase, translated, unreachable_proxy
from prx.transport.http11 import DrippingError, Incoming, ToEnd
from prx.transport.origin import origin_of, remembered
from prx.transport.outgoing import check_sendable, head_of_request, revealed, target_of
from prx.transport.response import Response
from prx.transport.watchdog import Guard, shut
from prx.wire import HttpRequest

_BLOCK = 65536  # bytes
_SEND_AT_ONCE = 4 * _BLOCK
_MAX_POOLS = 1000  # origins; requests closes the oldest pool beyond them, though calls may be using it
_MAX_KEPT = 256  # connections of one origin
Receive = Callable[[], bytes]
_URLLIB3 = "urllib3.connection"  # the module of its own connections; of any other class only public methods are used


class Route(Record):
    """How a URL is reached.

    pool      makes connections
    kept      idle connections of the pool
    target    request target: path and query, or for a plain proxy the whole URL
    headers   Host, and the proxy's own headers
    """

    pool: Any
    kept: deque[Any]
    target: str
    headers: Mapping[str, str]

    def connection(self) -> Any:
        """An idle connection that is still open, or a new one, which has no socket yet."""
        while self.kept:
            with contextlib.suppress(IndexError):  # another thread took the last one
                connection = self.kept.pop()
                # ConnectionCls changes while vcrpy records: it replaces urllib3's class by its own, and restores it later
                if isinstance(connection, self.pool.ConnectionCls) and not is_connection_dropped(connection):
                    return connection
                connection.close()
        return self.pool._new_conn()


class Http:
    """A connection pool for all accounts with these settings, which no call changes.

    proxy     URL of a proxy, or "" for those of `environ` (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY)
    ca_file   PEM file of certificate authorities to trust in place of the usual ones
    cert      PEM files of the certificate that is shown to servers, and of its key where it has a file of its own
    """

    def __init__(
        self, proxy: str = "", ca_file: str = "", environ: Mapping[str, str] | None = None, cert: tuple[str, ...] = ()
    ) -> None:
        self._proxy, self._environ = proxy, environ or {}
        self._verify: bool | str = ca_file or True
        # As requests takes it. The key's file is always named: urllib3 refuses one with a passphrase then, which OpenSSL would
        # ask for at the terminal.
        self._cert = (cert[0], cert[-1]) if cert else None
        self._session = requests.Session()
        self._session.trust_env = False
        self._adapter = requests.adapters.HTTPAdapter(pool_connections=_MAX_POOLS, pool_maxsize=1)
        self._session.mount("https://", self._adapter)
        self._session.mount("http://", self._adapter)
        self._routes: dict[str, Route] = {}
        # Idle connections, by the pool that made them. Not in urllib3's own queue: a KeyboardInterrupt inside it may leave
        # its lock taken for ever, while an operation of a deque cannot be interrupted.
        self._kept: dict[Any, deque[Any]] = {}
        self._open: weakref.WeakSet[Any] = weakref.WeakSet()  # idle or in use
        self._closed = False
        forks.register(self)
        weakref.finalize(self, _close_kept, self._kept)  # for a client that is never closed

    def unlock(self) -> None:
        """In the child of a fork: close its copies of the parent's sockets, which does not end the parent's connections."""
        for connection in list(self._open):
            connection.close()
        for kept in self._kept.values():
            kept.clear()

    def send(self, request: HttpRequest, limits: Limits, guard: Guard | None = None) -> Response:
        """Send a request and read the head of its response. Raises Error."""
        check_sendable(request)
        route = remembered(self._routes, request.url, self._new_route)
        phase: Phase = "connect"
        failed: Error | None = None
        connection: Any = None
        try:
            connection = route.connection()
            if connection.sock is None:
                self._open.add(connection)
            _connect(route.pool, connection, limits, guard)
            sock, phase = connection.sock, "first_byte"
            exchange = _exchange if type(connection).__module__ == _URLLIB3 else _exchange_by_methods
            incoming, receive = exchange(connection, request, route, limits)
            response = Response(incoming, receive, connection, self._keep, route.kept, request.url, limits, guard)
        except Exception as error:
            if connection is not None:
                connection.close()
            failed = translated(error, request.url, phase, limits, guard)
        except BaseException:  # a KeyboardInterrupt: half a request may have been sent
            if connection is not None:
                connection.close()
            raise
        if failed is not None:
            raise failed  # outside the handler, so that its traceback has no frames of libraries, which hold the key
        with contextlib.suppress(OSError, AttributeError):  # a connection of vcrpy's has no socket of its own
            sock.settimeout(limits.idle)
        return response

    def close(self) -> None:
        """Close the idle connections; those in use are closed at the end of their calls."""
        self._closed = True
        _close_kept(self._kept)
        self._session.close()

    def _keep(self, connection: Any, kept: deque[Any]) -> None:
        if self._closed or len(kept) >= _MAX_KEPT:
            connection.close()
            return
        kept.append(connection)
        if self._closed:  # another thread has closed the client meanwhile, perhaps before this connection was appended
            self.close()

    def _new_route(self, url: str) -> Route:
        try:
            prepared = requests.Request("POST", url).prepare()
            through = (
                {"all": proxy}
                if (proxy := self._proxy or proxies.of_environment(str(prepared.url), self._environ))
                else {}
            )
            pool: Any = self._adapter.get_connection_with_tls_context(prepared, self._verify, through, cert=self._cert)
            target = self._adapter.request_url(prepared, through)
        except (requests.RequestException, OSError, ValueError) as error:
            masked = re.sub(r"//[^/@\s]*@", "//***@", str(error))
            raise ConfigError(f"{url}: {masked}", hint="Check api_url, proxy and ca_file.") from None
        plain_proxy = pool.proxy is not None and pool.scheme == "http"
        host = origin_of(str(prepared.url))[0].header
        return Route(
            pool,
            self._kept.setdefault(pool, deque()),
            target,
            {"host": host, **(dict(pool.proxy_headers) if plain_proxy else {})},
        )


def _close_kept(by_pool: Mapping[Any, deque[Any]]) -> None:
    for kept in list(by_pool.values()):
        while kept:
            with contextlib.suppress(IndexError):
                connection = kept.pop()
                shut(connection.sock)  # close alone would leave it open where a child of a fork has a copy
                connection.close()


def _connect(pool: Any, connection: Any, limits: Limits, guard: Guard | None) -> None:
    """Open the connection, if it is not open. Raises TimeoutError where the guard has fired."""
    if guard is not None:
        guard.connection = connection
        if guard.fired or guard.remaining <= 0:
            raise TimeoutError
    if connection.sock is None:
        connection.timeout = limits.connect if guard is None else min(limits.connect, guard.remaining)
        if guard is not None and type(connection).__module__ == _URLLIB3:
            _open_guarded(pool, connection, guard)
        else:
            _open(pool, connection)
    if guard is not None:
        guard.sock = connection.sock
        if guard.fired:  # before `guard.sock` was set
            raise TimeoutError


def _open_guarded(pool: Any, connection: Any, guard: Guard) -> None:
    """Connect in place of urllib3, and give the guard a duplicate of the socket, so that it can also end the handshakes
    of TLS and of a proxy, during which urllib3 has the socket.
    """
    try:
        sock = dial(connection._dns_host, connection.port, connection.socket_options, connection.timeout, guard)
    except OSError as error:
        if pool.proxy is None or isinstance(error, TimeoutError):
            raise
        raise unreachable_proxy(f"{pool.proxy.scheme}://{pool.proxy.netloc}", error) from None
    sys.audit("http.client.connect", connection, connection.host, connection.port)  # as urllib3 does
    tls = isinstance(connection, HTTPSConnection)
    if tls:
        sock.settimeout(connection.timeout)
    with sock.dup() if tls else contextlib.nullcontext(sock) as handle:
        connection._new_conn = lambda: sock
        try:
            guard.sock = handle
            _raise_if_fired(guard)
            _open(pool, connection)
        except BaseException:
            sock.close()
            raise
        finally:
            guard.sock = None
            del connection._new_conn


def _raise_if_fired(guard: Guard) -> None:
    if guard.fired:  # before it had a socket to shut down
        raise TimeoutError


def _open(pool: Any, connection: Any) -> None:
    if pool.proxy is not None and pool.scheme == "https":
        pool._prepare_proxy(connection)
    else:
        connection.connect()


def _exchange(connection: Any, request: HttpRequest, route: Route, limits: Limits) -> tuple[Incoming, Receive]:
    """Send the request, and read the head of the response."""
    sock = connection.sock
    sock.settimeout(limits.first_byte)
    sent_whole = _send(sock, head_of_request(request, route.target, route.headers), request.body)
    receive = partial(sock.recv, _BLOCK)
    incoming = _head(receive, limits.first_byte)
    incoming.broken_off = not sent_whole
    return incoming, receive


def _send(sock: Any, head: bytes, body: bytes) -> bool:
    """Send a request; False where the server stopped reading it. A server that refuses a request early may have sent an
    answer all the same.
    """
    try:
        if len(body) <= _SEND_AT_ONCE:
            sock.sendall(head + body)
        else:  # in pieces: a socket's timeout is for the whole of one sendall, and should only limit a silence
            sock.sendall(head)
            for start in range(0, len(body), _BLOCK):
                sock.sendall(body[start : start + _BLOCK])
    except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
        return False
    except TimeoutError:
        if not wait_for_read(sock, 0):
            raise
        return False
    return True


def _head(receive: Receive, seconds: float) -> Incoming:
    """Read a head, for at most so many seconds after its first bytes: the timeout of the socket starts anew at each byte.
    Raises DrippingError.
    """
    incoming, until = Incoming(), math.inf
    while not incoming.head(receive()):
        until = min(until, time.monotonic() + seconds)
        if time.monotonic() > until:
            raise DrippingError
    return incoming


def _exchange_by_methods(
    connection: Any, request: HttpRequest, route: Route, limits: Limits
) -> tuple[Incoming, Receive]:
    """As `_exchange`, for a connection of another class than urllib3's own, such as vcrpy's."""
    connection.timeout = limits.first_byte
    connection.request(
        request.method,
        target_of(request, route.target),
        body=request.body or None,
        headers=revealed(request, {}),
        preload_content=False,
        decode_content=False,
        enforce_content_length=True,
    )
    raw = connection.getresponse()
    headers = {name.lower(): value for name, value in raw.headers.items()}
    return Incoming.given(raw.status, headers, ToEnd()), partial(raw.read1, _BLOCK)
