"""Stores on disk what was made of a provider's files, for the next process: resolved mappings, and trees of expressions.

Stored is JSON; nothing of it is executed. Results of packaged files are stored in the package's __pycache__, those of all
other files in a folder of the user's (~/.cache/prx; PRX_CACHE names another one, and set to nothing, none); never beside a
provider's file. A mapping decides where keys are sent, so a file is read only if no other user could have written it
(spec/owned.py). Each result carries a digest of all it was made of: after a change of a file, of the engine or of a
parser it is not used any more.
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

_MAX_FILES = 4000  # files in a folder, before the oldest half is removed
_SMALL = 128 << 10  # bytes; a larger file, the index of a large folder, is not cached in memory
_MAX_BYTES = 8 << 20  # of a file; the largest of the packaged ones has a hundredth of it
BasePath = Callable[[str, Path | None], Path]
_Row = Sequence[Any]  # [name of a SourceFile, place of the row of its `of` (-1: none), digest of its bytes]


class Store:
    """A folder of results; with folder=None nothing is stored. Files that cannot be read or written count as missing."""

    def __init__(self, folder: Path | None, *, writes: bool = True) -> None:
        self.folder, self._writes = folder, writes

    def get(self, name: str, made_of: str) -> Any:
        """The value that was stored under a name with the same `made_of`, or None."""
        if self.folder is None:
            return None
        try:
            head, _, data = owned.read(self.folder, f"{name}.kept", _MAX_BYTES).partition(b"\n")
            # The head has a checksum of the data: that of a damaged file differs.
            if head != _head(made_of, data):
                return None
            return _small(data) if len(data) < _SMALL else json.loads(data)
        except (OSError, ValueError, RecursionError):
            return None

    def put(self, name: str, made_of: str, value: Any) -> None:
        """Store a value, unless it would come back from JSON changed. made_of: a digest of all that the value depends on."""
        if self.folder is None or not self._writes:
            return
        with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
            data = _json(value)
            if json.loads(data) != value:
                return
            owned.write(self.folder, f"{name}.kept", _head(made_of, data) + b"\n" + data)
            owned.thin_out(self.folder, ".kept", _MAX_FILES)


@lru_cache(maxsize=64)
def _small(data: bytes) -> Any:
    # Cached: every client, and every file of a dialect, reads the same few results. The value must not be changed.
    return json.loads(data)


class DefinitionCache:
    """Definitions on disk. Each is valid as long as every file that it was made of is the same.

    folder        of the definitions of files outside the package; None for nowhere
    files         gives the present bytes of a file
    base_path     gives the file that `extends: name` means at present, in another file; raises SpecError
    expressions   gets the stored trees of a definition's expressions
    """

    def __init__(self, folder: Path | None, files: Files, base_path: BasePath, expressions: Expressions) -> None:
        self._folder, self._files, self._base_path, self._expressions = folder, files, base_path, expressions

    def get(self, entry: Entry, *, trees: bool) -> Definition | None:
        """The stored definition, or None. trees: only one that was stored with the trees of all its expressions."""
        usual, users = store_of(self._folder, packaged=entry.packaged), Store(self._folder)
        definition = self._from(usual, entry, trees=trees)
        # A packaged file that extends one of the user's files is stored in the user's folder.
        return definition or (self._from(users, entry, trees=trees) if users.folder != usual.folder else None)

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
        """Store a definition; trees: with the trees of all its expressions, so that the next process parses nothing."""
        packaged = all(file.packaged for file in definition.source_files)
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
    """Store a value that many providers of a dialect share only once, under a name made of its digest; gives the name."""
    name = f"shared-{digest(_json(value))[:32]}"
    if store.get(name, name) is None:
        store.put(name, name, value)
    return name


def _json(value: Any) -> bytes:
    """A value as it is stored. Raises ValueError, TypeError or RecursionError for one that JSON cannot express."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def _head(made_of: str, data: bytes) -> bytes:
    return f"{_engine()} {made_of} {zlib.crc32(data)}".encode()


def store_of(user: Path | None, *, packaged: bool) -> Store:
    """The store for results of packaged files, or of others. user: the user's folder."""
    return _packaged_store(user) if packaged else Store(user)


@lru_cache(maxsize=8)
def _packaged_store(user: Path | None) -> Store:
    """The store for results of packaged files: in the package's __pycache__, or in the user's folder where prx may not
    write there.
    """
    beside = Path(importlib.util.cache_from_source(__file__)).parent
    writes = os.access(beside, os.W_OK) and not sys.dont_write_bytecode and owned.is_ours(beside)
    return Store(beside, writes=writes) if writes or user is None else Store(user)


def cache_folder(env: Mapping[str, str]) -> Path | None:
    """The user's folder by an environment; None for nowhere."""
    if "PRX_CACHE" in env:
        return Path(env["PRX_CACHE"]) if env["PRX_CACHE"] else None
    home = env.get("HOME", "")
    usual = (env.get("XDG_CACHE_HOME", ""), home and f"{home}/.cache")
    base = next((path for path in usual if os.path.isabs(path)), None)  # noqa: PTH117 - the rule of XDG: no others count
    return Path(base) / "prx" if base else None


@lru_cache(maxsize=64)
def digest(data: bytes) -> str:
    """SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


@cache
def _engine() -> str:
    """A digest of prx's code and schemas, of the parsers and of the version of Python: all results depend on them.

    It is made of the files' contents: an installation may give every file the same time, and a change may keep a file's
    size.
    """
    rows = [(path[-40:], zlib.crc32(_bytes(path))) for path in sorted(_code())]
    return digest(repr((sys.version, rows)).encode())


def _code() -> Iterator[str]:
    here = Path(__file__).parents[1]
    for place in (here, here / "lang", here / "spec", resources.folder("schemas")):
        yield from (entry.path for entry in os.scandir(place) if entry.name.endswith((".py", ".pyc", ".json")))
    parsers = (importlib.util.find_spec(name) for name in ("jmespath", "yaml"))  # their __init__.py has their version
    yield from (spec.origin for spec in parsers if spec and spec.origin)


def _bytes(path: str) -> bytes:
    # There are fifty files; with Path, opening them would take longer than reading them.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        return os.read(descriptor, _MAX_BYTES)
    finally:
        os.close(descriptor)
