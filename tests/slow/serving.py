"""The server under the slow tests: real HTTP on loopback, in a process of its own. Standard library only.

    python tests/slow/serving.py [--port N]

Prints its port. The last message of a request is JSON: {token, fault, times, pause}. The first `times` requests of a
token are answered by the fault's script, those that follow by the right answer. GET …/figures tells what was seen.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import struct
import subprocess
import sys
import urllib.request
from collections import Counter
from pathlib import Path

from answers import Answer, event
from faults import FAULTS, FIN, RST, Asked, chunk, framed, right, stream_head

LINGER_NOT = struct.pack("ii", 1, 0)


class Figures:
    def __init__(self):
        self.attempts, self.requests, self.connections, self.open = Counter(), 0, 0, 0

    def seen(self):
        most = max(self.attempts.values(), default=1)
        return {"requests": self.requests, "connections": self.connections, "open": self.open, "most_attempts": most}


async def endless(asked):
    """A stream that goes on until somebody ends it."""
    yield stream_head(asked)
    for place in range(1_000_000):
        yield chunk(event({"choices": [{"index": 0, "delta": {"content": f"{asked.answer.token}:{place} "}}]}))
        yield asked.pause


async def scripted(script):
    for step in script:
        yield step


class Serving:
    """Answers every request by its script."""

    def __init__(self):
        self.figures = Figures()

    async def connection(self, reader, writer):
        self.figures.connections += 1
        self.figures.open += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while await self._request(reader, writer):
                pass
        self.figures.open -= 1
        writer.transport.abort()

    async def _request(self, reader, writer):
        """One request and its answer; whether the connection is kept."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        line, _, headers = head.partition("\r\n")
        if line.startswith("get"):
            writer.write(framed(200, body=json.dumps(self.figures.seen()).encode()))
            return True
        length = int(headers.partition("content-length:")[2].partition("\r\n")[0])
        body = json.loads(await reader.readexactly(length))
        return await self._play(reader, writer, self._script(body, line, headers))

    def _script(self, body, line, headers):
        self.figures.requests += 1
        if "messages" not in body:  # another API of the same provider, which is asked where this one says 404
            return scripted([framed(404)])
        content = body["messages"][-1]["content"]
        said = json.loads(content if isinstance(content, str) else content[-1]["text"])
        fault, attempt = FAULTS.get(said.get("fault")), 1
        if fault:
            self.figures.attempts[said["token"]] += 1
            attempt = self.figures.attempts[said["token"]]
        answer = Answer(said["token"], bool(body.get("tools")))
        asked = Asked(answer, body.get("stream", False), attempt, said.get("pause", 0.0))
        if said.get("endless"):
            return endless(asked)
        return scripted(fault.script(asked) if fault and attempt <= said["times"] else right(asked))

    async def _play(self, reader, writer, script):
        """Go through a script; False where its connection has ended."""
        async for step in script:
            if step in (RST, FIN):
                if step == RST:
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
                    writer.transport.abort()
                else:
                    writer.close()
                return False
            if isinstance(step, bytes):
                writer.write(step)
                await writer.drain()
            elif await _gone(reader, step):
                return False
        return True


async def _gone(reader, seconds):
    """Pause; True as soon as the client leaves. A client sends nothing while it waits for an answer."""
    try:
        async with asyncio.timeout(seconds):
            return not await reader.read(1)
    except TimeoutError:
        return False


async def serve(port, serving):
    server = await asyncio.start_server(serving.connection, "127.0.0.1", port, backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


class Process:
    """A server running as a process: python FILE --port N. `kill` is kill -9; `start` brings it back on its port."""

    def __init__(self, file=__file__):
        self.file, self.port = file, 0
        self.start()

    def start(self):
        program = [sys.executable, str(self.file), "--port", str(self.port)]
        self.process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
        said = self.process.stdout.readline()
        if not said:
            raise SystemExit(f"{Path(self.file).name} did not start; see above")
        self.port = int(said)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    def figures(self):
        with urllib.request.urlopen(f"{self.url}/figures", timeout=10) as response:
            return json.load(response)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.kill()


def run(serving):
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(parser.parse_args().port, serving))


if __name__ == "__main__":
    run(Serving())
