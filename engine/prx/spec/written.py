"""Which keys the events of a face may have, by its templates: all others in a provider's event are unknown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from prx.lang.template import WORDS


def keys(stream: Mapping[str, Any], moments: Iterable[str]) -> Any:
    """The tree of the keys that the events of a `serve.stream` may have. moments: those of a block."""
    by_kind = [rows for moment in moments for rows in stream.get(moment, {}).values() if isinstance(rows, list)]
    return _union(keys_of(row) for rows in (stream.get("begin", ()), *by_kind, stream.get("end", ())) for row in rows)


def keys_of(node: Any) -> Any:
    """The same for one template."""
    if isinstance(node, list):
        return [_union(map(keys_of, node))]
    if not isinstance(node, dict):
        return None
    if "each" in node:
        return [keys_of(node.get("item"))]
    choices = [*node.get("cases", {}).values(), node.get("else")] if "match" in node else [*node.get("merge", ())]
    own = {key: keys_of(child) for key, child in node.items() if key not in WORDS}
    nested = [node[key] for key in ("value", "defaults") if key in node]
    return _union([own, *map(keys_of, (*choices, *nested))])


def _union(trees: Iterable[Any]) -> Any:
    made: Any = None
    for tree in trees:
        if isinstance(made, dict) and isinstance(tree, dict):
            made = {**made, **{key: _union([made.get(key), child]) for key, child in tree.items()}}
        elif isinstance(made, list) and isinstance(tree, list):
            made = [_union([*made, *tree])]
        else:
            made = made if made is not None else tree
    return made
