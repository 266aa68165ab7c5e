"""The blocking transport: HTTP/1.1 through requests: its adapter, its TLS and proxy settings, its connection pools.

The session's adapter gives the pool for an origin, once; a call then takes a connection from the pool
itself. `Session.send` would do all of that anew for each call (four times the CPU), follow redirects,
read ~/.netrc, keep cookies, and hold text back until 128 bytes have come. urllib3's `urlopen` logs the path
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
from prx.transport.failures import Phase, translated
from prx.transport.http11 import DrippingError, Incoming, ToEnd
from prx.transport.origin import origin_of, remembered
from prx.transport.outgoing import check_sendable, head_of_request, revealed, target_of
from prx.transport.response import Response
from prx.transport.watchdog import Guard, shut
from prx.wire import HttpRequest

_BLOCK = 65536
_SEND_AT_ONCE = 4 * _BLOCK
_POOLS = 1000  # origins; a pool beyond them would be closed under its callers
_MOST_KEPT = 256  # connections of one origin
Receive = Callable[[], bytes]
_URLLIB3 = "urllib3.connection"  # where its own connections are from; another's are used through their methods alone


class Route(Record):
    """How a URL is reached: who makes connections, those that are kept, request target, headers that belong to the way."""

    pool: Any
    kept: deque[Any]
    target: str
    headers: Mapping[str, str]

    def connection(self) -> Any:
        """One that is kept and still stands, or a new one, which has no socket yet."""
        while self.kept:
            with contextlib.suppress(IndexError):  # another thread took the last one
                connection = self.kept.pop()
                # vcrpy puts a class of its own in place of urllib3's, and back
                if isinstance(connection, self.pool.ConnectionCls) and not is_connection_dropped(connection):
                    return connection
                connection.close()
        return self.pool._new_conn()


class Http:
    """Connections of all accounts with these settings, which are made once and never changed by a call.

    proxy     URL of a proxy, or "" for those of `environ` (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY)
    ca_file   PEM file of certificate authorities to trust in place of the usual ones
    """

    def __init__(self, proxy: str = "", ca_file: str = "", environ: Mapping[str, str] | None = None) -> None:
        self._proxy, self._environ = proxy, environ or {}
        self._verify: bool | str = ca_file or True
        self._session = requests.Session()
        self._session.trust_env = False
        self._adapter = requests.adapters.HTTPAdapter(pool_connections=_POOLS, pool_maxsize=1)
        self._session.mount("https://", self._adapter)
        self._session.mount("http://", self._adapter)
        self._routes: dict[str, Route] = {}
        # Connections that wait for a call, by the pool that made them. Not in urllib3's queue: an interrupt at the wrong
        # moment leaves its lock taken for ever, and what a deque does cannot be interrupted.
        self._kept: dict[Any, deque[Any]] = {}
        self._standing: weakref.WeakSet[Any] = weakref.WeakSet()  # kept or in use
        self._closed = False
        forks.register(self)
        weakref.finalize(self, _close_kept, self._kept)  # a client may be forgotten in place of closed

    def unlock(self) -> None:
        """For the child of a fork: the parent goes on with its connections. To close one closes no more than our end."""
        for connection in list(self._standing):
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
                self._standing.add(connection)
            _connect(route.pool, connection, limits, guard)
            sock, phase = connection.sock, "first_byte"
            ask = _ask if type(connection).__module__ == _URLLIB3 else _ask_replaced
            incoming, receive = ask(connection, request, route, limits)
            response = Response(incoming, receive, connection, self._keep, route.kept, request.url, limits, guard)
        except Exception as error:
            if connection is not None:
                connection.close()
            failed = translated(error, request.url, phase, limits, guard)
        except BaseException:  # an interrupt, which leaves half a request or half an answer
            if connection is not None:
                connection.close()
            raise
        if failed is not None:
            raise failed  # outside the handler: what the libraries' frames hold, the key among it, stays behind
        with contextlib.suppress(OSError, AttributeError):  # one that vcrpy has put in place has no socket of its own
            sock.settimeout(limits.idle)
        return response

    def close(self) -> None:
        """Close what is kept; what is in use is closed at the end of its call."""
        self._closed = True
        _close_kept(self._kept)
        self._session.close()

    def _keep(self, connection: Any, kept: deque[Any]) -> None:
        if self._closed or len(kept) >= _MOST_KEPT:
            connection.close()
            return
        kept.append(connection)
        if self._closed:  # just now, by another thread, which may have missed it
            self.close()

    def _new_route(self, url: str) -> Route:
        try:
            prepared = requests.Request("POST", url).prepare()
            through = (
                {"all": proxy}
                if (proxy := self._proxy or proxies.of_environment(str(prepared.url), self._environ))
                else {}
            )
            pool: Any = self._adapter.get_connection_with_tls_context(prepared, self._verify, through)
            target = self._adapter.request_url(prepared, through)
        except (requests.RequestException, OSError, ValueError) as error:
            said = re.sub(r"//[^/@\s]*@", "//***@", str(error))
            raise ConfigError(f"{url}: {said}", hint="Check api_url, proxy and ca_file.") from None
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
                shut(connection.sock)  # a child of a fork may have it, too
                connection.close()


def _connect(pool: Any, connection: Any, limits: Limits, guard: Guard | None) -> None:
    """Have a connection that stands, under the guard's eyes."""
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
        if guard.fired:  # while TLS had the socket
            raise TimeoutError


def _open_guarded(pool: Any, connection: Any, guard: Guard) -> None:
    """Dial for urllib3, and keep a second handle on the socket while TLS or a proxy has it: the guard can end that, too."""
    sock = dial(connection._dns_host, connection.port, connection.socket_options, connection.timeout, guard)
    sys.audit("http.client.connect", connection, connection.host, connection.port)  # as urllib3 does
    tls = isinstance(connection, HTTPSConnection)
    if tls:
        sock.settimeout(connection.timeout)
    with sock.dup() if tls else contextlib.nullcontext(sock) as handle:
        connection._new_conn = lambda: sock
        try:
            guard.sock = handle
            _go_on(guard)
            _open(pool, connection)
        except BaseException:
            sock.close()
            raise
        finally:
            guard.sock = None
            del connection._new_conn


def _go_on(guard: Guard) -> None:
    if guard.fired:  # while there was no socket yet
        raise TimeoutError


def _open(pool: Any, connection: Any) -> None:
    if pool.proxy is not None and pool.scheme == "https":
        pool._prepare_proxy(connection)
    else:
        connection.connect()


def _ask(connection: Any, request: HttpRequest, route: Route, limits: Limits) -> tuple[Incoming, Receive]:
    """Send, and read the head."""
    sock = connection.sock
    sock.settimeout(limits.first_byte)
    whole = _sent(sock, head_of_request(request, route.target, route.headers), request.body)
    receive = partial(sock.recv, _BLOCK)
    incoming = _head(receive, limits.first_byte)
    incoming.broken_off = not whole
    return incoming, receive


def _sent(sock: Any, head: bytes, body: bytes) -> bool:
    """Whether all of it went out; a server that refuses a request early may have answered it all the same."""
    try:
        if len(body) <= _SEND_AT_ONCE:
            sock.sendall(head + body)
        else:  # in pieces: the timeout is for all of one sending, and should be for a silence
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


def _head(receive: Receive, patience: float) -> Incoming:
    """Read a head, which may take so many seconds from its first bytes on: what drips in would never be a silence."""
    incoming, until = Incoming(), math.inf
    while not incoming.head(receive()):
        until = min(until, time.monotonic() + patience)
        if time.monotonic() > until:
            raise DrippingError
    return incoming


def _ask_replaced(connection: Any, request: HttpRequest, route: Route, limits: Limits) -> tuple[Incoming, Receive]:
    """The same with a connection that somebody has put in place of urllib3's own, as vcrpy does."""
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
