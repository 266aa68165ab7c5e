"""Writers of requests, by hand: an Asked in the common form as path and body of each dialect.

The content of messages is a list of parts: texts, and pictures as data: URLs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from judges.dialects.common import Asked, Json
from judges.dialects.reads.parts import signature

Written = tuple[str, Json]  # path with query, body


def choices(asked: Asked) -> Written:
    """Chat Completions, whose messages are the common form."""
    body = {
        "model": asked.model,
        "messages": [_without_empty(message) for message in asked.messages],
        "stream": asked.stream,
        "max_completion_tokens": asked.limit,
    }
    body |= {"stream_options": {"include_usage": True}} if asked.stream else {}
    body |= {"tools": asked.tools} if asked.tools else {}
    body |= {"reasoning_effort": "low"} if asked.reason else {}
    body |= {"stop": asked.stop} if asked.stop else {}
    return "/v1/chat/completions", body


def _without_empty(message: Json) -> Json:
    return message if message["content"] else {**message, "content": None}


# ------------------------------------------------------------------ Responses


def items(asked: Asked) -> Written:
    body = {
        "model": asked.model,
        "input": [item for message in asked.messages for item in _items(message)],
        "stream": asked.stream,
        "max_output_tokens": asked.limit,
    }
    body |= {"tools": [{"type": "function", **tool["function"]} for tool in asked.tools]} if asked.tools else {}
    return "/v1/responses", body | ({"reasoning": {"effort": "low", "summary": "auto"}} if asked.reason else {})


def _items(message: Json) -> Iterator[Json]:
    if message["role"] == "tool":
        output = [_input(part) for part in message["content"]]
        yield {"type": "function_call_output", "call_id": message["tool_call_id"], "output": output}
        return
    said = message["role"] == "assistant"
    parts = [{"type": "output_text", **_text(part)} if said else _input(part) for part in message["content"]]
    if parts:
        yield {"type": "message", "role": message["role"], "content": parts}
    for call in message.get("tool_calls", ()):
        yield {"type": "function_call", "call_id": call["id"], **call["function"]}


def _text(part: Json) -> Json:
    return {"text": part["text"]}


def _input(part: Json) -> Json:
    if part["type"] == "image_url":
        return {"type": "input_image", "image_url": part["image_url"]["url"]}
    return {"type": "input_text", **_text(part)}


# ------------------------------------------------------------------ Messages


def blocks(asked: Asked) -> Written:
    system = [part for message in asked.messages if message["role"] == "system" for part in message["content"]]
    messages: list[Json] = []
    before = ""
    for message in asked.messages:
        if message["role"] == "system":
            continue
        if before == "tool" and message["role"] != "assistant":  # results, and what is said after them, are one message
            messages[-1]["content"] += _blocks(message)
        else:
            role = "assistant" if message["role"] == "assistant" else "user"
            messages.append({"role": role, "content": [*_blocks(message)]})
        before = message["role"]
    body = {"model": asked.model, "max_tokens": asked.limit, "messages": messages, "stream": asked.stream}
    body |= {"system": system} if system else {}
    body |= {"thinking": {"type": "adaptive"}} if asked.reason else {}
    body |= {"stop_sequences": asked.stop} if asked.stop else {}
    return "/v1/messages", body | ({"tools": [_described(tool) for tool in asked.tools]} if asked.tools else {})


def _described(tool: Json) -> Json:
    function = tool["function"]
    return {"name": function["name"], "input_schema": function["parameters"]}


def _blocks(message: Json) -> Iterator[Json]:
    parts = [_block(part) for part in message["content"]]
    if message["role"] == "tool":
        yield {"type": "tool_result", "tool_use_id": message["tool_call_id"], "content": parts}
        return
    yield from parts
    for call in message.get("tool_calls", ()):
        function = call["function"]
        yield {
            "type": "tool_use",
            "id": call["id"],
            "name": function["name"],
            "input": json.loads(function["arguments"]),
        }


def _block(part: Json) -> Json:
    if part["type"] == "text":
        return part
    kind, data = _picture(part)
    return {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}


def _picture(part: Json) -> tuple[str, str]:
    head, _, data = part["image_url"]["url"].partition(";base64,")
    return head.removeprefix("data:"), data


# ------------------------------------------------------------------ generateContent


def parts(asked: Asked) -> Written:
    system = [_text(part) for message in asked.messages if message["role"] == "system" for part in message["content"]]
    contents: list[Json] = []
    names: dict[str, str] = {}
    for message in asked.messages:
        if message["role"] == "system":
            continue
        names |= {call["id"]: call["function"]["name"] for call in message.get("tool_calls", ())}
        role = "model" if message["role"] == "assistant" else "user"
        made = [*_parts(message, names, signed=asked.reason)]
        if contents and message["role"] == "tool" and "functionResponse" in contents[-1]["parts"][-1]:
            contents[-1]["parts"] += made
        else:
            contents.append({"role": role, "parts": made})
    settings = {"maxOutputTokens": asked.limit}
    settings |= {"stopSequences": asked.stop} if asked.stop else {}
    settings |= {"thinkingConfig": {"includeThoughts": True, "thinkingLevel": "low"}} if asked.reason else {}
    body = {"contents": contents, "generationConfig": settings}
    body |= {"systemInstruction": {"parts": system}} if system else {}
    if asked.tools:
        functions = [tool["function"] for tool in asked.tools]
        declared = [{"name": each["name"], "parametersJsonSchema": each["parameters"]} for each in functions]
        body["tools"] = [{"functionDeclarations": declared}]
    verb = "streamGenerateContent?alt=sse" if asked.stream else "generateContent"
    return f"/v1beta/models/{asked.model}:{verb}", body


def _parts(message: Json, names: dict[str, str], *, signed: bool) -> Iterator[Json]:
    if message["role"] == "tool":
        given = message["tool_call_id"]
        text = "".join(part["text"] for part in message["content"])
        yield {"functionResponse": {"id": given, "name": names[given], "response": {"result": text}}}
        return
    for part in message["content"]:
        if part["type"] == "text":
            yield _text(part)
        else:
            kind, data = _picture(part)
            yield {"inlineData": {"mimeType": kind, "data": data}}
    for call in message.get("tool_calls", ()):
        name, arguments = call["function"]["name"], json.loads(call["function"]["arguments"])
        made = {"functionCall": {"id": call["id"], "name": name, "args": arguments}}
        yield {**made, "thoughtSignature": signature(name, arguments)} if signed else made


# ------------------------------------------------------------------ the second version of chat


def segments(asked: Asked) -> Written:
    messages = [
        {**message, "tool_plan": "I will ask."} if message.get("tool_calls") else message for message in asked.messages
    ]
    messages = [{key: value for key, value in message.items() if value != []} for message in messages]
    body = {"model": asked.model, "messages": messages, "stream": asked.stream, "max_tokens": asked.limit}
    body |= {"tools": asked.tools} if asked.tools else {}
    body |= {"thinking": {"type": "enabled", "token_budget": 1024}} if asked.reason else {}
    return "/v2/chat", body | ({"stop_sequences": asked.stop} if asked.stop else {})


# ------------------------------------------------------------------ lines of JSON


def lines(asked: Asked) -> Written:
    options = {"num_predict": asked.limit, **({"stop": asked.stop} if asked.stop else {})}
    names = {
        call["id"]: call["function"]["name"] for message in asked.messages for call in message.get("tool_calls", ())
    }
    body = {"model": asked.model, "messages": [_plain(each, names) for each in asked.messages], "options": options}
    body |= {} if asked.stream else {"stream": False}  # a stream is what it does unasked
    body |= {"think": "low"} if asked.reason else {}
    return "/api/chat", body | ({"tools": asked.tools} if asked.tools else {})


def _plain(message: Json, names: dict[str, str]) -> Json:
    texts = "".join(part["text"] for part in message["content"] if part["type"] == "text")
    made = {"role": message["role"], "content": texts}
    if pictures := [_picture(part)[1] for part in message["content"] if part["type"] == "image_url"]:
        made["images"] = pictures
    if message["role"] == "tool":
        made["tool_name"] = names[message["tool_call_id"]]  # calls have no ids here
    if calls := message.get("tool_calls"):
        functions = [call["function"] for call in calls]
        made["tool_calls"] = [
            {"function": {"name": each["name"], "arguments": json.loads(each["arguments"])}} for each in functions
        ]
    return made


WRITERS: dict[str, Callable[[Asked], Written]] = {
    "openai-chat": choices,
    "openai-responses": items,
    "anthropic-messages": blocks,
    "gemini": parts,
    "cohere-v2": segments,
    "ollama": lines,
}
