"""Where the packaged files are: beside the package in a wheel, at the repository's root in a checkout.

An editable install would leave a stale copy of the files in site-packages, and importlib.resources
cannot see past it; so the answer depends on this file's own place.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

_PLACES = {"cases": "tests/cases"}
_HERE = Path(__file__).resolve().parent


@cache
def folder(name: str) -> Path:
    """The folder `name` ("providers.d", "schemas", …)."""
    packaged = _HERE / "_data" / name
    return packaged if packaged.is_dir() else _HERE.parents[1] / _PLACES.get(name, name)
