"""What the files of a folder say of themselves, at hand without reading each: kept by name and stamp."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prx.errors import starved
from prx.spec import glance
from prx.spec.files import Files, Stamp
from prx.spec.resolve import Raw
from prx.spec.store import Store, digest

_SAID = ("aliases", "former_urls", "base_url", "auth")  # what neighbours ask
_Rows = dict[str, list[Any]]  # by name: its stamp, as a list, and what it says


def index(folder: Path, files: Files, store: Store) -> dict[Path, Raw]:
    """Some keys of each file of a folder, read without checks; empty where a file cannot be read."""
    name = f"index-{digest(str(folder).encode())[:16]}"
    before: _Rows = store.get(name, "") or {}
    rows: _Rows = {path.name: _row(path, files, before) for path in files.listed(folder)}
    if rows != before:
        store.put(name, "", rows)
    return {folder / each: raw for each, (_, raw) in rows.items()}


def _row(path: Path, files: Files, before: _Rows) -> list[Any]:
    at = _listed(files.stamp(path))
    known = before.get(path.name)
    if known is not None and at is not None and known[0] == at:
        return known
    try:
        raw = glance.read(files.data(path))
    except OSError as error:
        if starved(error):
            raise
        return [None, {}]  # of no stamp: what could not be read now is read the next time
    return [_listed(files.stamp(path)), {key: raw[key] for key in _SAID if key in raw}]


def _listed(stamp: Stamp | None) -> list[int] | None:
    return stamp and list(stamp)
