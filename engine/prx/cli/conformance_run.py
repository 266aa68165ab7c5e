"""Runs what `prx conformance` was asked for: prints the results as they come, and writes the reports."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

from prx.cli import output
from prx.cli.conformance_options import Asked
from prx.cli.progress import Progress
from prx.conformance import cases, cost, jobs, report, run, suite
from prx.conformance.cases import Case
from prx.conformance.cost import Estimate
from prx.conformance.jobs import Job, Terms
from prx.conformance.limiter import Limiters
from prx.engines import open_engine
from prx.errors import ConfigError
from prx.spec.model import Spec

Row = dict[str, Any]


def run_all(asked: Asked, *, quiet: bool) -> Row:
    """Run all cases of all providers; gives the report, also where the run was interrupted: to its files.

    quiet: print nothing. The page of a comparison takes the place of the run's.
    """
    subjects = asked.subjects
    state = report.State(asked.resume)
    try:
        _ask(asked, state, quiet=quiet)
    finally:
        whole = _report(asked, subjects, state)
        _write(whole, asked.junit, None if asked.compares else asked.html)
    return whole


def _ask(asked: Asked, state: report.State, *, quiet: bool) -> None:
    """Run the cases that have no result yet; each result is kept, and printed, as soon as it is there."""
    limiters = Limiters(asked.rate or 0)
    runners = [
        suite.Runner(each.plan, each.definition.id, each.definition.spec(), limiters, each.name)
        for each in asked.subjects
    ]
    work = [Job(runner, case) for runner in runners for case in _left(asked, runner.name, runner.spec, state)]
    if asked.is_worth_a_warning:
        output.note(cost.sentence(_estimates(asked, state), asked.retries, asked.budget, asked.who))
    read = [report.row_of(found) for runner in runners for found in _corpus(asked.corpus, runner)]
    order: dict[str, list[str]] = {runner.name: [] for runner in runners}
    for provider, case in (*((job.runner.name, job.case.name) for job in work), *map(_key, read)):
        order[provider].append(case)
    progress = None if quiet else Progress(order, lambda provider: _of(state, provider), asked.verbose)
    if progress:
        progress.add()
    terms = Terms(asked.jobs, asked.repeat, asked.pass_rate, limiters, cost.Budget(asked.budget))
    with closing(_asked(asked, work, terms)) as found:
        for row in chain(read, found):
            state.add(row)
            if progress:
                progress.add(row)


def _asked(asked: Asked, work: list[Job], terms: Terms) -> Generator[Row, None, None]:
    """The result of each case as soon as it is there, asked from here or by the workers of an engine."""
    if asked.engine is None:
        with closing(jobs.results(work, terms)) as found:
            for _, result in found:
                yield report.row_of(result, brief=asked.brief)
        return
    from prx.conformance import spread  # few runs are spread

    with (
        open_engine(asked.engine, asked.address, asked.workers) as engine,
        closing(spread.rows(engine, work, terms, asked.rate or 0, brief=asked.brief)) as rows,
    ):
        yield from rows


def _left(asked: Asked, name: str, spec: Spec, state: report.State) -> list[Case]:
    """The cases of a provider that have no result yet. name: as results have it."""
    chosen = [case for case in asked.plan.cases if asked.plan.concerns(case, spec)]
    return [case for case in chosen if not state.has(name, case.name, asked.repeat)]


def _estimates(asked: Asked, state: report.State) -> list[Estimate]:
    """What the run may take, for each provider."""
    found = []
    for each in asked.subjects:
        spec = each.definition.spec()
        row = cost.estimate(spec, _left(asked, each.name, spec, state), asked.repeat)
        found.append(row._replace(provider=each.name))
    return found


def show_plan(asked: Asked) -> None:
    """Print what the run would take."""
    estimates = [] if asked.plan.mode == "replay" else _estimates(asked, report.State(asked.resume))
    rows = [row._asdict() for row in estimates]
    if asked.as_json:
        sums = {name: sum(row[name] for row in rows) for name in ("calls", "tokens", "unlimited")}
        output.print_json({"mode": asked.plan.mode, "providers": rows, **sums})
    elif not estimates:
        output.echo(f"recordings of {cost.count(len(asked.definitions), 'provider')} are played: no calls")
    else:
        output.print_table(
            ["provider", "calls", "output tokens"],
            [[row.provider, str(row.calls), str(row.tokens)] for row in estimates],
        )
        output.echo(cost.sentence(estimates, asked.retries, asked.budget, asked.who))


def _key(row: Row) -> tuple[str, str]:
    return row["provider"], row["case"]


def _of(state: report.State, provider: str) -> list[Row]:
    """The results of a provider, in the order of the cases."""
    return report.ordered(state.of(provider), [provider], [case.name for case in cases.load()])


def _corpus(folder: Path | None, runner: suite.Runner) -> list[run.Result]:
    if folder is None:
        return []
    from prx.conformance import corpus as recorded

    return list(recorded.results(folder, runner.spec))


def _report(asked: Asked, subjects: list[suite.Subject], state: report.State) -> Row:
    everything = cases.load()
    known = {
        found.id: report.provider_of(found, found.spec(), everything, asked.plan.recordings)
        for found in {each.definition.id: each.definition for each in subjects}.values()
    }
    providers = [known[each.definition.id] | {"id": each.name} for each in subjects]
    rows = report.ordered(state.rows, [row["id"] for row in providers], [case.name for case in everything])
    names = {row["case"] for row in rows}
    shown = [case for case in everything if case.name in names]
    if "corpus" in names:
        shown.append(Case("corpus", "recorded traffic is read as the vendor's own package reads it", "text", ("",)))
    return report.build(asked.plan.mode, shown, providers, rows, version("prx-engine"))


def _write(whole: Row, junit: Path | None, html: Path | None) -> None:
    from prx.conformance import page

    for path, text in ((junit, report.junit), (html, page.render)):
        if path is not None:
            try:
                path.write_text(text(whole), encoding="utf-8", errors="replace")
            except OSError as error:
                raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
