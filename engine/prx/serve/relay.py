"""The stream of a provider, read for a caller: its pieces, and its bytes as they came for a caller who speaks its dialect."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from typing import Any

from prx.aclient import AsyncClient, AsyncStream
from prx.chat import Delta
from prx.core.exchange import Ask, Read, Send
from prx.session import Run
from prx.spec.face import Face
from prx.transport.asynchronous import Deadline

_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")  # of an event
_ERROR = b'"error"'


class Relay(AsyncStream):
    """A call of a gateway.

    requests    sent so far, over all targets
    dialect     of the last request
    fallbacks   that were applied in it
    """

    def __init__(self, run: Run, client: AsyncClient, *, keep: bool = True) -> None:
        """keep: the bytes of the answer, for a caller who speaks the provider's dialect."""
        super().__init__(run, client)
        self._keep = keep
        self.requests = 0
        self.dialect = ""
        self.fallbacks: tuple[str, ...] = ()
        self.unsent = bytearray()  # bytes of the answer that the caller has not got

    async def more(self) -> list[Delta]:
        """The next deltas, all that one piece of the answer brought; [] at the end. Raises Error."""
        while not self._pending and not self._over:
            await self._advance("deltas")
        deltas = [*self._pending]
        self._pending.clear()
        return deltas

    def so_far(self) -> Any:
        """The Reply with what has arrived."""
        return self._so_far()

    def _done(self, ask: Ask, deadline: Deadline) -> Awaitable[Any]:
        if type(ask) is Send:
            self.requests += 1
            self.dialect, self.fallbacks = ask.dialect, ask.fallbacks
            self.unsent.clear()
        made = super()._done(ask, deadline)
        return self._kept(made) if type(ask) is Read and self._keep else made

    async def _kept(self, made: Awaitable[bytes]) -> bytes:
        data = await made
        self.unsent += data
        return data


class Verbatim:
    """The events of a provider's stream as they came, whole ones only; without those that the caller has not asked for.

    What may hold an error is kept back until it is known whether it does: an error is written by the caller's face instead.
    """

    def __init__(self, face: Face, asked: dict[str, Any], relay: Relay) -> None:
        self._face, self._asked, self._relay = face, asked, relay
        self._framing_end = (b"\n",) if face.framing == "ndjson" else _ENDS

    def feed(self, deltas: list[Delta]) -> bytes:
        """What can be sent once these deltas have been read."""
        if _ERROR in self._relay.unsent:
            return b""
        return self._taken(self._end_of_events(), usage=any(delta.usage for delta in deltas))

    def end(self) -> bytes:
        return self._taken(len(self._relay.unsent), usage=True)

    def before_error(self) -> bytes:
        """The events that came before the one that is an error."""
        place = self._relay.unsent.find(_ERROR)
        whole = self._end_of_events(len(self._relay.unsent) if place < 0 else place)
        return self._taken(whole, usage=False)

    def _end_of_events(self, before: int | None = None) -> int:
        found = [(self._relay.unsent.rfind(end, 0, before), len(end)) for end in self._framing_end]
        return max(place + size for place, size in found if place >= 0) if any(place >= 0 for place, _ in found) else 0

    def _taken(self, size: int, *, usage: bool) -> bytes:
        data = bytes(self._relay.unsent[:size])
        del self._relay.unsent[:size]
        return self._without_unasked(data) if usage and self._face.unasked is not None else data

    def _without_unasked(self, data: bytes) -> bytes:
        events = data.replace(b"\r\n", b"\n").split(b"\n\n")
        return b"\n\n".join(event for event in events if not self._is_unasked(event))

    def _is_unasked(self, event: bytes) -> bool:
        text = b"\n".join(line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:"))
        try:
            value = json.loads(text)
        except ValueError:
            return False
        assert self._face.unasked is not None
        return isinstance(value, dict) and bool(self._face.unasked({**value, "asked": self._asked}))
