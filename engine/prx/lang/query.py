"""JMESPath, compiled to Python.

The jmespath package parses; its tree is turned into the source of one Python function, which gives
the same results as jmespath's interpreter (its public test suite is run on both) in a thirtieth of the time.
Several expressions can be compiled into one function: a subexpression that they share is computed once.

The alternative, one closure for each node, is as short, but closures cannot share results, and a stream's
extractors all begin with the same steps. An expression with more nesting than Python's
grammar allows is run by jmespath's own interpreter.
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

MAX_LENGTH = 500  # characters; the expressions of the packaged files are far shorter
_REMEMBERED = 256  # expressions: a file has about a hundred, and each of its variants has the same ones
_OPTIONS = Options(custom_functions=FUNCTIONS)


def parse(expression: str) -> Node:
    """The tree of an expression. Raises QueryError, also for unknown functions and a wrong number of arguments."""
    try:
        tree: Node = parse_expression(expression).parsed
        _check(tree)
    except JMESPathError as error:
        raise QueryError(_problem(error), getattr(error, "lex_position", None)) from None
    except (RecursionError, ValueError, Warning) as error:  # Warning: deprecated syntax, where warnings are errors
        raise QueryError(f"cannot be read: {type(error).__name__}") from None
    return tree


@lru_cache(_REMEMBERED)
def checked(expression: str) -> Node:
    """As `parse`, for an expression as a file has it: also refuses valid ones that are certainly a mistake, too long, or
    may give too large a result.
    """
    if len(expression) > MAX_LENGTH:
        raise QueryError(f"an expression has at most {MAX_LENGTH} characters, this one {len(expression)}")
    tree = parse(expression)
    _refuse_mistakes(tree)
    if bounds.of_query(tree) > bounds.MAX_QUERY:
        raise QueryError(f"may repeat its input more than {bounds.MAX_QUERY} times in its result; select less of it")
    return tree


def _refuse_mistakes(tree: Node) -> None:
    children = nodes_below(tree)
    if tree["type"] == "subexpression" and children[0]["type"] == "not_expression":
        raise QueryError("! binds tighter than a dot, so this is always null; write !(a.b)")
    if tree["type"] == "slice" and tree["children"][2] == 0:
        raise QueryError("a slice goes in steps of 1 or more, or backwards in steps of -1")
    for child in children:
        _refuse_mistakes(child)


@lru_cache(_REMEMBERED)
def compile_query(expression: str) -> Function:
    """A function from a JSON value to what the expression finds in it."""
    try:
        return build([parse(expression)], single=True)
    except TooDeepError:
        parsed = parse_expression(expression)
        return lambda value: parsed.search(value, options=_OPTIONS)


def compile_all(expressions: Sequence[str]) -> Function:
    """A function from a JSON value to a tuple of what each expression finds."""
    try:
        return build([parse(expression) for expression in expressions], single=False)
    except TooDeepError:
        singles = [compile_query(expression) for expression in expressions]
        return lambda value: tuple(single(value) for single in singles)


def _check(tree: Node, depth: int = 0) -> None:
    """Raise QueryError for what jmespath itself notices only when it runs an expression, or not at all."""
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


def _problem(error: Exception) -> str:
    """What is wrong with an expression, for its author; jmespath's own messages name tokens and its source."""
    token = getattr(error, "token_value", None)
    if isinstance(error, IncompleteExpressionError) or getattr(error, "token_type", "") == "EOF":
        return "the expression ends too early"
    if token is None:
        return str(error).splitlines()[0].rstrip(": ")
    return f"{str(token)!r} cannot stand here" + ("; for equality write ==" if str(token) == "=" else "")
