"""asyncio's streams, HTTP by hand, json. Reads what benchmarks/server.py sends and nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from targets import AsyncChat, AsyncStream

VENV = ""
IMPORT = "import asyncio, json"
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[tuple[AsyncChat, AsyncStream]]:
    asking = Asking(url)
    try:
        yield asking.chat, asking.stream
    finally:
        for _, writer in asking.idle:
            writer.close()


class Asking:
    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.place = (parts.hostname, parts.port)
        self.head = (
            f"POST {parts.path}/chat/completions HTTP/1.1\r\nhost: {parts.netloc}\r\nauthorization: Bearer sk-none\r\n"
            "content-type: application/json\r\ncontent-length: "
        ).encode()
        self.idle: list[Connection] = []

    async def chat(self, text: str) -> str:
        connection, head = await self._send(text, stream=False)
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body = await connection[0].readexactly(length)
        self.idle.append(connection)
        return json.loads(body)["choices"][0]["message"]["content"]

    async def stream(self, text: str) -> AsyncIterator[str]:
        connection, _ = await self._send(text, stream=True)
        async for line in lines(connection[0]):
            if line.startswith(b"data: {"):
                choices = json.loads(line[6:])["choices"]
                if choices and (piece := choices[0]["delta"].get("content")):
                    yield piece
        self.idle.append(connection)

    async def _send(self, text: str, *, stream: bool) -> tuple[Connection, bytes]:
        connection = self.idle.pop() if self.idle else await asyncio.open_connection(*self.place)
        reader, writer = connection
        asked = {"model": "m", "messages": [{"role": "user", "content": text}], "stream": stream}
        body = json.dumps(asked).encode()
        writer.write(b"%s%d\r\n\r\n%s" % (self.head, len(body), body))
        return connection, await reader.readuntil(b"\r\n\r\n")


async def lines(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The lines of a chunked body. A line that has not come whole waits for its rest."""
    rest = b""
    while length := int(await reader.readuntil(b"\r\n"), 16):
        *whole, rest = (rest + (await reader.readexactly(length + 2))[:-2]).split(b"\n")
        for line in whole:
            yield line
    await reader.readexactly(2)
