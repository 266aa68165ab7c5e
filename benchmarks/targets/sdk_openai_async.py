"""openai on an event loop: AsyncOpenAI."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import openai

from targets import AsyncChat, AsyncStream

VENV = "openai"
PACKAGES = ("openai",)
IMPORT = "import openai"


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[tuple[AsyncChat, AsyncStream]]:
    async with openai.AsyncOpenAI(base_url=url, api_key="sk-none", max_retries=0) as client:
        create = client.chat.completions.create

        async def chat(text: str) -> str:
            made = await create(model="m", messages=[{"role": "user", "content": text}])
            return made.choices[0].message.content or ""

        async def stream(text: str) -> AsyncIterator[str]:
            asked = [{"role": "user", "content": text}]
            async for event in await create(model="m", messages=asked, stream=True):
                if event.choices and (piece := event.choices[0].delta.content):
                    yield piece

        yield chat, stream
