"""Finds the picture that an [IMAGE:…] marker names: a data: URL always, a web address or a file only by configuration.

A marker may be in a text that a stranger wrote. So a marker whose picture may not be sent, for whatever reason, stays
text, and the call does not fail: an error would show which files exist. Only too many files, or bytes, are an error.
"""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prx.accounts.config import Images
from prx.core.messages import data_url
from prx.errors import ConfigError, starved
from prx.spec.files import data_of

# Kinds by their first bytes: the name of a file may be wrong.
_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF87a", "image/gif"), (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
)  # fmt: skip
_MAX_PATH = 4096  # characters; systems allow no more
_BY_DESCRIPTOR = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW") and hasattr(os, "O_DIRECTORY")
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # O_NONBLOCK: a pipe may have no writer


class Locator:
    """Called with a marker's reference, gives the URL to send, or None where the marker stays text. One for each call: it
    counts files and bytes.
    """

    def __init__(self, allowed: Images) -> None:
        self.allowed = allowed
        self._count = self._bytes = 0

    def __call__(self, reference: str) -> str | None:
        if url := data_url(reference):
            return url
        if reference.startswith(("http://", "https://")):
            return reference if self.allowed.urls else None
        if self.allowed.folder and reference:
            return self._file(reference, self.allowed.folder)
        return None

    def _file(self, reference: str, folder: str) -> str | None:
        self._count += 1
        if self._count > self.allowed.max_count:
            raise _too_many(f"more than {self.allowed.max_count} files are named", "max_count")
        steps = _steps(reference, folder)
        data = _inside(folder, steps, self.allowed.max_bytes) if steps else None
        kind = _kind(data) if data else None
        if data is None or kind is None:
            return None
        self._bytes += len(data)
        if self._bytes > self.allowed.max_total_bytes:
            raise _too_many(f"they have more than {self.allowed.max_total_bytes} bytes together", "max_total_bytes")
        return _url(kind, data)


def read(path: Path, max_bytes: int = 20_000_000) -> str:
    """A picture that the user names, as a data: URL. Raises ConfigError for a file that cannot be read, is too large, or is
    not a picture.
    """
    try:
        data = data_of(path, max_bytes)
    except OSError as error:
        raise ConfigError(f"picture {path}: cannot be read: {error.strerror}") from None
    if len(data) > max_bytes:
        raise ConfigError(f"picture {path}: too large; at most {max_bytes} bytes are sent")
    kind = _kind(data)
    if kind is None:
        raise ConfigError(f"picture {path}: neither PNG, JPEG, GIF, WebP nor BMP")
    return _url(kind, data)


def _too_many(problem: str, key: str) -> ConfigError:
    return ConfigError(f"pictures of one call: {problem}", hint=f"images.{key} in config.toml sets the limit.")


def _kind(data: bytes) -> str | None:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for magic, kind in _MAGIC if data.startswith(magic)), None)


def _url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _steps(reference: str, folder: str) -> list[str]:
    """The names in the path from the folder to a file, without looking at the disk; [] for a path that may lead outside."""
    if len(reference) > _MAX_PATH or "\0" in reference:
        return []
    path = Path(reference)
    if path.is_absolute():
        places = (Path(os.path.abspath(folder)), Path(os.path.realpath(folder)))  # noqa: PTH100
        path = next((path.relative_to(place) for place in places if path.is_relative_to(place)), Path())
    return [] if ".." in path.parts or path.drive or path.root else [*path.parts]


def _inside(folder: str, steps: list[str], limit: int) -> bytes | None:
    """The bytes of a regular file without links to it, reached without symbolic links; None for any other file."""
    try:
        with _opened(folder, steps) as descriptor:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_size > limit:
                return None
            with os.fdopen(descriptor, "rb", closefd=False) as stream:
                data = stream.read(limit + 1)
            return data if len(data) <= limit else None
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: links in a circle, on some systems
        if starved(error):
            raise
        return None


@contextmanager
def _opened(folder: str, steps: list[str]) -> Iterator[int]:
    """A descriptor of a file, opened folder by folder without following links: so no link can be put into the path between
    a check and the opening.
    """
    if not _BY_DESCRIPTOR:
        descriptor = _opened_by_name(folder, steps)
    else:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        for place, name in enumerate(steps, 1):
            above = descriptor
            try:
                flags = _READ if place == len(steps) else os.O_RDONLY | os.O_DIRECTORY
                descriptor = os.open(name, flags | os.O_NOFOLLOW, dir_fd=above)
            finally:
                os.close(above)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _opened_by_name(folder: str, steps: list[str]) -> int:
    """For systems without such descriptors. Raises OSError."""
    place = Path(os.path.realpath(folder))
    if (place / Path(*steps)).resolve() != place / Path(*steps):
        raise OSError(0, "there is a symbolic link in the path")
    return os.open(place / Path(*steps), _READ)
