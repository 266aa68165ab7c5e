"""The journal of a batch: which rows have been begun, and what came of those that are done; a file of lines of JSON.

    {"prx batch": 1, "input": …, "settings": {…}, "looked": {…}}     the first line
    {"begun": 7}                                                     before the first request of a row
    {"row": 7, "found": {…}}                                         the result, at once when it is there

"looked" is what a look through the input has found, so that going on with a run needs none.

Each line goes to the system in one write, so that a process that is killed loses none of them; fsync, for a machine that
fails, comes after groups of them. A last line without its end is one that was being written: it is dropped.
"""

from __future__ import annotations

import contextlib
import json
import os
from array import array
from pathlib import Path
from typing import Any, BinaryIO, Self

from prx.errors import ConfigError
from prx.json_text import compact

try:
    import fcntl
except ImportError:  # Windows: two runs at once are not noticed there
    fcntl = None  # type: ignore[assignment]

VERSION = 1
_HEAD = "prx batch"
_BEGUN, _END = b'{"begun": ', b"}\n"


def head_of(path: Path) -> dict[str, Any]:
    """The first line of a journal; empty where there is none, or none of this version."""
    try:
        with path.open("rb") as file:
            head = json.loads(file.readline())
    except (OSError, ValueError):
        return {}
    return head if isinstance(head, dict) and head.get(_HEAD) == VERSION else {}


class BusyError(ConfigError):
    """Another process has the journal."""


class Journal:
    """An open journal, of which this process alone is the writer.

    at          where the line of each row's result begins, 0 for a row that is not done
    order       the rows in the order in which they were done
    done        how many rows are done
    begun_anew  rows that were begun and not done when the run before ended: they are asked again
    """

    def __init__(self, path: Path, about: dict[str, Any], rows: int, *, resume: bool) -> None:
        """Open it. about: input and settings; resume: it is there, and goes on. Raises ConfigError."""
        self.path = path
        self.at = array("Q", bytes(8 * rows))
        self.order = array("Q")
        self.done = self.begun_anew = 0
        self._dirty = False
        self._reader: BinaryIO | None = None
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
        try:
            self._lock()
            if resume:
                self._size = self._read(about)
                os.truncate(self._fd, self._size)
            else:
                os.truncate(self._fd, 0)
                self._size = 0
            if not self._size:
                self._write(compact({_HEAD: VERSION, **about}).encode() + b"\n")
        except BaseException:
            os.close(self._fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _lock(self) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BusyError(f"{self.path}: another run is writing to it", hint="Wait for its end.") from None

    # -------------------------------------------------------------- writing

    def begun(self, row: int) -> None:
        self._write(_BEGUN + b"%d" % row + _END)

    def found(self, row: int, text: str) -> None:
        """Keep the result of a row. text: JSON."""
        at = self._size
        self._write(b'{"row": %d, "found": ' % row + text.encode() + _END)
        self.at[row] = at
        self.order.append(row)
        self.done += 1

    def _write(self, line: bytes) -> None:
        try:
            written = os.write(self._fd, line)
            while written < len(line):
                written += os.write(self._fd, line[written:])
        except OSError as error:
            os.truncate(self._fd, self._size)  # a part of a line in the middle would be damage
            raise ConfigError(
                f"{self.path}: cannot be written: {error.strerror}",
                hint="Results up to here are kept: when that is put right, --resume goes on.",
            ) from None
        self._size += len(line)
        self._dirty = True

    def sync(self) -> None:
        """Wait until the disk has all that was written."""
        if self._dirty:
            self._dirty = False
            os.fsync(self._fd)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.sync()
        os.close(self._fd)
        if self._reader is not None:
            self._reader.close()

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    # -------------------------------------------------------------- reading

    def text(self, row: int) -> bytes:
        """The JSON text of a row's result."""
        if self._reader is None:
            self._reader = self.path.open("rb")
        self._reader.seek(self.at[row])
        return self._reader.readline()[len(b'{"row": %d, "found": ' % row) : -len(_END)]

    def _read(self, about: dict[str, Any]) -> int:
        """Take in the lines of an earlier run; gives the size without what was being written at its end."""
        size, begun = 0, set[int]()
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                if number == 1:
                    self._check(line, about)
                else:
                    self._take(line, number, size, begun)
                size += len(line)
        self.begun_anew = len(begun)
        return size

    def _check(self, line: bytes, about: dict[str, Any]) -> None:
        """Raise ConfigError for a journal of another input, or of other settings."""
        head = self._value(line, 1)
        if head.get(_HEAD) != VERSION:
            raise ConfigError(f"{self.path}: not a journal of this version of prx batch", hint=_ANEW)
        check_about(self.path, head, about)

    def _take(self, line: bytes, number: int, at: int, begun: set[int]) -> None:
        if line.startswith(_BEGUN) and (digits := line[len(_BEGUN) : -len(_END)]).isdigit() and line.endswith(_END):
            begun.add(int(digits))  # half of all lines are such, and reading them as JSON takes four times as long
            return
        row = self._value(line, number)
        if row.get("row", -1) in range(len(self.at)):
            begun.discard(row["row"])
            if not self.at[row["row"]]:
                self.order.append(row["row"])
                self.done += 1
            self.at[row["row"]] = at
        else:
            raise self._damaged(number)

    def _value(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            value = json.loads(line)
        except ValueError:
            raise self._damaged(number) from None
        if not isinstance(value, dict):
            raise self._damaged(number)
        return value

    def _damaged(self, number: int) -> ConfigError:
        return ConfigError(f"{self.path}:{number}: is no line of a journal; the file is damaged", hint=_ANEW)


_ANEW = "--overwrite begins anew."


def check_about(path: Path, head: dict[str, Any], about: dict[str, Any]) -> None:
    """Raise ConfigError where a run was begun with another input, or with other settings. head: what is known of it."""
    if head.get("input") != about["input"]:
        raise ConfigError(f"{path}: belongs to another input: the file has changed since", hint=_ANEW)
    was, now = head.get("settings", {}), about["settings"]
    for name in {**was, **now}:
        if was.get(name) != now.get(name):
            raise ConfigError(
                f"{path}: was begun with {name} {_shown(was.get(name))}, not {_shown(now.get(name))}",
                hint=f"Give the same {name}. {_ANEW}",
            )


def _shown(value: Any) -> str:
    return "none" if value is None else f"{compact(value):.80}"
