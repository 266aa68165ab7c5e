"""Reasoning that stands in the text between tags, told apart, also where a tag is cut in two.

A tag behind a quotation mark or a backtick is spoken of, not meant.
"""

from __future__ import annotations

from collections.abc import Sequence

Pairs = Sequence[tuple[str, str]]
Split = list[tuple[bool, str]]  # pieces in their order: whether it is reasoning, and the piece
_QUOTES = "`'\""


class ThinkSplitter:
    """Feed pieces of text; get them split, in their order. What may be the beginning of a tag is held back."""

    def __init__(self, pairs: Pairs, *, inside: bool = False) -> None:
        self.pairs = pairs
        self.closing = pairs[0][1] if inside and pairs else ""  # the tag that ends the reasoning we are in
        self.held = ""
        self.last = ""  # the character before `held`
        self.fresh = False  # a tag has just ended: the line breaks that follow belong to it
        self.may_hold = {tag[0] for pair in pairs for tag in pair}

    def passes(self, text: str) -> bool:
        """Whether a piece is text as it stands: no tag is open, and none begins in it."""
        if self.held or self.closing or self.fresh:
            return False
        for first in self.may_hold:  # one or two characters, each found faster than a set looks at a whole answer's
            if first in text:
                return False
        self.last = text[-1:] or self.last
        return True

    def feed(self, text: str) -> Split:
        return [(False, text)] if self.passes(text) else self._split(self.held + text, final=False)

    def flush(self) -> Split:
        """What was held back, at the end."""
        return self._split(self.held, final=True)

    def _split(self, text: str, *, final: bool) -> Split:
        out: Split = []
        self.held = ""
        while text:
            if self.fresh:
                text = text.lstrip("\r\n")
                self.fresh = not text
                continue
            place, tag, closing = self._next_tag(text)
            if place < 0:
                keep = 0 if final else self._partial(text)
                self._emit(out, text[: len(text) - keep])
                self.held = text[len(text) - keep :]
                break
            self._emit(out, text[:place])
            self.closing = closing
            self.last = ">"
            self.fresh = True
            text = text[place + len(tag) :]
        return out

    def _emit(self, out: Split, piece: str) -> None:
        if piece:
            out.append((bool(self.closing), piece))
            self.last = piece[-1]

    def _next_tag(self, text: str) -> tuple[int, str, str]:
        """(place, tag, what will close it) of the tag that comes next; place -1 where none does."""
        if self.closing:
            return text.find(self.closing), self.closing, ""
        found = [(self._meant(text, opening), opening, closing) for opening, closing in self.pairs]
        return min((row for row in found if row[0] >= 0), default=(-1, "", ""))

    def _meant(self, text: str, tag: str) -> int:
        place = text.find(tag)
        while place >= 0 and (text[place - 1] if place else self.last) in _QUOTES and (place or self.last):
            place = text.find(tag, place + 1)
        return place

    def _partial(self, text: str) -> int:
        """How many characters at the end may be the beginning of a tag."""
        tags = [self.closing] if self.closing else [opening for opening, _ in self.pairs]
        longest = 0
        for tag in tags:
            for size in range(min(len(tag) - 1, len(text)), longest, -1):
                if text.endswith(tag[:size]):
                    longest = size
                    break
        return longest


def split_whole(text: str, pairs: Pairs) -> Split:
    """A whole answer, split. There a closing tag alone also means that reasoning came first, and an opening one that
    stands behind words and is never closed is one of them: only a thought that begins the answer may be cut off.
    """
    inside = any(closing in text and text.find(opening) not in range(text.find(closing)) and not _quoted(text, closing)
                 for opening, closing in pairs)  # fmt: skip
    splitter = ThinkSplitter(pairs, inside=inside)
    split = [*splitter.feed(text), *splitter.flush()]
    if splitter.closing and any(piece.strip() for thought, piece in split if not thought):
        split = _unsplit(text, split, pairs)
    return _trimmed(split) if any(thought for thought, _ in split) else [(False, text)]


def _unsplit(text: str, split: Split, pairs: Pairs) -> Split:
    """The pieces with the last thought, which no tag closes, as text again, its tag included."""
    start = max(text.rfind(opening) for opening, _ in pairs)
    return [*split[:-1], (False, text[start:])] if split[-1][0] else split


def _trimmed(split: Split) -> Split:
    """The pieces without the line breaks that stand around the text."""
    said = "".join(piece for thought, piece in split if not thought)
    rest = len(said) - len(said.lstrip("\r\n")), len(said.rstrip("\r\n"))
    made, at = [], 0
    for thought, piece in split:
        if not thought:
            start, at = at, at + len(piece)
            piece = piece[max(0, rest[0] - start) : max(0, rest[1] - start)]  # noqa: PLW2901
        made.append((thought, piece))
    return [(thought, piece) for thought, piece in made if piece]


def _quoted(text: str, tag: str) -> bool:
    place = text.find(tag)
    return place > 0 and text[place - 1] in _QUOTES
