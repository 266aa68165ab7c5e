"""The file of a run that is taken up again: a line of JSON for each result, as the report has it."""

from __future__ import annotations

import json
import math
import os
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn, get_args

from prx.conformance.evidence import Evidence, Kind, is_exchange
from prx.conformance.run import Outcome
from prx.errors import ConfigError
from prx.json_text import read_json
from prx.mask import strict
from prx.spec.files import data_of

Row = dict[str, Any]
_MAX_BYTES = 1 << 30
_TEXTS = {field.name for field in fields(Evidence)}


def rows(path: Path) -> list[Row]:
    """The results in a file, which is left with whole lines only: an interruption may have left half of one.

    Raises ConfigError for a file of something else; then it is left as it is.
    """
    try:
        data = data_of(path, _MAX_BYTES)
        found = _rows(data)
        _mend(path, data, found)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be resumed: {_said(error)}") from None
    return [row for row in found if row is not None]


def add(path: Path, row: Row) -> None:
    """One more result. Raises ConfigError."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from None


def _rows(data: bytes) -> list[Row | None]:
    """One row a line, None for an empty one, and at the end what stands behind the last line break: None for half a row."""
    if len(data) > _MAX_BYTES:
        raise ValueError(f"more than {_MAX_BYTES >> 30} GB")
    *lines, last = data.decode().split("\n")
    found = [_row(line, number) for number, line in enumerate(lines, 1)]
    half = _value(last) is None
    if half and last.strip() and not any(found):
        raise ValueError(f"line {len(lines) + 1} is no result")
    return [*found, None if half else _row(last, len(lines) + 1)]


def _mend(path: Path, data: bytes, found: list[Row | None]) -> None:
    """Take half a line away; end a whole one."""
    if found[-1] is not None:
        with path.open("a", encoding="utf-8") as file:
            file.write("\n")
    elif not data.endswith(b"\n"):
        os.truncate(path, data.rfind(b"\n") + 1)


def _row(line: str, number: int) -> Row | None:
    if not line.strip():
        return None
    value = _value(line)
    if not _is_row(value):
        raise ValueError(f"line {number} is no result")
    row: Row = strict(value)
    return row


def _value(line: str) -> Any:
    try:
        return read_json(line, _decode)
    except ValueError:
        return None


def _refused(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_decode = json.JSONDecoder(parse_constant=_refused).decode


def _is_row(value: Any) -> bool:
    """Whether a value is a result as the report makes one."""
    return isinstance(value, dict) and all(holds(value.get(name)) for name, holds in _FIELDS.items())


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
    texts = isinstance(value, dict) and value.keys() == _TEXTS and all(map(_is_text, value.values()))
    return value is None or (texts and value["kind"] in get_args(Kind))


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


def _said(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is no UTF-8"
    return getattr(error, "strerror", None) or str(error)
