"""The ways in which a server fails, as scripts: bytes to send, numbers to sleep, RST or FIN; and what prx must call them.

A script that ends without RST or FIN keeps its connection.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from answers import Answer, event

RST, FIN = "rst", "fin"
STALL = 3600.0
FORGED = json.dumps({"model": "forged", "choices": [{"message": {"content": "forged"}, "finish_reason": "stop"}]})


@dataclass(frozen=True)
class Asked:
    """One request as the server sees it."""

    answer: Answer
    stream: bool
    attempt: int = 1
    pause: float = 0.0

    @property
    def id(self):
        return f"x-request-id: req-{self.answer.token}-{self.attempt}"


def framed(status, *headers, body=b"", kind="application/json", length=None):
    length = len(body) if length is None else length
    lines = (f"HTTP/1.1 {status} X", f"content-type: {kind}", f"content-length: {length}", *headers)
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def always(*script):
    """The same whatever was asked."""
    return lambda asked: list(script)  # noqa: ARG005


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def stream_head(asked, *headers):
    lines = ("HTTP/1.1 200 OK", "content-type: text/event-stream", "transfer-encoding: chunked", asked.id, *headers)
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def right(asked):
    """The right answer, well framed."""
    if not asked.stream:
        return [framed(200, asked.id, body=asked.answer.body())]
    events = [chunk(each) for each in asked.answer.events()]
    if not asked.pause:
        return [stream_head(asked) + b"".join(events) + b"0\r\n\r\n"]
    script = [stream_head(asked)]
    for each in events:
        script += [each, asked.pause]
    return [*script, b"0\r\n\r\n"]


def halved(asked):
    """The first half of the right answer's bytes, head and framing included; at least one event of a stream."""
    whole = b"".join(part for part in right(asked) if isinstance(part, bytes))
    at = whole.index(b"\r\n\r\n") + 4
    return whole[: at + (len(whole) - at) // 2]


def refusal(status, *headers):
    body = json.dumps({"error": {"message": f"made up, {status}", "type": "made_up"}}).encode()
    return lambda asked: [framed(status, asked.id, *headers, body=body)]


def cut_short(asked):
    """Well framed, and only half of what there is to say."""
    if not asked.stream:
        body = asked.answer.body()
        return [framed(200, asked.id, body=body[: len(body) // 2])]
    events = asked.answer.events()
    return [stream_head(asked) + b"".join(map(chunk, events[: len(events) // 2])) + b"0\r\n\r\n"]


def garbage_json(asked):
    if not asked.stream:
        return [framed(200, asked.id, body=b'{"choices": [{"message": {"content": "oh')]
    events = asked.answer.events()
    return [stream_head(asked) + chunk(events[0]) + chunk(b"data: {oh no\n\n") + b"0\r\n\r\n"]


def garbage_chunks(asked):
    events = asked.answer.events()
    return [stream_head(asked) + chunk(events[0]) + b"zz\r\n" + events[1] + b"\r\n", FIN]


def error_inside(asked):
    """An error object in an answer whose status is 200."""
    error = {"error": {"message": "made up, inside", "type": "server_error", "code": 500}}
    if not asked.stream:
        return [framed(200, asked.id, body=json.dumps(error).encode())]
    return [stream_head(asked) + chunk(asked.answer.events()[0]) + chunk(event(error)) + b"0\r\n\r\n"]


def gzip_cut(asked):
    """A packed body, well framed, that ends too early."""
    plain = b"".join(asked.answer.events()) if asked.stream else asked.answer.body()
    packed = gzip.compress(plain)
    kind = "text/event-stream" if asked.stream else "application/json"
    return [framed(200, asked.id, "content-encoding: gzip", body=packed[: len(packed) * 2 // 3], kind=kind)]


def of_length(more):
    """A content-length that is wrong by so much."""

    def script(asked):
        body = b"".join(asked.answer.events()) if asked.stream else asked.answer.body()
        kind = "text/event-stream" if asked.stream else "application/json"
        return [framed(200, asked.id, body=body, kind=kind, length=len(body) + more), FIN]

    return script


def drip(asked):
    """The right answer in 64 slow pieces."""
    whole = b"".join(part for part in right(asked) if isinstance(part, bytes))
    step = max(1, len(whole) // 64)
    script = []
    for start in range(0, len(whole), step):
        script += [whole[start : start + step], 0.005]
    return script


def never_ending(asked):
    """Comments, or blanks, for longer than anybody waits."""
    return [stream_head(asked), *([chunk(b": still here\n\n" if asked.stream else b" "), 0.1] * 600)]


def in_turn(*scripts):
    """One script at the first attempt, the next at the second; the last one again."""
    return lambda asked: scripts[min(asked.attempt, len(scripts)) - 1](asked)


class Fault(NamedTuple):
    """script: what the server does. kinds: what prx may call it. passes: the call may succeed all the same."""

    script: Callable[[Asked], list[bytes | float | str]]
    kinds: frozenset[str]
    passes: bool = False
    deadline: float | None = None  # such a call is made with a deadline


def _kinds(words):
    return frozenset(words.split())


REFUSED = "connection refused"  # made by the client: a port where nobody listens
HTML = b"<html><body>Bad gateway, politely</body></html>"
FAULTS = {
    REFUSED: Fault(right, _kinds("connection")),
    "429": Fault(refusal(429), _kinds("rate_limit")),
    "429, try again at once": Fault(refusal(429, "retry-after-ms: 30"), _kinds("rate_limit")),
    "429, try again in an hour": Fault(refusal(429, "retry-after: 3600"), _kinds("rate_limit")),
    "500": Fault(refusal(500), _kinds("server")),
    "503": Fault(refusal(503), _kinds("server")),
    "503, try again at once": Fault(refusal(503, "retry-after: 0"), _kinds("server")),
    "500, then reset": Fault(in_turn(refusal(500), always(RST)), _kinds("server connection")),
    "500, then stall": Fault(in_turn(refusal(500), always(STALL)), _kinds("server timeout")),
    "400": Fault(refusal(400), _kinds("bad_request")),
    "401": Fault(refusal(401), _kinds("auth")),
    "404": Fault(refusal(404), _kinds("not_found")),
    "reset before the head": Fault(always(RST), _kinds("connection")),
    "closed before the head": Fault(always(FIN), _kinds("connection")),
    "reset in the head": Fault(always(b"HTTP/1.1 200 OK\r\ncont", RST), _kinds("connection")),
    "reset in the body": Fault(lambda asked: [halved(asked), 0.05, RST], _kinds("truncated")),
    "closed in the body": Fault(lambda asked: [halved(asked), FIN], _kinds("truncated")),
    "stall before the head": Fault(always(STALL), _kinds("timeout")),
    "stall in the body": Fault(lambda asked: [halved(asked), STALL], _kinds("timeout")),
    "cut short, well framed": Fault(cut_short, _kinds("truncated protocol")),
    "garbage for JSON": Fault(garbage_json, _kinds("protocol")),
    "garbage for a chunk": Fault(garbage_chunks, _kinds("truncated")),
    "HTML": Fault(always(framed(200, body=HTML, kind="text/html")), _kinds("protocol")),
    "error in a 200": Fault(error_inside, _kinds("server")),
    "gzip cut": Fault(gzip_cut, _kinds("truncated")),
    "empty 200": Fault(lambda asked: [framed(200, asked.id)], _kinds("truncated protocol")),
    "slow drip": Fault(drip, frozenset(), passes=True),
    "drip without end": Fault(never_ending, _kinds("timeout"), deadline=0.7),
    "length too long": Fault(of_length(+40), _kinds("truncated"), passes=True),  # a stream says itself that it is over
    "length too short": Fault(of_length(-40), _kinds("truncated protocol")),
    "bytes left over": Fault(
        lambda asked: [*right(asked)[:-1], right(asked)[-1] + framed(200, body=FORGED.encode())], frozenset(), passes=True
    ),
    "kept connection closed": Fault(lambda asked: [*right(asked), FIN], frozenset(), passes=True),
}  # fmt: skip
