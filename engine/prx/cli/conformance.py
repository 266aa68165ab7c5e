"""prx conformance: runs the cases against providers, and reports the results."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import click

from prx.cli import options, output
from prx.cli.progress import Progress
from prx.conformance import cases, cost, jobs, report, run, suite, verdict
from prx.conformance.cases import Case
from prx.conformance.cost import Estimate
from prx.conformance.jobs import Job, Terms
from prx.conformance.limiter import Limiters
from prx.errors import ConfigError
from prx.spec.definition import Definition
from prx.spec.files import SUFFIXES
from prx.spec.model import Spec

Row = dict[str, Any]
_file = click.Path(path_type=Path)


@click.command()
@click.argument("targets", nargs=-1, metavar="[ID|FILE]...")
@click.option("--live", "mode", flag_value="live", help="Call the providers themselves; costs tokens.")
@click.option("--record", "mode", flag_value="record", help="As --live, and write the exchanges as recordings.")
@click.option("--case", "only", multiple=True, metavar="NAME", help="Only this case.")
@click.option("--model", default="", help="The model to call live.")
@click.option(
    "--jobs", type=click.IntRange(1, 64), default=1, metavar="N", help="Run N cases at a time, over all files."
)
@click.option(
    "--retries",
    type=click.IntRange(0, 50),
    default=0,
    metavar="N",
    help="Further attempts of a live call that fails and may be asked again.",
)
@click.option("--rate", type=click.IntRange(1), metavar="N", help="At most N live requests a minute for each account.")
@click.option(
    "--repeat",
    type=click.IntRange(1, 1000),
    default=1,
    metavar="N",
    help="Run each live case N times; it passes if all pass.",
)
@click.option(
    "--pass-rate",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    metavar="SHARE",
    help="With --repeat: it passes if this share passes, as 0.8.",
)
@click.option(
    "--budget", type=click.IntRange(1), metavar="N", help="Begin no further case when the answers have used N tokens."
)
@click.option("--dry-run", is_flag=True, help="Only say how many calls and tokens the run would take; sends nothing.")
@click.option("--cassettes", type=_file, metavar="DIR", help="Folder of recordings.")
@click.option("--corpus", type=_file, metavar="DIR", help="Folder of recorded traffic of vendors, as a further case.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("-v", "verbose", count=True, help="Show the exchanges of cases that have not passed; -vv: of every case.")
@click.option("--junit", type=_file, metavar="FILE", help="Write the report as JUnit XML.")
@click.option("--html", type=_file, metavar="FILE", help="Write the report as one page.")
@click.option(
    "--resume",
    type=_file,
    metavar="FILE",
    help="Write results to FILE during the run, and skip the cases that it has results of.",
)
@options.settings
def conformance(**given: Any) -> None:
    """Run the conformance cases: from recordings, or live.

    Without names, every provider that has recordings. Cases test how requests and answers are handled, not the model.
    Exit code 0 if all cases that were asked have passed; 1 if one has failed, if a provider was busy or not reached, or if
    no case has passed; 2 if the command line cannot be used.
    """
    asked = Asked(**given)
    asked.check()
    if asked.dry_run:
        return _show_plan(asked)
    whole = _run(asked)
    if asked.as_json:
        output.print_json(whole)
    else:
        _summary(whole)
    if not verdict.succeeded(whole["results"]):
        raise click.exceptions.Exit(1)
    return None


@dataclass(frozen=True)
class Asked:
    """The options of the command."""

    targets: tuple[str, ...]
    mode: suite.Mode | None
    only: tuple[str, ...]
    model: str
    jobs: int
    retries: int
    rate: int | None
    repeat: int
    pass_rate: float
    budget: int | None
    dry_run: bool
    cassettes: Path | None
    corpus: Path | None
    as_json: bool
    verbose: int
    junit: Path | None
    html: Path | None
    resume: Path | None
    config: str | None
    folders: tuple[str, ...]

    def check(self) -> None:
        """Raise UsageError for options that do not go together."""
        live_only = {
            "--retries": self.retries,
            "--rate": self.rate,
            "--repeat": self.repeat > 1,
            "--budget": self.budget,
        }
        for name in (name for name, value in live_only.items() if value and self.mode != "live"):
            raise click.UsageError(f"{name} is for calls of providers: add --live")
        if self.pass_rate < 1 and self.repeat == 1:
            raise click.UsageError("--pass-rate is a share of the runs of a case: add --repeat")
        if self.mode == "record" and self.jobs > 1:
            raise click.UsageError("--record writes one exchange after another: leave out --jobs")

    @property
    def is_worth_a_warning(self) -> bool:
        """Whether what the run may cost is said before it begins."""
        return self.plan.mode != "replay" and (len(self.definitions) > 1 or self.repeat > 1 or self.budget is not None)

    @cached_property
    def plan(self) -> suite.Plan:
        """The settings of the run. Raises ConfigError."""
        mode = self.mode or "replay"
        if mode == "record":
            run.check_recorder()
        folders = [*(Path(name).parent for name in self.targets if _is_file(name)), *map(Path, self.folders)]
        recordings = self.cassettes or suite.default_recordings(mode)
        return suite.Plan(mode, cases.named(self.only), folders, recordings, self.config, self.model, self.retries)

    @cached_property
    def definitions(self) -> list[Definition]:
        """The providers that were named, or all that have recordings. Raises ConfigError."""
        plan = self.plan
        with options.client(self.config, [*map(str, plan.folders)]) as client:
            catalog = client.catalog
        names = [Path(name).stem if _is_file(name) else name for name in self.targets] or _recorded(plan)
        return [catalog.get(name) for name in names]


def _is_file(target: str) -> bool:
    return target.endswith(SUFFIXES)


def _recorded(plan: suite.Plan) -> list[str]:
    if plan.mode != "replay":
        raise click.UsageError("name the providers to call; each costs tokens")
    names = sorted(path.name for path in plan.recordings.iterdir() if path.is_dir()) if plan.recordings.is_dir() else []
    if not names:
        raise ConfigError(
            f"{plan.recordings}: there are no recordings", hint="Name a provider, or a folder with --cassettes."
        )
    return names


def _run(asked: Asked) -> Row:
    """Run all cases of all providers; gives the report, which is also written to files where the run was interrupted."""
    definitions = asked.definitions
    state = report.State(asked.resume)
    try:
        _ask(asked, state)
    finally:
        whole = _report(asked, definitions, state)
        _write(whole, asked.junit, asked.html)
    return whole


def _ask(asked: Asked, state: report.State) -> None:
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
    progress = None if asked.as_json else Progress(order, lambda provider: _of(state.rows, provider), asked.verbose)
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
    return [case for case in asked.plan.cases if not state.has(spec.id, case.name, asked.repeat)]


def _estimates(asked: Asked, state: report.State) -> list[Estimate]:
    """What the run may take, for each provider."""
    specs = [found.spec() for found in asked.definitions]
    return [cost.estimate(spec, _left(asked, spec, state), asked.repeat) for spec in specs]


def _show_plan(asked: Asked) -> None:
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


def _summary(whole: Row) -> None:
    """Print how many of each outcome there are, how they are known, and last the verdict."""
    outcomes, passed_by = whole["counts"]["outcomes"], whole["counts"]["passed_by"]
    counted = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
    click.echo("\n" + (counted or "nothing was asked"))
    if passed_by:
        click.echo("passed by " + ", ".join(f"{kind}: {count}" for kind, count in sorted(passed_by.items())))
    output.echo(whole["verdict"])
