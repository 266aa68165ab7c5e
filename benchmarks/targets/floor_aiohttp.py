"""The floor of asynchronous clients: aiohttp, whose body is read by lines, and json."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from targets import AsyncChat, AsyncStream

VENV = "aiohttp"
PACKAGES = ("aiohttp",)
IMPORT = "import json, aiohttp"
HEADERS = {"authorization": "Bearer sk-none"}


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[tuple[AsyncChat, AsyncStream]]:
    # limit 0: by itself it opens no more than 100 connections, and the other streams would wait for them.
    async with aiohttp.ClientSession(headers=HEADERS, connector=aiohttp.TCPConnector(limit=0)) as session:

        def post(text: str, *, stream: bool) -> aiohttp.client._RequestContextManager:
            asked = {"model": "m", "messages": [{"role": "user", "content": text}], "stream": stream}
            return session.post(f"{url}/chat/completions", json=asked)

        async def chat(text: str) -> str:
            async with post(text, stream=False) as response:
                return (await response.json())["choices"][0]["message"]["content"]

        async def stream(text: str) -> AsyncIterator[str]:
            async with post(text, stream=True) as response:
                async for line in response.content:
                    if line.startswith(b"data: {"):
                        choices = json.loads(line[6:])["choices"]
                        if choices and (piece := choices[0]["delta"].get("content")):
                            yield piece

        yield chat, stream
