"""prx, as it is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import prx
from prx.core import request

VENV = ""
IMPORT = "import prx"


def connect(url: str, **options: Any) -> tuple[Callable[[str], str], Callable[[str], Iterator[str]]]:
    client = prx.Client({"providers": {"compatible": {"api_url": url, "api_key": "sk-none"}}}, env={})

    def chat(text: str) -> str:
        return client.chat(text, "compatible/m", **options).content

    def stream(text: str) -> Iterator[str]:
        with client.stream(text, "compatible/m", **options) as deltas:
            yield from (delta.content for delta in deltas if delta.content)

    return chat, stream


def build(messages: list[dict[str, Any]], tools: list[dict[str, Any]], provider: str) -> Callable[[], bytes]:
    client = prx.Client({"providers": {provider: {"api_url": "http://127.0.0.1/v1", "api_key": "sk-none"}}}, env={})

    def body() -> bytes:
        account, call = client.plan(messages, f"{provider}/m", tools=tools)
        return request.build(account.definition.spec(call.model), call, account.target).body

    return body
