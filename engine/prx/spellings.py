"""Finds a text in every spelling: escaped, in capitals, broken over lines, as hexadecimal digits, or in base64.

The text to be searched is unescaped first, and searched then. The time is linear in its length, it is done
block by block, and no pattern backtracks.
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from collections.abc import Callable, Iterator

_BLOCK = 1 << 16
_LAYERS = 5  # escapes of escapes of escapes
_SHORTEST = 4  # characters of a text to look for, once unescaped: a shorter one would be found in ordinary words
# Backslashes, invisible characters and line breaks are ignored: they may stand between any two characters.
_UNSEEN = "\\r\\n\u00ad\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
_OCTETS_UNSEEN = "\xe2\x80[\x8b-\x8f\xa8-\xae]|\xe2\x81[\xa0-\xaf]|\xef\xbb\xbf|\xc2\xad"  # the same in a header: each octet is a character
_HEX = "[0-9a-fA-F]"
_WIDE = rf"%(?:25)*+[c-fC-F]{_HEX}(?:%(?:25)*+[89abAB]{_HEX}){{1,3}}"  # a character of several percent-encoded octets
# Patterns are compiled at first use: that takes long, and few calls need them.
_ESCAPE = (
    rf"\\++(?:u\{{?({_HEX}{{1,6}})\}}|u({_HEX}{{4}})|x({_HEX}{{2}}))?|({_WIDE})|%(?:25)*({_HEX}{{2}})"
    rf"|&(?:amp;)*+(?:#0*+([0-9]{{1,7}});|#[xX]0*+({_HEX}{{1,6}});|(lt|gt|amp|quot|apos);|((?<=amp;)))|[{_UNSEEN}]++|{_OCTETS_UNSEEN}"
)
_SIGN = rf"[\\%&\xc2\xe2\xef{_UNSEEN}]"
_NAMES = {"lt": "<", "gt": ">", "amp": "&", "quot": '"', "apos": "'"}
# An incomplete escape at the end of a text: with the characters that follow it may be one.
_UNFINISHED = rf"(?:\\(?:u\{{?{_HEX}*+|x{_HEX}?)?|%{_HEX}*+|&(?:amp;)*+#?\w*+)\Z"
_STANDARD = str.maketrans("-_", "+/")  # from base64 for URLs to the standard alphabet
_SPACED = str.maketrans("+", " ")  # a space in the query of a URL


class Spellings:
    """All spellings of one text."""

    def __init__(self, text: str) -> None:
        data = text.encode("utf-8", "surrogatepass")
        self._text = text
        self._words = [word for word in (_folded(_plain(text)), data.hex()) if len(word) >= _SHORTEST]
        self._coded = list(_in_base64(data))
        self._opens, self._closes = text[:1] == "\\", text[-1:] == "\\"
        self._longest = 64 * len(text) + 4096

    def replaced(self, text: str, mask: str) -> str:
        """`text` with every spelling replaced."""
        out, done = [], 0
        for start, end in self.spans(text):
            out += [text[done:start], mask]
            done = end
        return "".join([*out, text[done:]])

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """(start, end) of each spelling in a text, in order, without overlaps."""
        done = 0
        for block in range(0, len(text), _BLOCK):
            piece = text[block : block + _BLOCK + self._longest]
            if self._within(piece):
                for start, end in sorted(self._found(piece), key=lambda span: (span[0], -span[1])):
                    if block + start >= done and start < _BLOCK:
                        done = block + end
                        yield block + start, done

    def begun(self, text: str) -> int:
        """The place near the end of an unfinished text where a spelling may begin; the text's length if none may."""
        first = max(0, len(text) - self._longest)
        plain, starts, end = _traced_unfinished(text[first:])
        shown, coded = _folded(plain), plain.translate(_STANDARD)
        sizes = [*(_overlap(shown, word) for word in self._words), *(_overlap(coded, word) for word in self._coded)]
        size = max(sizes, default=0)
        return first + (starts[len(plain) - size] if size else end)

    def _within(self, text: str) -> bool:
        plain = _plain(text)
        shown, coded = _folded(plain), plain.translate(_STANDARD)
        return (
            self._text in text
            or any(word in shown for word in self._words)
            or any(word in coded for word in self._coded)
        )

    def _found(self, text: str) -> Iterator[tuple[int, int]]:
        plain, starts, ends = _traced(text)
        shown, coded = _folded(plain), plain.translate(_STANDARD)
        for place in _places(text, self._text):
            yield place, place + len(self._text)
        for where, words in ((shown, self._words), (coded, self._coded)):
            for word in words:
                for place in _places(where, word):
                    last = place + len(word)
                    start = ends[place - 1] if self._opens and place else 0 if self._opens else starts[place]
                    yield (
                        start,
                        (ends[last - 1] if not self._closes else starts[last] if last < len(plain) else len(text)),
                    )


def _plain(text: str) -> str:
    """A text, unescaped, up to _LAYERS times: escapes may have been escaped again."""
    for _ in range(_LAYERS):
        if not re.search(_SIGN, text):
            break
        text, before = re.sub(_ESCAPE, _character, text), text
        if text == before:
            break
    return text


def _traced(text: str) -> tuple[str, list[int], list[int]]:
    """(the unescaped text, start of each of its characters in `text`, end of each)."""
    starts, ends = list(range(len(text))), list(range(1, len(text) + 1))
    for _ in range(_LAYERS):
        plain, first, last = _layer(text)
        if plain == text:
            break
        starts, ends = [starts[place] for place in first], [ends[place] for place in last]
        text = plain
    return text, starts, ends


def _traced_unfinished(text: str) -> tuple[str, list[int], int]:
    """(the unescaped text up to an incomplete escape of any layer, start of each of its characters in `text`, the place of
    that escape or the end of `text`).
    """
    starts, end = list(range(len(text))), len(text)
    for _ in range(_LAYERS):
        if found := re.search(_UNFINISHED, text):
            text, starts, end = text[: found.start()], starts[: found.start()], starts[found.start()]
        plain, first, _ = _layer(text)
        text, starts = plain, [starts[place] for place in first]
    return text, starts, end


def _layer(text: str) -> tuple[str, list[int], list[int]]:
    """(the text with one layer of escapes removed, place of the first character in `text` of each of its characters, place
    of the last one).
    """
    out: list[str] = []
    first: list[int] = []
    last: list[int] = []
    done = 0
    for found in re.finditer(_ESCAPE, text):
        char = _character(found)
        out += [text[done : found.start()], char]
        first += [*range(done, found.start()), *[found.start()] * len(char)]
        last += [*range(done, found.start()), *[found.end() - 1] * len(char)]
        done = found.end()
    return "".join([*out, text[done:]]), [*first, *range(done, len(text))], [*last, *range(done, len(text))]


def _character(found: re.Match[str]) -> str:
    """The character of an escape, or "" for what is ignored."""
    which = found.lastindex
    return _READ[which](found[which]) if which else ""


def _of_digits(digits: str, base: int = 16) -> str:
    code = int(digits, base)
    return chr(code) if code < 0x110000 else ""


def _of_octets(text: str) -> str:
    char = bytes(int(each, 16) for each in re.findall(_OCTETS, text)).decode("utf-8", "replace")
    return char if len(char) == 1 else "\ufffd"


_OCTETS = rf"%(?:25)*+({_HEX}{{2}})"
_READ: dict[int, Callable[[str], str]] = {
    **dict.fromkeys((1, 2, 3, 5, 7), _of_digits),  # as the groups of _ESCAPE
    4: _of_octets,
    6: lambda digits: _of_digits(digits, 10),
    8: lambda name: _NAMES[name],
    9: lambda _nothing: "&",
}


def _folded(text: str) -> str:
    """A text in lower case, of the same length, with + as a space."""
    small = text.translate(_SPACED).lower()
    return small if len(small) == len(text) else "".join(each.lower()[0] for each in text.translate(_SPACED))


def _places(text: str, word: str) -> Iterator[int]:
    place = text.find(word)
    while place >= 0:
        yield place
        place = text.find(word, place + len(word))


def _overlap(text: str, word: str) -> int:
    """The length of the longest beginning of a word that a text ends with; less than the whole word."""
    sizes = range(min(len(text), len(word) - 1), 0, -1)
    return next((size for size in sizes if text.endswith(word[:size])), 0)


def _in_base64(data: bytes) -> Iterator[str]:
    """The three texts of which the base64 of any data that contains `data` has one: base64 encodes groups of three bytes,
    and `data` may begin at any byte of a group.
    """
    for before in range(3):
        coded = b2a_base64(bytes(before) + data).decode()
        yield coded[(before * 8 + 5) // 6 : (before + len(data)) * 8 // 6]
