"""How much an expression or a template can give back: at most so many times what it looks at.

`[@, @] | [@, @] | …` doubles at each step: 500 characters would make more than any memory holds out of one word.
Nothing is run to find that out. Steps multiply, choices add up, and a file that goes too far is refused when read.
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
    """How many times over the result may hold what the expression looks at."""
    children = nodes_below(tree)
    inner = [of_query(child) for child in children]
    if tree["type"] in _STEPS or any(child["type"] == "expref" for child in children):
        return prod(inner)
    return max(1, sum(inner)) * (_of_call(tree, children) if tree["type"] == "function_expression" else 1)


def _of_call(tree: Node, children: list[Node]) -> int:
    """What a function adds of its own: join() says its first argument again for each element."""
    if tree["value"] == "join" and children[0]["type"] == "literal":
        return 1 + len(str(children[0]["value"]))
    if tree["value"] == "join":
        return MAX_QUERY + 1  # as long as the answer likes, as often as the answer likes
    return 2 if tree["value"] in _ESCAPING else 1


def of_template(node: Any, of_formula: Callable[[str], int]) -> int:
    """The same of a template, whose formulas `of_formula` knows."""
    if isinstance(node, str):
        return of_formula(node) if node.startswith("=") else 0
    if isinstance(node, dict) and "each" in node:
        return of_formula(str(node["each"])) * max(1, of_template(node.get("item", "=@"), of_formula))
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return sum(of_template(child, of_formula) for child in inner)
