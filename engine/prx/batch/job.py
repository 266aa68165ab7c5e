"""A batch from file to file: looks through the input, asks what has no result yet, keeps each result, writes the output.

The output is made at the end, of the journal, which has every result from the moment it is there. A run that is stopped
or killed leaves the journal, and another one goes on with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

from prx.accounts.account import Account
from prx.batch import output
from prx.batch.files import Source, form_of
from prx.batch.inputs import Given, Input, Plan, chosen
from prx.batch.journal import Journal, head_of
from prx.batch.limiter import Limiter, limiter_of
from prx.batch.pool import Asynchronous, Figures, Pool
from prx.batch.results import BatchResult, Failure, written
from prx.batch.rows import Row, Terms
from prx.batch.stream import Results
from prx.errors import ConfigError, Error
from prx.json_text import compact
from prx.mask import Mask
from prx.secret import Secret
from prx.session import Session

_SYNC_SECONDS = 0.25  # between two writes to the disk itself
_HOPELESS = ("auth", "quota", "config", "spec")  # kinds that every row would fail with, until something is changed
_MOST_HOPELESS = 10  # such failures without any success; then the run ends, and they are not kept
_GOOD = b'"error":null}'  # the end of a result without an error, in all forms


class Job:
    """One batch. limit: only so many rows of the input."""

    def __init__(
        self, source: Path | Given, out: Path, terms: Terms, session: Session, limit: int | None = None
    ) -> None:
        """Raises ConfigError for files that cannot be used."""
        self.source: Given = Source(source) if isinstance(source, Path) else source
        self.out, self.form = out, form_of(out)
        self.input = Input(self.source, terms, session, limit, self.form)
        self.terms = self.input.terms
        self.journal_path = out.with_name(f"{out.name}.journal")
        self.session = session
        self._models: set[Any] = set()  # those that results may be from, whose keys are masked
        self._accounts: list[Account] = []
        self._keys: set[Secret] = set()  # of the accounts, as far as they are known yet
        self._mask = Mask(())
        self.journal: Journal | None = None
        if isinstance(source, Path) and out.resolve() == source.resolve():
            raise ConfigError(f"{out}: is the input as well", hint="Name another file for the output.")
        if out.is_dir():
            raise ConfigError(f"{out}: is a folder", hint="Name a file for the output.")
        if not out.parent.is_dir():
            raise ConfigError(f"{out.parent}: there is no such folder")

    def check(self, *, resume: bool = False) -> Plan:
        """Look through the whole input before anything is sent. Raises ConfigError.

        resume: where the journal is of this input and these settings, it was looked through when the journal was begun.
        """
        plan = self.input.check(head_of(self.journal_path) if resume else {})
        for model in self.input.models:
            self._know(model)
        return plan

    # -------------------------------------------------------------- the output

    def open(self, plan: Plan, *, resume: bool, overwrite: bool) -> Journal:
        """The journal of this run. Raises ConfigError where the output is there and nothing says what to do with it."""
        begun = self.journal_path.exists()
        if begun and not (resume or overwrite):
            raise ConfigError(
                f"{self.journal_path}: is that of a run which is not done",
                hint="If it has ended, --resume goes on with it, and --overwrite begins anew.",
            )
        if self.out.exists() and not (overwrite or begun):
            raise ConfigError(f"{self.out}: is there already", hint="--overwrite replaces it; or name another file.")
        about = {"input": {"sha256": self.source.digest(), "rows": plan.rows}, "settings": self.input.settings()}
        about["looked"] = self.input.looked
        self.journal = Journal(self.journal_path, about, plan.rows, resume=resume and begun)
        return self.journal

    def is_done(self) -> bool:
        """Whether the output is there, and no run is under way."""
        return self.out.exists() and not self.journal_path.exists()

    def write(self) -> Counter[str]:
        """Make the output of the journal, and remove that; gives how many rows failed, by kind. Raises ConfigError."""
        journal = self.journal
        assert journal is not None
        names, failed = self.source.columns, Counter[str]()
        output.write(
            self.out, self.form, ["id"] if names is None else names, self._pairs(journal, failed), self.source.schema
        )
        journal.remove()
        return failed

    def _pairs(self, journal: Journal, failed: Counter[str]) -> output.Pairs:
        """The columns and the result of each row, in the order of the output. failed: counts the failures."""
        tables = self.source.columns is not None
        in_order, columns = self.terms.ordered, self._columns()
        for index in range(len(journal.at)) if in_order else journal.order:
            text = journal.text(index)
            with_columns = tables and not in_order  # they are kept with the result then
            found = {} if text.endswith(_GOOD) and not with_columns else json.loads(text)
            if error := found.get("error"):
                failed[error["kind"]] += 1
            if with_columns:
                yield found.pop("columns"), compact(found).encode()
            else:
                yield next(columns, {}), text  # there are fewer where the input has been changed, which is seen below
        self.source.check_same()

    def _columns(self) -> Iterator[Any]:
        """The columns of each row of a table, in their order; of other rows None."""
        if self.source.columns is not None:
            return (given for _, given in self.source.rows())
        return repeat(None)

    # -------------------------------------------------------------- the run

    async def run(
        self,
        client: Asynchronous,
        report: Callable[[Figures], None],
        limiters: Callable[[Account, str], Limiter] = limiter_of,
    ) -> Figures:
        """Ask every row that has no result. report: told of each result. Raises Error where no row can be answered."""
        journal = self.journal
        assert journal is not None
        doubts, first = _Doubts(journal), self.source.first

        def ended(row: Row, result: BatchResult) -> None:
            for each in doubts.sure(row, result):
                self._keep(journal, pool, *each)

        pool = Pool(
            client, self.terms._replace(ordered=False), lambda row: journal.begun(row.index - first), ended, limiters
        )
        left = self._left(journal)
        async with self._kept(journal), Results(pool, left) as results:
            async for _ in results:
                report(pool.figures)
        for each in doubts.rest:
            self._keep(journal, pool, *each)
        return pool.figures

    def _left(self, journal: Journal) -> Iterator[Row]:
        """The rows that have no result. Raises ConfigError before a row of a changed input is asked."""
        for row in self.input.rows(journal.at):
            self.source.check_same()
            yield row

    def _keep(self, journal: Journal, pool: Pool, row: Row, result: BatchResult) -> None:
        dialect = pool.door(row.options.model).dialect if row.shape is not None else ""
        found = written(row if self.form == "jsonl" else row._replace(shape=None), result, dialect)
        self._know(row.options.model)
        if not self.terms.ordered and self.source.columns is not None:
            found = {"columns": row.given, **found}
        text = compact(found)
        mask = self._of_all_keys()
        if mask.text(text) != text:
            text = compact(mask.value(found))
        journal.found(row.index - self.source.first, text)

    def _know(self, model: Any) -> None:
        """Mask the keys of those that calls of this model may go to."""
        if model not in self._models:
            self._models.add(model)
            self._accounts += [account for account, _ in chosen(self.session.current(), model)]

    def _of_all_keys(self) -> Mask:
        """The Mask of the keys that are known by now: some are got only when a call is made, and got anew."""
        known = {key for account in self._accounts for key in account.keys}
        if not known <= self._keys:
            self._keys |= known
            self._mask = Mask(self._keys)
        return self._mask

    @contextlib.asynccontextmanager
    async def _kept(self, journal: Journal) -> AsyncIterator[None]:
        """Have the disk itself take what was written, in groups, meanwhile and at the end."""

        async def often() -> None:
            while True:
                await asyncio.sleep(_SYNC_SECONDS)
                await asyncio.to_thread(journal.sync)

        task = asyncio.create_task(often())
        try:
            yield
        finally:
            task.cancel()
            journal.sync()


class _Doubts:
    """Failures that every row may have, until another row succeeds. rest: those of which this is not known yet."""

    def __init__(self, journal: Journal) -> None:
        self._path = journal.path
        self.rest: list[tuple[Row, BatchResult]] = []

    def sure(self, row: Row, result: BatchResult) -> list[tuple[Row, BatchResult]]:
        """What can be kept now. Raises ConfigError where there is no hope."""
        error = result.error
        if error is not None and error.kind in _HOPELESS:
            self.rest.append((row, result))
            if len(self.rest) >= _MOST_HOPELESS:
                raise _hopeless(error, self._path)
            return []
        kept, self.rest = [*self.rest, (row, result)], []
        return kept


def _hopeless(error: Failure, path: Path) -> Error:
    return ConfigError(
        f"stopped, since {_MOST_HOPELESS} rows in a row failed, the last with {error}",
        hint=f"Nothing of these is kept in {path}: put it right, and go on with --resume.",
    )
