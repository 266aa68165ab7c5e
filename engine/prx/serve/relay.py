"""The stream of a provider, read for a caller: its pieces, and its events as they came for a caller who speaks its dialect."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from prx.aclient import AsyncClient, AsyncStream
from prx.calls import closed_early
from prx.chat import Delta
from prx.core.decode import framing_of
from prx.core.exchange import Ask, Read, Send
from prx.core.framing import FRAMINGS, Framer
from prx.core.reading import NOTHING
from prx.errors import Error
from prx.serve.shortcut import Shortcut
from prx.serve.ways import Came
from prx.session import Run
from prx.spec.face import Face
from prx.transport.asynchronous import Deadline
from prx.wire import Head

ENDS = {"sse": b"\n\n", "ndjson": b"\n"}  # of an event, by framing; of others the events are not kept


class Heard(NamedTuple):
    """An event of the provider, b"" where it is not kept, and what was read in it. repeats: the same object for all events that
    differ in their text alone, or None.
    """

    event: bytes
    deltas: list[Delta]
    repeats: object = None


class Relay(AsyncStream):
    """A call of a gateway.

    requests       sent so far, over all targets
    dialect        of the last request; reads_plainly: as in Spec
    fallbacks      that were applied in it
    framing        of the events that are kept, "" where none are
    idle           called before the provider is waited for, while there are events that nobody has taken
    shortcut       gives the way of events that only continue what this reader has read, None where they have none
    """

    def __init__(self, run: Run, client: AsyncClient, face: Face | None = None, *, came: Came | None = None) -> None:
        """face: the caller's, where events of a provider that speaks the same dialect are to be kept. came: what the first request has
        brought already.
        """
        super().__init__(run, client)
        self.run, self._face, self._came = run, face, came
        self.sent: Send | None = None  # the last request
        self._events: list[Heard] = []
        self._now = b""  # the event that is being read; whether it is good, shows when the next one is asked for
        self._unread: deque[bytes] = deque()
        self._framer: Framer | None = None
        self._max_event = 0
        self._tail = b""
        self._ended = False  # whether the last bytes have been read
        self._failed: Error | None = None  # of reading
        self._attempt: Any = None
        self.requests = 0
        self.dialect = self.framing = ""
        self.reads_plainly = False
        self.fallbacks: tuple[str, ...] = ()
        self.idle: Callable[[], Awaitable[None]] | None = None
        self.shortcut: Callable[[Any], Shortcut | None] | None = None

    async def more(self) -> list[Heard]:
        """What comes next, up to the next deltas; [] at the end. Raises Error."""
        while not self._pending and not self._over:
            if self._framer is not None and (repeated := await self._repeated(self._attempt)):
                return repeated
            await self._advance("deltas")
        return self.taken()

    async def _repeated(self, attempt: Any) -> list[Heard]:
        """The next events, if they repeat earlier ones but for their text. Nearly every event of a stream does, and the way through
        the call's flow, which gets all others, takes longer than all else that is done for such an event.
        """
        unread, reader = self._unread, attempt.reader
        if not attempt.emitted or reader.complete:
            return []
        if not unread and (self._ended or not await self._read()):
            return []
        repeated, present = list[Heard](), reader.present_repeat
        while unread and (delta := reader.repeated(unread[0])) is not None:
            repeated.append(Heard(unread.popleft(), [delta] if delta is not NOTHING else [], present))
        return repeated

    async def _read(self) -> bool:
        """Read the next events; False at the end of the answer, and where reading fails: the flow is told when it reads."""
        assert self._response is not None
        assert self._framer is not None
        assert self._deadline is not None
        if self._deadline.stopped:
            self._failed = closed_early()
            return False
        self._is_read = True
        shortcut = self._shortcut()
        self._response.at_once(shortcut)
        try:
            data = await self._response.read()
            self._unread.extend(self._framer.events(data))
        except Error as error:
            self._failed = error
            return False
        except BaseException:  # the task was cancelled
            self._cut = True
            self._end()
            raise
        finally:
            self._is_read = False
            if self._response is not None:
                self._response.at_once(None)
            if shortcut is not None:
                shortcut.close()
        self._ended = not data
        return bool(self._unread)

    def _shortcut(self) -> Shortcut | None:
        """For what comes while the next bytes are waited for, where nothing of what came before them is left."""
        assert self._framer is not None
        if self.shortcut is None or self._framer.rest.pieces:
            return None
        return self.shortcut(self._attempt.reader)

    def taken(self) -> list[Heard]:
        """What has come and was not taken yet."""
        events, self._events = self._events, []
        if self._now or self._pending:
            events.append(Heard(self._now, [*self._pending]))
            self._now = b""
            self._pending.clear()
        return events

    def before_error(self) -> list[Heard]:
        """The events that came before the one that is an error."""
        return self._events

    def so_far(self) -> Any:
        """The Reply with what has arrived."""
        return self._so_far()

    def _done(self, ask: Ask, deadline: Deadline) -> Awaitable[Any]:
        if type(ask) is Send:
            self.requests += 1
            self.sent = ask
            self.dialect, self.fallbacks, self.reads_plainly = ask.dialect, ask.fallbacks, ask.reads_plainly
            self.framing, self._framer, self._max_event = "", None, ask.limits.max_event
            self._events, self._now, self._unread, self._tail = [], b"", deque(), b""
            self._ended, self._failed, self._attempt = False, None, ask.attempt
            if self.requests > 1:
                self._came = None  # what nobody has read of it belongs to the first request
            if self._came is not None:
                return self._taken_over(self._came)
        if type(ask) is Read and self._came is not None:
            return self._read_before(self._came)
        if type(ask) is Read and self._face is not None and self.dialect == self._face.id:
            return self._next_event(ask, deadline)
        return super()._done(ask, deadline)

    def stop(self) -> None:
        """As AsyncStream.stop, for whom the client has to know its loop: here whoever stops a call is on the loop that reads it."""
        if self._is_read and not self._over and self._deadline is not None:
            self._deadline.stop()
        else:
            super().stop()

    def limit(self, deadline: Deadline | None) -> None:
        """Use a deadline that has begun already."""
        self._deadline = deadline

    async def _taken_over(self, came: Came) -> Head:
        """The head of the response that has come already."""
        if came.response is None:
            self._came = None
            assert came.error is not None
            try:
                raise came.error
            finally:
                del came  # the traceback of its error has this frame: that would be a reference cycle
        self._response = came.response
        if came.data is None:
            self._came = None
        return came.response.head

    async def _read_before(self, came: Came) -> bytes:
        """What was read of its body already; then b"", or the error at which reading has ended."""
        self._came = came._replace(data=b"") if came.data else None
        if came.data or came.error is None:
            return came.data or b""
        try:
            raise came.error
        finally:
            del came

    async def _next_event(self, ask: Read, deadline: Deadline) -> bytes:
        """The bytes of the next event, so that the deltas that come after them are its own."""
        if self._now:
            self._events.append(Heard(self._now, []))
            self._now = b""
        if self._failed is not None:
            failed, self._failed = self._failed, None
            raise failed
        while not self._unread:
            if self._ended:
                return self._rest()
            if self._events and self.idle is not None:
                await self.idle()
            data: bytes = await super()._done(ask, deadline)
            if self._framer is None and not self.framing:
                self._look(data)
            if self._framer is None:
                return data
            if not data:
                return self._rest()
            self._unread.extend(self._framer.events(data))
        self._now = self._unread.popleft()
        return self._now + ENDS[self.framing]

    def _look(self, start: bytes) -> None:
        """See by its first bytes how the answer is framed."""
        assert self._face is not None
        self.framing = framing_of(start, self._face.framing) or "none"
        if self.framing in ENDS:
            self._framer = FRAMINGS[self.framing](self._max_event)

    def _rest(self) -> bytes:
        """The bytes behind the last event that has ended, then b""."""
        assert self._framer is not None
        rest: bytes = self._framer.rest.take()
        if not rest:  # the end has been told: only now the bytes that no line end follows are read
            self._now = self._tail
        self._tail = rest
        return rest
