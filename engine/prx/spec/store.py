"""What was made of a provider's files, kept on disk for the next process: mappings, and the trees of expressions.

It is data, as JSON, and nothing of it is ever run. What comes of packaged files is kept beside the package's own code,
where Python keeps its own; of all others, in a folder of the user's (~/.cache/prx; PRX_CACHE names another, and an
empty one none). Never beside a provider's file. A mapping says where keys go, so only what nobody else could have
written is read (spec/owned.py). All is kept under what it was made of, so that a change of a file, of the engine or
of a parser leaves nothing of it in use.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import sys
import zlib
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from prx import resources
from prx.spec import owned

_MOST = 4000  # files in a folder, before the oldest half goes
_MAX_BYTES = 8 << 20  # of a file; the largest has a hundredth


class Store:
    """A folder of results; without a folder, none are kept. What cannot be read or written is as if it were not there."""

    def __init__(self, folder: Path | None, *, writes: bool = True) -> None:
        self.folder, self._writes = folder, writes

    def get(self, name: str, made_of: str) -> Any:
        """What was put under a name, if it was made of the same; else None."""
        if self.folder is None:
            return None
        try:
            head, _, data = owned.read(self.folder, f"{name}.kept", _MAX_BYTES).partition(b"\n")
            return json.loads(data) if head == _head(made_of, data) else None  # another head, also of a damaged file
        except (OSError, ValueError, RecursionError):
            return None

    def put(self, name: str, made_of: str, value: Any) -> None:
        """Keep a value, if JSON gives it back as it is."""
        if self.folder is None or not self._writes:
            return
        with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
            data = written(value)
            if json.loads(data) != value:
                return
            owned.write(self.folder, f"{name}.kept", _head(made_of, data) + b"\n" + data)
            owned.thin_out(self.folder, ".kept", _MOST)


def written(value: Any) -> bytes:
    """A value as it is kept. Raises ValueError, TypeError or RecursionError for what JSON has no form for."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def _head(made_of: str, data: bytes) -> bytes:
    return f"{_engine()} {made_of} {zlib.crc32(data)}".encode()


@lru_cache(maxsize=8)
def of_the_package(user: Path | None) -> Store:
    """For what is made of packaged files: beside the package's own code, or with the user's where that cannot be written."""
    beside = Path(importlib.util.cache_from_source(__file__)).parent
    writes = os.access(beside, os.W_OK) and not sys.dont_write_bytecode and owned.is_ours(beside)
    return Store(beside, writes=writes) if writes or user is None else Store(user)


def folder(env: Mapping[str, str]) -> Path | None:
    """Where the user's are kept, by an environment; None for nowhere."""
    if "PRX_CACHE" in env:
        return Path(env["PRX_CACHE"]) if env["PRX_CACHE"] else None
    home = env.get("HOME", "")
    usual = (env.get("XDG_CACHE_HOME", ""), home and f"{home}/.cache")
    base = next((path for path in usual if os.path.isabs(path)), None)  # noqa: PTH117 - the rule of XDG: no others count
    return Path(base) / "prx" if base else None


@lru_cache(maxsize=64)
def digest(data: bytes) -> str:
    """A name for bytes that no others have."""
    return hashlib.sha256(data).hexdigest()


@cache
def _engine() -> str:
    """The engine, the parsers below it and the Python that run: what a result depends on besides the files it was made of.

    By what stands in them: an installation may give every file the same time, and a change need not change its size.
    """
    rows = [(path[-40:], zlib.crc32(_bytes(path))) for path in sorted(_code())]
    return digest(repr((sys.version, rows)).encode())


def _code() -> Iterator[str]:
    here = Path(__file__).parents[1]
    for place in (here, here / "lang", here / "spec", resources.folder("schemas")):
        yield from (entry.path for entry in os.scandir(place) if entry.name.endswith((".py", ".pyc", ".json")))
    found = (importlib.util.find_spec(name) for name in ("jmespath", "yaml"))  # each says its version in its __init__
    yield from (spec.origin for spec in found if spec and spec.origin)


def _bytes(path: str) -> bytes:
    descriptor = os.open(
        path, os.O_RDONLY | getattr(os, "O_BINARY", 0)
    )  # fifty files: Path would take longer than reading
    try:
        return os.read(descriptor, _MAX_BYTES)
    finally:
        os.close(descriptor)
