"""Whether ids occur twice, of any number of rows: their hashes in eight bytes each, where a set would take ten times as much."""

from __future__ import annotations

from array import array
from collections import Counter
from typing import Any

_PARTS = 1024  # a set is made of one part at a time


class Ids:
    """The hashes of ids."""

    def __init__(self) -> None:
        self._parts = [array("q") for _ in range(_PARTS)]

    def add(self, identity: Any) -> None:
        number = hash(identity)
        self._parts[number % _PARTS].append(number)

    def twice(self) -> set[int]:
        """The hashes that were added more than once; two ids may have the same."""
        found: set[int] = set()
        for part in self._parts:
            if len(set(part)) < len(part):
                found |= {number for number, count in Counter(part).items() if count > 1}
        return found
