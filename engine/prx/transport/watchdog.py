"""Deadlines that hold in every phase: one thread shuts down the sockets whose time is over.

A socket's timeout counts from byte to byte, so headers that drip in never trip it. A timer a call would
do, at 140 microseconds each; one thread serves all calls of a client and is there only while one needs it.
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

NAP = 0.05  # seconds until a sleeper looks whether it is still wanted: to be woken takes a lock that an interrupt may leave
_LINGER = 5.0  # seconds that the thread waits for another deadline
_CROWD = 256  # guards, before those cancelled are looked for


class Guard:
    """One deadline. Set `connection` to whatever has the socket in its attribute `sock`, and `sock` once it is
    known: a connection lets go of its socket while a body that ends with it is still being read.
    """

    def __init__(self, at: float = math.inf) -> None:
        self.at = at
        self.connection: Any = None
        self.sock: Any = None
        self.fired = False
        self.stopped = False  # by the caller, not by the time
        self.cancelled = False

    @property
    def remaining(self) -> float:
        return self.at - time.monotonic()

    def fire(self) -> None:
        self.fired = True
        shut(self.sock or getattr(self.connection, "sock", None))

    def stop(self) -> None:
        """End the call, in whatever phase it is: no further connection is made, and a wait on this one is over."""
        self.stopped = True
        self.fire()

    def wait(self, seconds: float) -> bool:
        """Sleep; False where the deadline comes first, or somebody stops the call."""
        if seconds >= self.remaining:
            return False
        until = time.monotonic() + seconds
        while not self.stopped and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, NAP))
        return not self.stopped


def shut(sock: Any) -> None:
    """End what anybody reads or writes on a socket, also in a process that has it from a fork."""
    sock = getattr(sock, "socket", sock)  # TLS within a proxy's TLS wraps the socket
    if isinstance(sock, socket.socket):
        with contextlib.suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)  # not SSLSocket's own: it would unwrap under the reader


class Watchdog:
    def __init__(self) -> None:
        # Taken by itself, not through the condition, whose own `with` can be interrupted between taking it and noting so.
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._order = itertools.count()
        self._guards: list[tuple[float, int, Guard]] = []  # a heap; those cancelled stay until their time or a tidying
        self._tidy_at = _CROWD
        self._wakes_at = 0.0
        self._running = False
        self._open: set[Guard] = set()  # of the calls that run
        forks.register(self)

    def unlock(self) -> None:
        """For the child of a fork, which takes no thread along: there is nothing to watch yet."""
        for guard in self._open:  # its sockets are the parent's: to shut one down would end the parent's call
            guard.connection = guard.sock = None
        self.__init__()  # type: ignore[misc]

    def guard(self, seconds: float) -> Guard:
        """A guard that fires in so many seconds, unless cancelled."""
        guard = Guard(time.monotonic() + seconds)
        with self._lock:
            if len(self._guards) >= self._tidy_at:
                self._tidy()
            heapq.heappush(self._guards, (guard.at, next(self._order), guard))
            if not self._running:
                self._start()
            elif guard.at < self._wakes_at:  # to wake a thread costs more than the rest of this
                self._wake.notify()
        self._open.add(guard)
        return guard

    def unwatched(self) -> Guard:
        """A guard without a deadline, by which a call can be stopped all the same."""
        guard = Guard()
        self._open.add(guard)
        return guard

    def stop_all(self) -> None:
        """End every call that runs."""
        for guard in list(self._open):
            guard.stop()

    def _start(self) -> None:
        try:
            threading.Thread(target=self._watch, name="prx-watchdog", daemon=True).start()
        except RuntimeError as error:
            raise ConfigError(f"no thread can be started to watch the deadline: {error}") from None
        self._running = True

    def cancel(self, guard: Guard) -> None:
        guard.cancelled = True
        self._open.discard(guard)
        guard.connection = guard.sock = None

    def _tidy(self) -> None:
        self._guards = [row for row in self._guards if not row[2].cancelled]
        heapq.heapify(self._guards)
        self._tidy_at = max(_CROWD, 2 * len(self._guards))

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
        """Guards whose time is over."""
        due: list[Guard] = []
        while self._guards and (self._guards[0][0] <= time.monotonic() or self._guards[0][2].cancelled):
            guard = heapq.heappop(self._guards)[2]
            due += [] if guard.cancelled else [guard]
        return due

    def _sleep(self) -> bool:
        """Until the next guard's time, or until an earlier one comes. False where none has come for long."""
        seconds = self._guards[0][0] - time.monotonic() if self._guards else _LINGER
        self._wakes_at = time.monotonic() + seconds
        woken = self._wake.wait(min(threading.TIMEOUT_MAX, max(0.0, seconds)))
        return woken or bool(self._guards)
