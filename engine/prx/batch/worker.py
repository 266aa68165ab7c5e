"""A callable that adds answers to a table of rows, for programs that spread tables over processes and machines.

It is pickled with its settings and no key: each process reads its own configuration and environment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from prx.batch.blocking import results
from prx.batch.files import pyarrow
from prx.batch.results import COLUMNS, columns, plain_form
from prx.batch.rows import Template, Terms
from prx.errors import ConfigError
from prx.session import Session

_INTEGERS = ("answer_prompt_tokens", "answer_completion_tokens", "answer_error_status")


class Worker:
    """`Worker("provider/model", prompt="… {column} …")(table)` gives the table with the columns of the answers.

    A table is a mapping of columns, a table or record batch of pyarrow, a frame of pandas, or a list of mappings; what comes
    in is of the kind that goes out. One mapping of values is one row, and an iterator of tables gives an iterator. So it can
    be handed to map_batches of Ray, map_partitions of Dask, mapInPandas of Spark, and map of datasets.

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
        self._session: Session | None = None
        self._terms = _terms(given["model"], given["prompt"], **given["options"])

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
            return table.assign(**self._answers(table.to_dict("records")))
        if kind == "pyarrow":
            return self._arrow(table)
        if isinstance(table, Mapping):
            return self._mapping(table)
        if isinstance(table, list):
            answers = self._answers(table)
            return [{**row, **{name: answers[name][place] for name in COLUMNS}} for place, row in enumerate(table)]
        raise ConfigError(
            f"a table is a mapping of columns, a list of mappings, or of pyarrow or pandas, not {type(table).__name__}"
        )

    def _answers(self, rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
        """{column: its values} of the answers to rows."""
        given = self._settings
        if self._session is None:
            self._session = Session(given["config"], given["providers"], None)
        found = [columns(plain_form(result)) for result in results(self._session, rows, self._terms)]
        return {name: [row[name] for row in found] for name in COLUMNS}

    def _mapping(self, table: Mapping[str, Any]) -> dict[str, Any]:
        if not all(isinstance(column, list | tuple) or _is_array(column) for column in table.values()):
            answers = self._answers([table])
            return {**table, **{name: column[0] for name, column in answers.items()}}
        rows = (dict(zip(table, cells, strict=True)) for cells in zip(*table.values(), strict=True))
        answers = self._answers(rows)
        if any(map(_is_array, table.values())):
            numpy = import_module("numpy")  # it is there: a column is of it
            return {
                **table,
                **{name: numpy.array([*column, None], dtype=object)[:-1] for name, column in answers.items()},
            }
        return {**table, **answers}

    def _arrow(self, table: Any) -> Any:
        arrow, answers = pyarrow(), self._answers(table.to_pylist())
        vectors = arrow.list_(arrow.float64()) if self._terms.kind == "embed" else arrow.string()
        for name, values in answers.items():
            kind = arrow.int64() if name in _INTEGERS else vectors if name == "answer" else arrow.string()
            table = table.append_column(arrow.field(name, kind), arrow.array(values, kind))
        return table


def _is_array(column: Any) -> bool:
    return type(column).__module__ == "numpy" and getattr(column, "ndim", 0) > 0


def _terms(
    model: str | None, prompt: str, *, system: str | None = None, requests_per_minute: float | None = None,
    tokens_per_minute: float | None = None, **options: Any,
) -> Terms:  # fmt: skip
    own = {
        name: options.pop(name) for name in [*options] if name in Terms._fields and name not in ("params", "ordered")
    }
    terms = Terms(
        model,
        **own,
        prompt=Template(prompt),
        system=Template(system, "system") if system is not None else None,
        params=options,
        per_minute={"requests": requests_per_minute, "tokens": tokens_per_minute},
    )
    terms.check()
    return terms
