"""any-llm-sdk."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from any_llm import AnyLLM

VENV = "anyllm"
PACKAGES = ("any-llm-sdk[openai]",)
IMPORT = "from any_llm import AnyLLM"


def connect(url: str) -> tuple[Callable[[str], str], Callable[[str], Iterator[str]]]:
    client = AnyLLM.create("openai", api_key="sk-none", api_base=url)

    def chat(text: str) -> str:
        return client.completion(model="m", messages=[{"role": "user", "content": text}]).choices[0].message.content

    def stream(text: str) -> Iterator[str]:
        for event in client.completion(model="m", messages=[{"role": "user", "content": text}], stream=True):
            if event.choices and (piece := event.choices[0].delta.content):
                yield piece

    return chat, stream
