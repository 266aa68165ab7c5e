"""The rows of a batch, looked through before anything is sent: each can be asked, and the output can hold what comes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol

from prx.accounts.account import Account
from prx.accounts.choose import Accounts, ModelRef
from prx.batch.ids import Ids
from prx.batch.pool import targets_of
from prx.batch.results import COLUMNS, Schemas
from prx.batch.rows import Reader, Row, Terms
from prx.chat import NONE, plain
from prx.errors import ConfigError, Error
from prx.record import Record
from prx.session import Session

_LETTERS = 4  # a token, for an estimate


class Given(Protocol):
    """Where rows come from: a file, or a part of one that was handed over.

    first    the number of its first row in the whole input
    columns  the names of its columns, None where each row has its own keys
    schema   types of columns that are known, of pyarrow; otherwise None
    """

    path: Any
    first: int
    columns: list[str] | None
    schema: Any

    def digest(self) -> str:
        """What tells this content from any other."""

    def check_same(self) -> None:
        """Raise ConfigError where it has changed since."""

    def rows(self) -> Iterator[tuple[str, Any]]:
        """(place, row) of each."""


class Plan(Record):
    """What a batch will take, before anything is sent. letters: of the prompts; most: tokens of answers, None without limits."""

    rows: int
    models: Mapping[str, int]
    letters: int
    most: int | None

    @property
    def prompt_tokens(self) -> int:
        return self.letters // _LETTERS


class Input:
    """Rows and what is asked of them. limit: only so many rows. form: of the output.

    What `check` has found:

    models    that rows name
    kinds     what rows ask for
    several   whether rows ask for several vectors: False, True or both
    text_ids  whether ids are texts
    looked    all of it, as it is kept for a run that goes on
    """

    def __init__(self, source: Given, terms: Terms, session: Session, limit: int | None, form: str) -> None:
        self.source, self.form = source, form
        self.terms = terms._replace(has_ids=source.columns is None)
        self.models: list[Any] = []
        self.kinds: set[str] = set()
        self.several: set[bool] = set()
        self.text_ids = False
        self.looked: dict[str, Any] = {}
        self._session, self._limit = session, limit
        self._reader = Reader(session, self.terms)

    def rows(self, done: Sequence[int] = ()) -> Iterator[Row]:
        """Every row of the input, but those of which `done` has something. Raises ConfigError with the place of the first fault."""
        for index, (place, given) in enumerate(islice(self.source.rows(), self._limit), self.source.first):
            if index - self.source.first < len(done) and done[index - self.source.first]:
                continue
            try:
                row = self._reader.read(index, given)
            except Error as error:
                raise ConfigError(f"{place}: {error.message}", hint=error.hint) from None
            yield row

    def check(self, before: Mapping[str, Any] = NONE) -> Plan:
        """Look through all rows before anything is sent. Raises ConfigError.

        before: the head of an earlier run; where it was of this input and these settings, what it found holds.
        """
        self._check_columns()
        self.source.digest()
        if (plan := self._plan_before(before)) is not None:
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
            self._note_kind(row)
            models[row.options.model] += 1
            letters += row.size
            limit = row.options.params.get("max_completion_tokens") or row.options.params.get("max_tokens")
            unlimited = unlimited or (row.kind != "embed" and not isinstance(limit, int))
            most += limit if isinstance(limit, int) else 0
        self._check_kinds(kinds)
        self.text_ids = str in kinds
        return models, rows + 1, letters, None if unlimited else most

    def _plan_before(self, head: Mapping[str, Any]) -> Plan | None:
        """What an earlier look has found, where it was at the same input, for the same settings."""
        looked, now = head.get("looked", {}), self.settings()
        same = (head.get("input") or {}).get("sha256") == self.source.digest() and {
            **head.get("settings", {}),
            **now,
        } == head.get("settings")
        if not same or looked.get("form") != self.form:
            return None
        self.kinds, self.several, self.text_ids = set(looked["kinds"]), set(looked["several"]), looked["text_ids"]
        models = {ModelRef(**name) if isinstance(name, dict) else name: count for name, count in looked["models"]}
        return self._plan(models, head["input"]["rows"], looked["letters"], looked["most"])

    def _plan(self, models: Mapping[Any, int], rows: int, letters: int, most: int | None) -> Plan:
        accounts = self._session.current()
        names: Counter[str] = Counter()
        for model, count in models.items():
            found = [*chosen(accounts, model)]
            names[model if len(found) > 1 else "/".join((found[0][0].id, found[0][1]))] += count
        self.models = [*models]
        self.looked = {
            "form": self.form, "models": [[plain(model), count] for model, count in models.items()], "letters": letters,
            "most": most, "kinds": sorted(self.kinds), "several": sorted(self.several), "text_ids": self.text_ids,
        }  # fmt: skip
        return Plan(rows, names, letters, most)

    def _note_kind(self, row: Row) -> None:
        self.kinds.add(row.kind)
        if row.kind == "embed":
            asked = row.options.inputs.get("input")
            self.several.add(isinstance(asked, list | tuple) and len(asked) > 1)

    def settings(self) -> dict[str, Any]:
        """What must be the same when a run is gone on with: all that makes the requests and the form of the results."""
        terms = self.terms
        templates = {
            name: value.text
            for name, value in (("prompt", terms.prompt), ("system", terms.system))
            if value is not None
        }
        return {
            "model": plain(terms.model), "kind": terms.kind, **templates, "parameters": dict(terms.params),
            "limit": self._limit, "unordered": not terms.ordered, "form": "lines" if self.form == "jsonl" else "tables",
        }  # fmt: skip

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
        for (place, _), row in zip(islice(self.source.rows(), self._limit), self.rows(), strict=False):
            if row.id is not None and hash(row.id) in twice:
                if row.id in places:
                    raise ConfigError(f"{place}: the id {row.id!r:.100} is that of {places[row.id]}, too")
                places[row.id] = place


def chosen(accounts: Accounts, model: Any) -> Iterator[tuple[Account, str]]:
    """(account, name of the model there) of each that calls of this model may go to. Raises ConfigError."""
    for target in targets_of(accounts, model):
        yield accounts.choose(target)
