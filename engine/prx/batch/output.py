"""Writes the file of a batch's results: first as OUT.part, which takes OUT's place when all of it is on the disk."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from prx.batch.files import pyarrow
from prx.batch.results import COLUMNS, columns
from prx.errors import ConfigError
from prx.json_text import compact

_BLOCK = 1024  # rows of a Parquet file that are written at once
Pairs = Iterable[
    tuple[Mapping[str, Any] | None, bytes]
]  # (columns of the row, None where it has none; JSON of its result)


def part_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def write(path: Path, form: str, names: list[str], pairs: Pairs, schema: Any = None) -> None:
    """Write all results. names: of the columns that rows have; schema: types of columns that are known. Raises ConfigError."""
    part = part_of(path)
    try:
        _WRITE[form](part, names, pairs, schema)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be written: {error.strerror or error}",
            hint="What is done is kept; --resume goes on with it.",
        ) from None


def _sync_folder(folder: Path) -> None:
    """Have the disk keep the new name, too."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _jsonl(part: Path, _names: list[str], pairs: Pairs, _types: Any) -> None:
    with part.open("wb") as file:
        for given, text in pairs:
            line = text if given is None else compact({**given, **columns(json.loads(text))}).encode()
            file.write(line + b"\n")


def _csv(part: Path, names: list[str], pairs: Pairs, _types: Any) -> None:
    with part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*names, *COLUMNS])
        for row in _joined(names, pairs):
            writer.writerow([compact(value) if isinstance(value, list | dict) else value for value in row.values()])


def _joined(names: list[str], pairs: Pairs) -> Iterator[dict[str, Any]]:
    """Rows of a table: the columns of each row, and those of its answer."""
    for given, text in pairs:
        found = json.loads(text)
        own = given if given is not None else {"id": found.get("id")}
        yield {**{name: own.get(name) for name in names}, **columns(found)}


def _parquet(part: Path, names: list[str], pairs: Pairs, types: Any) -> None:
    """Types of the rows' own columns that are not known come from the first block."""
    arrow, parquet = pyarrow(), import_module("pyarrow.parquet")
    writer: Any = None
    schema: Any = None
    try:
        for block in _blocks(_joined(names, pairs)):
            if schema is None:
                schema = _schema(arrow, names, block, types)
                writer = parquet.ParquetWriter(part, schema)
            writer.write_table(arrow.Table.from_pylist(block, schema=schema))
        if writer is None:
            parquet.write_table(_schema(arrow, names, [], types).empty_table(), part)
    except arrow.ArrowException as error:
        raise ConfigError(
            f"the results do not fit in Parquet: {str(error).splitlines()[0]}", hint=_as_csv(part.with_suffix(""))
        ) from None
    finally:
        if writer is not None:
            writer.close()


def _as_csv(path: Path) -> str:
    """A hint: the journals of tables are alike."""
    other = path.with_suffix(".csv")
    return f"To have them as CSV: rename {path}.journal to {other}.journal, and give {other} and --resume."


def _schema(arrow: Any, names: list[str], block: list[dict[str, Any]], types: Any) -> Any:
    guessed = types or (arrow.Table.from_pylist(block).schema if block else arrow.schema([]))
    own = [guessed.field(name) if name in guessed.names else arrow.field(name, arrow.string()) for name in names]
    own = [arrow.field(field.name, arrow.string()) if arrow.types.is_null(field.type) else field for field in own]
    return arrow.schema([*own, *(arrow.field(name, _type(arrow, name, block, types)) for name in COLUMNS)])


def _type(arrow: Any, name: str, block: list[dict[str, Any]], types: Any) -> Any:
    if types is not None and name in types.names:
        return types.field(name).type
    if name in ("answer_prompt_tokens", "answer_completion_tokens", "answer_error_status"):
        return arrow.int64()
    vectors = [row[name] for row in block if name == "answer" and isinstance(row[name], list)]
    vector = arrow.list_(arrow.float64())
    if any(found and isinstance(found[0], list) for found in vectors):
        return arrow.list_(vector)
    return vector if vectors else arrow.string()


def _blocks(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    block: list[dict[str, Any]] = []
    for row in rows:
        block.append(row)
        if len(block) == _BLOCK:
            yield block
            block = []
    if block:
        yield block


_WRITE: Mapping[str, Callable[[Path, list[str], Pairs, Any], None]] = {
    "jsonl": _jsonl,
    "csv": _csv,
    "parquet": _parquet,
}
