"""What an [IMAGE:…] marker may name: a data: URL always; a web address or a file only by configuration."""

from __future__ import annotations

import base64
from pathlib import Path

from prx.config import Images
from prx.core.messages import data_url
from prx.errors import ConfigError
from prx.spec.files import data_of

# By their first bytes: a file's name says nothing about what is in it.
_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF87a", "image/gif"), (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
)  # fmt: skip


class Locator:
    """Gives the URL to send for what a marker names, or None where it stays text."""

    def __init__(self, allowed: Images) -> None:
        self.allowed = allowed

    def __call__(self, reference: str) -> str | None:
        if url := data_url(reference):
            return url
        if reference.startswith(("http://", "https://")):
            return reference if self.allowed.urls else None
        if self.allowed.folder and reference:
            return self._file(reference, Path(self.allowed.folder).resolve())
        return None

    def _file(self, reference: str, folder: Path) -> str | None:
        try:
            path = (folder / reference).resolve()
            if not path.is_file():
                return None
        except (OSError, ValueError, RuntimeError):  # RuntimeError: links in a circle
            return None
        if not path.is_relative_to(folder):
            raise ConfigError(
                f"picture {reference!r} is outside {folder}", hint="images.folder sets where pictures may come from."
            )
        return read(path, self.allowed.max_bytes)


def read(path: Path, max_bytes: int = 20_000_000) -> str:
    """A picture as a data: URL. Raises ConfigError for one that is unreadable, too large, or no picture."""
    try:
        data = data_of(path, max_bytes)
    except OSError as error:
        raise ConfigError(f"picture {path}: cannot be read: {error.strerror}") from None
    if len(data) > max_bytes:
        raise ConfigError(f"picture {path}: too large; at most {max_bytes} bytes are sent")
    kind = next((kind for magic, kind in _MAGIC if data.startswith(magic)), None)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kind = "image/webp"
    if kind is None:
        raise ConfigError(f"picture {path}: neither PNG, JPEG, GIF, WebP nor BMP")
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
