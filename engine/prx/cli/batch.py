"""prx batch: every row of a file is asked, and each result becomes a row of another."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from prx.cli import options, output, request_options
from prx.cli.batch_progress import Progress, counted, is_over, tell
from prx.cli.conversation import chosen
from prx.session import Session


@click.command()
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option("-m", "--model", shell_complete=options.complete_model, help="For rows that name none: provider/model.")
@click.option("-p", "--provider", shell_complete=options.complete_provider, help="The provider to call.")
@click.option("--prompt", metavar="TEMPLATE", help="The prompt of each row, with {column} for what the row has there.")
@click.option("-s", "--system", metavar="TEMPLATE", help="With --prompt, a system message.")
@click.option("--kind", type=click.Choice(("chat", "embed", "complete")), default="chat", help="What is asked for.")
@click.option("--param", "given", multiple=True, metavar="NAME=VALUE", help="A parameter of all rows, JSON or text.")
@click.option(
    "--in-flight", type=click.IntRange(1, 10_000), default=32, show_default=True, help="Rows at once, at most."
)
@click.option("--rpm", type=click.FloatRange(0, min_open=True), metavar="N", help="Requests a minute for each account.")
@click.option("--tpm", type=click.FloatRange(0, min_open=True), metavar="N", help="Tokens a minute for each account.")
@click.option("--unordered", is_flag=True, help="Write results in the order in which they come.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only the first N rows.")
@click.option("--resume", is_flag=True, help="Go on with a run that was stopped or killed; without one, begin.")
@click.option("--overwrite", is_flag=True, help="Begin anew, and replace OUT.")
@click.option("--dry-run", is_flag=True, help="Check IN, say how many calls and tokens it takes, and send nothing.")
@click.option(
    "--retries",
    type=click.IntRange(0),
    default=5,
    show_default=True,
    metavar="N",
    help="Attempts of a row beyond the first.",
)
@click.option("--patience", type=options.seconds, default="3600", show_default=True, metavar="SECONDS", help="How long a row waits for its rate.")  # fmt: skip
@click.option("--timeout", type=options.seconds, metavar="SECONDS", help="Longest time without a byte.")
@click.option("--deadline", type=options.seconds, metavar="SECONDS", help="Longest time for one attempt.")
@click.option("--engine", type=click.Choice(("ray", "dask")), help="Ask on many processes or machines; OUT is a folder of Parquet files.")  # fmt: skip
@click.option("--address", help="Of a cluster that runs; without it, one is started on this machine.")
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Of a cluster that is started here: how many. Otherwise as many as processors.")  # fmt: skip
@click.option("--limits", metavar="URL", help="Of a Redis that holds the limits, for all runs that name it; redis://:${PASSWORD}@host:6379.")  # fmt: skip
@click.option("--shard-rows", type=click.IntRange(1), default=1000, show_default=True, metavar="N", help="With --engine, rows of each file.")  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@options.settings
def batch(source: Path, out: Path, **asked: Any) -> None:
    """Ask every row of a file, and write a row for each result.

    IN and OUT are .jsonl, .csv or .parquet. A line of JSONL is {"id": …, "prompt": …} with any parameter, or has the
    form of OpenAI's batch files. Other tables need a template: --prompt.

    \b
    prx batch questions.jsonl answers.jsonl -m provider/model
    prx batch reviews.csv moods.csv -m provider/model --prompt "One word for the mood of: {text}"
    prx batch questions.jsonl answers -m provider/model --engine ray --address auto
    exit code   0 every row has an answer, 1 some have an error, or the run has ended; 130 interrupted

    With --engine, the input is asked in parts on the workers of Ray or Dask; see docs/scale.md.
    A run that is interrupted or killed goes on with --resume: no row is asked again that is done.
    """
    if asked["resume"] and asked["overwrite"]:
        raise click.UsageError("--resume goes on with a run, and --overwrite begins anew: give one of them")
    if asked["engine"] is None and (asked["address"] or asked["workers"] or asked["limits"]):
        raise click.UsageError("--address, --workers and --limits go with --engine")
    session = options.session(asked["config"], asked["folders"])
    if asked["engine"] is None:
        _run(session, source, out, asked)
        return
    from prx.cli import batch_shards

    batch_shards.run(session, source, out, asked, _terms(session, asked), _show)


def _run(session: Session, source: Path, out: Path, asked: Mapping[str, Any]) -> None:
    from prx.batch.job import Job

    job = Job(source, out, _terms(session, asked), session, asked["limit"])
    if is_over(job, out, asked):
        return
    plan = job.check(resume=asked["resume"] and not asked["dry_run"])
    if asked["dry_run"]:
        _show(plan)
        return
    with job.open(plan, resume=asked["resume"], overwrite=asked["overwrite"]) as journal:
        if journal.done or journal.begun_anew:
            again = (
                f"; {counted(journal.begun_anew, 'call')} under way when it ended: asked again"
                if journal.begun_anew
                else ""
            )
            output.note(f"going on: {journal.done:,} of {counted(plan.rows, 'row')} done{again}")
        with Progress(plan.rows, journal.done, quiet=asked["quiet"]) as progress:
            if not _interruptible(_asked(job, session, progress)):
                _interrupted(source, out, journal.done, plan.rows)
        failed = job.write()
    tell(out, plan.rows, failed)


def _terms(session: Session, asked: Mapping[str, Any]) -> Any:
    from prx.batch.rows import Template, Terms

    if asked["system"] is not None and asked["prompt"] is None:
        raise click.UsageError("--system needs --prompt; a row of JSONL has its own messages")
    templates: dict[str, Any] = {
        name: Template(asked[name], f"--{name}") if asked[name] is not None else None for name in ("prompt", "system")
    }
    return Terms(
        chosen(session, asked["provider"], asked["model"]), asked["kind"], **templates,
        params=request_options.params(asked["given"]), in_flight=asked["in_flight"], ordered=not asked["unordered"],
        timeout=asked["timeout"], deadline=asked["deadline"], retries=asked["retries"], patience=asked["patience"],
        per_minute={"requests": asked["rpm"], "tokens": asked["tpm"]},
    )  # fmt: skip


def _show(plan: Any) -> None:
    for name, count in plan.models.items():
        output.echo(f"{name}: {counted(count, 'call')}")
    most = "without a limit (max_tokens)" if plan.most is None else f"{plan.most:,} at most"
    output.echo(f"{counted(plan.rows, 'call')}; tokens of prompts: about {plan.prompt_tokens:,}; of answers: {most}")


async def _asked(job: Any, session: Session, progress: Progress) -> None:
    from prx.aclient import AsyncClient

    async with AsyncClient.sharing(session) as client:
        await job.run(client, progress.show)


def _interruptible(work: Any) -> bool:
    """Whether the work was done; SIGINT and SIGTERM end it at once."""

    async def guarded() -> bool:
        loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(RuntimeError):  # Windows has Ctrl-C as an exception
                loop.add_signal_handler(number, task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            return False
        return True

    try:
        return asyncio.run(guarded())
    except KeyboardInterrupt:
        return False


def _interrupted(source: Path, out: Path, done: int, rows: int) -> None:
    output.note(f"\nstopped: {done:,} of {counted(rows, 'row')} done, and kept in {out}.journal")
    output.note(f"go on with the same command and --resume: prx batch {source} {out} --resume …")
    raise click.exceptions.Exit(130)
