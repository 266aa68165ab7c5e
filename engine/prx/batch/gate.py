"""The gate of one account on one event loop: calls pass it in their order, each when the account's Limiter lets it."""

from __future__ import annotations

import asyncio
from collections import deque

from prx.batch.limiter import Cost, Limiter

_LOOK = 0.25  # seconds after which it is looked again: another thread's call may have ended, or the rate have changed


class Gate:
    """Calls that wait for their turn, the first one first; one timer serves all of them."""

    def __init__(self, limiter: Limiter) -> None:
        self.limiter = limiter
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[asyncio.Future[None], Cost]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def enter(self, cost: Cost) -> None:
        """Wait until a request may begin."""
        if not self._waiting and self.limiter.enter(cost) == 0:
            return
        turn = self._loop.create_future()
        self._waiting.append((turn, cost))
        self._let_in()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # its turn had come in the very moment
                self.leave(cost)
            raise

    def leave(self, cost: Cost, used: Cost | None = None) -> None:
        """A call has ended; the next one may have its turn."""
        self.limiter.leave(cost, used)
        if self._waiting:
            self._let_in()

    def _let_in(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            turn, cost = self._waiting[0]
            if not turn.done():
                seconds = self.limiter.enter(cost)
                if seconds:
                    self._timer = self._loop.call_later(min(seconds, _LOOK), self._let_in)
                    return
                turn.set_result(None)
            self._waiting.popleft()
