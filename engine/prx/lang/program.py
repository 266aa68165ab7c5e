"""Expressions as Python functions, each for as long as somebody holds it.

A function is written from the trees of its expressions. Parsing them takes jmespath, which takes longer to import than
all that one call needs to write: so the trees that an earlier process parsed come back from disk (spec/store.py), as
JSON. Nothing from a disk is run. Only expressions that have passed every check are kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from weakref import WeakValueDictionary

from prx.lang import bounds as growing
from prx.lang import codegen
from prx.lang import tree as trees
from prx.lang.codegen import TooDeepError, build
from prx.lang.tree import Node
from prx.record import Record

Function = codegen.Function
Key = tuple[str, ...]  # the expressions

_MOST = 4000  # trees from disk at hand; a dialect has a hundred


class QueryError(Exception):
    """A faulty expression. `column` counts from 0 within it, or is None."""

    def __init__(self, message: str, column: int | None = None) -> None:
        super().__init__(message)
        self.column = column


class Formula(Record):
    """A formula of a template: the parameters it reads ("*": all of them), every root name, and what it finds."""

    text: str
    params: tuple[str, ...]
    reads: tuple[str, ...]

    @cached_property
    def run(self) -> Function:
        """From a JSON value to what the formula finds in it."""
        try:
            return build([_checked(self.text)], single=True)
        except TooDeepError:
            from prx.lang import query

            return query.compile_query(self.text)


_packed: dict[str, str] = {}  # trees from disk, by expression: a call needs a tenth of them
_functions: WeakValueDictionary[Key, Function] = WeakValueDictionary()
_formulas: WeakValueDictionary[str, Formula] = WeakValueDictionary()


def known(key: Key) -> bool:
    """Whether these expressions have passed every check, in this process or in one before."""
    return key in _functions or all(text in _packed for text in key)


def tree(text: str) -> Node | None:
    """The tree of an expression as an earlier process parsed it, or None."""
    packed = _packed.get(text)
    if packed is None:
        return None
    try:
        return trees.unpacked(json.loads(packed))
    except (ValueError, TypeError, LookupError, RecursionError):
        _packed.pop(text, None)
        return None


def pack(texts: Iterable[str]) -> dict[str, str]:
    """The trees of expressions, to be kept on disk; without those that have a number JSON has no form for."""
    from prx.lang import query

    packed: dict[str, str] = {}
    for text in sorted(set(texts)):
        try:
            packed[text] = json.dumps(trees.packed(tree(text) or query.parse(text)), allow_nan=False)
        except ValueError:
            continue
    return packed


def unpack(packed: Mapping[str, str]) -> None:
    """Have these trees at hand from now on."""
    if len(_packed) + len(packed) > _MOST:
        _packed.clear()
    _packed.update(packed)


def growth(text: str) -> int:
    """How many times over a formula of a template may say what it looks at; 1 for a faulty one."""
    found = tree(text.removeprefix("="))
    if found is not None:
        return growing.of_query(found)
    from prx.lang import query

    return query.growth_of(text)


def of(key: Key) -> Function:
    """A function from a JSON value to a tuple: what each expression finds, shared steps taken once. Raises QueryError."""
    return _functions.get(key) or _functions.setdefault(key, _made(key))


def _made(key: Key) -> Function:
    found = [node for text in key if (node := tree(text)) is not None]
    if len(found) == len(key):
        try:
            return build(found, single=False)
        except TooDeepError:
            pass  # jmespath's own interpreter runs it
    from prx.lang import query

    return query.compile_all(key)


def formula(text: str) -> Formula:
    """A formula of a template. Raises QueryError."""
    found = _formulas.get(text)
    if found is None:
        tree = _checked(text)
        params, reads = sorted(trees.names_under(tree, "params")), sorted(trees.root_names(tree))
        found = _formulas.setdefault(text, Formula(text, tuple(params), tuple(reads)))
    return found


def _checked(text: str) -> Node:
    found = tree(text)
    if found is None:
        from prx.lang import query

        found = query.checked(text)
    return found


def any_of(alternatives: str | Sequence[str]) -> str:
    """One expression for an ordered list of them: the first that finds something."""
    if isinstance(alternatives, str):
        return alternatives
    return alternatives[0] if len(alternatives) == 1 else " || ".join(f"({item})" for item in alternatives)
