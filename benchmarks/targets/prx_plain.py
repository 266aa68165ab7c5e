"""prx, as it is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import prx

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
