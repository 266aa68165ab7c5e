"""The floor: a raw socket, HTTP by hand, json. Reads what benchmarks/server.py sends and nothing else."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

VENV = ""
IMPORT = "import json, socket"


def connect(url: str) -> tuple[Callable[[str], str], Callable[[str], Iterator[str]]]:
    asking = Asking(url)
    return asking.chat, asking.stream


def build(messages: list[dict[str, Any]], tools: list[dict[str, Any]], _provider: str) -> Callable[[], bytes]:
    return lambda: json.dumps({"model": "m", "messages": messages, "tools": tools, "stream": False}).encode()


class Asking:
    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.place = (parts.hostname, parts.port)
        self.head = (
            f"POST {parts.path}/chat/completions HTTP/1.1\r\nhost: {parts.netloc}\r\nauthorization: Bearer sk-none\r\n"
            "content-type: application/json\r\ncontent-length: "
        ).encode()
        self.kept = threading.local()

    def chat(self, text: str) -> str:
        sock, head, body = self._send(text, stream=False)
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        while len(body) < length:
            body += sock.recv(1 << 16)
        return json.loads(body)["choices"][0]["message"]["content"]

    def stream(self, text: str) -> Iterator[str]:
        sock, head, rest = self._send(text, stream=True)
        pieces = self._chunked(sock, rest) if b"chunked" in head else self._till_closed(sock, rest)
        for data in events(pieces):
            choices = json.loads(data)["choices"]
            if choices and (piece := choices[0]["delta"].get("content")):
                yield piece

    def _send(self, text: str, *, stream: bool) -> tuple[socket.socket, bytes, bytes]:
        sock = getattr(self.kept, "sock", None)
        if sock is None:
            sock = self.kept.sock = socket.create_connection(self.place)
        asked = {"model": "m", "messages": [{"role": "user", "content": text}], "stream": stream}
        body = json.dumps(asked).encode()
        sock.sendall(b"%s%d\r\n\r\n%s" % (self.head, len(body), body))
        data = sock.recv(1 << 16)
        while b"\r\n\r\n" not in data:
            data += sock.recv(1 << 16)
        head, _, rest = data.partition(b"\r\n\r\n")
        return sock, head, rest

    def _chunked(self, sock: socket.socket, data: bytes) -> Iterator[bytes]:
        """What the chunks hold that have come, joined; a chunk that has not come whole waits for its rest."""
        while True:
            whole, at = [], 0
            while (line := data.find(b"\r\n", at)) > 0:
                length = int(data[at:line], 16)
                if line + 4 + length > len(data):
                    break
                if not length:
                    yield b"".join(whole)
                    return
                whole.append(data[line + 2 : line + 2 + length])
                at = line + 4 + length
            if whole:
                yield b"".join(whole)
            data = data[at:] + sock.recv(1 << 16)

    def _till_closed(self, sock: socket.socket, data: bytes) -> Iterator[bytes]:
        yield data
        while data := sock.recv(1 << 16):
            yield data
        sock.close()
        self.kept.sock = None


def events(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The data of each event, of pieces cut anywhere. All pieces are read, so that the connection can be used again."""
    waiting: list[bytes] = []
    for piece in pieces:
        waiting.append(piece)
        if b"\n\n" in piece or b"\n\n" in b"".join(waiting[-2:]):
            *whole, rest = b"".join(waiting).split(b"\n\n")
            waiting = [rest]
            yield from (each[6:] for each in whole if each != b"data: [DONE]")
