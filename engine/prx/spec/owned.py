"""A folder that nobody else can change, and files in it: what is trusted for being our own.

Whoever may rename a folder on the way to a file can put another in its place, between a look and the next. So the way
is looked at from / on: every folder on it belongs to us or to root, and nobody else may write in it, or others may
(/tmp) and can rename only what is theirs. What stands in such a folder stays there, and so the next look is at the
same. The last folder is opened, looked at while it is open, and its files are reached through its descriptor.

Links are followed on the way, where they stand in such a folder; the last folder, and a file, is none. Where a system
has no such descriptors (Windows), a path is taken as it is.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

_FUNCTIONS = {os.open, os.rename, os.unlink, os.stat}
_BY_DESCRIPTOR = os.supports_dir_fd >= _FUNCTIONS and os.listdir in os.supports_fd and hasattr(os, "geteuid")
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_BINARY = getattr(os, "O_BINARY", 0)
_MOST_LINKS = 40


class Owned:
    """An open folder."""

    def __init__(self, path: str, descriptor: int | None) -> None:
        self._path, self._descriptor = path, descriptor

    def read(self, name: str, limit: int) -> bytes:
        """The bytes of a file. Raises OSError, also for one that is too large, or that somebody else may write."""
        flags = os.O_RDONLY | _NO_LINK | getattr(os, "O_NONBLOCK", 0) | _BINARY
        with open(os.open(self._at(name), flags, dir_fd=self._descriptor), "rb", buffering=0) as file:  # noqa: PTH123
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_size > limit:
                raise OSError(errno.EINVAL, "is no ordinary file, or too large")
            _check(found, shared=False)
            return file.read()

    def write(self, name: str, data: bytes) -> None:
        """Have a file with these bytes, whole or not at all. Raises OSError."""
        part = f"{name}.{os.getpid()}-{threading.get_ident()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK | _BINARY
        self._remove(part)  # of a process that had this number, and was killed
        try:
            with open(os.open(self._at(part), flags, 0o600, dir_fd=self._descriptor), "wb") as file:  # noqa: PTH123
                file.write(data)
            os.replace(self._at(part), self._at(name), src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
        finally:
            self._remove(part)

    def thin_out(self, suffix: str, most: int) -> None:
        """Remove the oldest half of the files whose names end so, where there are more than that many. Raises OSError."""
        place = self._path if self._descriptor is None else self._descriptor
        names = [name for name in os.listdir(place) if name.endswith(suffix)]  # noqa: PTH208
        if len(names) > most:
            for name in sorted(names, key=self._age)[: len(names) // 2]:
                self._remove(name)

    def _age(self, name: str) -> float:
        return os.stat(self._at(name), dir_fd=self._descriptor, follow_symlinks=False).st_mtime

    def _remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._at(name), dir_fd=self._descriptor)

    def _at(self, name: str) -> str:
        return name if self._descriptor is not None else f"{self._path}/{name}"


@contextlib.contextmanager
def opened(path: Path, *, make: bool = False) -> Iterator[Owned]:
    """A folder, open. make: have it, and the one above it, if they are not there. Raises OSError for one that is not ours."""
    whole = os.path.abspath(path)  # noqa: PTH100 - links are looked at below
    if make:
        _make(whole)
    if not _BY_DESCRIPTOR:
        yield Owned(whole, None)
        return
    _look(os.path.dirname(whole))  # noqa: PTH120
    descriptor = os.open(whole, os.O_RDONLY | os.O_DIRECTORY | _NO_LINK)
    try:
        _check(os.fstat(descriptor), shared=False)
        yield Owned(whole, descriptor)
    finally:
        os.close(descriptor)


def is_ours(path: Path) -> bool:
    """Whether a folder is there, and nobody else can change it."""
    try:
        with opened(path):
            return True
    except OSError:
        return False


def _make(path: str) -> None:
    """Make a folder, and the one above it, but none further up: a home that is not there stays so."""
    above = os.path.dirname(path)  # noqa: PTH120
    for folder in (above, path):
        if not os.path.lexists(folder):
            _look(os.path.dirname(folder))  # noqa: PTH120
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, mode=0o700)  # noqa: PTH102


def _look(path: str) -> None:
    """Raises OSError where somebody else could change a folder, or put another in its place."""
    if not _BY_DESCRIPTOR:
        return
    names, at, links = _names(path), "", 0
    _check(os.lstat("/"), shared=True)
    while names and links < _MOST_LINKS:
        step = f"{at}/{names.pop()}"
        found = os.lstat(step)
        if stat.S_ISLNK(found.st_mode) and _is_ours(found):
            target, links = os.readlink(step), links + 1  # noqa: PTH115
            names += _names(target)
            at = "" if target.startswith("/") else at
        else:
            _check(found, shared=True)
            at = step
    if names:
        raise OSError(errno.ELOOP, "links in a circle")


def _names(path: str) -> list[str]:
    """The steps of a path, the last one first."""
    return [name for name in path.split("/") if name][::-1]


def _is_ours(found: os.stat_result) -> bool:
    return found.st_uid in (0, os.geteuid())  # root's, as Python's own files may be


def _check(found: os.stat_result, *, shared: bool) -> None:
    """Raises PermissionError for what somebody else could change. shared: others may have things of their own in it."""
    writable = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not (shared and found.st_mode & stat.S_ISVTX)
    if _BY_DESCRIPTOR and (writable or not _is_ours(found)):
        raise PermissionError(errno.EPERM, "somebody else may change it")
