"""The asynchronous transport: HTTP/1.1 on asyncio, with the blocking transport's reader and its own connection pool.

A connection serves one call at a time. No thread is started here; asyncio itself resolves host names in threads of its
executor. Nothing that ends a call awaits: a cancelled task cannot wait any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import select
import ssl
import time
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from urllib3.util.wait import wait_for_read

from prx import forks
from prx.errors import Error
from prx.record import Record
from prx.spec.files import stamp
from prx.spec.model import Limits
from prx.transport import certificates
from prx.transport.addresses import dial
from prx.transport.answer import DRAIN_SECONDS, Answer
from prx.transport.failures import Phase, translated, unreachable_proxy
from prx.transport.http11 import DrippingError, Incoming, head_of
from prx.transport.origin import Origin, Proxy, origin_of, proxy_of, remembered
from prx.transport.outgoing import check_sendable, head_of_request
from prx.wire import HttpRequest

_BLOCK = 65536
_MOST_UNREAD = 4 * _BLOCK  # unread bytes of a connection; with more, reading from the socket is paused
_MOST_KEPT = 256  # connections of one origin
_IDLE_SECONDS = 60.0  # how long an unused connection is kept; servers close theirs after 5 to 350
_LATER = (
    1.0  # seconds that asyncio's own limit for the beginning of TLS, 60 s as a rule, comes after that of connecting
)
_SWEEP_SECONDS = 0.1  # the shortest time between two looks at them


class Deadline:
    """The deadline of one call.

    at      in the time of time.monotonic(), or infinity; of the call's present part, where it has parts with deadlines of their own
    end     ends the call's present wait; None while it does not wait
    fired   the deadline has passed, or the call was stopped
    stopped the call was stopped by its caller
    """

    def __init__(self, seconds: float | None) -> None:
        self.at = self._latest = math.inf if seconds is None else time.monotonic() + seconds
        self.fired = self.stopped = False
        self.end: Callable[[], object] | None = None

    @property
    def remaining(self) -> float:
        """Seconds until the deadline."""
        return self.at - time.monotonic()

    def due(self, seconds: float) -> float:
        """The time so many seconds from now, but not after the deadline."""
        return min(time.monotonic() + seconds, self.at)

    def begin_part(self, seconds: float | None) -> None:
        """Begin a part of the call that has so many seconds, or those that are left of the whole call."""
        self.at = self._latest if seconds is None else min(self._latest, time.monotonic() + seconds)
        self.fired = self.stopped

    def stop(self) -> None:
        """End the call, in any phase; its task gets an Error."""
        self.fired = self.stopped = True
        if self.end is not None:
            self.end()

    async def within(self, seconds: float, work: Callable[[], Awaitable[Any]]) -> Any:
        """Await what `work` gives for at most so many seconds, and not after the deadline. Raises TimeoutError."""
        self.check()
        async with asyncio.timeout(max(0.0, min(seconds, self.remaining))) as scope:
            self.end = functools.partial(_end_now, scope)
            try:
                return await work()
            finally:
                self.end = None

    async def wait(self, seconds: float) -> bool:
        """Sleep; False where the deadline comes first, or the call is stopped."""
        if seconds >= self.remaining or self.stopped:
            return False
        try:
            await self.within(math.inf, functools.partial(asyncio.sleep, seconds))
        except TimeoutError:
            return False
        return True

    def check(self) -> None:
        """Raises TimeoutError where the deadline has passed or the call was stopped."""
        if self.fired or self.remaining <= 0:
            self.fired = True
            raise TimeoutError


class _Lost(asyncio.Transport):
    """In place of the transport of a connection that is lost. One of TLS and its protocol hold each other, with 256 KB of buffer: until the
    garbage collector comes, if the connection holds it, too.
    """

    def is_closing(self) -> bool:
        return True

    def write(self, data: object) -> None:
        pass

    def _nothing(self) -> None:
        pass

    abort = close = pause_reading = resume_reading = _nothing


_LOST = _Lost()


class Connection(asyncio.BufferedProtocol):
    """One connection: its unread bytes, and the one task that waits for more.

    buffer    asyncio reads into it, and the bytes are copied from it at once, so that all connections of a client share it.
              For a protocol without a buffer asyncio allocates 256 KB at each read
    on_lost   called when the server closes an idle connection
    at_once   gets bytes as they come while a task waits for them, and gives whether it has used them: the task is not woken
              for those. `patience` seconds after them the wait ends, or at `latest`. What comes after bytes that it has
              not used is not for it: those may have ended within a piece
    """

    transport: asyncio.Transport

    def __init__(self, loop: asyncio.AbstractEventLoop, buffer: memoryview) -> None:
        self._loop, self._buffer = loop, buffer
        self._made_in = forks.generation
        self._data = b""
        self._ended = self._reading_paused = self._writing_paused = False
        self._failed: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._due = self._timer_due = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self.on_lost: Callable[[Connection], None] | None = None
        self.at_once: Callable[[bytes], bool] | None = None
        self.patience = self.latest = math.inf
        self.kept_at = 0.0

    # -------------------------------------------------------------- called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._has_come = _looking_at(transport.get_extra_info("socket"))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        waiter, at_once = self._waiter, self.at_once
        if at_once is not None and waiter is not None and not waiter.done():
            if at_once(bytes(self._buffer[:nbytes])):
                # No earlier than before, so that its timer stays.
                self._due = min(time.monotonic() + self.patience, self.latest)
                return
            self.at_once = None
        self._data += self._buffer[:nbytes]
        if len(self._data) > _MOST_UNREAD and not self._reading_paused:
            self._reading_paused = True
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        self._ended = True
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        self._ended, self._failed, self.transport = True, error, _LOST
        self._cancel_timer()
        self._wake()
        if self.on_lost is not None:
            self.on_lost(self)

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._wake()

    # -------------------------------------------------------------- used by a call

    @property
    def idle(self) -> bool:
        """Whether it is open, and has no unread bytes."""
        return not (self._ended or self._data or self.transport.is_closing())

    @property
    def usable(self) -> bool:
        """As `idle`, and the socket has nothing to read: the server may have closed it since the loop last looked."""
        return self.idle and not self._has_come()

    async def receive(self, due: float) -> bytes:
        """The unread bytes, waited for until `due`; b"" at the connection's end. Raises TimeoutError or OSError."""
        while not self._data:
            if self._failed is not None:
                raise self._failed
            if self._ended:
                return b""
            await self._waiting(due)
        data, self._data = self._data, b""
        if self._reading_paused:
            self._reading_paused = False
            self.transport.resume_reading()
        return data

    async def send(self, head: bytes, body: bytes, patience: float, deadline: Deadline) -> bool:
        """Send a request; False where the server stopped reading it. A server that refuses a request early may have sent an
        answer all the same.
        """
        if len(body) <= _BLOCK:
            # Requests that are ready at the same moment go out one after the other: a server on this machine is woken once for
            # all of them, and not for each.
            self._loop.call_soon(self._write, head + body)
            return True
        self.transport.write(head + body[:_BLOCK])
        for start in range(_BLOCK, len(body), _BLOCK):
            while self._writing_paused and not (self._data or self._ended):
                await self._waiting(deadline.due(patience))
            if self._data or self._ended:
                return False
            self.transport.write(body[start : start + _BLOCK])
        return True

    def _write(self, data: bytes) -> None:
        # The server may have closed it meanwhile: to write then is a fault of the caller's for uvloop's transport.
        if not self.transport.is_closing():
            self.transport.write(data)

    def abort(self) -> None:
        """Close at once, without sending what is left; a task that waits for bytes gets the end."""
        # Parent and child of a fork share the list of sockets that the loop waits for: the child would take this one off it.
        if self._made_in != forks.generation or self._loop.is_closed():
            return
        self._cancel_timer()
        self.transport.abort()

    # -------------------------------------------------------------- waiting

    def _waiting(self, due: float) -> asyncio.Future[None]:
        """An awaitable that ends when anything happens on the connection, or at `due`."""
        self._due = due
        # One timer serves many waits and is only replaced by an earlier one: most waits end long before it.
        if due < self._timer_due:
            self._cancel_timer()
            self._set_timer(due)
        self._waiter = self._loop.create_future()
        return self._waiter

    def _set_timer(self, due: float) -> None:
        self._timer_due = due
        self._timer = self._loop.call_at(self._at(due), self._expire)

    def _at(self, due: float) -> float:
        """A time of time.monotonic() in the time of the loop, whose clock may be another one."""
        return self._loop.time() + (due - time.monotonic())

    def _expire(self) -> None:
        self._timer, self._timer_due = None, math.inf
        if self._waiter is None or self._waiter.done():
            return
        if time.monotonic() < self._due:
            self._set_timer(self._due)
        else:
            self._waiter.set_exception(TimeoutError())

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._timer_due = None, math.inf

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Route(Record):
    """How a URL is reached: origin, request target, headers (Host, a proxy's own), proxy, idle connections."""

    origin: Origin
    target: str
    headers: Mapping[str, str]
    proxy: Proxy | None
    kept: deque[Connection]


class AsyncHttp:
    """A connection pool for all accounts with these settings, on one event loop.

    proxy     URL of a proxy, or "" for those of `environ` (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY)
    ca_file   PEM file of certificate authorities to trust in place of the usual ones
    cert      PEM files of the certificate that is shown to servers, and of its key where it has a file of its own
    """

    def __init__(
        self, proxy: str = "", ca_file: str = "", environ: Mapping[str, str] | None = None, cert: tuple[str, ...] = ()
    ) -> None:
        self._proxy, self._environ, self._ca_file, self._cert = proxy, environ or {}, ca_file, cert
        self._showing: tuple[Any, ssl.SSLContext] | None = None  # with the stamps of the certificate's files
        self._loop = asyncio.get_running_loop()
        self._buffer = memoryview(bytearray(_BLOCK))
        self._routes: dict[str, Route] = {}
        self._kept: dict[Any, deque[Connection]] = {}
        self._sweeping = self._closed = False
        weakref.finalize(self, _close_kept, self._kept, self._loop)  # for a client that is never closed

    async def send(self, request: HttpRequest, limits: Limits, deadline: Deadline) -> AsyncResponse:
        """Send a request and read the head of its response. Raises Error."""
        check_sendable(request)
        route = remembered(self._routes, request.url, self._new_route)
        phase: Phase = "connect"
        connection: Connection | None = None
        failed: Error | None = None
        try:
            head = head_of_request(request, route.target, route.headers)
            connection = self._take(route) or await self._connect(route, limits, deadline)
            deadline.end, phase = connection.abort, "first_byte"
            deadline.check()
            whole = await connection.send(head, request.body, limits.first_byte, deadline)
            incoming = await _head(connection, limits.first_byte, deadline)
            incoming.broken_off = not whole
        except BaseException as error:
            if connection is not None:
                connection.abort()
            if not isinstance(error, Exception):  # the task was cancelled
                raise
            failed = translated(error, request.url, phase, limits, deadline)
        if failed is not None:
            raise failed  # outside the handler, so that its traceback has no frames of libraries, which hold the key
        assert connection is not None
        return AsyncResponse(incoming, connection, self._keep, route.kept, request.url, limits, deadline)

    def close(self) -> None:
        """Close the idle connections; those in use are closed at the end of their calls."""
        self._closed = True
        for kept in self._kept.values():
            while kept:
                kept.pop().abort()

    # -------------------------------------------------------------- connections

    def _take(self, route: Route) -> Connection | None:
        """An idle connection that is still open, or None."""
        while route.kept:
            connection = route.kept.pop()
            connection.on_lost = None
            if connection.usable:
                return connection
            connection.abort()
        return None

    def _keep(self, connection: Connection, kept: deque[Connection]) -> None:
        if self._closed or len(kept) >= _MOST_KEPT or not connection.idle:
            connection.abort()
            return
        connection.kept_at = time.monotonic()
        connection.on_lost = functools.partial(_forget, kept)
        kept.append(connection)
        if not self._sweeping:
            self._sweeping = True
            self._loop.call_later(_IDLE_SECONDS, _sweep, weakref.ref(self))

    def sweep(self) -> None:
        """Close connections that have been idle for _IDLE_SECONDS."""
        oldest = time.monotonic() - _IDLE_SECONDS
        for kept in self._kept.values():
            while kept and kept[0].kept_at <= oldest:
                connection = kept.popleft()
                connection.on_lost = None
                connection.abort()
        longest = min((kept[0].kept_at for kept in self._kept.values() if kept), default=None)
        self._sweeping = longest is not None
        if longest is not None:
            self._loop.call_later(max(_SWEEP_SECONDS, longest - oldest), _sweep, weakref.ref(self))

    async def _connect(self, route: Route, limits: Limits, deadline: Deadline) -> Connection:
        connection = Connection(self._loop, self._buffer)
        try:
            await deadline.within(
                limits.connect, functools.partial(self._open, connection, route, limits.connect + _LATER)
            )
        except BaseException:
            if hasattr(connection, "transport"):
                connection.abort()
            raise
        return connection

    async def _open(self, connection: Connection, route: Route, tls_limit: float) -> None:
        """Connect, through the proxy if there is one, and start TLS for https."""
        first: Origin | Proxy = route.proxy or route.origin
        try:
            await self._reach(connection, first, tls_limit)
        except OSError as error:
            if route.proxy is None:
                raise
            place = f"{first.scheme}://{first.bracketed}:{first.port}"
            raise unreachable_proxy(place, error.with_traceback(None)) from None
        if route.proxy is not None and route.origin.scheme == "https":
            await _tunnel(connection, route.origin, route.proxy)
            upgraded = await self._loop.start_tls(
                connection.transport,
                connection,
                self._tls_for(route.origin),
                server_hostname=route.origin.host,
                ssl_handshake_timeout=tls_limit,
            )
            assert upgraded is not None
            connection.connection_made(upgraded)

    async def _reach(self, connection: Connection, server: Origin | Proxy, tls_limit: float) -> None:
        more: dict[str, Any] = {}
        if server.scheme == "https":
            more = {"ssl": self._tls_for(server), "server_hostname": server.host, "ssl_handshake_timeout": tls_limit}
        if server.is_address:
            await self._loop.create_connection(lambda: connection, server.host, server.port, **more)
        else:
            sock = await dial(self._loop, server.host, server.port)
            await self._loop.create_connection(lambda: connection, sock=sock, **more)

    def _tls_for(self, server: Origin | Proxy) -> ssl.SSLContext:
        """What a connection speaks TLS with: with the certificate as its files are now. A proxy is not shown any."""
        if not self._cert or isinstance(server, Proxy):
            return self._tls
        stamps = [stamp(Path(path)) for path in self._cert]
        if self._showing is None or self._showing[0] != stamps:
            context = self._new_tls()
            certificates.load(context, self._cert)
            self._showing = stamps, context
        return self._showing[1]

    @functools.cached_property
    def _tls(self) -> ssl.SSLContext:
        return self._new_tls()

    def _new_tls(self) -> ssl.SSLContext:
        # requests trusts certifi's authorities, too: so both clients trust the same servers.
        import certifi

        context = ssl.create_default_context(cafile=self._ca_file or certifi.where())
        context.set_alpn_protocols(["http/1.1"])
        return context

    def _new_route(self, url: str) -> Route:
        origin, target = origin_of(url)
        proxy = proxy_of(url, self._proxy, self._environ)
        headers = {"host": origin.header}
        if proxy is not None and origin.scheme == "http":
            target, headers = f"http://{origin.header}{target}", headers | proxy.headers
        kept = self._kept.setdefault((origin, proxy), deque())
        return Route(origin, target, headers, proxy, kept)


class AsyncResponse(Answer):
    """A response on a connection. `read` gives bytes of the body as they arrive, b"" at its end."""

    def __init__(
        self,
        incoming: Incoming,
        connection: Connection,
        keep: Callable[[Connection, deque[Connection]], None],
        kept: deque[Connection],
        url: str,
        limits: Limits,
        deadline: Deadline,
    ) -> None:
        super().__init__(incoming, url, limits)
        self._connection: Connection | None = connection
        self._keep, self._kept = keep, kept
        self._deadline = deadline

    def at_once(self, use: Callable[[list[bytes]], bool] | None) -> None:
        """While a task waits in `read`, give what comes to `use`, as the pieces in which the server has sent it, if all of them are
        whole. It gives whether it has used them; others are given to `read`. None: to nobody.
        """
        connection, pieces = self._connection, self._body.pieces() if use is not None else None
        if connection is not None:
            connection.at_once = None
        if connection is None or use is None or pieces is None or self._inflate is not None or self._early:
            return
        connection.at_once = lambda data: bool((whole := pieces(data)) and use(whole))
        connection.patience, connection.latest = self._limits.idle, self._deadline.at

    async def read(self) -> bytes:
        """The next bytes of the body. Raises Error."""
        failed: Exception | None = None
        try:
            piece = self.ready()
            while piece is None:
                if self.overdue:
                    return b""
                piece = self.take(await self._receive())
        except Exception as error:
            failed = error
        if failed is not None:
            raise translated(failed, self._url, "idle", self._limits, self._deadline)
        return piece or b""

    def _receive(self) -> Awaitable[bytes]:
        self.check_process()
        self._deadline.check()
        assert self._connection is not None
        return self._connection.receive(self._deadline.due(self._limits.idle))

    def abort(self) -> None:
        """Close the connection at once, which stops the provider. Does nothing after `finish`."""
        self.at_once(None)
        connection, self._connection = self._connection, None
        self._deadline.end = None
        if connection is not None and self._made_in == forks.generation:
            connection.abort()

    async def finish(self) -> None:
        """Keep the connection if it has no more bytes of this response; otherwise close it.

        The end of the body comes with the last event or just after it; it is waited for DRAIN_SECONDS.
        """
        connection = self._connection
        if connection is None:
            return
        try:
            if not self._body.ended:
                await self._drain(connection)
            used_up = self._body.ended and self._incoming.reusable and not self._deadline.fired
        except Exception:  # the answer itself is complete: the only consequence is that the connection is closed
            used_up = False
        except BaseException:
            self.abort()
            raise
        self._deadline.end = None
        if used_up and self._made_in == forks.generation:
            self._connection = None
            self._keep(connection, self._kept)
        else:
            self.abort()

    async def _drain(self, connection: Connection) -> None:
        until = time.monotonic() + DRAIN_SECONDS
        early, self._early = self._early, b""
        piece = early and self._body.feed(early)
        while not piece and not self._body.ended:
            piece = self._body.feed(await connection.receive(until))


async def _head(connection: Connection, patience: float, deadline: Deadline) -> Incoming:
    """Read a head, for at most `patience` seconds after its first bytes: the limit of a silence starts anew at each byte.
    Raises DrippingError.
    """
    incoming, until = Incoming(), math.inf
    while not incoming.head(await connection.receive(deadline.due(patience))):
        until = min(until, time.monotonic() + patience)
        if time.monotonic() > until:
            raise DrippingError
    return incoming


async def _tunnel(connection: Connection, origin: Origin, proxy: Proxy) -> None:
    """Open a tunnel through a proxy to an origin. Its time counts as part of connecting."""
    place = f"{origin.bracketed}:{origin.port}"
    connection.transport.write(head_of("CONNECT", place, {"host": place, **proxy.headers}))
    incoming = Incoming()
    while not incoming.head(await connection.receive(math.inf)):
        pass
    if not 200 <= incoming.status < 300:
        raise OSError(f"the proxy answered {incoming.status} to CONNECT")
    if incoming.early:
        raise OSError("the proxy sent more than its answer")


def _end_now(scope: asyncio.Timeout) -> None:
    """Let a timeout pass now; one that has passed already cannot be changed."""
    if not scope.expired():
        scope.reschedule(0.0)


def _looking_at(sock: Any) -> Callable[[], bool]:
    """A function that tells whether a socket has unread bytes or its end; made once for each connection, which is faster."""
    if sock is None:
        return lambda: False
    if not hasattr(select, "poll"):
        return functools.partial(wait_for_read, sock, 0)
    look = select.poll()
    look.register(sock, select.POLLIN)
    return lambda: bool(look.poll(0))


def _forget(kept: deque[Connection], connection: Connection) -> None:
    with contextlib.suppress(ValueError):
        kept.remove(connection)


def _sweep(http: weakref.ref[AsyncHttp]) -> None:
    if (there := http()) is not None:
        there.sweep()


def _close_kept(by_origin: Mapping[Any, deque[Connection]], loop: asyncio.AbstractEventLoop) -> None:
    """Close the idle connections of a client that was never closed. The garbage collector may run this in any thread."""
    for kept in by_origin.values():
        while kept and not loop.is_closed():
            loop.call_soon_threadsafe(kept.pop().abort)
