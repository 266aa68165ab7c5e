"""YAML that describes a JSON value: constants, formulas, and a handful of words.

    =formula               a text that begins with = is JMESPath; its value goes in as it is, with its type
    when                   the rest of the mapping is there only if this formula holds; `value` says a rest
                           that is no mapping
    each, item             one `item` for every element of a list; inside, formulas look at the element;
                           in a list, the items take their places one by one
    match, cases, else     the case whose name the formula gives
    merge                  several mappings made one, later ones win

What turns out null is left out, and so is a mapping or list of the template that ends up empty.
No text is ever pasted into JSON, so there is nothing to escape.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable
from typing import Any

from prx.lang import program
from prx.words import nearest

Render = Callable[[Any], Any]
Path = tuple[str | int, ...]

WORDS = ("when", "value", "each", "item", "match", "cases", "else", "merge")


class TemplateError(Exception):
    """A call that the template has no form for. `path`: where in the template; str(): what it met."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(message)
        self.path = path


class Template:
    """A compiled template: call it with the value that its formulas look at, which has the names `known`.

    params    names of the parameters that its formulas read ("*" where one reads them all)
    reads     every root name that its formulas read
    formulas  all of them, by their texts
    problems  what is wrong with it, as (path, sentence, column or None)
    """

    def __init__(self, source: Any, path: Path = (), known: Collection[str] = ()) -> None:
        self._known = known
        self.params: set[str] = set()
        self.reads: set[str] = set()
        self.formulas: dict[str, program.Formula] = {}
        self.problems: list[tuple[Path, str, int | None]] = []
        self._render = self._compile(source, path, at_root=True)

    def __call__(self, value: Any) -> Any:
        return self._render(value)

    def _compile(self, node: Any, path: Path, *, at_root: bool) -> Render:
        if isinstance(node, str):
            return self._formula(node[1:], path, at_root) if node.startswith("=") else lambda _: node
        if isinstance(node, list):
            return self._list(node, path, at_root)
        if not isinstance(node, dict):
            return lambda _: node
        for word, compile_word in (
            ("when", self._when),
            ("each", self._each),
            ("match", self._match),
            ("merge", self._merge),
        ):
            if word in node:
                return compile_word(node, path, at_root)
        return self._mapping(node, path, at_root)

    def _formula(self, text: Any, path: Path, at_root: bool) -> Render:
        try:
            formula = program.formula(str(text).removeprefix("="))
        except program.QueryError as error:
            self.problems.append((path, str(error), error.column))
            return lambda _: None
        self.formulas[str(text).removeprefix("=")] = formula
        if at_root:
            self.params.update(formula.params)
            self.reads.update(formula.reads)
            self._refuse_strangers(formula.reads, path)
        return formula.run

    def _refuse_strangers(self, names: Iterable[str], path: Path) -> None:
        for name in sorted({*names} - set(self._known)) if self._known else ():
            near = nearest(name, self._known) or f"; there are {', '.join(self._known)}"
            self.problems.append((path, f"{name!r} is nothing that a formula sees here{near}", None))

    def _mapping(self, node: dict[str, Any], path: Path, at_root: bool) -> Render:
        items = [(key, self._compile(child, (*path, key), at_root=at_root)) for key, child in node.items()]

        def render(value: Any) -> Any:
            made = {key: found for key, child in items if (found := child(value)) is not None}
            return made if made or not items else None

        return render

    def _list(self, node: list[Any], path: Path, at_root: bool) -> Render:
        items = [
            (isinstance(child, dict) and "each" in child, self._compile(child, (*path, place), at_root=at_root))
            for place, child in enumerate(node)
        ]

        def render(value: Any) -> Any:
            made: list[Any] = []
            for spliced, child in items:
                found = child(value)
                if found is not None:
                    made.extend(found) if spliced else made.append(found)
            return made if made or not items else None

        return render

    def _when(self, node: dict[str, Any], path: Path, at_root: bool) -> Render:
        condition = self._formula(node["when"], (*path, "when"), at_root)
        rest = {key: child for key, child in node.items() if key != "when"}
        plain = rest.keys() == {"value"}
        inner = self._compile(rest["value"] if plain else rest, (*path, "value") if plain else path, at_root=at_root)
        return lambda value: inner(value) if holds(condition(value)) else None

    def _each(self, node: dict[str, Any], path: Path, at_root: bool) -> Render:
        self._only(node, path, {"each", "item"})
        source = self._formula(node["each"], (*path, "each"), at_root)
        item = self._compile(node.get("item", "=@"), (*path, "item"), at_root=False)
        flat = isinstance(node.get("item"), list)

        def render(value: Any) -> Any:
            made = [found for element in source(value) or () if (found := item(element)) is not None]
            return ([part for found in made for part in found] if flat else made) or None

        return render

    def _match(self, node: dict[str, Any], path: Path, at_root: bool) -> Render:
        self._only(node, path, {"match", "cases", "else"})
        subject = self._formula(node["match"], (*path, "match"), at_root)
        cases = {
            str(name): self._compile(child, (*path, "cases", name), at_root=at_root)
            for name, child in self._shaped(node.get("cases") or {}, dict, (*path, "cases")).items()
        }
        default = self._compile(node["else"], (*path, "else"), at_root=at_root) if "else" in node else None

        def render(value: Any) -> Any:
            found = subject(value)
            case = cases.get(found if isinstance(found, str) else json.dumps(found)) or default
            if case is None and found is not None:
                raise TemplateError(path, f"{found!r} has no form here; known: {', '.join(cases)}")
            return case(value) if case else None

        return render

    def _merge(self, node: dict[str, Any], path: Path, at_root: bool) -> Render:
        self._only(node, path, {"merge"})
        parts = [
            self._compile(child, (*path, "merge", i), at_root=at_root)
            for i, child in enumerate(self._shaped(node["merge"], list, (*path, "merge")))
        ]

        def render(value: Any) -> Any:
            made: dict[str, Any] = {}
            for part in parts:
                found = part(value)
                made.update(found if isinstance(found, dict) else {})
            return made or None

        return render

    def _shaped(self, value: Any, shape: type, path: Path) -> Any:
        """The value, or an empty one with a problem noted where it has another shape."""
        if isinstance(value, shape):
            return value
        self.problems.append((path, f"must be a {'mapping' if shape is dict else 'list'}, not {value!r:.60}", None))
        return shape()

    def _only(self, node: dict[str, Any], path: Path, allowed: set[str]) -> None:
        for key in node.keys() - allowed:
            self.problems.append(((*path, key), f"{key!r} has no place beside {' and '.join(sorted(allowed))}", None))


def holds(value: Any) -> bool:
    """JMESPath's idea of true: everything but null, false and what is empty."""
    return bool(value) or (isinstance(value, int | float) and value is not False)
