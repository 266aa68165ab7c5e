"""Retries, fallbacks and what is remembered: the laws, over every sequence of what can happen.

At most 1 + retries + fallbacks requests; nothing is sent after the first output; no fallback twice; the
error that led to a fallback is the one reported; and nothing is dropped that no fallback names.
"""

from __future__ import annotations

import itertools

import pytest
from helpers.driver_without_io import chunk, play

TOOLS = [{"type": "function", "function": {"name": "f"}}]
MESSAGES = [{"role": "system", "content": "SYSTEM"}, {"role": "user", "content": "USER", "name": "NAME"}]
# What one request can come to. `responses` answers are read by the dialect that is spoken then.
HAPPENINGS = {
    "ok": {},
    "busy": {"status": 503, "json": {"error": {"message": "busy"}}},
    "no_endpoint": {"status": 404, "json": {"detail": "Not Found"}},
    "no_stream": {"status": 400, "json": {"error": {"message": "stream is not supported"}}},
    "no_options": {"status": 400, "json": {"error": {"message": "unknown field stream_options"}}},
    "no_system": {"status": 400, "json": {"error": {"message": "role 'system' is not supported"}}},
    "refused": {"status": 400, "json": {"error": {"message": "no"}}},
    "no_warmth": {
        "status": 400,
        "json": {"error": {"message": "temperature is not supported", "param": "temperature"}},
    },
    "no_name": {"status": 422, "json": {"detail": [{"loc": ["body", "messages", 1, "name"], "msg": "not permitted"}]}},
    "only_streams": {"status": 400, "json": {"error": {"message": "only supports streaming"}}},
    "lost": {"fails": "connection"},
    "cut": {"events": [chunk({"content": "hel"})], "cut": "connection"},
}
RESPONSES_OK = {
    "json": {
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "hello"}]}],
        "status": "completed",
    }
}


def run(sequence, *, stream, retries, fallbacks):
    answers = [dict(HAPPENINGS[name]) for name in sequence]
    spec = {"extends": "compatible", "base_url": "https://api.example/v1", "retry": {"wait": 0}}
    call = {"messages": MESSAGES, "tools": TOOLS, "stream": stream, "params": {"max_tokens": 5, "temperature": 0.7}}
    return play(spec, call, answers, retries=retries, fallbacks=fallbacks)


NAMED = {"no_warmth", "no_name", "only_streams"}  # refusals that say themselves what to leave out, or how to ask
CHOICES = [(), ("responses",), ("no_stream", "no_stream_options"), ("merge_system",), None]
CHOICES_NAMED = [(), ("without_temperature",), ("without_parameter", "without_key"), ("as_stream", "no_stream"), None]
# How many a call of such a choice may use: of those that an error itself names, four; and all others once.
ALLOWED = {("without_parameter", "without_key"): 4, None: 6 + 4}


@pytest.mark.parametrize("fallbacks", CHOICES, ids=str)
@pytest.mark.parametrize("retries", [0, 1, 2])
@pytest.mark.parametrize("stream", [False, True])
def test_the_laws_hold_for_every_sequence(stream, retries, fallbacks):
    the_laws_hold(HAPPENINGS.keys() - NAMED, stream, retries, fallbacks)


@pytest.mark.parametrize("fallbacks", CHOICES_NAMED, ids=str)
@pytest.mark.parametrize("retries", [0, 1])
@pytest.mark.parametrize("stream", [False, True])
def test_the_laws_hold_for_what_an_error_names(stream, retries, fallbacks):
    the_laws_hold(NAMED | {"ok", "busy", "no_endpoint", "no_stream", "cut"}, stream, retries, fallbacks)


def the_laws_hold(happenings, stream, retries, fallbacks):
    seen: set[tuple[str, ...]] = set()
    for sequence in itertools.product(sorted(happenings), repeat=3):
        if any(sequence[:count] in seen for count in (1, 2)):
            continue  # the same call: it had ended before what is different here
        played = run(sequence, stream=stream, retries=retries, fallbacks=fallbacks)
        seen.add(sequence[: len(played.requests)])
        used = played.reply.fallbacks if played.reply else ()
        where = (sequence, [request["url"] for request in played.requests])
        allowed = ALLOWED.get(fallbacks, len(fallbacks or ()))
        assert len(played.requests) <= 1 + retries + allowed, where
        assert len(set(used)) == len(used), where
        if not stream:
            assert "Emit" not in played.order, where
        if "Emit" in played.order:
            assert "Send" not in played.order[played.order.index("Emit") :], where
        if played.error:
            assert played.error.attempts == len(played.requests), where
            first = HAPPENINGS[sequence[0]].get("json", {})
            words = first.get("error", {}).get("message") or first.get("detail", "the wire")
            words = words if isinstance(words, str) else words[0]["msg"]
            if "Emit" not in played.order or len(played.requests) > 1:
                assert words in str(played.error), where
        for request in played.requests:
            nothing_is_lost(request, fallbacks, where)


def nothing_is_lost(request, fallbacks, where):
    text = str(request["body"])
    assert "SYSTEM" in text, where
    assert "USER" in text, where
    assert "'tools'" in text, where
    assert "5" in text, where
    every = ("responses", "no_stream", "no_stream_options", "merge_system", "without_parameter", "without_key")
    allowed = every if fallbacks is None else fallbacks
    if not {"without_parameter", "without_temperature"} & {*allowed} or "no_warmth" not in where[0]:
        assert "0.7" in text, where
    if not {"without_key", "responses"} & {*allowed} or not {"no_name", "no_endpoint"} & {*where[0]}:
        assert "NAME" in text, where
    if "merge_system" not in allowed and "messages" in request["body"]:
        assert request["body"]["messages"][0]["role"] == "system", where
    if "responses" not in allowed:
        assert request["url"].endswith("/chat/completions"), where


def test_the_first_error_is_the_one_reported():
    both_fail = play(
        {}, {}, [HAPPENINGS["no_endpoint"], {"status": 500, "json": {"error": {"message": "worse"}}}], retries=0
    )
    assert both_fail.error.kind == "not_found"
    assert both_fail.error.status == 404
    assert "500: worse" in str(both_fail.error)
    assert both_fail.error.history == ("404: Not Found", "500: worse")


def test_a_404_that_names_the_model_is_no_missing_endpoint():
    played = play({}, {}, [{"status": 404, "json": {"error": {"message": "The model `m` does not exist"}}}])
    assert len(played.requests) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_responses_takes_everything_along(stream):
    call = {
        "messages": [
            *MESSAGES,
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "RESULT"},
            {"role": "user", "content": "look [IMAGE:data:image/png;base64,AAAA] here"},
        ],
        "tools": TOOLS,
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "stream": stream,
        "params": {"max_tokens": 5, "temperature": 0, "reasoning_effort": "low", "user": "u"},
    }
    done = RESPONSES_OK["json"] | {"usage": {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}}
    answer = (
        {
            "events": [
                {"type": "response.output_text.delta", "delta": "hello"},
                {"type": "response.completed", "response": done},
            ]
        }
        if stream
        else {"json": done}
    )
    played = play({}, call, [HAPPENINGS["no_endpoint"], answer])
    body = played.requests[1]["body"]
    assert played.requests[1]["url"] == "https://api.example/v1/responses"
    assert body["instructions"] == "SYSTEM"
    assert body["max_output_tokens"] == 5
    assert body["reasoning"] == {"effort": "low"}
    assert body["user"] == "u"
    assert body["temperature"] == 0
    assert body["tools"] == [
        {"type": "function", "strict": False, "parameters": {"type": "object", "properties": {}}, "name": "f"}
    ]
    assert body["tool_choice"] == {"type": "function", "name": "f"}
    assert body.get("stream", False) is stream
    assert body["input"] == [
        {"role": "user", "content": [{"type": "input_text", "text": "USER"}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "RESULT"},
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "look "},
                {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "auto"},
                {"type": "input_text", "text": " here"},
            ],
        },
    ]
    assert played.reply.fallbacks == ("responses",)
    assert played.reply.content == "hello"
    assert played.reply.usage.total_tokens == 7
    assert played.reply.streamed is stream


def test_what_worked_is_in_effect_from_the_start():
    played = play({}, {}, [RESPONSES_OK], remembered=("responses",))
    assert len(played.requests) == 1
    assert played.requests[0]["url"].endswith("/responses")
    assert played.reply.fallbacks == ("responses",)
    assert play({}, {}, [{}], remembered=("responses",), fallbacks=()).requests[0]["url"].endswith("/chat/completions")


def test_a_parameter_that_only_the_place_in_a_detail_names():
    refused = {"status": 422, "json": {"detail": [{"loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}]}}  # fmt: skip
    played = play({}, {"stream": True}, [refused, {"events": [chunk({"content": "hi"}, "stop")]}], retries=0)
    assert played.reply.fallbacks == ("no_stream_options",)
    assert "stream_options" not in played.requests[1]["body"]


def test_a_fallback_that_the_spec_does_not_have():
    played = play({}, {}, [{}], fallbacks=("responces",))
    assert played.error.kind == "config"
    assert "merge_system" in str(played.error)


def test_waiting_grows_and_obeys_the_provider():
    played = play({"retry": {"times": 3, "wait": 1}}, {}, [HAPPENINGS["busy"]], chance=lambda: 1.0)
    assert played.waits == [1, 2, 4]
    asked = play({}, {}, [{"status": 429, "headers": {"retry-after": "9"}, "json": {}}, {}])
    assert asked.waits == [9]
    no_time = play({}, {}, [{"status": 429, "headers": {"retry-after": "9"}, "json": {}}], wait_fits=False)
    assert len(no_time.requests) == 1
    assert no_time.error.retry_after == 9


def test_a_connection_lost_after_the_end_loses_nothing():
    played = play(
        {}, {"stream": True}, [{"events": [chunk({"content": "hello"}), chunk({}, "stop")], "cut": "timeout"}]
    )
    assert played.reply.content == "hello"


def test_partial_text_stays_with_the_error():
    played = play(
        {},
        {"stream": True},
        [{"events": [chunk({"content": "hel"}), chunk({"content": "lo"})], "cut": "connection"}],
        retries=2,
    )
    assert played.error.kind == "connection"
    assert played.error.partial.content == "hello"
    assert len(played.requests) == 1


def test_a_refused_stream_is_asked_for_whole():
    played = play({}, {"stream": True}, [HAPPENINGS["no_stream"], {}])
    assert "stream" not in played.requests[1]["body"]
    assert played.reply.streamed is False
    assert [delta.content for delta in played.deltas] == ["hello"]
    assert played.reply.fallbacks == ("no_stream",)


def test_a_body_in_place_of_a_stream_needs_no_second_request():
    played = play({}, {"stream": True}, [{}])
    assert len(played.requests) == 1
    assert (played.reply.content, played.reply.streamed) == ("hello", False)


def test_a_stream_in_place_of_a_body_is_read_as_it_is():
    played = play({}, {}, [{"events": [chunk({"content": "hello"}), chunk({}, "stop"), "[DONE]"]}])
    assert played.reply.content == "hello"


def test_a_break_inside_a_fallbacks_answer_is_what_is_reported():
    """The refusal that led to the fallback is over: half an answer came, and then it broke."""
    pieces = [{"type": "response.output_text.delta", "delta": "hel"}]
    played = play(
        {"extends": "compatible", "base_url": "https://api.example/v1"},
        {"stream": True},
        [{"status": 404, "json": {"detail": "Not Found"}}, {"events": pieces}],
    )
    assert (played.error.kind, played.error.partial.content) == ("truncated", "hel")
    assert len(played.error.history) == 2
