"""A batch in shards: the input in parts of so many rows, and for each part a Parquet file in the folder of the output.

A part's file is there when it is whole, and not before: so a run that is gone on with asks what is missing. A manifest beside
them says of which input and with which settings it was begun.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from prx.batch.files import Source, pyarrow
from prx.batch.inputs import Input, Plan
from prx.batch.journal import check_about
from prx.batch.output import part_of
from prx.batch.rows import Terms
from prx.errors import ConfigError
from prx.session import Session

try:
    import fcntl
except ImportError:  # Windows: two runs at once are not noticed there
    fcntl = None  # type: ignore[assignment]

VERSION = 1
MANIFEST = "_prx-batch.json"  # readers of tables in folders pass over names that begin so
_HEAD = "prx batch in shards"
_OURS = re.compile(r"part-\d{5,}\.parquet(\.journal|\.part)?")
_ANEW = "--overwrite begins anew."


class Shard(NamedTuple):
    """A part of the input. number: from 0; first: the number of its first row."""

    number: int
    first: int
    rows: list[Any]


def path_of(folder: Path, number: int) -> Path:
    return folder / f"part-{number:05}.parquet"


class Sharded:
    """One batch in shards of `size` rows. limit: only so many rows of the input.

    done    {shard that is there: how many of its rows failed, by kind}
    count   of all shards, known after `check`
    """

    def __init__(self, source: Path, out: Path, terms: Terms, session: Session, limit: int | None, size: int) -> None:
        """Raises ConfigError for files that cannot be used."""
        pyarrow()
        self.source, self.out, self.size = Source(source), Path(os.path.abspath(out)), size  # noqa: PTH100 - not resolved
        self._limit = limit
        self.input = Input(self.source, terms, session, limit, "parquet")
        self.done: dict[int, Counter[str]] = {}
        self.rows = self.count = 0
        self._lock: Any = None
        if out.exists() and not out.is_dir():
            raise ConfigError(f"{out}: is a file", hint="With --engine the output is a folder of Parquet files.")
        if not self.out.parent.is_dir():
            raise ConfigError(f"{out.parent}: there is no such folder")

    # -------------------------------------------------------------- the input

    def check(self, *, resume: bool = False) -> Plan:
        """Look through the whole input before anything is sent, unless the run that is gone on with has done so. Raises
        ConfigError.
        """
        plan = self.input.check(self._manifest() if resume else {})
        self.rows, self.count = plan.rows, -(-plan.rows // self.size)
        kinds, several = self.input.kinds, self.input.several
        if len(several) > 1 or ("embed" in kinds and len(kinds) > 1):
            what = (
                "one vector, and rows that ask for several"
                if len(several) > 1
                else "vectors, and rows that ask for texts"
            )
            raise ConfigError(
                f"{self.source.path}: has rows that ask for {what}",
                hint="A column of Parquet has one kind of values: make a file of each, or leave out --engine, and write JSONL.",
            )
        return plan

    @property
    def schema(self) -> Any:
        """The types of the columns that all shards must have alike: one shard may have none of some values."""
        arrow = pyarrow()
        vector = arrow.list_(arrow.float64())
        answer = {False: vector, True: arrow.list_(vector)}.get(next(iter(self.input.several), None), arrow.string())  # type: ignore[arg-type]
        fields = [*self.source.schema] if self.source.schema is not None else []
        if self.source.columns is None:
            fields = [arrow.field("id", arrow.string() if self.input.text_ids else arrow.int64())]
        elif not fields:
            fields = [arrow.field(name, arrow.string()) for name in self.source.columns]
        return arrow.schema([*fields, arrow.field("answer", answer)])

    def left(self) -> Iterator[Shard]:
        """The shards that are not there. Raises ConfigError before one of a changed input is given."""
        rows = (row for _, row in islice(self.source.rows(), self._limit))
        for number in range(self.count):
            part = list(islice(rows, self.size))
            if number not in self.done:
                self.source.check_same()
                yield Shard(number, number * self.size, part)

    # -------------------------------------------------------------- the output

    def is_done(self) -> bool:
        """Whether every shard of an earlier run is there."""
        found = self._manifest()
        return bool(found) and all(path_of(self.out, number).exists() for number in range(found.get("shards", 1)))

    def open(self, *, resume: bool, overwrite: bool) -> None:
        """Begin, or go on. Raises ConfigError where the folder is not empty, and nothing says what to do with it."""
        about = {
            "input": {"sha256": self.source.digest(), "rows": self.rows},
            "settings": {**self.input.settings(), "rows of a shard": self.size},
        }
        begun = self._manifest()
        if begun and not (resume or overwrite):
            raise ConfigError(
                f"{self.out}: is that of a run before",
                hint="--resume goes on with it, if it is not done, and --overwrite begins anew.",
            )
        others = [path.name for path in self.out.iterdir()] if self.out.exists() else []
        strange = next((name for name in sorted(others) if name != MANIFEST and not _OURS.fullmatch(name)), None)
        if strange or (others and not begun and not overwrite):
            raise ConfigError(
                f"{self.out}: has other files in it: {strange or min(others)}",
                hint="Name a folder that is new or empty.",
            )
        try:
            self.out.mkdir(exist_ok=True)
            self._write(
                {_HEAD: VERSION, **about, "looked": self.input.looked, "shards": self.count},
                begun if resume else {},
                about,
            )
        except OSError as error:
            raise ConfigError(f"{self.out}: cannot be written: {error.strerror or error}") from None
        for number in range(self.count):
            if (path := path_of(self.out, number)).exists():
                self.done[number] = failed_in(path, self.rows_of(number))

    def rows_of(self, number: int) -> int:
        return min(self.size, self.rows - number * self.size)

    def _manifest(self) -> dict[str, Any]:
        """What an earlier run has written; {} where there was none."""
        path = self.out / MANIFEST
        try:
            found = json.loads(path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: cannot be read: {error}", hint="Name another folder.") from None
        if not isinstance(found, dict) or found.get(_HEAD) != VERSION:
            raise ConfigError(f"{path}: is not of this version of prx batch", hint="Name another folder.")
        return found

    def _write(self, manifest: dict[str, Any], begun: dict[str, Any], about: dict[str, Any]) -> None:
        """Take the folder for this run: the manifest is held as long as it goes on."""
        path = self.out / MANIFEST
        self._lock = path.open("ab")
        if fcntl is not None:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ConfigError(f"{self.out}: another run is writing to it", hint="Wait for its end.") from None
        if begun:
            check_about(path, begun, about)
            return
        for other in self.out.iterdir():
            if other.name != MANIFEST:
                other.unlink()
        self._lock.truncate(0)
        self._lock.write(json.dumps(manifest, indent=1, ensure_ascii=False).encode() + b"\n")
        self._lock.flush()
        os.fsync(self._lock.fileno())

    def finish(self, number: int, failed: Counter[str]) -> None:
        """A shard is said to be there. Raises ConfigError where it is not."""
        path = path_of(self.out, number)
        if not path.exists():
            raise ConfigError(
                f"{path}: was written by its worker, and is not here",
                hint="The folder of the output has to be on a disk that all workers and this machine share.",
            )
        self.done[number] = failed

    def close(self) -> None:
        if self._lock is not None:
            self._lock.close()


def failed_in(path: Path, rows: int) -> Counter[str]:
    """How many rows of a shard's file failed, by kind. Raises ConfigError for one that is damaged."""
    parquet, arrow = import_module("pyarrow.parquet"), pyarrow()
    try:
        column = parquet.read_table(path, columns=["answer_error"], partitioning=None).column(0)
    except (arrow.ArrowException, OSError, IndexError):
        column = None
    if column is None or len(column) != rows:
        raise ConfigError(
            f"{path}: is no part of this run, or damaged", hint="Remove it, and --resume asks its rows again."
        )
    return Counter(kind for kind in column.to_pylist() if kind is not None)


def clear(path: Path) -> None:
    """Remove what is left beside a shard's file that is there."""
    for other in (part_of(path), path.with_name(f"{path.name}.journal")):
        other.unlink(missing_ok=True)
