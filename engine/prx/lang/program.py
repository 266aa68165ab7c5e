"""Expressions as Python functions, and what is kept of those that were made before.

To make a function takes jmespath's parser and Python's compiler; to call it takes neither. What was made is kept
under its expressions, so a process that is given it back (spec/store.py) imports no parser. Only what has
passed every check is kept.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import CodeType
from typing import Any

from prx.record import Record

Function = Callable[[Any], Any]
Key = tuple[str, ...]  # the expressions; of a formula in a template, a mark and the one

FORMULA = "="


class QueryError(Exception):
    """A faulty expression. `column` counts from 0 within it, or is None."""

    def __init__(self, message: str, column: int | None = None) -> None:
        super().__init__(message)
        self.column = column


class Formula(Record):
    """A formula of a template: what it finds, the parameters it reads ("*": all of them), and every root name."""

    run: Function
    params: tuple[str, ...]
    reads: tuple[str, ...]


class Made(Record):
    """A function's code, the constants it names, and of a formula the names it reads (see lang/query.py)."""

    code: CodeType
    constants: Mapping[str, Any]
    params: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    growth: int = 1  # see lang/growth.py


_kept: dict[Key, Made] = {}
_packed: dict[Key, bytes] = {}  # as they are on disk: a call needs a tenth of them


def known(key: Key) -> bool:
    return key in _kept or key in _packed


def find(key: Key) -> Made | None:
    """What has been made of these expressions, in this process or in one before."""
    made = _kept.get(key)
    if made is None and (packed := _packed.get(key)) is not None:
        made = _kept[key] = Made(*marshal.loads(packed))  # noqa: S302 - from the store, which is ours
        _packed.pop(key, None)
    return made or _kept.get(key)


def pack(keys: Iterable[Key]) -> dict[Key, bytes]:
    """What has been made of these, to be kept on disk; without those whose constants are no JSON."""
    found = ((key, find(key)) for key in sorted(set(keys)))
    return {
        key: marshal.dumps((made.code, dict(made.constants), made.params, made.reads, made.growth))
        for key, made in found
        if made and _is_json(made.constants)
    }


def unpack(packed: Mapping[Key, bytes]) -> None:
    """Have these at hand from now on."""
    _packed.update(packed)


def _is_json(value: Any) -> bool:
    if isinstance(value, Mapping | list):
        return all(_is_json(item) for item in (value.values() if isinstance(value, Mapping) else value))
    return value is None or isinstance(value, str | int | float)


def growth(text: str) -> int:
    """How many times over a formula of a template may say what it looks at; 1 for a faulty one."""
    made = find((FORMULA, text.removeprefix("=")))
    if made is not None:
        return made.growth
    from prx.lang import query

    return query.growth_of(text)


def keep(made: Mapping[Key, Made]) -> None:
    """Have these at hand from now on."""
    _kept.update(made)


def link(made: Made) -> Function:
    """The function of a code."""
    namespace: dict[str, Any] = {"equals": equals, "comparable": comparable, "call": call, **made.constants}
    exec(made.code, namespace)  # noqa: S102 - of our own making: names and literals enter it by repr only
    function: Function = namespace["query"]
    return function


def of(expressions: Key) -> Function:
    """A function from a JSON value to a tuple: what each expression finds, shared steps taken once. Raises QueryError."""
    made = find(expressions)
    if made is not None:
        return link(made)
    from prx.lang import query

    return query.compile_all(expressions)


def formula(text: str) -> Formula:
    """A formula of a template. Raises QueryError."""
    made = find((FORMULA, text))
    if made is not None:
        return Formula(link(made), made.params, made.reads)
    from prx.lang import query

    return query.formula(text)


def any_of(alternatives: str | Sequence[str]) -> str:
    """One expression for an ordered list of them: the first that finds something."""
    if isinstance(alternatives, str):
        return alternatives
    return alternatives[0] if len(alternatives) == 1 else " || ".join(f"({item})" for item in alternatives)


def call(name: str, arguments: list[Any]) -> Any:
    """Run a function of JMESPath, or one of ours."""
    from prx.lang.functions import FUNCTIONS

    return FUNCTIONS.call_function(name, arguments)


def equals(left: Any, right: Any) -> bool:
    """JMESPath's ==: true is not 1, false is not 0."""
    if isinstance(left, bool) != isinstance(right, bool):
        return False
    return bool(left == right)


def comparable(value: Any) -> bool:
    return isinstance(value, int | float | str) and not isinstance(value, bool)
