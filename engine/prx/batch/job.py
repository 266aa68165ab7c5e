"""A batch from file to file: looks through the input, asks what has no result yet, keeps each result, writes the output.

The output is made at the end, of the journal, which has every result from the moment it is there. A run that is stopped
or killed leaves the journal, and another one goes on with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from itertools import islice, repeat
from pathlib import Path
from typing import Any

from prx.accounts.account import Account
from prx.accounts.choose import ModelRef
from prx.batch import output
from prx.batch.files import Source, form_of
from prx.batch.ids import Ids
from prx.batch.journal import Journal, head_of
from prx.batch.pool import Asynchronous, Figures, Pool, targets_of
from prx.batch.results import COLUMNS, BatchResult, Failure, Schemas, written
from prx.batch.rows import Reader, Row, Terms
from prx.batch.stream import Results
from prx.chat import plain
from prx.errors import ConfigError, Error
from prx.json_text import compact
from prx.mask import Mask
from prx.record import Record
from prx.secret import Secret
from prx.session import Session

_SYNC_SECONDS = 0.25  # between two writes to the disk itself
_HOPELESS = ("auth", "quota", "config", "spec")  # kinds that every row would fail with, until something is changed
_MOST_HOPELESS = 10  # such failures without any success; then the run ends, and they are not kept
_LETTERS = 4  # a token, for an estimate
_GOOD = b'"error":null}'  # the end of a result without an error, in all forms


class Plan(Record):
    """What a batch will take, before anything is sent. letters: of the prompts; most: tokens of answers, None without limits."""

    rows: int
    models: Mapping[str, int]
    letters: int
    most: int | None

    @property
    def prompt_tokens(self) -> int:
        return self.letters // _LETTERS


class Job:
    """One batch. limit: only so many rows of the input."""

    def __init__(self, source: Path, out: Path, terms: Terms, session: Session, limit: int | None = None) -> None:
        """Raises ConfigError for files that cannot be used."""
        self.source, self.out, self.limit = Source(source), out, limit
        self.terms = terms._replace(has_ids=self.source.columns is None)
        self.form = form_of(out)
        self.journal_path = out.with_name(f"{out.name}.journal")
        self._session = session
        self._reader = Reader(session, self.terms)
        self._accounts: list[Account] = []
        self._looked: dict[str, Any] = {}  # what a look through the input has found, as the journal keeps it
        self._keys: set[Secret] = set()  # of the accounts, as far as they are known yet
        self._mask = Mask(())
        self.journal: Journal | None = None
        if out.resolve() == source.resolve():
            raise ConfigError(f"{out}: is the input as well", hint="Name another file for the output.")
        if out.is_dir():
            raise ConfigError(f"{out}: is a folder", hint="Name a file for the output.")
        if not out.parent.is_dir():
            raise ConfigError(f"{out.parent}: there is no such folder")

    # -------------------------------------------------------------- the input

    def rows(self, done: Sequence[int] = ()) -> Iterator[Row]:
        """Every row of the input, but those of which `done` has something. Raises ConfigError with the place of the first fault."""
        for index, (place, given) in enumerate(islice(self.source.rows(), self.limit)):
            if index < len(done) and done[index]:
                continue
            try:
                row = self._reader.read(index, given)
            except Error as error:
                raise ConfigError(f"{place}: {error.message}", hint=error.hint) from None
            yield row

    def check(self, *, resume: bool = False) -> Plan:
        """Look through the whole input before anything is sent. Raises ConfigError.

        resume: where the journal is of this input and these settings, it was looked through when the journal was begun.
        """
        self._check_columns()
        self.source.digest()
        if resume and (plan := self._plan_before()) is not None:
            return plan
        ids = Ids()
        try:
            found = self._looked_through(ids)
        except ConfigError:
            self._check_repeated(ids)  # of rows before the one that is faulty: the first fault is the one that is said
            raise
        self._check_repeated(ids)
        return self._plan(*found)

    def _looked_through(self, ids: Ids) -> tuple[Counter[Any], int, int, int | None]:
        """(how many rows name each model, how many rows, letters of their prompts, most tokens of answers). Raises ConfigError."""
        models: Counter[Any] = Counter()
        kinds: dict[type, int] = {}  # of ids, and the first row of each
        schemas, letters, most, rows = Schemas(), 0, 0, -1
        unlimited = False
        for rows, row in enumerate(self.rows()):  # noqa: B007 - its last value is needed
            if row.id is not None:
                ids.add(row.id)
            if self.source.columns is None:
                kinds.setdefault(type(row.id), row.index)
            if row.schema is not None:
                schemas.validator(row.schema)
            models[row.options.model] += 1
            letters += row.size
            limit = row.options.params.get("max_completion_tokens") or row.options.params.get("max_tokens")
            unlimited = unlimited or (row.kind != "embed" and not isinstance(limit, int))
            most += limit if isinstance(limit, int) else 0
        self._check_kinds(kinds)
        return models, rows + 1, letters, None if unlimited else most

    def _plan_before(self) -> Plan | None:
        """What a journal has of an earlier look at the same input, for the same settings; None where there is none."""
        head = head_of(self.journal_path)
        looked, given = head.get("looked", {}), head.get("input", {})
        same = given.get("sha256") == self.source.digest() and head.get("settings") == self._settings()
        if not same or looked.get("form") != self.form:
            return None
        models = {ModelRef(**name) if isinstance(name, dict) else name: count for name, count in looked["models"]}
        return self._plan(models, given["rows"], looked["letters"], looked["most"])

    def _plan(self, models: Mapping[Any, int], rows: int, letters: int, most: int | None) -> Plan:
        accounts = self._session.current()
        names: Counter[str] = Counter()
        for model, count in models.items():
            found = [accounts.choose(target) for target in targets_of(accounts, model)]
            self._accounts += [account for account, _ in found]
            names[model if len(found) > 1 else "/".join((found[0][0].id, found[0][1]))] += count
        named = [[plain(model), count] for model, count in models.items()]
        self._looked = {"form": self.form, "models": named, "letters": letters, "most": most}
        return Plan(rows, names, letters, most)

    def _check_columns(self) -> None:
        columns, terms = self.source.columns, self.terms
        if columns is None:
            return
        for template in filter(None, (terms.prompt, terms.system)):
            template.check(columns, str(self.source.path))
        if terms.prompt is None:
            raise ConfigError(
                f"{self.source.path}: is a table, and which prompt its rows make is not said",
                hint=f'Add --prompt "… {{column}} …"; it has the columns {", ".join(columns[:20])}.',
            )
        taken = next((name for name in columns if name in COLUMNS), None)
        if taken is not None:
            raise ConfigError(
                f"{self.source.path}: a column is called {taken!r}, as one of the answer's", hint="Rename it."
            )

    def _check_kinds(self, kinds: Mapping[type, int]) -> None:
        """Raise ConfigError for ids that could be taken for each other, or that no column can hold."""
        without = kinds.get(type(None))
        if without is not None and int in kinds:
            raise ConfigError(
                f"{self.source.path}: row {without + 1} has no id, and row {kinds[int] + 1} has a number as its id",
                hint="A row without an id gets its own number as one: give an id to all rows, or to none.",
            )
        if self.form == "parquet" and str in kinds and len(kinds) > 1:
            other = next(kind for kind in kinds if kind is not str)
            raise ConfigError(
                f"{self.source.path}: the id of row {kinds[str] + 1} is a text, and that of row {kinds[other] + 1} a number",
                hint="A column of Parquet has one kind of values: write JSONL or CSV, or give ids of one kind.",
            )

    def _check_repeated(self, ids: Ids) -> None:
        """Raise ConfigError where two rows have the same id; two ids may have the same hash."""
        twice = ids.twice()
        if not twice:
            return
        places: dict[Any, str] = {}
        for (place, _), row in zip(islice(self.source.rows(), self.limit), self.rows(), strict=False):
            if row.id is not None and hash(row.id) in twice:
                if row.id in places:
                    raise ConfigError(f"{place}: the id {row.id!r:.100} is that of {places[row.id]}, too")
                places[row.id] = place

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
        about = {"input": {"sha256": self.source.digest(), "rows": plan.rows}, "settings": self._settings()}
        about["looked"] = self._looked
        self.journal = Journal(self.journal_path, about, plan.rows, resume=resume and begun)
        return self.journal

    def is_done(self) -> bool:
        """Whether the output is there, and no run is under way."""
        return self.out.exists() and not self.journal_path.exists()

    def _settings(self) -> dict[str, Any]:
        """What must be the same when a run is gone on with: all that makes the requests and the form of the results."""
        terms = self.terms
        templates = {
            name: value.text
            for name, value in (("prompt", terms.prompt), ("system", terms.system))
            if value is not None
        }
        return {
            "model": plain(terms.model), "kind": terms.kind, **templates, "parameters": dict(terms.params),
            "limit": self.limit, "unordered": not terms.ordered, "form": "lines" if self.form == "jsonl" else "tables",
        }  # fmt: skip

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

    async def run(self, client: Asynchronous, report: Callable[[Figures], None]) -> Figures:
        """Ask every row that has no result. report: told of each result. Raises Error where no row can be answered."""
        journal = self.journal
        assert journal is not None
        doubts = _Doubts(journal)

        def ended(row: Row, result: BatchResult) -> None:
            for each in doubts.sure(row, result):
                self._keep(journal, pool, *each)

        pool = Pool(client, self.terms._replace(ordered=False), lambda row: journal.begun(row.index), ended)
        left = self._left(journal)
        async with self._kept(journal), Results(pool, left) as results:
            async for _ in results:
                report(pool.figures)
        for each in doubts.rest:
            self._keep(journal, pool, *each)
        return pool.figures

    def _left(self, journal: Journal) -> Iterator[Row]:
        """The rows that have no result. Raises ConfigError before a row of a changed input is asked."""
        for row in self.rows(journal.at):
            self.source.check_same()
            yield row

    def _keep(self, journal: Journal, pool: Pool, row: Row, result: BatchResult) -> None:
        dialect = pool.door(row.options.model).dialect if row.shape is not None else ""
        found = written(row if self.form == "jsonl" else row._replace(shape=None), result, dialect)
        if not self.terms.ordered and self.source.columns is not None:
            found = {"columns": row.given, **found}
        text = compact(found)
        mask = self._of_all_keys()
        if mask.text(text) != text:
            text = compact(mask.value(found))
        journal.found(row.index, text)

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
