"""Events that are alike but for their text, read without parsing each.

Nearly every event of a stream repeats the one before it, byte for byte, around a few new letters. A repeat is
what two such events share. In an event that fits it JSON's tokens stand in the same places, so whoever reads
it comes to the same, but for that text; and the text needs no unescaping, or the event does not fit.

A repeat is cast only where that is certain. The reader is run over an event with marked values in the places
that differ. Nobody can look into a marked value: a reader that would decide by it fails, and there is no repeat.
What fits none is parsed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

from prx.core.blocks import Key, Kind

Read = Callable[[dict[str, Any]], Any]  # from an event to the one value that it brings, if it brings one only

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[^\s"{}\[\]:,]+|[{}\[\]:,]')
_MAX_HOLES = 4
_MAX_EVENT = 4096  # longer ones have other costs than that of parsing
_MAX_DIGITS = 20
_FIRST_CAST = 4  # events of text without a repeat before one is cast


class _LookedAtError(Exception):
    """A reader has looked into a marked value."""


class _Marked:
    """Stands for a value of which nothing but its type is known, and of a text that there is some."""

    def __init__(self, kind: type, *, some: bool) -> None:
        self._kind, self._some = kind, some

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return self._kind

    def __bool__(self) -> bool:
        return self._some or self._refuse()

    def _refuse(self, *_: object) -> NoReturn:
        raise _LookedAtError

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __hash__ = __len__ = __str__ = __contains__ = _refuse


class _Token(NamedTuple):
    """A scalar value of an event: where its inside begins and ends, and its type. `text`: it is no key."""

    start: int
    end: int
    kind: type


class Repeat:
    """What events share: pieces with a hole between each two. One hole has the text, the others nothing of interest."""

    def __init__(self, pieces: Sequence[bytes], text_at: int) -> None:
        self.head, *rest = pieces
        self.rest = [(piece, piece[:1], place == text_at) for place, piece in enumerate(rest)]

    def text(self, event: bytes) -> str | None:
        """The text of an event that fits, or None."""
        if not event.startswith(self.head):
            return None
        start, text = len(self.head), ""
        for piece, mark, is_text in self.rest:
            end = event.find(mark, start)
            hole = event[start:end]
            if not event.startswith(piece, end) or b"\\" in hole:
                return None
            if mark != b'"':
                if len(hole) > _MAX_DIGITS or not hole.isdigit() or hole[:1] == b"0":
                    return None
            elif not (said := hole.decode("utf-8", "replace")).isprintable():
                return None
            elif is_text:
                text = said
            start = end + len(piece)
        return text if text and start == len(event) else None


class Repeats:
    """The repeat of a stream; cast anew, more and more rarely, where the present one does not fit."""

    def __init__(self) -> None:
        self.text: Callable[[bytes], str | None] = _no_text
        self.kind: Kind = "text"
        self.key: Key = ()
        self._first = b""  # kept for long, so that what changes seldom (a time in seconds) is seen to change
        self._missed, self._next = 0, _FIRST_CAST

    def miss(self, event: bytes, read: Read, kind: Kind, key: Key) -> None:
        """An event that brought a text of one block and nothing else, and fits no repeat yet."""
        self._missed += 1
        self._first = self._first or event
        if self._missed >= self._next:
            self._next *= 2
            repeat = cast(self._first, event, read)
            if repeat is not None:
                self.text, self.kind, self.key = repeat.text, kind, key
            else:
                self._first = event


def _no_text(_event: bytes) -> str | None:
    return None


def cast(first: bytes, second: bytes, read: Read) -> Repeat | None:
    """The repeat of two events, or None where they have none, or where it is not certain that they have."""
    start = _json_start(second)
    if start < 0 or start != _json_start(first) or max(len(first), len(second)) > _MAX_EVENT:
        return None
    differing = _differing(first, second, start)
    if not differing or len(differing) > _MAX_HOLES:
        return None
    ends = [start_of for token in differing for start_of in (token.start, token.end)]
    edges = [0, *ends, len(second)]
    pieces = [second[edges[place] : edges[place + 1]] for place in range(0, len(edges), 2)]
    for text_at, token in enumerate(differing):
        if token.kind is str and _is_all(pieces, differing, text_at, start, read):
            return Repeat(pieces, text_at)
    return None


def _json_start(event: bytes) -> int:
    """Where the event's one JSON object begins; -1 for an event of another form."""
    line = event.rfind(b"\n") + 1
    start = event.find(b"{", line)
    lead = event[line:start].strip()
    plain = b"data" not in event[:line] and b"{" not in event[:line]
    return start if start >= 0 and plain and lead in (b"", b"data:") else -1


def _differing(first: bytes, second: bytes, start: int) -> list[_Token]:
    """The values of `second` in which it differs from `first`; none where they differ in more than values."""
    ours, theirs = list(_TOKEN.finditer(second, start)), [match.group() for match in _TOKEN.finditer(first, start)]
    if first[:start] != second[:start] or len(ours) != len(theirs):
        return []
    found = []
    for place, (match, other) in enumerate(zip(ours, theirs, strict=True)):
        if match.group() == other:
            continue
        kind = _kind(match.group())
        is_key = place + 1 < len(theirs) and theirs[place + 1] == b":"
        if kind is None or is_key or kind is not _kind(other):
            return []
        quote = kind is str
        found.append(_Token(match.start() + quote, match.end() - quote, kind))
    return found


def _kind(token: bytes) -> type | None:
    return str if token[:1] == b'"' else int if token.isdigit() else None


def _is_all(pieces: Sequence[bytes], tokens: Sequence[_Token], text_at: int, start: int, read: Read) -> bool:
    """Whether this text is all that an event brings, whatever stands in the other holes."""
    marks = [_Marked(token.kind, some=place == text_at) for place, token in enumerate(tokens)]
    names = [f"\x7f{place}\x7f" for place in range(len(marks))]
    if b"\x7f" in (fixed := b"".join(pieces)) or b"u007f" in fixed.lower():
        return False
    filled = pieces[0]
    for token, name, piece in zip(tokens, names, pieces[1:], strict=True):
        filled += (name if token.kind is str else f'"{name}"').encode() + piece
    try:
        event = _replaced(json.loads(filled[start:]), dict(zip(names, marks, strict=True)))
        return read(event) is marks[text_at]
    except Exception:  # whatever a reader raises over a marked value, it has looked into it
        return False


def _replaced(value: Any, marks: dict[str, _Marked]) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(item, marks) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, marks) for item in value]
    return marks.get(value, value) if isinstance(value, str) else value
