"""A snapshot of folders: each folder is listed once and each file is read once, at first use.

So everything that one catalogue gives belongs to one version of the files, even if they change meanwhile.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from prx.errors import starved
from prx.record import Record

MAX_BYTES = 256 * 1024  # a long dialect has 10 KB
SUFFIXES = (".yaml", ".yml")
DIALECTS = "_dialects"

Stamp = tuple[int, int, int, int]  # (mtime_ns, ctime_ns, size, inode): differs between versions of a file


class Reload(Record):
    """The result of a reload.

    added, changed, removed   paths of provider files; a file that had not been read before counts as added
    problems                  one sentence with its place for each file that is not used; its last good version stays
    """

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


class _Snapshot(Record):
    """A file as it was read, or the error. stamp: None where a reload has to read it again."""

    stamp: Stamp | None
    data: bytes | OSError


class Files:
    """A view of folders that does not change with them."""

    def __init__(self) -> None:
        self._seen: dict[Path, _Snapshot] = {}
        self._listed: dict[Path, tuple[Path, ...]] = {}

    def listed(self, folder: Path) -> tuple[Path, ...]:
        """The provider files of a folder, sorted by name; () where there is no such folder."""
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
        """The stamp of the version that was read, or of the present one if none was; None where it is not known."""
        snapshot = self._seen.get(path)
        return snapshot.stamp if snapshot else stamp(path)

    def known(self, path: Path) -> bytes | None:
        """The bytes of a file if it has been read, else None."""
        snapshot = self._seen.get(path)
        return snapshot.data if snapshot and isinstance(snapshot.data, bytes) else None

    def put_back(self, path: Path, data: bytes) -> None:
        """Give these bytes for a file from now on, whatever the disk has."""
        self._seen[path] = _Snapshot(None, data)

    def leave_out(self, path: Path) -> None:
        """Treat a file as missing from now on."""
        self._seen.pop(path, None)
        self._listed[path.parent] = tuple(each for each in self.listed(path.parent) if each != path)

    def renewed(self, folders: Iterable[Path]) -> Files:
        """A new view of the same files; all files of `folders` are read at once, so that they belong to one moment."""
        new = Files()
        for folder in (each for place in folders for each in (place, place / DIALECTS)):
            try:
                new._listed[folder] = tuple(_yaml_files(folder))
            except OSError:  # it cannot be listed now, which does not mean that it is empty
                new._listed[folder] = self.listed(folder)
        wanted = {path for listed in new._listed.values() for path in listed}
        # list(): other threads may read further files meanwhile. Files that were removed are not taken over.
        others = [path for path in list(self._seen) if path.parent not in new._listed]
        for path in wanted.union(others):
            snapshot = self._seen.get(path)
            same = snapshot is not None and snapshot.stamp is not None and snapshot.stamp == stamp(path)
            new._seen[path] = snapshot if snapshot and same else _look(path)
        return new

    def gone(self, new: Files) -> list[Path]:
        """Files that were read here and that `new` does not have."""
        return sorted(path for path in list(self._seen) if self.known(path) is not None and new.known(path) is None)

    def changed(self, old: Files) -> list[Path]:
        """Files that `old` does not have, or has with other bytes."""
        return sorted(path for path in self._seen if (data := self.known(path)) is not None and data != old.known(path))


def survey(places: Iterable[Path]) -> dict[str, Stamp]:
    """The stamps of these files, and of all files in those that are folders, by their paths: any change of one changes the
    result. The paths are texts: a service looks at hundreds of files again and again, and to make Paths takes longer.
    """
    stamps: dict[str, Stamp] = {}
    for place in places:
        if not place.is_dir() and (at := stamp(place)):
            stamps[str(place)] = at
        stamps |= _stamps(entry for folder in (place, place / DIALECTS) for entry in _scan(folder))
    return stamps


def stamp(path: Path) -> Stamp | None:
    """The present stamp of a file, without reading it; None where there is no file."""
    try:
        return _stamp_of(os.stat(path))  # noqa: PTH116 - a folder may have many, and this takes half as long
    except OSError:
        return None


def data_of(path: Path, limit: int = MAX_BYTES) -> bytes:
    """The bytes of a file, at most `limit` + 1. Raises OSError, also for a folder, a pipe or a device."""
    with open(path, "rb", opener=open_without_waiting) as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise OSError(0, "it is not a regular file")
        return stream.read(limit + 1)


def open_without_waiting(path: str, flags: int) -> int:
    """An opener for `open`: the usual one waits for ever at a pipe that has no writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _look(path: Path) -> _Snapshot:
    """Read a file; if it changes meanwhile, read it again."""
    after = stamp(path)
    for _ in range(3):
        try:
            data = data_of(path)
        except OSError as error:
            return _Snapshot(None, error.with_traceback(None))  # the traceback's frames would hold memory
        before, after = after, stamp(path)
        if before == after:
            return _Snapshot(after, data)
    return _Snapshot(None, data)  # it keeps changing; without a stamp a reload reads it again


def _stamp_of(status: os.stat_result) -> Stamp:
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


def _stamps(entries: Iterable[os.DirEntry[str]]) -> dict[str, Stamp]:
    stamps: dict[str, Stamp] = {}
    for entry in entries:
        try:
            stamps[entry.path] = _stamp_of(entry.stat())
        except OSError:  # it has gone since; `suppress` takes as long as the rest
            continue
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
    except OSError:  # links in a circle: the error comes when the file is read
        return False


def _yaml_files(folder: Path) -> list[Path]:
    entries = sorted(_scan(folder), key=lambda entry: entry.name)  # names compare faster than paths
    return [Path(entry.path) for entry in entries if not _is_folder(entry)]
