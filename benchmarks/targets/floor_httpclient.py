"""http.client and json, the shortest way."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPResponse
from urllib.parse import urlsplit

from targets.floor_socket import events

VENV = ""
IMPORT = "import json, http.client"
HEADERS = {"authorization": "Bearer sk-none", "content-type": "application/json"}


def connect(url: str) -> tuple[Callable[[str], str], Callable[[str], Iterator[str]]]:
    parts, kept = urlsplit(url), threading.local()

    def send(text: str, *, stream: bool) -> HTTPResponse:
        if not hasattr(kept, "connection"):
            kept.connection = HTTPConnection(parts.netloc)
        asked = {"model": "m", "messages": [{"role": "user", "content": text}], "stream": stream}
        kept.connection.request("POST", f"{parts.path}/chat/completions", json.dumps(asked), HEADERS)
        return kept.connection.getresponse()

    def chat(text: str) -> str:
        return json.loads(send(text, stream=False).read())["choices"][0]["message"]["content"]

    def stream(text: str) -> Iterator[str]:
        return pieces(send(text, stream=True).read1)

    return chat, stream


def pieces(read1: Callable[[int], bytes]) -> Iterator[str]:
    """The texts of a stream that is read with `read1`."""
    for data in events(iter(lambda: read1(1 << 16), b"")):
        choices = json.loads(data)["choices"]
        if choices and (piece := choices[0]["delta"].get("content")):
            yield piece
