"""As worker.py, for asynchronous clients, all on one event loop: python benchmarks/worker_async.py TARGET WHAT URL.

It is a program of its own, so that a process of a blocking client does not import asyncio.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from targets import AsyncChat, AsyncStream
from worker import TEXT, must

STREAMS, EVENTS = 256, 20
Connected = contextlib.AbstractAsyncContextManager[tuple[AsyncChat, AsyncStream]]


class Asking:
    """A target, connected to what the server shall do: async with asking("events-50") as (chat, stream)."""

    def __init__(self, target: Any, url: str) -> None:
        self.target, self.url = target, url

    def __call__(self, plan: str) -> Connected:
        return self.target.connect(f"{self.url}/{plan}/v1")


async def seconds(function: Callable[[], Awaitable[object]]) -> float:
    """CPU seconds of this process until the result is there."""
    started = time.process_time()
    await function()
    return time.process_time() - started


async def deltas(stream: AsyncStream) -> int:
    count = 0
    async for _ in stream(TEXT):
        count += 1
    return count


async def call(asking: Asking) -> float:
    """Microseconds of a call on a connection that is kept."""
    async with asking("events-50") as (chat, _):

        async def some(number: int) -> None:
            for _ in range(number):
                must(await chat(TEXT), " benchmark" * 50)

        await some(20)
        return await seconds(lambda: some(300)) / 300 * 1e6


async def event(asking: Asking) -> float:
    """Microseconds of an event, in a stream of 5,000."""
    async with asking("events-5000") as (_, stream):

        async def whole() -> None:
            must(await deltas(stream), 5000)

        await whole()
        return await seconds(whole) / 5000 * 1e6


async def parallel(asking: Asking) -> float:
    """Microseconds of a delta where 256 streams run at once, each 20 events, a tenth of a second apart; none may be lost."""
    counts: list[int] = []
    async with asking("events-5") as (_, stream):
        must(await deltas(stream), 5)
    async with asking(f"events-{EVENTS},pause-100000") as (_, stream):

        async def together() -> None:
            counts.extend(await asyncio.gather(*(deltas(stream) for _ in range(STREAMS))))

        taken = await seconds(together)
    must(f"{sum(counts)} deltas", f"{STREAMS * EVENTS} deltas")
    return taken / (STREAMS * EVENTS) * 1e6


MEASURED: dict[str, Callable[[Asking], Awaitable[float]]] = {
    "async-call": call,
    "async-event": event,
    "async-256": parallel,
}


async def main(target: str, what: str, url: str) -> None:
    value = await MEASURED[what](Asking(importlib.import_module(f"targets.{target}"), url))
    sys.stdout.write(json.dumps({"value": value}) + "\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
