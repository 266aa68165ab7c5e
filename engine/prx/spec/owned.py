"""Reads and writes files that no other user can have written, so that their content can be trusted.

A user who may rename a folder in the path of a file can put another folder in its place, also between the check and the
opening of the file. So the whole path is checked from / on, symbolic link by symbolic link: every folder in it belongs to
this user or to root; and either no other user may write into it, or it has the sticky bit (/tmp), so that others can
rename only their own files. Names in such a folder stay as they were when they were checked, so the file that is opened
is the file that was checked.

Symbolic links in the path are followed, but the last folder and the file itself must not be links. On a system without
owners of files (Windows) nothing is checked.
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
_MAX_LINKS = 40  # as Linux allows in a path


def is_ours(folder: Path) -> bool:
    """Whether a folder exists and no other user can change it."""
    try:
        _check_folder(_absolute(folder))
    except OSError:
        return False
    return True


def read(folder: Path, name: str, limit: int) -> bytes:
    """The bytes of a file. Raises OSError, also for a file that is too large or that another user could have written."""
    place = _absolute(folder)
    _check_folder(place)
    flags = os.O_RDONLY | _NO_LINK | getattr(os, "O_NONBLOCK", 0) | _BINARY
    with open(os.open(f"{place}/{name}", flags), "rb", buffering=0) as file:  # noqa: PTH123
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
            raise OSError(errno.EINVAL, "it is not a regular file, or it is too large")
        _check_owner(status, shared=False)
        return file.read()


def write(folder: Path, name: str, data: bytes) -> None:
    """Write a file, whole or not at all. Raises OSError, also where another user could change it."""
    place = _absolute(folder)
    _make_folder(place)
    _check_folder(place)
    path, part = f"{place}/{name}", f"{place}/{name}.{os.getpid()}-{threading.get_ident()}"
    _remove(part)  # left by a process with the same id that was killed
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK | _BINARY, 0o600), "wb") as file:  # noqa: PTH123
            file.write(data)
        os.replace(part, path)  # noqa: PTH105
    finally:
        _remove(part)


def thin_out(folder: Path, suffix: str, most: int) -> None:
    """Where more than `most` files have this suffix, remove the oldest half of them. Raises OSError."""
    paths = [path for path in folder.iterdir() if path.suffix == suffix]
    if len(paths) > most:
        for path in sorted(paths, key=lambda path: path.stat().st_mtime)[: len(paths) // 2]:
            path.unlink(missing_ok=True)


def _absolute(folder: Path) -> str:
    return os.path.abspath(folder)  # noqa: PTH100 - Path.resolve would follow links, which are checked one by one


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108


def _make_folder(place: str) -> None:
    """Make a folder and the one above it, if they are missing; none further up, so that a missing home is not made."""
    for folder in (os.path.dirname(place), place):  # noqa: PTH120
        if not os.path.lexists(folder):
            _check_path(os.path.dirname(folder))  # noqa: PTH120
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, mode=0o700)  # noqa: PTH102


def _check_folder(place: str) -> None:
    """Raises OSError for a folder that another user could change or replace, and for what is not a folder."""
    _check_path(os.path.dirname(place))  # noqa: PTH120
    status = os.lstat(place)
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, "it is not a folder")
    _check_owner(status, shared=False)


def _check_path(path: str) -> None:
    """Raises OSError where another user could replace a folder of this path."""
    if not _HAS_OWNERS:
        return
    names, checked, links = _names(path), "", 0
    _check_owner(os.lstat("/"), shared=True)
    while names and links < _MAX_LINKS:
        step = f"{checked}/{names.pop()}"
        status = os.lstat(step)
        if stat.S_ISLNK(status.st_mode) and _is_ours(status):
            target, links = os.readlink(step), links + 1  # noqa: PTH115
            names += _names(target)
            checked = "" if target.startswith("/") else checked
        else:
            _check_owner(status, shared=True)
            checked = step
    if names:
        raise OSError(errno.ELOOP, "too many symbolic links")


def _names(path: str) -> list[str]:
    """The names in a path, the last one first."""
    return [name for name in path.split("/") if name][::-1]


def _is_ours(status: os.stat_result) -> bool:
    return status.st_uid in (0, os.geteuid())  # root is trusted: Python itself may be installed by root


def _check_owner(status: os.stat_result, *, shared: bool) -> None:
    """Raises PermissionError for what another user could change. shared: a folder where others may have their own files."""
    writable = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not (shared and status.st_mode & stat.S_ISVTX)
    if _HAS_OWNERS and (writable or not _is_ours(status)):
        raise PermissionError(errno.EPERM, "another user may change it")
