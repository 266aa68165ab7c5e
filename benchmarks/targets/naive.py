"""prx as one would write it first: requests, sseclient-py as its page shows it, jmespath.search on each event."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator

import jmespath
import requests
import sseclient

from targets.floor_httpclient import HEADERS

VENV = ""
IMPORT = "import json, jmespath, requests, sseclient"


def connect(url: str) -> tuple[Callable[[str], str], Callable[[str], Iterator[str]]]:
    kept = threading.local()

    def send(text: str, *, stream: bool) -> requests.Response:
        if not hasattr(kept, "session"):
            kept.session = requests.Session()
        asked = {"model": "m", "messages": [{"role": "user", "content": text}], "stream": stream}
        return kept.session.post(f"{url}/chat/completions", json=asked, headers=HEADERS, stream=stream, timeout=60)

    def chat(text: str) -> str:
        return jmespath.search("choices[0].message.content", send(text, stream=False).json())

    def stream(text: str) -> Iterator[str]:
        with send(text, stream=True) as response:
            for event in sseclient.SSEClient(response).events():
                if event.data == "[DONE]":
                    return
                if piece := jmespath.search("choices[0].delta.content", json.loads(event.data)):
                    yield piece

    return chat, stream
