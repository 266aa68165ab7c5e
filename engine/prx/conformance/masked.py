"""Masks keys in the bodies of recordings: also one that is escaped in JSON, or cut in two by the events of a stream."""

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
    """A body (JSON, lines of JSON, or events) with its keys masked. Parts without a key stay as they are, byte for byte."""
    value = parsed(text)
    pieces = list(_pieces(text)) if value is None else [_Piece(text, "", value, "")]
    values = [piece.value for piece in pieces]
    masked_values = mask.value(values)
    if masked_values == values and mask.text(text) == text:
        return text
    return "".join(piece.safe(value, mask) for piece, value in zip(pieces, masked_values, strict=True))


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a body.

    raw        as it was received
    lead, end  what goes before and after the value in `raw`: "data: ", a line break
    value      the JSON value, or the text where it is not JSON (of_json)
    """

    raw: str
    lead: str
    value: Any
    end: str
    of_json: bool = True

    def safe(self, value: Any, mask: Mask) -> str:
        if value == self.value and mask.text(self.raw) == self.raw:
            return self.raw
        text = clean(json.dumps(value, ensure_ascii=False)) if self.of_json else value
        return f"{self.lead}{text}{self.end}"


def _pieces(text: str) -> Iterator[_Piece]:
    """The data of each event as one piece, and every other line as one."""
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
    data = "\n".join(_DATA.sub("", line, count=1).rstrip("\r\n") for line in lines)
    return _piece("".join(lines), lead[0], data)


def _piece(raw: str, lead: str, data: str) -> _Piece:
    end = raw[len(raw.rstrip("\r\n")) :]
    value = parsed(data) if data.lstrip()[:1] in _OPENS else None
    return _Piece(raw, lead, data.rstrip("\r\n") if value is None else value, end, value is not None)
