"""Files that nobody else can have written: what is trusted for being our own.

Whoever may rename a folder on the way to a file can put another in its place, even between a look and the next. So the
way is looked at from / on, link by link: every folder on it belongs to us or to root, and either nobody else may write
in it, or others may (/tmp) and can rename only what is theirs. What stands in such a folder under a name stays what it
is, so whatever comes next on the way, the file at the end as well, is still what was looked at when it is opened.

Links are followed on the way; the last folder, and a file, is none. A system without owners (Windows) is not asked.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from pathlib import Path

_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_BINARY = getattr(os, "O_BINARY", 0)
_HAS_OWNERS = hasattr(os, "geteuid")
_MOST_LINKS = 40


def is_ours(folder: Path) -> bool:
    """Whether a folder is there, and nobody else can change it."""
    try:
        _look(_whole(folder))
    except OSError:
        return False
    return True


def read(folder: Path, name: str, limit: int) -> bytes:
    """The bytes of a file. Raises OSError, also for one that is too large, or that somebody else could have written."""
    place = _whole(folder)
    _look(place)
    flags = os.O_RDONLY | _NO_LINK | getattr(os, "O_NONBLOCK", 0) | _BINARY
    with open(os.open(f"{place}/{name}", flags), "rb", buffering=0) as file:  # noqa: PTH123
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
            raise OSError(errno.EINVAL, "is no ordinary file, or too large")
        _check(status, shared=False)
        return file.read()


def write(folder: Path, name: str, data: bytes) -> None:
    """Have a file with these bytes, whole or not at all. Raises OSError, also where somebody else could change it."""
    place = _whole(folder)
    _make(place)
    _look(place)
    path, part = f"{place}/{name}", f"{place}/{name}.{os.getpid()}-{threading.get_ident()}"
    _remove(part)  # of a process that had this number, and was killed
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK | _BINARY, 0o600), "wb") as file:  # noqa: PTH123
            file.write(data)
        os.replace(part, path)  # noqa: PTH105
    finally:
        _remove(part)


def thin_out(folder: Path, suffix: str, most: int) -> None:
    """Remove the oldest half of the files whose names end so, where there are more than that many. Raises OSError."""
    paths = [path for path in folder.iterdir() if path.suffix == suffix]
    if len(paths) > most:
        for path in sorted(paths, key=lambda path: path.stat().st_mtime)[: len(paths) // 2]:
            path.unlink(missing_ok=True)


def _whole(folder: Path) -> str:
    return os.path.abspath(folder)  # noqa: PTH100 - links are looked at one by one


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108


def _make(place: str) -> None:
    """Have a folder, and the one above it, where they are not there. None further up: a missing home stays missing."""
    for folder in (os.path.dirname(place), place):  # noqa: PTH120
        if not os.path.lexists(folder):
            _look_above(os.path.dirname(folder))  # noqa: PTH120
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, mode=0o700)  # noqa: PTH102


def _look(place: str) -> None:
    """Raises OSError for a folder that somebody else could change, or that is none."""
    _look_above(os.path.dirname(place))  # noqa: PTH120
    status = os.lstat(place)
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, "is no folder")
    _check(status, shared=False)


def _look_above(path: str) -> None:
    """Raises OSError where somebody else could put another folder in the place of one on the way."""
    if not _HAS_OWNERS:
        return
    names, at, links = _names(path), "", 0
    _check(os.lstat("/"), shared=True)
    while names and links < _MOST_LINKS:
        step = f"{at}/{names.pop()}"
        status = os.lstat(step)
        if stat.S_ISLNK(status.st_mode) and _is_ours(status):
            target, links = os.readlink(step), links + 1  # noqa: PTH115
            names += _names(target)
            at = "" if target.startswith("/") else at
        else:
            _check(status, shared=True)
            at = step
    if names:
        raise OSError(errno.ELOOP, "links in a circle")


def _names(path: str) -> list[str]:
    """The steps of a path, the last one first."""
    return [name for name in path.split("/") if name][::-1]


def _is_ours(status: os.stat_result) -> bool:
    return status.st_uid in (0, os.geteuid())  # root's, as Python's own files may be


def _check(status: os.stat_result, *, shared: bool) -> None:
    """Raises PermissionError for what somebody else could change. shared: others may have things of their own in it."""
    writable = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not (shared and status.st_mode & stat.S_ISVTX)
    if _HAS_OWNERS and (writable or not _is_ours(status)):
        raise PermissionError(errno.EPERM, "somebody else may change it")
