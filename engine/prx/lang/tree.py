"""The tree of an expression, as jmespath's parser makes it: its kinds of node, its form on disk, and what it reads."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Any

Node = dict[str, Any]


class QueryError(Exception):
    """A faulty expression: it has no tree. `column` counts from 0 within it, or is None."""

    def __init__(self, message: str, column: int | None = None) -> None:
        super().__init__(message)
        self.column = column


MAX_DEPTH = 150  # what could be read here must be readable further up Python's stack as well

# Every kind of node: the type of its value, and how many children it has.
_NONE, _ONE, _TWO, _THREE, _SOME, _MORE = range(1), range(1, 2), range(2, 3), range(3, 4), range(1, 999), range(2, 999)
KINDS: Mapping[str, tuple[type, range]] = {
    "identity": (NoneType, _NONE), "current": (NoneType, _NONE), "literal": (object, _NONE), "field": (str, _NONE),
    "index": (int, _NONE), "slice": (list, _NONE), "subexpression": (NoneType, _MORE), "index_expression": (NoneType, _MORE),
    "pipe": (NoneType, _TWO), "or_expression": (NoneType, _TWO), "and_expression": (NoneType, _TWO),
    "not_expression": (NoneType, _ONE), "comparator": (str, _TWO), "multi_select_list": (NoneType, _SOME),
    "multi_select_dict": (NoneType, _SOME), "key_val_pair": (str, _ONE), "flatten": (NoneType, _ONE),
    "projection": (NoneType, _TWO), "filter_projection": (NoneType, _THREE), "value_projection": (NoneType, _TWO),
    "function_expression": (str, _SOME), "expref": (NoneType, _ONE),
}  # fmt: skip
_STEPWISE = {
    "subexpression", "index_expression", "pipe", "projection", "filter_projection", "value_projection", "flatten",
}  # fmt: skip


def packed(node: Node) -> list[Any]:
    """A node as a list that JSON has a form for: its kind, its value, its children."""
    if node["type"] == "slice":  # its children are numbers, and no nodes
        return ["slice", node["children"]]
    return [node["type"], node.get("value"), *map(packed, node["children"])]


def unpacked(item: Any, within: str = "", depth: int = 0) -> Node:
    """A node made anew from its list. Raises ValueError, TypeError or LookupError for what is none."""
    kind, value, *children = item
    of_value, number = KINDS[kind]
    in_its_place = (kind == "key_val_pair") == (within == "multi_select_dict")
    if depth > MAX_DEPTH or not in_its_place or not isinstance(value, of_value) or len(children) not in number:
        raise ValueError(f"no {kind}")
    if kind == "slice":
        return {"type": kind, "children": _bounds(value)}
    return {"type": kind, "children": [unpacked(child, kind, depth + 1) for child in children], "value": value}


def _bounds(value: Any) -> list[int | None]:
    start, stop, step = value
    if not all(part is None or isinstance(part, int) for part in value):
        raise ValueError("no slice")
    return [start, stop, step]


def names_under(tree: Node, root: str) -> set[str]:
    """The names read directly below the field `root`: {"b"} for `a.b.c` and root "a"; {"*"} for a bare `a`."""
    children = nodes_below(tree)
    if tree["type"] == "subexpression" and _is_field(children[0], root) and children[1]["type"] == "field":
        return {children[1]["value"]}
    if _is_field(tree, root):
        return {"*"}
    return set().union(*(names_under(child, root) for child in children))


def root_names(tree: Node) -> set[str]:
    """The names read from the value itself: {"a", "d"} for `a.b || d[0].c`."""
    children = nodes_below(tree)
    if tree["type"] == "field":
        return {tree["value"]}
    if tree["type"] in _STEPWISE and children:
        return root_names(children[0])
    return set().union(*map(root_names, children)) if children else set()


def nodes_below(tree: Node) -> list[Node]:
    """The children of a node that are nodes themselves."""
    return [child for child in tree["children"] if isinstance(child, dict)]


def _is_field(node: Node, name: str) -> bool:
    return bool(node["type"] == "field" and node["value"] == name)
