"""What a docstring says: the text before its sections, and of each parameter. In the three usual forms.

Headed is a section with a name and a colon (`Args:`), below which `name (type): text` stands; underlined is one with a line of
hyphens below its name, with each text below the name that it is about; a field is `:param name: text`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from prx.record import Record

_LISTS = (
    "args",
    "arguments",
    "parameters",
    "params",
    "attributes",
    "keyword args",
    "keyword arguments",
    "other parameters",
)
_OTHERS = (
    "returns", "return", "yields", "yield", "raises", "raise", "example", "examples", "note", "notes", "see also", "references", "warns",
    "warnings", "warning", "todo",
)  # fmt: skip
_HEAD = re.compile(rf"({'|'.join((*_LISTS, *_OTHERS))})\s*:\s*", re.IGNORECASE)
_UNDERLINED = re.compile(rf"({'|'.join((*_LISTS, *_OTHERS))})\s*", re.IGNORECASE)
_HEADED_ROW = re.compile(r"(\*{0,2}\w+)\s*(?:\([^)]*(?:\([^)]*\)[^)]*)*\))?\s*:\s*(.*)")
_UNDERLINED_ROW = re.compile(r"(\*{0,2}\w+(?:\s*,\s*\*{0,2}\w+)*)\s*(?::.*)?")
_FIELD_ROW = re.compile(
    r":(?:param|parameter|arg|argument|key|keyword|ivar|attribute)\s+(?:[^:]*?\s)?(\*{0,2}\w+)\s*:\s*(.*)"
)
_FIELD = re.compile(r":\w+[^:]*:")


class Described(Record):
    """text: what is said of the whole. of: {name of a parameter: what is said of it}."""

    text: str
    of: Mapping[str, str]


def described(docstring: str) -> Described:
    """What a docstring says. Sections other than those of parameters (what is returned or raised) are left out."""
    lines = inspect.cleandoc(docstring).splitlines() if docstring else []
    text: list[str] = []
    of: dict[str, str] = {}
    for name, block in _sections(lines):
        if name in _LISTS:
            of |= _rows(block)
        elif not name:
            text += block[: _first_field(block)]
            of |= dict(_pieces(block, _field_row))
    return Described(" ".join(" ".join(text).split()), of)


def _first_field(lines: Sequence[str]) -> int:
    return next((place for place, line in enumerate(lines) if _FIELD.match(line)), len(lines))


def _sections(lines: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """(name in lower case, lines) of each section; of what stands before the first one, the name is ""."""
    name, block = "", list[str]()
    place = 0
    while place < len(lines):
        line = lines[place]
        underlined = place + 1 < len(lines) and re.fullmatch(r"-{3,}\s*", lines[place + 1])
        found = _UNDERLINED.fullmatch(line) if underlined else _HEAD.fullmatch(line)
        if found:
            yield name, block
            name, block = found[1].lower(), []
            place += 2 if underlined else 1
        else:
            block.append(line)
            place += 1
    yield name, block


def _rows(block: Sequence[str]) -> dict[str, str]:
    """What a section of parameters says of each: in the underlined form where its texts stand below the names."""
    body = inspect.cleandoc("\n" + "\n".join(block)).splitlines()
    return dict(_pieces(body, _underlined_row if _is_underlined(body) else _headed_row))


def _is_underlined(body: Sequence[str]) -> bool:
    """Whether the texts stand in lines of their own, below the names."""
    heads = [place for place, line in enumerate(body) if line and not line[0].isspace()]
    return all(
        place + 1 < len(body) and body[place + 1][:1].isspace() and _UNDERLINED_ROW.fullmatch(body[place])
        for place in heads
    )


def _pieces(body: Sequence[str], row: Callable[[str], tuple[str, str] | None]) -> Iterator[tuple[str, str]]:
    """(name, text) of each parameter: the lines below its own that are further in, or not empty, belong to it."""
    names, text = list[str](), list[str]()
    for line in body:
        found = row(line) if line and not line[0].isspace() else None
        if found or (line and not line[0].isspace()):
            yield from ((name, " ".join(filter(None, text))) for name in names)
            names = [each.strip().lstrip("*") for each in found[0].split(",")] if found else []
            text = [found[1]] if found else []
        else:
            text.append(line.strip())
    yield from ((name, " ".join(filter(None, text))) for name in names)


def _headed_row(line: str) -> tuple[str, str] | None:
    found = _HEADED_ROW.fullmatch(line)
    return (found[1], found[2]) if found else None


def _underlined_row(line: str) -> tuple[str, str] | None:
    found = _UNDERLINED_ROW.fullmatch(line)
    return (found[1], "") if found else None


def _field_row(line: str) -> tuple[str, str] | None:
    found = _FIELD_ROW.fullmatch(line)
    return (found[1], found[2]) if found else None
