"""urllib3 and json, the shortest way."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import urllib3

from targets.floor_httpclient import HEADERS, pieces

VENV = ""
IMPORT = "import json, urllib3"


def connect(url: str) -> tuple[Callable[[str], str], Callable[[str], Iterator[str]]]:
    pool = urllib3.PoolManager(maxsize=256)

    def send(text: str, *, stream: bool) -> Any:
        asked = {"model": "m", "messages": [{"role": "user", "content": text}], "stream": stream}
        return pool.urlopen(
            "POST", f"{url}/chat/completions", body=json.dumps(asked), headers=HEADERS, preload_content=not stream
        )

    def chat(text: str) -> str:
        return json.loads(send(text, stream=False).data)["choices"][0]["message"]["content"]

    def stream(text: str) -> Iterator[str]:
        response = send(text, stream=True)
        yield from pieces(response.read1)
        response.release_conn()

    return chat, stream
