"""Functions on texts: ${NAME} for a value of the environment, the nearest known word, text that can be encoded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_VARIABLE = r"(\$?)\$\{([A-Za-z_][A-Za-z0-9_]*)\}"  # not compiled at import: few texts have a variable


class MissingError(Exception):
    """A text names a variable that has no value."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def variable_names(text: str) -> list[str]:
    """The names of the variables in a text."""
    return [name for escape, name in re.findall(_VARIABLE, text) if not escape] if "${" in text else []


VARIABLE_FAULT = (
    "has a ${ that names no variable: ${NAME}, with letters, digits and _ alone, is taken from the environment, "
    "and there is no other form; write $${ for the two characters themselves"
)


def has_strange_variable(text: str) -> bool:
    """Whether the text has a ${ that is neither ${NAME} nor $${, and would be sent literally."""
    return "${" in text and "${" in re.sub(_VARIABLE, "", text).replace("$${", "")


def fill(text: str, values: Mapping[str, str]) -> str:
    """The text with a value for each ${NAME}; $${ is a literal ${. Raises MissingError."""
    if "${" not in text:
        return text

    def value(found: re.Match[str]) -> str:
        name = found[1]
        if name is None:
            return "${"
        if name not in values:
            raise MissingError(name)
        return values[name]

    return re.sub(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)\}", value, text)


_MOST_SLIPS = 5  # of a long word; a third of its letters in a short one
_LONGEST = 200  # characters of a word that is still compared: the work grows with the square


def nearest(word: str, known: Iterable[str]) -> str:
    """A clause for a message about an unknown word: "; did you mean …?" with the nearest known word, or "" where none is near:
    where it takes more slips than somebody makes who means it.
    """
    import difflib  # imported here: only errors need it

    if len(word) > _LONGEST:
        return ""
    most = max(1, min(len(word) // 3, _MOST_SLIPS))
    close = difflib.get_close_matches(word, list(known), 3, 0.6)
    near = [(slips, place) for place, each in enumerate(close) if (slips := _slips(word, each)) <= most]
    return f"; did you mean {close[min(near)[1]]!r}?" if near else ""


def one_slip(word: str, other: str) -> bool:
    """Whether one letter at most is missing, too many, wrong, or in its neighbour's place."""
    return abs(len(word) - len(other)) <= 1 and _slips(word, other) <= 1


def _slips(word: str, other: str) -> int:
    """How many letters are missing, too many, wrong, or changed places with the next one."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for place, letter in enumerate(word, 1):
        before, last, row = row, before, [place]
        for at, wanted in enumerate(other, 1):
            slips = min(before[at] + 1, row[at - 1] + 1, before[at - 1] + (letter != wanted))
            if at > 1 and place > 1 and letter == other[at - 2] and word[place - 2] == wanted:
                slips = min(slips, last[at - 2] + 1)
            row.append(slips)
    return row[-1]


def clean(text: str) -> str:
    """A text that UTF-8 can encode: halves of a surrogate pair are joined, a single half becomes U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
