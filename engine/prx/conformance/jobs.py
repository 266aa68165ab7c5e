"""Runs the cases of all providers, several at the same time where that was asked for."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import NamedTuple

from prx.conformance import repeats
from prx.conformance.cases import Case
from prx.conformance.limiter import Limiters
from prx.conformance.run import Result
from prx.conformance.suite import Runner


class Job(NamedTuple):
    """A case of a provider."""

    runner: Runner
    case: Case


class Times(NamedTuple):
    """How often each case is run, and at which share of right runs it passes."""

    repeat: int = 1
    pass_rate: float = 1.0


def results(
    work: Sequence[Job], jobs: int, times: Times, limiters: Limiters
) -> Generator[tuple[Job, Result], None, None]:
    """The result of each case as soon as it is there; with several jobs, in any order. To be closed when it is left early."""
    if jobs > 1:
        yield from _at_once(work, jobs, times, limiters)
        return
    for job in work:
        yield job, repeats.merged([job.runner.result(job.case) for _ in range(times.repeat)], times.pass_rate)


def _at_once(work: Sequence[Job], jobs: int, times: Times, limiters: Limiters) -> Iterator[tuple[Job, Result]]:
    queue = _Queue(work, times.repeat)
    runs: list[list[Result]] = [[] for _ in work]
    complete = False
    pool = ThreadPoolExecutor(jobs, "prx-case")
    try:
        for done in as_completed([pool.submit(queue.run_next) for _ in range(len(work) * times.repeat)]):
            place, result = done.result()
            runs[place].append(result)
            if len(runs[place]) == times.repeat:
                yield work[place], repeats.merged(runs[place], times.pass_rate)
        complete = True
    finally:
        if not complete:  # interrupted: no other call begins, and those that are running end at once
            _stop(work, limiters)
        pool.shutdown(cancel_futures=True)


class _Queue:
    """The runs that have not begun. Those of a provider that has to wait are left for later, while there are others."""

    def __init__(self, work: Sequence[Job], repeat: int) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._places = [place for place in _in_turn(work) for _ in range(repeat)]

    def run_next(self) -> tuple[int, Result]:
        """Run the next case; gives its place and its result."""
        with self._lock:
            free = (at for at, place in enumerate(self._places) if not self._work[place].runner.waits())
            place = self._places.pop(next(free, 0))
        job = self._work[place]
        return place, job.runner.result(job.case)


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
