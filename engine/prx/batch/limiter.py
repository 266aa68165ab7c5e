"""How fast an account may be asked: requests and tokens a minute, and how many calls at once; learned from its answers.

The rate is what the caller or the headers say. Where neither does, or less is granted, it is what was granted in the
last second in which more than a few requests were refused (429), and grows again while none are. The number of
calls at once grows by one for each full round of answers, and is cut where many are refused or fail.
A few refusals among many answers change nothing: a busy server refuses some requests of everybody.
Where all are refused, nothing is sent until the time that the provider names, or for a pause that doubles; then one
request is sent to see.

No event loop is known here, and the clock is handed in: every loop and thread of a process shares these objects.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from typing import Any
from urllib.parse import urlsplit

from prx import forks
from prx.accounts.account import Account
from prx.batch import limits
from prx.core.fault import retry_after
from prx.wire import Head

REFUSED = 429
_TICK = 1.0  # seconds after which the answers of this time are judged together
_TOLERATED = 0.05  # share of refused requests that changes nothing
_FEW = 2  # as many more, of which chance may be the reason
_OVERLOADED = 0.3  # share of failed requests from which on fewer are sent at once
_LESS = 0.7
# By what the rate grows in a second: fast up to near where it was too high, from there on slowly, and faster again the longer
# nothing is refused.
_FAST, _SLOW = 1.25, 0.03
_MOST_QUIET = 8
_NEAR = 0.9
_ENOUGH = 20  # answers that are judged together: of fewer, one by chance would be too many
_SETTLED = 10.0  # seconds after which the rate so far says something
_BURST = 0.2  # seconds whose requests may be sent at once, where none was sent for a while
_IN_A_ROW = 5  # refusals without any success between them, after which all wait
_FIRST_PAUSE, _LONGEST_PAUSE = (
    0.5,
    5.0,
)  # seconds, where the provider names none: longer ones would miss its next minute
_PROBE_SECONDS = 1.0  # after which a second request is sent to see: the first may have been lost
_LONGEST_NAMED = 3600.0  # seconds that a provider may ask all calls to wait
_SLOWEST = 1 / 60  # a second: there is always a next try
_NO_STATE = ("_clock", "_lock")
_START = 8  # calls at once in the beginning

Cost = Mapping[str, float]  # {what is counted: how many of it a call needs}


class Bucket:
    """What may be used of one limit: it fills at `rate` a second, up to `burst` seconds' worth.

    top       the rate that the caller or the headers allow
    too_high  the last rate at which more than a few requests were refused
    """

    def __init__(self, now: float, burst: float = _BURST) -> None:
        self.rate = self.top = self.too_high = math.inf
        self._burst = burst
        self.level, self._at = 0.0, now

    def wait(self, cost: float, now: float) -> float:
        """Seconds until there is enough for this cost; a larger one than ever fits waits for a full bucket."""
        if self.rate == math.inf:
            return 0.0
        most = max(1.0, self.rate * self._burst)
        self.level = min(most, self.level + (now - self._at) * self.rate)
        self._at = now
        return max(0.0, min(cost, most) - self.level) / self.rate

    def take(self, cost: float) -> None:
        if self.rate != math.inf:
            self.level -= cost

    def set_rate(self, rate: float, now: float) -> None:
        if self.rate == math.inf:
            self.level, self._at = 1.0, now
        self.rate = max(_SLOWEST, min(rate, self.top))

    def set_top(self, top: float, now: float) -> None:
        """At most this rate; it begins there, unless less was granted."""
        was, self.top = self.top, top
        if self.rate == was or self.rate > top:
            self.set_rate(top, now)


class Limiter:
    """The limits of one account. clock: seconds, as time.monotonic. burst: seconds whose requests may be sent at once.

    running   requests that are under way
    most      how many there may be
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, burst: float = _BURST) -> None:
        self._clock, self._burst = clock, burst
        self._lock = threading.Lock()
        self._own: dict[str, float] = {}  # limits of the caller, a second
        self.buckets = {"requests": Bucket(clock(), burst)}
        self.running, self.most = 0, float(_START)
        self._doubling = True  # until the first sign of overload
        self._not_before = self._next_probe = 0.0
        self._in_a_row = self._pauses = 0
        self._probing = self._held = False
        self._quiet = 0  # times in a row that the rate has grown
        self._began = clock()
        self._tick, self._good, self._refused, self._failed = self._began, 0, 0, 0
        self._past: deque[tuple[float, int]] = deque()  # (when, how many were granted) of the last minute
        forks.register(self)

    def unlock(self) -> None:
        """In the child of a fork: no request of the parent runs here."""
        self._lock = threading.Lock()
        self.running = 0

    def state(self) -> dict[str, Any]:
        """All that it knows, in values of JSON; for another process to go on with."""
        with self._lock:
            known = {name: value for name, value in vars(self).items() if name not in _NO_STATE}
            return {
                **known,
                "buckets": {name: vars(each) for name, each in self.buckets.items()},
                "_past": [*self._past],
            }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Know what another one knew, whose clock was the same."""
        with self._lock:
            vars(self).update(state)
            self._past = deque((when, count) for when, count in state["_past"])
            self.buckets = {name: Bucket(0.0) for name in state["buckets"]}
            for name, known in state["buckets"].items():
                vars(self.buckets[name]).update(known)

    def allow(self, per_minute: Mapping[str, float | None]) -> None:
        """The caller's own limits, {what is counted: how many a minute}."""
        with self._lock:
            now = self._clock()
            self._own = {counted: count / limits.MINUTE for counted, count in per_minute.items() if count}
            for counted, rate in self._own.items():
                self._bucket(counted, now).set_top(rate, now)

    def enter(self, cost: Cost) -> float:
        """Seconds to wait before a request may begin, infinity for until another ends; 0: it has begun."""
        with self._lock:
            now = self._clock()
            pause = self._pause(now)
            if pause or self._probing:
                return pause or self._begin(cost, now)
            return math.inf if self.running >= int(self.most) else self._begin(cost, now)

    def _pause(self, now: float) -> float:
        """Seconds for which nobody sends anything."""
        until = max(self._not_before, self._next_probe) if self._probing else self._not_before
        return max(0.0, until - now)

    def _begin(self, cost: Cost, now: float) -> float:
        """Let a request begin, if the rates do; otherwise the seconds to wait."""
        longest = max(bucket.wait(cost.get(counted, 0.0), now) for counted, bucket in self.buckets.items())
        if longest > 0:
            self._held = True
            return longest
        self._take(cost)
        self._next_probe = now + _PROBE_SECONDS
        self.running += 1
        return 0.0

    def more(self, cost: Cost) -> None:
        """A further request of a call that has begun."""
        with self._lock:
            self._take(cost)

    def leave(self, cost: Cost, used: Cost | None = None) -> None:
        """A call has ended. used: what it used in truth, where that is known."""
        with self._lock:
            self.running -= 1
            for counted, count in (used or {}).items():
                if counted in self.buckets:
                    self.buckets[counted].take(count - cost.get(counted, 0.0))

    def lease(self, cost: Cost, most: int, among: int) -> tuple[int | None, float]:
        """Requests of this cost that may begin now, at most so many; they have begun. None for as many as one likes.

        among  so many share what there is: each has its part of it
        Also gives the seconds for which nobody sends anything. How many run at once is seen to by those who have them.
        """
        with self._lock:
            now = self._clock()
            pause = self._pause(now)
            if pause:
                return 0, pause
            waits = {counted: bucket.wait(cost.get(counted, 0.0), now) for counted, bucket in self.buckets.items()}
            limited = [counted for counted in waits if self.buckets[counted].rate != math.inf]
            if not limited and not self._probing:
                return None, 0.0
            parts = [self.buckets[counted].level / cost[counted] / among for counted in limited if cost.get(counted)]
            part = 1 if self._probing else max(1, int(min(parts, default=most)))
            count = 0
            while count < min(part, most) and not self._begin(cost, now):
                count += 1
            self.running = 0
            return count, 0.0

    def correct(self, used: Cost) -> None:
        """What calls have used in truth, beyond what was taken for them; less than nothing where it was less."""
        with self._lock:
            for counted, count in used.items():
                if counted in self.buckets:
                    self.buckets[counted].take(count)

    def _take(self, cost: Cost) -> None:
        for counted, bucket in self.buckets.items():
            bucket.take(cost.get(counted, 0.0))

    # -------------------------------------------------------------- what answers say

    def heard(self, head: Head | None) -> None:
        """Take note of an answer; None for a request that got none."""
        with self._lock:
            now = self._clock()
            if head is not None and head.status == REFUSED:
                self._note_refusal(head, now)
            elif head is None or head.status >= 500:
                self._failed += 1
            else:
                self._good += 1
                self._note_success()
            if head is not None:
                self._read(head, now)
            seen = self._good + self._refused + self._failed
            if seen >= _ENOUGH and now - max(self._tick, self._not_before) >= _TICK:
                self._judge(now)

    def _note_success(self) -> None:
        self._in_a_row = self._pauses = 0
        self._probing = False
        if self.running >= self.most - 1:
            self.most += 1.0 if self._doubling else 1 / self.most

    def _note_refusal(self, head: Head, now: float) -> None:
        """Where nothing but refusals comes, all wait."""
        named = retry_after(head)
        if now < self._not_before:  # the answer of a request from before the pause
            self._not_before = max(self._not_before, now + min(named or 0.0, _LONGEST_NAMED))
            return
        self._refused += 1
        self._in_a_row += 1
        if self._in_a_row < _IN_A_ROW and not self._probing:
            return
        if not self._pauses:
            self._judge(now)
        pause = min(_FIRST_PAUSE * 2**self._pauses, _LONGEST_PAUSE) if named is None else named
        self._not_before = self._next_probe = now + min(pause, _LONGEST_NAMED)
        self._in_a_row, self._probing = 0, True
        self._pauses += 1

    def _read(self, head: Head, now: float) -> None:
        for counted, limit in limits.read(head).items():
            rate = limit.per_second
            own = self._own.get(counted, math.inf)
            if rate is not None:
                bucket = self._bucket(counted, now)
                if min(rate, own) != bucket.top:
                    bucket.set_top(min(rate, own), now)
                if limit.remaining == 0:
                    bucket.level = min(bucket.level, 0.0)
            elif limit.remaining == 0 and limit.reset:  # of an hour or a day
                self._not_before = max(self._not_before, now + min(limit.reset, _LONGEST_NAMED))

    def _bucket(self, counted: str, now: float) -> Bucket:
        if counted not in self.buckets:
            self.buckets[counted] = Bucket(now, self._burst)
        return self.buckets[counted]

    def _judge(self, now: float) -> None:
        """Learn from the answers since the last time."""
        seen, bucket = self._good + self._refused + self._failed, self.buckets["requests"]
        took = max(now - max(self._tick, self._not_before), 0.001)
        while self._past and self._past[0][0] < now - limits.MINUTE:
            self._past.popleft()
        self._past.append((now, self._good))
        refused = self._refused > _FEW + seen * _TOLERATED
        if refused:
            self._quiet = 0
        if refused and self._good:
            self._slow_down(bucket, self._good / took, now)
        elif not refused and self._held and bucket.rate < bucket.top:
            near = bucket.too_high * _NEAR
            more = min(_FAST, 1 + _SLOW * 2 ** (self._quiet // 2))
            bucket.set_rate(min(bucket.rate * _FAST, near) if bucket.rate < near else bucket.rate * more, now)
            self._quiet = min(self._quiet + 1, _MOST_QUIET)
        if refused or self._failed > seen * _OVERLOADED:
            self.most, self._doubling = max(1.0, self.most * _LESS), False
        self._tick, self._good, self._refused, self._failed, self._held = now, 0, 0, 0, False

    def _slow_down(self, bucket: Bucket, granted: float, now: float) -> None:
        """Ask at the rate that was granted; where that was only what had been saved up, for a short time, less than before;
        and not less than was granted over the last minute.
        """
        long = sum(count for _, count in self._past) / min(limits.MINUTE, max(_SETTLED, now - self._began))
        bucket.too_high = granted if bucket.rate == math.inf else bucket.rate
        less = bucket.rate * _LESS if bucket.rate != math.inf else granted
        bucket.set_rate(max(min(granted, less) if self._in_a_row >= _IN_A_ROW else granted, long), now)


_limiters: dict[tuple[Hashable, ...], Limiter] = {}
_lock = threading.Lock()


def limiter_of(account: Account, model: str) -> Limiter:
    """The one limiter of this process for an account and a model: providers count each model apart."""
    with _lock:
        return _limiters.setdefault(whose(account, model), Limiter())


def whose(account: Account, model: str) -> tuple[Hashable, ...]:
    """What tells the calls of an account and a model from all others; its keys are in it."""
    parts, route = urlsplit(account.target.base_url), account.route
    # Whose calls they are also shows where the key is got only when a call is made: in its credential, or in where it is got.
    keys = (*account.target.secrets, account.settings.api_key, route and route.api_key)
    return (parts.scheme, parts.netloc, *keys, model)
