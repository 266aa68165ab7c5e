"""What a live run costs: how many calls and output tokens it may take, before it begins, and a budget while it runs.

In tokens alone: no provider's file has prices.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from prx.conformance.cases import Case
from prx.conformance.run import Result
from prx.spec.model import Spec


class Estimate(NamedTuple):
    """What the cases of a provider may take.

    calls      without those that are repeated because they failed
    tokens     of output, at most
    unlimited  calls whose output the case does not limit
    """

    provider: str
    calls: int
    tokens: int
    unlimited: int = 0


def estimate(spec: Spec, cases: Iterable[Case], repeat: int) -> Estimate:
    """What these cases of a provider may take, each run `repeat` times."""
    sent = [case for case in cases if case.key == "right" or spec.auth.style != "none"]
    unlimited = [case for case in sent if case.ask != "models" and not limit_of(case)]
    tokens = sum(map(limit_of, sent))
    calls = len(sent) + sum(bool(case.again) for case in sent)
    return Estimate(spec.id, calls * repeat, tokens * repeat, len(unlimited) * repeat)


def limit_of(case: Case) -> int:
    """The most output tokens that a call of a case asks for; 0 where it names none."""
    return int(case.call.get("max_tokens") or 0)


def sentence(estimates: Sequence[Estimate], retries: int, budget: int | None, who: str = "provider") -> str:
    """A plan in one line: "52 calls to 2 providers, at most 10390 output tokens; …". who: what there are several of."""
    asked = [row for row in estimates if row.calls]
    calls, tokens = sum(row.calls for row in asked), sum(row.tokens for row in asked)
    parts = [f"{count(calls, 'call')} to {count(len(asked), who)}, at most {tokens} output tokens"]
    if unlimited := sum(row.unlimited for row in asked):
        parts[0] += f" and {count(unlimited, 'call')} without a limit"
    if retries:
        parts.append(f"each call up to {retries + 1} times where it fails")
    if budget is not None:
        parts.append(f"no further case after {budget} tokens")
    return "; ".join([*parts, "provider files have no prices"])


def count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


class Budget:
    """The tokens that a run may use, as the answers report them; None for any number. Safe to share between threads.

    A case that runs counts as all that it asks for until it has ended, so that several at once use no more than one after
    the other: at most the last case goes beyond the budget.
    """

    def __init__(self, tokens: int | None = None) -> None:
        self._tokens = tokens
        self._changed = threading.Condition()
        self._running = self._asked = 0  # cases, and the tokens that they ask for
        self.used = 0

    def begin(self, case: Case) -> bool:
        """Whether a case may begin; waits for those that run where it depends on how much they use. `end` has to follow."""
        with self._changed:
            while self._tokens is not None and self.used < self._tokens <= self.used + self._asked and self._running:
                self._changed.wait()
            if self._tokens is not None and self.used >= self._tokens:
                return False
            self._running += 1
            self._asked += limit_of(case)
            return True

    def end(self, case: Case, result: Result | None) -> None:
        """Count what a case has used. An answer that reports nothing counts as all that the case asked for."""
        with self._changed:
            self._running -= 1
            self._asked -= limit_of(case)
            if result is not None and result.evidence is not None:  # otherwise nothing was answered
                self.used += limit_of(case) if result.tokens is None else result.tokens
            self._changed.notify_all()

    def left_out(self, provider: str, case: Case) -> Result:
        """The result of a case that the budget does not allow any more."""
        return Result(provider, case.name, "unasked", f"the budget of {self._tokens} tokens was used up")
