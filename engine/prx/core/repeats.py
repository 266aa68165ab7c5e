"""Reads events that differ only in their text without parsing each of them as JSON.

Nearly every event of a stream has the same bytes as the event before it, around a few new letters. A repeat is the
bytes that two such events share. In an event that fits a repeat, JSON's tokens stand in the same places, so a reader
finds the same values in it, except for the text; and the text has no escapes, or the event does not fit.

Streams of one provider have events of one form, too: what two of them have in common is kept for the next ones, so that a stream
has a repeat from its first piece of text on.

A repeat is made only where this is certain. The reader is run over an event that has a marked value in each place
that differs. A marked value refuses every operation that would reveal it: a reader whose result depends on it fails, and
no repeat is made. An event that fits no repeat is parsed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, NoReturn

from prx.core.blocks import Key, Kind

Read = Callable[
    [dict[str, Any]], Any
]  # from an event to the only value that is found in it, or None where there are more

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[^\s"{}\[\]:,]+|[{}\[\]:,]')
_MAX_HOLES = 4
_MAX_EVENT = 4096  # bytes; parsing is a small share of what a longer event costs
_MAX_DIGITS = 20
_MAX_FORMS = 32  # that are kept for a provider
_FIRST_TRY = 4  # events of text that are parsed before a repeat is first made


class _RevealedError(Exception):
    """A reader has used a marked value in a way that depends on what it is."""


class _Marked:
    """Stands in for a value that differs between events: only its type can be asked for, and of the text also whether
    it is empty (it is not).
    """

    def __init__(self, kind: type, *, is_text: bool) -> None:
        self._kind, self._is_text = kind, is_text

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return self._kind

    def __bool__(self) -> bool:
        return self._is_text or self._refuse()

    def _refuse(self, *_: object) -> NoReturn:
        raise _RevealedError

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __hash__ = __len__ = __str__ = __contains__ = _refuse


class _Token(NamedTuple):
    """A string or a number of an event: where it begins and ends (without its quotes), and its type."""

    start: int
    end: int
    kind: type


class Repeat:
    """The bytes that events share: pieces with a hole between each two. One hole holds the text; the others hold values
    that no reader depends on (an id, a time).
    """

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
            # What is no UTF-8 is read as another text than stands there.
            elif not (value := hole.decode("utf-8", "replace")).isprintable() or "\ufffd" in value:
                return None
            elif is_text:
                text = value
            start = end + len(piece)
        return text if text and start == len(event) else None


class Known:
    """What events of one form have in common over all streams of a provider. It may be used by several threads."""

    def __init__(self, event: bytes) -> None:
        """event: the second one of a stream. Compared with the first one of another stream, its text is another one, too: many answers
        begin with the same word.
        """
        self._sample = event
        self._repeat: Repeat | None = None
        self._missed = 0

    def repeat(self, event: bytes, read: Read) -> Repeat | None:
        """The repeat of an event and of those of earlier streams; None where none is known."""
        if self._repeat is not None and self._repeat.text(event) is not None:
            return self._repeat
        self._missed += 1
        if self._missed & (self._missed - 1):  # rarer and rarer: a server whose streams differ has none
            return None
        made = repeat_of(self._sample, event, read)
        if made is not None:
            self._repeat = made
        elif self._missed.bit_length() % 2 == 0:  # not at once: their texts may have been the same
            self._sample = event
        return made


class Repeats:
    """The present repeat of a stream. Where it stops fitting another is made, after twice as many misses each time.

    text   gives the text of an event that fits, else None
    kind   what the text is
    key    of the block that the text belongs to
    """

    def __init__(self, known: dict[Hashable, Known]) -> None:
        """known: of the provider, by form."""
        self._known = known
        self._seen: set[Hashable] = set()  # the forms of this stream's events
        self.text: Callable[[bytes], str | None] = _no_text
        self.kind: Kind = "text"
        self.key: Key = ()
        self._first = b""  # compared with a much later event, so that rare changes (a time in seconds) are seen
        self._missed, self._next = 0, _FIRST_TRY

    def miss(self, event: bytes, read: Read, kind: Kind, key: Key, form: Hashable) -> None:
        """Note an event that brought only text, of one block, and did not fit the present repeat. form: the same for all events that
        are read in the same way.
        """
        repeat = self._of_earlier(event, read, form) or self._of_this(event, read)
        if repeat is not None:
            self.text, self.kind, self.key = repeat.text, kind, key

    def forget(self) -> None:
        """Have the next event parsed, whatever it is."""
        self.text = _no_text

    def _of_earlier(self, event: bytes, read: Read, form: Hashable) -> Repeat | None:
        """What earlier streams have shown of a form, asked at its first event in this stream; the first stream shows it at its second."""
        known, is_first = self._known.get(form), form not in self._seen
        self._seen.add(form)
        if known is None and not is_first and len(event) <= _MAX_EVENT and len(self._known) < _MAX_FORMS:
            self._known[form] = Known(event)
        return known.repeat(event, read) if known is not None and is_first else None

    def _of_this(self, event: bytes, read: Read) -> Repeat | None:
        """What an event has in common with a much earlier one of this stream, where it is time to look."""
        self._missed += 1
        self._first = self._first or event
        if self._missed < self._next:
            return None
        self._next *= 2
        repeat = repeat_of(self._first, event, read)
        if repeat is None:
            self._first = event
        return repeat


def _no_text(_event: bytes) -> str | None:
    return None


def repeat_of(first: bytes, second: bytes, read: Read) -> Repeat | None:
    """The repeat of two events, or None where it is not certain that they have one."""
    start = _json_start(second)
    if start < 0 or start != _json_start(first) or max(len(first), len(second)) > _MAX_EVENT:
        return None
    differing = _differing(first, second, start)
    if not differing or len(differing) > _MAX_HOLES:
        return None
    hole_edges = [edge for token in differing for edge in (token.start, token.end)]
    edges = [0, *hole_edges, len(second)]
    pieces = [second[edges[place] : edges[place + 1]] for place in range(0, len(edges), 2)]
    for text_at, token in enumerate(differing):
        if token.kind is str and _is_only_output(pieces, differing, text_at, start, read):
            return Repeat(pieces, text_at)
    return None


def _json_start(event: bytes) -> int:
    """Where the event's only JSON object begins; -1 for an event of another form."""
    line = event.rfind(b"\n") + 1
    start = event.find(b"{", line)
    lead = event[line:start].strip()
    plain = b"data" not in event[:line] and b"{" not in event[:line]
    return start if start >= 0 and plain and lead in (b"", b"data:") else -1


def _differing(first: bytes, second: bytes, start: int) -> list[_Token]:
    """The values of `second` in which it differs from `first`; [] where a key, a type or the structure differs."""
    matches, others = list(_TOKEN.finditer(second, start)), [match.group() for match in _TOKEN.finditer(first, start)]
    if first[:start] != second[:start] or len(matches) != len(others):
        return []
    differing = []
    for place, (match, other) in enumerate(zip(matches, others, strict=True)):
        if match.group() == other:
            continue
        kind = _kind(match.group())
        is_key = place + 1 < len(others) and others[place + 1] == b":"
        if kind is None or is_key or kind is not _kind(other):
            return []
        quote = kind is str
        differing.append(_Token(match.start() + quote, match.end() - quote, kind))
    return differing


def _kind(token: bytes) -> type | None:
    return str if token[:1] == b'"' else int if token.isdigit() else None


def _is_only_output(pieces: Sequence[bytes], tokens: Sequence[_Token], text_at: int, start: int, read: Read) -> bool:
    """Whether the text in this hole is all that `read` finds in an event, whatever stands in the other holes."""
    marks = [_Marked(token.kind, is_text=place == text_at) for place, token in enumerate(tokens)]
    names = [f"\x7f{place}\x7f" for place in range(len(marks))]  # stand for the marks while the event is JSON text
    if b"\x7f" in (fixed := b"".join(pieces)) or b"u007f" in fixed.lower():
        return False
    filled = pieces[0]
    for token, name, piece in zip(tokens, names, pieces[1:], strict=True):
        filled += (name if token.kind is str else f'"{name}"').encode() + piece
    try:
        event = _replaced(json.loads(filled[start:]), dict(zip(names, marks, strict=True)))
        return read(event) is marks[text_at]
    except Exception:  # an expression may turn _RevealedError into an error of its own
        return False


def _replaced(value: Any, marks: dict[str, _Marked]) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(item, marks) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, marks) for item in value]
    return marks.get(value, value) if isinstance(value, str) else value
