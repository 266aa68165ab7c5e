"""Reads a TOML file with the places of its keys, from a disk or through a pipe."""

from __future__ import annotations

import re
import select
import tomllib
from io import RawIOBase
from pathlib import Path

from prx.errors import ConfigError
from prx.spec.document import Document, Keys
from prx.spec.files import data_of, open_without_waiting

MAX_BYTES = 1 << 20
_PIPE_TIMEOUT = 10.0  # seconds; the program that writes into the pipe may have to ask for a password


def read(path: Path) -> Document:
    """The file. Raises ConfigError, with line and column for a syntax error."""
    try:
        text = _bytes(path).decode("utf-8-sig")
        return Document(str(path), tomllib.loads(text), _marks(text), text)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}", hint="Check the path in --config or PRX_CONFIG."
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8; save the file as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        where = f"{path}:{place[1]}:{place[2]}" if place else str(path)
        raise ConfigError(f"{where}: not TOML: {str(error).partition(' (at ')[0]}") from None
    except (RecursionError, ValueError):  # tomllib does not catch errors from Python's limits
        raise ConfigError(
            f"{path}: not TOML that can be read: nested too deep, or a number of too many digits"
        ) from None


def _bytes(path: Path) -> bytes:
    """The bytes of a file, or of a pipe: --config <(…) keeps a key off the disk. Raises OSError."""
    try:
        data = _of_pipe(path) if path.is_fifo() else data_of(path, MAX_BYTES)
    except ValueError as error:  # a NUL in the path
        raise OSError(0, str(error)) from None
    if len(data) > MAX_BYTES:
        raise OSError(0, f"larger than {MAX_BYTES // 1024} KB")
    return data


def _of_pipe(path: Path) -> bytes:
    """The bytes of a pipe until its writer closes it. Raises OSError."""
    data = b""
    with open(path, "rb", buffering=0, opener=open_without_waiting) as pipe:
        while len(data) <= MAX_BYTES and (more := _next(pipe)):
            data += more
    if not data:
        raise OSError(0, "nothing came through this pipe")
    return data


def _next(pipe: RawIOBase) -> bytes | None:
    readable, _, _ = select.select([pipe], [], [], _PIPE_TIMEOUT)
    if not readable:
        raise OSError(0, f"nothing came through this pipe for {_PIPE_TIMEOUT:g} s")
    return pipe.read(1 << 16)


_TABLE = re.compile(r"\s*(\[\[?)([^\]]+)\]")
_KEY = re.compile(r"(\s*)([A-Za-z0-9_.\"'-]+)\s*=")


def _marks(text: str) -> dict[Keys, tuple[int, int]]:
    """(line, column) of tables and keys, as far as single lines show them; tomllib gives none."""
    marks: dict[Keys, tuple[int, int]] = {(): (1, 1)}
    table: Keys = ()
    counts: dict[Keys, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if found := _TABLE.match(line):
            table = tuple(part.strip(" \"'") for part in found[2].split("."))
            if found[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            for length in range(1, len(table) + 1):
                marks.setdefault(table[:length], (number, 1))
        elif found := _KEY.match(line):
            key = tuple(part.strip("\"'") for part in found[2].split("."))
            marks[(*table, *key)] = (number, len(found[1]) + 1)
    return marks
