"""Reads JSON as servers write it, up to a limit of nesting."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from math import isfinite
from typing import Any

BOM = b"\xef\xbb\xbf"
_LONG, _RARE = 1 << 17, 1000
MAX_DEPTH = 200  # of JSON: no answer needs a tenth of it, and Python's stack ends before 1,000


def parsed(text: str) -> Any:
    """The JSON value of a text; None for a text that is not JSON, is nested too deep, or has a number of too many digits."""
    try:
        return read_json(text.removeprefix("\ufeff"))
    except ValueError:
        return None


def _decoding(**options: Any) -> Callable[[str], Any]:
    """As the `decode` of a decoder with these options, which searches for white space with two regular expressions and takes longer. The
    decoder is made once: json.loads with options makes one for each text.
    """
    decoder = json.JSONDecoder(**options)
    begin, decode = decoder.raw_decode, decoder.decode

    def quickly(text: str) -> Any:
        if text[:1] in ("{", "["):
            value, end = begin(text)
            if not text[end:].strip(" \t\r\n"):
                return value
        return decode(text)

    return quickly


# strict=False: servers that write JSON by hand leave raw control characters in strings.
_decode = _decoding(strict=False)


def read_json(text: str, decode: Callable[[str], Any] = _decode) -> Any:
    """The JSON value of a text. Raises ValueError, also for nesting beyond MAX_DEPTH, which json.dumps could not write."""
    try:
        value = decode(text)
    except RecursionError:
        raise ValueError("nested too deep") from None
    # Each level takes two characters at least: most texts are too short to be looked through.
    if (
        len(text) > 2 * MAX_DEPTH
        and (opened := _count(text, "[") + _count(text, "{")) > MAX_DEPTH
        and _deep(value, opened)
    ):
        raise ValueError("nested too deep")
    return value


compact = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode  # the JSON text of a value, without spaces
# The same for what is sent: raises ValueError for NaN and infinity, which JSON does not have.
compact_strict = json.JSONEncoder(separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode


def _finite(digits: str) -> float:
    number = float(digits)
    if not isfinite(number):
        raise ValueError(f"{digits[:20]} is too large a number")
    return number


def _no_word(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


_decode_finite = _decoding(strict=False, parse_float=_finite, parse_constant=_no_word)


def read_finite(text: str) -> Any:
    """As read_json. Raises ValueError for NaN and for numbers without end, too, which Python reads and others do not."""
    return read_json(text, _decode_finite)


_decode_strictly = _decoding(parse_float=_finite, parse_constant=_no_word)


def read_strict(text: str) -> Any:
    """As read_finite. Raises ValueError for raw control characters in texts, too: what passes is JSON for every reader."""
    return read_json(text, _decode_strictly)


def _count(text: str, mark: str) -> int:
    """How often a character is in a text. `count` looks at each one; where it is rare in a long text, `find` is many times faster."""
    found, place = 0, -1
    while len(text) > _LONG and found < _RARE:
        place = text.find(mark, place + 1)
        if place < 0:
            return found
        found += 1
    return found + text.count(mark, place + 1)


def _deep(value: Any, opened: int) -> bool:
    """Whether a value is nested too deep. opened: how many lists and objects it has at most.

    Lists that begin with a number are not looked through at first: vectors have thousands. If all that the text opens is found
    without them, nothing is in them.
    """
    deep, found = _nested(value, _beside_numbers)
    return deep if found == opened else _nested(value, _children)[0]


def _nested(value: Any, children: Callable[[Any], Iterable[Any]]) -> tuple[bool, int]:
    """(whether a value is nested too deep, how many lists and objects were found)."""
    level, found = [value], 1
    for _ in range(MAX_DEPTH):
        level = [child for item in level for child in children(item) if isinstance(child, dict | list)]
        found += len(level)
    return bool(level), found


def _children(item: Any) -> Iterable[Any]:
    return item.values() if isinstance(item, dict) else item


def _beside_numbers(item: Any) -> Iterable[Any]:
    return () if isinstance(item, list) and item and isinstance(item[0], float | int) else _children(item)
