"""Changes JSON Schemas, of a call's tools and of its answer, into the form that an API requires.

A schema that has the form is sent unchanged. Otherwise a changed copy is sent, which is cached by the schema's text: agents
send the same tools in every call. Data inside a schema (enum, const, default, examples) is never changed, and
the keys under `properties` are names, not keywords.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn
from urllib.parse import unquote

from prx.chat import Call
from prx.errors import CapabilityError
from prx.spec.model import SchemaForm, Spec

Path = tuple[str, ...]
_encode = json.JSONEncoder(allow_nan=False).encode

# Keywords whose value is a schema, a list of schemas (_LISTS), or a mapping to schemas (_NAMED).
_ONE = frozenset((
    "additionalItems", "additionalProperties", "contains", "contentSchema", "else", "if", "items", "not", "propertyNames", "then",
    "unevaluatedItems", "unevaluatedProperties",
))  # fmt: skip
_LISTS = frozenset(("allOf", "anyOf", "items", "oneOf", "prefixItems"))
_DEFINITIONS = ("$defs", "definitions")
_NAMED = frozenset((*_DEFINITIONS, "dependencies", "dependentSchemas", "patternProperties", "properties"))
_ANNOTATIONS = frozenset((
    "title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment",
))  # fmt: skip
_MOST = 20_000  # schemas inside one after its references are replaced: nested definitions may double at each level
_MOST_REFERENCES = 1_000


class UnfitError(Exception):
    """The schema cannot be changed into the form without changing its meaning. path: of the schema inside the whole one."""

    def __init__(self, path: Path, sentence: str) -> None:
        self.path, self.sentence = path, sentence
        super().__init__(sentence)


def outgoing(call: Call, spec: Spec) -> Call:
    """The call with its schemas in the API's form; the caller's own are not changed. Raises CapabilityError."""
    tools = tuple(_tool(tool, spec) for tool in call.tools)
    asked = call.params.get("response_format")
    answer = asked.get("json_schema") if isinstance(asked, dict) and asked.get("type") == "json_schema" else None
    params = call.params
    if isinstance(answer, dict) and answer.get("schema"):
        schema = _outgoing(answer, "schema", "answers", f"the answer {answer.get('name') or 'asked for'!r}", spec)
        if schema is not answer["schema"]:
            params = {**params, "response_format": {**asked, "json_schema": {**answer, "schema": schema}}}  # type: ignore[dict-item]
    return call._replace(tools=tools, params=params)


def _tool(tool: dict[str, Any], spec: Spec) -> dict[str, Any]:
    function = tool.get("function")
    if not isinstance(function, dict) or not function.get("parameters"):
        return tool
    schema = _outgoing(function, "parameters", "tools", f"the tool {function.get('name')!r}", spec)
    return tool if schema is function["parameters"] else {**tool, "function": {**function, "parameters": schema}}


def _outgoing(holder: Mapping[str, Any], key: str, kind: str, name: str, spec: Spec) -> Any:
    schema, forms = holder[key], spec.request.schemas
    form = forms.form(kind, strict=holder.get("strict") is True) if forms else None
    if form is None:
        return schema
    try:
        return fitted(schema, form)
    except UnfitError as unfit:
        where = ".".join(unfit.path) or "its root"
        raise CapabilityError(f"cannot take the schema of {name}: {where} {unfit.sentence}", provider=spec.id) from None


def fitted(schema: Any, form: SchemaForm) -> Any:
    """A schema in this form: the schema itself if it has the form, otherwise a changed copy. Raises UnfitError."""
    try:
        text = _encode(schema)
    except (TypeError, ValueError):
        return schema  # not JSON; core.request raises the error
    changed = _fitted(text, form.text)
    return schema if changed is None else changed


@lru_cache(maxsize=512)
def _fitted(text: str, rules: str) -> Any:
    """The schema of a text in the form of `rules`, the text of a SchemaForm; None if it has the form already."""
    schema, form = json.loads(text), SchemaForm(**json.loads(rules))
    refs = References(schema)
    if not form.recursion and refs.loops:
        refs.refuse_loops()
    if form.inline:
        schema = refs.inlined()
    _shape(schema, form, ())
    return None if _encode(schema) == text else schema


# ------------------------------------------------------------------ schemas within schemas


class Place(NamedTuple):
    """The place of a schema: a key of a mapping or a list, and the path to it."""

    holder: Any
    key: Any
    path: Path

    @property
    def schema(self) -> Any:
        return self.holder[self.key]


def inner(schema: Any, path: Path = ()) -> Iterator[Place]:
    """The schemas directly in a schema."""
    for word, value in schema.items() if isinstance(schema, dict) else ():
        if word in _NAMED and isinstance(value, dict):
            yield from (Place(value, name, (*path, word, name)) for name in value)
        elif word in _LISTS and isinstance(value, list):
            yield from (Place(value, place, (*path, word, str(place))) for place in range(len(value)))
        elif word in _ONE and isinstance(value, dict | bool):
            yield Place(schema, word, (*path, word))


def everywhere(schema: Any, path: Path = ()) -> Iterator[tuple[dict[str, Any], Path]]:
    """(schema, path) of a schema and of all inside it; those that are only true or false are left out."""
    if isinstance(schema, dict):
        yield schema, path
        for place in inner(schema, path):
            yield from everywhere(place.schema, place.path)


# ------------------------------------------------------------------ references


class References:
    """The references of a schema to places in it. loops: those to a schema that contains the reference.

    Raises UnfitError for a reference to a place that does not exist.
    """

    def __init__(self, root: Any) -> None:
        self.root = root
        self._parts = 0
        schemas = list(everywhere(root))
        self._anchors = {f"#{schema['$anchor']}": schema for schema, _ in schemas if "$anchor" in schema}
        self.places = [(ref, path) for schema, path in schemas if (ref := _local(schema))]
        self._found = {ref: self._find(ref, path) for ref, path in self.places}
        if len(self._found) > _MOST_REFERENCES:
            raise UnfitError((), f"refers to more than {_MOST_REFERENCES} places; use fewer of them")
        self.loops = _loops({
            ref: {_local(within) for within, _ in everywhere(found)} - {""} for ref, found in self._found.items()
        })  # fmt: skip

    def _find(self, ref: str, path: Path) -> Any:
        if ref in self._anchors:
            return self._anchors[ref]
        value = self.root
        try:
            for step in _steps(ref):
                value = value[int(step)] if isinstance(value, list) else value[step]
        except (KeyError, IndexError, ValueError, TypeError):
            raise UnfitError(path, f"refers to {ref!r}, and the schema has no such place") from None
        if not isinstance(value, dict | bool):
            raise UnfitError(path, f"refers to {ref!r}, which is not a schema")
        return value

    def refuse_loops(self) -> NoReturn:
        ref, path = [(ref, path) for ref, path in self.places if ref in self.loops][-1]
        raise UnfitError(
            path,
            f"leads back to itself by {ref!r}, and this API takes no recursion; write out as many levels as are needed",
        )

    def inlined(self) -> Any:
        """The schema with each reference replaced by its schema; those in `loops` stay, with their definitions."""
        schema = self._written_out(self.root)
        needed = {tuple(_steps(ref)[:2]) for ref in self.loops}
        for word in _DEFINITIONS if isinstance(schema, dict) else ():
            rows = schema.pop(word, None)
            kept = {name: row for name, row in rows.items() if (word, name) in needed} if isinstance(rows, dict) else {}
            schema |= {word: kept} if kept else {}
        return schema

    def _written_out(self, schema: Any) -> Any:
        self._parts += 1
        if self._parts > _MOST:
            raise UnfitError((), f"has more than {_MOST} parts when its references are written out; use fewer of them")
        if not isinstance(schema, dict):
            return schema
        copy = {word: value for word, value in schema.items() if self.loops or word not in _DEFINITIONS}
        for word in copy.keys() & (_NAMED | _LISTS):
            copy[word] = copy[word].copy() if isinstance(copy[word], dict | list) else copy[word]
        for place in list(inner(copy)):
            place.holder[place.key] = self._written_out(place.schema)
        ref = _local(copy)
        if not ref or ref in self.loops:
            return copy
        del copy["$ref"]
        return _combined(self._written_out(self._found[ref]), copy)


def _local(schema: dict[str, Any]) -> str:
    """The reference of a schema if it is to a place in the same document; else ""."""
    ref = schema.get("$ref")
    return ref if isinstance(ref, str) and ref.startswith("#") else ""


def _steps(ref: str) -> list[str]:
    """The steps of a reference's JSON pointer. One that is not a pointer gives a step that no schema has."""
    pointer = ref.removeprefix("#")
    if pointer and not pointer.startswith("/"):
        return [ref]
    return [unquote(step).replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]


def _loops(leads: Mapping[str, set[str]]) -> set[str]:
    """The references in a cycle, or between two cycles. leads: {reference: references inside its schema}."""
    left = dict(leads)
    while True:
        reached = {ref for nexts in left.values() for ref in nexts}
        ends = {ref for ref, nexts in left.items() if not nexts or ref not in reached}
        if not ends:
            return set(left)
        left = {ref: nexts - ends for ref, nexts in left.items() if ref not in ends}


def _combined(target: Any, rest: dict[str, Any]) -> Any:
    """The schema of a reference, combined with the keywords beside the reference: by allOf where they differ."""
    if not rest or target is True:
        return rest if target is True and rest else target
    both = target.keys() & rest.keys() if isinstance(target, dict) else ()
    if isinstance(target, dict) and all(word in _ANNOTATIONS or target[word] == rest[word] for word in both):
        return {**target, **rest}
    return {**rest, "allOf": [*rest.get("allOf", []), target]}


# ------------------------------------------------------------------ keywords


def _shape(schema: Any, form: SchemaForm, path: Path) -> None:
    """Change the keywords of a schema, which must be a copy, and of all schemas inside it into the form."""
    if not isinstance(schema, dict):
        return
    for word, other in form.rename.items():
        if word in schema:
            _rename(schema, word, other)
    if form.types_in_unions:
        _move_type(schema)
    if form.objects and _is_object(schema):
        if form.objects.get("additionalProperties") is False:
            _refuse_map(schema, path)
        schema.update(form.objects)
    _drop(schema, form)
    for place in inner(schema, path):
        _shape(place.schema, form, place.path)


def _rename(schema: dict[str, Any], word: str, other: str) -> None:
    value = schema.pop(word)
    value = [value] if other == "enum" and not isinstance(value, list) else value
    if other in schema and schema[other] != value:  # a value must satisfy both
        schema["allOf"] = [*schema.get("allOf", []), {other: value}]
    else:
        schema[other] = value


def _move_type(schema: dict[str, Any]) -> None:
    branches = next((schema[word] for word in ("anyOf", "oneOf") if isinstance(schema.get(word), list)), None)
    if branches is None or "type" not in schema:
        return
    kind = schema.pop("type")
    for branch in branches:
        if isinstance(branch, dict) and "$ref" not in branch:
            branch.setdefault("type", kind)


def _is_object(schema: dict[str, Any]) -> bool:
    kind = schema.get("type", "object" if "properties" in schema else None)
    return kind == "object" or (isinstance(kind, list) and "object" in kind)


def _refuse_map(schema: dict[str, Any], path: Path) -> None:
    """Raise UnfitError for an object with keys of any name: with additionalProperties false it could have none."""
    more, patterns = schema.get("additionalProperties"), schema.get("patternProperties")
    named = bool(schema.get("properties"))
    if (isinstance(more, dict) and more and more != {"not": {}}) or (
        not named and (more is True or more == {} or patterns)
    ):
        raise UnfitError(
            path, "may have keys of any name, and this API wants each of them named; ask for a list of keys and values"
        )


def _drop(schema: dict[str, Any], form: SchemaForm) -> None:
    """Remove keywords, and add to the description a clause for each."""
    clauses = []
    for word, text in form.drop.items():
        if word in schema and _encode(schema[word]) not in map(_encode, form.keep.get(word, ())):
            clauses.append(_clause(text, schema.pop(word)))
    added = "; ".join(filter(None, clauses))
    if added:
        description = schema.get("description")
        schema["description"] = f"{description} ({added})" if isinstance(description, str) and description else added


def _clause(text: str, value: Any) -> str:
    """The clause for a keyword with its value; "" for one that is false, or that only modifies another keyword."""
    if value is False or (value is True and "{}" in text):
        return ""
    return re.sub(r"\{\}", lambda _: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), text)
