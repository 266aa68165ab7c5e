"""The files of rows: JSONL, CSV and Parquet, read a row at a time; each fault names its file and line."""

from __future__ import annotations

import contextlib
import csv
import hashlib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from prx.errors import ConfigError
from prx.json_text import read_finite

FORMS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet"}
_BLOCK = 1024  # rows of a Parquet file that are in memory at once
_LONGEST_CELL = 2**31 - 1  # of CSV: the most that every system's csv takes; without it, 131,072 letters


class Source:
    """A file of rows.

    columns  the names of its columns, None where each row has its own keys
    schema   of a Parquet file, pyarrow's; otherwise None
    """

    first = 0  # the number of its first row

    def __init__(self, path: Path) -> None:
        """Raises ConfigError for a file that cannot be read."""
        self.path, self.form = path, form_of(path)
        if not path.exists():
            raise ConfigError(f"{path}: there is no such file")
        if not path.is_file():
            raise ConfigError(f"{path}: is no file; rows are read several times", hint="Write them to a file first.")
        self._digest, self._stamp = "", (0, 0, 0)
        self.columns: list[str] | None = None
        self.schema: Any = None
        if self.form != "jsonl":
            with self._readable():
                self.schema = _parquet(path).schema_arrow if self.form == "parquet" else None
                self.columns = self._header() if self.form == "csv" else [*self.schema.names]
            repeated = [name for place, name in enumerate(self.columns) if name in self.columns[:place]]
            if repeated:
                raise ConfigError(f"{self.path}: two columns are called {repeated[0]!r}")

    def digest(self) -> str:
        """What tells this file from any other content; the first one is that of the whole run."""
        if not self._digest:
            self._stamp, self._digest = self._state(), self._hashed()
        return self._digest

    def check_same(self) -> None:
        """Raise ConfigError where the content is no longer what `digest` has seen."""
        state = self._state()
        if state == self._stamp:
            return
        if self._hashed() != self._digest:
            raise ConfigError(
                f"{self.path}: has been changed during the run",
                hint="Results so far are kept: --resume goes on if the file is again as it was; --overwrite begins anew.",
            )
        self._stamp = state

    def _state(self) -> tuple[int, int, int]:
        """What changes with the file, and is known without reading it."""
        with self._readable():
            found = self.path.stat()
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _hashed(self) -> str:
        with self._readable(), self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def rows(self) -> Iterator[tuple[str, Any]]:
        """(place, row) of each. place: as it is named in a sentence about the row. Raises ConfigError."""
        reads = {"jsonl": self._lines, "csv": self._table, "parquet": self._blocks}[self.form]
        with self._readable():
            yield from reads()

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except UnicodeDecodeError:
            raise ConfigError(f"{self.path}: is not UTF-8") from None
        except csv.Error as error:
            raise ConfigError(f"{self.path}: is no CSV: {error}") from None
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be read: {error.strerror or error}") from None

    # -------------------------------------------------------------- JSONL

    def _lines(self) -> Iterator[tuple[str, Any]]:
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                place = f"{self.path}:{number}"
                try:
                    value = read_finite(line.decode("utf-8-sig" if number == 1 else "utf-8"))
                except UnicodeDecodeError:
                    raise ConfigError(f"{place}: is not UTF-8") from None
                except ValueError as error:
                    raise ConfigError(f"{place}: is not JSON: {error}", hint=_of_lines(number, line)) from None
                if not isinstance(value, dict):
                    raise ConfigError(f"{place}: is not a JSON object")
                yield place, value

    # -------------------------------------------------------------- CSV

    def _header(self) -> list[str]:
        with self.path.open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file, strict=True), None)
        if not header:
            raise ConfigError(f"{self.path}: has no line with the names of its columns")
        return header

    def _table(self) -> Iterator[tuple[str, Any]]:
        assert self.columns is not None
        csv.field_size_limit(_LONGEST_CELL)
        with self.path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            next(reader)
            for cells in reader:
                if not cells:
                    continue
                place = f"{self.path}:{reader.line_num}"
                if len(cells) != len(self.columns):
                    raise ConfigError(f"{place}: has {len(cells)} cells, and the first line {len(self.columns)}")
                yield place, dict(zip(self.columns, cells, strict=True))

    # -------------------------------------------------------------- Parquet

    def _blocks(self) -> Iterator[tuple[str, Any]]:
        number = 0
        for batch in _parquet(self.path).iter_batches(batch_size=_BLOCK):
            for row in batch.to_pylist():
                number += 1
                yield f"{self.path}: row {number}", row


def form_of(path: Path) -> str:
    """The form of a file, by the ending of its name. Raises ConfigError."""
    form = FORMS.get(path.suffix.lower())
    if form is None:
        raise ConfigError(f"{path}: the ending is none of {', '.join(FORMS)}, by which the form is known")
    if form == "parquet":
        pyarrow()
    return form


def pyarrow() -> Any:
    """The library pyarrow. Raises ConfigError where it is not there."""
    try:
        return import_module("pyarrow")
    except ImportError:
        raise ConfigError(
            "Parquet needs the library pyarrow, which is missing", hint="pip install 'prx-engine[batch]' brings it."
        ) from None


def _parquet(path: Path) -> Any:
    arrow = pyarrow()
    try:
        return import_module("pyarrow.parquet").ParquetFile(path)
    except arrow.ArrowInvalid as error:
        raise ConfigError(f"{path}: is no Parquet file: {str(error).splitlines()[0]}") from None


def _of_lines(number: int, line: bytes) -> str:
    """A hint for a file that is JSON, but not of lines."""
    whole = number == 1 and line.strip()[:1] == b"["
    return "Each line is an object of its own; `jq -c '.[]'` makes such lines of a list." if whole else ""
