"""What was made of a provider's files, kept on disk for the next process: mappings and compiled expressions.

As Python keeps the code of its modules: what comes of packaged files beside the package's own, of all others in a
folder of the user's (~/.cache/prx; PRX_CACHE names another, and an empty one none). Never beside a provider's
file: whoever gives one away must not be able to give code along with it. All is kept under what it was made of,
so that a change of a file, of the engine or of Python leaves nothing of it in use.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import marshal
import os
import stat
import sys
import threading
import zlib
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from prx import resources

_MOST = 4000  # files in a folder, before the oldest half goes


class Store:
    """A folder of results; without a folder, none are kept. What cannot be read or written is as if it were not there."""

    def __init__(self, folder: Path | None, *, writes: bool = True) -> None:
        self.folder, self._writes = folder, writes

    def get(self, name: str, made_of: str) -> Any:
        """What was put under a name, if it was made of the same; else None."""
        if self.folder is None:
            return None
        try:
            path = self.folder / f"{name}.kept"
            if not (_is_ours(self.folder) and _is_ours(path)):
                return None
            head, _, data = path.read_bytes().partition(b"\n")
        except OSError:
            return None
        if head != _head(made_of, data):  # also of a damaged file, which marshal would not survive
            return None
        return marshal.loads(data)  # noqa: S302 - ours alone to write, as Python's own cache is

    def put(self, name: str, made_of: str, value: Any) -> None:
        if self.folder is None or not self._writes:
            return
        with contextlib.suppress(OSError, ValueError):
            data = marshal.dumps(value)
            for made in (self.folder.parent, self.folder):  # and no further up: a home that is not there stays so
                made.mkdir(mode=0o700, exist_ok=True)
            if not _is_ours(self.folder):
                return
            path = self.folder / f"{name}.kept"
            part = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
            try:
                part.touch(mode=0o600)
                part.write_bytes(_head(made_of, data) + b"\n" + data)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
            self._tidy()

    def _tidy(self) -> None:
        found = [path for path in self.folder.iterdir() if path.suffix == ".kept"] if self.folder else []
        if len(found) > _MOST:
            for path in sorted(found, key=lambda path: path.stat().st_mtime)[: len(found) // 2]:
                path.unlink(missing_ok=True)


def _head(made_of: str, data: bytes) -> bytes:
    return f"{_engine()} {made_of} {zlib.crc32(data)}".encode()


@lru_cache(maxsize=8)
def of_the_package(user: Path | None) -> Store:
    """For what is made of packaged files: beside the package's own code, or with the user's where that cannot be written."""
    beside = Path(importlib.util.cache_from_source(__file__)).parent
    writes = os.access(beside, os.W_OK) and not sys.dont_write_bytecode
    return Store(beside, writes=writes) if writes or user is None else Store(user)


def folder(env: Mapping[str, str]) -> Path | None:
    """Where the user's are kept, by an environment; None for nowhere."""
    if "PRX_CACHE" in env:
        return Path(env["PRX_CACHE"]) if env["PRX_CACHE"] else None
    base = env.get("XDG_CACHE_HOME") or (env.get("HOME") and f"{env['HOME']}/.cache")
    return Path(base) / "prx" if base else None


@lru_cache(maxsize=1024)
def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _is_ours(path: Path) -> bool:
    """Whether nobody else can have written it, by its owner and mode. The owner may be root, as of Python's own files."""
    if not hasattr(os, "geteuid"):
        return True
    found = path.stat()
    return found.st_uid in (0, os.geteuid()) and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


@cache
def _engine() -> str:
    """The engine and the Python that run: whatever a result depends on besides the files it was made of."""
    here = Path(__file__).parents[1]
    places = (here, here / "lang", here / "spec", resources.folder("schemas"))
    rows = [
        (entry.name, entry.stat().st_mtime_ns, entry.stat().st_size)
        for place in places
        for entry in os.scandir(place)
        if entry.name.endswith((".py", ".json"))
    ]
    return digest(repr((sys.implementation.cache_tag, sys.version, sorted(rows))).encode())
