"""Limits of accounts that several processes share: one holds them, and the others have requests of it, a few at a time.

    Holder      has one Limiter for each account and model; it learns from the answers that all processes tell it of
    Leased      the limiter of one process: how many calls run at once is its own affair, how fast they come is the holder's
    Exchange    tells the holder and asks it, some times a second, for all limiters of a process at once

A process that dies takes with it what it had and has not used: about what is sent from one exchange to the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from prx.accounts.account import Account
from prx.batch.limiter import REFUSED, Cost, Limiter, whose
from prx.batch.limits import said_by
from prx.errors import ConfigError
from prx.secret import Secret
from prx.wire import Head

_ROUND = 0.1  # seconds between two exchanges of a process, at least
_ASKED = 0.004  # seconds between two exchanges of all processes: with many of them, each has its turn less often
_SOONEST = 0.02  # where a limiter needs something at once
_BURST = 0.2  # seconds whose requests a holder gives at once
SEEN = 2.0  # seconds after which a process that asks for nothing has no part any more
ALIVE = 60.0  # seconds after which a program that asks for no figures is taken to be gone
_FIRST, _MOST = 8, 4096  # requests that a limiter has at once: in the beginning, and at most
_TRIES = 5  # exchanges in a row that may fail


class StoppedError(Exception):
    """The run has been ended."""


class Asked(Protocol):
    """The handle of a Holder, wherever it is; see prx.engines.Held."""

    def ask(self, method: str, *arguments: Any) -> Any:
        """Call a method of it."""


# ------------------------------------------------------------------ where the limits are


def turn(processes: int) -> float:
    """Seconds after which each of so many processes is to come again."""
    return max(_ROUND, _ASKED * processes)


class Divided:
    """The limits of one account, and who has a part in them."""

    def __init__(self, per_minute: Mapping[str, float | None], clock: Callable[[], float]) -> None:
        self.limiter, self._clock = Limiter(clock, _BURST), clock
        self.limiter.allow(per_minute)
        self.seen: dict[str, float] = {}  # {process: when it last wanted something}

    def exchange(self, process: str, told: Mapping[str, Any]) -> dict[str, Any]:
        """What a process gets, as `Leased.take` takes it, for what it tells, as `Leased.tell` gives it."""
        for status, count, headers, received in told["heard"]:
            head = Head(status, headers, received) if status else None
            plain = head if head is None or status == REFUSED else head._replace(headers={})
            for place in range(count):
                self.limiter.heard(head if place == count - 1 else plain)
        self.limiter.correct(told["used"])
        if told["wanted"]:
            self.seen[process] = self._clock()
        self.seen = {name: when for name, when in self.seen.items() if when > self._clock() - SEEN}
        given, pause = self.limiter.lease(told["cost"], told["wanted"], max(1, len(self.seen)))
        return {"given": given, "pause": pause}


class Holder:
    """Limits of accounts, by names that say nothing about them. per_minute: the caller's own, for each of them."""

    def __init__(self, per_minute: Mapping[str, float | None], clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute, self._clock = dict(per_minute), clock
        self._accounts: dict[str, Divided] = {}
        self._processes: dict[str, float] = {}
        self._figures: dict[Any, Any] = {}
        self._stopped, self._looked = False, clock()

    def exchange(self, process: str, told: Mapping[str, Any], figures: Mapping[Any, Any]) -> dict[str, Any] | None:
        """What the process has now, {account: as `Leased.take` takes it}, and the seconds after which it is to come again;
        None where the run has been ended.

        told     {account: as `Leased.tell` gives it}
        figures  {part of the run: how far it is}
        """
        self._figures.update(figures)
        now = self._clock()
        if self._stopped or now > self._looked + ALIVE:
            return None
        self._processes[process] = now
        among = sum(when > now - SEEN for when in self._processes.values())
        return {
            "after": turn(among),
            "given": {name: self._account(name).exchange(process, each) for name, each in told.items()},
        }

    def _account(self, name: str) -> Divided:
        if name not in self._accounts:
            self._accounts[name] = Divided(self._per_minute, self._clock)
        return self._accounts[name]

    def figures(self) -> dict[Any, Any]:
        """How far each part of the run is that has told of it since the last time. The program of the run asks again and
        again; where it does so no more, it is gone, and the run is ended.
        """
        self._looked = self._clock()
        found, self._figures = self._figures, {}
        return found

    def stop(self) -> None:
        """End the run: every process hears of it with its next exchange."""
        self._stopped = True


# ------------------------------------------------------------------ in each process


class Leased(Limiter):
    """As Limiter for those who use it. wake: called when something is needed at once."""

    def __init__(self, wake: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self._wake = wake
        self._left = 0.0  # requests that may begin; infinity where there is no limit
        self._block = _FIRST
        self._ran_out = True
        self._cost: Cost = {"requests": 1.0}  # of each that is left
        self._latest: Cost = self._cost  # of the call that came last
        self._heard: list[list[Any]] = []  # [status, how many in a row, headers of the last one, when it came]
        self._used: dict[str, float] = {}  # beyond what was leased

    def allow(self, per_minute: Mapping[str, float | None]) -> None:
        """The holder has been told."""

    def enter(self, cost: Cost) -> float:
        with self._lock:
            now = self._clock()
            if now < self._not_before:
                return self._not_before - now
            if self.running >= int(self.most):
                return math.inf
            self._latest = cost
            if self._left < 1:
                self._ran_out = True
                self._wake()
                return _SOONEST
            self._spend(cost)
            self.running += 1
            return 0.0

    def more(self, cost: Cost) -> None:
        with self._lock:
            self._spend(cost)

    def leave(self, cost: Cost, used: Cost | None = None) -> None:
        with self._lock:
            self.running -= 1
            for counted, count in (used or {}).items():
                self._add(counted, count - cost.get(counted, 0.0))

    def _spend(self, cost: Cost) -> None:
        self._left -= 1
        for counted, count in cost.items():
            self._add(counted, count - self._cost.get(counted, 0.0))

    def _add(self, counted: str, count: float) -> None:
        self._used[counted] = self._used.get(counted, 0.0) + count

    def heard(self, head: Head | None) -> None:
        super().heard(head)
        with self._lock:
            status = 0 if head is None else head.status
            said = {} if head is None else {name: text for name, text in head.headers.items() if _is_limit(name)}
            if not self._heard or self._heard[-1][0] != status:
                self._heard.append([status, 0, {}, 0.0])
            last = self._heard[-1]
            last[1] += 1
            if said and head is not None:
                last[2:] = [said, head.received]
        if status == REFUSED:
            self._wake()

    # -------------------------------------------------------------- what is exchanged

    def tell(self, *, ends: bool = False) -> dict[str, Any]:
        """What has come since the last time, and what is wanted. ends: nothing is, and what is left goes back."""
        with self._lock:
            left = 0.0 if self._left == math.inf else self._left
            self._size_block(left)
            cost: Cost = {} if ends else self._latest
            for counted in {**self._cost, **cost}:  # what is left was had at the cost of the time before
                self._add(counted, left * (cost.get(counted, 0.0) - self._cost.get(counted, 0.0)))
            self._cost = cost
            wanted = 0 if ends else max(0, math.ceil(self._block - left))
            heard, self._heard, used, self._used = self._heard, [], self._used, {}
            return {"heard": heard, "used": used, "wanted": wanted, "cost": dict(cost)}

    def _size_block(self, left: float) -> None:
        """Have as many as are needed from one exchange to the next, and not many more: others want them as well."""
        if self._ran_out:
            self._block = min(2 * self._block, _MOST)
        elif left > self._block / 2:
            self._block = max(_FIRST, self._block // 2)
        self._ran_out = False

    def take(self, given: Mapping[str, Any]) -> None:
        """What the holder gives."""
        with self._lock:
            left = 0.0 if self._left == math.inf else self._left
            self._left = math.inf if given["given"] is None else left + given["given"]
            self._not_before = max(self._not_before, self._clock() + given["pause"]) if given["pause"] else 0.0


def _is_limit(name: str) -> bool:
    return name.startswith("retry-after") or said_by(name) is not None


class Exchange:
    """The exchanges of a process on one event loop.

    process  a name of its own
    salt     makes names of accounts that tell nothing about their keys, and are the same in all processes
    figures  gives {part of the run: how far it is}
    """

    def __init__(self, holder: Asked, process: str, salt: bytes, figures: Callable[[], Mapping[Any, Any]]) -> None:
        self._holder, self._process, self._salt, self._figures = holder, process, salt, figures
        self._limiters: dict[str, Leased] = {}
        self._needed = asyncio.Event()
        self._after = _ROUND
        self._loop = asyncio.get_running_loop()

    def limiter_of(self, account: Account, model: str) -> Limiter:
        """As limiter.limiter_of, for accounts that are shared."""
        name = hmac.new(self._salt, _named(account, model).encode(), "sha256").hexdigest()[:24]
        if name not in self._limiters:
            self._limiters[name] = _remembered(name, Leased(self._needed.set))
        return self._limiters[name]

    async def run(self) -> None:
        """Exchange again and again. Raises StoppedError where the run has been ended, ConfigError where the holder is gone."""
        failed = 0
        while True:
            await self._wait()
            self._needed.clear()
            try:
                await self._round()
                failed = 0
            except LookupError:
                failed += 1
                if failed == _TRIES:
                    raise ConfigError("what holds the limits for all workers has gone", hint=_GONE) from None

    async def _wait(self) -> None:
        await asyncio.sleep(_SOONEST)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._needed.wait(), self._after - _SOONEST)

    async def _round(self, *, ends: bool = False) -> None:
        told = {name: limiter.tell(ends=ends) for name, limiter in self._limiters.items()}
        found = await asyncio.to_thread(self._holder.ask, "exchange", self._process, told, self._figures())
        if found is None:
            raise StoppedError
        self._after = found["after"]
        for name, given in found["given"].items():
            self._limiters[name].take(given)

    async def end(self) -> None:
        """Give back what is left, and remember how many calls an account takes at once, for the next time in this process."""
        for name, limiter in self._limiters.items():
            _takes[name] = limiter.most
        with contextlib.suppress(LookupError, StoppedError):
            await self._round(ends=True)


_GONE = "What is done is kept; --resume goes on with it."
_takes: dict[str, float] = {}  # {account: calls at once}


def _remembered(name: str, limiter: Leased) -> Leased:
    limiter.most = _takes.get(name, limiter.most)
    return limiter


def _named(account: Account, model: str) -> str:
    """What tells an account from all others, with its keys in clear: for a digest only."""
    return repr(tuple(each.reveal() if isinstance(each, Secret) else each for each in whose(account, model)))
