"""Reasoning that stands in the text between tags, told apart, also where a tag is cut in two.

A tag behind a quotation mark or a backtick is spoken of, not meant.
"""

from __future__ import annotations

from collections.abc import Sequence

Pairs = Sequence[tuple[str, str]]
_QUOTES = "`'\""


class ThinkSplitter:
    """Feed pieces of text; get (text, reasoning) for each. What may be the beginning of a tag is held back."""

    def __init__(self, pairs: Pairs, *, inside: bool = False) -> None:
        self.pairs = pairs
        self.closing = pairs[0][1] if inside and pairs else ""  # the tag that ends the reasoning we are in
        self.held = ""
        self.last = ""  # the character before `held`
        self.fresh = False  # a tag has just ended: the line breaks that follow belong to it
        self.may_hold = frozenset(tag[0] for pair in pairs for tag in pair)

    def passes(self, text: str) -> bool:
        """Whether a piece is text as it stands: no tag is open, and none begins in it."""
        if self.held or self.closing or self.fresh or not self.may_hold.isdisjoint(text):
            return False
        self.last = text[-1:] or self.last
        return True

    def feed(self, text: str) -> tuple[str, str]:
        return (text, "") if self.passes(text) else self._split(self.held + text, final=False)

    def flush(self) -> tuple[str, str]:
        """What was held back, at the end."""
        return self._split(self.held, final=True)

    def _split(self, text: str, *, final: bool) -> tuple[str, str]:
        out: tuple[list[str], list[str]] = ([], [])
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
        return "".join(out[0]), "".join(out[1])

    def _emit(self, out: tuple[list[str], list[str]], piece: str) -> None:
        if piece:
            out[bool(self.closing)].append(piece)
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


def split_whole(text: str, pairs: Pairs) -> tuple[str, str]:
    """(text, reasoning) of a whole answer; there a closing tag alone also means that reasoning came first."""
    inside = any(closing in text and text.find(opening) not in range(text.find(closing)) and not _quoted(text, closing)
                 for opening, closing in pairs)  # fmt: skip
    splitter = ThinkSplitter(pairs, inside=inside)
    first, second = splitter.feed(text), splitter.flush()
    return (first[0] + second[0]).strip("\r\n") if first[1] or second[1] else text, first[1] + second[1]


def _quoted(text: str, tag: str) -> bool:
    place = text.find(tag)
    return place > 0 and text[place - 1] in _QUOTES
