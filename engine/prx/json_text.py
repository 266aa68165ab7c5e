"""Reads JSON as servers write it, up to a limit of nesting."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import isfinite
from typing import Any

BOM = b"\xef\xbb\xbf"
MAX_DEPTH = 200  # of JSON: no answer needs a tenth of it, and Python's stack ends before 1,000


def parsed(text: str) -> Any:
    """The JSON value of a text; None for a text that is not JSON, is nested too deep, or has a number of too many digits."""
    try:
        return read_json(text.removeprefix("\ufeff"))
    except ValueError:
        return None


# strict=False: servers that write JSON by hand leave raw control characters in strings. The decoder is made once:
# json.loads with strict=False makes one for each text.
_decoder = json.JSONDecoder(strict=False)


def _decode(text: str, begin: Callable[[str], tuple[Any, int]] = _decoder.raw_decode) -> Any:
    """As the decoder's own `decode`, which searches for white space with two regular expressions and takes longer."""
    if text[:1] in ("{", "["):
        value, end = begin(text)
        if not text[end:].strip(" \t\r\n"):
            return value
    return _decoder.decode(text)


def read_json(text: str, decode: Callable[[str], Any] = _decode) -> Any:
    """The JSON value of a text. Raises ValueError, also for nesting beyond MAX_DEPTH, which json.dumps could not write."""
    try:
        value = decode(text)
    except RecursionError:
        raise ValueError("nested too deep") from None
    # Each level takes two characters at least: most texts are too short to be looked through.
    if len(text) > 2 * MAX_DEPTH and text.count("[") + text.count("{") > MAX_DEPTH and _deep(value):
        raise ValueError("nested too deep")
    return value


compact = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode  # the JSON text of a value, without spaces


def _finite(digits: str) -> float:
    number = float(digits)
    if not isfinite(number):
        raise ValueError(f"{digits[:20]} is too large a number")
    return number


def _no_word(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


_finite_decoder = json.JSONDecoder(strict=False, parse_float=_finite, parse_constant=_no_word)


def read_finite(text: str) -> Any:
    """As read_json. Raises ValueError for NaN and for numbers without end, too, which Python reads and others do not."""
    return read_json(text, _finite_decoder.decode)


def _deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item if isinstance(item, list) else ())
        ]
    return bool(level)
