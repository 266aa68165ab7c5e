"""What the files of a folder say of themselves, at hand without reading each: stored by name and stamp."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prx.errors import starved
from prx.spec.cache import Store, digest
from prx.spec.files import Files, Stamp
from prx.spec.resolve import Raw

_KEYS = ("aliases", "former_urls", "retired", "base_url", "auth")  # what neighbours ask
_Rows = dict[str, list[Any]]  # by name: its stamp, as a list, and what it says


def index(folder: Path, files: Files, store: Store) -> dict[Path, Raw]:
    """Some keys of each file of a folder, read without checks; empty where a file cannot be read."""
    name = f"index-{digest(str(folder).encode())[:16]}"
    before: _Rows = store.get(name, "") or {}
    rows: _Rows = {path.name: _row(path, files, before) for path in files.listed(folder)}
    if rows != before:
        store.put(name, "", rows)
    return {path: rows[path.name][1] for path in files.listed(folder)}


def _row(path: Path, files: Files, before: _Rows) -> list[Any]:
    stamp = _listed(files.stamp(path))
    row = before.get(path.name)
    if row is not None and stamp is not None and row[0] == stamp:
        return row
    from prx.spec.read import mapping  # late: it brings yaml, and mostly no file has changed

    try:
        raw = mapping(files.data(path))
    except OSError as error:
        if starved(error):
            raise
        return [None, {}]  # of no stamp: what could not be read now is read the next time
    return [_listed(files.stamp(path)), {key: raw[key] for key in _KEYS if key in raw}]


def _listed(stamp: Stamp | None) -> list[int] | None:
    return stamp and list(stamp)
