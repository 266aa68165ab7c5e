"""The expressions of a catalogue's files: their trees, and the functions that are compiled from them.

Only parsing needs jmespath, and to import it takes longer than to compile all that one call needs. So the trees
that an earlier process has parsed are read from disk, as JSON (spec/cache.py). No code is stored there. Only
expressions that have passed every check are stored.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from prx.lang import bounds
from prx.lang.codegen import Function, Program, TooDeepError, build, program
from prx.lang.tree import Node, QueryError, names_under, packed, root_names, unpacked

Key = tuple[str, ...]  # the expressions of one function


class Formula(NamedTuple):
    """A formula of a template: the parameters it reads ("*": all of them), and every root name."""

    text: str
    params: tuple[str, ...]
    reads: tuple[str, ...]


class Expressions:
    """The compiled expressions of one catalogue. Its definitions hold it, so it is freed with the last of them."""

    def __init__(self) -> None:
        self._stored: dict[
            str, str
        ] = {}  # trees from disk by expression; still JSON text: a call needs a tenth of them
        self._functions: dict[Key, Function] = {}
        self._finders: dict[str, Function] = {}
        self._formulas: dict[str, Formula] = {}

    def add_stored(self, trees: Mapping[str, str]) -> None:
        """Add trees that `to_store` has made, in this process or an earlier one."""
        self._stored.update(trees)

    def to_store(self, texts: Iterable[str]) -> dict[str, str]:
        """{expression: its tree as JSON text}; without expressions that contain a number JSON cannot express (Infinity)."""
        trees: dict[str, str] = {}
        for text in sorted(set(texts)):
            try:
                trees[text] = json.dumps(packed(self._tree(text)), allow_nan=False)
            except ValueError:
                continue
        return trees

    def are_checked(self, key: Key) -> bool:
        """Whether these expressions have passed every check, in this process or in an earlier one."""
        return key in self._functions or all(text in self._stored for text in key)

    def function(self, key: Key) -> Function:
        """A function from a JSON value to a tuple of what each expression finds. Raises QueryError."""
        return self._functions.get(key) or self._functions.setdefault(key, self._built(key))

    def finder(self, text: str) -> Function:
        """A function from a JSON value to what one expression finds. Raises QueryError."""
        return self._finders.get(text) or self._finders.setdefault(text, self._built_alone(text))

    def formula(self, text: str) -> Formula:
        """A formula of a template. Raises QueryError."""
        formula = self._formulas.get(text)
        if formula is None:
            tree = self._tree(text, check=True)
            params, reads = sorted(names_under(tree, "params")), sorted(root_names(tree))
            formula = self._formulas.setdefault(text, Formula(text, tuple(params), tuple(reads)))
        return formula

    def growth(self, text: str) -> int:
        """How many times the result of a template's formula may contain its input; 1 for a faulty formula."""
        try:
            return bounds.of_query(self._tree(text.removeprefix("="), check=True))
        except QueryError:
            return 1

    def _built(self, key: Key) -> Function:
        try:
            stored = tuple(self._stored.get(text, "") for text in key)
            made = _program(stored) if all(stored) else None
            return made.function() if made else build([self._tree(text) for text in key], single=False)
        except TooDeepError:
            from prx.lang import query  # jmespath's own interpreter has no limit of nesting

            return query.compile_all(key)

    def _built_alone(self, text: str) -> Function:
        try:
            return build([self._tree(text, check=True)], single=True)
        except TooDeepError:
            from prx.lang import query

            return query.compile_query(text)

    def _tree(self, text: str, *, check: bool = False) -> Node:
        """The tree of an expression. check: as query.checked, which also limits the length; not for several alternatives
        joined into one text, which may be longer.
        """
        tree = self._stored_tree(text)
        if tree is None:
            from prx.lang import query  # imported here: it imports jmespath

            tree = query.checked(text) if check else query.parse(text)
        return tree

    def _stored_tree(self, text: str) -> Node | None:
        """The tree of an expression as an earlier process parsed it, or None."""
        json_text = self._stored.get(text)
        if json_text is None:
            return None
        try:
            return unpacked(json.loads(json_text))
        except (ValueError, TypeError, LookupError, RecursionError):
            self._stored.pop(text, None)  # damaged: it is parsed again
            return None


@lru_cache(maxsize=64)
def _program(stored: tuple[str, ...]) -> Program | None:
    """The program of stored trees, cached, since files of a dialect have the same ones; None where a tree is damaged."""
    try:
        return program([unpacked(json.loads(text)) for text in stored], single=False)
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
