"""Whether a value is certainly right by a schema, without jsonschema: for the many files in which nothing is wrong.

jsonschema takes longer to import than a call takes to make. It stays the judge: whatever is wrong here, or in doubt
(a keyword that has no row below, a number that is none), is looked at by it, and all sentences are from it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sized
from math import isfinite
from typing import Any

Schema = Mapping[str, Any]


class _DoubtError(Exception):
    """A question for jsonschema."""


def accepts(schema: Schema, value: Any) -> bool:
    """True only for a value that has nothing wrong."""
    try:
        return _fits(schema, value, schema)
    except (_DoubtError, RecursionError):
        return False


def _fits(schema: Schema, value: Any, root: Schema) -> bool:
    return all(_rule(word)(value, said, schema, root) for word, said in schema.items() if word not in _SILENT)


def _rule(word: str) -> Callable[[Any, Any, Schema, Schema], bool]:
    if word not in _RULES:
        raise _DoubtError
    return _RULES[word]


def _type(value: Any, said: Any, _schema: Schema, _root: Schema) -> bool:
    kinds = said if isinstance(said, list) else [said]
    return any(_KINDS[kind](value) for kind in kinds)


def _number(value: Any) -> bool:
    if isinstance(value, float) and not isfinite(value):
        raise _DoubtError
    return isinstance(value, int | float) and not isinstance(value, bool)


def _integer(value: Any) -> bool:
    if isinstance(value, float):
        raise _DoubtError  # 1.0 is a whole number to some
    return isinstance(value, int) and not isinstance(value, bool)


def _among(value: Any, said: Any, _schema: Schema, _root: Schema) -> bool:
    return any(type(value) is type(each) and value == each for each in said)


def _properties(value: Any, said: Any, _schema: Schema, root: Schema) -> bool:
    return not isinstance(value, dict) or all(_fits(said[key], value[key], root) for key in said if key in value)


def _additional(value: Any, said: Any, schema: Schema, root: Schema) -> bool:
    more = (
        [item for key, item in value.items() if key not in schema.get("properties", ())]
        if isinstance(value, dict)
        else []
    )
    return not more if said is False else said is True or all(_fits(said, item, root) for item in more)


def _names(value: Any, said: Any, _schema: Schema, root: Schema) -> bool:
    if isinstance(value, dict) and not all(isinstance(key, str) for key in value):
        raise _DoubtError
    return not isinstance(value, dict) or all(_fits(said, key, root) for key in value)


def _required(value: Any, said: Any, _schema: Schema, _root: Schema) -> bool:
    return not isinstance(value, dict) or all(key in value for key in said)


def _items(value: Any, said: Any, _schema: Schema, root: Schema) -> bool:
    return not isinstance(value, list) or all(_fits(said, item, root) for item in value)


def _unique(value: Any, said: Any, _schema: Schema, _root: Schema) -> bool:
    if isinstance(value, list) and not all(isinstance(item, str) for item in value):
        raise _DoubtError
    return not said or not isinstance(value, list) or len(set(value)) == len(value)


def _pattern(value: Any, said: Any, _schema: Schema, _root: Schema) -> bool:
    return not isinstance(value, str) or re.search(said, value) is not None


def _if(value: Any, said: Any, schema: Schema, root: Schema) -> bool:
    if "else" in schema:
        raise _DoubtError
    return not _fits(said, value, root) or _fits(schema.get("then", {}), value, root)


def _ref(value: Any, said: Any, _schema: Schema, root: Schema) -> bool:
    found: Any = root
    for part in said.removeprefix("#/").split("/"):
        found = found[part]
    return _fits(found, value, root)


def _all_of(value: Any, said: Any, _schema: Schema, root: Schema) -> bool:
    return all(_fits(each, value, root) for each in said)


def _counted(kind: type[Sized], holds: Callable[[int, Any], bool]) -> Callable[[Any, Any, Schema, Schema], bool]:
    return lambda value, said, _schema, _root: not isinstance(value, kind) or holds(len(value), said)


def _compared(holds: Callable[[Any, Any], bool]) -> Callable[[Any, Any, Schema, Schema], bool]:
    return lambda value, said, _schema, _root: not _number(value) or holds(value, said)


def _at_least(value: Any, said: Any) -> bool:
    return bool(value >= said)


def _at_most(value: Any, said: Any) -> bool:
    return bool(value <= said)


_SILENT = {"$schema", "$id", "$defs", "title", "description", "examples", "default", "then", "deprecated", "$comment"}
_KINDS: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": _number,
    "integer": _integer,
}
_RULES: Mapping[str, Callable[[Any, Any, Schema, Schema], bool]] = {
    "type": _type,
    "enum": _among,
    "const": lambda value, said, schema, root: _among(value, [said], schema, root),
    "properties": _properties,
    "additionalProperties": _additional,
    "propertyNames": _names,
    "required": _required,
    "items": _items,
    "uniqueItems": _unique,
    "pattern": _pattern,
    "if": _if,
    "allOf": _all_of,
    "$ref": _ref,
    "minItems": _counted(list, _at_least),
    "maxItems": _counted(list, _at_most),
    "minLength": _counted(str, _at_least),
    "maxLength": _counted(str, _at_most),
    "minProperties": _counted(dict, _at_least),
    "maxProperties": _counted(dict, _at_most),
    "minimum": _compared(_at_least),
    "maximum": _compared(_at_most),
    "exclusiveMinimum": _compared(lambda value, said: bool(value > said)),
}
