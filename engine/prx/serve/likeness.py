"""What calls have in common with others of the same form, and answers with other answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_LONGEST_WORD = 64  # letters; in answers a longer text is no word that means something
_LONGEST = 200  # letters of a text beside the messages; with a longer one a body has a form of its own
_NAMES = frozenset(
    {"id", "created_at", "completed_at"}
)  # texts that each answer has of its own, and which stay as they came
_MOST_ROWS = 100  # of one list in an answer

Path = tuple[str | int, ...]


def form_of(body: Mapping[str, Any]) -> Any:
    """What a caller's body has in common with others of its form: all but the texts of its messages and numbers. None for a body
    that has more than messages of texts, and single values.
    """
    rows: list[Any] = []
    for key, value in body.items():
        kind = type(value)
        if kind is list:
            if not (objects := _objects(value)):
                return None
            rows.append((key, objects))
        elif kind is dict or (kind is str and len(value) > _LONGEST):
            return None
        else:
            rows.append((key, kind, _in_common(value)))
    return tuple(rows)


def _objects(rows: list[Any]) -> frozenset[Any] | None:
    """The objects in a list without what messages say; None where they have anything but texts, or others that are long. A role, a
    type and their like decide whether a call is refused.
    """
    for row in rows:
        if type(row) is not dict or not _TEXTS.issuperset(map(type, row.values())):
            return None
    found = frozenset([tuple([(key, "" if key == "content" else text) for key, text in row.items()]) for row in rows])
    return None if any(len(text) > _LONGEST for row in found for _, text in row) else found


def is_same(one: Any, other: Any) -> bool:
    """Whether two values are the same in JSON: 1, 1.0 and true are equal in Python alone."""
    return one is other or (one == other and _in_order(one) == _in_order(other))


def form(value: Any, text: Any) -> Any:
    """What an answer has in common with others of its form: all but this text, longer texts, what it is called, and numbers."""
    kind = type(value)
    if kind is dict:  # its values are looked at here, since a call for each takes longer than all the rest
        rows: list[Any] = []
        for key, item in value.items():
            kind = type(item)
            if kind is dict or kind is list:
                rows.append((key, form(item, text)))
            elif kind is str:
                is_own = key in _NAMES and item
                rows.append((key, _TEXT if item is text else str if is_own or len(item) > _LONGEST_WORD else item))
            else:
                rows.append((key, kind, _in_common(item) if kind is int or kind is float else item))
        return tuple(rows)
    if kind is list:
        return tuple([form(item, text) for item in value[:_MOST_ROWS]]) if len(value) <= _MOST_ROWS else object()
    if kind is str:
        return _TEXT if value is text else value if len(value) <= _LONGEST_WORD else str
    return kind, _in_common(value)


def _in_common(value: Any) -> Any:
    """A single value; None for a number that says no more than how many, as 0 and 1 may."""
    return None if (type(value) is int and value > 1) or (type(value) is float and value) else value


def place_of(text: str, value: Any, path: Path = ()) -> Path | None:
    """Where this very text stands in a value; None where it does not, or more than once."""
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [place for step, item in steps if (place := place_of(text, item, (*path, step))) is not None]
    if value is text:
        return path
    return found[0] if len(found) == 1 else None


def value_at(value: Any, path: Path) -> Any:
    """What stands at a path of a value; None where nothing does."""
    try:
        for step in path:
            value = value[step]
    except (LookupError, TypeError):
        return None
    return value


_TEXTS = frozenset({str})
_in_order = json.JSONEncoder(sort_keys=True).encode
_TEXT = object()
