"""Readers of answers, by hand: a body, or the text of a stream, of each dialect as what was Heard.

They refuse every unknown or malformed key, and events in an order that the APIs do not have. Raises RefusedError.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from judges.dialects.common import Json, RefusedError
from judges.dialects.strict import NUMBER, By, check


class Heard(NamedTuple):
    """An answer. calls: (name, arguments as a value); counts: of the prompt, of the answer, of what was cached, of reasoning;
    None where the dialect has no such count.
    """

    reasoning: str
    text: str
    calls: list[tuple[str, Any]]
    finish: str
    counts: tuple[int | None, int | None, int | None, int | None]


class Reader(NamedTuple):
    whole: Callable[[Json], Heard]
    stream: Callable[[str], Heard]


def _need(holds: Any, text: str) -> None:
    if not holds:
        raise RefusedError("request", text)


def _events(text: str, *, named: bool, done: str = "") -> list[Json]:
    """The values of server-sent events. named: each has its `type` as name; done: the data of the last one."""
    _need(text.endswith("\n\n"), "the last event is not complete")
    blocks = [block.splitlines() for block in text.replace("\r\n", "\n").removesuffix("\n\n").split("\n\n")]
    if done:
        _need(blocks.pop() == [f"data: {done}"], f"the stream does not end with {done}")
    made = []
    for lines in blocks:
        value = json.loads(lines[-1].removeprefix("data: "))
        head = [f"event: {value['type']}"] if named else []
        _need(lines[:-1] == head and lines[-1].startswith("data: "), f"an event of the form {head} expected: {lines}")
        made.append(value)
    return made


# ------------------------------------------------------------------ Chat Completions

_REASONS = {"stop", "length", "tool_calls", "content_filter"}
_USAGE = {
    **dict.fromkeys(("prompt_tokens!", "completion_tokens!", "total_tokens!"), int),
    "prompt_tokens_details": {"cached_tokens": int},
    "completion_tokens_details": {"reasoning_tokens": int},
}
_CALL = {"id!": str, "type!": {"function"}, "function!": {"name!": str, "arguments!": str}}
_MESSAGE = {"role!": {"assistant"}, "content!": (str, None), "reasoning_content": str, "tool_calls": [_CALL, ...]}
_SHARED = {"id!": str, "created!": int, "model!": str}
_CHOICES = {
    **_SHARED,
    "object!": {"chat.completion"},
    "choices!": [{"index!": int, "message!": _MESSAGE, "finish_reason!": _REASONS, "logprobs": None}, ...],
    "usage!": _USAGE,
}
_PIECE = {"index!": int, "id": str, "type": {"function"}, "function!": {"name": str, "arguments!": str}}
_DELTA = {"role": {"assistant"}, "content": str, "reasoning_content": str, "tool_calls": [_PIECE, ...]}
_CHUNK = {
    **_SHARED,
    "object!": {"chat.completion.chunk"},
    "choices!": [{"index!": int, "delta!": _DELTA, "finish_reason!": (_REASONS, None)}],
    "usage": _USAGE,
}


def _chat_counts(usage: Json) -> tuple[int | None, int | None, int | None, int | None]:
    prompt, answer = usage["prompt_tokens"], usage["completion_tokens"]
    _need(usage["total_tokens"] == prompt + answer, "total_tokens is no sum")
    details = usage["prompt_tokens_details"], usage["completion_tokens_details"]
    return prompt, answer, details[0]["cached_tokens"], details[1]["reasoning_tokens"]


def _choices(body: Json) -> Heard:
    check(body, _CHOICES)
    (choice,) = body["choices"]
    message = choice["message"]
    functions = [call["function"] for call in message.get("tool_calls", ())]
    calls = [(each["name"], json.loads(each["arguments"])) for each in functions]
    thought, text = message.get("reasoning_content", ""), message["content"] or ""
    return Heard(thought, text, calls, choice["finish_reason"], _chat_counts(body["usage"]))


def _chunks(text: str) -> Heard:
    chunks = _events(text, named=False, done="[DONE]")
    check(chunks, [_CHUNK, ...], "chunks")
    _need(chunks[0]["choices"][0]["delta"].get("role") == "assistant", "the first chunk has no role")
    _need(chunks[-1]["choices"] == [] and "usage" in chunks[-1], "the last chunk is not the usage")
    _need(not any("usage" in chunk for chunk in chunks[:-1]), "the usage comes twice")
    rows = [chunk["choices"][0] for chunk in chunks[:-1]]
    _need([bool(row["finish_reason"]) for row in rows] == [False] * (len(rows) - 1) + [True], "no end, or two")
    calls: list[list[str]] = []
    for piece in (piece for row in rows for piece in row["delta"].get("tool_calls", ())):
        if piece["index"] == len(calls):
            _need("id" in piece and "type" in piece, "the first piece of a call has no id")
            calls.append([piece["function"]["name"], ""])
        _need(piece["index"] == len(calls) - 1, "a piece of another call than the last one")
        calls[-1][1] += piece["function"]["arguments"]
    return Heard(
        "".join(row["delta"].get("reasoning_content", "") for row in rows),
        "".join(row["delta"].get("content", "") for row in rows),
        [(name, json.loads(arguments)) for name, arguments in calls],
        rows[-1]["finish_reason"],
        _chat_counts(chunks[-1]["usage"]),
    )


# ------------------------------------------------------------------ Responses

_ENDS = {"completed", "incomplete"}
_OUTPUT = {"output_text": {"text!": str, "annotations!": list, "logprobs": list}}
_THOUGHT = {"summary_text": {"text!": str}}
_DONE = By(
    "type",
    {
        "message": {"id!": str, "role!": {"assistant"}, "status!": {"completed"}, "content!": [By("type", _OUTPUT)]},
        "reasoning": {"id!": str, "summary!": [By("type", _THOUGHT)]},
        "function_call": {"id!": str, "call_id!": str, "name!": str, "arguments!": str, "status!": {"completed"}},
    },
)
_COUNTS = {
    **dict.fromkeys(("input_tokens!", "output_tokens!", "total_tokens!"), int),
    "input_tokens_details!": {"cached_tokens!": int},
    "output_tokens_details!": {"reasoning_tokens!": int},
}
_ECHOED = (
    "error!", "instructions!", "metadata!", "parallel_tool_calls!", "temperature!", "tool_choice!", "tools!", "top_p!", "max_output_tokens", "max_tool_calls",
    "previous_response_id", "completed_at", "text", "truncation", "store", "background", "service_tier", "presence_penalty", "frequency_penalty", "top_logprobs",
    "user", "prompt_cache_key", "safety_identifier", "reasoning",
)  # fmt: skip
_RESPONSE = {
    "id!": str,
    "object!": {"response"},
    "created_at!": int,
    "model!": str,
    "status!": {*_ENDS, "in_progress"},
    "output!": [_DONE],
    "usage!": (_COUNTS, None),
    "incomplete_details!": (None, {"reason!": {"max_output_tokens", "content_filter"}}),
    **dict.fromkeys(_ECHOED, object),
}
_OF_ITEM = {"item_id!": str, "output_index!": int}
_OF_TEXT = {**_OF_ITEM, "content_index!": int}
_OF_SUMMARY = {**_OF_ITEM, "summary_index!": int}
_OPENED = {
    "type!": str,
    "id!": str,
    "role": str,
    "status": {"in_progress"},
    "content": list,
    "summary": list,
    "call_id": str,
    "name": str,
    "arguments": str,
}
_RESPONSES_EVENT = By(
    "type",
    {
        **{f"response.{name}": {"response!": _RESPONSE} for name in ("created", "in_progress", "completed", "incomplete")},
        "response.output_item.added": {"output_index!": int, "item!": _OPENED},
        "response.output_item.done": {"output_index!": int, "item!": _DONE},
        "response.content_part.added": {**_OF_TEXT, "part!": By("type", _OUTPUT)},
        "response.content_part.done": {**_OF_TEXT, "part!": By("type", _OUTPUT)},
        "response.output_text.delta": {**_OF_TEXT, "delta!": str, "logprobs": list},
        "response.output_text.done": {**_OF_TEXT, "text!": str, "logprobs": list},
        "response.reasoning_summary_part.added": {**_OF_SUMMARY, "part!": By("type", _THOUGHT)},
        "response.reasoning_summary_part.done": {**_OF_SUMMARY, "part!": By("type", _THOUGHT)},
        "response.reasoning_summary_text.delta": {**_OF_SUMMARY, "delta!": str},
        "response.reasoning_summary_text.done": {**_OF_SUMMARY, "text!": str},
        "response.function_call_arguments.delta": {**_OF_ITEM, "delta!": str},
        "response.function_call_arguments.done": {**_OF_ITEM, "name": str, "arguments!": str},
    },
)  # fmt: skip


def _items(body: Json) -> Heard:
    check(body, _RESPONSE)
    _need(body["status"] in _ENDS and body["usage"], "the response has not ended")
    _need((body["status"] == "incomplete") == bool(body["incomplete_details"]), "incomplete without its reason")
    made: dict[str, list[Json]] = {"reasoning": [], "message": [], "function_call": []}
    for item in body["output"]:
        made[item["type"]].append(item)
    usage = body["usage"]
    _need(usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"], "total_tokens is no sum")
    cached, thought = usage["input_tokens_details"]["cached_tokens"], usage["output_tokens_details"]["reasoning_tokens"]
    calls = [(item["name"], json.loads(item["arguments"])) for item in made["function_call"]]
    return Heard(
        "".join(part["text"] for item in made["reasoning"] for part in item["summary"]),
        "".join(part["text"] for item in made["message"] for part in item["content"]),
        calls,
        "length" if body["status"] == "incomplete" else "tool_calls" if calls else "stop",
        (usage["input_tokens"], usage["output_tokens"], cached, thought),
    )


def _item_events(text: str) -> Heard:
    events = _events(text, named=True)
    _need([event.pop("sequence_number") for event in events] == [*range(len(events))], "the numbers are not in order")
    check(events, [_RESPONSES_EVENT, ...], "events")
    kinds = [event["type"].removeprefix("response.") for event in events]
    _need(kinds[0] == "created" and kinds[-1] in _ENDS, "no beginning or no end")
    heard = _items(events[-1]["response"])
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    _need(done == events[-1]["response"]["output"], "what was done is not the output")
    pieces: dict[str, str] = {}
    for event in events:
        if event["type"].endswith(".delta"):
            pieces[event["item_id"]] = pieces.get(event["item_id"], "") + event["delta"]
    for item in done:
        whole = item.get("arguments") or "".join(
            part["text"] for part in item.get("content") or item.get("summary") or ()
        )
        _need(pieces.get(item["id"], "") == whole, f"the pieces of {item['id']} are not the whole")
    return heard


# ------------------------------------------------------------------ Messages

_STOPS = {
    "end_turn": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "stop_sequence": "stop",
    "refusal": "content_filter",
}
_BLOCK = By(
    "type",
    {
        "thinking": {"thinking!": str, "signature!": str},
        "text": {"text!": str},
        "tool_use": {"id!": str, "name!": str, "input!": dict},
    },
)
_SPENT = {"input_tokens!": int, "output_tokens!": int, "cache_read_input_tokens": int}
_BLOCKS = {
    "id!": str, "type!": {"message"}, "role!": {"assistant"}, "model!": str, "content!": [_BLOCK], "stop_reason!": ({*_STOPS}, None),
    "stop_sequence!": (str, None), "usage!": _SPENT,
}  # fmt: skip
_PIECES = {
    "thinking_delta": {"thinking!": str},
    "signature_delta": {"signature!": str},
    "text_delta": {"text!": str},
    "input_json_delta": {"partial_json!": str},
}
_MESSAGES_EVENT = By(
    "type",
    {
        "message_start": {"message!": _BLOCKS},
        "ping": {},
        "content_block_start": {"index!": int, "content_block!": _BLOCK},
        "content_block_delta": {"index!": int, "delta!": By("type", _PIECES)},
        "content_block_stop": {"index!": int},
        "message_delta": {"delta!": {"stop_reason!": {*_STOPS}, "stop_sequence!": (str, None)}, "usage!": _SPENT},
        "message_stop": {},
    },
)


def _blocks(body: Json) -> Heard:
    check(body, _BLOCKS)
    _need(body["stop_reason"], "the message has not ended")
    content, usage = body["content"], body["usage"]
    cached = usage.get("cache_read_input_tokens", 0)
    return Heard(
        "".join(block["thinking"] for block in content if block["type"] == "thinking"),
        "".join(block["text"] for block in content if block["type"] == "text"),
        [(block["name"], block["input"]) for block in content if block["type"] == "tool_use"],
        _STOPS[body["stop_reason"]],
        (usage["input_tokens"] + cached, usage["output_tokens"], cached, None),
    )


def _block_events(text: str) -> Heard:
    events = _events(text, named=True)
    check(events, [_MESSAGES_EVENT, ...], "events")
    start, *middle, last, stop = events
    kinds = start["type"], last["type"], stop["type"]
    _need(kinds == ("message_start", "message_delta", "message_stop"), "no beginning or no end")
    content: list[Json] = []
    is_open = False
    for event in middle:
        begins = event["type"] == "content_block_start"
        _need(is_open is not begins, f"{event['type']} at the wrong place")
        _need(event["index"] == len(content) - (not begins), "the index is not the block's")
        if begins:
            content.append({**event["content_block"], "said": ""})
        elif event["type"] == "content_block_delta":
            _add(content[-1], event["delta"])
        is_open = event["type"] != "content_block_stop"
    _need(not is_open, "the last block has no end")
    for block in content:
        said = block.pop("said")
        if block["type"] == "tool_use":
            block["input"] = json.loads(said or "{}")
    return _blocks(
        {
            **start["message"],
            "content": content,
            **last["delta"],
            "usage": {**start["message"]["usage"], **last["usage"]},
        }
    )


def _add(block: Json, delta: Json) -> None:
    kind, key = {
        "thinking_delta": ("thinking", "thinking"),
        "signature_delta": ("thinking", "signature"),
        "text_delta": ("text", "text"),
        "input_json_delta": ("tool_use", "partial_json"),
    }[delta["type"]]
    _need(block["type"] == kind, f"{delta['type']} in a block of {block['type']}")
    place = "said" if key == "partial_json" else key
    block[place] += delta[key]


# ------------------------------------------------------------------ generateContent

_ENDED = {"STOP": "stop", "MAX_TOKENS": "length", "SAFETY": "content_filter"}
_PART = (
    {"text!": str, "thought": bool, "thoughtSignature": str},
    {"functionCall!": {"id": str, "name!": str, "args!": dict}, "thoughtSignature": str},
)
_CANDIDATE = {"content!": {"role!": {"model"}, "parts!": [_PART]}, "finishReason": {*_ENDED}, "index!": int}
_SPENT_HERE = dict.fromkeys(
    ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "cachedContentTokenCount", "totalTokenCount"),
    int,
)
_PARTS = {"candidates!": [_CANDIDATE, ...], "usageMetadata": _SPENT_HERE, "modelVersion!": str, "responseId!": str}


def _parts(*bodies: Json) -> Heard:
    check([*bodies], [_PARTS, ...], "bodies")
    rows = [body["candidates"][0] for body in bodies]
    _need(["finishReason" in row for row in rows] == [False] * (len(rows) - 1) + [True], "no end, or two")
    parts = [part for row in rows for part in row["content"]["parts"]]
    calls = [(part["functionCall"]["name"], part["functionCall"]["args"]) for part in parts if "functionCall" in part]
    usage = bodies[-1]["usageMetadata"]
    prompt, thought = usage["promptTokenCount"], usage["thoughtsTokenCount"]
    spoken = usage["candidatesTokenCount"] + thought
    _need(usage["totalTokenCount"] == prompt + spoken, "totalTokenCount is no sum")
    finish = _ENDED[rows[-1]["finishReason"]]
    return Heard(
        "".join(part["text"] for part in parts if part.get("thought")),
        "".join(part["text"] for part in parts if "text" in part and not part.get("thought")),
        calls,
        "tool_calls" if calls and finish == "stop" else finish,
        (prompt, spoken, usage["cachedContentTokenCount"], thought),
    )


# ------------------------------------------------------------------ the second version of chat

_FINISHED = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "tool_calls",
    "ERROR": "content_filter",
}
_SEGMENT = By("type", {"text": {"text!": str}, "thinking": {"thinking!": str}})
_TOKENS = {"input_tokens!": int, "output_tokens!": int}
_BILLED = {"billed_units!": _TOKENS, "tokens!": {**_TOKENS, "reasoning_tokens": int}, "cached_tokens": int}
_SAID = {"role!": {"assistant"}, "tool_plan": str, "content": [_SEGMENT, ...], "tool_calls": [_CALL, ...]}
_SEGMENTS = {"id!": str, "finish_reason!": {*_FINISHED}, "message!": _SAID, "usage!": _BILLED}
_STARTED = {"role!": {"assistant"}, "content": list, "tool_plan": str, "tool_calls": list, "citations": list}
_SEGMENTS_EVENT = By(
    "type",
    {
        "message-start": {"id!": str, "delta!": {"message!": _STARTED}},
        "tool-plan-delta": {"delta!": {"message!": {"tool_plan!": str}}},
        "content-start": {"index!": int, "delta!": {"message!": {"content!": _SEGMENT}}},
        "content-delta": {"index!": int, "delta!": {"message!": {"content!": ({"text!": str}, {"thinking!": str})}}},
        "content-end": {"index!": int},
        "tool-call-start": {"index!": int, "delta!": {"message!": {"tool_calls!": _CALL}}},
        "tool-call-delta": {"index!": int, "delta!": {"message!": {"tool_calls!": {"function!": {"arguments!": str}}}}},
        "tool-call-end": {"index!": int},
        "message-end": {"id!": str, "delta!": {"finish_reason!": {*_FINISHED}, "usage!": _BILLED}},
    },
)


def _segments(body: Json) -> Heard:
    check(body, _SEGMENTS)
    message, usage = body["message"], body["usage"]
    content, functions = message.get("content", ()), [call["function"] for call in message.get("tool_calls", ())]
    tokens = usage["tokens"]
    return Heard(
        "".join(part["thinking"] for part in content if part["type"] == "thinking"),
        "".join(part["text"] for part in content if part["type"] == "text"),
        [(each["name"], json.loads(each["arguments"])) for each in functions],
        _FINISHED[body["finish_reason"]],
        (tokens["input_tokens"], tokens["output_tokens"], usage["cached_tokens"], tokens.get("reasoning_tokens")),
    )


def _segment_events(text: str) -> Heard:
    events = _events(text, named=True, done="[DONE]")
    check(events, [_SEGMENTS_EVENT, ...], "events")
    start, *middle, last = events
    _need((start["type"], last["type"]) == ("message-start", "message-end"), "no beginning or no end")
    message: Json = {"role": "assistant", "content": [], "tool_calls": []}
    open_one: tuple[str, int] | None = None  # what is open, and its index
    for event in middle:
        what, _, moment = event["type"].rpartition("-")
        own = what, event.get("index")
        if moment == "start":
            _need(open_one is None, f"{event['type']} before the end of {open_one}")
            open_one = own
        elif what != "tool-plan":
            _need(open_one == own, f"{event['type']} at the wrong place")
        _add_segment(message, what, moment, event)
        open_one = None if moment == "end" else open_one
    _need(open_one is None, f"{open_one} has no end")
    made = {key: value for key, value in message.items() if value}
    return _segments({"id": start["id"], "message": made, **last["delta"]})


def _add_segment(message: Json, what: str, moment: str, event: Json) -> None:
    said = event.get("delta", {}).get("message", {})
    if what == "content" and moment == "start":
        message["content"].append(dict(said["content"]))
    elif what == "content" and moment == "delta":
        ((key, piece),) = said["content"].items()
        _need(key in message["content"][-1], f"a piece of {key} in another segment")
        message["content"][-1][key] += piece
    elif what == "tool-call" and moment == "start":
        _need(event["index"] == len(message["tool_calls"]), "the index is not the call's")
        message["tool_calls"].append({**said["tool_calls"], "function": dict(said["tool_calls"]["function"])})
    elif what == "tool-call" and moment == "delta":
        message["tool_calls"][-1]["function"]["arguments"] += said["tool_calls"]["function"]["arguments"]


# ------------------------------------------------------------------ lines of JSON

_ASKED = {"id": str, "function!": {"name!": str, "arguments!": dict}}
_HERE = {"role!": {"assistant"}, "content!": str, "thinking": str, "tool_calls": [_ASKED, ...]}
_LINE = {
    "model!": str,
    "created_at!": str,
    "message!": _HERE,
    "done!": bool,
    "done_reason": {"stop", "length"},
    **dict.fromkeys(("prompt_eval_count", "eval_count"), int),
    **dict.fromkeys(("total_duration", "load_duration", "prompt_eval_duration", "eval_duration"), NUMBER),
}


def _lines(*rows: Json) -> Heard:
    check([*rows], [_LINE, ...], "lines")
    _need([row["done"] for row in rows] == [False] * (len(rows) - 1) + [True], "no end, or two")
    _need(["done_reason" in row for row in rows] == [row["done"] for row in rows], "a reason before the end, or none")
    messages, last = [row["message"] for row in rows], rows[-1]
    functions = [call["function"] for message in messages for call in message.get("tool_calls", ())]
    calls = [(each["name"], each["arguments"]) for each in functions]
    return Heard(
        "".join(message.get("thinking", "") for message in messages),
        "".join(message["content"] for message in messages),
        calls,
        "tool_calls" if calls and last["done_reason"] == "stop" else last["done_reason"],
        (last["prompt_eval_count"], last["eval_count"], None, None),
    )


def _values(text: str) -> Iterator[Json]:
    _need(text.endswith("\n"), "the last line is not complete")
    return (json.loads(line) for line in text.removesuffix("\n").split("\n"))


READERS = {
    "openai-chat": Reader(_choices, _chunks),
    "openai-responses": Reader(_items, _item_events),
    "anthropic-messages": Reader(_blocks, _block_events),
    "gemini": Reader(_parts, lambda text: _parts(*_events(text, named=False))),
    "cohere-v2": Reader(_segments, _segment_events),
    "ollama": Reader(_lines, lambda text: _lines(*_values(text))),
}
