"""prx conformance: runs the cases against providers, and reports the results, or what changed in them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from prx.cli import options, output
from prx.cli.compared import show
from prx.cli.conformance_options import Asked, with_models_for
from prx.cli.conformance_run import run_all, show_plan
from prx.conformance import saved, verdict
from prx.conformance.compare import compared
from prx.conformance.saved import Saved
from prx.engines import NAMES
from prx.errors import ConfigError

_file = click.Path(path_type=Path)


@click.command()
@click.argument("targets", nargs=-1, metavar="[ID|FILE]...")
@click.option("--live", "mode", flag_value="live", help="Call the providers themselves; costs tokens.")
@click.option("--record", "mode", flag_value="record", help="As --live, and write the exchanges as recordings.")
@click.option("--case", "only", multiple=True, metavar="NAME", help="Only this case.")
@click.option("--model", default="", help="The model to call live.")
@with_models_for
@click.option(
    "--pairs",
    type=_file,
    metavar="FILE",
    help="Lines of provider/model: each is asked, with results of its own.",
)
@click.option("--engine", type=click.Choice(NAMES), help="Ask from many processes or machines.")
@click.option("--address", help="Of a cluster that runs; without it, one is started on this machine.")
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Of a cluster that is started here: how many. Otherwise as many as processors.")  # fmt: skip
@click.option(
    "--jobs",
    type=click.IntRange(1, 64),
    default=1,
    metavar="N",
    help="Run N cases at a time, over all files; with --engine, of each task.",
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
@click.option("--brief", is_flag=True, help="Keep the exchanges of cases that have not passed, and of no others.")
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
@click.option(
    "--compare",
    nargs=2,
    metavar="A B",
    help="What is otherwise in B than in A. Each is a saved run (from --json), or a provider or file that is run now.",
)
@click.option(
    "--since",
    type=_file,
    metavar="RUN",
    help="Report only what is otherwise than in a saved run, of the providers that it has.",
)
@options.settings
def conformance(**given: Any) -> None:
    """Run the conformance cases: from recordings, or live.

    Without names, every provider that has recordings. Cases test how requests and answers are handled, not the model.
    Exit code 0 if all cases that were asked have passed; 1 if one has failed, if a provider was busy or not reached, or if
    no case has passed; 2 if the command line cannot be used. With --compare and --since, 1 if something got worse.
    """
    asked = Asked(**given)
    asked.check()
    if asked.dry_run:
        return show_plan(asked)
    return _verdict(_compared(asked) if asked.compare or asked.since else _reported(asked))


def _verdict(holds: bool) -> None:
    if not holds:
        raise click.exceptions.Exit(1)


def _reported(asked: Asked) -> bool:
    """Run the cases and print the report; gives whether everything that was asked has passed."""
    whole = run_all(asked, quiet=asked.as_json)
    if asked.as_json:
        output.print_json(whole)
    else:
        _summary(whole)
    return verdict.succeeded(whole["results"])


def _compared(asked: Asked) -> bool:
    """Print what is otherwise; gives whether nothing got worse."""
    if asked.since is not None:
        before = _saved(asked.since).only(asked.only)
        now = asked if asked.targets or asked.pairs else replace(asked, targets=tuple(before.providers))
        after, partly = Saved("now", run_all(now, quiet=True)["results"]), True
    else:
        sides = asked.compare or ("", "")
        before, after = (
            (_saved(Path(side)) if _is_saved(side) else _run_now(asked, side)).only(asked.only) for side in sides
        )
        partly = not _is_saved(sides[1])  # what was not asked now is not missing
    found = compared(before, after, partly=partly)
    show(found, as_json=asked.as_json, html=asked.html)
    return found.holds


def _is_saved(side: str) -> bool:
    return side.endswith(".json")


def _saved(path: Path) -> Saved:
    """A saved run. Raises UsageError for a file that is not one."""
    try:
        return saved.read(path)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None


def _run_now(asked: Asked, side: str) -> Saved:
    return Saved(side, run_all(replace(asked, targets=(side,)), quiet=True)["results"])


def _summary(whole: dict[str, Any]) -> None:
    """Print how many of each outcome there are, how they are known, and last the verdict."""
    outcomes, passed_by = whole["counts"]["outcomes"], whole["counts"]["passed_by"]
    counted = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
    click.echo("\n" + (counted or "nothing was asked"))
    if passed_by:
        click.echo("passed by " + ", ".join(f"{kind}: {count}" for kind, count in sorted(passed_by.items())))
    output.echo(whole["verdict"])
    differs = any(row["outcome"] == "failed" and row["failures"] for row in whole["results"])
    if whole["mode"] != "replay" and differs:
        output.note(_DEVIATIONS)
    if outcomes.get("unrecorded") and not whole["counts"]["asked"]:
        output.note("Nothing is recorded: --live asks the provider, --record keeps the answers as well.")


_DEVIATIONS = "Where a server is meant to answer otherwise, its file says so: deviations, with the case's name and what holds instead."
