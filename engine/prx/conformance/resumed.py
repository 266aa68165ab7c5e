"""The file of a run that can be resumed: a line of JSON for each result, as the report contains it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn, get_args

from prx.conformance.cases import Difference
from prx.conformance.evidence import Evidence, Kind, is_exchange
from prx.conformance.run import Outcome
from prx.errors import ConfigError
from prx.json_text import read_json
from prx.mask import strict
from prx.spec.files import data_of

Row = dict[str, Any]
MAX_BYTES = 1 << 30
_TEXTS = {field.name for field in fields(Evidence) if field.name != "passed"}


def rows(path: Path) -> list[Row]:
    """The results in a file. An incomplete last line, which an interruption leaves, is removed from the file.

    Raises ConfigError for a file that has no results of a run; then the file is not changed.
    """
    try:
        data = data_of(path, MAX_BYTES)
        lines = _rows(data)
        _mend(path, data, lines)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be resumed: {_reason(error)}") from None
    return [row for row in lines if row is not None]


def add(path: Path, row: Row) -> None:
    """Add a result to the file. Raises ConfigError."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from None


def _rows(data: bytes) -> list[Row | None]:
    """The row of each line, None for an empty line. The last one is of the text after the last line break, and None if it
    is incomplete.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES >> 30} GB")
    *lines, last = data.decode().split("\n")
    found = [_row(line, number) for number, line in enumerate(lines, 1)]
    is_incomplete = _value(last) is None
    if is_incomplete and last.strip() and not any(found):  # a file of one incomplete line may be any file
        raise ValueError(f"line {len(lines) + 1} is not a result")
    return [*found, None if is_incomplete else _row(last, len(lines) + 1)]


def _mend(path: Path, data: bytes, lines: list[Row | None]) -> None:
    """Remove an incomplete last line; add the line break to a complete one."""
    if lines[-1] is not None:
        with path.open("a", encoding="utf-8") as file:
            file.write("\n")
    elif not data.endswith(b"\n"):
        os.truncate(path, data.rfind(b"\n") + 1)


def _row(line: str, number: int) -> Row | None:
    if not line.strip():
        return None
    value = _value(line)
    if not is_row(value):
        raise ValueError(f"line {number} is not a result")
    row: Row = strict(value)
    return row


def _value(line: str) -> Any:
    try:
        return read_json(line, _decode)
    except ValueError:
        return None


def _refused(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_decode = json.JSONDecoder(parse_constant=_refused).decode


def is_row(value: Any) -> bool:
    """Whether a value has the form of a result, see report.row_of."""
    if not isinstance(value, dict) or not all(holds(value.get(name)) for name, holds in _FIELDS.items()):
        return False
    return all(holds(value[name]) for name, holds in _LATER_FIELDS.items() if value.get(name) is not None)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _are_exchanges(value: Any) -> bool:
    try:
        return isinstance(value, list) and all(map(is_exchange, value))
    except (KeyError, TypeError):
        return False


def _is_evidence(value: Any) -> bool:
    if not isinstance(value, dict):
        return value is None
    texts = {name: text for name, text in value.items() if name != "passed"}  # which an earlier version does not write
    sound = (
        texts.keys() == _TEXTS and all(map(_is_text, texts.values())) and isinstance(value.get("passed", True), bool)
    )
    return sound and value["kind"] in get_args(Kind)


def _is_difference(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == set(Difference._fields) and all(map(_is_text, value.values()))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


_FIELDS = {
    "provider": _is_text,
    "case": _is_text,
    "outcome": lambda value: _is_text(value) and value in get_args(Outcome),
    "why": _is_text,
    "failures": lambda value: isinstance(value, list) and all(map(_is_text, value)),
    "evidence": _is_evidence,
    "seconds": _is_time,
    "exchanges": _are_exchanges,
}

# Fields that a file of an earlier version does not have.
_LATER_FIELDS: dict[str, Callable[[Any], bool]] = {
    "came": lambda value: isinstance(value, list) and all(map(_is_difference, value)),
    "tokens": _is_count,
    "runs": lambda value: isinstance(value, dict) and value.keys() == {"right", "of"} and all(map(_is_count, value.values())),
}  # fmt: skip


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    return getattr(error, "strerror", None) or str(error)
