"""The arguments of one tool call, put together from pieces of JSON text.

Most servers send each piece once. Some send the text from its beginning each time, longer and longer; some say all of
it again at the end. What is new in a piece is told by JSON: a text that would be none any more was meant otherwise.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from prx.json_text import read_json

_CONTROL = r"[\x00-\x1f]"
_MARKS = r'(?s:\\.)|["{}\[\]]'
_NO_JSON = object()


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


_decode = json.JSONDecoder(strict=False, parse_constant=_no_number).decode


class Arguments:
    """What has come so far. free: the text is no JSON (of a tool that takes any text), so every piece is new."""

    __slots__ = ("_again", "_broken", "_cumulative", "_last", "_nesting", "_pieces", "_size", "free")

    def __init__(self, *, free: bool = False) -> None:
        self.free = free
        self._pieces: list[str] = []
        self._size = 0
        self._last = ""  # the last character that is no space: only behind a bracket can the text be whole
        self._nesting = _Nesting()
        self._broken = False  # brackets were closed, and it was no JSON: it will be none
        self._cumulative = False  # a piece has begun from the beginning: the next ones will, too
        self._again: str | None = None  # a piece that either continues the text or is all of it, said again

    @property
    def text(self) -> str:
        return self._again or "" if self._is_all() else self._joined

    @property
    def undecided(self) -> bool:
        """Whether the last piece either continues the text or is all of it, said again."""
        return self._again is not None

    @property
    def _joined(self) -> str:
        return "".join(self._pieces)

    def _is_all(self) -> bool:
        """Whether the undecided piece is JSON by itself: then it was all of the text, if nothing continues it."""
        return self._again is not None and is_json(self._again) and not is_json(self._joined + self._again)

    def __bool__(self) -> bool:
        return self._size > 0 or self._again is not None

    def goes_on(self, piece: str) -> bool:
        """Take in a piece that can be nothing but the next one; False where it may be something else."""
        if self._again is not None or not self._pieces or not piece:
            return False
        if not self.free and (self._last in "}]" or (len(piece) >= self._size and piece[0] == self._pieces[0][0])):
            return False
        self._pieces.append(piece)
        self._size += len(piece)
        self._last = piece.rstrip()[-1:] or self._last
        return True

    def add(self, piece: str) -> str:
        """Take a piece in; gives what it adds to the text, "" also where that cannot be told yet."""
        if self._again is not None:
            return self._decided(piece)
        if self.free or not self._starts_over(piece):
            return self._append(piece)
        text = self._joined
        if not self._cumulative and is_json(text + piece):
            return self._append(piece)
        if not self._cumulative and begins_json(text + piece):
            self._again = piece
            return ""
        self._cumulative = True
        return self._append(piece[len(text) :])

    def settle(self) -> str:
        """At the end: what was undecided. A reading that makes JSON is right; else the piece was a piece."""
        if self._again is None:
            return ""
        is_all, again = self._is_all(), self._again
        self._again = None
        return self._append(again[self._size :] if is_all else again)

    def complete(self, whole: str) -> str:
        """Take in what the server says is the whole text; gives what the pieces lacked of it."""
        if self._again is not None:
            self.settle()
        text = self.text
        if not whole or whole == text or (self.whole and not whole.startswith(text)):
            return ""
        if not whole.startswith(text):  # pieces were lost on the way
            self.clear()
            return self._append(whole)
        return self._append(whole[len(text) :])

    def clear(self) -> None:
        """Forget what came: it was a placeholder."""
        self.__init__(free=self.free)  # type: ignore[misc]

    @property
    def whole(self) -> bool:
        """Whether these are a whole JSON object or array; asked of each piece, so it parses only where brackets are closed."""
        if self._again is not None:
            return self._is_all()
        if self.free or self._broken or self._last not in ("}", "]"):
            return False
        self._nesting.follow(self._pieces)
        if not self._nesting.closed:
            return False
        self._broken = not is_json(self.text)
        return not self._broken

    def says(self, text: str) -> bool:
        """Whether another text means the same, whatever its spaces and escapes."""
        return text == self.text or (value_of(text) == value_of(self.text) != _NO_JSON)

    @property
    def is_empty_object(self) -> bool:
        return self._size == 2 and not self.free and self.text == "{}"

    def _starts_over(self, piece: str) -> bool:
        return (
            len(piece) >= self._size > 0
            and piece[0] == self._pieces[0][0]
            and piece.startswith(self._joined)
            and (self._cumulative or not self.whole)
        )

    def _decided(self, piece: str) -> str:
        """A piece after an undecided one: where it says that one again, it was all of the text; else it was a piece."""
        again, self._again = self._again or "", None
        if piece.startswith(again):
            self._cumulative = True
            return self._append(piece[self._size :])
        return self._append(again) + self.add(piece)

    def _append(self, piece: str) -> str:
        if piece:
            self._pieces.append(piece)
            self._size += len(piece)
            self._last = piece.rstrip()[-1:] or self._last
        return piece


class _Nesting:
    """Whether brackets are closed, told from each piece once, and only where somebody asks: to parse what has come
    so far, at every piece, takes quadratic time.
    """

    __slots__ = ("_depth", "_followed", "_in_text", "_pending")

    def __init__(self) -> None:
        self._depth, self._followed, self._in_text, self._pending = 0, 0, False, ""

    def follow(self, pieces: list[str]) -> None:
        """Read on, from where the last time ended."""
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
    """Whether a text is one whole JSON value; nothing at all counts as whole, too."""
    return value_of(text or "{}") is not _NO_JSON


def value_of(text: str) -> Any:
    """The JSON value of arguments; raw control characters in a text are read, NaN and Infinity are not."""
    try:
        return read_json(text, _decode)
    except ValueError:
        return _NO_JSON


def strict(text: str) -> str:
    """Arguments as every JSON reader takes them: where raw control characters stand in a text, they are escaped."""
    if not re.search(_CONTROL, text):
        return text
    try:
        json.loads(text)
    except ValueError:
        value = value_of(text)
        return text if value is _NO_JSON else json.dumps(value, ensure_ascii=False)
    return text


def begins_json(text: str) -> bool:
    """Whether a text is JSON, or could become JSON by what follows."""
    try:
        _decode(text)
    except json.JSONDecodeError as error:
        return _ends_early(text, error)
    except (RecursionError, ValueError):
        return False
    return True


def _ends_early(text: str, error: json.JSONDecodeError) -> bool:
    """Whether json found nothing wrong but the end: of the text, or of a string, a number or a word cut in two."""
    rest = text[error.pos :]
    if not rest or error.msg.startswith("Unterminated string"):
        return True
    if error.msg.startswith("Invalid \\u"):
        return len(rest) < 6
    if error.msg == "Expecting value":
        return any(word.startswith(rest) for word in ("true", "false", "null", "-"))
    return text[error.pos - 1].isdigit() and bool(re.fullmatch(r"\.|[eE][+-]?|\.[0-9]+[eE][+-]?", rest))
