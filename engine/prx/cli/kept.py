"""Conversations on disk: one file of JSON lines each, in a folder that only its owner may read.

The first line says what the conversation is; each further one is a turn, and is written when the turn has ended. A line
that a kill has cut short is passed over.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from prx.cli import output
from prx.errors import ConfigError
from prx.record import Record
from prx.spec.files import data_of, open_without_waiting
from prx.text import nearest

_MAX_BYTES = 1_000_000_000  # of one file: pictures are in it
_FORMAT = 1
_WORDS = 70  # characters of the first message in a list


def state() -> Path | None:
    """The folder of what prx keeps of chats: $XDG_STATE_HOME/prx or ~/.local/state/prx; None without a home."""
    home = os.environ.get("HOME", "")
    usual = (os.environ.get("XDG_STATE_HOME", ""), f"{home}/.local/state" if home and Path(home).is_dir() else "")
    base = next((path for path in usual if Path(path).is_absolute()), None)
    return Path(base) / "prx" if base else None


def private(folder: Path) -> Path:
    """The folder, made where it is missing, closed to everybody else. Raises OSError."""
    above = folder.parent
    above.mkdir(0o700, parents=True, exist_ok=True)
    folder.mkdir(0o700, exist_ok=True)
    if folder.stat().st_mode & 0o077:
        folder.chmod(0o700)
    return folder


class Stored(Record):
    """A conversation on disk.

    about   its first line: when it was begun, the model, the first words
    changed when its last turn ended, as seconds since 1970
    """

    id: str
    path: Path
    about: dict[str, Any]
    changed: float


class Kept:
    """Writes the turns of one conversation. What cannot be written is said once, and ends no conversation.

    path: the file of a conversation that goes on; None for a new one, whose file is made with its first turn.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._failed = False

    def add(self, turn: dict[str, Any]) -> None:
        """Write a turn."""
        base = state()
        if base is None or self._failed:
            return
        turn = {"at": _now(), **turn}
        try:
            if self._path is None:
                private(base)
                self._path = _new_path(private(base / "conversations"))
                lines = [_about(self._path.stem, turn), turn]
            else:
                lines = [turn]
            _append(self._path, lines)
        except OSError as error:
            self._failed = True
            output.note(f"(this conversation is not kept: {error.filename or self._path}: {error.strerror})")


def _about(name: str, turn: dict[str, Any]) -> dict[str, Any]:
    content = turn["messages"][0].get("content")
    text = content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)
    words = " ".join(text[: 10 * _WORDS].split())
    first = words if len(words) <= _WORDS else f"{words[: _WORDS - 1]}…"
    return {"prx": _FORMAT, "id": name, "begun": turn["at"], "model": turn["answered_by"], "first": first}


def _new_path(folder: Path) -> Path:
    while True:
        path = folder / f"{os.urandom(4).hex()}.jsonl"
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            return path


def _append(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    data = "".join(f"{output.json_text(row)}\n" for row in rows).encode()
    with open(path, "r+b", opener=_not_by_link) as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            data = data if file.read(1) == b"\n" else b"\n" + data  # a kill had cut the last line short
        file.write(data)


def _not_by_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0))


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


# ------------------------------------------------------------------ what is there


def listed() -> list[Stored]:
    """All conversations, the one that went on last first. A file that is none is reported on stderr, and left out."""
    found = []
    for path in paths():
        try:
            with open(path, "rb", opener=open_without_waiting) as file:
                status = os.fstat(file.fileno())
                about = _line(path, 1, file.readline(_MAX_BYTES)) if status.st_size else None
        except FileNotFoundError:  # removed meanwhile
            continue
        except OSError as error:
            output.echo(f"prx: {path}: cannot be read: {error.strerror}", err=True)
            continue
        except ConfigError as error:
            output.echo(f"prx: {error}", err=True)
            continue
        if about is not None:  # an empty file is one that a kill has kept from its first turn
            found.append(Stored(path.stem, path, about, status.st_mtime))
    return sorted(found, key=lambda row: row.changed, reverse=True)


def last() -> Path:
    """The file of the conversation that went on last. Raises ConfigError where none is kept."""
    rows = listed()
    if not rows:
        raise ConfigError("no conversation is kept", hint="`prx chat` keeps one, unless --no-log is given.")
    return rows[0].path


def find(name: str) -> Path:
    """The file of a conversation by its id, or the beginning of it. Raises ConfigError for none and for several."""
    known = {path.stem: path for path in paths()}
    fitting = [name] if name in known else sorted(each for each in known if name and each.startswith(name))
    if not fitting:
        raise ConfigError(f"no conversation is called {name!r}{nearest(name, known)}", hint="`prx log` lists them.")
    if len(fitting) > 1:
        raise ConfigError(f"{len(fitting)} conversations begin with {name!r}: {', '.join(fitting[:8])}")
    return known[fitting[0]]


def turns(path: Path) -> list[dict[str, Any]]:
    """The turns of a conversation, without those that others took the place of. Raises ConfigError."""
    found: list[dict[str, Any]] = []
    for row in rows(path)[1:]:
        if row.get("replaces_last") and found:
            found.pop()
        found.append(row)
    return found


def rows(path: Path) -> list[dict[str, Any]]:
    """The lines of a conversation's file: first what it is, then its turns. Raises ConfigError."""
    try:
        data = data_of(path, _MAX_BYTES)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    lines = [(number, line) for number, line in enumerate(data.splitlines(keepends=True), 1) if line.strip()]
    return list(_rows(path, lines or [(1, b"")]))


def _rows(path: Path, lines: list[tuple[int, bytes]]) -> Iterator[dict[str, Any]]:
    for number, line in lines:
        try:
            yield _line(path, number, line)
        except ConfigError:
            if number == 1 or line.rstrip().endswith(b"}"):
                raise
            # A kill has cut this line short: its turn was not yet over.


def _line(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    fits = isinstance(row, dict) and (row.get("prx") == _FORMAT if number == 1 else _is_turn(row))
    if not fits:
        raise ConfigError(f"{path}:{number}: not a conversation of this version of prx")
    return dict(row)


def _is_turn(row: dict[str, Any]) -> bool:
    messages = row.get("messages")
    return (
        isinstance(messages, list)
        and bool(messages)
        and all(isinstance(message, dict) for message in messages)
        and isinstance(row.get("model"), str | dict)
        and isinstance(row.get("system"), str)
    )


def paths() -> list[Path]:
    """The files of all conversations."""
    base = state()
    try:
        return sorted((base / "conversations").glob("*.jsonl")) if base else []
    except OSError:
        return []
