"""A stream for a caller who speaks the provider's dialect: what nobody knows goes through, what servers get wrong does not."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import json
import random
import re
import time
import weakref

import pytest
from helpers.byte_server import DONE, HANG, RawServer, response, stream
from helpers.served import provider

from prx.core import overlay
from prx.core.decode import Decoder
from prx.serve import answer
from prx.serve.app import App
from prx.serve.writes import JoinedWrites
from prx.spec import written

CALLED = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}


def event(value, name=""):
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(value)}\n\n".encode()


def chunk(delta, finish=None, choice=(), **more):
    return event({**CALLED, "choices": [{"index": 0, "delta": delta, "finish_reason": finish, **dict(choice)}], **more})


def events_of(text):
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


def asked(own, pieces, *, dialect="openai-chat", also=None, more=""):
    with RawServer(stream(*pieces)) as server:
        answer = own(provider("raw", server.url, dialect) + more).chat("raw/words", stream=True, also=also or {})
    assert answer.status == 200, answer.text
    return answer


def test_unknown_keys_go_through(own):
    pieces = [
        chunk({"role": "assistant", "content": ""}, system_fingerprint="fp"),
        chunk({"content": "one "}, choice={"logprobs": {"content": [{"token": "one"}]}}),
        chunk({"content": "two"}),
        chunk({"annotations": [{"url": "https://a.example"}]}),
        chunk({"content": " three"}, citations=["https://b.example"]),
        chunk({}, "stop", search={"results": 3}),
        event(
            {
                **CALLED,
                "choices": [],
                "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "cost": 0.5},
            }
        ),
        DONE,
    ]
    answer = asked(own, pieces, also={"stream_options": {"include_usage": True}})
    said = events_of(answer.text)
    choices = [each["choices"][0] for each in said if each["choices"]]
    assert "".join(choice["delta"].get("content") or "" for choice in choices) == "one two three"
    assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["stop"]
    assert [choice["logprobs"] for choice in choices if "logprobs" in choice] == [{"content": [{"token": "one"}]}]
    assert [choice["delta"]["annotations"][0]["url"] for choice in choices if "annotations" in choice["delta"]] == [
        "https://a.example"
    ]
    assert [each["citations"] for each in said if "citations" in each] == [["https://b.example"]]
    assert [each["search"] for each in said if "search" in each] == [{"results": 3}]
    assert [each["usage"] for each in said if each.get("usage")] == [
        {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "cost": 0.5}
    ]
    assert {each["id"] for each in said} == {"c1"}
    assert said[0]["system_fingerprint"] == "fp"
    assert answer.text.count("[DONE]") == 1


def test_counts_that_were_not_asked_for_stay_behind(own):
    counts = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    pieces = [
        chunk({"content": "a"}, usage=counts),
        chunk({"content": "b"}, "stop", usage=counts),
        event({**CALLED, "choices": [], "usage": counts}),
        DONE,
    ]
    said = events_of(asked(own, pieces).text)
    assert not [each for each in said if each.get("usage") or not each["choices"]]
    assert "".join(each["choices"][0]["delta"].get("content", "") for each in said) == "ab"


@pytest.mark.parametrize("space", ["", " "])
def test_an_event_that_is_right_passes_byte_by_byte(own, space):
    """And one that is not is put right, also between others that are."""
    good = [
        json.dumps(
            {**CALLED, "choices": [{"index": 0, "delta": {"content": text}, "odd": 1}]}, separators=(",", f":{space}")
        )
        for text in ("a", "content", '"b"', "c")
    ]
    wrong = {
        **CALLED,
        "choices": [
            {
                "index": 0,
                "delta": {"content": "d", "tool_calls": [{"id": "t", "function": {"name": "f", "arguments": "{}"}}]},
            }
        ],
    }
    pieces = [*(f"data: {text}\n\n".encode() for text in good), event(wrong), chunk({}, "tool_calls"), DONE]
    text = asked(own, pieces).text
    for each in good[1:]:
        assert f"data: {each}\n\n" in text
    calls = [call for each in events_of(text) for call in each["choices"][0]["delta"].get("tool_calls", ())]
    assert {call["index"] for call in calls} == {0}
    assert "".join(call["function"].get("arguments", "") for call in calls) == "{}"
    assert "".join(each["choices"][0]["delta"].get("content") or "" for each in events_of(text)) == 'acontent"b"cd'


MESSAGES = [
    event({"type": "message_start", "message": {"id": "m1", "role": "assistant", "model": "m", "content": [], "usage": {"input_tokens": 3, "output_tokens": 1}, "container": {"id": "x"}}}, "message_start"),
    event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}, "content_block_start"),
    event({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Looking."}}, "content_block_delta"),
    event({"type": "content_block_stop", "index": 0}, "content_block_stop"),
    event({"type": "content_block_start", "index": 1, "content_block": {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}}, "content_block_start"),
]  # fmt: skip
END = [
    event({"type": "content_block_stop", "index": 1}, "content_block_stop"),
    event({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 5}}, "message_delta"),
    event({"type": "message_stop"}, "message_stop"),
]  # fmt: skip
BODY = {"model": "raw/words", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}], "stream": True}


def test_blocks_of_a_kind_that_nobody_knows_go_through_at_once(own):
    with RawServer(stream(*MESSAGES, 1.5, *END)) as server:
        running = own(provider("raw", server.url, "anthropic-messages"))
        began = time.monotonic()
        with contextlib.closing(running.open("POST", "/v1/messages", BODY)) as connection:
            answer = connection.getresponse()
            text = piece = answer.read1(65536)
            while piece and b"server_tool_use" not in text:
                text += (piece := answer.read1(65536))
            waited = time.monotonic() - began
            text += answer.read()
    assert waited < 1.4, "the block was held back until the provider went on"
    assert text == b"".join((*MESSAGES, *END))


def test_a_file_with_a_reading_of_its_own_is_written_anew(own, tmp_path):
    with RawServer(stream(*MESSAGES, *END)) as server:
        mine = f"{{spec: 1, id: mine, extends: anthropic-messages, base_url: '{server.url}', auth: {{style: none}}, stream: {{events: {{message_stop: {{end: '@'}}}}}}}}"
        (tmp_path / "files").mkdir()
        (tmp_path / "files" / "mine.yaml").write_text(mine)
        running = own("", "--providers", tmp_path / "files")
        text = running.post("/v1/messages", {**BODY, "model": "mine/words"}).text
    assert "server_tool_use" not in text, text
    assert ("Looking." in text, "message_stop" in text) == (True, True)


def test_events_without_their_numbers_and_a_last_one_without_blocks_are_completed(own):
    response = {"id": "r", "object": "response", "status": "in_progress", "model": "m", "output": []}
    item = {
        "type": "message",
        "id": "i",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": "Hi.", "annotations": [{"type": "url_citation"}]}],
    }
    rows = [
        {"type": "response.created", "response": response},
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "content": []}},
        {"type": "response.content_part.added", "item_id": "i", "output_index": 0, "content_index": 0, "part": {"type": "output_text", "text": ""}},
        {"type": "response.output_text.delta", "item_id": "i", "output_index": 0, "content_index": 0, "delta": "Hi."},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {**response, "status": "completed"}},
    ]  # fmt: skip
    with RawServer(stream(b": here\n\n", *(event(row, row["type"]) for row in rows))) as server:
        running = own(provider("raw", server.url, "openai-responses"))
        text = running.post("/v1/responses", {"model": "raw/words", "input": "hi", "stream": True}).text
    said = events_of(text)
    assert [each["sequence_number"] for each in said] == [0, 1, 2, 3, 4, 5]
    assert said[4]["item"] == item
    assert said[5]["response"]["output"][0]["content"][0]["text"] == "Hi."


WAITS = [  # the second call begins before the first is complete
    chunk({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x":'}, "note": "of a"}]}),
    chunk({"tool_calls": [{"index": 1, "id": "b", "function": {"name": "g", "arguments": "{"}, "note": "of b"}]}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]}),
    chunk({"tool_calls": [{"index": 1, "function": {"arguments": "}"}}]}),
]
TOGETHER = [
    chunk(
        {
            "tool_calls": [
                {"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x":1}'}, "note": "of a"},
                {"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}, "note": "of b"},
            ]
        }
    )
]
LATE = [
    chunk({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x":1}'}}]}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": ""}, "note": "of a"}]}),
    chunk({"tool_calls": [{"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}, "note": "of b"}]}),
]


@pytest.mark.parametrize("pieces", [WAITS, TOGETHER, LATE], ids=["waits", "together", "late"])
def test_unknown_keys_of_a_tool_call_stay_with_it(own, pieces):
    answer = asked(own, [*pieces, chunk({}, "tool_calls"), DONE])
    deltas = [each["choices"][0]["delta"] for each in events_of(answer.text)]
    rows = [row for delta in deltas for row in delta.get("tool_calls", ())]
    assert all("index" in row for row in rows), rows  # clients put the pieces together by it
    assert [(row["index"], row["note"]) for row in rows if "note" in row] == [(0, "of a"), (1, "of b")]
    ids = [(row["index"], row["id"]) for row in rows if "id" in row]
    texts = ["".join(row.get("function", {}).get("arguments", "") for row in rows if row["index"] == n) for n in (0, 1)]
    assert ids == [(0, "a"), (1, "b")]
    assert texts == ['{"x":1}', "{}"]


@pytest.mark.parametrize("arguments", ["[" * 50_000, '{"a": NaN}', '{"a": 1e999}'])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/api/chat"])
def test_arguments_that_are_no_json_end_no_answer(own, path, arguments):
    calls = [{"index": 0, "id": "a", "function": {"name": "f", "arguments": arguments}}]
    more = [{"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}}]
    pieces = [chunk({"tool_calls": calls}), chunk({"tool_calls": more}), chunk({}, "tool_calls"), DONE]
    with RawServer(stream(*pieces)) as server:
        service = own(provider("raw", server.url))
        answer = service.post(path, {**BODY, "model": "raw/words"})
    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith(("data: {", "{"))]

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    for event in events:
        json.loads(event, parse_constant=refuse)
    # As arguments they are an error, and a number that is too large is the caller's to judge.
    assert ("error" in events[-1], '"g"' in answer.text) == (
        (True, False) if "1e999" not in arguments else (False, True)
    )
    assert "bug" not in service.log.read_text()


@pytest.mark.parametrize("half", [b'event: ping\ndata: {"type"', b'event: content_block_delta\ndata: {"type": "co'])
def test_half_an_event_is_not_handed_on(own, half):
    said = [
        {"type": "message_start", "message": {"id": "a", "type": "message", "role": "assistant", "content": []}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "one"}},
    ]
    pieces = [*(event(each, each["type"]) for each in said), half]
    with RawServer(stream(*pieces)) as server:
        service = own(provider("raw", server.url, "anthropic-messages"))
        answer = service.post("/v1/messages", BODY)
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data:")]
    assert events[:-1] == said
    assert events[-1]["type"] == "error"


def test_an_event_of_no_known_kind_stays_as_it_came(own):
    said = [
        {"type": "response.created", "response": {"id": "r", "status": "in_progress", "output": []}},
        {"odd": 1},
        {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "one"},
        {"type": "response.completed", "response": {"id": "r", "status": "completed", "output": []}},
    ]
    with RawServer(stream(*map(event, said))) as server:
        service = own(provider("raw", server.url, "openai-responses"))
        answer = service.post("/v1/responses", {"model": "raw/words", "input": "a", "stream": True})
    assert answer.status == 200, answer.text
    events = events_of(answer.text)
    assert events[1] == {"odd": 1}
    assert [each.get("sequence_number") for each in events] == [0, None, 2, 3]


def test_citations_go_through(own):
    cited = {"start": 0, "end": 3, "text": "Hi.", "sources": [{"type": "document", "id": "d"}]}
    counts = {"input_tokens": 1, "output_tokens": 1}
    rows = [
        {"type": "message-start", "id": "m", "delta": {"message": {"role": "assistant", "content": []}}},
        {"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}},
        {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "Hi."}}}},
        {"type": "citation-start", "index": 0, "delta": {"message": {"citations": cited}}},
        {"type": "citation-end", "index": 0},
        {"type": "content-end", "index": 0},
        {"type": "message-end", "id": "m", "delta": {"finish_reason": "COMPLETE", "usage": {"billed_units": counts, "tokens": counts}}},
    ]  # fmt: skip
    pieces = [*(event(row, row["type"]) for row in rows), DONE]
    with RawServer(stream(*pieces)) as server:
        running = own(provider("raw", server.url, "cohere-v2"))
        body = {"model": "raw/words", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        text = running.post("/v2/chat", body).text
    assert text == b"".join(pieces).decode()


# ------------------------------------------------------------------ two forms of one value


@pytest.mark.parametrize(
    ("value", "count", "rest", "rows"),
    [
        ({"a": 1, "b": [{"c": 1}, {}]}, 2, {"a": 1, "b": []}, [{"b": [{"c": 1}]}, {"b": [{}]}]),
        ([{"b": [{"c": 1}], "d": 2}], 1, [{"b": [], "d": 2}], [[{"b": [{"c": 1}]}]]),
        ({"b": [{"c": 1}]}, 2, {"b": [{"c": 1}]}, []),
        ({"b": [1, 2]}, 2, {"b": [1, 2]}, []),
        (None, 0, None, []),
    ],
)
def test_apart(value, count, rest, rows):
    assert overlay.apart(value, count) == (rest, rows)


def test_what_is_unknown():
    known = written.keys_of(
        {"id": "=a", "choices": [{"delta": {"merge": [{"text": "=b"}, {"use": "x"}]}, "defaults": {"why": None}}]}
    )
    said = {"id": 1, "odd": None, "choices": [{"delta": {"text": "a", "marks": [1]}, "why": "stop"}]}
    assert overlay.unknown(said, known) == {"odd": None, "choices": [{"delta": {"marks": [1]}}]}
    assert overlay.unknown({"id": 1, "choices": [{"why": "stop"}]}, known) is None


@pytest.mark.parametrize(
    ("said", "written", "both"),
    [
        ({"a": 1, "b": 2}, {"a": 3}, {"a": 3, "b": 2}),
        ([{"a": 1}, {"a": 2}], [{"b": 1}], [{"a": 1, "b": 1}, {"a": 2}]),
        ({"content": {"name": "Ann"}}, {"content": '{"name": "Ann"}'}, {"content": {"name": "Ann"}}),
        ({"content": ["a", "b"]}, {"content": "ab"}, {"content": "ab"}),
    ],
)
def test_over(said, written, both):
    assert overlay.over(said, written) == both


@pytest.mark.parametrize(
    ("said", "written", "good"),
    [
        ({"id": "x", "a": 1, "b": 2}, {"id": "y", "a": 1}, True),
        ({"a": 1}, {"id": "y", "a": 1}, False),
        ({"a": 1}, {"a": 1, "b": None}, True),
        ({"a": [{"b": 1, "c": 2}]}, {"a": [{"b": 1}]}, True),
        ({"a": [{"b": 1}, {}]}, {"a": [{"b": 1}]}, False),
    ],
)
def test_covers(said, written, good):
    assert overlay.covers(said, written) is good


# ------------------------------------------------------------------ one write for a head and what follows it


class Written:
    def __init__(self):
        self.writes, self.closed = [], False

    def write(self, data):
        self.writes.append(bytes(data))

    def is_closing(self):
        return self.closed

    def close(self):
        self.closed = True


def test_the_beginning_of_an_answer_goes_out_when_all_else_that_is_ready_is_done():
    async def writes():
        joined = JoinedWrites(written := Written())
        joined.write(b"HTTP/1.1 200 OK\r\n\r\n")
        joined.write(b"first")
        joined.write(b"second")
        before = [*written.writes]
        await asyncio.sleep(0)
        joined.write(b"third")
        joined.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        joined.close()
        await asyncio.sleep(0)
        return before, written

    before, written = asyncio.run(writes())
    assert before == []
    assert written.writes == [b"HTTP/1.1 200 OK\r\n\r\nfirstsecond", b"third", b"HTTP/1.1 400 Bad Request\r\n\r\n"]
    assert written.closed


def test_a_large_answer_is_not_kept_back():
    async def writes():
        joined = JoinedWrites(written := Written())
        for data in (b"HTTP/1.1 200 OK\r\n\r\n", b"a" * 70_000, b"b"):
            joined.write(data)
        return written.writes

    assert [len(data) for data in asyncio.run(writes())] == [70_019, 1]


def test_an_error_behind_the_last_line_is_never_handed_on(own):
    with RawServer(stream(chunk({"content": "a"}), b'{"error": {"message": "out of memory"}}')) as server:
        answer = own(provider("raw", server.url)).chat("raw/words", stream=True)
    *said, last = events_of(answer.text)
    assert last["error"]["kind"] == "server", "it has the form of the caller's API"
    assert [each for each in said if "error" in each] == []


def test_a_last_event_without_its_line_end_counts(own):
    with RawServer(stream(*MESSAGES[:3], *END[:2], END[2].rstrip())) as server:
        text = own(provider("raw", server.url, "anthropic-messages")).post("/v1/messages", BODY).text
    assert [each["type"] for each in events_of(text)][-1] == "message_stop"


def test_every_event_has_a_space_behind_its_field(own):
    pieces = [
        piece.replace(b"data: ", b"data:")
        for piece in (chunk({"content": "a"}), chunk({"content": "b"}), chunk({}, "stop"))
    ]
    text = asked(own, [*pieces, DONE]).text
    assert "".join(each["choices"][0]["delta"].get("content") or "" for each in events_of(text)) == "ab"
    assert "data:{" not in text


def test_a_provider_that_streams_nothing_is_asked_for_a_whole_answer(own, tmp_path):
    refused = {
        "error": {
            "message": "Streaming is not supported for this model",
            "param": "stream",
            "code": "unsupported_value",
        }
    }
    whole = {
        **CALLED,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "all"}, "finish_reason": "stop"}],
    }
    with RawServer(response(400, refused), response(200, whole)) as server:
        mine = f"{{spec: 1, id: mine, extends: openai-chat, base_url: '{server.url}', auth: {{style: none}}, fallbacks: {{no_stream: {{enabled: true}}}}}}"
        (tmp_path / "files").mkdir()
        (tmp_path / "files" / "mine.yaml").write_text(mine)
        answer = own("", "--providers", tmp_path / "files").chat("mine/words", stream=True)
        asked = [request["body"] for request in server.requests]
    assert [body.get("stream") for body in asked] == [True, None]
    assert "".join(each["choices"][0]["delta"].get("content") or "" for each in events_of(answer.text)) == "all"
    assert answer.headers["x-prx-fallbacks"] == "no_stream"


@pytest.mark.parametrize("stream", [False, True])
def test_the_providers_own_code_of_an_error_is_told(own, stream):
    refused = {"error": {"message": "too long", "type": "invalid_request_error", "code": "context_length_exceeded"}}
    with RawServer(response(400, refused)) as server:
        answer = own(provider("raw", server.url)).chat("raw/words", stream=stream)
    error = json.loads(answer.text)["error"]
    assert (answer.status, error["kind"], error["code"]) == (400, "overflow", "context_length_exceeded")


async def called(app):
    """What an application sends for a streamed call, in this process."""
    body = json.dumps({"model": "raw/words", "messages": [{"role": "user", "content": "hi"}], "stream": True}).encode()
    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "query_string": b"", "headers": headers}
    messages, sent = iter([{"type": "http.request", "body": body}]), []

    async def receive():
        return next(messages, None) or await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    return sent


@pytest.mark.parametrize("words", [1, 20])
def test_a_stream_that_ends_with_the_service_says_that_it_was_closed(tmp_path, words):
    async def cut_off(config):
        app = App(config=config, env={"HOME": str(tmp_path)})
        try:
            call = asyncio.ensure_future(called(app))
            await asyncio.sleep(0.5)
            app.cut_off()
            return await asyncio.wait_for(call, 5)
        finally:
            await app.client.aclose()

    pieces = [part for number in range(words) for part in (chunk({"content": f"w{number} "}), 0.01)]
    config = tmp_path / "config.toml"
    with RawServer(stream(*pieces, HANG, end=False)) as server:
        config.write_text(provider("raw", server.url).replace("${UP_KEY}", "sk"))
        sent = asyncio.run(cut_off(str(config)))
    *said, last = b"".join(message.get("body", b"") for message in sent).split(b"\n\n")[:-1]
    assert f"w{words - 1} ".encode() in said[-1]
    error = json.loads(last.removeprefix(b"data: "))["error"]
    assert error["kind"] == "truncated"
    assert "closed" in error["message"]


def test_a_call_that_is_over_leaves_nothing_for_the_garbage_collector(tmp_path, monkeypatch):
    """A stream may be long: what holds itself stays until Python looks through everything."""
    made = []

    class Watched(answer.Relay):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(weakref.ref(self))

    monkeypatch.setattr(answer, "Relay", Watched)

    async def calls(config):
        app = App(config=config, env={"HOME": str(tmp_path)})
        await called(app)
        gc.collect()
        gc.disable()
        try:
            sent = await called(app)
            await asyncio.sleep(0)
            return sent, [each() for each in made]
        finally:
            gc.enable()
            await app.client.aclose()

    (tmp_path / "config.toml").write_text(provider("raw", "URL").replace("${UP_KEY}", "sk"))
    with RawServer(stream(chunk({"content": "a"}), chunk({"content": "b"}), chunk({}, "stop"), DONE)) as server:
        file = tmp_path / "config.toml"
        file.write_text(file.read_text().replace("URL", server.url))
        sent, left = asyncio.run(calls(str(file)))
    assert sent[0]["status"] == 200
    assert left == [None, None]


def _long_stream(seed):
    """Texts that repeat one another, and every now and then anything else, in pieces cut anywhere."""
    chance = random.Random(seed)
    odd = [
        lambda: chunk({"content": 'a "quoted" word'}),
        lambda: chunk({"content": "ünï \\ \u2028"}),
        lambda: chunk({"content": "marked"}, system_fingerprint="fp"),
        lambda: chunk({"content": ""}),
        lambda: chunk({"reasoning_content": "why"}),
        lambda: chunk({"content": "more"}, choice={"logprobs": {"content": []}}),
        lambda: chunk({"tool_calls": [{"index": 0, "id": "t", "function": {"name": "f", "arguments": "{}"}}]}),
        lambda: b": a comment\n\n",
        lambda: b"event: note\ndata: {}\n\n",
        lambda: chunk({"content": "5 < 6"}),
    ]
    said = [chunk({"role": "assistant", "content": ""})]
    said += [
        chunk({"content": f"w{number} "}) if chance.random() < 0.9 else chance.choice(odd)()
        for number in range(chance.randint(5, 60))
    ]
    ends = [
        [chunk({}, "stop"), DONE],
        [chunk({}, "stop"), event({**CALLED, "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}), DONE, chunk({"content": "late"})],
        [b'data: {"error": {"message": "out of memory"}}\n\n'],
        [b"data: half"],
        [],
    ]  # fmt: skip
    text = b"".join((*said, *chance.choice(ends)))
    cuts = sorted({0, len(text), *(chance.randrange(len(text)) for _ in range(chance.choice([0, 3, 40])))})
    return [text[start:end] for start, end in itertools.pairwise(cuts)]


def _answered(folder, pieces):
    """What an application in this process answers with, where its provider streams these pieces."""

    async def answered(config):
        app = App(config=config, env={"HOME": str(folder)})
        try:
            return await called(app)
        finally:
            await app.client.aclose()

    with RawServer(stream(*pieces)) as server:
        config = folder / "config.toml"
        config.write_text(provider("raw", server.url).replace("${UP_KEY}", "sk"))
        sent = asyncio.run(answered(str(config)))
    return b"".join(message.get("body", b"") for message in sent)


@pytest.mark.parametrize("seed", range(30))
def test_events_that_repeat_one_another_are_handed_on_as_any_other(tmp_path, monkeypatch, seed):
    """What is handed on past the call's flow is byte for byte what comes out of it."""
    pieces, fitting, texts = _long_stream(seed), [], []

    def counted(self, event, real=Decoder.repeated):
        fitting.append(real(self, event))
        return fitting[-1]

    for repeated in (counted, lambda *_: None):
        monkeypatch.setattr(Decoder, "repeated", repeated)
        texts.append(_unnamed(_answered(tmp_path, pieces).decode()))
    assert texts[0] == texts[1]
    repeats = sum(b'"content": "w' in piece for piece in b"".join(pieces).split(b"\n\n"))
    assert repeats < 20 or b"tool_calls" in b"".join(pieces) or any(fitting)


@pytest.mark.parametrize(
    ("odd", "content", "reasoning"),
    [
        ("<think>", "w0 w1 w2 w3 w4 w5 w6 w7 w8 w9 ", "w10 w11 w12 w13 w14 "),
        ("a <th", "w0 w1 w2 w3 w4 w5 w6 w7 w8 w9 a <thw10 w11 w12 w13 w14 ", ""),
        ("h\ud83d", "w0 w1 w2 w3 w4 w5 w6 w7 w8 w9 h\ufffdw10 w11 w12 w13 w14 ", ""),
        ("b\x7fd", "w0 w1 w2 w3 w4 w5 w6 w7 w8 w9 b\ufffddw10 w11 w12 w13 w14 ", ""),
    ],
)
def test_an_event_that_repeats_others_is_written_anew_where_it_is_read_as_something_else(
    tmp_path, odd, content, reasoning
):
    """What was held back before it, or the tag that it stands behind, is not in its own bytes; and half a letter is none."""
    words = [chunk({"content": f"w{number} "}) for number in range(15)]
    strange = chunk({"content": odd}).replace(b"\\u007f", b"\xff").replace(b"\x7f", b"\xff")
    text = _answered(tmp_path, [*words[:10], strange, *words[10:], chunk({}, "stop"), DONE]).decode()
    deltas = [each["choices"][0]["delta"] for each in events_of(text)]
    assert "".join(delta.get("content") or "" for delta in deltas) == content
    assert "".join(delta.get("reasoning_content") or "" for delta in deltas) == reasoning


def _unnamed(text):
    """The answer without what it is called where its provider does not say so."""
    return re.sub(r'"(id|created)": ?("[^"]*"|\d+)', "", text)
