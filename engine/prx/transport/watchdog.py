"""Deadlines for every phase of a call: one thread shuts down the sockets of calls whose deadline has passed.

A socket's timeout starts anew with each byte, so headers that come byte by byte never reach it. One timer for each
call is the alternative, at 140 microseconds each; here one thread serves all calls of a client, and runs only while there
are deadlines.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import math
import socket
import threading
import time
from typing import Any

from prx import forks
from prx.errors import ConfigError

NAP = 0.05  # seconds between two looks at a flag; a lock to be woken by may be left taken by a KeyboardInterrupt
_LINGER = 5.0  # seconds that the thread waits for another deadline before it ends
_TIDY_SIZE = 256  # guards in the heap before cancelled ones are removed


class Guard:
    """The deadline of one call.

    connection  has the call's socket in its attribute `sock`
    sock        the socket itself, once it is known: a connection gives up its socket while a body that ends with the
                connection is still being read
    fired       the deadline has passed, or the call was stopped
    stopped     the call was stopped by its caller
    latest      the deadline of the whole call, where this is a part's
    next        the guard of the part after this one
    """

    def __init__(self, at: float = math.inf, latest: float | None = None) -> None:
        self.at = at
        self.latest = at if latest is None else latest
        self.next: Guard | None = None
        self.connection: Any = None
        self.sock: Any = None
        self.fired = False
        self.stopped = False
        self.cancelled = False

    @property
    def remaining(self) -> float:
        """Seconds until the deadline."""
        return self.at - time.monotonic()

    def fire(self) -> None:
        """End the call: whatever waits for its socket fails."""
        self.fired = True
        shut(self.sock or getattr(self.connection, "sock", None))

    def stop(self) -> None:
        """End the call for its caller, in any phase."""
        self.stopped = True
        self.fire()
        if self.next is not None:
            self.next.stop()

    def wait(self, seconds: float) -> bool:
        """Sleep; False where the deadline comes first, or the call is stopped."""
        if seconds >= self.remaining:
            return False
        until = time.monotonic() + seconds
        while not self.stopped and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, NAP))
        return not self.stopped


def shut(sock: Any) -> None:
    """Shut a connected socket down for all readers and writers, also those in other processes after a fork."""
    sock = getattr(sock, "socket", sock)  # TLS inside TLS, through an https proxy: the socket is in an attribute
    if isinstance(sock, socket.socket):
        with contextlib.suppress(OSError):
            # Not SSLSocket.shutdown: it would replace the TLS state that another thread is reading with.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)


class Watchdog:
    """Guards for the calls of one client, and the thread that fires them."""

    def __init__(self) -> None:
        # `with` takes the lock itself: that of a Condition is Python code, in which an interrupt may leave the lock taken.
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._order = itertools.count()  # for guards with the same deadline: they cannot be compared
        self._guards: list[
            tuple[float, int, Guard]
        ] = []  # a heap; cancelled ones stay until their time, or until _tidy
        self._tidy_at = _TIDY_SIZE
        self._wakes_at = 0.0
        self._running = False
        self._open: set[Guard] = set()  # of the calls that run
        forks.register(self)

    def unlock(self) -> None:
        """In the child of a fork, where the thread does not exist: begin anew, without guards."""
        for guard in self._open:  # to shut down one of their sockets would end the parent's call
            guard.connection = guard.sock = None
        self.__init__()  # type: ignore[misc]

    def guard(self, seconds: float) -> Guard:
        """A guard that fires after so many seconds, unless it is cancelled before."""
        return self._opened(Guard(time.monotonic() + seconds))

    def unwatched(self) -> Guard:
        """A guard without a deadline, which can still be stopped."""
        return self._opened(Guard())

    def part_of(self, call: Guard, seconds: float | None) -> Guard:
        """The guard of a call's next part, in place of the present one: for so many seconds, or those that are left of the whole call."""
        at = call.latest if seconds is None else min(call.latest, time.monotonic() + seconds)
        part = self._opened(Guard(at, call.latest))
        call.next = part  # before the look at `stopped`: another thread may stop the call now
        if call.stopped:
            part.stop()
        self.cancel(call)
        return part

    def _opened(self, guard: Guard) -> Guard:
        if guard.at < math.inf:
            self._watch_over(guard)
        self._open.add(guard)
        return guard

    def _watch_over(self, guard: Guard) -> None:
        with self._lock:
            if len(self._guards) >= self._tidy_at:
                self._tidy()
            heapq.heappush(self._guards, (guard.at, next(self._order), guard))
            if not self._running:
                self._start()
            elif guard.at < self._wakes_at:  # only if needed: to wake a thread costs more than the rest of this method
                self._wake.notify()

    def stop_all(self) -> None:
        """Stop every call that runs."""
        for guard in list(self._open):
            guard.stop()

    def _start(self) -> None:
        try:
            threading.Thread(target=self._watch, name="prx-watchdog", daemon=True).start()
        except RuntimeError as error:
            raise ConfigError(f"no thread can be started to watch the deadline: {error}") from None
        self._running = True

    def cancel(self, guard: Guard) -> None:
        """The call has ended: its guard must not fire any more."""
        guard.cancelled = True
        self._open.discard(guard)
        guard.connection = guard.sock = None

    def _tidy(self) -> None:
        self._guards = [(at, order, guard) for at, order, guard in self._guards if not guard.cancelled]
        heapq.heapify(self._guards)
        self._tidy_at = max(_TIDY_SIZE, 2 * len(self._guards))

    def _watch(self) -> None:
        while True:
            with self._lock:
                due = self._due()
                if not due and not self._sleep():
                    self._running = False
                    return
            for guard in due:
                guard.fire()

    def _due(self) -> list[Guard]:
        """The guards whose deadline has passed, removed from the heap."""
        due: list[Guard] = []
        while self._guards:
            at, _, guard = self._guards[0]
            if at > time.monotonic() and not guard.cancelled:
                break
            heapq.heappop(self._guards)
            due += [] if guard.cancelled else [guard]
        return due

    def _sleep(self) -> bool:
        """Wait for the next deadline, or for an earlier one to be added. False after _LINGER seconds without any."""
        seconds = _LINGER
        if self._guards:
            at, *_ = self._guards[0]
            seconds = at - time.monotonic()
        self._wakes_at = time.monotonic() + seconds
        woken = self._wake.wait(min(threading.TIMEOUT_MAX, max(0.0, seconds)))
        return woken or bool(self._guards)
