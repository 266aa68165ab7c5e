"""Checks requests against rules, which are Python values; everything else is refused, with its path.

str, int, …          a value of that type
None                 null
{"a", "b"}           one of these texts
re.compile(…)        a text that matches
(rule, rule)         a value that one of the rules accepts
[rule]               a list; [rule, ...] one that is not empty
{"key": rule}        an object with these keys and no others; "key!" is required
By("key", {…})       an object; the value of its key selects the rule for the rest of it
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from judges.dialects.common import RefusedError

NUMBER = (int, float)
SOME = re.compile(r".*\S.*", re.DOTALL)
TOOL_NAME = re.compile("[a-zA-Z0-9_-]{1,64}")  # as most of the APIs have it


@dataclass(frozen=True, slots=True)
class By:
    """See the module. usual: the value of the key where it is missing."""

    key: str
    cases: dict[str, Any]
    usual: str = ""


def check(value: Any, rule: Any, where: str = "body") -> None:
    """Raise RefusedError for the first part of a value that its rule does not accept. where: path of the value."""
    if fault := _fault(value, rule, where):
        raise RefusedError("request", fault)


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
    faults = [_fault(value, each, where) for each in rule]
    # The fault with the longest path is that of the rule which fits best.
    return "" if "" in faults else max(faults, key=lambda fault: (len(fault.partition(":")[0]), len(fault)))


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
