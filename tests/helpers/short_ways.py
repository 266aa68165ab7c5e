"""Calls of the service that may take a short way: what is asked and answered in tests of it, with the ways known and without."""

from __future__ import annotations

import asyncio
import contextlib
import json

from helpers.byte_server import FIN, RawServer, response
from helpers.served import provider
from prx.serve import ways
from prx.serve.app import App

ANSWER = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "It is four."}, "finish_reason": "stop", "logprobs": None}],
    "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
}  # fmt: skip
MESSAGE = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [{"type": "text", "text": "It is four."}],
    "stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": 11, "output_tokens": 7},
}  # fmt: skip
ASKED = {"model": "raw/words", "messages": [{"role": "user", "content": "2+2?"}], "temperature": 0.2, "max_tokens": 50}
PATHS = {"openai-chat": "/v1/chat/completions", "anthropic-messages": "/v1/messages"}


def changed(value, *path, to):
    """A copy with another value at a path; without it where `to` is ..."""
    if not path:
        return to
    step, *rest = path
    if isinstance(value, list):
        return [changed(item, *rest, to=to) if place == step else item for place, item in enumerate(value)]
    made = {**value, step: changed(value.get(step, {}), *rest, to=to)}
    return {key: item for key, item in made.items() if item is not ...}


async def post(app, body, *headers, path="/v1/chat/completions"):
    sent, more = [], iter([{"type": "http.request", "body": json.dumps(body).encode()}])
    given = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json"), *headers]
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": given}

    async def receive():
        return next(more, None) or await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:]), dict(sent[0]["headers"])


def given_on(monkeypatch):
    """What short ways give, in the order of their calls."""
    given = []

    async def spied(self, *args, real=ways.Way.fetch):
        given.append(await real(self, *args))
        return given[-1]

    monkeypatch.setattr(ways.Way, "fetch", spied)
    return given


@contextlib.asynccontextmanager
async def opened(folder, *, known=True, **options):
    """An App of which short ways are known, or not. options: its own."""
    app = App(**{"env": {"HOME": str(folder)}, **options})
    if not known:
        app.ways.unchanged = app.ways.planned = lambda _: None
    try:
        yield app
    finally:
        await app.client.aclose()


async def answered(folder, calls, path, **options):
    """What callers get, one after the other. options: as of `opened`."""
    async with opened(folder, **options) as app:
        return [await post(app, *call, path=path) for call in calls]


def told(tmp_path, calls, *scripts, dialect="openai-chat", face="", more="", known=True):
    """(answers to these calls one after the other, what the server was asked). face: the callers' dialect, where it is another one."""
    with RawServer(*scripts) as server:
        config = tmp_path / "config.toml"
        config.write_text(
            provider("raw", server.url, dialect).replace("${UP_KEY}", "sk").replace("retries = 0\n", more)
        )
        run = answered(tmp_path, calls, PATHS[face or dialect], known=known, config=str(config))
        return asyncio.run(run), server.requests


def by_own_file(tmp_path, also, count, *scripts, path="/v1/chat/completions"):
    """(so many answers of a provider whose file has these lines beside what it takes from openai-chat, what its server was asked)"""
    files = tmp_path / "files"
    files.mkdir()
    with RawServer(*scripts) as server:
        (files / "own.yaml").write_text(
            f"spec: 1\nid: own\nname: Own\nextends: openai-chat\nbase_url: {server.url}\nauth: {{style: none}}\n{also}\n"
        )
        calls = [[{**ASKED, "model": "own/words"}]] * count
        return asyncio.run(answered(tmp_path, calls, path, config={}, providers=str(files))), server.requests


def unnamed(body):
    """The value of a body without what it is called where its provider does not say so."""
    try:
        value = json.loads(body)
    except ValueError:
        return body
    return {key: item for key, item in value.items() if key not in ("id", "created", "request_id")}


def both_ways(tmp_path, calls, *scripts, **options):
    """What callers and the server got: with the short way, and without it. options: as of `told`."""
    results = []
    for known in (True, False):
        answers, asked = told(tmp_path, calls, *scripts, **options, known=known)
        results.append(([(status, unnamed(body)) for status, body, _ in answers], [each["body"] for each in asked]))
        results[-1] += ([own_headers(headers) for *_, headers in answers],)
    return results


def own_headers(headers):
    return {name: text for name, text in headers.items() if name.startswith(b"x-prx")}


ODD = {
    "reasoning": changed(ANSWER, "choices", 0, "message", "reasoning_content", to="because"),
    "thought in tags": changed(ANSWER, "choices", 0, "message", "content", to="<think>hm</think>four"),
    "empty": changed(ANSWER, "choices", 0, "message", "content", to=""),
    "null": changed(ANSWER, "choices", 0, "message", "content", to=None),
    "parts": changed(ANSWER, "choices", 0, "message", "content", to=[{"type": "text", "text": "four"}]),
    "half a character": changed(ANSWER, "choices", 0, "message", "content", to="four \ud83d"),
    "a call": changed(ANSWER, "choices", 0, "message", "tool_calls", to=[{"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}]),
    "half a call": changed(ANSWER, "choices", 0, "message", "tool_calls", to=[{"id": "t", "type": "function", "function": {"name": "f", "arguments": "{"}}]),
    "a refusal": changed(ANSWER, "choices", 0, "message", "refusal", to="no"),
    "cut off": changed(ANSWER, "choices", 0, "finish_reason", to="length"),
    "another word": changed(ANSWER, "choices", 0, "finish_reason", to="eos"),
    "no reason": changed(ANSWER, "choices", 0, "finish_reason", to=...),
    "no number": changed(ANSWER, "choices", 0, "index", to=...),
    "two": changed(ANSWER, "choices", to=[*ANSWER["choices"], {**ANSWER["choices"][0], "index": 1}]),
    "none": changed(ANSWER, "choices", to=[]),
    "no usage": changed(ANSWER, "usage", to=...),
    "no count": changed(ANSWER, "usage", "completion_tokens", to=0),
    "a whole count with a point": changed(ANSWER, "usage", "completion_tokens", to=7.0),
    "true for a number": changed(ANSWER, "choices", 0, "index", to=False),
    "counts as texts": changed(ANSWER, "usage", "completion_tokens", to="7"),
    "half a count": changed(ANSWER, "usage", "completion_tokens", to=7.5),
    "an error": {"error": {"message": "out of memory", "type": "server_error"}},
    "an error beside it": {**ANSWER, "error": {"message": "out of memory"}},
    "more": {**ANSWER, "system_fingerprint": "fp", "citations": ["https://a.example"]},
    "another order": dict(reversed(ANSWER.items())),
}  # fmt: skip
BROKEN = {
    "no JSON": b"It is four.",
    "half": json.dumps(ANSWER).encode()[:-20],
    "a control character": json.dumps(ANSWER).encode().replace(b"is four", b"is\tfour"),
    "no number of JSON": json.dumps(ANSWER).encode().replace(b"18", b"NaN"),
    "no UTF-8": json.dumps(ANSWER).encode().replace(b"four", b"f\xffur"),
    "a byte-order mark": b"\xef\xbb\xbf" + json.dumps(ANSWER).encode(),
    "a list": b"[]",
    "nothing": b"",
}


FAULTS = {
    "refused": [response(400, {"error": {"message": "temperature is too hot"}})],
    "a hidden key": [response(401, {"error": {"message": "no such key: sk-secret"}})],
    "later": [response(429, {"error": {"message": "slow"}}, "retry-after: 0"), response(body=ANSWER)],
    "broken": [response(500, {"error": {"message": "broken"}}), response(body=ANSWER)],
    "closed": [FIN, response(body=ANSWER)],
    "closed halfway": [[response(body=ANSWER)[:-40], FIN], response(body=ANSWER)],
    "never right": [response(500, {"error": {"message": "broken"}})],
}
