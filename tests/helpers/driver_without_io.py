"""A call played without any I/O: a spec, a call, the responses as data, and everything that came of it.

The core never knows the difference: this is a driver like the client's, with bytes from a list.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from helpers import event_stream
from prx.chat import Call, plain
from prx.core import kind_answers
from prx.core.exchange import Emit, Policy, Read, Send, Wait, exchange
from prx.core.kind_inputs import checked
from prx.core.messages import data_url, expand_images
from prx.errors import KINDS, Error
from prx.lang.query import compile_query
from prx.secret import Secret
from prx.spec import resolve
from prx.spec.definition import Definition, Entry, Resolved
from prx.spec.loader import Loader
from prx.wire import Head, Target

CATALOG = Loader()
COMPLETION = {
    "id": "1",
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}


_KNOWN: dict[str, Definition] = {}


def definition(overlay: dict[str, Any]) -> Definition:
    """A provider of these keys; it extends openai-chat unless it says otherwise."""
    key = json.dumps(overlay)
    if key not in _KNOWN:
        _KNOWN[key] = _definition(overlay)
    return _KNOWN[key]


def _definition(overlay: dict[str, Any]) -> Definition:
    raw = {"spec": 1, "id": "played", "extends": "openai-chat", "base_url": "https://api.example/v1", **overlay}
    entry = Entry("played", CATALOG.entries()[0].path, packaged=True)
    return CATALOG.definition(entry, Resolved(resolve.resolve(raw, CATALOG.dialect_or_provider)))


def target(spec: Definition, key: str = "sk-played-key") -> Target:
    auth = spec.spec().auth
    return Target(
        provider="played",
        base_url=spec.spec().base_url,
        endpoints=tuple(spec.spec().endpoints.values()),
        auth={auth.name: Secret(key, auth.template)} if auth.style != "none" else {},
        in_query=auth.style == "query",
        values={"PLAYED": Secret("from-the-environment")},
    )


@dataclasses.dataclass
class Played:
    """What was sent, waited for, handed on; and how it ended."""

    requests: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    waits: list[float] = dataclasses.field(default_factory=list)
    deltas: list[Any] = dataclasses.field(default_factory=list)
    order: list[str] = dataclasses.field(default_factory=list)
    reply: Any = None
    error: Error | None = None

    def view(self) -> dict[str, Any]:
        """Plain JSON, for conditions in JMESPath."""
        return {
            "requests": self.requests,
            "request": self.requests[-1] if self.requests else None,
            "waits": self.waits,
            "deltas": [plain(delta) for delta in self.deltas],
            "reply": plain(self.reply),
            "error": _error(self.error),
        }


def _error(error: Error | None) -> dict[str, Any] | None:
    if error is None:
        return None
    names = ("kind", "status", "retryable", "retry_after", "message", "provider", "attempts", "hint")
    made = {name: getattr(error, name) for name in names}
    made["partial"] = plain(error.partial)
    return {**made, "text": str(error), "history": list(error.history)}


def play(
    overlay: dict[str, Any],
    call: dict[str, Any] | None = None,
    answers: list[Any] | None = None,
    pieces: int = 0,
    **policy: Any,
) -> Played:
    """Play a call. answers: one a request, the last one again for any further; pieces: bytes to a read, 0 for all."""
    played = Played()
    provider = definition(overlay)
    asked = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **(call or {})}
    messages = expand_images(asked.pop("messages"), data_url)
    made = Call(messages=tuple(messages), **{**asked, "tools": tuple(asked.get("tools", ()))})
    wait_fits = policy.pop("wait_fits", True)
    flow = exchange(provider, made, target(provider), Policy(**policy))
    return _played(flow, played, answers or [{}], pieces, wait_fits=wait_fits)


def play_kind(kind: str, overlay: dict[str, Any], given: dict[str, Any], answers: list[Any]) -> Played:
    """Play a call that is no chat. given: its arguments by their names, and params, messages and tools."""
    provider, chat = definition(overlay), ("params", "messages", "tools")
    inputs = checked(kind, {name: value for name, value in given.items() if name not in chat})
    made = Call(
        "m",
        tuple(given.get("messages", ())),
        tuple(given.get("tools", ())),
        params=given.get("params", {}),
        inputs=inputs,
    )
    flow = kind_answers.flow(provider, made, target(provider), Policy(), kind_answers.KINDS[kind])
    return _played(flow, Played(), answers, 0, wait_fits=True)


def _played(flow: Any, played: Played, answers: list[Any], pieces: int, *, wait_fits: bool) -> Played:
    try:
        _drive(flow, played, answers, pieces, wait_fits=wait_fits)
    except Error as error:
        played.error = error
    return played


def _drive(flow: Any, played: Played, answers: list[Any], pieces: int, *, wait_fits: bool) -> None:
    result: Any = None
    failed: Error | None = None
    body: list[Any] = []
    while True:
        try:
            ask = flow.throw(failed) if failed else flow.send(result)
        except StopIteration as stop:
            played.reply = stop.value
            return
        result = failed = None
        played.order.append(type(ask).__name__)
        if isinstance(ask, Emit):
            played.deltas += ask.deltas
        elif isinstance(ask, Wait):
            played.waits.append(ask.seconds)
            result = wait_fits
        elif isinstance(ask, Read):
            result = body.pop(0) if body else b""
            failed = result if isinstance(result, Error) else None
        elif isinstance(ask, Send):
            answer = answers[min(len(played.requests), len(answers) - 1)]
            played.requests.append(_request(ask.request))
            if "fails" in answer:
                failed = KINDS[answer["fails"]]("the wire failed")
                continue
            result, body = _response(answer, pieces)


def _request(request: Any) -> dict[str, Any]:
    return {
        "method": request.method,
        "url": request.full_url(),
        "headers": {name: str(value) for name, value in request.headers.items()},
        "body": _body(request),
    }


def _body(request: Any) -> Any:
    """The JSON of a request; a form as text."""
    if "json" in request.headers.get("content-type", "json"):
        return json.loads(request.body) if request.body else None
    return request.body.decode("latin-1")


def _response(answer: dict[str, Any], pieces: int) -> tuple[Head, list[Any]]:
    """An answer is {status, headers, json | text | events | messages}; events: [value or text, …] of a stream; messages: rows as
    in event_stream; cut: a failure at its end.
    """
    if "events" in answer:
        texts = (event if isinstance(event, str) else json.dumps(event) for event in answer["events"])
        text = "".join(f"data: {event}\n\n" for event in texts)
    else:
        text = answer.get("text") if "text" in answer else json.dumps(answer.get("json", COMPLETION))
    data = event_stream.written(answer["messages"]) if "messages" in answer else text.encode()
    size = pieces or max(1, len(data))
    body: list[Any] = [data[i : i + size] for i in range(0, len(data), size)]
    body += [KINDS[answer["cut"]]("the wire was cut")] if "cut" in answer else []
    return Head(answer.get("status", 200), answer.get("headers", {}), answer.get("received", 0.0)), body


def holds(condition: str, view: dict[str, Any]) -> bool:
    """Whether a JMESPath condition holds."""
    found = compile_query(condition)(view)
    return bool(found) or (isinstance(found, int | float) and found is not False)


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """One event of a Chat Completions stream."""
    return {"model": "m", "choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish}], **more}
