"""What the provider wants back in the next turn, put together from the pieces of an answer.

Texts are joined and lists extended. Where the spec says which texts of an element grow, an element
continues the earlier one that has its `index`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Grows = Mapping[str, tuple[str, ...]]


class Replay:
    """Keeps what was found, and folds it when asked: long thoughts come in many pieces.

    empty   keys of which an empty text was found
    """

    def __init__(self) -> None:
        self._found: list[tuple[dict[str, Any], Grows]] = []
        self.empty: set[str] = set()

    def add(self, found: dict[str, Any], grows: Grows) -> None:
        """found: values by key of the message. grows: by key, the texts of its elements that come in pieces."""
        if found:
            self._found.append((found, grows))

    def folded(self) -> dict[str, Any]:
        made: dict[str, list[Any]] = {}
        grows: dict[str, tuple[str, ...]] = {}
        for found, growing in self._found:
            grows |= growing
            for key, value in found.items():
                made.setdefault(key, []).append(value)
        nothing = dict.fromkeys(sorted(self.empty), "")
        return nothing | {key: _folded(values, grows.get(key, ())) for key, values in made.items()}


def _folded(values: list[Any], grows: tuple[str, ...]) -> Any:
    if all(isinstance(value, str) for value in values):
        return "".join(values)
    if not all(isinstance(value, list) for value in values):
        return values[-1]
    elements = [element for value in values for element in value]
    return _joined(elements, grows) if grows else elements


def _joined(elements: list[Any], grows: tuple[str, ...]) -> list[Any]:
    """The elements with those of one index made one."""
    groups: dict[Any, list[dict[str, Any]]] = {}
    for place, element in enumerate(elements):
        index = element.get("index") if isinstance(element, dict) else None
        # An index that is no number and no text is nobody's.
        groups.setdefault(index if isinstance(index, int | float | str) else ("no index", place), []).append(element)
    return [_one(group, grows) if len(group) > 1 else group[0] for group in groups.values()]


def _one(pieces: list[dict[str, Any]], grows: tuple[str, ...]) -> dict[str, Any]:
    whole = {key: value for piece in pieces for key, value in piece.items() if value is not None}
    texts = {key: [piece[key] for piece in pieces if isinstance(piece.get(key), str)] for key in grows}
    return {**whole, **{key: "".join(found) for key, found in texts.items() if found}}
