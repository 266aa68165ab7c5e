"""A callable that adds answers to a table of rows, for programs that spread tables over processes and machines.

It is pickled with its settings and no key: each process reads its own configuration and environment.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

from prx import forks
from prx.batch.blocking import results
from prx.batch.files import pyarrow
from prx.batch.results import COLUMNS, columns, plain_form
from prx.batch.rows import Template, Terms
from prx.errors import ConfigError
from prx.session import Session

_INTEGERS = ("answer_prompt_tokens", "answer_completion_tokens", "answer_error_status")
_MOST_SESSIONS = 8  # of one process; who has more configurations than that reads one again


class _Sessions:
    """Those of this process, by configuration and environment: a Worker may come anew with each table, and what is got once
    for an account, such as a token, is kept.
    """

    def __init__(self) -> None:
        self._made: dict[Any, Session] = {}
        self.unlock()
        forks.register(self)

    def unlock(self) -> None:
        self._lock = threading.Lock()

    def of(self, config: Any, providers: Any) -> Session:
        """Raises ConfigError."""
        paths = [providers] if isinstance(providers, str | Path) else providers or ()
        key = (str(config), *map(str, paths), frozenset(os.environ.items()))
        with self._lock:
            if key not in self._made:
                if len(self._made) >= _MOST_SESSIONS:
                    self._made.clear()
                self._made[key] = Session(config, providers, None)
            return self._made[key]


_sessions = _Sessions()


class Worker:
    """`Worker("provider/model", prompt="… {column} …")(table)` gives the table with the columns of the answers.

    A table is a mapping of columns, a table or record batch of pyarrow, a frame of pandas, or a list of mappings; what comes
    in is of the kind that goes out. One mapping of values is one row, and an iterator of tables gives an iterator. So it can
    be handed to map_batches of Ray, map_partitions of Dask, mapInPandas of Spark, and map of datasets, which gets a table
    of pyarrow. In tables of pyarrow and pandas a column of the answers has the same type whatever is in it.

    config, providers  paths, which each process reads; None for the usual ones
    options            of Client.batch: system, kind, in_flight, retries, requests_per_minute, any parameter, …
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        prompt: str,
        config: str | Path | None = None,
        providers: str | Path | list[str | Path] | None = None,
        **options: Any,
    ) -> None:
        """Raises ConfigError."""
        if isinstance(config, Mapping):
            raise ConfigError(
                "config is a path here: a mapping may have keys in it, which would be pickled",
                hint="Leave it out, and set keys in the environment of the processes; or name a file that they can read.",
            )
        self._settings: dict[str, Any] = {
            "model": model,
            "prompt": prompt,
            "config": config,
            "providers": providers,
            "options": options,
        }
        self._begin()

    def _begin(self) -> None:
        given = self._settings
        self._terms = _terms(given["model"], given["prompt"], **given["options"])

    @property
    def sql_columns(self) -> str:
        """The columns of the answers with their types, as they stand in a schema of Spark."""
        kinds = {"integer": "bigint", "text": "string", "vector": "array<double>"}
        return ", ".join(f"{name} {kinds[self._kind(name)]}" for name in COLUMNS)

    def _kind(self, column: str) -> str:
        if column in _INTEGERS:
            return "integer"
        return "vector" if column == "answer" and self._terms.kind == "embed" else "text"

    def __getstate__(self) -> dict[str, Any]:
        return self._settings

    def __setstate__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._begin()

    def __call__(self, table: Any) -> Any:
        """The table with the columns of its answers; a row that failed has its error there. Raises ConfigError."""
        if isinstance(table, Iterator):
            return map(self, table)
        kind = type(table).__module__.partition(".")[0]
        if kind == "pandas":
            return self._pandas(table)
        if kind in ("pyarrow", "datasets"):
            # datasets guesses a column's type from its first rows, of which none may have failed; a table says it.
            return self._arrow(getattr(table, "pa_table", table))
        if isinstance(table, Mapping):
            return self._mapping(table)
        if isinstance(table, list):
            answers = self._answers(table, table[0] if table else ())
            return [{**row, **{name: answers[name][place] for name in COLUMNS}} for place, row in enumerate(table)]
        raise ConfigError(
            f"a table is a mapping of columns, a list of mappings, or of pyarrow or pandas, not {type(table).__name__}"
        )

    def _answers(self, rows: Iterable[Mapping[str, Any]], names: Iterable[Any]) -> dict[str, list[Any]]:
        """{column: its values} of the answers to rows. names: of the columns that these have."""
        taken = next((name for name in names if name in COLUMNS), None)
        if taken is not None:
            raise ConfigError(f"a column is called {taken!r}, as one of the answer's", hint="Rename it.")
        first = next(rows := iter(rows), None)
        if first is None:  # as Dask asks which columns there will be
            return {name: [] for name in COLUMNS}
        session = _sessions.of(self._settings["config"], self._settings["providers"])
        found = [columns(plain_form(result)) for result in results(session, chain([first], rows), self._terms)]
        return {name: [row[name] for row in found] for name in COLUMNS}

    def _mapping(self, table: Mapping[str, Any]) -> dict[str, Any]:
        if not all(isinstance(column, list | tuple) or _is_array(column) for column in table.values()):
            answers = self._answers([table], table)
            return {**table, **{name: column[0] for name, column in answers.items()}}
        plain = {name: _listed(column) if _is_array(column) else column for name, column in table.items()}
        rows = (dict(zip(plain, cells, strict=True)) for cells in zip(*plain.values(), strict=True))
        answers = self._answers(rows, table)
        if any(map(_is_array, table.values())):
            numpy = import_module("numpy")  # it is there: a column is of it
            return {
                **table,
                **{name: numpy.array([*column, None], dtype=object)[:-1] for name, column in answers.items()},
            }
        return {**table, **answers}

    def _pandas(self, table: Any) -> Any:
        pandas = import_module("pandas")  # it is there: the table is of it
        plain = table.astype(object).where(table.notna(), None)  # a cell without a value is None, whatever it was
        answers = self._answers(plain.to_dict("records"), table.columns)
        kinds = {"integer": "Int64", "text": "string", "vector": "object"}
        made = {
            name: pandas.Series(values, index=table.index, dtype=kinds[self._kind(name)])
            for name, values in answers.items()
        }
        return table.assign(**made)

    def _arrow(self, table: Any) -> Any:
        arrow = pyarrow()
        answers = self._answers(table.to_pylist(), table.schema.names)
        kinds = {"integer": arrow.int64(), "text": arrow.string(), "vector": arrow.list_(arrow.float64())}
        for name, values in answers.items():
            kind = kinds[self._kind(name)]
            table = table.append_column(arrow.field(name, kind), arrow.array(values, kind))
        return table


def _listed(column: Any) -> list[Any]:
    """The values of an array in Python's types. Those of times are texts: as numbers nobody knows what they count."""
    found: list[Any] = (column.astype(str) if column.dtype.kind in "mM" else column).tolist()
    return found


def _is_array(column: Any) -> bool:
    return type(column).__module__ == "numpy" and getattr(column, "ndim", 0) > 0


def _terms(
    model: str | None, prompt: str, *, system: str | None = None, requests_per_minute: float | None = None,
    tokens_per_minute: float | None = None, **options: Any,
) -> Terms:  # fmt: skip
    own = {
        name: options.pop(name)
        for name in [*options]
        if name in Terms._fields and name not in ("params", "ordered", "has_ids")
    }
    terms = Terms(
        model,
        **own,
        prompt=Template(prompt),
        system=Template(system, "system") if system is not None else None,
        params=options,
        per_minute={"requests": requests_per_minute, "tokens": tokens_per_minute},
        has_ids=False,
    )
    terms.check()
    return terms
