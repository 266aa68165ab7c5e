"""From a type of Python's to its JSON Schema.

Classes stand under `$defs`, so that one may contain itself; the outermost stands at the root, where APIs want an object.
A schema is `strict` where it says of each object which keys it has: providers hold a model to such a schema alone.
"""

from __future__ import annotations

import collections.abc as abstract
import datetime as dt
import enum
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args, get_origin, is_typeddict

from prx.core.schemas import everywhere
from prx.errors import ConfigError
from prx.typed import hints
from prx.typed.docstrings import described
from prx.typed.hints import NEEDED, Member, bare, name_of, note

Json = dict[str, Any]

ATOMS: Mapping[Any, Json] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    None: {"type": "null"},
    Any: {},
    object: {},
    dt.datetime: {"type": "string", "format": "date-time"},
    dt.date: {"type": "string", "format": "date"},
    dt.time: {"type": "string", "format": "time"},
    uuid.UUID: {"type": "string", "format": "uuid"},
}
LISTS = (list, abstract.Sequence, abstract.Iterable, abstract.Collection, abstract.MutableSequence)
SETS = (set, frozenset, abstract.Set, abstract.MutableSet)
MAPPINGS = (dict, abstract.Mapping, abstract.MutableMapping)
_TYPES_OF_VALUES = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def schema_of(hint: Any) -> Json:
    """The schema of a type, with what it refers to under `$defs`. Raises ConfigError for a type that has none."""
    return Builder().root(hint)


def schema_of_members(title: str, members: tuple[Member, ...]) -> Json:
    """The schema of an object with these members. title: whose they are, for errors."""
    builder = Builder()
    return builder.finished(builder.members(title, members))


class Builder:
    """Makes one schema, and keeps the classes in it. path: of what is being made, for errors."""

    def __init__(self) -> None:
        self._defs: dict[str, Json] = {}
        self._names: dict[Any, str] = {}

    def root(self, hint: Any) -> Json:
        schema = self.of(hint, name_of(hint))
        name = schema.get("$ref", "").removeprefix("#/$defs/") if len(schema) == 1 else ""
        if name not in self._defs:
            return self.finished(schema)
        again = any(each.get("$ref") == schema["$ref"] for each, _ in everywhere({"$defs": self._defs}))
        whole = self._defs[name] if again else self._defs.pop(name)
        return self.finished(dict(whole))

    def finished(self, schema: Json) -> Json:
        return {**schema, "$defs": self._defs} if self._defs else schema

    def of(self, hint: Any, path: str) -> Json:
        text, hint = note(hint), bare(hint)
        schema = self._plain(hint, path)
        return noted(schema, text) if text else schema

    def _plain(self, hint: Any, path: str) -> Json:
        known = ATOMS.get(hint) if isinstance(hint, abstract.Hashable) else None
        if known is not None:
            return dict(known)
        origin, args = get_origin(hint), get_args(hint)
        if hints.is_pydantic(hint) or hints.is_class_with_members(hint):
            return self._named(hint, path)
        if isinstance(hint, type) and issubclass(hint, enum.Enum):
            return values([member.value for member in hint])
        for kinds, make in _CONTAINERS.items():
            if (origin or hint) in kinds:
                return make(self, args, path)
        raise ConfigError(
            f"{path}: {name_of(hint)} has no form in JSON Schema",
            hint="Known are str, int, float, bool, None, Any, list, tuple, set, dict, Literal, Enum, Optional and unions, dates and times, UUID, dataclasses, TypedDict, "
            "NamedTuple and pydantic's classes.",
        )

    # -------------------------------------------------------------- classes

    def _named(self, cls: Any, path: str) -> Json:
        if cls not in self._names:
            name = cls.__name__
            while name in self._defs:
                name += "_"
            self._names[cls] = name
            self._defs[name] = {}  # while it is made: it may contain itself
            if hints.is_pydantic(cls):
                self._defs[name] = self._of_pydantic(cls, path)
            else:
                self._defs[name] = self._of_class(cls)
        return {"$ref": f"#/$defs/{self._names[cls]}"}

    def _of_class(self, cls: Any) -> Json:
        text = described(hints.own_docstring(cls)).text
        made = self.members(cls.__name__, hints.members(cls), null_for_missing=is_typeddict(cls))
        return {**({"description": text} if text else {}), **made}

    def _of_pydantic(self, cls: Any, path: str) -> Json:
        try:
            schema: Json = hints.adapter(cls).json_schema()
        except Exception as error:  # whatever pydantic, or the program's own class, raises
            raise ConfigError(f"{path}: pydantic makes no schema of {cls.__name__}: {error}") from None
        defs = schema.pop("$defs", {})
        name = schema.get("$ref", "").removeprefix("#/$defs/")
        if name in defs:  # it contains itself
            schema = defs[name]
        for other, inner in defs.items():
            if self._defs.get(other) not in (None, {}, inner):
                raise ConfigError(f"{path}: two classes are called {other}", hint="Give one of them another name.")
            self._defs[other] = inner
        return schema

    def members(self, title: str, members: tuple[Member, ...], *, null_for_missing: bool = False) -> Json:
        """null_for_missing: a strict schema can say of a key that may be missing only that it may be null."""
        properties = {}
        for member in members:
            schema = self.of(member.hint, f"{title}.{member.name}")
            if null_for_missing and member.default is not NEEDED and not hints.takes_null(member.hint):
                schema = {"anyOf": [schema, {"type": "null"}]}
            properties[member.name] = noted(schema, member.description) if member.description else schema
        needed = [member.name for member in members if member.default is NEEDED]
        return {"type": "object", "properties": properties, **({"required": needed} if needed else {})}

    # -------------------------------------------------------------- containers

    def of_list(self, args: tuple[Any, ...], path: str) -> Json:
        return {"type": "array", **({"items": self.of(args[0], f"{path}[]")} if args else {})}

    def of_set(self, args: tuple[Any, ...], path: str) -> Json:
        return {**self.of_list(args, path), "uniqueItems": True}

    def of_tuple(self, args: tuple[Any, ...], path: str) -> Json:
        if not args or args[-1] is ...:
            return self.of_list(args[:1], path)
        rows = [self.of(arg, f"{path}[{place}]") for place, arg in enumerate(args)]
        return {"type": "array", "prefixItems": rows, "minItems": len(rows), "maxItems": len(rows)}

    def of_mapping(self, args: tuple[Any, ...], path: str) -> Json:
        if args and bare(args[0]) not in (str, Any):
            raise ConfigError(f"{path}: the keys of a mapping are texts in JSON, not {name_of(args[0])}")
        return {"type": "object", "additionalProperties": self.of(args[1], f"{path}{{}}") if args else True}

    def of_literal(self, args: tuple[Any, ...], path: str) -> Json:
        return values(args)

    def of_union(self, args: tuple[Any, ...], path: str) -> Json:
        rows = [self.of(arg, path) for arg in args]
        return rows[0] if len(rows) == 1 else {"anyOf": rows}


_CONTAINERS: Mapping[tuple[Any, ...], Callable[[Builder, tuple[Any, ...], str], Json]] = {
    LISTS: Builder.of_list,
    SETS: Builder.of_set,
    (tuple,): Builder.of_tuple,
    MAPPINGS: Builder.of_mapping,
    (Literal,): Builder.of_literal,
    hints.UNIONS: Builder.of_union,
}


def noted(schema: Json, text: str) -> Json:
    """The schema with a description. Some APIs allow nothing beside `$ref`."""
    return {"anyOf": [schema], "description": text} if "$ref" in schema else {**schema, "description": text}


def values(found: Any) -> Json:
    """The schema of one of several values."""
    plain = [value.value if isinstance(value, enum.Enum) else value for value in found]
    types = list(dict.fromkeys(_TYPES_OF_VALUES.get(type(value), "") for value in plain))
    named = {} if "" in types else {"type": types[0] if len(types) == 1 else types}
    return {**named, "enum": plain}


# ------------------------------------------------------------------ strict

_SAYS_WHAT = ("type", "anyOf", "$ref", "enum", "const", "allOf")


def strict(schema: Json) -> Json | None:
    """The schema in the form that providers hold a model to: each object with all of its keys, required, and no others.

    None where it has an object with keys of any name, a value of any type, or a list whose elements differ by their place.
    """
    copy: Json = _renamed(schema)
    for each, _ in everywhere(copy):
        if "prefixItems" in each or not any(word in each for word in _SAYS_WHAT):
            return None
        each.pop("default", None)
        if each.get("type") == "array" and not isinstance(each.get("items"), dict):
            return None
        if each.get("type") == "object":
            if each.get("additionalProperties", False) is not False or "patternProperties" in each:
                return None
            properties = each.setdefault("properties", {})
            each |= {"required": list(properties), "additionalProperties": False}
    return copy


def _renamed(schema: Any) -> Any:
    """A deep copy with `anyOf` for `oneOf`, without `discriminator`, and with nothing beside `$ref`: the same to a model."""
    from copy import deepcopy

    copy = deepcopy(schema)
    for each, _ in [*everywhere(copy)]:
        if "oneOf" in each and "anyOf" not in each:
            each["anyOf"] = each.pop("oneOf")
        each.pop("discriminator", None)
        if "$ref" in each and len(each) > 1:
            each["anyOf"] = [{"$ref": each.pop("$ref")}]
    return copy
