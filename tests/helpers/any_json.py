"""Anything that JSON can say, with what is known to trip programs among it; and grafts of it onto values that are right."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

DEEP = 400  # deeper than what is read, less deep than what Python's own reader refuses


def _nested(depth: int) -> list[Any]:
    made: list[Any] = []
    for _ in range(depth):
        made = [made]
    return made


TEXTS = st.text(st.characters(exclude_categories=()), max_size=8) | st.sampled_from(
    ["", "stop", "error", "sk-played-key", "<think>", "</think>", "a<th", "\ud83d", "\ude00", "{}", '{"a":1}', '{"', "1", "4" * 300]
)  # fmt: skip
NUMBERS = st.integers(-2, 500) | st.floats() | st.sampled_from([10**400, -(10**400), 2**63, 1e308, 0.0])
NAMES = TEXTS | st.sampled_from(
    ["type", "text", "content", "delta", "message", "error", "index", "id", "name", "function", "arguments", "usage", "parts"]
)  # fmt: skip
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS | st.builds(_nested, st.just(DEEP)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


def grafted(value: Any, grafts: st.SearchStrategy[Any] = JSON) -> st.SearchStrategy[Any]:
    """The value with one or two of its parts, at any place, swapped for anything; or as it is."""
    found = list(places(value))
    rows = st.lists(st.tuples(st.sampled_from(found), grafts), max_size=2)
    return rows.map(lambda rows: _all_grafted(value, rows))


def _all_grafted(value: Any, rows: list[tuple[tuple[Any, ...], Any]]) -> Any:
    for place, graft in rows:
        value = put(value, place, graft)
    return value


def put(value: Any, place: tuple[Any, ...], graft: Any) -> Any:
    """The value with this in one of its places."""
    if not place:
        return graft
    first, *rest = place
    if isinstance(value, dict) and first in value:
        return {**value, first: put(value[first], tuple(rest), graft)}
    if isinstance(value, list) and isinstance(first, int) and first < len(value):
        return [put(item, tuple(rest), graft) if at == first else item for at, item in enumerate(value)]
    return value  # an earlier graft has taken this place away


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a value, as the names and numbers that lead there."""
    yield above
    for name, item in _items(value):
        yield from places(item, (*above, name))


def _items(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, dict):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, list) else []


def texts(value: Any) -> Iterator[str]:
    """What of a value may be handed out as text: its texts, and any of its parts as JSON."""
    if isinstance(value, str):
        yield printable(value)
    elif value is not None and not isinstance(value, bool):
        yield printable(json.dumps(value, ensure_ascii=False))
    for _, item in _items(value):
        yield from texts(item)


def leaves(value: Any) -> Iterator[str]:
    """The texts in a value."""
    if isinstance(value, str):
        yield value
    for _, item in _items(value):
        yield from leaves(item)


def printable(text: str) -> str:
    """A text as it can be encoded, as the reader makes it."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
