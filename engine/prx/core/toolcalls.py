"""Fragments of tool calls, joined: by index, by id, or by order, whichever the provider gives.

A new id begins a new call, also under an index that is taken. A fragment with neither id nor index
continues the last call. A name for a call whose arguments are already whole begins a new one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal

from prx.chat import ToolCall, ToolCallDelta

# How an element counts: a piece of a call · a call of its own, whatever its index · a whole call, said again
# · more of a call that has begun, and nothing where none has
How = Literal["piece", "own", "whole", "more"]


class _Slot:
    __slots__ = ("arguments", "id", "index", "made", "name", "replay")

    def __init__(self, index: Any) -> None:
        self.index = index
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
        return whole[len(self.text) :]

    @property
    def text(self) -> str:
        return "".join(self.arguments)

    def whole(self) -> bool:
        return is_json(self.text)


class ToolCalls:
    """The calls of one answer, in the order in which they began."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        self.slots: list[_Slot] = []
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
            slot = _Slot(index)
            self.slots.append(slot)
        elif how == "whole":
            arguments = slot.missing(arguments)
        slot.replay.update(replay or {})
        delta = ToolCallDelta(
            self.slots.index(slot), given if given != slot.id else None, name if name != slot.name else None, arguments
        )
        slot.take(given, delta.name, arguments)
        return delta

    def _slot(self, index: Any, given: str | None, name: str | None) -> _Slot | None:
        """The call that a fragment continues, or None for a new one."""
        if index is None:
            return self._by_order(given, name)
        mine = [slot for slot in self.slots if slot.index == index]
        if not mine or (given and (same := [slot for slot in mine if slot.id == given])):
            return same[-1] if mine else None
        last = mine[-1]
        if given and last.id:
            return None
        return None if name and not given and last.name and last.text and last.whole() else last

    def _by_order(self, given: str | None, name: str | None) -> _Slot | None:
        if given:
            return next((slot for slot in self.slots if slot.id == given), None)
        last = self.slots[-1] if self.slots else None
        if last is None or not name:
            return last
        return last if last.name in (None, name) and last.text and not last.whole() else None

    def calls(self) -> tuple[ToolCall, ...]:
        """The calls as they stand; an id is made only where there is none, "{}" only where nothing came."""
        for slot in self.slots:
            slot.made = slot.made or ("" if slot.id else self._new_id())
        return tuple(ToolCall(slot.id or slot.made, slot.name or "", slot.text or "{}") for slot in self.slots)

    def messages(self) -> list[dict[str, Any]]:
        """The calls as an assistant message carries them, with what the provider wants back."""
        return [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
                **slot.replay,
            }
            for call, slot in zip(self.calls(), self.slots, strict=True)
        ]


def is_json(text: str) -> bool:
    """Whether a text is one whole JSON value; nothing at all counts as whole, too."""
    try:
        json.loads(text or "{}")
    except (ValueError, RecursionError):
        return False
    return True


def _word(value: Any) -> str | None:
    return str(value) if value not in (None, "") else None


def _json_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
