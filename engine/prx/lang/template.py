"""Templates: YAML that describes a JSON value by constants, formulas, and nine words.

    =formula               a text that begins with = is JMESPath; it stands for its value, with the value's type
    when                   the rest of the mapping is included only if this formula is true; where the rest is not a
                           mapping, it stands under `value`
    each, item             one `item` for every element of a list; formulas inside are evaluated on the element;
                           within a list of the template the items become elements of that list
    match, cases, else     the case whose name the formula gives, or `else`
    merge                  several mappings combined; later ones replace keys of earlier ones
    defaults               {key: constant}, beside other keys: what stands for a key that would be left out

A value that is null is left out, and so is a mapping or list of the template that ends up empty.
The result is a value, not a text, so nothing needs to be escaped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable
from functools import cached_property
from typing import Any

from prx.lang import bounds
from prx.lang.compiled import Expressions, Formula
from prx.lang.tree import QueryError
from prx.text import nearest

Render = Callable[[Any], Any]
Build = Callable[[], Render]  # compiles a part of a template, at its first use
Keys = tuple[str | int, ...]

WORDS = ("when", "value", "each", "item", "match", "cases", "else", "merge", "defaults")


class TemplateError(Exception):
    """The template has no case for a value of the call. path: where in the template; str(): the value, and the cases."""

    def __init__(self, path: Keys, message: str) -> None:
        super().__init__(message)
        self.path = path


class Template:
    """A template, checked when it is made. Call it with the object that its formulas are evaluated on; gives a JSON value.

    Each part is compiled when a call first needs it: most calls need a tenth of a long template.

    known     the names that the object has; () for any
    params    names of the parameters that its formulas read ("*" where a formula reads them all)
    reads     every name of the object that its formulas read
    formulas  its formulas, by their texts
    problems  its faults, as (path, sentence, column or None)
    path      where it stands in its file
    """

    def __init__(
        self, source: Any, path: Keys = (), known: Collection[str] = (), expressions: Expressions | None = None
    ) -> None:
        self._source, self._known, self.path = source, known, path
        self._expressions = expressions or Expressions()
        self._parts: dict[tuple[str, ...], Template] = {}
        self.params: set[str] = set()
        self.reads: set[str] = set()
        self.formulas: dict[str, Formula] = {}
        self.problems: list[tuple[Keys, str, int | None]] = []
        self._build = self._checked(source, path, at_root=True)

    def __call__(self, value: Any) -> Any:
        return self._render(value)

    def only(self, keys: tuple[str, ...]) -> Template:
        """The template of these keys alone; all of it where they cannot be told from the rest."""
        if not isinstance(self._source, dict) or not self._source.keys().isdisjoint(WORDS):
            return self
        if keys not in self._parts:
            part = {key: self._source[key] for key in keys if key in self._source}
            self._parts[keys] = Template(part, self.path, self._known, self._expressions)
        return self._parts[keys]

    @property
    def growth(self) -> int:
        """How many times the result may contain the object that the formulas read."""
        return bounds.of_template(self._source, self._expressions.growth)

    @cached_property
    def _render(self) -> Render:
        return self._build()

    def _checked(self, node: Any, path: Keys, *, at_root: bool) -> Build:
        if isinstance(node, str) and node.startswith("="):
            return self._formula(node[1:], path, at_root)
        if isinstance(node, list):
            return self._list(node, path, at_root)
        if not isinstance(node, dict):
            return lambda: lambda _: node
        for word, check in (
            ("when", self._when),
            ("each", self._each),
            ("match", self._match),
            ("merge", self._merge),
            ("defaults", self._with_defaults),
        ):
            if word in node:
                return check(node, path, at_root)
        return self._mapping(node, path, at_root)

    def _formula(self, text: Any, path: Keys, at_root: bool) -> Build:
        try:
            formula = self._expressions.formula(str(text).removeprefix("="))
        except QueryError as error:
            self.problems.append((path, str(error), error.column))
            return lambda: lambda _: None
        self.formulas[formula.text] = formula
        if at_root:
            self.params.update(formula.params)
            self.reads.update(formula.reads)
            self._refuse_unknown(formula.reads, path)
        return lambda: self._expressions.finder(formula.text)

    def _refuse_unknown(self, names: Iterable[str], path: Keys) -> None:
        for name in sorted({*names} - set(self._known)) if self._known else ():
            near = nearest(name, self._known) or f"; there are {', '.join(self._known)}"
            self.problems.append((path, f"formulas here have no name {name!r}{near}", None))

    def _with_defaults(self, node: dict[str, Any], path: Keys, at_root: bool) -> Build:
        defaults = self._shaped(node["defaults"], dict, (*path, "defaults"))
        rest = {key: child for key, child in node.items() if key != "defaults"}
        build_rest = self._checked(rest, path, at_root=at_root)

        def build() -> Render:
            render_rest = build_rest()

            def render(value: Any) -> Any:
                rendered = render_rest(value) or {}
                missing = {key: _copied(default) for key, default in defaults.items() if key not in rendered}
                return {**rendered, **missing}

            return render

        return build

    def _mapping(self, node: dict[str, Any], path: Keys, at_root: bool) -> Build:
        builds = [(key, self._checked(child, (*path, key), at_root=at_root)) for key, child in node.items()]

        def build() -> Render:
            items = [(key, build_child()) for key, build_child in builds]

            def render(value: Any) -> Any:
                rendered = {key: part for key, child in items if (part := child(value)) is not None}
                return rendered if rendered or not items else None

            return render

        return build

    def _list(self, node: list[Any], path: Keys, at_root: bool) -> Build:
        builds = [
            (isinstance(child, dict) and "each" in child, self._checked(child, (*path, place), at_root=at_root))
            for place, child in enumerate(node)
        ]

        def build() -> Render:
            items = [(spliced, build_child()) for spliced, build_child in builds]

            def render(value: Any) -> Any:
                rendered: list[Any] = []
                for spliced, child in items:
                    part = child(value)
                    if part is not None:
                        rendered.extend(part) if spliced else rendered.append(part)
                return rendered if rendered or not items else None

            return render

        return build

    def _when(self, node: dict[str, Any], path: Keys, at_root: bool) -> Build:
        build_condition = self._formula(node["when"], (*path, "when"), at_root)
        rest = {key: child for key, child in node.items() if key != "when"}
        plain = rest.keys() == {"value"}
        child, below = (rest["value"], (*path, "value")) if plain else (rest, path)
        build_inner = self._checked(child, below, at_root=at_root)

        def build() -> Render:
            condition, inner = build_condition(), None

            def render(value: Any) -> Any:
                nonlocal inner
                if not holds(condition(value)):
                    return None
                inner = inner or build_inner()
                return inner(value)

            return render

        return build

    def _each(self, node: dict[str, Any], path: Keys, at_root: bool) -> Build:
        self._only(node, path, {"each", "item"})
        build_source = self._formula(node["each"], (*path, "each"), at_root)
        build_item = self._checked(node.get("item", "=@"), (*path, "item"), at_root=False)
        flat = isinstance(node.get("item"), list)

        def build() -> Render:
            source, item = build_source(), None

            def render(value: Any) -> Any:
                nonlocal item
                elements = source(value)
                if not elements:
                    return None
                item = item or build_item()
                rendered = [part for element in elements if (part := item(element)) is not None]
                return ([part for parts in rendered for part in parts] if flat else rendered) or None

            return render

        return build

    def _match(self, node: dict[str, Any], path: Keys, at_root: bool) -> Build:
        self._only(node, path, {"match", "cases", "else"})
        build_subject = self._formula(node["match"], (*path, "match"), at_root)
        builds: dict[str | None, Build] = {
            str(name): self._checked(child, (*path, "cases", name), at_root=at_root)
            for name, child in self._shaped(node.get("cases") or {}, dict, (*path, "cases")).items()
        }
        known = ", ".join(map(str, builds))
        if "else" in node:
            builds[None] = self._checked(node["else"], (*path, "else"), at_root=at_root)

        def build() -> Render:
            subject, cases = build_subject(), dict[str | None, Render]()

            def case_of(name: str) -> Render | None:
                key = name if name in builds else None
                if key not in cases and key in builds:
                    cases[key] = builds[key]()
                return cases.get(key)

            def render(value: Any) -> Any:
                word = subject(value)
                name = word if isinstance(word, str) else _json_of(word)
                case = cases.get(name) or case_of(name)
                if case is None and word is not None:
                    raise TemplateError(path, f"{word!r} has no case here; the cases are {known}")
                return case(value) if case else None

            return render

        return build

    def _merge(self, node: dict[str, Any], path: Keys, at_root: bool) -> Build:
        self._only(node, path, {"merge"})
        builds = [
            self._checked(child, (*path, "merge", i), at_root=at_root)
            for i, child in enumerate(self._shaped(node["merge"], list, (*path, "merge")))
        ]

        def build() -> Render:
            parts = [build_part() for build_part in builds]

            def render(value: Any) -> Any:
                merged: dict[str, Any] = {}
                for part in parts:
                    rendered = part(value)
                    merged.update(rendered if isinstance(rendered, dict) else {})
                return merged or None

            return render

        return build

    def _shaped(self, value: Any, shape: type, path: Keys) -> Any:
        """The value if it is of type `shape`; else an empty one, and the problem is noted."""
        if isinstance(value, shape):
            return value
        self.problems.append((path, f"must be a {'mapping' if shape is dict else 'list'}, not {value!r:.60}", None))
        return shape()

    def _only(self, node: dict[str, Any], path: Keys, allowed: set[str]) -> None:
        for key in node.keys() - allowed:
            self.problems.append(((*path, key), f"{key!r} cannot stand beside {' and '.join(sorted(allowed))}", None))


def _json_of(word: Any) -> str:
    """The JSON text of a value. Most that are compared with cases are no texts but these three, and json.dumps takes longer than a case."""
    return "null" if word is None else "true" if word is True else "false" if word is False else json.dumps(word)


def _copied(value: Any) -> Any:
    """A copy of a JSON value; the module copy takes longer to import than this to run."""
    if isinstance(value, dict):
        return {key: _copied(child) for key, child in value.items()}
    return [*map(_copied, value)] if isinstance(value, list) else value


def holds(value: Any) -> bool:
    """Whether JMESPath takes a value for true: all values but null, false and empty texts, lists and objects."""
    return bool(value) or (isinstance(value, int | float) and value is not False)
