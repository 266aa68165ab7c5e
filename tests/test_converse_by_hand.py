"""The dialect that has no face, judged by a reader of requests and a writer of answers that were written by hand, as
tests/test_dialects_by_hand.py does it for those that have one.
"""

from __future__ import annotations

import json
from urllib.parse import unquote

import pytest
from helpers import event_stream, properties
from helpers.answers import read
from hypothesis import example, given
from hypothesis import strategies as st
from judges.dialects.common import Asked, sign
from judges.dialects.meaning import meant
from judges.dialects.reads import converse as reads
from judges.dialects.writes import converse as writes
from test_dialects_by_hand import ANSWERS, CASES, CUT, FULL, wanted

from prx import arguments
from prx.chat import Call
from prx.core.request import build
from prx.emulator.common import RefusedError
from prx.errors import CapabilityError
from prx.spec.loader import Loader
from prx.wire import Target

DIALECT = "bedrock-converse"


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    """A provider that has nothing but its dialect."""
    folder = tmp_path_factory.mktemp("providers")
    can = "capabilities: {vision: true, reasoning: true, tools: true, json_schema: true}"
    (folder / "plain.yaml").write_text(f"spec: 1\nid: plain\nextends: {DIALECT}\n{can}\n")
    return Loader([folder]).get("plain").spec("words")


def sent(spec, messages, stream=False, tools=None, tool_choice=None, **params):
    """The path and the body of a call."""
    made = Call("words", tuple(arguments.messages(messages)), arguments.tools(tools), tool_choice, params, stream)
    request = build(spec, made, Target(spec.id, "http://x"))
    return request.url.removeprefix("http://x"), json.loads(request.body)


def heard(path, body):
    _, _, model, verb = path.split("/")
    return reads.read(body, unquote(model), stream=verb == "converse-stream")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_sent_for_a_case_means_what_it_says(spec, case):
    asked = meant(heard(*sent(spec, **case.call, stream=case.ask == "stream")))
    meaning = meant(wanted(case, spec))
    assert asked == meaning


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@example(answer=FULL)
@example(answer=CUT)
@given(answer=ANSWERS)
def test_what_is_written_by_hand_is_read_as_meant(spec, stream, answer):
    data = b"".join(writes.events(answer)) if stream else json.dumps(writes.whole(answer)).encode()
    _, reply = read(spec, data, stream=stream, pieces=41 if stream else 0)
    thought = "".join(answer.reasoning)
    assert (reply.content, reply.reasoning or "", reply.finish_reason) == (answer.text, thought, answer.finish)
    assert [(call.name, json.loads(call.arguments)) for call in reply.tool_calls] == answer.calls
    usage = reply.usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (answer.prompt_tokens, answer.completion_tokens)
    assert usage.cached_tokens == answer.cached_tokens
    assert usage.total_tokens == answer.prompt_tokens + answer.completion_tokens
    # What it said goes back with the signature of its thoughts.
    tools = [{"type": "function", "function": {"name": name}} for name in ("get_weather", "f")]
    results = [{"role": "tool", "tool_call_id": call.id, "content": "ok"} for call in reply.tool_calls]
    talk = [{"role": "user", "content": "hi"}, reply.message, *results, {"role": "user", "content": "go on"}]
    _, body = sent(spec, talk, tools=tools)
    assert [message["role"] for message in heard("/model/words/converse", body).messages][:2] == ["user", "assistant"]
    thoughts = [block["reasoningContent"] for block in body["messages"][1]["content"] if "reasoningContent" in block]
    signed = [{"reasoningText": {"text": thought, "signature": sign(thought)}}] if thought else []
    assert thoughts == signed


BROKEN = st.sampled_from(
    [b"", b"\0\0\0\x10", b"{}", b"no message", event_stream.exception("throttlingException", {"message": "m"})]
)


@given(answer=ANSWERS, cuts=st.lists(st.integers(0, 3000), max_size=4), place=st.integers(0, 12), put=BROKEN)
def test_a_stream_in_any_cuts(answer, cuts, place, put):
    """Also one into which something else was put between two of its messages."""
    pieces = [*writes.events(answer)]
    data = b"".join([*pieces[:place], put, *pieces[place:]])
    properties.read_alike(DIALECT, data, properties.pieces(data, cuts), stream=True)


def test_a_stream_byte_by_byte_and_cut_off_at_each_byte():
    data = b"".join(writes.events(CUT))
    whole = properties.read_alike(DIALECT, data, properties.singles(data), stream=True)
    assert whole.error is None
    for end in range(len(data) - 1):
        outcome = properties.read(DIALECT, [data[:end]], stream=True)
        told = outcome.error is not None and outcome.error.kind == "truncated"
        assert told or outcome.reply.finish_reason == "length", end


WEATHER = {"type": "function", "function": {"name": "w", "description": "", "parameters": {"type": "object"}}}
CACHED = {"cache_control": {"type": "ephemeral"}}


def talk_of(spec, messages, **more):
    path, body = sent(spec, messages, **more)
    heard(path, body)
    return body


def test_marks_of_the_cache_are_points_behind_what_they_mark(spec):
    body = talk_of(
        spec,
        [
            {
                "role": "system",
                "content": [{"type": "text", "text": "be", "cache_control": {"type": "e", "ttl": "1h"}}],
            },
            {"role": "user", "content": "hi", **CACHED},
            {"role": "assistant", "tool_calls": [{"id": "c1", "function": {"name": "w", "arguments": ""}}], **CACHED},
            {"role": "tool", "tool_call_id": "c1", "content": "r", **CACHED},
        ],
        tools=[{**WEATHER, **CACHED}],
    )
    point = {"cachePoint": {"type": "default"}}
    assert body["system"] == [{"text": "be"}, {"cachePoint": {"type": "default", "ttl": "1h"}}]
    assert [message["content"][-1] for message in body["messages"]] == [point] * 3
    assert body["toolConfig"]["tools"][-1] == point


def test_a_result_that_says_nothing_and_one_that_failed(spec):
    calls = [{"id": f"c{place}", "function": {"name": "w", "arguments": "{}"}} for place in (1, 2)]
    body = talk_of(
        spec,
        [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "tool_calls": calls},
            {"role": "tool", "tool_call_id": "c1", "content": ""},
            {"role": "tool", "tool_call_id": "c2", "content": "no such city", "is_error": True},
            {"role": "user", "content": "and?"},
        ],
        tools=[WEATHER],
    )
    first, second, said = body["messages"][2]["content"]
    assert first["toolResult"]["content"] == [{"json": {}}]
    assert second["toolResult"]["status"] == "error"
    assert said == {"text": "and?"}


def test_what_the_api_does_not_know_is_for_the_model_to_refuse(spec):
    body = talk_of(spec, "hi", top_k=5, seed=1, max_tokens=9, additionalModelRequestFields={"own": 2})
    assert body["additionalModelRequestFields"] == {"own": 2, "top_k": 5, "seed": 1}
    assert body["inferenceConfig"] == {"maxTokens": 9}


def test_hidden_thoughts_go_back_and_unsigned_ones_do_not(spec):
    rows = [{"redactedContent": "UkVE"}, {"text": "of another model"}]
    said = {"role": "assistant", "content": "a", "reasoning_content": "x", "reasoning_contents": rows}
    body = talk_of(spec, [{"role": "user", "content": "q"}, said, {"role": "user", "content": "r"}])
    assert body["messages"][1]["content"] == [{"reasoningContent": {"redactedContent": "UkVE"}}, {"text": "a"}]


@pytest.mark.parametrize(
    ("messages", "more"),
    [
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}]}], {}),
        ("hi", {"response_format": {"type": "json_object"}}),
        (
            [{"role": "user", "content": "hi"}, {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "w"}}]}],
            {"tools": [WEATHER], "tool_choice": "none"},
        ),
    ],
    ids=["a picture on the web", "any JSON", "no tools, where there were calls"],
)  # fmt: skip
def test_what_has_no_form_is_refused_before_it_is_sent(spec, messages, more):
    with pytest.raises(CapabilityError, match="cannot express this"):
        sent(spec, messages, **more)


def test_the_reader_refuses_what_is_odd():
    """So that the above proves something."""
    good = {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}
    assert reads.read(good, "m", stream=False) == Asked(
        "m", [{"role": "user", "content": [{"type": "text", "text": "hi"}]}], []
    )
    two = [*good["messages"], *good["messages"]]
    for bad in (
        {**good, "odd": 1},
        {"messages": []},
        {"messages": two},
        {"messages": [{"role": "user", "content": [{"text": " "}]}]},
    ):
        with pytest.raises(RefusedError):
            reads.read(bad, "m", stream=False)
