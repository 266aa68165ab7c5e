"""The blocks of an answer keep their order, in the reply, in the deltas, and in what goes back in the next turn."""

from __future__ import annotations

import json

import pytest
from helpers.driver_without_io import CATALOG, play

from prx.core.blocks import Blocks
from prx.core.replay import Replay
from prx.core.weave import Identity, Weaver

FACES = {face.id: face for face in CATALOG.faces()}

THOUGHT = {"type": "thinking", "thinking": "I need the sky.", "signature": "s1"}
HIDDEN = {"type": "redacted_thinking", "data": "opaque"}
LATER = {"type": "thinking", "thinking": "And the time.", "signature": "s2"}
USES = [
    {"type": "tool_use", "id": "t1", "name": "sky", "input": {"city": "Paris"}},
    {"type": "tool_use", "id": "t2", "name": "time", "input": {}},
]
TOOLS = [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in ("sky", "time")]


def messages_events(blocks):
    """Anthropic's events for these blocks, their texts in pieces."""
    yield {"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 1}}}
    for index, block in enumerate(blocks):
        empty = {**block, **{key: "" for key in ("text", "thinking", "signature") if key in block}}
        yield {
            "type": "content_block_start",
            "index": index,
            "content_block": {**empty, "input": {}} if "input" in block else empty,
        }
        for piece in pieces_of(block):
            yield {"type": "content_block_delta", "index": index, "delta": piece}
        yield {"type": "content_block_stop", "index": index}
    yield {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 2}}
    yield {"type": "message_stop"}


def pieces_of(block):
    for key, kind in (("thinking", "thinking_delta"), ("text", "text_delta"), ("signature", "signature_delta")):
        if key in block:
            yield from ({"type": kind, key: part} for part in (block[key][:3], block[key][3:]) if part)
    if block.get("input"):
        yield {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}


def gemini_part(text=None, call=None, **more):
    return {**({"text": text} if text is not None else {"functionCall": call}), **more}


def item(kind, **more):
    return {"type": kind, **more}


# dialect, the blocks as its API has them, the kinds that prx gives, where the blocks stand in the next request
SHAPES = {
    "anthropic-messages": (
        [THOUGHT, HIDDEN, {"type": "text", "text": "Let me see."}, USES[0], LATER, {"type": "text", "text": "Now the time."}, USES[1]],
        ["reasoning", "reasoning", "text", "tool_call", "reasoning", "text", "tool_call"],
        lambda body: body["messages"][1]["content"],
    ),
    "gemini": (
        [
            gemini_part("Let me see.", thoughtSignature="a"),
            gemini_part(call={"id": "t1", "name": "sky", "args": {"city": "Paris"}}, thoughtSignature="b"),
            gemini_part("Now the time."),
            gemini_part(call={"id": "t2", "name": "time", "args": {}}),
        ],
        ["text", "tool_call", "text", "tool_call"],
        lambda body: body["contents"][1]["parts"],
    ),
    "openai-responses": (
        [
            item("reasoning", id="rs1", summary=[], encrypted_content="e1"),
            item("function_call", id="f1", call_id="t1", name="sky", arguments='{"city":"Paris"}'),
            item("reasoning", id="rs2", summary=[{"type": "summary_text", "text": "Hm."}], encrypted_content="e2"),
            item("message", role="assistant", content=[{"type": "output_text", "text": "Now the time."}]),
            item("function_call", id="f2", call_id="t2", name="time", arguments="{}"),
        ],
        ["reasoning", "tool_call", "reasoning", "text", "tool_call"],
        lambda body: body["input"][1:-2],
    ),
}  # fmt: skip


def whole(dialect, blocks):
    return {
        "anthropic-messages": {"json": {"model": "m", "content": blocks, "stop_reason": "tool_use", "usage": {}}},
        "gemini": {"json": {"candidates": [{"content": {"parts": blocks}, "finishReason": "STOP"}]}},
        "openai-responses": {"json": {"status": "completed", "output": blocks, "model": "m"}},
    }[dialect]


def streamed(dialect, blocks):
    if dialect == "anthropic-messages":
        return {"events": list(messages_events(blocks))}
    if dialect == "gemini":
        events = [{"candidates": [{"content": {"parts": [block]}}]} for block in blocks]
        return {"events": [*events, {"candidates": [{"content": {"parts": []}, "finishReason": "STOP"}]}]}
    events = [
        {"type": f"response.output_item.{what}", "output_index": place, "item": block}
        for place, block in enumerate(blocks)
        for what in ("added", "done")
    ]
    return {
        "events": [
            *events,
            {"type": "response.completed", "response": {"status": "completed", "output": [], "model": "m"}},
        ]
    }


@pytest.mark.parametrize("answer", [whole, streamed])
@pytest.mark.parametrize("dialect", SHAPES)
def test_what_alternates_goes_back_as_it_came(dialect, answer):
    blocks, kinds, sent = SHAPES[dialect]
    call = {"messages": [{"role": "user", "content": "hi"}], "tools": TOOLS, "stream": answer is streamed}
    reply = play({"extends": dialect}, call, [answer(dialect, blocks)]).reply
    assert [part.kind for part in reply.parts] == kinds
    assert reply.content == "".join(part.text for part in reply.parts if part.kind == "text")
    assert [part.call for part in reply.parts if part.call] == list(reply.tool_calls)
    results = [{"role": "tool", "tool_call_id": call.id, "content": "ok"} for call in reply.tool_calls]
    again = {**call, "messages": [*call["messages"], reply.message, *results], "stream": False}
    request = play({"extends": dialect}, again, [whole(dialect, blocks)]).requests[0]
    assert [kept(block) for block in sent(request["body"])] == [kept(block) for block in blocks]


@pytest.mark.parametrize(
    "blocks",
    [[THOUGHT, HIDDEN, LATER], [THOUGHT, HIDDEN], [HIDDEN, THOUGHT], [THOUGHT, HIDDEN, {"type": "text", "text": "So."}, LATER]],
)  # fmt: skip
def test_the_pieces_of_reasoning_are_the_reasoning_where_a_block_has_no_text(blocks):
    played = play({"extends": "anthropic-messages"}, {"stream": True}, [streamed("anthropic-messages", blocks)])
    thoughts = [block["thinking"] for block in blocks if "thinking" in block]
    assert played.reply.reasoning == "\n\n".join(thoughts)
    assert "".join(delta.reasoning or "" for delta in played.deltas) == played.reply.reasoning
    sealed = [part.text for part in played.reply.parts if part.kind == "reasoning"]
    assert sealed == [block.get("thinking", "") for block in blocks if block is HIDDEN or "thinking" in block]


@pytest.mark.parametrize("before", [[THOUGHT, {"type": "text", "text": "Let me see."}], [HIDDEN, THOUGHT, USES[0]]])
@pytest.mark.parametrize("thought", [LATER, {**LATER, "thinking": "\nAnd the time."}])
def test_a_woven_block_of_reasoning_has_its_own_text_alone(before, thought):
    """Its signature is for it, and not for the line breaks between two of them."""
    blocks = [*before, thought, {"type": "text", "text": "Now."}]
    played = play(
        {"extends": "anthropic-messages"}, {"stream": True, "tools": TOOLS}, [streamed("anthropic-messages", blocks)]
    )
    weaver = Weaver(FACES["anthropic-messages"], {}, Identity("a", "b"))
    events = [*weaver.values(played.deltas, lambda: played.reply), *weaver.last_values(played.reply)]
    texts = {}
    for event, _ in events:
        if "delta" in event and "thinking" in event["delta"]:
            texts[event["index"]] = texts.get(event["index"], "") + event["delta"]["thinking"]
    assert [*texts.values()] == [block["thinking"] for block in blocks if "thinking" in block]


def test_a_replay_without_a_number_belongs_to_the_block_that_a_replay_has_begun():
    blocks = Blocks()
    blocks.add_replay({"thinking_blocks": [{"data": "a"}]}, {}, (0,))
    blocks.add_replay({"signature": "b"}, {})
    assert [(part.kind, part.text, part.replay) for part in blocks.parts((), ())] == [
        ("reasoning", "", {"thinking_blocks": [{"data": "a"}], "signature": "b"})
    ]
    assert blocks.write("reasoning", "so", (0,)) == "so"
    assert blocks.write("reasoning", "then", (1,)) == "\n\nthen"


def kept(block):
    """What of a block has to go back: all but names that the next turn does not need, and defaults."""
    made = {
        key: value
        for key, value in block.items()
        if key not in {"id", "role", "summary", "annotations"} or block.get("type") == "tool_use"
    }
    if isinstance(made.get("content"), list):
        made["content"] = made["content"][0]["text"]
    if block.get("type") in {None, "message"}:
        made.pop("type", None)
    return made


@pytest.mark.parametrize("dialect", SHAPES)
def test_other_dialects_take_the_message(dialect):
    """Order, marks and all: what another API does not know does not reach it."""
    blocks, _, _ = SHAPES[dialect]
    call = {"messages": [{"role": "user", "content": "hi"}], "tools": TOOLS}
    reply = play({"extends": dialect}, call, [whole(dialect, blocks)]).reply
    results = [{"role": "tool", "tool_call_id": call.id, "content": "ok"} for call in reply.tool_calls]
    again = {**call, "messages": [*call["messages"], reply.message, *results]}
    for other in ("openai-chat", "anthropic-messages", "gemini", "openai-responses", "cohere-v2", "ollama"):
        text = json.dumps(play({"extends": other}, again, [{"status": 500}], retries=0).requests[0]["body"])
        if other != dialect:
            assert not any(word in text for word in ('"parts": [{"type"', "opaque", '"s1"', '"a"', "e1")), text
        assert text.index('"name": "sky"') < text.index('"name": "time"')


def test_a_message_that_was_changed_is_sent_as_it_is():
    """The order of blocks is a note beside the message: what the message itself says counts."""
    blocks, _, _ = SHAPES["anthropic-messages"]
    call = {"messages": [{"role": "user", "content": "hi"}], "tools": TOOLS}
    reply = play({"extends": "anthropic-messages"}, call, [whole("anthropic-messages", blocks)]).reply
    message = {**reply.message, "content": "Something else."}
    again = {**call, "messages": [*call["messages"], message]}
    body = play({"extends": "anthropic-messages"}, again, [whole("anthropic-messages", blocks)]).requests[0]["body"]
    texts = [block["text"] for block in body["messages"][1]["content"] if block["type"] == "text"]
    assert texts == ["Something else."]


def test_deltas_carry_what_goes_back():
    blocks, _, _ = SHAPES["anthropic-messages"]
    played = play(
        {"extends": "anthropic-messages"}, {"stream": True, "tools": TOOLS}, [streamed("anthropic-messages", blocks)]
    )
    found = [block for delta in played.deltas for block in (delta.replay or {}).get("thinking_blocks", ())]
    joined = {}
    for block in found:
        for key, value in block.items():
            kept_before = joined.setdefault(block["index"], {}).get(key)
            joined[block["index"]][key] = (
                kept_before + value
                if isinstance(value, str) and kept_before and key != "type"
                else value or kept_before
            )
    assert [block.get("signature") or block.get("data") for block in joined.values()] == ["s1", "opaque", "s2"]


def test_a_refusal_comes_in_deltas():
    events = [{"choices": [{"delta": {"refusal": text}}]} for text in ("I ", "won't.")]
    played = play({}, {"stream": True}, [{"events": [*events, {"choices": [{"delta": {}, "finish_reason": "stop"}]}]}])
    assert [delta.refusal for delta in played.deltas] == ["I ", "won't.", None]
    assert played.reply.refusal == "I won't."
    assert [part.kind for part in played.reply.parts] == ["refusal"]


@pytest.mark.parametrize("index", [[], {}, [1], None])
def test_an_index_that_is_none_joins_nothing(index):
    """Of what goes back in the next turn: two elements whose index says nothing stay two."""
    replay = Replay()
    for text in ("a", "b"):
        replay.add({"details": [{"index": index, "text": text}]}, {"details": ("text",)})
    assert replay.folded() == {"details": [{"index": index, "text": "a"}, {"index": index, "text": "b"}]}


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_ends_with_calls_has_some(stream):
    """A proxy between dialects may lose them, and an agent would take the empty answer for the model's last word."""
    call = {"messages": [{"role": "user", "content": "hi"}], "tools": TOOLS, "stream": stream}
    choice = {"index": 0, "finish_reason": "tool_calls", ("delta" if stream else "message"): {"role": "assistant"}}
    body = {"model": "m", "choices": [choice]}
    answer = {"text": f"data: {json.dumps(body)}\n\ndata: [DONE]\n\n"} if stream else {"json": body}
    error = play({"extends": "openai-chat"}, call, [answer]).error
    assert (error.kind, error.message) == ("protocol", "the answer ended with tool calls, and none came")
