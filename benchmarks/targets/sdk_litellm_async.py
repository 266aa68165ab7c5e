"""litellm on an event loop: acompletion. Without the price list that it would fetch on import."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm

from targets import AsyncChat, AsyncStream

VENV = "litellm"
PACKAGES = ("litellm",)
IMPORT = "import os; os.environ['LITELLM_LOCAL_MODEL_COST_MAP'] = 'True'; import litellm"


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[tuple[AsyncChat, AsyncStream]]:
    to = {"model": "openai/m", "api_base": url, "api_key": "sk-none", "max_retries": 0}

    async def chat(text: str) -> str:
        made = await litellm.acompletion(messages=[{"role": "user", "content": text}], **to)
        return made.choices[0].message.content

    async def stream(text: str) -> AsyncIterator[str]:
        asked = [{"role": "user", "content": text}]
        async for event in await litellm.acompletion(messages=asked, stream=True, **to):
            if event.choices and (piece := event.choices[0].delta.content):
                yield piece

    yield chat, stream
