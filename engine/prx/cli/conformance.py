"""prx conformance: runs the cases against providers, and reports the results."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from prx.cli import options, output
from prx.conformance import cases, report, run, suite, transcript, verdict
from prx.conformance.cases import Case
from prx.errors import ConfigError, Error
from prx.spec.definition import Definition
from prx.spec.files import SUFFIXES
from prx.spec.model import Spec


@click.command()
@click.argument("targets", nargs=-1, metavar="[ID|FILE]...")
@click.option("--live", "mode", flag_value="live", help="Call the providers themselves; costs tokens.")
@click.option("--record", "mode", flag_value="record", help="As --live, and write the exchanges as recordings.")
@click.option("--case", "only", multiple=True, metavar="NAME", help="Only this case.")
@click.option("--model", default="", help="The model to call live.")
@click.option("--cassettes", type=click.Path(path_type=Path), metavar="DIR", help="Folder of recordings.")
@click.option(
    "--corpus",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of recorded traffic of vendors, as a further case.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("-v", "verbose", count=True, help="Show the exchanges of cases that have not passed; -vv: of every case.")
@click.option("--junit", type=click.Path(path_type=Path), metavar="FILE", help="Write the report as JUnit XML.")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write the report as one page.")
@click.option(
    "--resume",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write results to FILE during the run, and skip the cases that it has results of.",
)
@options.settings
def conformance(
    targets: tuple[str, ...], mode: suite.Mode | None, only: tuple[str, ...], model: str, cassettes: Path | None, corpus: Path | None,
    as_json: bool, verbose: int, junit: Path | None, html: Path | None, resume: Path | None, config: str | None, folders: tuple[str, ...],
) -> None:  # fmt: skip
    """Run the conformance cases: from recordings, or live.

    Without names, every provider that has recordings. Cases test how requests and answers are handled, not the model.
    Exit code 0 if all cases that were asked have passed; 1 if one has failed, if a provider was busy or not reached, or if
    no case has passed; 2 if the command line cannot be used.
    """
    chosen = cases.named(only)
    files = [Path(target).parent for target in targets if _is_file(target)]
    with options.client(config, [*map(str, files), *folders]) as client:
        catalog = client.catalog
    wanted = mode or "replay"
    if wanted == "record":
        run.check_recorder()
    recordings = cassettes or suite.default_recordings(wanted)
    plan = suite.Plan(wanted, chosen, [*files, *map(Path, folders)], recordings, config, model)
    names = [Path(target).stem if _is_file(target) else target for target in targets] or _recorded(plan)
    definitions = [catalog.get(name) for name in names]
    state = report.State(resume)
    try:
        for definition in definitions:
            _run(plan, definition, state, corpus, shown=None if as_json else verbose)
    finally:
        whole = _report(plan, definitions, state)
        _write(whole, junit, html)
    if as_json:
        output.print_json(whole)
    else:
        _summary(whole)
    if not verdict.succeeded(state.rows):
        raise click.exceptions.Exit(1)


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


def _run(
    plan: suite.Plan, definition: Definition, state: report.State, corpus: Path | None, *, shown: int | None
) -> None:
    """Run all cases of a provider; the result of each is printed as soon as it is there. shown: see -v; None: print nothing."""
    spec = definition.spec()
    left = [case for case in plan.cases if not state.has(spec.id, case.name)]
    if shown is not None:
        click.echo(f"{spec.id:18}", nl=False)
    for row in _rows(plan, spec, left, corpus):
        state.add(row)
        if shown is not None:
            click.echo(_dot(row), nl=False)
            sys.stdout.flush()
    if shown is not None:
        click.echo()
        for row in state.rows:
            if row["provider"] == spec.id:
                _explain(row, shown)


def _explain(row: dict[str, Any], verbose: int) -> None:
    """Print why a case has not passed, and with -v its exchanges."""
    told = row["outcome"] in (verdict.BROKEN if verbose else verdict.COUNTED)
    if told:
        output.echo(f"  {row['outcome']}: {row['case']}: {row['why']}")
    elif verbose > 1:
        output.echo(f"  {row['outcome']}: {row['case']}")
    if verbose > 1 or (verbose and told):
        for line in transcript.lines(row["exchanges"]):
            output.echo(f"    {line}")


def _rows(plan: suite.Plan, spec: Spec, left: list[Case], corpus: Path | None) -> Iterator[dict[str, Any]]:
    try:
        yield from map(report.row_of, suite.results(replace(plan, cases=left), spec.id, spec))
    except Error as error:  # the provider cannot be called at all: no key, no URL
        yield from (report.row_of(run.Result(spec.id, case.name, "error", error.summary())) for case in left)
    if corpus is not None:
        from prx.conformance import corpus as recorded

        yield from map(report.row_of, recorded.results(corpus, spec))


def _dot(row: dict[str, Any]) -> str:
    styles = {"passed": (".", "green"), "failed": ("F", "red"), "error": ("E", "red"), "limited": ("L", "yellow")}
    mark, colour = styles.get(row["outcome"], ("-", None))
    return click.style(mark, fg=colour)


def _report(plan: suite.Plan, definitions: Sequence[Definition], state: report.State) -> dict[str, Any]:
    everything = cases.load()
    rows = [report.provider_of(found, found.spec(), everything, plan.recordings) for found in definitions]
    names = {row["case"] for row in state.rows}
    shown = [case for case in everything if case.name in names]
    if "corpus" in names:
        shown.append(Case("corpus", "recorded traffic is read as the vendor's own package reads it", "text", ("",)))
    return report.build(plan.mode, shown, rows, state.rows, version("prx-engine"))


def _write(whole: dict[str, Any], junit: Path | None, html: Path | None) -> None:
    from prx.conformance import page

    for path, text in ((junit, report.junit), (html, page.render)):
        if path is not None:
            try:
                path.write_text(text(whole), encoding="utf-8", errors="replace")
            except OSError as error:
                raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None


def _summary(whole: dict[str, Any]) -> None:
    """Print how many of each outcome there are, how they are known, and last the verdict."""
    outcomes, passed_by = whole["counts"]["outcomes"], whole["counts"]["passed_by"]
    click.echo(
        "\n" + (", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items())) or "nothing was asked")
    )
    if passed_by:
        click.echo("passed by " + ", ".join(f"{kind}: {count}" for kind, count in sorted(passed_by.items())))
    output.echo(whole["verdict"])
