"""An AsyncClient that is called as a Client: so that one test can ask the same of both."""

from __future__ import annotations

import asyncio
from typing import ClassVar

import prx


class AsyncAsBlocking:
    """Has a loop of its own, which runs while a call does."""

    made: ClassVar[list[AsyncAsBlocking]] = []

    def __init__(self, *args, **kwargs):
        self.loop = asyncio.new_event_loop()
        self.made.append(self)
        self.api = prx.AsyncClient(*args, **kwargs)

    def __getattr__(self, name):
        return getattr(self.api, name)

    def chat(self, *args, **kwargs):
        return self.loop.run_until_complete(self.api.chat(*args, **kwargs))

    def models(self, *args, **kwargs):
        return self.loop.run_until_complete(self.api.models(*args, **kwargs))

    def stream(self, *args, **kwargs):
        return StreamAsBlocking(self.loop, self.api.stream(*args, **kwargs))

    def close(self):
        if not self.loop.is_closed():
            self.loop.run_until_complete(self.api.aclose())
            self.loop.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    @classmethod
    def close_all(cls):
        while cls.made:
            cls.made.pop().close()


class StreamAsBlocking:
    def __init__(self, loop, stream):
        self.loop, self.stream = loop, stream

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def __iter__(self):
        return self

    def __next__(self):
        try:
            return self.loop.run_until_complete(self.stream.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None

    def __enter__(self):
        self.loop.run_until_complete(self.stream.__aenter__())
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        self.loop.run_until_complete(self._close())

    async def _close(self):
        await self.stream.aclose()
        await asyncio.sleep(0)  # asyncio closes a connection in its loop's next round
