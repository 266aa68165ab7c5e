"""Bodies of recordings without keys: a key may be escaped in JSON, or cut in two by the events of a stream."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from prx.json_text import parsed
from prx.mask import Mask
from prx.text import clean

_LINES = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z")
_OPENS = ("{", "[", '"')
_DATA = re.compile(r"data: ?")


def body(text: str, mask: Mask) -> str:
    """A body without keys: JSON, or lines of it, or events; what is untouched stays as it was, to the last space."""
    value = parsed(text)
    pieces = list(_pieces(text)) if value is None else [_Piece(text, "", value, "")]
    said = [piece.value for piece in pieces]
    values = mask.value(said)
    if values == said and mask.text(text) == text:
        return text
    return "".join(piece.safe(value, mask) for piece, value in zip(pieces, values, strict=True))


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a body. raw: as it came; value: what it says, of JSON its value; lead and end: what stands around it."""

    raw: str
    lead: str
    value: Any
    end: str
    of_json: bool = True

    def safe(self, value: Any, mask: Mask) -> str:
        if value == self.value and mask.text(self.raw) == self.raw:
            return self.raw
        said = clean(json.dumps(value, ensure_ascii=False)) if self.of_json else value
        return f"{self.lead}{said}{self.end}"


def _pieces(text: str) -> Iterator[_Piece]:
    """The data of each event, whose lines belong together, and every other line by itself."""
    held: list[str] = []
    for found in _LINES.finditer(text):
        line = found[0]
        if _DATA.match(line):
            held.append(line)
            continue
        if held:
            yield _event(held)
            held = []
        yield _piece(line, "", line)
    if held:
        yield _event(held)


def _event(lines: list[str]) -> _Piece:
    lead = _DATA.match(lines[0])
    assert lead is not None
    said = "\n".join(_DATA.sub("", line, count=1).rstrip("\r\n") for line in lines)
    return _piece("".join(lines), lead[0], said)


def _piece(raw: str, lead: str, said: str) -> _Piece:
    end = raw[len(raw.rstrip("\r\n")) :]
    value = parsed(said) if said.lstrip()[:1] in _OPENS else None
    return _Piece(raw, lead, said.rstrip("\r\n") if value is None else value, end, value is not None)
