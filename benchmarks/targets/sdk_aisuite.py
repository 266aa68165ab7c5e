"""aisuite."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import aisuite

VENV = "aisuite"
PACKAGES = ("aisuite[openai]",)
IMPORT = "import aisuite"


def connect(url: str) -> tuple[Callable[[str], str], Callable[[str], Iterator[str]]]:
    client = aisuite.Client({"openai": {"api_key": "sk-none", "base_url": url, "max_retries": 0}})

    def create(text: str, **more: bool) -> object:
        return client.chat.completions.create(model="openai:m", messages=[{"role": "user", "content": text}], **more)

    def chat(text: str) -> str:
        return create(text).choices[0].message.content

    def stream(text: str) -> Iterator[str]:
        for event in create(text, stream=True):
            if event.choices and (piece := event.choices[0].delta.content):
                yield piece

    return chat, stream
