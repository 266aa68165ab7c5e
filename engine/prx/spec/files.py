"""Folders of files, and what stands in them, as they were when first looked at: nothing is looked at twice.

So all that one catalogue gives is of one moment, however the folders change meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from prx.errors import starved
from prx.record import Record

MAX_BYTES = 256 * 1024  # a long dialect has 10 KB
SUFFIXES = (".yaml", ".yml")
DIALECTS = "_dialects"

Stamp = tuple[int, int, int, int]


class Reload(Record):
    """What a reload found.

    added, changed, removed   provider files, by path; those that had not been looked at before count as added
    problems                  why a file is not taken, each a sentence with its place; the last good version stays
    """

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


class _Kept(Record):
    stamp: Stamp | None
    data: bytes | OSError


class Files:
    """A view of some folders that does not change."""

    def __init__(self) -> None:
        self._kept: dict[Path, _Kept] = {}
        self._listed: dict[Path, tuple[Path, ...]] = {}

    def listed(self, folder: Path) -> tuple[Path, ...]:
        """The provider files of a folder, by name; none where there is no such folder."""
        if folder not in self._listed:
            try:
                self._listed.setdefault(folder, tuple(_yaml_files(folder)))
            except OSError as error:
                if starved(error):
                    raise
                return ()
        return self._listed[folder]

    def has(self, path: Path) -> bool:
        if path.parent in self._listed:
            return path in self._listed[path.parent]
        return path in self._kept or (os.path.lexists(path) and not path.is_dir())

    def data(self, path: Path) -> bytes:
        """The bytes of a file, one more than MAX_BYTES at most. Raises OSError."""
        kept = self._kept.get(path) or self._kept.setdefault(path, _look(path))
        if isinstance(kept.data, OSError):
            if starved(kept.data):
                self._kept.pop(path, None)
            raise OSError(kept.data.errno, kept.data.strerror)
        return kept.data

    def stamp(self, path: Path) -> Stamp | None:
        """What tells this version of a file from another; None where it is not known."""
        kept = self._kept.get(path)
        return kept.stamp if kept else stamp(path)

    def known(self, path: Path) -> bytes | None:
        """What was read of a file, or None."""
        kept = self._kept.get(path)
        return kept.data if kept and isinstance(kept.data, bytes) else None

    def put_back(self, path: Path, data: bytes) -> None:
        """Have a file as it was, whatever stands in it now."""
        self._kept[path] = _Kept(None, data)

    def leave_out(self, path: Path) -> None:
        """Have a file as if it were not there."""
        self._kept.pop(path, None)
        self._listed[path.parent] = tuple(each for each in self.listed(path.parent) if each != path)

    def renewed(self, folders: Iterable[Path]) -> Files:
        """The same files as they are now; all files of `folders` are read, so that they are of one moment."""
        new = Files()
        for folder in (each for place in folders for each in (place, place / DIALECTS)):
            try:
                new._listed[folder] = tuple(_yaml_files(folder))
            except OSError:  # not now; it is not empty for that
                new._listed[folder] = self.listed(folder)
        wanted = {path for listed in new._listed.values() for path in listed}
        others = [path for path in list(self._kept) if path.parent not in new._listed]  # what is gone is let go
        for path in wanted.union(others):  # a copy: callers may look at further files meanwhile
            kept = self._kept.get(path)
            same = kept is not None and kept.stamp is not None and kept.stamp == stamp(path)
            new._kept[path] = kept if kept and same else _look(path)
        return new

    def gone(self, new: Files) -> list[Path]:
        """Files that were read here and are not there any more."""
        return sorted(path for path in list(self._kept) if self.known(path) is not None and new.known(path) is None)

    def changed(self, old: Files) -> list[Path]:
        """Files that were not there in `old`, or read otherwise."""
        return sorted(path for path in self._kept if (data := self.known(path)) is not None and data != old.known(path))


def survey(places: Iterable[Path]) -> dict[Path, Stamp]:
    """What a change to any of these files, or to one in these folders, would change: the stamps of all."""
    found: dict[Path, Stamp] = {}
    for place in places:
        if not place.is_dir() and (at := stamp(place)):
            found[place] = at
        found |= _stamps(entry for folder in (place, place / DIALECTS) for entry in _scan(folder))
    return found


def stamp(path: Path) -> Stamp | None:
    """What tells one version of a file from another without reading it; None where there is none."""
    try:
        return _of(os.stat(path))  # noqa: PTH116 - a folder may have many, and this takes half as long
    except OSError:
        return None


def data_of(path: Path, limit: int = MAX_BYTES) -> bytes:
    """The bytes of a file, one more than `limit` at most. Raises OSError, also for what is no file."""
    with open(path, "rb", opener=at_once) as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise OSError(0, "is no ordinary file")
        return stream.read(limit + 1)


def at_once(path: str, flags: int) -> int:
    """A pipe without a writer would be waited for."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _look(path: Path) -> _Kept:
    """Read a file; one that is written to meanwhile is read again."""
    at = stamp(path)
    for _ in range(3):
        try:
            data = data_of(path)
        except OSError as error:
            return _Kept(None, error.with_traceback(None))  # its frames are not kept; a reload tries again
        before, at = at, stamp(path)
        if before == at:
            return _Kept(at, data)
    return _Kept(None, data)  # still written to: of no stamp, so that a reload reads it again


def _of(found: os.stat_result) -> Stamp:
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def _stamps(entries: Iterable[os.DirEntry[str]]) -> dict[Path, Stamp]:
    found: dict[Path, Stamp] = {}
    for entry in entries:
        with contextlib.suppress(OSError):
            found[Path(entry.path)] = _of(entry.stat())
    return found


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if entry.name.endswith(SUFFIXES) and entry.name[0] not in "._"]
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links in a circle: reading it says so
        return False


def _yaml_files(folder: Path) -> list[Path]:
    found = sorted(_scan(folder), key=lambda entry: entry.name)  # names compare faster than paths
    return [Path(entry.path) for entry in found if not _is_folder(entry)]
