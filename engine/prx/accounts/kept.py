"""A secret that is got when a call needs it: kept until shortly before its end, and got once for all calls that wait for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

from prx.core.exchange import Ask, Flow, Once
from prx.errors import Error

T = TypeVar("T")
_REST = 5.0  # seconds in which it is not got again, after it could not be, or where a new one was refused
_SET_BACK = 60.0  # seconds: a call that waits may be older than what it gets, but not by so much


class Held(NamedTuple, Generic[T]):
    """got: when; until: when it ends; early: from when another one is got. In seconds since 1970."""

    value: T
    got: float
    early: float
    until: float

    def before(self, end: float, now: float) -> bool:
        """Whether it is before an end; not where the clock was set back, so that nobody knows its age."""
        return self.got - _SET_BACK < now < end


class Kept(Generic[T]):
    """get: from the time, the flow that gives a Held. Raises Error, which is that of all calls in the seconds after it."""

    def __init__(self, get: Callable[[float], Flow]) -> None:
        self._get = get
        self.held: Held[T] | None = None
        self._failed: tuple[float, Error] | None = None  # until when the error counts

    def obtain(self, now: float) -> Generator[Ask, Any, T]:
        """The flow that gives the value: one that still holds where no other can be got. Raises Error."""
        held = self.held
        if held is not None and held.before(held.early, now):
            return held.value
        holds = held is not None and held.before(held.until, now)
        if self._failed is None or now >= self._failed[0]:
            try:
                got: T = yield Once(self, partial(self._renew, now))
            except Error as error:
                if held is not None and holds:
                    return held.value
                raise error.anew() from None
            return got
        if held is not None and holds:
            return held.value
        raise self._failed[1].anew()

    def _renew(self, now: float) -> Flow:
        if self.held is not None and self.held.before(self.held.early, now):
            return self.held.value  # another call has got it since this one looked
        begun = time.monotonic()
        try:
            self.held = yield from self._get(now)
        except Error as error:
            rest = error.retry_after or (0.0 if error.retryable else _REST)
            if rest:
                self._failed = now + time.monotonic() - begun + rest, error.anew()
            raise
        self._failed = None
        return self.held.value

    def refused(self, now: float, *, held: bool) -> bool:
        """A value was refused. held: it is the one that is held. Gives whether another one may be better: one that is got
        anew, or that another call has got meanwhile. A new one that is refused was no better.
        """
        if self.held is None or not held:
            return True
        if self.held.before(self.held.got + _REST, now):
            return False
        self.held = None
        return True
