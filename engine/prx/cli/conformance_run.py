"""Runs what `prx conformance` was asked for: prints the results as they come, and writes the reports."""

from __future__ import annotations

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
from prx.errors import ConfigError
from prx.spec.definition import Definition
from prx.spec.model import Spec

Row = dict[str, Any]


def run_all(asked: Asked, *, quiet: bool) -> Row:
    """Run all cases of all providers; gives the report, also where the run was interrupted: to its files.

    quiet: print nothing. The page of a comparison takes the place of the run's.
    """
    definitions = asked.definitions
    state = report.State(asked.resume)
    try:
        _ask(asked, state, quiet=quiet)
    finally:
        whole = _report(asked, definitions, state)
        _write(whole, asked.junit, None if asked.compares else asked.html)
    return whole


def _ask(asked: Asked, state: report.State, *, quiet: bool) -> None:
    """Run the cases that have no result yet; each result is kept, and printed, as soon as it is there."""
    limiters = Limiters(asked.rate or 0)
    runners = [suite.Runner(asked.plan, found.id, found.spec(), limiters) for found in asked.definitions]
    work = [Job(runner, case) for runner in runners for case in _left(asked, runner.spec, state)]
    if asked.is_worth_a_warning:
        output.note(cost.sentence(_estimates(asked, state), asked.retries, asked.budget))
    read = [report.row_of(found) for runner in runners for found in _corpus(asked.corpus, runner)]
    order: dict[str, list[str]] = {runner.spec.id: [] for runner in runners}
    for provider, case in (*((job.runner.spec.id, job.case.name) for job in work), *map(_key, read)):
        order[provider].append(case)
    progress = None if quiet else Progress(order, lambda provider: _of(state.rows, provider), asked.verbose)
    if progress:
        progress.add()
    terms = Terms(asked.jobs, asked.repeat, asked.pass_rate, limiters, cost.Budget(asked.budget))
    with closing(jobs.results(work, terms)) as found:
        for row in chain(read, (report.row_of(result) for _, result in found)):
            state.add(row)
            if progress:
                progress.add(row)


def _left(asked: Asked, spec: Spec, state: report.State) -> list[Case]:
    """The cases of a provider that have no result yet."""
    chosen = [case for case in asked.plan.cases if asked.plan.concerns(case, spec)]
    return [case for case in chosen if not state.has(spec.id, case.name, asked.repeat)]


def _estimates(asked: Asked, state: report.State) -> list[Estimate]:
    """What the run may take, for each provider."""
    specs = [found.spec() for found in asked.definitions]
    return [cost.estimate(spec, _left(asked, spec, state), asked.repeat) for spec in specs]


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
        output.echo(cost.sentence(estimates, asked.retries, asked.budget))


def _key(row: Row) -> tuple[str, str]:
    return row["provider"], row["case"]


def _of(rows: list[Row], provider: str) -> list[Row]:
    """The results of a provider, in the order of the cases."""
    mine = [row for row in rows if row["provider"] == provider]
    return report.ordered(mine, [provider], [case.name for case in cases.load()])


def _corpus(folder: Path | None, runner: suite.Runner) -> list[run.Result]:
    if folder is None:
        return []
    from prx.conformance import corpus as recorded

    return list(recorded.results(folder, runner.spec))


def _report(asked: Asked, definitions: list[Definition], state: report.State) -> Row:
    everything = cases.load()
    providers = [report.provider_of(found, found.spec(), everything, asked.plan.recordings) for found in definitions]
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
