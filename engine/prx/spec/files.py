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


class _Snapshot(Record):
    """A file as it was when it was looked at; of no stamp where it has to be looked at again."""

    stamp: Stamp | None
    data: bytes | OSError


class Files:
    """A view of some folders that does not change."""

    def __init__(self) -> None:
        self._seen: dict[Path, _Snapshot] = {}
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
        return path in self._seen or (os.path.lexists(path) and not path.is_dir())

    def data(self, path: Path) -> bytes:
        """The bytes of a file, one more than MAX_BYTES at most. Raises OSError."""
        snapshot = self._seen.get(path) or self._seen.setdefault(path, _look(path))
        if isinstance(snapshot.data, OSError):
            if starved(snapshot.data):
                self._seen.pop(path, None)
            raise OSError(snapshot.data.errno, snapshot.data.strerror)
        return snapshot.data

    def stamp(self, path: Path) -> Stamp | None:
        """What tells this version of a file from another; None where it is not known."""
        snapshot = self._seen.get(path)
        return snapshot.stamp if snapshot else stamp(path)

    def known(self, path: Path) -> bytes | None:
        """What was read of a file, or None."""
        snapshot = self._seen.get(path)
        return snapshot.data if snapshot and isinstance(snapshot.data, bytes) else None

    def put_back(self, path: Path, data: bytes) -> None:
        """Have a file as it was, whatever stands in it now."""
        self._seen[path] = _Snapshot(None, data)

    def leave_out(self, path: Path) -> None:
        """Have a file as if it were not there."""
        self._seen.pop(path, None)
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
        others = [path for path in list(self._seen) if path.parent not in new._listed]  # what is gone is let go
        for path in wanted.union(others):  # a copy: callers may look at further files meanwhile
            snapshot = self._seen.get(path)
            same = snapshot is not None and snapshot.stamp is not None and snapshot.stamp == stamp(path)
            new._seen[path] = snapshot if snapshot and same else _look(path)
        return new

    def gone(self, new: Files) -> list[Path]:
        """Files that were read here and are not there any more."""
        return sorted(path for path in list(self._seen) if self.known(path) is not None and new.known(path) is None)

    def changed(self, old: Files) -> list[Path]:
        """Files that were not there in `old`, or read otherwise."""
        return sorted(path for path in self._seen if (data := self.known(path)) is not None and data != old.known(path))


def survey(places: Iterable[Path]) -> dict[Path, Stamp]:
    """What a change to any of these files, or to one in these folders, would change: the stamps of all."""
    stamps: dict[Path, Stamp] = {}
    for place in places:
        if not place.is_dir() and (at := stamp(place)):
            stamps[place] = at
        stamps |= _stamps(entry for folder in (place, place / DIALECTS) for entry in _scan(folder))
    return stamps


def stamp(path: Path) -> Stamp | None:
    """What tells one version of a file from another without reading it; None where there is none."""
    try:
        return _stamp_of(os.stat(path))  # noqa: PTH116 - a folder may have many, and this takes half as long
    except OSError:
        return None


def data_of(path: Path, limit: int = MAX_BYTES) -> bytes:
    """The bytes of a file, one more than `limit` at most. Raises OSError, also for what is no file."""
    with open(path, "rb", opener=at_once) as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise OSError(0, "is no ordinary file")
        return stream.read(limit + 1)


def at_once(path: str, flags: int) -> int:
    """An opener that never waits: to open a pipe that nobody writes to would take for ever."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _look(path: Path) -> _Snapshot:
    """Read a file; one that is written to meanwhile is read again."""
    at = stamp(path)
    for _ in range(3):
        try:
            data = data_of(path)
        except OSError as error:
            return _Snapshot(None, error.with_traceback(None))  # its frames would hold memory; a reload tries again
        before, at = at, stamp(path)
        if before == at:
            return _Snapshot(at, data)
    return _Snapshot(None, data)  # still written to: of no stamp, so that a reload reads it again


def _stamp_of(status: os.stat_result) -> Stamp:
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


def _stamps(entries: Iterable[os.DirEntry[str]]) -> dict[Path, Stamp]:
    stamps: dict[Path, Stamp] = {}
    for entry in entries:
        with contextlib.suppress(OSError):
            stamps[Path(entry.path)] = _stamp_of(entry.stat())
    return stamps


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
    entries = sorted(_scan(folder), key=lambda entry: entry.name)  # names compare faster than paths
    return [Path(entry.path) for entry in entries if not _is_folder(entry)]
