"""What a worker does: answers the rows of a shard, and writes its file.

A shard is a batch of its own, with a journal beside its file. So where a worker has died and another one has its shard, the
rows that were done are not asked again, but for those whose calls were under way.
"""

from __future__ import annotations

import asyncio
import atexit
import hashlib
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from prx.aclient import AsyncClient
from prx.batch.inputs import Plan
from prx.batch.job import Job
from prx.batch.journal import BusyError, Journal
from prx.batch.lease import Asked, Exchange, StoppedError
from prx.batch.pool import Figures
from prx.batch.rows import Template, Terms
from prx.batch.shards import Shard, clear, failed_in, path_of
from prx.chat import NONE
from prx.errors import ConfigError
from prx.session import Session

_BUSY_SECONDS, _LOOK_SECONDS = (
    120.0,
    0.5,
)  # for which a worker that is said to be dead may still write, and between two looks
_PROCESS = secrets.token_hex(8)


class Setup(NamedTuple):
    """What all shards of a run have in common. It goes to the workers, and has no key in it.

    terms    as `shipped` gives them
    config   a path that each worker reads, None for its usual one
    folders  of provider files: {name: content} of each, the first one first in rank
    holder   of the limits; salt: for the names of accounts there
    """

    out: str
    digest: str
    columns: list[str] | None
    schema: Any
    terms: Mapping[str, Any]
    config: str | None
    folders: tuple[Mapping[str, bytes], ...]
    holder: Asked
    salt: bytes


class Answered(NamedTuple):
    """A shard that is there. failed: rows, by kind of error; again: calls that were under way when a worker died."""

    number: int
    failed: dict[str, int]
    again: int = 0


class Part:
    """The rows of a shard, as a Source has those of a file."""

    def __init__(self, setup: Setup, shard: Shard) -> None:
        self.path = path_of(Path(setup.out), shard.number)
        self.first, self.columns, self.schema = shard.first, setup.columns, setup.schema
        self._given, self._digest = shard.rows, f"{setup.digest}:{shard.number}"

    def digest(self) -> str:
        return self._digest

    def check_same(self) -> None:
        """It cannot change."""

    def rows(self) -> Iterator[tuple[str, Any]]:
        for number, row in enumerate(self._given, self.first + 1):
            yield f"row {number}", row


def shipped(terms: Terms) -> dict[str, Any]:
    """Terms as they go to a worker: plain values, and no limits, which the holder has."""
    plain = {name: getattr(terms, name) for name in Terms._fields}
    texts = {name: terms.__dict__[name].text for name in ("prompt", "system") if getattr(terms, name) is not None}
    return {**plain, "params": dict(terms.params), "per_minute": {}, **texts}


def _terms(given: Mapping[str, Any]) -> Terms:
    templates = {name: Template(given[name], name) for name in ("prompt", "system") if given[name] is not None}
    return Terms(**{**given, "params": given["params"] or NONE, **templates})


def answer(setup: Setup, shard: Shard) -> Answered:
    """Ask the rows of a shard that have no result yet, and write its file. Raises ConfigError."""
    source = Part(setup, shard)
    if not source.path.parent.is_dir():
        raise ConfigError(
            f"{source.path.parent}: a worker has no such folder",
            hint="The folder of the output has to be on a disk that all workers and this machine share.",
        )
    job = Job(source, source.path, _terms(setup.terms), _session(setup.config, setup.folders))
    journal = _opened(job, len(shard.rows))
    if journal is None:
        return Answered(shard.number, dict(failed_in(source.path, len(shard.rows))))
    with journal:
        if journal.done < len(shard.rows):
            asyncio.run(_asked(setup, shard.number, job, journal))
        return Answered(shard.number, dict(job.write()), journal.begun_anew)


def _opened(job: Job, rows: int) -> Journal | None:
    """The journal of a shard; None where its file is there. A worker that was taken to be dead may still write it."""
    until = time.monotonic() + _BUSY_SECONDS
    while not job.out.exists():
        try:
            journal = job.open(Plan(rows, {}, 0, None), resume=True, overwrite=False)
        except ConfigError as error:
            if job.out.exists():
                break
            if not isinstance(error, BusyError) or time.monotonic() > until:
                raise
            time.sleep(_LOOK_SECONDS)
            continue
        if not job.out.exists():
            return journal
        journal.close()
    clear(job.out)
    return None


async def _asked(setup: Setup, number: int, job: Job, journal: Journal) -> None:
    """Ask the rows, with requests of the holder. Raises ConfigError, also where the run has been ended."""
    seen: list[Figures] = []
    exchange = Exchange(
        setup.holder, _PROCESS, setup.salt, lambda: {number: _plain(journal.done, seen[0])} if seen else {}
    )
    async with AsyncClient.sharing(job.session) as client:

        def report(figures: Figures) -> None:
            seen[:] = [figures]

        work = asyncio.ensure_future(job.run(client, report, exchange.limiter_of))
        rounds = asyncio.ensure_future(exchange.run())
        try:
            await asyncio.wait({work, rounds}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            both = [work, rounds]
            for each in both:
                each.cancel()
            await asyncio.gather(*both, return_exceptions=True)
    await exchange.end()
    for each in both:
        if not each.cancelled() and (error := each.exception()) is not None:
            raise ConfigError("the run has been ended") if isinstance(error, StoppedError) else error


def _plain(done: int, figures: Figures) -> dict[str, Any]:
    names = ("requests", "refused", "prompt_tokens", "completion_tokens")
    return {"rows": done, "errors": dict(figures.errors), **{name: getattr(figures, name) for name in names}}


# ------------------------------------------------------------------ the configuration of a worker

_sessions: dict[str, Session] = {}  # a process answers one shard after the other


def _session(config: str | None, folders: tuple[Mapping[str, bytes], ...]) -> Session:
    """Its own configuration and environment, and the provider files of the run."""
    told = hashlib.sha256(repr((config, folders)).encode()).hexdigest()
    if told not in _sessions:
        _sessions[told] = Session(config, [*map(_written, folders)], None)
    return _sessions[told]


def _written(files: Mapping[str, bytes]) -> Path:
    """A folder with these files, as long as the process lives."""
    folder = Path(tempfile.mkdtemp(prefix="prx-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return folder
