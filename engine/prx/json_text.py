"""JSON as servers write it, read with bounds."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

BOM = b"\xef\xbb\xbf"
MAX_DEPTH = 200  # of JSON: no answer needs a tenth of it, and Python's stack ends before 1,000


def parsed(text: str) -> Any:
    """The JSON value of a text, or None. Deep nesting and endless numbers are no JSON either."""
    try:
        return read_json(text.removeprefix("\ufeff"))
    except ValueError:
        return None


# Raw control characters in a text are read: servers that write JSON by hand leave them there. Made once: json.loads
# makes a decoder for each text that is not read by its own rules.
_decoder = json.JSONDecoder(strict=False)


def _decode(text: str, begin: Callable[[str], tuple[Any, int]] = _decoder.raw_decode) -> Any:
    """As the decoder's own `decode`, which looks for white space around a text by an expression, twice."""
    if text[:1] in ("{", "["):
        value, end = begin(text)
        if not text[end:].strip(" \t\r\n"):
            return value
    return _decoder.decode(text)


def read_json(text: str, decode: Callable[[str], Any] = _decode) -> Any:
    """The JSON value of a text. Raises ValueError, also for one so deep that to write it again would fail."""
    try:
        value = decode(text)
    except RecursionError:
        raise ValueError("nested too deep") from None
    # Each level takes two characters at least: most texts are too short to be looked through.
    if len(text) > 2 * MAX_DEPTH and text.count("[") + text.count("{") > MAX_DEPTH and _deep(value):
        raise ValueError("nested too deep")
    return value


def _deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item if isinstance(item, list) else ())
        ]
    return bool(level)
