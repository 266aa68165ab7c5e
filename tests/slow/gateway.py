"""`prx serve` under the slow tests: the process, a caller that knows every face, and what of an answer is wrong.

The server behind it is serving.py; everything in an answer follows from the token in its prompt, see answers.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from watching import PAGE

COMMAND = [sys.executable, "-m", "prx"]
KEY, PROVIDER_KEY = "caller-key-5d1c", "sk-load-0123456789abcdef"
HEADERS = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
START = 30.0


class Face(NamedTuple):
    """at: the path. body: of a prompt. whole, piece: the text of a whole answer, of an event. ends, fails: of an event."""

    at: str
    body: Callable[[str], dict[str, Any]]
    whole: Callable[[Any], str]
    piece: Callable[[Any], str]
    ends: Callable[[Any], bool]
    fails: Callable[[Any], bool]
    streams_at: str = ""


def _messages(prompt):
    return {"messages": [{"role": "user", "content": prompt}]}


def _parts(answer):
    found = [part for each in answer.get("candidates", ()) for part in each.get("content", {}).get("parts", ())]
    return "".join(part.get("text", "") for part in found)


def _has_error(event):
    return isinstance(event, dict) and "error" in event


def _of_type(*names):
    return lambda event: isinstance(event, dict) and event.get("type") in names


FACES = {
    "chat": Face(
        "/v1/chat/completions",
        _messages,
        lambda answer: answer["choices"][0]["message"]["content"],
        lambda event: "".join(each["delta"].get("content") or "" for each in event.get("choices", ())),
        lambda event: event == "[DONE]",
        _has_error,
    ),
    "responses": Face(
        "/v1/responses",
        lambda prompt: {"input": prompt},
        lambda answer: "".join(part["text"] for item in answer["output"] for part in item["content"]),
        lambda event: event["delta"] if event["type"] == "response.output_text.delta" else "",
        _of_type("response.completed"),
        lambda event: _of_type("response.failed", "error")(event) or (_has_error(event) and "type" not in event),
    ),
    "messages": Face(
        "/v1/messages",
        lambda prompt: {"max_tokens": 9999, **_messages(prompt)},
        lambda answer: "".join(part["text"] for part in answer["content"]),
        lambda event: event["delta"].get("text", "") if event["type"] == "content_block_delta" else "",
        _of_type("message_stop"),
        _of_type("error"),
    ),
    "gemini": Face(
        "/v1beta/models/{model}:generateContent",
        lambda prompt: {"contents": [{"role": "user", "parts": [{"text": prompt}]}]},
        _parts,
        _parts,
        lambda event: any("finishReason" in each for each in event.get("candidates", ())),
        _has_error,
        streams_at="/v1beta/models/{model}:streamGenerateContent?alt=sse",
    ),
    "ollama": Face(
        "/api/chat",
        _messages,
        lambda answer: answer["message"]["content"],
        lambda event: event.get("message", {}).get("content", ""),
        lambda event: event.get("done") is True,
        _has_error,
    ),
}


class Asked(NamedTuple):
    """A call: its face, whether it streams, and the model that it names."""

    face: Face
    stream: bool
    model: str

    def request(self, said):
        """(path, body) for what the server behind is told to do."""
        body = self.face.body(json.dumps(said)) | {"model": self.model}
        if not self.face.streams_at:
            body["stream"] = self.stream
        at = self.face.streams_at if self.stream and self.face.streams_at else self.face.at
        return at.replace("{model}", self.model), json.dumps(body).encode()


# ------------------------------------------------------------------ the process


class Gateway:
    """prx serve as a process, with this configuration."""

    def __init__(self, folder, config, workers=1):
        self.folder, self.config = Path(folder), Path(folder) / "config.toml"
        self.port, self.workers = free_port(), workers
        self.log = self.folder / f"log-{self.port}"
        if not self.config.exists():
            self.config.write_text(config)
        self.start()

    def start(self):
        (self.folder / "providers.d").mkdir(exist_ok=True)
        arguments = ["serve", "--config", self.config, "--providers", self.folder / "providers.d", "--port", self.port]
        arguments += ["--workers", self.workers]
        env = {**os.environ, "HOME": str(self.folder), "CALLER_KEY": KEY, "LOAD_KEY": PROVIDER_KEY}
        with self.log.open("ab") as log:
            command = [*COMMAND, *map(str, arguments)]
            self.process = subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=self.folder)
        until = time.monotonic() + START
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"prx serve did not start:\n{self.log.read_text()}")
            time.sleep(0.05)

    def is_ready(self):
        with contextlib.suppress(OSError):
            return self.get("/ready")["status"] == "ready"
        return False

    def get(self, path):
        return json.loads(self.text(path))

    def text(self, path):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=HEADERS)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read().decode()

    def reload(self):
        self.process.send_signal(signal.SIGHUP)

    def end(self, seconds=60):
        """SIGTERM, and wait; the exit code."""
        self.process.terminate()
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return f"it ran on for {seconds} s"

    def resident(self):
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * PAGE

    def descriptors(self):
        return sum(1 for _ in Path(f"/proc/{self.process.pid}/fd").iterdir())

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.process.poll() is None:
            self.end(10)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


# ------------------------------------------------------------------ a caller's HTTP


class BrokenError(Exception):
    """What came is no HTTP."""


class Connection:
    """One connection of a caller, for one call after the other. The body's bytes come as they arrive."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.status, self.headers, self.kept = 0, {}, False

    @classmethod
    async def to(cls, port):
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 24))

    async def ask(self, path, body, **headers):
        lines = [f"POST {path} HTTP/1.1", "host: localhost", f"content-length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in (HEADERS | headers).items()]
        self.writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        await self.writer.drain()

    async def head(self):
        """Read the status and the headers."""
        text = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = text.strip().split("\r\n")
        self.status = int(first.split()[1])
        rows = [line.partition(":") for line in lines]
        self.headers = {name.lower(): value.strip() for name, _, value in rows}

    async def body(self):
        """Each piece of the body; the body must end as its framing says."""
        self.kept = False
        if "content-length" in self.headers:
            yield await self.reader.readexactly(int(self.headers["content-length"]))
        elif self.headers.get("transfer-encoding") == "chunked":
            while size := int((await self.reader.readuntil(b"\r\n")).strip() or b"x", 16):
                yield (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readuntil(b"\r\n")
        else:
            raise BrokenError(f"no framing: {self.headers}")
        self.kept = self.headers.get("connection", "").lower() != "close"

    def close(self, *, reset=False):
        self.kept = False
        if reset:
            self.writer.transport.abort()
        else:
            self.writer.close()


class Events:
    """The events of a stream, fed with its bytes."""

    def __init__(self):
        self._left = b""
        self.all = []

    def feed(self, data):
        """The events that are whole by now: values of JSON, or the word of the end."""
        *lines, self._left = (self._left + data).split(b"\n")
        texts = [line.removeprefix(b"data: ").strip() for line in lines]
        found = [text for text in texts if text and not text.startswith((b":", b"event:"))]
        events = [text.decode() if text == b"[DONE]" else json.loads(text) for text in found]
        self.all += events
        return events
