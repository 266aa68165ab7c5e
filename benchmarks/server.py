"""The server that every target asks: real HTTP on loopback, in a process of its own. Standard library only.

    python benchmarks/server.py

Prints its port. What it does is said in the path, /NAME-VALUE,NAME-VALUE…/v1/chat/completions:
    events  how many deltas a stream has (50)
    pause   microseconds between two of them (0: all at once)
    clock   1: the text of each delta is this machine's monotonic clock, in nanoseconds
    body    chunked, or close: a body that ends with its connection; or both: chunked, and closed all the same
    vary    1: the events differ in more than their text: a time that goes on, a padding of another length in each
    tools   1: the deltas are pieces of a tool call's arguments
    size    bytes of the text of an event, which is sent in `pieces` pieces (1)
GET /connections tells how many there have been. A path that ends in /messages is answered in Anthropic's dialect.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import json
import sys
import time
from typing import Any, NamedTuple

WORD = " benchmark"
CHUNKED, CLOSE = b"transfer-encoding: chunked\r\n", b"connection: close\r\n"
HEADERS = {"chunked": CHUNKED, "close": CLOSE, "both": CHUNKED + CLOSE}
NAME = "chatcmpl-to-be-numbered"  # in whole answers, of which each has another one, as those of real servers have
NUMBERS = itertools.count()
CALL = {"id": "call_1", "type": "function", "function": {"name": "note", "arguments": '{"numbers": ['}}
USAGE = {"prompt_tokens": 12, "completion_tokens": 50, "total_tokens": 62}
END = b"data: [DONE]\n\n"
AT_ONCE = 1 << 16


class Plan(NamedTuple):
    """What a path asks for."""

    events: int = 50
    pause: int = 0
    clock: int = 0
    body: str = "chunked"
    vary: int = 0
    tools: int = 0
    size: int = 0
    pieces: int = 1

    @property
    def head(self) -> bytes:
        return b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n" + HEADERS[self.body] + b"\r\n"

    def framed(self, data: bytes) -> bytes:
        return data if self.body == "close" else b"%x\r\n%s\r\n" % (len(data), data)

    def delta(self, place: int) -> dict[str, Any]:
        """No two neighbours say the same: some clients take that for a model that has lost its way."""
        if self.tools:
            return {
                "tool_calls": [{"index": 0, **(CALL if place == 0 else {"function": {"arguments": f" {place % 10},"}})}]
            }
        return {"content": f" {time.monotonic_ns()}" if self.clock else "x" * self.size or f"{WORD}{place % 10}"}

    def more(self, place: int) -> dict[str, Any]:
        return {"created": 1 + place // 50, "padding": "x" * (place * 7 % 13)} if self.vary else {}


@functools.cache
def plan(path: str) -> Plan:
    words = dict(word.split("-", 1) for word in path.strip("/").split("/")[0].split(",") if "-" in word)
    return Plan(**{name: value if name == "body" else int(value) for name, value in words.items()})


def event(delta: dict[str, Any], reason: str | None = None, usage: dict[str, int] | None = None, **more: Any) -> bytes:
    choices = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]
    whole: dict[str, Any] = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    whole |= {"choices": choices, **more}
    return b"data: " + json.dumps({**whole, **({"usage": usage} if usage else {})}).encode() + b"\n\n"


def named(name: str, **more: Any) -> bytes:
    """An event of Anthropic's dialect."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), json.dumps({"type": name, **more}).encode())


class Chat:
    """The events of a stream in the dialect of OpenAI's chat."""

    @staticmethod
    def begin(_: Plan) -> bytes:
        return b""

    @staticmethod
    def piece(asked: Plan, place: int) -> bytes:
        return event(asked.delta(place), **asked.more(place))

    @staticmethod
    def end(asked: Plan) -> tuple[bytes, ...]:
        last = {"tool_calls": [{"index": 0, "function": {"arguments": " 0]}"}}]} if asked.tools else {}
        return event(last, "stop", USAGE), END


class Messages:
    """The same events in Anthropic's dialect, for text only."""

    @staticmethod
    def begin(_: Plan) -> bytes:
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": []}
        usage = {"input_tokens": USAGE["prompt_tokens"], "output_tokens": 1}
        whole = {**message, "stop_reason": None, "stop_sequence": None, "usage": usage}
        block = {"type": "text", "text": ""}
        return named("message_start", message=whole) + named("content_block_start", index=0, content_block=block)

    @staticmethod
    def piece(asked: Plan, place: int) -> bytes:
        delta = {"type": "text_delta", "text": asked.delta(place)["content"]}
        return named("content_block_delta", index=0, delta=delta)

    @staticmethod
    def end(_: Plan) -> tuple[bytes, ...]:
        usage = {"output_tokens": USAGE["completion_tokens"]}
        stop = named("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage=usage)
        return named("content_block_stop", index=0), stop + named("message_stop")


def dialect(path: str) -> type[Chat | Messages]:
    return Messages if path.endswith("/messages") else Chat


@functools.cache
def answer(path: str) -> bytes:
    """One whole body."""
    body = (of_messages if dialect(path) is Messages else of_chat)(plan(path).events)
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


def of_messages(events: int) -> bytes:
    usage = {"input_tokens": USAGE["prompt_tokens"], "output_tokens": USAGE["completion_tokens"]}
    message = {"id": NAME, "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn"}
    content = [{"type": "text", "text": WORD * events}]
    return json.dumps({**message, "stop_sequence": None, "content": content, "usage": usage}).encode()


def of_chat(events: int) -> bytes:
    message = {"role": "assistant", "content": WORD * events}
    choices = [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}]
    whole = {"id": NAME, "object": "chat.completion", "created": 1, "model": "m", "choices": choices}
    return json.dumps({**whole, "usage": USAGE}).encode()


def tail(asked: Plan, path: str) -> bytes:
    end = b"" if asked.body == "close" else b"0\r\n\r\n"
    return b"".join(map(asked.framed, dialect(path).end(asked))) + end


def cut(asked: Plan, whole: bytes) -> bytes:
    step = -(-len(whole) // asked.pieces)
    return b"".join(asked.framed(whole[at : at + step]) for at in range(0, len(whole), step))


@functools.cache
def at_once(path: str) -> tuple[bytes, ...]:
    """A stream without pauses, made before anybody waits for it: each piece is a chunk."""
    asked, says = plan(path), dialect(path)
    pieces = b"".join(cut(asked, says.piece(asked, place)) for place in range(asked.events))
    sent = asked.head + opening(path) + pieces + tail(asked, path)
    return tuple(sent[at : at + AT_ONCE] for at in range(0, len(sent), AT_ONCE))


def opening(path: str) -> bytes:
    """What comes before the first delta."""
    begin = dialect(path).begin(plan(path))
    return plan(path).framed(begin) if begin else b""


class Server(asyncio.Protocol):
    connections = 0

    def connection_made(self, transport: Any) -> None:
        Server.connections += 1
        self.transport, self.data, self.may_write = transport, b"", asyncio.Event()
        self.may_write.set()

    def pause_writing(self) -> None:
        self.may_write.clear()

    def resume_writing(self) -> None:
        self.may_write.set()

    def connection_lost(self, error: Exception | None) -> None:
        self.may_write.set()

    def data_received(self, data: bytes) -> None:
        self.data += data
        head, found, body = self.data.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or b"0"
        if not found or len(body) < int(length):
            return
        self.data = b""
        path = head.split(b" ", 2)[1].decode()
        if path == "/connections":
            said = b"%d" % Server.connections
            self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(said), said))
        elif not body:
            self.transport.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
        elif json.loads(body).get("stream"):
            self.stream(path)
        else:
            name = b"%0*d" % (len(NAME), next(NUMBERS))
            self.transport.write(answer(path).replace(NAME.encode(), name))

    def stream(self, path: str) -> None:
        asked = plan(path)
        if asked.pause:
            self.transport.write(asked.head + opening(path))
            self.paced(path, asyncio.get_running_loop().time(), 0)
        else:
            self.task = asyncio.ensure_future(self.all_at_once(path))

    async def all_at_once(self, path: str) -> None:
        for block in at_once(path):
            await self.may_write.wait()
            if self.transport.is_closing():
                return
            self.transport.write(block)
        self.ended(plan(path))

    def paced(self, path: str, started: float, sent: int) -> None:
        """The next event, at its time."""
        if self.transport.is_closing():
            return
        asked = plan(path)
        if sent < asked.events:
            self.transport.write(asked.framed(dialect(path).piece(asked, sent)))
            at = started + (sent + 1) * asked.pause / 1e6
            asyncio.get_running_loop().call_at(at, self.paced, path, started, sent + 1)
        else:
            self.transport.write(tail(asked, path))
            self.ended(asked)

    def ended(self, asked: Plan) -> None:
        if asked.body != "chunked":
            self.transport.close()


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
