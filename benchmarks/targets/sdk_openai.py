"""openai."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import openai

VENV = "openai"
PACKAGES = ("openai",)
IMPORT = "import openai"


def connect(url: str) -> tuple[Callable[[str], str], Callable[[str], Iterator[str]]]:
    client = openai.OpenAI(base_url=url, api_key="sk-none", max_retries=0)

    def chat(text: str) -> str:
        made = client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])
        return made.choices[0].message.content or ""

    def stream(text: str) -> Iterator[str]:
        asked = [{"role": "user", "content": text}]
        for event in client.chat.completions.create(model="m", messages=asked, stream=True):
            if event.choices and (piece := event.choices[0].delta.content):
                yield piece

    return chat, stream
