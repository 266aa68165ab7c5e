"""The tree of an expression, as jmespath's parser makes it: its kinds of node, its form on disk, the names it reads."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Any

Node = dict[str, Any]


class QueryError(Exception):
    """The expression is faulty. column: of the fault in the expression, counted from 0, or None."""

    def __init__(self, message: str, column: int | None = None) -> None:
        super().__init__(message)
        self.column = column


MAX_DEPTH = 150  # low enough for Python's recursion limit, also where the caller is deep in the stack itself

# {kind of node: (type of its value, how many children it may have)}
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
    """A node as a list for JSON: [kind, value, child, …]."""
    if node["type"] == "slice":  # its children are numbers, not nodes
        return ["slice", node["children"]]
    return [node["type"], node.get("value"), *map(packed, node["children"])]


def unpacked(item: Any, within: str = "", depth: int = 0) -> Node:
    """The node of a list that `packed` made. Raises ValueError, TypeError or LookupError for any other value."""
    kind, value, *children = item
    type_of_value, number_of_children = KINDS[kind]
    is_allowed_here = (kind == "key_val_pair") == (within == "multi_select_dict")
    is_well_formed = isinstance(value, type_of_value) and len(children) in number_of_children
    if depth > MAX_DEPTH or not is_allowed_here or not is_well_formed:
        raise ValueError(f"not a valid {kind}")
    if kind == "slice":
        return {"type": kind, "children": _bounds(value)}
    return {"type": kind, "children": [unpacked(child, kind, depth + 1) for child in children], "value": value}


def _bounds(value: Any) -> list[int | None]:
    start, stop, step = value
    if not all(part is None or isinstance(part, int) for part in value):
        raise ValueError("not a valid slice")
    return [start, stop, step]


def names_under(tree: Node, root: str) -> set[str]:
    """The names read directly below the field `root`: {"b"} for `a.b.c` and root "a"; {"*"} where `a` is read whole."""
    children = nodes_below(tree)
    if tree["type"] == "subexpression" and _is_field(children[0], root) and children[1]["type"] == "field":
        return {children[1]["value"]}
    if _is_field(tree, root):
        return {"*"}
    return set().union(*(names_under(child, root) for child in children))


def root_names(tree: Node) -> set[str]:
    """The names of fields read from the expression's input: {"a", "d"} for `a.b || d[0].c`."""
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
