"""JSON values as a flat mapping from a path, as people write it, to the value there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prx.spec.document import Keys, dotted


def flat(value: Any, keys: Keys = ()) -> dict[str, Any]:
    """{path: value} of every value that has no further ones in it, and of lists of such values, which are read as one."""
    nested = isinstance(value, list) and any(isinstance(item, dict | list) for item in value)
    rows = value.items() if isinstance(value, Mapping) else enumerate(value) if nested else ()
    inner = [flat(child, (*keys, key)) for key, child in rows]
    return {path: leaf for part in inner for path, leaf in part.items()} if inner else {dotted(keys): value}
