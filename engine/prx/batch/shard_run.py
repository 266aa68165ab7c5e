"""Has the shards of a batch answered on an engine: hands them over, sees how far they are, and takes what came of them."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Self

from prx.batch.lease import Holder
from prx.batch.pool import Figures
from prx.batch.shard_tasks import Setup, answer, shipped
from prx.batch.shards import Sharded
from prx.engines import Engine, Fault, Held
from prx.errors import ConfigError
from prx.session import Session
from prx.spec.files import DIALECTS, SUFFIXES

_LOOK_SECONDS = 0.5  # between two looks at how far it is


class ShardRun:
    """One run of a batch in shards.

    figures  what it has come to so far, in this run
    again    calls that were under way when a worker died: their rows were asked again
    lost     how many times a shard was handed over again, since its worker had died
    faults   {shard that could not be answered: why}
    """

    def __init__(self, batch: Sharded, session: Session, config: str | None) -> None:
        self.figures = Figures()
        self.again = self.lost = 0
        self.faults: dict[int, Fault] = {}
        self._batch, self._session, self._config = batch, session, config
        self._seen: dict[int, Mapping[str, Any]] = {}

    def run(self, engine: Engine, report: Callable[[Figures, int], None], limits: str | None = None) -> None:
        """Have every shard answered that is not there. report: told of the figures and of how many shards are there, from
        time to time and from another thread. limits: the URL of a Redis that holds them. Raises ConfigError where it makes
        no sense to go on.
        """
        held, salt = self._held(engine, limits)
        setup = self._setup(held, salt)
        with _Looks(lambda: self._look(held, report)):
            outcomes = engine.map(partial(answer, setup), self._batch.left())
            try:
                for outcome in outcomes:
                    self.lost += outcome.runs - 1
                    self._take(outcome.task.number, outcome.value, outcome.error)
            finally:
                with contextlib.suppress(LookupError):
                    held.ask("stop")
                outcomes.close()

    def _held(self, engine: Engine, limits: str | None) -> tuple[Held, bytes]:
        """(who holds the limits, what names of accounts are made with there). Raises ConfigError."""
        own = dict(self._batch.input.terms.per_minute)
        if limits is None:
            return engine.hold(Holder, own), secrets.token_bytes(16)
        try:
            module = import_module("prx.batch.lease_redis")
        except ImportError:
            raise ConfigError(
                "--limits needs the library redis, which is missing", hint="pip install 'prx-engine[redis]' brings it."
            ) from None
        held: Held = module.RedisHeld(limits, secrets.token_hex(8), own)
        try:
            held.ask("figures")
            return held, held.ask("salt")
        except LookupError:
            raise ConfigError(
                "--limits: no Redis answers there", hint="Look whether it runs, and the password."
            ) from None

    def _take(self, number: int, value: Any, fault: Fault | None) -> None:
        if fault is None:
            self.again += value.again
            self._batch.finish(number, Counter(value.failed))
        elif fault.kind in ("lost", "bug"):  # of this shard; the others may go on
            self.faults[number] = fault
        else:
            raise ConfigError(fault.message, hint=fault.hint)

    def _look(self, held: Held, report: Callable[[Figures, int], None]) -> None:
        self._seen.update(held.ask("figures"))
        found = Figures()
        for each in [*self._seen.values()]:
            for name in ("rows", "requests", "refused", "prompt_tokens", "completion_tokens"):
                setattr(found, name, getattr(found, name) + each[name])
            found.errors.update(each["errors"])
        self.figures = found
        report(found, len(self._batch.done))

    def _setup(self, held: Held, salt: bytes) -> Setup:
        batch = self._batch
        config = os.path.abspath(self._config) if self._config is not None else None  # noqa: PTH100 - not resolved
        return Setup(
            str(batch.out), batch.source.digest(), batch.source.columns, batch.schema, shipped(batch.input.terms), config,
            tuple(_files(folder) for folder in reversed(self._session.catalog.folders[1:])), held, salt,
        )  # fmt: skip


def _files(folder: Path) -> dict[str, bytes]:
    """{path in the folder: content} of its provider files."""
    found = [*folder.glob("*"), *folder.glob(f"{DIALECTS}/*")]
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in found if path.suffix in SUFFIXES and path.is_file()
    }


class _Looks:
    """Does something again and again in a thread, until it ends."""

    def __init__(self, look: Callable[[], None]) -> None:
        self._look, self._over = look, threading.Event()
        self._thread = threading.Thread(target=self._run, name="prx batch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        over = False
        while not over:
            over = self._over.wait(_LOOK_SECONDS)
            with contextlib.suppress(LookupError):  # it is away for a moment, or the run has ended
                self._look()
