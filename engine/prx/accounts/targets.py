"""Routes with several targets: in which order they are asked, which of them rest, and how many calls each has."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable

from prx import forks
from prx.accounts.choose import ModelRef
from prx.accounts.config import Route, Target

_MOST_FAILURES = 3  # in a row; then a target rests
# Kinds of error that are not the caller's fault, so that another target may do better.
FALLS = frozenset(
    ("connection", "timeout", "protocol", "truncated", "server", "rate_limit", "quota", "auth", "not_found")
)


class Balance:
    """The state of all targets in this process. clock: seconds, as time.monotonic; chance: a number from 0 to 1."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, chance: Callable[[], float] = random.random
    ) -> None:
        self._clock, self._chance = clock, chance
        self._lock = threading.Lock()
        self.running: Counter[ModelRef] = Counter()
        self._failures: Counter[ModelRef] = Counter()
        self._resting: dict[ModelRef, float] = {}
        self.on_rest: Callable[[ModelRef, float], None] | None = None  # told when a target begins to rest
        forks.register(self)

    def unlock(self) -> None:
        """In the child of a fork: no call of the parent runs here."""
        self._lock = threading.Lock()
        self.running.clear()

    def order(self, route: Route) -> list[ModelRef]:
        """The targets of a route in the order in which they are asked: those that rest only where all do."""
        with self._lock:
            ordered = [ref_of(target) for target in self._by_policy(route)]
            awake = [ref for ref in ordered if self._resting.get(ref, 0.0) <= self._clock()]
            return awake or ordered

    def began(self, ref: ModelRef) -> None:
        with self._lock:
            self.running[ref] += 1

    def ended(self, ref: ModelRef, kind: str | None, cooldown: float) -> None:
        """A call has ended: without an error, or with one of this kind. cooldown: for how many seconds a target rests."""
        with self._lock:
            self.running[ref] -= 1
            self._failures[ref] = self._failures[ref] + 1 if kind in FALLS else 0
            begins = self._failures[ref] >= _MOST_FAILURES and bool(cooldown)
            if begins:
                self._resting[ref] = self._clock() + cooldown
                self._failures[ref] = 0
        if begins and self.on_rest is not None:
            self.on_rest(ref, cooldown)

    def handed_over(self, ref: ModelRef) -> None:
        """A call goes on as another one, which is counted anew."""
        with self._lock:
            self.running[ref] -= 1

    def rest(self, ref: ModelRef, seconds: float) -> None:
        """A target rests for so many seconds, as was found out elsewhere."""
        with self._lock:
            self._resting[ref] = max(self._resting.get(ref, 0.0), self._clock() + seconds)

    def resting(self) -> dict[ModelRef, float]:
        """{a target that rests: for how many more seconds}."""
        now = self._clock()
        return {ref: until - now for ref, until in self._resting.items() if until > now}

    def _by_policy(self, route: Route) -> list[Target]:
        if route.policy == "weight":
            # The order of draws without replacement: each key is a random number's root of the weight.
            return sorted(route.targets, key=lambda target: -(self._chance() ** (1 / target.weight)))
        if route.policy == "least_busy":
            return sorted(route.targets, key=lambda target: self.running[ref_of(target)])
        return [*route.targets]


def ref_of(target: Target) -> ModelRef:
    """The provider and the model of a target: it is split at its first slash, and not routed again."""
    provider, _, model = target.model.partition("/")
    return ModelRef(provider, model)
