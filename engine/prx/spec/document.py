"""A file as it was read, and its faults: what, and where."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Keys = tuple[str | int, ...]
Marks = dict[Keys, tuple[int, int]]  # line and column, from 1


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of a file. line and column count from 1; 0 where the file as a whole is meant."""

    file: str
    line: int
    column: int
    path: str
    text: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {self.path}: {self.text}" if self.path else f"{place}: {self.text}"


@dataclass(frozen=True, slots=True)
class Document:
    """A loaded file: its value in JSON's types, and where each key (`marks`) and value (`values`) stands."""

    file: str
    value: dict[str, Any]
    marks: Marks
    text: str
    problems: tuple[Problem, ...] = ()
    values: Marks = field(default_factory=dict)

    def problem(self, keys: Keys, text: str, *, of_value: bool = False) -> Problem:
        """A fault at a path, or at the nearest path above it that the file has."""
        marks = self.values if of_value and keys in self.values else self.marks
        known = next((keys[:length] for length in range(len(keys), -1, -1) if keys[:length] in marks), None)
        line, column = marks[known] if known is not None else (0, 0)
        return Problem(self.file, line, column, dotted(keys), text)


def dotted(keys: Keys) -> str:
    """A path as people write it: request.body.messages[0]."""
    out = ""
    for key in keys:
        out += f"[{key}]" if isinstance(key, int) else f".{key}" if out else str(key)
    return out
