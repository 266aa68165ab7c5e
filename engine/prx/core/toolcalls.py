"""Fragments of tool calls, joined: by index, by id, or by order, whichever the provider gives.

A new id begins a new call, also under an index that is taken. A fragment with neither id nor index
continues the last call. A name for a call whose arguments are already whole begins a new one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from typing import Any, Literal

from prx.chat import ToolCall, ToolCallDelta
from prx.wire import read_json
from prx.words import clean

# How an element counts: a piece of a call · a call of its own, whatever its index · a whole call, said again
# · more of a call that has begun, and nothing where none has
How = Literal["piece", "own", "whole", "more"]


class _Slot:
    __slots__ = ("arguments", "id", "index", "made", "name", "nesting", "place", "replay")

    def __init__(self, index: Any, place: int) -> None:
        self.index = index
        self.place = place
        self.nesting = _Nesting()
        self.id: str | None = None
        self.made = ""  # stands in for an id that never came
        self.name: str | None = None
        self.arguments: list[str] = []
        self.replay: dict[str, Any] = {}

    def take(self, given: str | None, name: str | None, arguments: str | None) -> None:
        self.id = self.id or given
        if name and not (self.name and self.arguments):
            self.name = (self.name or "") + name
        if arguments:
            self.arguments.append(arguments)

    def missing(self, whole: str | None) -> str | None:
        """What the pieces so far lack of the whole arguments; pieces that do not begin it give way to it."""
        if not whole or whole == self.text:
            return None
        if not whole.startswith(self.text):
            if self.whole():
                return None
            self.arguments.clear()
            self.nesting = _Nesting()
        return whole[len(self.text) :]

    @property
    def text(self) -> str:
        return "".join(self.arguments)

    def whole(self) -> bool:
        self.nesting.follow(self.arguments)
        return self.nesting.closed and is_json(self.text)


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


_MARKS = r'(?s:\\.)|["{}\[\]]'


class ToolCalls:
    """The calls of one answer, in the order in which they began."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        self.slots: list[_Slot] = []
        self._by_index: dict[Any, list[_Slot]] = {}
        self._by_id: dict[str, _Slot] = {}
        self._new_id = new_id

    def add(
        self, found: tuple[Any, Any, Any, Any], how: How = "piece", replay: dict[str, Any] | None = None
    ) -> ToolCallDelta | None:
        """What one element says, as (index, id, name, arguments), and the delta that it makes, if it makes one.

        replay: what the provider wants back with this call.
        """
        index, given, name, arguments = found[0], _word(found[1]), _word(found[2]), _json_text(found[3])
        slot = None if how == "own" else self._slot(index, given, name)
        if slot is None and how == "more":
            return None
        if slot is None:
            slot = _Slot(index, len(self.slots))
            self.slots.append(slot)
            self._by_index.setdefault(_key(index), []).append(slot)
        elif how == "whole":
            arguments = slot.missing(arguments)
        slot.replay.update(replay or {})
        delta = ToolCallDelta(
            slot.place,
            given if given != slot.id else None,
            name if name != slot.name else None,
            clean(arguments) if arguments else arguments,
        )
        slot.take(given, delta.name, arguments)
        if slot.id:
            self._by_id.setdefault(slot.id, slot)
        return delta

    def _slot(self, index: Any, given: str | None, name: str | None) -> _Slot | None:
        """The call that a fragment continues, or None for a new one."""
        if index is None:
            return self._by_order(given, name)
        mine = self._by_index.get(_key(index), [])
        same = self._by_id.get(given) if given else None
        if not mine:
            return None if given or name else self._late_index(index)
        if same and same.index == index:
            return same
        last = mine[-1]
        if given and last.id:
            return None
        return None if name and not given and last.name and last.text and last.whole() else last

    def _late_index(self, index: Any) -> _Slot | None:
        """A call that began without an index, where one comes with its arguments."""
        last = self.slots[-1] if self.slots else None
        if last is None or last.index is not None:
            return None
        last.index = index
        self._by_index.setdefault(_key(index), []).append(last)
        return last

    def _by_order(self, given: str | None, name: str | None) -> _Slot | None:
        if given:
            return self._by_id.get(given)
        last = self.slots[-1] if self.slots else None
        if last is None or not name:
            return last
        return last if last.name in (None, name) and last.text and not last.whole() else None

    def calls(self) -> tuple[ToolCall, ...]:
        """The calls as they stand; an id is made only where there is none, "{}" only where nothing came."""
        for slot in self.slots:
            slot.made = slot.made or ("" if slot.id else self._new_id())
        return tuple(ToolCall(slot.id or slot.made, slot.name or "", clean(slot.text) or "{}") for slot in self.slots)

    def messages(self, free: Collection[str | None] = ()) -> list[dict[str, Any]]:
        """The calls as an assistant message carries them, with what the provider wants back.

        free: names of tools whose input is text of their own.
        """
        return [
            {**_message(call, free=call.name in free), **slot.replay}
            for call, slot in zip(self.calls(), self.slots, strict=True)
        ]


def _message(call: ToolCall, *, free: bool) -> dict[str, Any]:
    if free:
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def is_json(text: str) -> bool:
    """Whether a text is one whole JSON value; nothing at all counts as whole, too."""
    try:
        read_json(text or "{}")
    except ValueError:
        return False
    return True


def _key(index: Any) -> Any:
    """An index that can be looked up, whatever it is."""
    return index if isinstance(index, str | int | float) else json.dumps(index)


def _word(value: Any) -> str | None:
    return clean(str(value)) if value not in (None, "") else None


def _json_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
