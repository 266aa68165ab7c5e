"""prx on an event loop: AsyncClient."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import prx
from targets import AsyncChat, AsyncStream

VENV = ""
IMPORT = "import prx"


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[tuple[AsyncChat, AsyncStream]]:
    settings = {"providers": {"compatible": {"api_url": url, "api_key": "sk-none"}}}
    async with prx.AsyncClient(settings, env={}) as client:

        async def chat(text: str) -> str:
            return (await client.chat(text, "compatible/m")).content

        async def stream(text: str) -> AsyncIterator[str]:
            async with client.stream(text, "compatible/m") as deltas:
                async for delta in deltas:
                    if delta.content:
                        yield delta.content

        yield chat, stream
