"""What a request may hold, described by Python's own values; all else is refused, with the place where it is.

str, int, …          a value of that type
None                 null
{"a", "b"}           one of these words
re.compile(…)        a text of that form
(rule, rule)         what one of the rules takes
[rule]               a list; [rule, ...] one that is not empty
{"key": rule}        an object of these keys; "key!" must be there
By("key", {…})       an object whose key says which rule holds for the rest of it
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from prx.emulator.common import RefusedError

NUMBER = (int, float)
SOME = re.compile(r".*\S.*", re.DOTALL)
TOOL_NAME = re.compile("[a-zA-Z0-9_-]{1,64}")  # as most of the APIs have it


@dataclass(frozen=True, slots=True)
class By:
    """An object that says itself what it is; `usual` where it does not."""

    key: str
    cases: dict[str, Any]
    usual: str = ""


def check(value: Any, rule: Any, where: str = "body") -> None:
    """Raise RefusedError for the first thing that the rule does not take."""
    if found := _fault(value, rule, where):
        raise RefusedError("request", found)


def _fault(value: Any, rule: Any, where: str) -> str:
    for kind, look in _LOOKS:
        if isinstance(rule, kind):
            return str(look(value, rule, where))
    return "" if value is rule else f"{where}: {rule} expected"


def _type(value: Any, rule: type, where: str) -> str:
    fits = isinstance(value, rule) and (rule in (bool, object) or not isinstance(value, bool))
    return "" if fits else f"{where}: {rule.__name__} expected"


def _word(value: Any, rule: set[str], where: str) -> str:
    fits = isinstance(value, str) and value in rule
    return "" if fits else f"{where}: one of {', '.join(sorted(rule))} expected"


def _form(value: Any, rule: re.Pattern[str], where: str) -> str:
    fits = isinstance(value, str) and rule.fullmatch(value)
    return "" if fits else f"{where}: a text of the form {rule.pattern} expected"


def _any(value: Any, rule: tuple[Any, ...], where: str) -> str:
    found = [_fault(value, each, where) for each in rule]  # the deepest says most
    return "" if "" in found else max(found, key=lambda fault: (len(fault.partition(":")[0]), len(fault)))


def _list(value: Any, rule: list[Any], where: str) -> str:
    if not isinstance(value, list) or (not value and len(rule) > 1):
        return f"{where}: a list expected" + (", and not an empty one" if len(rule) > 1 else "")
    return next((found for place, item in enumerate(value) if (found := _fault(item, rule[0], f"{where}.{place}"))), "")


def _object(value: Any, rule: dict[str, Any], where: str) -> str:
    if not isinstance(value, dict):
        return f"{where}: an object expected"
    rules = {key.removesuffix("!"): each for key, each in rule.items()}
    if unknown := [key for key in value if key not in rules]:
        return f"{where}.{unknown[0]}: not permitted"
    if missing := [key for key in rule if key.endswith("!") and key[:-1] not in value]:
        return f"{where}.{missing[0][:-1]}: missing"
    return next((found for key, item in value.items() if (found := _fault(item, rules[key], f"{where}.{key}"))), "")


def _by(value: Any, rule: By, where: str) -> str:
    if not isinstance(value, dict):
        return f"{where}: an object expected"
    kind = value.get(rule.key, rule.usual)
    if not isinstance(kind, str) or kind not in rule.cases:
        return f"{where}.{rule.key}: one of {', '.join(rule.cases)} expected"
    return _fault({key: item for key, item in value.items() if key != rule.key}, rule.cases[kind], where)


_LOOKS: tuple[tuple[type, Any], ...] = (
    (type, _type),
    (set, _word),
    (re.Pattern, _form),
    (tuple, _any),
    (list, _list),
    (dict, _object),
    (By, _by),
)
