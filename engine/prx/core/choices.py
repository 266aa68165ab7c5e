"""Reads one of several alternative answers (choices), and keeps pieces of the others out of it.

Where a call asks for several (n), the first is numbered 0. Where it asks for one, the number is not reliable: some servers
count up with each piece, or begin at 1, and a few send a second answer all the same. The first number above 0 fits
both; the next event decides: a number that goes on growing counts the pieces, and a 0 that comes back means that there
are two answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from prx.core.framing import Frame


class Event(NamedTuple):
    """An event of a stream, parsed; its frame; and its bytes, or b"" where its frame held several events."""

    value: dict[str, Any]
    frame: Frame
    source: bytes


class Choices:
    """key: of the list of choices in a body or event, "" for an API that has none. several: the call asked for n > 1."""

    def __init__(self, key: str, *, several: bool) -> None:
        self._key, self._several = key, several
        self._held: list[Event] = []
        self._zero_seen = False
        self._numbers_matter: bool | None = None  # None until two numbers have been seen

    @property
    def state(self) -> tuple[bool, bool | None]:
        """What decides how `one` reads an event."""
        return self._several, self._numbers_matter

    def plain(self, value: dict[str, Any]) -> bool:
        """Whether an event can be read as it is, as nearly all can: its only choice is numbered 0, or not at all."""
        choices = value.get(self._key)
        if not choices:
            return True
        if self._several or self._held or type(choices) is not list or len(choices) != 1:
            return not self._key
        only = choices[0]
        number = only.get("index") if type(only) is dict else None
        if number == 0:
            self._zero_seen = True
        return not number or self._numbers_matter is False

    def one(self, value: dict[str, Any]) -> dict[str, Any]:
        """A body or an event, with all choices but one taken out."""
        choices = value.get(self._key) if self._key else None
        if not isinstance(choices, list) or (len(choices) < 2 and not (self._several or self._numbers_matter)):
            return value
        first = [each for each in choices if not isinstance(each, dict) or each.get("index") in (None, 0)]
        kept = first[:1] if first or self._several or self._numbers_matter else choices[:1]
        return value if kept == choices else {**value, self._key: kept}

    def ready(self, event: Event) -> Sequence[Event]:
        """The events that can be read once this one, which is not plain, is known: none while it is undecided."""
        if self._several or self._numbers_matter is not None:
            return (event,)
        number = self._number(event.value)
        if number is None:
            return (event,)
        if number == 0:
            self._numbers_matter, self._held = True, []
            return (event,)
        return self._numbered(event, number)

    def rest(self) -> Sequence[Event]:
        """At the end of the stream: the events that were held back until another number came."""
        held, self._held = self._held, []
        return held

    def _numbered(self, event: Event, number: int) -> Sequence[Event]:
        """An event numbered above 0. Numbers do not matter where they go on growing, or where the answer has one number
        other than 0 from its first event on.
        """
        before = self._number(self._held[-1].value) if self._held else None
        self._held.append(event)
        if before is None or (number == before and self._zero_seen):
            return ()
        self._numbers_matter = False
        return self.rest()

    def _number(self, value: dict[str, Any]) -> int | None:
        choices = value.get(self._key)
        only = choices[0] if isinstance(choices, list) and len(choices) == 1 else None
        number = only.get("index") if isinstance(only, dict) else None
        return number if isinstance(number, int) and number >= 0 else None
