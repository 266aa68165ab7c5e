"""What was made of a provider's files, stored on disk for the next process: mappings, and the trees of expressions.

It is data, as JSON, and nothing of it is ever run. What comes of packaged files is stored beside the package's own code,
where Python keeps its own; of all others, in a folder of the user's (~/.cache/prx; PRX_CACHE names another, and an
empty one none). Never beside a provider's file. A mapping says where keys go, so only what nobody else could have
written is read (spec/owned.py). All is stored under what it was made of, so that a change of a file, of the engine or
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from prx import resources
from prx.errors import SpecError
from prx.lang.compiled import Expressions
from prx.spec import owned
from prx.spec.definition import Definition, Entry, SourceFile
from prx.spec.files import Files

_MOST = 4000  # files in a folder, before the oldest half goes
_SMALL = 128 << 10  # bytes: what is larger is the index of somebody's large folder, and is not remembered
_MAX_BYTES = 8 << 20  # of a file; the largest has a hundredth
BasePath = Callable[[str, Path | None], Path]
_Row = Sequence[Any]  # a SourceFile: its name, the place of the file it was seen from (-1: none), a digest


class Store:
    """A folder of results; without a folder, none are stored. What cannot be read or written is as if it were not there."""

    def __init__(self, folder: Path | None, *, writes: bool = True) -> None:
        self.folder, self._writes = folder, writes

    def get(self, name: str, made_of: str) -> Any:
        """What was put under a name, if it was made of the same; else None."""
        if self.folder is None:
            return None
        try:
            head, _, data = owned.read(self.folder, f"{name}.kept", _MAX_BYTES).partition(b"\n")
            # A damaged file has another head as well: the head has a checksum.
            if head != _head(made_of, data):
                return None
            return _small(data) if len(data) < _SMALL else json.loads(data)
        except (OSError, ValueError, RecursionError):
            return None

    def put(self, name: str, made_of: str, value: Any) -> None:
        """Store a value, if JSON gives it back as it is."""
        if self.folder is None or not self._writes:
            return
        with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
            data = _json(value)
            if json.loads(data) != value:
                return
            owned.write(self.folder, f"{name}.kept", _head(made_of, data) + b"\n" + data)
            owned.thin_out(self.folder, ".kept", _MOST)


@lru_cache(maxsize=64)
def _small(data: bytes) -> Any:
    # Every client, and every file of a dialect, reads the same few results. Nobody changes what is read.
    return json.loads(data)


class DefinitionCache:
    """Definitions on disk, each for as long as every file that it was made of is the same.

    folder        where those are that are not the package's, None for nowhere
    files         what stands in a file now
    base_path     which file `extends: name` means now, seen from another file; raises SpecError
    expressions   where the trees of a definition's expressions come from and go to
    """

    def __init__(self, folder: Path | None, files: Files, base_path: BasePath, expressions: Expressions) -> None:
        self._folder, self._files, self._base_path, self._expressions = folder, files, base_path, expressions

    def get(self, entry: Entry, *, trees: bool) -> Definition | None:
        """The definition as it was made before, or None. trees: only with those of all its expressions."""
        own, users = store_of(self._folder, packaged=entry.packaged), Store(self._folder)
        definition = self._from(own, entry, trees=trees)
        # A packaged file that extends one of the user's is with the user's.
        return definition or (self._from(users, entry, trees=trees) if users.folder != own.folder else None)

    def _from(self, store: Store, entry: Entry, *, trees: bool) -> Definition | None:
        try:
            rows, raw, bases, parsed = store.get(_name(entry), self._own(entry)) or ((), None, "", "")
            files = self._source_files(entry, rows) if raw and (parsed or not trees) else None
            if not (files and raw):
                return None
            mappings, stored_trees = store.get(bases, bases), store.get(parsed, parsed) if parsed else {}
            if mappings is None or stored_trees is None:
                return None
            self._expressions.add_stored(stored_trees)
            return Definition(entry, raw, mappings, files, self._expressions)
        except (OSError, SpecError, TypeError, ValueError, LookupError):
            return None

    def put(self, definition: Definition, *, trees: bool) -> None:
        """Store a definition; trees: with those of all its expressions, so that the next process parses nothing."""
        packaged = all(
            file.packaged for file in definition.source_files
        )  # beside the package's code is only what is of it
        store = store_of(self._folder, packaged=packaged)
        if store.folder is None:
            return
        paths = [file.path for file in definition.source_files]
        rows = [
            [file.name, paths.index(file.of) if file.of else -1, digest(file.data)] for file in definition.source_files
        ]
        parsed = _put_shared(store, definition.trees()) if trees else ""
        bases = _put_shared(store, dict(definition.bases))
        store.put(_name(definition.entry), self._own(definition.entry), [rows, definition.raw, bases, parsed])

    def _own(self, entry: Entry) -> str:
        return digest(self._files.data(entry.path))

    def _source_files(self, entry: Entry, rows: Sequence[_Row]) -> tuple[SourceFile, ...] | None:
        """The files as they are now, or None where one is not what it was. Raises SpecError, OSError."""
        files: list[SourceFile] = []
        for name, place, digest_then in rows:
            of = files[place].path if place >= 0 else None
            path = entry.path if name is None else self._base_path(name, of)
            files.append(SourceFile(name, of, path, self._files.data(path)))
            if digest(files[-1].data) != digest_then:
                return None
        return tuple(files)


def _name(entry: Entry) -> str:
    return f"{entry.id}-{digest(str(entry.path).encode())[:16]}"


def _put_shared(store: Store, value: Mapping[str, Any]) -> str:
    """Store what many providers of a dialect share once, under its digest, which is given back."""
    name = f"shared-{digest(_json(value))[:32]}"
    if store.get(name, name) is None:
        store.put(name, name, value)
    return name


def _json(value: Any) -> bytes:
    """A value as it is stored. Raises ValueError, TypeError or RecursionError for what JSON has no form for."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def _head(made_of: str, data: bytes) -> bytes:
    return f"{_engine()} {made_of} {zlib.crc32(data)}".encode()


def store_of(user: Path | None, *, packaged: bool) -> Store:
    """Where results are stored: of packaged files, or of others."""
    return _of_the_package(user) if packaged else Store(user)


@lru_cache(maxsize=8)
def _of_the_package(user: Path | None) -> Store:
    """For what is made of packaged files: beside the package's own code, or with the user's where that cannot be written."""
    beside = Path(importlib.util.cache_from_source(__file__)).parent
    writes = os.access(beside, os.W_OK) and not sys.dont_write_bytecode and owned.is_ours(beside)
    return Store(beside, writes=writes) if writes or user is None else Store(user)


def cache_folder(env: Mapping[str, str]) -> Path | None:
    """Where the user's are stored, by an environment; None for nowhere."""
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
    parsers = (importlib.util.find_spec(name) for name in ("jmespath", "yaml"))  # each says its version in its __init__
    yield from (spec.origin for spec in parsers if spec and spec.origin)


def _bytes(path: str) -> bytes:
    # Fifty files: Path would take longer than reading.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        return os.read(descriptor, _MAX_BYTES)
    finally:
        os.close(descriptor)
