"""Separates reasoning that stands between tags in the text from the answer, also where a tag is cut in two.

A tag after a quotation mark or a backtick is text: the answer only mentions it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

Pairs = Sequence[tuple[str, str]]
Split = list[tuple[bool, str]]  # (whether the piece is reasoning, the piece), in the order of the text
_QUOTES = "`'\""


@lru_cache(maxsize=16)
def _first_letters(pairs: tuple[tuple[str, str], ...]) -> frozenset[str]:
    return frozenset(tag[0] for pair in pairs for tag in pair)


class ThinkSplitter:
    """Splits a text that comes in pieces. Whatever may be the beginning of a tag is held back.

    pairs    (opening tag, closing tag), …
    inside   the text begins with reasoning, without an opening tag
    """

    def __init__(self, pairs: Pairs, *, inside: bool = False) -> None:
        self.pairs = pairs
        self.closing = pairs[0][1] if inside and pairs else ""  # the tag that ends the present reasoning, or ""
        self.held = ""
        self.last = ""  # the character before `held`
        self.after_tag = False  # whether only line breaks have come since a tag: they belong to it and are left out
        self.first_letters = _first_letters(tuple(pairs))

    def passes(self, text: str) -> bool:
        """Whether a piece is text as it stands: no tag is open, and none begins in it."""
        if self.held or self.closing or self.after_tag:
            return False
        for first in self.first_letters:  # one or two; over a long text, `in` is faster than a set's isdisjoint
            if first in text:
                return False
        self.last = text[-1:] or self.last
        return True

    def feed(self, text: str) -> Split:
        return [(False, text)] if self.passes(text) else self._split(self.held + text, final=False)

    def flush(self) -> Split:
        """The text has ended: gives what was held back."""
        return self._split(self.held, final=True)

    def _split(self, text: str, *, final: bool) -> Split:
        out: Split = []
        self.held = ""
        while text:
            if self.after_tag:
                text = text.lstrip("\r\n")
                self.after_tag = not text
                continue
            place, tag, closing = self._next_tag(text)
            if place < 0:
                keep = 0 if final else self._partial_tag(text)
                self._emit(out, text[: len(text) - keep])
                self.held = text[len(text) - keep :]
                break
            self._emit(out, text[:place])
            self.closing = closing
            self.last = ">"
            self.after_tag = True
            text = text[place + len(tag) :]
        return out

    def _emit(self, out: Split, piece: str) -> None:
        if piece:
            out.append((bool(self.closing), piece))
            self.last = piece[-1]

    def _next_tag(self, text: str) -> tuple[int, str, str]:
        """(place, tag, the tag that closes it) of the next tag in a text; place -1 where there is none."""
        if self.closing:
            return text.find(self.closing), self.closing, ""
        openings = [(self._find_unquoted(text, opening), opening, closing) for opening, closing in self.pairs]
        return min((row for row in openings if row[0] >= 0), default=(-1, "", ""))

    def _find_unquoted(self, text: str, tag: str) -> int:
        place = text.find(tag)
        while place >= 0 and (text[place - 1] if place else self.last) in _QUOTES and (place or self.last):
            place = text.find(tag, place + 1)
        return place

    def _partial_tag(self, text: str) -> int:
        """How many characters at the end of a text may be the beginning of a tag."""
        tags = [self.closing] if self.closing else [opening for opening, _ in self.pairs]
        longest = 0
        for tag in tags:
            for size in range(min(len(tag) - 1, len(text)), longest, -1):
                if text.endswith(tag[:size]):
                    longest = size
                    break
        return longest


def split_whole(text: str, pairs: Pairs) -> Split:
    """Split the text of a whole answer. Here a closing tag without an opening one means that the answer begins with
    reasoning; and an opening tag after other text that is never closed is text: only reasoning that begins the answer
    may have been cut off.
    """
    inside = any(closing in text and text.find(opening) not in range(text.find(closing)) and not _quoted(text, closing)
                 for opening, closing in pairs)  # fmt: skip
    splitter = ThinkSplitter(pairs, inside=inside)
    split = [*splitter.feed(text), *splitter.flush()]
    if splitter.closing and any(piece.strip() for is_reasoning, piece in split if not is_reasoning):
        split = _unclosed_as_text(text, split, pairs)
    return _trimmed(split) if any(is_reasoning for is_reasoning, _ in split) else [(False, text)]


def _unclosed_as_text(text: str, split: Split, pairs: Pairs) -> Split:
    """The pieces with the last reasoning, which no tag closes, as text again, its opening tag included."""
    start = max(text.rfind(opening) for opening, _ in pairs)
    last_is_reasoning, _ = split[-1]
    return [*split[:-1], (False, text[start:])] if last_is_reasoning else split


def _trimmed(split: Split) -> Split:
    """The pieces without the line breaks at the beginning and the end of the text, where the reasoning stood."""
    text = "".join(piece for is_reasoning, piece in split if not is_reasoning)
    first, end = len(text) - len(text.lstrip("\r\n")), len(text.rstrip("\r\n"))
    trimmed, at = [], 0
    for is_reasoning, piece in split:
        if not is_reasoning:
            start, at = at, at + len(piece)
            piece = piece[max(0, first - start) : max(0, end - start)]  # noqa: PLW2901
        trimmed.append((is_reasoning, piece))
    return [(is_reasoning, piece) for is_reasoning, piece in trimmed if piece]


def _quoted(text: str, tag: str) -> bool:
    place = text.find(tag)
    return place > 0 and text[place - 1] in _QUOTES
