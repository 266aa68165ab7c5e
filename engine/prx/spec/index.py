"""An index of a folder: some keys of each file, stored on disk by name and stamp, so that not every file is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prx.errors import starved
from prx.spec.cache import Store, digest
from prx.spec.files import Files, Stamp
from prx.spec.resolve import Raw

_KEYS = ("aliases", "former_urls", "retired", "base_url", "auth")  # see Catalog.glance
_Rows = dict[str, list[Any]]  # {name of a file: [its stamp as a list, or None; its keys]}


def index(folder: Path, files: Files, store: Store) -> dict[Path, Raw]:
    """{path: {key of _KEYS: value}} of each file of a folder, unchecked; {} for a file that cannot be read."""
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
    from prx.spec.read import mapping  # imported here: it imports yaml, and usually no file has changed

    try:
        raw = mapping(files.data(path))
    except OSError as error:
        if starved(error):
            raise
        return [None, {}]  # without a stamp, so that it is read again the next time
    return [_listed(files.stamp(path)), {key: raw[key] for key in _KEYS if key in raw}]


def _listed(stamp: Stamp | None) -> list[int] | None:
    return stamp and list(stamp)
