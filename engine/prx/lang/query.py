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
from functools import lru_cache

from jmespath import compile as parse_expression
from jmespath.exceptions import IncompleteExpressionError, JMESPathError
from jmespath.visitor import Options

from prx.lang import bounds
from prx.lang.codegen import Function, TooDeepError, build
from prx.lang.functions import FUNCTIONS
from prx.lang.tree import MAX_DEPTH, Node, QueryError, nodes_below
from prx.text import nearest

MAX_LENGTH = 500  # characters; longer ones are no extractors
_REMEMBERED = 256  # expressions: the hundred of a file are met again in each of its variants
_OPTIONS = Options(custom_functions=FUNCTIONS)


def parse(expression: str) -> Node:
    """The tree of an expression; every function it names exists and gets the right number of arguments."""
    try:
        tree: Node = parse_expression(expression).parsed
        _check(tree)
    except JMESPathError as error:
        raise QueryError(_words(error), getattr(error, "lex_position", None)) from None
    except (RecursionError, ValueError, Warning) as error:  # Warning: a form of old, where warnings are errors
        raise QueryError(f"cannot be read: {type(error).__name__}") from None
    return tree


@lru_cache(_REMEMBERED)
def checked(expression: str) -> Node:
    """As `parse`, for one that somebody has just written: also refuses what is right and never meant."""
    if len(expression) > MAX_LENGTH:
        raise QueryError(f"an expression has at most {MAX_LENGTH} characters, this one {len(expression)}")
    tree = parse(expression)
    _refuse_slips(tree)
    if bounds.of_query(tree) > bounds.MAX_QUERY:
        raise QueryError(f"may repeat its input more than {bounds.MAX_QUERY} times in its result; select less of it")
    return tree


def _refuse_slips(tree: Node) -> None:
    children = nodes_below(tree)
    if tree["type"] == "subexpression" and children[0]["type"] == "not_expression":
        raise QueryError("! binds tighter than a dot, so this is always null; write !(a.b)")
    if tree["type"] == "slice" and tree["children"][2] == 0:
        raise QueryError("a slice goes in steps of 1 or more, or backwards in steps of -1")
    for child in children:
        _refuse_slips(child)


@lru_cache(_REMEMBERED)
def compile_query(expression: str) -> Function:
    """A function from a JSON value to what the expression finds in it."""
    try:
        return build([parse(expression)], single=True)
    except TooDeepError:
        parsed = parse_expression(expression)
        return lambda value: parsed.search(value, options=_OPTIONS)


def compile_all(expressions: Sequence[str]) -> Function:
    """A function from a JSON value to a tuple: what each expression finds, shared steps taken once."""
    try:
        return build([parse(expression) for expression in expressions], single=False)
    except TooDeepError:
        singles = [compile_query(expression) for expression in expressions]
        return lambda value: tuple(single(value) for single in singles)


def _check(tree: Node, depth: int = 0) -> None:
    """Refuse what jmespath finds out only when it runs, or never."""
    if depth > MAX_DEPTH:
        raise QueryError("is nested too deep")
    children = nodes_below(tree)
    if tree["type"] == "function_expression":
        entry = FUNCTIONS.FUNCTION_TABLE.get(tree["value"])
        if entry is None:
            raise QueryError(f"unknown function {tree['value']}(){nearest(tree['value'], FUNCTIONS.FUNCTION_TABLE)}")
        wanted = entry["signature"]
        variadic = bool(wanted and wanted[-1].get("variadic"))
        if len(children) < len(wanted) or (len(children) > len(wanted) and not variadic):
            raise QueryError(f"{tree['value']}() takes {len(wanted)} argument(s), not {len(children)}")
    for child in children:
        _check(child, depth + 1)


def _words(error: Exception) -> str:
    """What is wrong with an expression, for somebody who has just written it."""
    met = getattr(error, "token_value", None)
    if isinstance(error, IncompleteExpressionError) or getattr(error, "token_type", "") == "EOF":
        return "the expression ends too early"
    if met is None:
        return str(error).splitlines()[0].rstrip(": ")
    return f"{str(met)!r} cannot stand here" + ("; for equality write ==" if met == "=" else "")
