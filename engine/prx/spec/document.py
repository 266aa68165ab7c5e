"""A file as it was read, with the place of each key, and its faults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prx.chat import NONE
from prx.record import Record

Keys = tuple[str | int, ...]
Marks = dict[Keys, tuple[int, int]]  # line and column, from 1


_LONGEST = 200  # characters of a path that are shown; a key may be as long as a file


def printable(text: str) -> str:
    """A text in one line, with control characters escaped: a stranger's file may have terminal commands in its names."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


class Problem(Record):
    """One fault of a file.

    line, column  from 1; 0 for a fault of the whole file
    path          of the key, such as auth.env
    code          a word for its kind, which stays the same when the sentence changes
    severity      "error", or "warning" for what is allowed and has no effect
    """

    file: str
    line: int
    column: int
    path: str
    text: str
    code: str = "form"
    severity: str = "error"

    @property
    def message(self) -> str:
        """The sentence without its advice."""
        return printable(self.text.removesuffix(f"; {self._advice}"))

    @property
    def hint(self) -> str:
        """What to do, which follows the last semicolon of a sentence; "" where there is none."""
        return printable(self._advice)

    @property
    def _advice(self) -> str:
        advice = self.text.rpartition("; ")[2] if "; " in self.text else ""
        return "" if any(advice.count(quote) % 2 for quote in "'\"") else advice  # a semicolon in a quoted text

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        path = self.path if len(self.path) <= _LONGEST else f"{self.path[:_LONGEST]}…"
        return printable(f"{place}: {path}: {self.text}" if path else f"{place}: {self.text}")


class Document(Record):
    """A loaded file: its value in JSON's types, and (line, column) of each key (`marks`) and value (`values`)."""

    file: str
    value: dict[str, Any]
    marks: Marks
    text: str
    problems: tuple[Problem, ...] = ()
    values: Mapping[Keys, tuple[int, int]] = NONE

    def problem(
        self, keys: Keys, text: str, *, of_value: bool = False, code: str = "form", severity: str = "error"
    ) -> Problem:
        """A fault at a path. Its place is that of the path, or of the nearest one above it that the file has."""
        marks = self.values if of_value and keys in self.values else self.marks
        known = next((keys[:length] for length in range(len(keys), -1, -1) if keys[:length] in marks), None)
        line, column = marks[known] if known is not None else (0, 0)
        return Problem(self.file, line, column, dotted(keys), text, code, severity)


def dotted(keys: Keys) -> str:
    """A path as people write it: request.body.messages[0]."""
    out = ""
    for key in keys:
        out += f"[{key}]" if isinstance(key, int) else f".{key}" if out else str(key)
    return out
