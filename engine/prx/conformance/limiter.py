"""Holds the requests of one account back: where a provider asks one call to wait, all calls of that account wait.

An account is known by the origin of its base URL: two files for the same host share what the host allows.
"""

from __future__ import annotations

import threading
import time
from urllib.parse import urlsplit

from prx.calls import closed_early
from prx.core.fault import retry_after
from prx.wire import Head

_TOO_MANY = 429
_FIRST_PAUSE = 0.5  # seconds after a 429 that names no time; twice as long after each further one
LONGEST_PAUSE = (
    60.0  # a call that would have to wait longer fails; to hold all others back would only delay the same answer
)


class Limiter:
    """The requests of one account. per_minute: how many may begin in a minute, evenly spread; 0 for any number."""

    def __init__(self, per_minute: int = 0) -> None:
        self._gap = 60 / per_minute if per_minute else 0.0
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._next = 0.0  # no request before this time of the monotonic clock
        self._refused = 0  # how many in a row

    def wait(self) -> None:
        """Wait until a request may begin. Raises Error where the run has been stopped."""
        while (seconds := self.turn()) > 0:
            self._stopped.wait(seconds)
        if self._stopped.is_set():
            raise closed_early()

    def heard(self, head: Head) -> None:
        """Take note of a response: after a 429 or a Retry-After no request begins before the time that it names."""
        self.told(head.status, retry_after(head) if head.status >= 400 else None)

    def told(self, status: int, named: float | None) -> None:
        """As `heard`, of a response with this status, which names so many seconds or none."""
        with self._lock:
            self._refused = self._refused + 1 if status == _TOO_MANY else 0
            pause = _FIRST_PAUSE * 2 ** (self._refused - 1) if self._refused else 0.0
            seconds = pause if named is None else named
            if seconds <= LONGEST_PAUSE:
                self._next = max(self._next, time.monotonic() + seconds)

    def waits(self) -> bool:
        """Whether a request that begins now would have to wait."""
        return time.monotonic() < self._next

    def stop(self) -> None:
        """End all waits: no further request begins."""
        self._stopped.set()

    def turn(self) -> float:
        """Seconds until a request may begin; 0 if it may begin now, and then the next one's turn is later."""
        with self._lock:
            now = time.monotonic()
            if self._stopped.is_set() or now < self._next:
                return 0.0 if self._stopped.is_set() else self._next - now
            self._next = now + self._gap
            return 0.0


class Limiters:
    """One limiter for each account."""

    def __init__(self, per_minute: int = 0) -> None:
        self._per_minute = per_minute
        self._lock = threading.Lock()
        self._limiters: dict[str, Limiter] = {}

    def of(self, url: str) -> Limiter:
        """The limiter of the account with this base URL."""
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        with self._lock:
            if origin not in self._limiters:
                self._limiters[origin] = self._made(origin)
            return self._limiters[origin]

    def _made(self, origin: str) -> Limiter:
        return Limiter(self._per_minute)

    def stop(self) -> None:
        """Stop all of them."""
        for limiter in list(self._limiters.values()):
            limiter.stop()
