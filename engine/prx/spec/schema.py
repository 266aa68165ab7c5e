"""Validates against the JSON Schemas, and words the faults: where, what, and the nearest valid word.

jsonschema is imported at first use: a process that only calls packaged providers never needs it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from prx import resources
from prx.spec import accept
from prx.spec.document import Document, Keys, Problem
from prx.text import nearest

_TYPES = {
    "string": "text", "integer": "a whole number", "number": "a number", "boolean": "true or false",
    "object": "a mapping", "array": "a list", "null": "nothing",
}  # fmt: skip


_MAY_HOLD_KEY = {"api_key", "auth_template", "template", "env", "headers", "query", "proxy"}  # values are never shown


@cache
def load(name: str) -> dict[str, Any]:
    """A packaged schema: "provider", "config" or "case"."""
    path = resources.folder("schemas") / f"{name}.schema.json"
    schema: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return schema


def problems(document: Document, name: str = "provider") -> list[Problem]:
    """Every fault of a document, in the order of its lines. In a provider's file null is allowed: it removes a key."""
    value = _without_nulls(document.value) if name == "provider" else document.value
    try:
        faults = [document.problem(keys, sentence) for keys, sentence in _faults(name, value)]
        faults += [document.problem(keys, "must be a finite number") for keys in _not_finite(value, ())]
    except (RecursionError, ValueError):  # ValueError: Python refuses to write a number of more than 4,300 digits
        faults = [document.problem((), "is nested too deeply, or has a number of too many digits")]
    except TypeError:  # a configuration that is passed as a mapping may hold any Python object
        faults = [document.problem((), "holds a value that is not a string, number, boolean, list or mapping")]
    return sorted(set(faults), key=lambda problem: (problem.line, problem.column, problem.path))


def _faults(name: str, value: Any) -> Iterator[tuple[Keys, str]]:
    if not accept.accepts(load(name), value):
        for error in _validator(name).iter_errors(value):
            yield from _sentences(error, quiet=name == "config")


@cache
def _validator(name: str) -> Any:
    from jsonschema import Draft202012Validator
    from referencing import Registry

    return Draft202012Validator(load(name), registry=Registry())  # with an empty registry it fetches no schema by URL


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(child) for key, child in value.items() if child is not None}
    return [_without_nulls(child) for child in value] if isinstance(value, list) else value


def _not_finite(value: Any, keys: Keys) -> Iterator[Keys]:
    """The paths of numbers that are infinite or NaN: JSON Schema's limits accept both."""
    if isinstance(value, float) and not math.isfinite(value):
        yield keys
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inner:
        yield from _not_finite(child, (*keys, key))


def _sentences(error: Any, *, quiet: bool) -> Iterator[tuple[Keys, str]]:
    """(path, sentence) of each fault in an error of jsonschema. quiet: do not show values that may be misplaced keys."""
    keys: Keys = tuple(error.absolute_path)
    rule = error.validator
    if rule == "not" and isinstance(error.instance, str):
        keys = (*keys, error.instance)  # for a faulty name of a key, jsonschema gives only the path of its mapping
    if rule == "additionalProperties" and isinstance(error.instance, dict):
        known = list(error.schema.get("properties", {}))
        for key in error.instance:
            if key not in known:
                yield (*keys, key), f"unknown key {key!r:.80}{nearest(str(key), known) or _list(known)}"
    elif rule == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        yield keys, f"{missing!r} is missing{_reason(error.schema, missing)}"
    else:
        yield keys, _SENTENCES.get(rule, _plain)(error, quiet and not _too_short_for_key(error.instance))


def _list(known: list[str]) -> str:
    return f"; known here: {', '.join(known)}" if known else ""


def _reason(schema: Mapping[str, Any], key: str) -> str:
    example = schema.get("properties", {}).get(key, {}).get("examples", [])
    return f"; for example {key}: {json.dumps(example[0])}" if example else ""


def _example(error: Any) -> str:
    examples = error.schema.get("examples") or []
    return f"; for example {json.dumps(examples[0], ensure_ascii=False)}" if examples else ""


def _too_short_for_key(value: Any) -> bool:
    """Whether a value is too short for an API key: a word, a small number, true or false."""
    return bool(re.fullmatch(r'"[a-z]{1,8}"|[\w.+-]{1,6}', json.dumps(value, ensure_ascii=False, default=str)))


def _may_be_secret(error: Any) -> bool:
    return bool(_MAY_HOLD_KEY & {str(key) for key in error.absolute_path})


def _short(error: Any, quiet: bool) -> str:
    """The faulty value, unless it may be a key."""
    if quiet or _may_be_secret(error):
        return "the value given"
    text = json.dumps(error.instance, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _type(error: Any, quiet: bool) -> str:
    wanted = error.validator_value if isinstance(error.validator_value, list) else [error.validator_value]
    return f"must be {' or '.join(_TYPES[kind] for kind in wanted)}, not {_short(error, quiet)}{_example(error)}"


def _enum(error: Any, quiet: bool) -> str:
    known = [str(word) for word in error.validator_value]
    return f"{_short(error, quiet)} is not one of {', '.join(known)}{nearest(str(error.instance), known)}"


def _const(error: Any, quiet: bool) -> str:
    return f"version {_short(error, quiet)} is not known to this prx; it reads version {error.validator_value}"


def _pattern(error: Any, quiet: bool) -> str:
    return f"{_short(error, quiet)} does not have the required form{_example(error)}"


def _plain(error: Any, quiet: bool) -> str:
    if quiet or _may_be_secret(error):
        return f"has an invalid value{_example(error)}"
    return str(error.message).splitlines()[0][:200]


def _too_many(error: Any, _quiet: bool) -> str:
    return f"has {len(error.instance)} entries; at most {error.validator_value} are allowed"


def _not(error: Any, quiet: bool) -> str:
    """A sentence for a value that a `not` of the schema excludes: the schema's own description."""
    name = f"{_short(error, quiet)} " if isinstance(error.instance, str) else ""
    return f"{name}{error.schema['description']}"


_SENTENCES = {
    "type": _type, "enum": _enum, "const": _const, "pattern": _pattern, "not": _not, "maxItems": _too_many, "maxProperties": _too_many,
}  # fmt: skip
