"""langchain-openai."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from langchain_openai import ChatOpenAI

VENV = "langchain"
PACKAGES = ("langchain-openai",)
IMPORT = "from langchain_openai import ChatOpenAI"


def connect(url: str) -> tuple[Callable[[str], str], Callable[[str], Iterator[str]]]:
    model = ChatOpenAI(model="m", base_url=url, api_key="sk-none", max_retries=0)

    def chat(text: str) -> str:
        return model.invoke(text).content

    def stream(text: str) -> Iterator[str]:
        return (event.content for event in model.stream(text) if event.content)

    return chat, stream
