"""A recorded request, in any dialect, as the call that would be made of prx for it.

A call here is {model, messages, tools, tool_choice, params} in OpenAI's shapes. Parts, tools and parameters that
OpenAI has no words for stay as they were, marked Native: only their own dialect is asked to say them again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]
EFFORTS = ((1024, "low"), (4096, "medium"))
_GEMINI_TYPES = ("unspecified", "string", "number", "integer", "boolean", "array", "object", "null")


class Native(dict[str, Any]):
    """An object in the words of the recording's own dialect."""


class UnconvertibleError(Exception):
    """The recording asks for something that has no canonical form; str(): what."""


def call_of(recording: Json) -> tuple[Json, Json]:
    """(the call for the recording's own dialect, the call for the others). Raises UnconvertibleError."""
    body = {key: value for key, value in recording["request"]["body"].items() if value is not None}
    place = re.search(r"/(?:models|deployments)/([^/:?]+)", recording["request"].get("uri") or "")
    for name in ("stream", "stream_options"):
        body.pop(name, None)
    call = {"model": body.pop("model", None) or (place[1] if place else "a-model"), "tools": [], "tool_choice": None}
    try:
        call |= _READERS[recording["dialect"]](body)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UnconvertibleError(f"{type(error).__name__}: {error}") from None
    if not call["messages"]:
        raise UnconvertibleError("no messages")
    call["messages"] = _without_nulls(call["messages"])
    return {**call, "params": call["params"] | body}, {"tool_choice": None, **_without_native(call)}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return type(value)({key: _without_nulls(item) for key, item in value.items() if item is not None})
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _without_native(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_native(item) for key, item in value.items() if type(item) is not Native}
    return [_without_native(item) for item in value if type(item) is not Native] if isinstance(value, list) else value


def _moved(body: Json, **names: str) -> Json:
    """{canonical: value} of what a body has under the names of its dialect, taken out of it."""
    return {ours: body.pop(theirs) for ours, theirs in names.items() if theirs in body}


def _effort(budget: int) -> str:
    return next((word for most, word in EFFORTS if budget <= most), "high")


def _schema(schema: Any) -> Json:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def _function(name: str, description: str | None, parameters: Any, **more: Any) -> Json:
    function = {"name": name, "description": description, "parameters": parameters, **more}
    return {"type": "function", "function": {key: value for key, value in function.items() if value is not None}}


def _named(name: str) -> Json:
    return {"type": "function", "function": {"name": name}}


def _asked(given: Any, name: str, arguments: Any, **more: Any) -> Json:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"id": given, "type": "function", "function": {"name": name, "arguments": text}, **more}


def _media(kind: str, data: str) -> Json:
    """A part that carries data: a picture, a sound, or any other file."""
    if kind.startswith("audio/"):
        return {
            "type": "input_audio",
            "input_audio": {"data": data, "format": kind.partition("/")[2].removeprefix("x-")},
        }
    return _at(kind, f"data:{kind};base64,{data}")


def _at(kind: str, url: str) -> Json:
    image = kind.startswith("image/")
    return {"type": "image_url", "image_url": {"url": url}} if image else {"type": "file", "file": {"file_data": url}}


def _message(role: str, parts: list[Any], calls: list[Json], **more: Any) -> list[Json]:
    made = {"role": role, **({"content": parts} if parts else {}), **({"tool_calls": calls} if calls else {})}
    return [{**made, **{key: value for key, value in more.items() if value}}] if parts or calls else []


# ------------------------------------------------------------------ OpenAI


def _chat(body: Json) -> Json:
    call = {"messages": body.pop("messages"), **_moved(body, tools="tools", tool_choice="tool_choice")}
    params = dict(body)
    body.clear()
    return {**call, "params": params}


def _responses(body: Json) -> Json:
    params = _moved(body, max_completion_tokens="max_output_tokens", temperature="temperature", top_p="top_p")
    params |= _moved(body, parallel_tool_calls="parallel_tool_calls", user="user")
    reasoning, text = body.get("reasoning") or {}, body.pop("text", {})
    params |= _moved(reasoning, reasoning_effort="effort")
    params |= _moved(text, verbosity="verbosity")
    if form := text.get("format"):
        rest = {key: value for key, value in form.items() if key != "type"}
        params["response_format"] = {"type": form["type"], **({"json_schema": rest} if rest else {})}
    given = body.pop("input")
    messages = [{"role": "system", "content": body.pop("instructions")}] if "instructions" in body else []
    messages += [{"role": "user", "content": given}] if isinstance(given, str) else _items(given)
    choice = body.pop("tool_choice", None)
    if isinstance(choice, dict):
        choice = _named(choice["name"]) if choice["type"] == "function" else Native(choice)
    return {
        "messages": messages,
        "tools": _openai_tools(body.pop("tools", [])),
        "tool_choice": choice,
        "params": params,
    }


def _openai_tools(tools: list[Json]) -> list[Json]:
    made: list[Json] = []
    for tool in tools:
        kind, rest = tool["type"], {key: value for key, value in tool.items() if key != "type" and value is not None}
        if isinstance(
            rest.get("function"), dict
        ):  # a client's slip: the form of Chat Completions, which the server overlooks
            rest = rest["function"]
        form = rest.get("format", {})
        if kind == "custom" and form.get("type") == "grammar":
            rest["format"] = {"type": "grammar", "grammar": {key: form[key] for key in ("syntax", "definition")}}
        plain = kind == "custom" or not rest.keys() - {"name", "description", "parameters", "strict"}
        made.append({"type": kind, kind: rest} if kind in ("function", "custom") and plain else Native(tool))
    return made


def _items(items: list[Json]) -> list[Json]:
    messages: list[Json] = []
    thoughts: list[Json] = []
    for item in items:
        kind = item.get("type", "message")
        if kind == "reasoning":
            thoughts.append(item)
        elif kind == "function_call_output":
            messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": _parts(item["output"])})
        elif kind in ("message", "function_call"):
            if kind == "message":
                messages.append({"role": item["role"], "content": _parts(item["content"])})
            elif not messages or messages[-1]["role"] != "assistant":
                messages.append({"role": "assistant", "content": None})
            if kind == "function_call":
                called = _asked(item["call_id"], item["name"], item["arguments"])
                messages[-1].setdefault("tool_calls", []).append(called)
            if thoughts and messages[-1]["role"] == "assistant":
                messages[-1]["reasoning_items"], thoughts = thoughts, []
        else:
            raise UnconvertibleError(f"an item of type {kind}")
    return messages


def _parts(content: Any) -> Any:
    return [_responses_part(part) for part in content] if isinstance(content, list) else content


def _responses_part(part: Json) -> Json:
    kind = part["type"]
    if kind in ("input_text", "output_text"):
        return {"type": "text", "text": part["text"]}
    if kind == "input_image" and "image_url" in part:
        return {"type": "image_url", "image_url": {key: part[name] for key, name in _IMAGE.items() if name in part}}
    if kind == "input_file":
        return {"type": "file", "file": {key: value for key, value in part.items() if key != "type"}}
    return part if kind in ("refusal", "input_audio") else Native(part)


_IMAGE = {"url": "image_url", "detail": "detail"}


# ------------------------------------------------------------------ Anthropic


def _anthropic(body: Json) -> Json:
    params = _moved(body, max_tokens="max_tokens", temperature="temperature", top_p="top_p", top_k="top_k")
    params |= _moved(body, stop="stop_sequences")
    if "user_id" in body.get("metadata", {}):
        params["user"] = body.pop("metadata")["user_id"]
    thinking = body.get("thinking", {})
    if thinking.get("type") in ("enabled", "disabled"):
        params["reasoning_effort"] = _effort(thinking["budget_tokens"]) if "budget_tokens" in thinking else "none"
        body.pop("thinking")
    if form := body.get("output_config", {}).pop("format", None):
        params["response_format"] = _schema(form["schema"])
    choice = body.pop("tool_choice", {})
    if choice.get("disable_parallel_tool_use"):
        params["parallel_tool_calls"] = False
    modes = {None: None, "auto": "auto", "any": "required", "none": "none", "tool": choice.get("name")}
    mode = modes[choice.get("type")]
    messages = [{"role": "system", "content": body.pop("system")}] if "system" in body else []
    for message in body.pop("messages"):
        messages += _anthropic_messages(message["role"], message["content"])
    return {
        "messages": messages,
        "tools": [
            Native(tool)
            if tool.get("type", "custom") != "custom" or tool.keys() - {"type", "name", "description", "input_schema"}
            else _function(tool["name"], tool.get("description"), tool["input_schema"])
            for tool in body.pop("tools", [])
        ],
        "tool_choice": _named(choice["name"]) if choice.get("type") == "tool" else mode,
        "params": params,
    }


def _anthropic_messages(role: str, content: Any) -> Iterator[Json]:
    if isinstance(content, str):
        yield {"role": role, "content": content}
        return
    special = {"tool_result", "tool_use", "thinking", "redacted_thinking"}
    for block in content:
        if block["type"] == "tool_result":
            inner = block.get("content") or ""
            text = inner if isinstance(inner, str) else [_anthropic_part(part) for part in inner]
            yield {"role": "tool", "tool_call_id": block["tool_use_id"], "content": text}
    parts = [_anthropic_part(block) for block in content if block["type"] not in special]
    calls = [_asked(each["id"], each["name"], each["input"]) for each in content if each["type"] == "tool_use"]
    thoughts = [block for block in content if block["type"] in ("thinking", "redacted_thinking")]
    yield from _message(role, parts, calls, thinking_blocks=thoughts)


def _anthropic_part(block: Json) -> Json:
    source = block.get("source") or {}
    if block["type"] in ("image", "document") and source.get("type") in ("base64", "url"):
        kind = source.get("media_type", "image/*" if block["type"] == "image" else "")
        part = _media(kind, source["data"]) if "data" in source else _at(kind, source["url"])
        return part if "title" not in block else {**part, "file": {**part["file"], "filename": block["title"]}}
    return block if block["type"] == "text" and not block.get("citations") else Native(block)


# ------------------------------------------------------------------ Gemini


def _gemini(body: Json) -> Json:
    config = body.pop("generationConfig", {})
    params = _moved(config, max_tokens="maxOutputTokens", temperature="temperature", top_p="topP", top_k="topK")
    params |= _moved(config, stop="stopSequences", n="candidateCount", seed="seed", presence_penalty="presencePenalty")
    params |= _moved(config, frequency_penalty="frequencyPenalty", logprobs="responseLogprobs", top_logprobs="logprobs")
    if (schema := config.pop("responseJsonSchema", None) or _lower(config.pop("responseSchema", None))) is not None:
        params["response_format"] = _schema(schema)
        config.pop("responseMimeType", None)
    elif config.get("responseMimeType") == "application/json":
        params["response_format"] = {"type": "json_object"}
        config.pop("responseMimeType")
    if "thinkingBudget" in config.get("thinkingConfig", {}):
        budget = config.pop("thinkingConfig")["thinkingBudget"]
        params["reasoning_effort"] = _effort(budget) if budget else "none"
    if config:
        body["generationConfig"] = config
    calling = body.get("toolConfig", {}).get("functionCallingConfig", {})
    names = calling.get("allowedFunctionNames") or []
    modes: Json = {"AUTO": "auto", "NONE": "none", "ANY": _named(names[0]) if names else "required"}
    choice = modes[body.pop("toolConfig")["functionCallingConfig"]["mode"]] if calling else None
    system = body.pop("systemInstruction", None)
    messages = [{"role": "system", "content": [{"type": "text", **part} for part in system["parts"]]}] if system else []
    ids: list[tuple[str, str]] = []
    for content in body.pop("contents"):
        messages += _gemini_messages(content, ids)
    return {
        "messages": messages,
        "tools": _gemini_tools(body.pop("tools", [])),
        "tool_choice": choice,
        "params": params,
    }


def _gemini_tools(tools: list[Json]) -> list[Json]:
    made: list[Json] = []
    for tool in tools:
        made += [] if "functionDeclarations" in tool else [Native(_camel(tool))]
        for each in tool.get("functionDeclarations", ()):
            schema = (
                each.get("parametersJsonSchema") or each.get("parameters_json_schema") or _lower(each["parameters"])
            )
            made.append(_function(each["name"], each.get("description"), schema))
    return made


def _camel(value: Any) -> Any:
    """An object with its keys in the one of Gemini's two spellings that its SDK knows."""
    if isinstance(value, dict):
        return {re.sub(r"_(\w)", lambda found: found[1].upper(), key): _camel(item) for key, item in value.items()}
    return [_camel(item) for item in value] if isinstance(value, list) else value


def _lower(schema: Any) -> Any:
    """A schema with JSON Schema's names of types, which are in capitals or numbers in Gemini's own."""
    if isinstance(schema, list):
        return [_lower(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _lower(value) for key, value in schema.items()}
    kind = made.get("type")
    named = (
        {"type": _GEMINI_TYPES[kind] if isinstance(kind, int) else kind.lower()} if isinstance(kind, int | str) else {}
    )
    return {**made, **named}


def _gemini_messages(content: Json, ids: list[tuple[str, str]]) -> Iterator[Json]:
    parts, calls = [], []
    for given in content["parts"]:
        part = {key: value for key, value in given.items() if value not in (None, False)}
        if "thought" in part:
            continue
        if called := part.get("functionCall"):
            ids.append((called["name"], called.get("id") or f"call_{len(ids)}"))
            signature = part.get("thoughtSignature")
            more = {"extra_content": {"google": {"thought_signature": signature}}} if signature else {}
            calls.append(_asked(ids[-1][1], called["name"], called.get("args") or {}, **more))
        elif answer := part.get("functionResponse"):
            known = next((each for each in ids if each[0] == answer["name"]), (answer["name"], "call_unknown"))
            ids[:] = [each for each in ids if each != known]
            text = json.dumps(answer["response"])
            yield {"role": "tool", "tool_call_id": answer.get("id") or known[1], "content": text}
        elif blob := part.get("inlineData"):
            parts.append(_media(blob["mimeType"], blob["data"]))
        elif file := part.get("fileData"):
            parts.append(_at(file.get("mimeType", ""), file["fileUri"]))
        else:
            parts.append({"type": "text", "text": part["text"]} if part.keys() == {"text"} else Native(part))
    yield from _message("assistant" if content.get("role") == "model" else "user", parts, calls)


# ------------------------------------------------------------------ Cohere, Ollama


def _cohere(body: Json) -> Json:
    params = _moved(body, max_tokens="max_tokens", temperature="temperature", top_p="p", top_k="k", seed="seed")
    params |= _moved(body, stop="stop_sequences")
    if "type" in body.get("thinking", {}):
        thinking = body.pop("thinking")
        params["reasoning_effort"] = (
            "none" if thinking["type"] == "disabled" else _effort(thinking.get("token_budget", 8192))
        )
    if form := body.pop("response_format", None):
        params["response_format"] = _schema(form["json_schema"]) if "json_schema" in form else form
    choice = {None: None, "NONE": "none", "REQUIRED": "required"}[body.pop("tool_choice", None)]
    messages = [{**message, **_cohere_content(message.get("content"))} for message in body.pop("messages")]
    return {"messages": messages, "tools": body.pop("tools", []), "tool_choice": choice, "params": params}


def _cohere_content(content: Any) -> Json:
    if not isinstance(content, list):
        return {"content": content}
    thoughts = "".join(part["thinking"] for part in content if part["type"] == "thinking")
    parts = [
        part if part["type"] in ("text", "image_url") else Native(part)
        for part in content
        if part["type"] != "thinking"
    ]
    return {"content": parts, **({"reasoning_content": thoughts} if thoughts else {})}


def _ollama(body: Json) -> Json:
    options = body.pop("options", {})
    params = _moved(
        options, max_tokens="num_predict", temperature="temperature", top_p="top_p", top_k="top_k", stop="stop"
    )
    params |= _moved(options, seed="seed", num_ctx="num_ctx", min_p="min_p")
    if options:
        body["options"] = options
    if "think" in body:
        think = body.pop("think")
        params["reasoning_effort"] = think if isinstance(think, str) else "medium" if think else "none"
    if form := body.pop("format", None):
        params["response_format"] = _schema(form) if isinstance(form, dict) else {"type": "json_object"}
    messages, waiting = [], []
    for message in body.pop("messages"):
        pictures = [_at("image/*", f"data:image/png;base64,{data}") for data in message.get("images") or ()]
        text = [{"type": "text", "text": message["content"]}] if message.get("content") else []
        if message["role"] == "tool":
            given = message.get("tool_call_id") or (waiting.pop(0) if waiting else "call_0")
            messages.append({"role": "tool", "tool_call_id": given, "content": message["content"]})
            continue
        functions = [each["function"] for each in message.get("tool_calls") or ()]
        waiting = [f"call_{place}" for place in range(len(functions))] or waiting
        calls = [
            _asked(given, each["name"], each["arguments"]) for given, each in zip(waiting, functions, strict=False)
        ]
        messages += _message(message["role"], text + pictures, calls, reasoning_content=message.get("thinking"))
    return {"messages": messages, "tools": body.pop("tools", []), "params": params}


_READERS = {
    "openai-chat": _chat,
    "openai-responses": _responses,
    "anthropic-messages": _anthropic,
    "gemini": _gemini,
    "cohere-v2": _cohere,
    "ollama": _ollama,
}
