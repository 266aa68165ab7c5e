"""Runs the cases of all providers, several at the same time where that was asked for."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import NamedTuple

from prx.conformance import repeats
from prx.conformance.cases import Case
from prx.conformance.cost import Budget
from prx.conformance.limiter import Limiters
from prx.conformance.run import Result
from prx.conformance.suite import Runner


class Job(NamedTuple):
    """A case of a provider."""

    runner: Runner
    case: Case

    def run(self, budget: Budget) -> Result:
        """Run it once, unless the budget is used up."""
        if not budget.begin(self.case):
            return budget.left_out(self.runner.name, self.case)
        result = None
        try:
            result = self.runner.result(self.case)
        finally:
            budget.end(self.case, result)
        return result


class Terms(NamedTuple):
    """How cases are run.

    jobs       how many at the same time
    repeat     how often each
    pass_rate  at which share of right runs a case passes
    limiters   of the accounts
    budget     of the whole run
    """

    jobs: int
    repeat: int
    pass_rate: float
    limiters: Limiters
    budget: Budget


def results(work: Sequence[Job], terms: Terms) -> Generator[tuple[Job, Result], None, None]:
    """The result of each case as soon as it is there; with several jobs, in any order. To be closed when it is left early."""
    if terms.jobs > 1:
        yield from _at_once(work, terms)
        return
    for job in work:
        yield job, repeats.merged([job.run(terms.budget) for _ in range(terms.repeat)], terms.pass_rate)


def _at_once(work: Sequence[Job], terms: Terms) -> Iterator[tuple[Job, Result]]:
    queue = _Queue(work, terms)
    runs: list[list[Result]] = [[] for _ in work]
    complete = False
    pool = ThreadPoolExecutor(terms.jobs, "prx-case")
    try:
        for done in as_completed([pool.submit(queue.run_next) for _ in range(len(work) * terms.repeat)]):
            place, result = done.result()
            runs[place].append(result)
            if len(runs[place]) == terms.repeat:
                yield work[place], repeats.merged(runs[place], terms.pass_rate)
        complete = True
    finally:
        if not complete:  # interrupted: no other call begins, and those that are running end at once
            _stop(work, terms.limiters)
        pool.shutdown(cancel_futures=True)


class _Queue:
    """The runs that have not begun. Those of a provider that has to wait are left for later, while there are others."""

    def __init__(self, work: Sequence[Job], terms: Terms) -> None:
        self._work, self._budget = work, terms.budget
        self._lock = threading.Lock()
        self._places = [place for place in _in_turn(work) for _ in range(terms.repeat)]

    def run_next(self) -> tuple[int, Result]:
        """Run the next case; gives its place and its result."""
        with self._lock:
            free = (at for at, place in enumerate(self._places) if not self._work[place].runner.waits())
            place = self._places.pop(next(free, 0))
        return place, self._work[place].run(self._budget)


def _in_turn(work: Sequence[Job]) -> list[int]:
    """The places of the first case of each provider, then of the second: one provider does not keep all jobs busy."""
    turns: list[tuple[int, int]] = []
    count: Counter[Runner] = Counter()
    for place, job in enumerate(work):
        turns.append((count[job.runner], place))
        count[job.runner] += 1
    return [place for _, place in sorted(turns)]


def _stop(work: Sequence[Job], limiters: Limiters) -> None:
    limiters.stop()
    for runner in {job.runner for job in work}:
        runner.close()
