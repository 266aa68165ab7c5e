"""The functions that expressions have besides JMESPath's, without side effects.

Each gives null for null, so that a formula about a missing part gives null instead of an error. Nothing here imports the
jmespath package, which takes longer than many calls do; for that reason those of JMESPath's functions that
the packaged dialects use are here as well (STANDARD).
"""

from __future__ import annotations

import json
import re
import struct
from binascii import b2a_base64
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from types import NoneType
from typing import Any, NamedTuple, TypeVar

from prx.json_text import read_json

F = TypeVar("F", bound=Callable[..., Any])
_QUOTES = (("'", "'"), ('"', '"'), ("`", "`"), ("\u201c", "\u201d"), ("\u2018", "\u2019"))
_QUOTED = "|".join(rf"{opening}([A-Za-z0-9_.\[\]-]{{1,200}}){closing}" for opening, closing in _QUOTES)
Types = tuple[type, ...]  # types that an argument may have; () for any
_ANY: Types = ()
_TEXT: Types = (str, NoneType)


class Own(NamedTuple):
    """A function, and the types of its arguments. more: the last argument may be repeated, or left out; its type is
    checked once.
    """

    run: Callable[..., Any]
    wanted: tuple[Types, ...]
    more: bool

    def takes(self, arguments: Sequence[Any]) -> bool:
        """Whether number and types of the arguments fit."""
        given, wanted = len(arguments), len(self.wanted)
        if given < wanted or (given > wanted and not self.more):
            return False
        for argument, types in zip(arguments, self.wanted, strict=False):
            if types and type(argument) not in types:
                return False
        return True


OWN: dict[str, Own] = {}
STANDARD: dict[str, Own] = {}  # JMESPath's own; on TypeError jmespath's version is called, for its message


def _own(*wanted: Types, more: bool = False) -> Callable[[F], F]:
    def add(function: F) -> F:
        OWN[function.__name__] = Own(function, wanted, more)
        return function

    return add


@_own(_TEXT)
def parse_json(text: str | None) -> Any:
    """The value of a JSON text; the text itself where it is not JSON."""
    try:
        return None if text is None else read_json(text)
    except ValueError:
        return text


@_own(_ANY)
def to_json(value: Any) -> str | None:
    """JSON text of a value; a text stays as it is."""
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@_own(_ANY)
def as_list(value: Any) -> list[Any] | None:
    """A list as it is, anything else as a list of one."""
    return value if value is None or isinstance(value, list) else [value]


@_own(_TEXT)
def lower(text: str | None) -> str | None:
    return None if text is None else text.lower()


@_own(_TEXT, _ANY, more=True)
def says(text: str | None, *phrases: str) -> bool:
    """Whether the text has one of the phrases in it, upper or lower case."""
    low = (text or "").lower()
    return any(isinstance(phrase, str) and phrase.lower() in low for phrase in phrases)


@_own(_ANY)
def quoted(text: Any) -> list[str] | None:
    """The names in quotes in a text, of letters, digits and _ . - [ ]; null for a value that is not a text."""
    if not isinstance(text, str):
        return None
    return [next(filter(None, found.groups())) for found in re.finditer(_QUOTED, text.replace('\\"', '"'))]


@_own(_ANY, more=True)
def total(*counts: Any) -> int | float | None:
    """The sum of the arguments that are numbers; null where none is a number."""
    numbers = [count for count in counts if isinstance(count, int | float) and not isinstance(count, bool)]
    return sum(numbers) if numbers else None


@_own(_TEXT, (str,))
def without_prefix(text: str | None, prefix: str) -> str | None:
    return None if text is None else text.removeprefix(prefix)


@_own(_TEXT, _ANY, more=True)
def like(text: str | None, *patterns: str) -> bool:
    """Whether the text matches one of the glob patterns: * for any characters, [0-5] for one of these."""
    return any(isinstance(pattern, str) and fnmatchcase(text or "", pattern) for pattern in patterns)


@_own(_ANY)
def packed(numbers: Any) -> str | None:
    """Base64 of a list of numbers, each as four bytes (float32, the lowest byte first); null for anything else."""
    try:
        data = struct.pack(f"<{len(numbers)}f", *numbers) if isinstance(numbers, list) else None
    except (struct.error, OverflowError):
        return None
    return None if data is None else b2a_base64(data, newline=False).decode()


@_own(_ANY)
def compact(value: Any) -> Any:
    """A list without its nulls, an object without its null values; null where nothing is left."""
    if isinstance(value, dict):
        value = {key: item for key, item in value.items() if item is not None}
    elif isinstance(value, list):
        value = [item for item in value if item is not None]
    return value or None


@_own(_ANY)
def json_schema(schema: Any) -> Any:
    """A schema in OpenAPI's words (types in capitals, nullable, counts as text) as JSON Schema; one that is JSON Schema stays as it is."""
    if isinstance(schema, list):
        return [json_schema(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _keyword(key, value) for key, value in schema.items() if key not in _OPENAPI_ONLY}
    if made.get("type") == "type_unspecified":
        del made["type"]
    if schema.get("nullable") is True and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    return made


_OPENAPI_ONLY = ("nullable", "propertyOrdering", "property_ordering")


def _keyword(key: str, value: Any) -> Any:
    if key == "type" and isinstance(value, str):
        return value.lower()
    if key in {"properties", "$defs"} and isinstance(value, dict):
        return {name: json_schema(each) for name, each in value.items()}
    if key.startswith(("min", "max")) and isinstance(value, str) and value.isdecimal():
        return int(value)
    return json_schema(value) if key in {"items", "anyOf", "prefixItems", "additionalProperties"} else value


# ------------------------------------------------------------------ JMESPath's

_TYPES = {str: "string", bool: "boolean", list: "array", dict: "object", float: "number", int: "number"}


def _type(value: Any) -> str:
    return _TYPES.get(type(value), "null")


def _min(values: list[Any]) -> Any:
    kinds = {type(value) for value in values}
    if not (kinds <= {int, float} or kinds == {str}):
        raise TypeError
    return min(values) if values else None


def _merge(*values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for each in values for key, value in dict.items(each)}


def _contains(subject: Any, search: Any) -> bool:
    return search in subject


STANDARD |= {
    "type": Own(_type, (_ANY,), more=False),
    "join": Own(str.join, ((str,), (list,)), more=False),
    "length": Own(len, ((str, list, dict),), more=False),
    "contains": Own(_contains, ((str, list), _ANY), more=False),
    "min": Own(_min, ((list,),), more=False),
    "merge": Own(_merge, ((dict,),), more=True),
    "starts_with": Own(str.startswith, ((str,), (str,)), more=False),
    "ends_with": Own(str.endswith, ((str,), (str,)), more=False),
}
