"""Runs the cases of many subjects as tasks of an engine, so on many machines.

A task is one subject with its cases. It names files, and has no key: each worker reads its own configuration and
environment. What an account allows is counted once, in an object that all workers ask before each request.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from prx.client import Client
from prx.conformance import cases, jobs, report
from prx.conformance.cost import Budget
from prx.conformance.jobs import Job
from prx.conformance.limiter import Limiter, Limiters
from prx.conformance.run import Result
from prx.conformance.suite import Plan, Runner
from prx.engines import Engine, Fault, Held
from prx.errors import ConfigError


class Task(NamedTuple):
    """The cases of a subject, by their names."""

    name: str
    provider: str
    model: str
    cases: tuple[str, ...]


class Settings(NamedTuple):
    """What is the same for all tasks. plan: without cases and model. brief: see report.row_of. turns: a held `Turns`."""

    plan: Plan
    jobs: int
    repeat: int
    pass_rate: float
    brief: bool
    turns: Held


def rows(
    engine: Engine, work: Sequence[Job], terms: jobs.Terms, per_minute: int, *, brief: bool = False
) -> Generator[report.Row, None, None]:
    """The result of each case, those of a subject when all of them are there. To be closed when it is left early."""
    if not work:
        return
    plan = _everywhere(work[0].runner.plan)
    settings = Settings(plan, terms.jobs, terms.repeat, terms.pass_rate, brief, engine.hold(Turns, per_minute))
    with closing(engine.map(partial(ask, settings), _tasks(work))) as outcomes:
        for outcome in outcomes:
            yield from outcome.value if outcome.error is None else _without(outcome.task, outcome.error)


def ask(settings: Settings, task: Task) -> list[report.Row]:
    """Run a task, on its worker. Raises ConfigError."""
    plan = replace(settings.plan, cases=cases.named(task.cases), model=task.model)
    with Client(config=plan.config, providers=list(plan.folders)) as client:
        spec = client.catalog.get(task.provider).spec()
    runner = Runner(plan, task.provider, spec, _SharedLimiters(settings.turns), task.name)
    terms = jobs.Terms(settings.jobs, settings.repeat, settings.pass_rate, Limiters(), Budget())
    with closing(jobs.results([Job(runner, case) for case in plan.cases], terms)) as found:
        return [report.row_of(result, brief=settings.brief) for _, result in found]


def _everywhere(plan: Plan) -> Plan:
    """The plan with paths that hold wherever a worker has its working directory."""
    return replace(
        plan,
        cases=(),
        model="",
        folders=[folder.resolve() for folder in plan.folders],
        recordings=plan.recordings.resolve(),
        config=str(Path(plan.config).resolve()) if plan.config else plan.config,
    )


def _tasks(work: Sequence[Job]) -> list[Task]:
    """The first subject of each provider, then the second: where one account is slow, it does not keep all workers busy."""
    by_name: dict[str, list[Job]] = {}
    for job in work:
        by_name.setdefault(job.runner.name, []).append(job)
    turns: list[tuple[int, Task]] = []
    count: Counter[str] = Counter()
    for name, own in by_name.items():
        runner = own[0].runner
        turns.append(
            (
                count[runner.provider],
                Task(name, runner.provider, runner.plan.model, tuple(job.case.name for job in own)),
            )
        )
        count[runner.provider] += 1
    return [task for _, task in sorted(turns, key=lambda turn: turn[0])]


def _without(task: Task, error: Fault) -> list[report.Row]:
    """The results of a task that has none; a run that goes on with this one runs it again."""
    return [report.row_of(Result(task.name, case, "error", str(error))) for case in task.cases]


# -------------------------------------------------------------- what an account allows


class Turns:
    """The limiters of all accounts, of which the workers ask by the account's origin."""

    def __init__(self, per_minute: int) -> None:
        self._limiters = Limiters(per_minute)

    def turn(self, origin: str) -> float:
        """As Limiter.turn."""
        return self._limiters.of(origin).turn()

    def told(self, origin: str, status: int, named: float | None) -> None:
        """As Limiter.told."""
        self._limiters.of(origin).told(status, named)


class _SharedLimiters(Limiters):
    def __init__(self, turns: Held) -> None:
        super().__init__()
        self._turns = turns

    def _made(self, origin: str) -> Limiter:
        return _SharedLimiter(self._turns, origin)


class _SharedLimiter(Limiter):
    """The limiter of an account on a worker: Turns says when a request may begin."""

    def __init__(self, turns: Held, origin: str) -> None:
        super().__init__()
        self._turns, self._origin = turns, origin

    def turn(self) -> float:
        if self._stopped.is_set():
            return 0.0
        seconds: float = self._ask("turn")
        self._next = time.monotonic() + seconds  # for `waits`, which asks nobody
        return seconds

    def told(self, status: int, named: float | None) -> None:
        was_refused = self._refused
        super().told(status, named)
        if status >= 400 or was_refused:  # of all others the object would learn nothing
            self._ask("told", status, named)

    def _ask(self, method: str, *arguments: Any) -> Any:
        try:
            return self._turns.ask(method, self._origin, *arguments)
        except LookupError:
            raise ConfigError(
                "the limits that all workers share are gone: the run has ended, or what held them"
            ) from None
