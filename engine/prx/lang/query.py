"""JMESPath, compiled to Python.

The jmespath package parses; its tree is turned into the source of one Python function, which answers
exactly as jmespath's interpreter does (its public suite is our test) at a thirtieth of the cost.
Several expressions can be compiled into one function: a subexpression they share is worked out once.

Closures, one for each node, were the alternative: as short, but they cannot share work, and a stream's
extractors all begin with the same steps. What the compiler cannot say (more nesting than Python's
grammar allows) goes to jmespath's own interpreter.
"""

from __future__ import annotations

from collections.abc import Sequence

from jmespath import compile as parse_expression
from jmespath.exceptions import IncompleteExpressionError, JMESPathError
from jmespath.visitor import Options

from prx.lang.codegen import Function, Node, TooDeepError, build
from prx.lang.functions import SpecFunctions
from prx.words import nearest

MAX_LENGTH = 500  # characters; longer ones are no extractors, and nesting costs the parser its stack
_FUNCTIONS = SpecFunctions()
_OPTIONS = Options(custom_functions=_FUNCTIONS)


class QueryError(Exception):
    """A faulty expression. `column` counts from 0 within it, or is None."""

    def __init__(self, message: str, column: int | None = None) -> None:
        super().__init__(message)
        self.column = column


def parse(expression: str) -> Node:
    """The tree of an expression; every function it names exists and gets the right number of arguments."""
    try:
        tree: Node = parse_expression(expression).parsed
        _check(tree)
    except JMESPathError as error:
        raise QueryError(_words(error), getattr(error, "lex_position", None)) from None
    except (RecursionError, ValueError) as error:
        raise QueryError(f"cannot be read: {type(error).__name__}") from None
    return tree


def checked(expression: str) -> Node:
    """As `parse`, for one that somebody has just written: also refuses what is right and never meant."""
    if len(expression) > MAX_LENGTH:
        raise QueryError(f"an expression has at most {MAX_LENGTH} characters, this one {len(expression)}")
    tree = parse(expression)
    _refuse_slips(tree)
    return tree


def _refuse_slips(tree: Node) -> None:
    children = [child for child in tree.get("children") or () if isinstance(child, dict)]
    if tree["type"] == "subexpression" and children[0]["type"] == "not_expression":
        raise QueryError("! binds tighter than a dot, so this is always null; write !(a.b)")
    for child in children:
        _refuse_slips(child)


def compile_query(expression: str) -> Function:
    """A function from a JSON value to what the expression finds in it."""
    try:
        return build([parse(expression)], _FUNCTIONS.call_function, single=True)
    except TooDeepError:
        parsed = parse_expression(expression)
        return lambda value: parsed.search(value, options=_OPTIONS)


def compile_all(expressions: Sequence[str]) -> Function:
    """A function from a JSON value to a tuple: what each expression finds, shared steps taken once."""
    try:
        return build([parse(expression) for expression in expressions], _FUNCTIONS.call_function, single=False)
    except TooDeepError:
        singles = [compile_query(expression) for expression in expressions]
        return lambda value: tuple(single(value) for single in singles)


def any_of(alternatives: str | Sequence[str]) -> str:
    """One expression for an ordered list of them: the first that finds something."""
    if isinstance(alternatives, str):
        return alternatives
    return alternatives[0] if len(alternatives) == 1 else " || ".join(f"({item})" for item in alternatives)


def names_under(tree: Node, root: str) -> set[str]:
    """The names read directly below the field `root`: {"b"} for `a.b.c` and root "a"; {"*"} for a bare `a`."""
    found: set[str] = set()
    children = [child for child in tree.get("children") or () if isinstance(child, dict)]
    if tree["type"] == "subexpression" and _is_field(children[0], root) and children[1]["type"] == "field":
        return {children[1]["value"]}
    if _is_field(tree, root):
        return {"*"}
    for child in children:
        found |= names_under(child, root)
    return found


def root_names(tree: Node) -> set[str]:
    """The names read from the value itself: {"a", "d"} for `a.b || d[0].c`."""
    kind, children = tree["type"], [child for child in tree.get("children") or () if isinstance(child, dict)]
    if kind == "field":
        return {tree["value"]}
    if kind in _STEPWISE and children:
        return root_names(children[0])
    return set().union(*map(root_names, children)) if children else set()


_STEPWISE = {
    "subexpression",
    "index_expression",
    "pipe",
    "projection",
    "filter_projection",
    "value_projection",
    "flatten",
}


def _is_field(node: Node, name: str) -> bool:
    return bool(node["type"] == "field" and node["value"] == name)


def _check(tree: Node) -> None:
    """Refuse what jmespath finds out only when it runs, or never."""
    children = [child for child in tree.get("children") or () if isinstance(child, dict)]
    if tree["type"] == "function_expression":
        entry = _FUNCTIONS.FUNCTION_TABLE.get(tree["value"])
        if entry is None:
            raise QueryError(f"unknown function {tree['value']}(){nearest(tree['value'], _FUNCTIONS.FUNCTION_TABLE)}")
        wanted = entry["signature"]
        variadic = bool(wanted and wanted[-1].get("variadic"))
        if len(children) < len(wanted) or (len(children) > len(wanted) and not variadic):
            raise QueryError(f"{tree['value']}() takes {len(wanted)} argument(s), not {len(children)}")
    for child in children:
        _check(child)


def _words(error: Exception) -> str:
    """What is wrong with an expression, for somebody who has just written it."""
    met = getattr(error, "token_value", None)
    if isinstance(error, IncompleteExpressionError) or getattr(error, "token_type", "") == "EOF":
        return "the expression ends too early"
    if met is None:
        return str(error).splitlines()[0].rstrip(": ")
    return f"{str(met)!r} cannot stand here" + ("; for equality write ==" if met == "=" else "")
