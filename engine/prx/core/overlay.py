"""Joins what a provider said with what was read in it and written again: two forms of one JSON value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Of a whole answer and of each event: as the provider said it.
SAID = ("id", "model", "created", "created_at", "completed_at", "object")
_NESTED = (dict, list)


def overlaid(said: Mapping[str, Any], written: Mapping[str, Any]) -> dict[str, Any]:
    """A body with what was written over it: some servers of a dialect differ in details that its clients do not expect.
    What nobody knows stays; so does an object in place of a text, which its sender meant as it is.
    """
    return {**over(said, written), **{key: said[key] for key in SAID if said.get(key) is not None}}


def over(said: Any, written: Any) -> Any:
    """Two values as one: mappings are merged, lists by place; of two values that differ, the written one."""
    if isinstance(said, dict) and isinstance(written, dict):
        both = {}
        for key, value in written.items():
            other = said.get(key)
            # Most values are texts and numbers: a call for each of them takes longer than all the rest.
            both[key] = over(other, value) if type(value) in _NESTED or type(other) is dict else value
        for key, value in said.items():
            if key not in both:
                both[key] = value
        return both
    if isinstance(said, list) and isinstance(written, list):
        return [
            *(over(*pair) for pair in zip(said, written, strict=False)),
            *written[len(said) :],
            *said[len(written) :],
        ]
    return said if isinstance(said, dict) and isinstance(written, str) else written


def covers(said: Any, written: Any) -> bool:
    """Whether all that was written stands in what was said. What an answer is called only has to be there; null need not."""
    if isinstance(said, dict) and isinstance(written, dict):
        return all(
            said.get(key) is not None if key in SAID else covers(said.get(key), value) for key, value in written.items()
        )
    if isinstance(said, list) and isinstance(written, list):
        return len(said) == len(written) and all(map(covers, said, written))
    return bool(said == written)


def unknown(said: Any, known: Any) -> Any:
    """The part of a value that is not under the known keys, and the `index` of each row with it; None where there is none.
    known: a tree as in Face.written.
    """
    if isinstance(said, dict) and isinstance(known, dict):
        left = {key: unknown(value, known[key]) if key in known else value for key, value in said.items()}
        return {key: value for key, value in left.items() if value is not None or key not in known} or None
    if isinstance(said, list) and isinstance(known, list) and known:
        rows = [unknown(value, known[0]) for value in said]
        return [{**(row or {}), **_place(value)} for row, value in zip(rows, said, strict=True)] if any(rows) else None
    return None


def _place(row: Any) -> dict[str, Any]:
    """By what clients know which row of a list a piece belongs to."""
    return {"index": row["index"]} if isinstance(row, dict) and "index" in row else {}


def apart(value: Any, count: int) -> tuple[Any, list[Any]]:
    """A value without its innermost list of so many objects, and for each of these the value with nothing but that one in it."""
    if isinstance(value, dict):
        for key, child in value.items():
            rest, rows = apart(child, count)
            if rows:
                return {**value, key: rest}, [{key: row} for row in rows]
    elif isinstance(value, list):
        for place, child in enumerate(value):
            rest, rows = apart(child, count)
            if rows:
                return [*value[:place], rest, *value[place + 1 :]], [[*({} for _ in range(place)), row] for row in rows]
        if count and len(value) == count and all(isinstance(child, dict) for child in value):
            return [], [[child] for child in value]
    return value, []


def says_something(value: Any) -> bool:
    """Whether there is anything but null and nothing in a value."""
    if isinstance(value, dict):
        return any(map(says_something, value.values()))
    if isinstance(value, list):
        return any(map(says_something, value))
    return value is not None and value != ""


def filled(said: Any, written: Any) -> Any:
    """A value with the lists that it leaves empty although they were written."""
    if isinstance(said, dict) and isinstance(written, dict):
        return {key: filled(value, written.get(key)) for key, value in said.items()}
    return written if said == [] and isinstance(written, list) else said
