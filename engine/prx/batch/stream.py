"""Results of a batch as an asynchronous iterator, which draws a row only when there is room for it.

Rows are worked on by at most `in_flight` tasks. A row that has been drawn and whose result has not been taken yet holds
a place, and there are so many places and no more: who takes no results holds everything back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any, Self

from prx.batch.pool import Pool
from prx.batch.results import BatchResult
from prx.batch.rows import Row
from prx.errors import ConfigError

_PLACES = 2  # for each row in flight, so that work goes on while results are taken
_NONE = object()
_PLACES_IN_ORDER = 8  # there later results wait for an earlier one


def check_several(rows: Any) -> None:
    """Raise ConfigError for rows that are one, or none that can be drawn."""
    if isinstance(rows, str | bytes | dict) or not isinstance(rows, Iterable | AsyncIterable):
        raise ConfigError("rows are several: a list, a generator, or another iterable of texts or mappings")


class Results:
    """The results of rows: of Rows, or of what a row may be given as. `aclose` ends the calls that are under way."""

    def __init__(self, pool: Pool, rows: Iterable[Any] | AsyncIterable[Any]) -> None:
        check_several(rows)
        self._pool, self._terms = pool, pool.terms
        self._rows: Iterator[Any] | None = iter(rows) if isinstance(rows, Iterable) else None
        self._later: AsyncIterator[Any] | None = None if isinstance(rows, Iterable) else aiter(rows)
        self._drawing = asyncio.Lock()
        self._places = self._terms.in_flight * (_PLACES_IN_ORDER if self._terms.ordered else _PLACES)
        self._space, self._news = asyncio.Event(), asyncio.Event()
        self._in_order: dict[int, BatchResult] = {}
        self._ready: deque[BatchResult] = deque()
        self._drawn = self._taken = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._exhausted = self._closed = False
        self._failed: BaseException | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> BatchResult:
        if not (self._drawn or self._tasks or self._exhausted or self._closed):
            self._start_one()
        while not self._ready:
            if self._failed is not None:
                failed, self._failed = self._failed, None
                await self.aclose()
                raise failed
            if self._closed or (self._exhausted and self._taken == self._drawn):
                raise StopAsyncIteration
            self._news.clear()
            try:
                await self._news.wait()
            except BaseException:  # the task that waits was cancelled: nobody takes what comes
                await self.aclose()
                raise
        self._taken += 1
        self._space.set()
        return self._ready.popleft()

    async def aclose(self) -> None:
        """End the calls that are under way. What has come and was not taken is dropped."""
        self._closed = True
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._ready.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    # -------------------------------------------------------------- tasks

    def _start_one(self) -> None:
        task = asyncio.get_running_loop().create_task(self._work())
        self._tasks.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._failed = self._failed or task.exception()
            self._exhausted = True
        self._news.set()

    async def _work(self) -> None:
        """Take one row after the other, until there are none."""
        while not self._exhausted:
            while self._drawn - self._taken >= self._places:
                self._space.clear()
                await self._space.wait()
            async with self._drawing:
                if self._exhausted or self._drawn - self._taken >= self._places:
                    continue
                try:
                    given = await self._draw()
                except Exception as error:  # kept at once: the other tasks find that there are no more rows
                    self._failed, self._exhausted = self._failed or error, True
                    self._news.set()
                    return
                if given is _NONE:
                    self._exhausted = True
                    self._news.set()
                    return
                index = self._drawn
                self._drawn += 1
            if len(self._tasks) < self._terms.in_flight:
                self._start_one()
            made = type(given) is Row
            self._put(index, await (self._pool.ask(given) if made else self._pool.result(index, given)))

    async def _draw(self) -> Any:
        """The next row, _NONE where there is none."""
        return next(self._rows, _NONE) if self._rows is not None else await anext(self._later, _NONE)  # type: ignore[arg-type]

    def _put(self, index: int, result: BatchResult) -> None:
        if not self._terms.ordered:
            self._ready.append(result)
        else:
            self._in_order[index] = result
            while (following := self._drawn_next()) in self._in_order:
                self._ready.append(self._in_order.pop(following))
        self._news.set()

    def _drawn_next(self) -> int:
        return self._taken + len(self._ready)
