"""Faces, the inbound halves of dialects: what they understand is what the outbound half says, and what they write is read by it.

The two halves of a file judge each other, over everything that is recorded; tests/judges hold both against the vendors' own types.
"""

from __future__ import annotations

import json
import re

import pytest
from helpers import data_files
from helpers.answers import answers, read
from helpers.recordings import CASSETTES, chats
from hypothesis import given

from prx.chat import Call, Delta, Reply, Usage
from prx.core.inbound import Routes, accept, fitting
from prx.core.request import build_body
from prx.core.weave import Identity, Weaver
from prx.errors import CapabilityError, Error
from prx.spec.loader import Loader

LOADER = Loader()
FACES = {face.id: face for face in LOADER.faces()}
READ_BY = {  # a provider that speaks the dialect without habits of its own
    "openai-chat": "compatible",
    "anthropic-messages": "anthropic",
    "openai-responses": "openai-responses",
    "gemini": "gemini",
    "ollama": "ollama-native",
    "cohere-v2": "cohere",
}
COUNTS = {"anthropic-messages": 4, "ollama": 3}  # how many of Usage's counts the dialect has; the others have all five
HAVE_REFUSALS = ("openai-chat", "openai-responses")
IDENTITY = Identity("abc", "served/model", 1_767_225_600, "2026-01-01T00:00:00Z")


def exchanges(provider):
    for path in chats(provider):
        for row in data_files.read(path)["interactions"]:
            if row["request"]["method"] == "POST" and isinstance(row["request"].get("json"), dict):
                yield path.stem, row["request"], row["response"]


def recorded():
    for folder in sorted(path.name for path in CASSETTES.iterdir() if path.is_dir()):
        definition = LOADER.get(folder)
        if definition.raw["dialect"] in FACES:
            yield folder


def path_of(uri):
    found = re.search(r"/models/([^:?]+):", uri)
    return {"model": found[1], "stream": "stream" in uri} if found else {}


def spec_of(provider, request):
    definition = LOADER.get(provider)
    fell_back = request["uri"].endswith("/responses") and definition.raw["dialect"] == "openai-chat"
    path = path_of(request["uri"])
    return definition.spec(path.get("model") or request["json"]["model"], ("responses",) if fell_back else ())


def seen(reply, counts):
    """What no dialect may lose of an answer. A count of 0 and none are one: some APIs cannot leave it out."""
    calls = [(call.id, call.name, json.loads(call.arguments or "{}")) for call in reply.tool_calls]
    usage = [count or 0 for count in (reply.usage or Usage())[:counts]]
    return reply.content, reply.reasoning, reply.refusal, calls, reply.finish_reason, usage


def woven(face, groups, reply, asked=None):
    weaver = Weaver(face, asked or {"stream_options": {"include_usage": True}}, IDENTITY)
    return b"".join([*(weaver.feed(deltas, lambda so=so: so) for deltas, so in groups), weaver.end(reply)])


# ------------------------------------------------------------------ the two laws


@pytest.mark.parametrize("provider", [*recorded()])
def test_what_is_accepted_is_built_again(provider):
    count = 0
    for case, request, _ in exchanges(provider):
        spec, body = spec_of(provider, request), request["json"]
        if spec.dialect not in FACES:
            continue
        asked = accept(FACES[spec.dialect], body, path_of(request["uri"]))
        call = Call(
            asked.model, tuple(asked.messages), tuple(asked.tools), asked.tool_choice, asked.params, asked.stream
        )
        assert build_body(spec, call) == body, case
        count += 1
    assert count


@pytest.mark.parametrize("name", [*FACES])
@pytest.mark.parametrize("provider", [*recorded()])
def test_what_is_written_is_read_again(provider, name):
    out = LOADER.get(READ_BY[name]).spec("served/model")
    counts, count = COUNTS.get(name, 5), 0
    for case, request, response in exchanges(provider):
        spec = spec_of(provider, request)
        stream = bool(request["json"].get("stream") or path_of(request["uri"]).get("stream")) or "text" in response
        data = response["text"].encode() if "text" in response else json.dumps(response["json"]).encode()
        try:
            groups, reply = read(spec, data, stream=stream, pieces=40 if stream else 0)
        except Error:
            continue  # recorded errors
        if stream:
            made = woven(FACES[name], groups, reply)
        else:
            made = json.dumps(Weaver(FACES[name], {}, IDENTITY).body(reply)).encode()
        _, again = read(out, made, stream=stream)
        assert seen(again, counts) == seen(reply, counts), (case, made)
        count += 1
    assert count


# ------------------------------------------------------------------ any order of pieces


@pytest.mark.parametrize("name", [*FACES])
@given(answer=answers())
def test_any_order_of_pieces_is_read_again(name, answer):
    deltas, reply = answer
    if name not in HAVE_REFUSALS:  # there a refusal is a text
        deltas = [delta for delta in deltas if not delta.refusal]
    made = woven(FACES[name], [([delta], reply) for delta in deltas], reply)
    _, again = read(LOADER.get(READ_BY[name]).spec("served/model"), made, stream=True)
    assert again.content.replace("\n", "") == (reply.content or again.content).replace("\n", "")
    assert {(call.name, call.arguments and json.dumps(json.loads(call.arguments))) for call in again.tool_calls} == {
        (call.name, json.dumps(json.loads(call.arguments))) for call in reply.tool_calls
    }
    if not calls_alone(name):
        assert [call.id for call in again.tool_calls] == [
            f"call_{index}" for index in dict.fromkeys(piece.index for delta in deltas for piece in delta.tool_calls)
        ]


def calls_alone(name):
    """Whether a call comes in one event, so that it stands where it ended and not where it began."""
    return not FACES[name].steps["open", "tool_call"]


@given(answer=answers())
def test_the_events_of_messages_keep_their_grammar(answer):
    deltas, reply = answer
    text = woven(FACES["anthropic-messages"], [([delta], reply) for delta in deltas], reply).decode()
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
    assert [line[7:] for line in text.splitlines() if line.startswith("event: ")] == [event["type"] for event in events]
    letters = {
        "message_start": "S", "content_block_start": "(", "content_block_delta": ".", "content_block_stop": ")",
        "message_delta": "D", "message_stop": "E",
    }  # fmt: skip
    assert re.fullmatch(r"S(\(\.*\))*DE", "".join(letters[event["type"]] for event in events))
    places = [event["index"] for event in events if event["type"] == "content_block_start"]
    assert places == list(range(len(places)))
    started = {
        event["index"]: event["content_block"]["type"] for event in events if event["type"] == "content_block_start"
    }
    fits = {"text": "text_delta", "thinking": "thinking_delta", "tool_use": "input_json_delta"}
    assert all(
        event["delta"]["type"] == fits[started[event["index"]]]
        for event in events
        if event["type"] == "content_block_delta"
    )


@given(answer=answers())
def test_the_events_of_responses_keep_their_grammar(answer):
    deltas, reply = answer
    text = woven(FACES["openai-responses"], [([delta], reply) for delta in deltas], reply).decode()
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    added = [event["item"]["id"] for event in events if event["type"] == "response.output_item.added"]
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert added == [item["id"] for item in done] == [item["id"] for item in events[-1]["response"]["output"]]
    assert done == events[-1]["response"]["output"]
    assert events[-1]["type"] == "response.completed"
    open_item = None
    for event in events:
        if event["type"] == "response.output_item.added":
            assert open_item is None
            open_item = event["item"]["id"]
        elif event["type"] == "response.output_item.done":
            open_item = None
        elif "item_id" in event:
            assert event["item_id"] == open_item


@pytest.mark.parametrize("name", [*FACES])
@given(answer=answers())
def test_a_piece_that_is_filled_in_is_as_one_that_is_rendered(name, answer):
    deltas, reply = answer
    face = FACES[name]
    rendered = Weaver(face, {}, IDENTITY)
    rendered._moulded = lambda *_: b""
    filled = Weaver(face, {}, IDENTITY)
    for delta in deltas:
        assert filled.feed([delta], lambda: reply) == rendered.feed([delta], lambda: reply)
    assert filled.end(reply) == rendered.end(reply)


# ------------------------------------------------------------------ what goes back


def test_a_signature_is_written_where_its_block_ends():
    spec = LOADER.get("anthropic").spec("m")
    events = [
        {"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 1, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "redacted_thinking", "data": "sealed"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "thinking_delta", "thinking": "hm"}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "signature_delta", "signature": "signed"}},
        {"type": "content_block_stop", "index": 1},
        {"type": "content_block_start", "index": 2, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 2, "delta": {"type": "text_delta", "text": "so"}},
        {"type": "content_block_stop", "index": 2},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ]  # fmt: skip
    data = b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)
    groups, reply = read(spec, data, stream=True, pieces=30)
    made = woven(FACES["anthropic-messages"], groups, reply)
    _, again = read(spec, made, stream=True)
    assert again.message["thinking_blocks"] == reply.message["thinking_blocks"]
    assert [block["type"] for block in again.message["thinking_blocks"]] == ["redacted_thinking", "thinking"]
    whole = Weaver(FACES["anthropic-messages"], {}, IDENTITY).body(reply)
    assert [block["type"] for block in whole["content"]] == ["redacted_thinking", "thinking", "text"]


# ------------------------------------------------------------------ what a face refuses, and what falls away


def test_what_cannot_be_done_here_is_refused_by_its_name():
    with pytest.raises(CapabilityError, match="'previous_response_id' is not supported here"):
        accept(FACES["openai-responses"], {"model": "m", "input": "hi", "previous_response_id": "resp_1"})


def test_a_hint_falls_away_and_a_meaning_is_refused():
    face, spec = FACES["openai-chat"], LOADER.get("gemini").spec("m")
    keys = FACES["gemini"].keys
    params, dropped = fitting({"temperature": 0, "user": "u", "n": 2}, face, spec, keys)
    assert (params, dropped) == ({"temperature": 0, "n": 2}, ["user"])
    with pytest.raises(CapabilityError, match="'logit_bias' has no form in the dialect gemini"):
        fitting({"logit_bias": {"1": 2}}, face, spec, keys)


@pytest.mark.parametrize(("dialect", "provider"), READ_BY.items())
def test_that_one_call_at_once_is_wanted_is_said_in_every_dialect_or_left_out_and_told(dialect, provider):
    """Many libraries and programs say it with each call that has tools."""
    spec, tool = LOADER.get(provider).spec("m"), {"type": "function", "function": {"name": "f"}}
    params, dropped = fitting({"parallel_tool_calls": False}, FACES["openai-chat"], spec, FACES[dialect].keys)
    body = build_body(spec, Call("m", ({"role": "user", "content": "hi"},), tools=(tool,), params=params))
    assert ("parallel" in json.dumps(body)) is (dropped == []), body


def test_a_hint_falls_away_where_nobody_has_listed_the_dialects_keys():
    face, spec = FACES["gemini"], LOADER.get("compatible").spec("m")
    given = {"safetySettings": [], "top_k": 5, "newerThing": 1}
    assert fitting(given, face, spec, None) == ({"top_k": 5, "newerThing": 1}, ["safetySettings"])


# ------------------------------------------------------------------ what libraries of others send


def sent_to(provider, accepted):
    params = dict(accepted.params)
    return build_body(
        LOADER.get(provider).spec("m"),
        Call("m", tuple(accepted.messages), tuple(accepted.tools), accepted.tool_choice, params, False),
    )


def test_a_schema_in_capitals_becomes_json_schema():
    schema = {"type": "OBJECT", "properties": {"city": {"type": "STRING", "nullable": True}}}
    body = {
        "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
        "tools": [{"functionDeclarations": [{"name": "f", "parameters": schema}]}],
        "generationConfig": {"responseMimeType": "application/json", "responseSchema": schema},
    }
    body = sent_to("compatible", accept(FACES["gemini"], body, {"model": "m"}))
    wanted = {"type": "object", "properties": {"city": {"type": ["string", "null"]}}}
    assert body["tools"][0]["function"]["parameters"] == wanted
    assert body["response_format"]["json_schema"]["schema"] == wanted


@pytest.mark.parametrize(
    ("declarations", "schema"),
    [("functionDeclarations", "parameters_json_schema"), ("function_declarations", "parametersJsonSchema")],
)
def test_a_tools_parameters_have_two_names(declarations, schema):
    body = {"contents": [], "tools": [{declarations: [{"name": "f", schema: {"type": "object"}}]}]}
    tools = accept(FACES["gemini"], body, {"model": "m"}).tools
    assert [tool["function"] for tool in tools] == [{"name": "f", "parameters": {"type": "object"}}]


def test_a_result_that_is_no_error_goes_where_that_word_is_unknown():
    result = {"type": "tool_result", "tool_use_id": "c", "content": "sunny", "is_error": False}
    call = {"type": "tool_use", "id": "c", "name": "f", "input": {}}
    turns = [{"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    accepted = accept(FACES["anthropic-messages"], {"model": "m", "max_tokens": 9, "messages": turns})
    assert accepted.messages[-1]["is_error"] is False
    assert "is_error" not in sent_to("compatible", accepted)["messages"][-1]


def test_an_item_answer_says_each_key_of_the_tools_that_were_offered():
    """The types of Open Responses want all of them; a request may leave them out."""
    tools = [{"type": "function", "name": "f"}, {"type": "function", "name": "g", "strict": True}, {"type": "custom"}]
    said = Weaver(FACES["openai-responses"], {"tools": tools}, IDENTITY).body(Reply())["tools"]
    unsaid = {"description": None, "parameters": None, "strict": None}
    assert said == [unsaid | tools[0], unsaid | tools[1], {"type": "custom"}]


def test_what_a_library_adds_to_a_message_that_it_read_is_not_sent():
    function = {"name": "f", "arguments": "{}", "parsed_arguments": None}
    message = {
        "role": "assistant",
        "content": "",
        "parsed": None,
        "tool_calls": [{"id": "c", "type": "function", "function": function}],
    }
    said = sent_to("compatible", accept(FACES["openai-chat"], {"model": "m", "messages": [message]}))["messages"][0]
    assert "parsed" not in said
    assert said["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}


def test_the_name_that_the_schema_had_in_the_apis_trial_is_read():
    body = {
        "model": "m",
        "max_tokens": 9,
        "messages": [],
        "output_format": {"type": "json_schema", "schema": {"type": "object"}},
    }
    accepted = accept(FACES["anthropic-messages"], body)
    assert accepted.params["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert "output_format" not in accepted.params


def test_the_list_of_models_has_the_form_of_the_library_that_asks():
    for header, name in (
        ("", "openai-chat"),
        ("anthropic-version", "anthropic-messages"),
        ("x-goog-api-key", "gemini"),
    ):
        assert Routes(FACES.values()).find("GET", "/v1/models", {header: ""} if header else {}).face.id == name


@pytest.mark.parametrize("name", [*FACES])
def test_an_error_has_the_dialects_form(name):
    weaver = Weaver(FACES[name], {}, IDENTITY)
    said = {"kind": "rate_limit", "message": "slow down", "status": 429, "provider": "p", "retryable": True}
    body = weaver.error_body(said)
    assert "slow down" in json.dumps(body)
    failed = Weaver(FACES[name], {}, IDENTITY)
    failed.feed([Delta("a")], Reply)
    text = failed.fail(said).decode()
    assert "slow down" in text
    assert "[DONE]" not in text
    with pytest.raises(Error):
        read(LOADER.get(READ_BY[name]).spec("m"), woven_until_error(name, said), stream=True)


def woven_until_error(name, said):
    weaver = Weaver(FACES[name], {}, IDENTITY)
    return weaver.feed([Delta("a")], Reply) + weaver.fail(said)


@pytest.mark.parametrize(("key", "kind"), [("inlineData", "mimeType"), ("inline_data", "mime_type")])
@pytest.mark.parametrize(
    ("mime", "part"),
    [
        ("image/png", {"type": "image_url", "image_url": {"url": "data:image/png;base64,QQ=="}}),
        ("audio/wav", {"type": "input_audio", "input_audio": {"data": "QQ==", "format": "wav"}}),
        ("application/pdf", {"type": "file", "file": {"file_data": "data:application/pdf;base64,QQ=="}}),
    ],
)
def test_what_is_sent_along_is_what_its_type_says_in_both_spellings(key, kind, mime, part):
    body = {"contents": [{"role": "user", "parts": [{"text": "look"}, {key: {kind: mime, "data": "QQ=="}}]}]}
    assert accept(FACES["gemini"], body, {"model": "m"}).messages[0]["content"][1] == part
