"""requests and json, the shortest way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import requests

from targets.floor_httpclient import HEADERS, pieces

VENV = ""
IMPORT = "import requests"


def connect(url: str) -> tuple[Callable[[str], str], Callable[[str], Iterator[str]]]:
    kept = threading.local()

    def send(text: str, *, stream: bool) -> requests.Response:
        if not hasattr(kept, "session"):
            kept.session = requests.Session()
        asked = {"model": "m", "messages": [{"role": "user", "content": text}], "stream": stream}
        return kept.session.post(f"{url}/chat/completions", json=asked, headers=HEADERS, stream=stream, timeout=60)

    def chat(text: str) -> str:
        return send(text, stream=False).json()["choices"][0]["message"]["content"]

    def stream(text: str) -> Iterator[str]:
        with send(text, stream=True) as response:
            yield from pieces(response.raw.read1)

    return chat, stream
