"""prx batch --engine: the rows of a file are asked on the workers of an engine, and each part of them becomes a file."""

from __future__ import annotations

import contextlib
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from prx.cli import output
from prx.cli.batch_progress import Progress, counted, is_over, tell
from prx.errors import ConfigError
from prx.session import Session


def run(
    session: Session, source: Path, out: Path, asked: Mapping[str, Any], terms: Any, show: Callable[[Any], None]
) -> None:
    """Ask, and tell of it. Raises Error."""
    from prx.batch.shards import Sharded

    batch = Sharded(source, out, terms, session, asked["limit"], asked["shard_rows"])
    if is_over(batch, out, asked):
        return
    plan = batch.check(resume=asked["resume"] and not asked["dry_run"])
    if asked["dry_run"]:
        show(plan)
        output.echo(counted(batch.count, "shard"))
        return
    with contextlib.closing(batch):
        batch.open(resume=asked["resume"], overwrite=asked["overwrite"])
        if batch.done:
            output.note(f"going on: {len(batch.done):,} of {counted(batch.count, 'shard')} done")
        _ask(batch, session, source, asked)
    tell(out, batch.rows, sum(batch.done.values(), Counter()))


def _ask(batch: Any, session: Session, source: Path, asked: Mapping[str, Any]) -> None:
    """Have the shards asked that are not there. Raises Error, or Exit where it was interrupted."""
    from prx.batch.shard_run import ShardRun
    from prx.engines import open_engine

    if len(batch.done) == batch.count:
        return
    running = ShardRun(batch, session, asked["config"])
    rows = sum(map(batch.rows_of, batch.done))
    with (
        open_engine(asked["engine"], asked["address"], asked["workers"]) as engine,
        Progress(batch.rows, rows, quiet=asked["quiet"]) as progress,
        _interrupts() as interrupted,
    ):
        shards = counted(batch.count, "shard")
        running.run(engine, lambda figures, done: progress.show(figures, f"{done:,} of {shards}, "), asked["limits"])
    if running.lost or running.again:
        again = counted(running.again, "call") if running.again else "no call"
        output.note(f"workers died: {counted(running.lost, 'shard')} handed over again; {again} under way, asked again")
    if interrupted:
        _interrupted(batch, source)
    if running.faults:
        number, fault = min(running.faults.items())
        raise ConfigError(
            f"{batch.out}: {counted(len(running.faults), 'shard')} could not be answered; shard {number}: {fault}",
            hint="What is done is kept; --resume asks the rest.",
        )


@contextlib.contextmanager
def _interrupts() -> Iterator[list[bool]]:
    """SIGTERM ends what is done here as Ctrl-C does, and neither goes further. Gives a list, empty as long as none came.

    An engine that is opened has a way of its own to end at SIGTERM, so this is for what is done once it is open.
    """

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    came: list[bool] = []
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield came
    except KeyboardInterrupt:
        came.append(True)
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupted(batch: Any, source: Path) -> None:
    done = sum(map(batch.rows_of, batch.done))
    shards = f"{len(batch.done):,} of {counted(batch.count, 'shard')}"
    output.note(f"\nstopped: {shards} done, with {done:,} of {counted(batch.rows, 'row')}; others are begun, and kept")
    output.note(f"go on with the same command and --resume: prx batch {source} {batch.out} --resume …")
    raise click.exceptions.Exit(130)
