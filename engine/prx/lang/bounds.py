"""Upper bounds for the size of a result: how many times an expression or a template may repeat its input.

`[@, @] | [@, @] | …` doubles the result at each step: with 500 characters it would fill any memory.
The bound is computed from the tree, without running it: consecutive steps multiply, the elements of a list or an object
add up. A file that exceeds it is refused when it is read.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from prx.lang.tree import Node, nodes_below

MAX_QUERY = 100  # the packaged files stay below 40
MAX_TEMPLATE = 2_000

_STEPS = {"subexpression", "pipe", "index_expression", "projection", "filter_projection", "value_projection"}
_ESCAPING = {"to_json", "to_string"}  # each doubles the backslashes


def of_query(tree: Node) -> int:
    """How many times the result of an expression may contain its input."""
    children = nodes_below(tree)
    inner = [of_query(child) for child in children]
    if tree["type"] in _STEPS or any(child["type"] == "expref" for child in children):
        return prod(inner)
    return max(1, sum(inner)) * (_of_call(tree, children) if tree["type"] == "function_expression" else 1)


def _of_call(tree: Node, children: list[Node]) -> int:
    """The factor of a function itself: join() repeats its first argument for each element."""
    if tree["value"] == "join" and children[0]["type"] == "literal":
        return 1 + len(str(children[0]["value"]))
    if tree["value"] == "join":
        return MAX_QUERY + 1  # refused: the separator and the number of elements both come from the answer
    return 2 if tree["value"] in _ESCAPING else 1


def of_template(node: Any, of_formula: Callable[[str], int]) -> int:
    """How many times a template's result may contain its input. of_formula: the same of one formula."""
    if isinstance(node, str):
        return of_formula(node) if node.startswith("=") else 0
    if isinstance(node, dict) and "each" in node:
        return of_formula(str(node["each"])) * max(1, of_template(node.get("item", "=@"), of_formula))
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return sum(of_template(child, of_formula) for child in inner)
