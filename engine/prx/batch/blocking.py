"""Results of a batch as an ordinary iterator: the calls run on an event loop in a thread of their own.

The thread that takes results also draws rows, when the event loop wants some: so a generator of rows runs where its
caller expects it, and nothing is drawn while nobody takes results.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from queue import SimpleQueue
from typing import Any

from prx.aclient import AsyncClient
from prx.batch.pool import Pool
from prx.batch.results import BatchResult
from prx.batch.rows import Terms
from prx.batch.stream import Results, check_several
from prx.errors import ConfigError, frameless
from prx.session import Session

_AT_ONCE = 16  # rows that are handed over together, which costs less than one by one
_DRAW_SECONDS = 0.002  # after which those that were drawn are handed over, however few they are
_WANTED, _ENDED = object(), object()


class _Calls:
    """The thread of the calls. said: results, _WANTED where rows are to be drawn, and _ENDED or an exception at the end."""

    def __init__(self, session: Session, terms: Terms) -> None:
        self._session, self._terms = session, terms
        self.said: SimpleQueue[Any] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._answer: asyncio.Future[list[Any]] | None = None
        self._thread = threading.Thread(target=self._run, name="prx batch", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        end: Any = _ENDED
        try:
            asyncio.run(self._main())
        except asyncio.CancelledError:
            pass
        except BaseException as error:
            end = error
        self.said.put(end)

    async def _main(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        async with (
            AsyncClient.sharing(self._session) as client,
            Results(Pool(client, self._terms), self._rows()) as results,
        ):
            async for result in results:
                self.said.put(result)

    async def _rows(self) -> AsyncIterator[Any]:
        while True:
            self._answer = asyncio.get_running_loop().create_future()
            self.said.put(_WANTED)
            rows = await self._answer
            if not rows:
                return
            for row in rows:
                yield row

    def give(self, rows: list[Any]) -> None:
        """Rows that were wanted; none at the end."""
        assert self._loop is not None
        assert self._answer is not None
        self._loop.call_soon_threadsafe(self._answer.set_result, rows)

    def stop(self) -> None:
        """End the calls that are under way."""
        if self._loop is not None and self._task is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: all is over
                self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()


def results(session: Session, rows: Iterable[Any], terms: Terms) -> Iterator[BatchResult]:
    """The results of rows. Closing the iterator ends the calls that are under way."""
    source = iter(rows)
    calls = _Calls(session, terms)
    try:
        while True:
            said = calls.said.get()
            if said is _WANTED:
                calls.give(_drawn(source))
            elif said is _ENDED:
                return
            elif isinstance(said, BaseException):
                raise frameless(said)  # type: ignore[arg-type]
            else:
                yield said
    finally:
        calls.stop()


def iterable(rows: Any) -> Iterable[Any]:
    """The rows, if an ordinary loop can draw them. Raises ConfigError."""
    check_several(rows)
    if not isinstance(rows, Iterable):
        raise ConfigError("rows come asynchronously, which Client cannot draw", hint="Use AsyncClient.")
    return rows


def _drawn(source: Iterator[Any]) -> list[Any]:
    rows: list[Any] = []
    until = time.monotonic() + _DRAW_SECONDS
    for row in source:
        rows.append(row)
        if len(rows) == _AT_ONCE or time.monotonic() >= until:
            break
    return rows
