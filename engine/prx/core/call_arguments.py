"""Joins the arguments of one tool call from pieces of JSON text.

Most servers send each piece once. Some send the text from its beginning each time, longer and longer; some send the
whole text again at the end. JSON decides which it is: where appending a piece would make the text invalid, the piece is a
repetition.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from prx.json_text import read_json

_CONTROL = r"[\x00-\x1f]"
_MARKS = r'(?s:\\.)|["{}\[\]]'
_NOT_JSON = object()


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


# strict=False: some arguments have raw line breaks in their strings. parse_constant: NaN and Infinity are not JSON.
_decode = json.JSONDecoder(strict=False, parse_constant=_refuse_constant).decode


class Arguments:
    """The arguments so far. free: the tool takes any text, not JSON, so every piece is a new one."""

    __slots__ = ("_broken", "_cumulative", "_last", "_nesting", "_pieces", "_size", "_undecided", "free")

    def __init__(self, *, free: bool = False) -> None:
        self.free = free
        self._pieces: list[str] = []
        self._size = 0
        self._last = (
            ""  # the last character that is not white space: only after a closing bracket can the text be whole
        )
        self._nesting = _Nesting()
        self._broken = False  # all brackets were closed and the text was not JSON: nothing that follows can change that
        self._cumulative = False  # a piece has repeated the text from its beginning: the server's next pieces will, too
        self._undecided: str | None = None  # a piece that either continues the text or is the whole text, repeated

    @property
    def text(self) -> str:
        return self._undecided or "" if self._is_repetition() else self._joined

    @property
    def undecided(self) -> bool:
        """Whether it is not known yet if the last piece continues the text or repeats all of it."""
        return self._undecided is not None

    @property
    def _joined(self) -> str:
        return "".join(self._pieces)

    def _is_repetition(self) -> bool:
        """Whether the undecided piece, if no other follows, repeats the text: it is JSON, and the text with it is not."""
        return self._undecided is not None and is_json(self._undecided) and not is_json(self._joined + self._undecided)

    def __bool__(self) -> bool:
        return self._size > 0 or self._undecided is not None

    def append_certain(self, piece: str) -> bool:
        """Append a piece if it certainly continues the text; False where it may be a repetition, and nothing was done."""
        if self._undecided is not None or not self._pieces or not piece:
            return False
        if not self.free and (self._last in "}]" or (len(piece) >= self._size and piece[0] == self._pieces[0][0])):
            return False
        self._pieces.append(piece)
        self._size += len(piece)
        self._last = piece.rstrip()[-1:] or self._last
        return True

    def add(self, piece: str) -> str:
        """Add a piece; gives what it adds to the text, "" also where that is not decided yet."""
        if self._undecided is not None:
            return self._decide_by(piece)
        if self.free or not self._starts_over(piece):
            return self._append(piece)
        text = self._joined
        if not self._cumulative and is_json(text + piece):
            return self._append(piece)
        if not self._cumulative and begins_json(text + piece):
            self._undecided = piece
            return ""
        self._cumulative = True
        return self._append(piece[len(text) :])

    def settle(self) -> str:
        """No piece follows: decide about the last one. Gives what it adds to the text."""
        if self._undecided is None:
            return ""
        is_repetition, piece = self._is_repetition(), self._undecided
        self._undecided = None
        return self._append(piece[self._size :] if is_repetition else piece)

    def complete(self, whole: str) -> str:
        """Add the text that the server sends whole; gives the part that the pieces did not bring."""
        if self._undecided is not None:
            self.settle()
        text = self.text
        if not whole or whole == text or (self.whole and not whole.startswith(text)):
            return ""
        if not whole.startswith(text):  # pieces were lost on the way
            self.clear()
            return self._append(whole)
        return self._append(whole[len(text) :])

    def clear(self) -> None:
        """Forget the text: it was a placeholder."""
        self.__init__(free=self.free)  # type: ignore[misc]

    @property
    def whole(self) -> bool:
        """Whether the text is a whole JSON object or array. Used for each piece, so it parses only where all brackets are
        closed.
        """
        if self._undecided is not None:
            return self._is_repetition()
        if self.free or self._broken or self._last not in ("}", "]"):
            return False
        self._nesting.follow(self._pieces)
        if not self._nesting.closed:
            return False
        self._broken = not is_json(self.text)
        return not self._broken

    def says(self, text: str) -> bool:
        """Whether another text has the same JSON value, whatever its spaces and escapes."""
        return text == self.text or (value_of(text) == value_of(self.text) != _NOT_JSON)

    @property
    def is_empty_object(self) -> bool:
        return self._size == 2 and not self.free and self.text == "{}"

    def _starts_over(self, piece: str) -> bool:
        """Whether a piece begins with the whole text so far."""
        return (
            len(piece) >= self._size > 0
            and piece[0] == self._pieces[0][0]
            and piece.startswith(self._joined)
            and (self._cumulative or not self.whole)
        )

    def _decide_by(self, piece: str) -> str:
        """Add a piece after an undecided one: if it begins with that one, both repeat the text; else both continue it."""
        before, self._undecided = self._undecided or "", None
        if piece.startswith(before):
            self._cumulative = True
            return self._append(piece[self._size :])
        return self._append(before) + self.add(piece)

    def _append(self, piece: str) -> str:
        if piece:
            self._pieces.append(piece)
            self._size += len(piece)
            self._last = piece.rstrip()[-1:] or self._last
        return piece


class _Nesting:
    """Whether all brackets are closed. Each piece is read once, and only when `follow` is called: to parse the whole text
    at every piece would take quadratic time.
    """

    __slots__ = ("_depth", "_followed", "_in_text", "_pending")

    def __init__(self) -> None:
        self._depth, self._followed, self._in_text, self._pending = 0, 0, False, ""

    def follow(self, pieces: list[str]) -> None:
        """Read the pieces that have come since the last call."""
        for piece in pieces[self._followed :]:
            self._add(piece)
        self._followed = len(pieces)

    def _add(self, piece: str) -> None:
        piece = self._pending + piece
        odd = (len(piece) - len(piece.rstrip("\\"))) % 2
        piece, self._pending = (piece[:-1], "\\") if odd else (piece, "")
        for mark in re.findall(_MARKS, piece):
            if mark == '"':
                self._in_text = not self._in_text
            elif len(mark) == 1 and not self._in_text:
                self._depth += 1 if mark in "{[" else -1

    @property
    def closed(self) -> bool:
        return self._depth == 0 and not self._in_text


def is_json(text: str) -> bool:
    """Whether a text is one whole JSON value; an empty text counts as one, since it stands for no arguments."""
    return value_of(text or "{}") is not _NOT_JSON


def value_of(text: str) -> Any:
    """The JSON value of arguments, or _NOT_JSON. Raw control characters in strings are accepted, NaN and Infinity are not."""
    try:
        return read_json(text, _decode)
    except ValueError:
        return _NOT_JSON


def strict(text: str) -> str:
    """Arguments that every JSON reader accepts: raw control characters in their strings are escaped."""
    if not re.search(_CONTROL, text):
        return text
    try:
        json.loads(text)
    except ValueError:
        value = value_of(text)
        return text if value is _NOT_JSON else json.dumps(value, ensure_ascii=False)
    return text


def begins_json(text: str) -> bool:
    """Whether a text is JSON, or the beginning of JSON."""
    try:
        _decode(text)
    except json.JSONDecodeError as error:
        return _ends_early(text, error)
    except (RecursionError, ValueError):
        return False
    return True


def _ends_early(text: str, error: json.JSONDecodeError) -> bool:
    """Whether the only error is that the text ends too early: between values, or inside a string, a number or a word."""
    rest = text[error.pos :]
    if not rest or error.msg.startswith("Unterminated string"):
        return True
    if error.msg.startswith("Invalid \\u"):
        return len(rest) < 6
    if error.msg == "Expecting value":
        return any(word.startswith(rest) for word in ("true", "false", "null", "-"))
    return text[error.pos - 1].isdigit() and bool(re.fullmatch(r"\.|[eE][+-]?|\.[0-9]+[eE][+-]?", rest))
