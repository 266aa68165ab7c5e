"""Accepts a value that is certainly valid by a schema, without jsonschema: most files have no fault.

To import jsonschema takes longer than a call. It still decides: a value that is not accepted here, because it is faulty
or in doubt (a keyword that has no row below, NaN), is validated by jsonschema, and all messages come from there.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sized
from math import isfinite
from typing import Any

Schema = Mapping[str, Any]
# (value, the keyword's value, the schema that has the keyword, the root schema) -> whether the value is valid
Rule = Callable[[Any, Any, Schema, Schema], bool]


class _DoubtError(Exception):
    """Only jsonschema can decide about this value."""


def accepts(schema: Schema, value: Any) -> bool:
    """True only for a value that is valid; False also where only jsonschema can decide."""
    try:
        return _fits(schema, value, schema)
    except (_DoubtError, RecursionError):
        return False


def _fits(schema: Schema, value: Any, root: Schema) -> bool:
    return all(_rule(word)(value, wanted, schema, root) for word, wanted in schema.items() if word not in _SILENT)


def _rule(word: str) -> Rule:
    if word not in _RULES:
        raise _DoubtError
    return _RULES[word]


def _type(value: Any, wanted: Any, _schema: Schema, _root: Schema) -> bool:
    kinds = wanted if isinstance(wanted, list) else [wanted]
    return any(_KINDS[kind](value) for kind in kinds)


def _number(value: Any) -> bool:
    if isinstance(value, float) and not isfinite(value):
        raise _DoubtError
    return isinstance(value, int | float) and not isinstance(value, bool)


def _integer(value: Any) -> bool:
    if isinstance(value, float):
        raise _DoubtError  # JSON Schema takes 1.0 for a whole number
    return isinstance(value, int) and not isinstance(value, bool)


def _among(value: Any, wanted: Any, _schema: Schema, _root: Schema) -> bool:
    return any(type(value) is type(each) and value == each for each in wanted)


def _properties(value: Any, wanted: Any, _schema: Schema, root: Schema) -> bool:
    return not isinstance(value, dict) or all(_fits(wanted[key], value[key], root) for key in wanted if key in value)


def _additional(value: Any, wanted: Any, schema: Schema, root: Schema) -> bool:
    others = (
        [item for key, item in value.items() if key not in schema.get("properties", ())]
        if isinstance(value, dict)
        else []
    )
    return not others if wanted is False else wanted is True or all(_fits(wanted, item, root) for item in others)


def _names(value: Any, wanted: Any, _schema: Schema, root: Schema) -> bool:
    if isinstance(value, dict) and not all(isinstance(key, str) for key in value):
        raise _DoubtError
    return not isinstance(value, dict) or all(_fits(wanted, key, root) for key in value)


def _required(value: Any, wanted: Any, _schema: Schema, _root: Schema) -> bool:
    return not isinstance(value, dict) or all(key in value for key in wanted)


def _items(value: Any, wanted: Any, _schema: Schema, root: Schema) -> bool:
    return not isinstance(value, list) or all(_fits(wanted, item, root) for item in value)


def _unique(value: Any, wanted: Any, _schema: Schema, _root: Schema) -> bool:
    if isinstance(value, list) and not all(isinstance(item, str) for item in value):
        raise _DoubtError
    return not wanted or not isinstance(value, list) or len(set(value)) == len(value)


def _pattern(value: Any, wanted: Any, _schema: Schema, _root: Schema) -> bool:
    return not isinstance(value, str) or re.search(wanted, value) is not None


def _if(value: Any, wanted: Any, schema: Schema, root: Schema) -> bool:
    if "else" in schema:
        raise _DoubtError
    return not _fits(wanted, value, root) or _fits(schema.get("then", {}), value, root)


def _ref(value: Any, wanted: Any, _schema: Schema, root: Schema) -> bool:
    target: Any = root
    for part in wanted.removeprefix("#/").split("/"):
        target = target[part]
    return _fits(target, value, root)


def _all_of(value: Any, wanted: Any, _schema: Schema, root: Schema) -> bool:
    return all(_fits(each, value, root) for each in wanted)


def _not(value: Any, wanted: Any, _schema: Schema, root: Schema) -> bool:
    return not _fits(wanted, value, root)


def _counted(kind: type[Sized], holds: Callable[[int, Any], bool]) -> Rule:
    return lambda value, wanted, _schema, _root: not isinstance(value, kind) or holds(len(value), wanted)


def _compared(holds: Callable[[Any, Any], bool]) -> Rule:
    return lambda value, wanted, _schema, _root: not _number(value) or holds(value, wanted)


# Keywords that do not restrict a value; `then` is read by the rule of `if`.
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
_RULES: Mapping[str, Rule] = {
    "type": _type,
    "enum": _among,
    "const": lambda value, wanted, schema, root: _among(value, [wanted], schema, root),
    "properties": _properties,
    "additionalProperties": _additional,
    "propertyNames": _names,
    "required": _required,
    "items": _items,
    "uniqueItems": _unique,
    "pattern": _pattern,
    "if": _if,
    "allOf": _all_of,
    "not": _not,
    "$ref": _ref,
    "minItems": _counted(list, operator.ge),
    "maxItems": _counted(list, operator.le),
    "minLength": _counted(str, operator.ge),
    "maxLength": _counted(str, operator.le),
    "minProperties": _counted(dict, operator.ge),
    "maxProperties": _counted(dict, operator.le),
    "minimum": _compared(operator.ge),
    "maximum": _compared(operator.le),
    "exclusiveMinimum": _compared(operator.gt),
}
