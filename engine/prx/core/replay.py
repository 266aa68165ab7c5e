"""What a provider requires back in the next turn (a signature, encrypted reasoning), joined from the pieces of an answer.

Texts are joined and lists extended. Where the spec names the texts of an element that come in pieces (`join`), an
element continues the earlier one that has the same `index`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Grows = Mapping[str, tuple[str, ...]]


class Replay:
    """Keeps the pieces, and joins them only in `folded`: long reasoning comes in many, and to join at each is quadratic.

    empty   keys for which an empty text has come
    """

    def __init__(self) -> None:
        self._pieces: list[tuple[dict[str, Any], Grows]] = []
        self.empty: set[str] = set()

    def add(self, values: dict[str, Any], grows: Grows) -> None:
        """values: by key of the message. grows: by key, the texts of its elements that come in pieces."""
        if values:
            self._pieces.append((values, grows))

    def folded(self) -> dict[str, Any]:
        """The joined values, by key of the message."""
        by_key: dict[str, list[Any]] = {}
        grows: dict[str, tuple[str, ...]] = {}
        for values, growing in self._pieces:
            grows |= growing
            for key, value in values.items():
                by_key.setdefault(key, []).append(value)
        empty_texts = dict.fromkeys(sorted(self.empty), "")
        return empty_texts | {key: _folded(pieces, grows.get(key, ())) for key, pieces in by_key.items()}


def _folded(values: list[Any], grows: tuple[str, ...]) -> Any:
    if all(isinstance(value, str) for value in values):
        return "".join(values)
    if not all(isinstance(value, list) for value in values):
        return values[-1]
    elements = [element for value in values for element in value]
    return _joined(elements, grows) if grows else elements


def _joined(elements: list[Any], grows: tuple[str, ...]) -> list[Any]:
    """The elements, with those that have the same index joined into one."""
    groups: dict[Any, list[dict[str, Any]]] = {}
    for place, element in enumerate(elements):
        index = element.get("index") if isinstance(element, dict) else None
        # An index of any other type cannot be looked up; its element stays alone.
        groups.setdefault(index if isinstance(index, int | float | str) else ("no index", place), []).append(element)
    return [_element(group, grows) if len(group) > 1 else group[0] for group in groups.values()]


def _element(pieces: list[dict[str, Any]], grows: tuple[str, ...]) -> dict[str, Any]:
    """One element from its pieces: a later value replaces an earlier one, but texts that grow are joined."""
    whole = {key: value for piece in pieces for key, value in piece.items() if value is not None}
    texts = {key: [piece[key] for piece in pieces if isinstance(piece.get(key), str)] for key in grows}
    return {**whole, **{key: "".join(parts) for key, parts in texts.items() if parts}}
