"""Requests of generateContent: contents as parts, calls and their results among them.

With thoughts, the first call of each model turn after the user's last message must have its signature.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from judges.dialects.common import Asked, Json, RefusedError, assistant, call, check_calls, picture, sign
from judges.dialects.strict import NUMBER, check

_NAME = re.compile("[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}")
_UNSIGNED = {"skip_thought_signature_validator", "context_engineering_is_the_way_to_go"}  # accepted as signatures
_SEEN = (
    {"inlineData!": {"mimeType!": re.compile(r"\w+/[\w.+-]+"), "data!": str}},
    {"fileData!": {"fileUri!": str, "mimeType": str}},
)
_PART = (
    *_SEEN,
    {"text!": str, "thought": bool, "thoughtSignature": str},
    {"functionCall!": {"name!": _NAME, "args": dict, "id": str}, "thoughtSignature": str},
    {"functionResponse!": {"name!": _NAME, "response!": dict, "id": str, "parts": [_SEEN, ...]}},
)
_WORDS = re.compile("(?i)minimal|low|medium|high")
_GENERATION = {
    **dict.fromkeys(("temperature", "topP", "topK", "presencePenalty", "frequencyPenalty"), NUMBER),
    **dict.fromkeys(("maxOutputTokens", "candidateCount", "seed", "logprobs"), int),
    "stopSequences": [str],
    "responseLogprobs": bool,
    "responseMimeType": str,
    "responseSchema": dict,
    "responseJsonSchema": dict,
    "thinkingConfig": (
        {"includeThoughts": bool, "thinkingLevel": _WORDS},
        {"includeThoughts": bool, "thinkingBudget": int},
    ),
}
_CALLING = {"mode": {"AUTO", "ANY", "NONE", "VALIDATED"}, "allowedFunctionNames": [str]}
_SCHEMAS = ("parametersJsonSchema", "parameters")
_FREE = {*_SCHEMAS, "args", "response", "responseSchema", "responseJsonSchema"}
_DECLARED = {"name!": _NAME, "description": str, "response": dict, **dict.fromkeys(_SCHEMAS, dict)}
_BODY = {
    "contents!": [{"role": {"user", "model"}, "parts!": [_PART, ...]}, ...],
    "systemInstruction": {"parts!": [{"text!": str}, ...], "role": str},
    "tools": [{"functionDeclarations": [_DECLARED], "codeExecution": dict, "urlContext": dict}],
    "toolConfig": {"functionCallingConfig": _CALLING},
    "generationConfig": _GENERATION,
    "safetySettings": list,
    "cachedContent": str,
}


def read(body: Json, said: Mapping[str, str]) -> Asked:
    body = _camel(body)
    check(body, _BODY)
    settings = body.get("generationConfig", {})
    thinks = bool(settings.get("thinkingConfig", {}).get("includeThoughts"))
    if thinks:
        _check_signatures(body["contents"])
    system = body.get("systemInstruction")
    messages = [{"role": "system", "content": [_part(part) for part in system["parts"]]}] if system else []
    for content in body["contents"]:
        messages += _said(content, messages) if content.get("role") == "model" else _given(content, messages)
    check_calls(messages)
    none = body.get("toolConfig", {}).get("functionCallingConfig", {}).get("mode") == "NONE"
    declared = [row for tool in body.get("tools", ()) for row in tool.get("functionDeclarations", ())]
    return Asked(
        said.get("model", ""),
        messages,
        [] if none else [_tool(row) for row in declared],
        stream=said.get("verb") == "streamGenerateContent",
        reason=thinks,
        limit=settings.get("maxOutputTokens"),
        stop=settings.get("stopSequences", []),
    )


def _camel(value: Any) -> Any:
    """A body with its keys in camelCase: the API accepts snake_case as well, except in objects of the caller (_FREE)."""
    if isinstance(value, list):
        return [_camel(item) for item in value]
    if not isinstance(value, dict):
        return value
    named = {re.sub(r"_([a-z])", lambda found: found[1].upper(), key): item for key, item in value.items()}
    return {key: item if key in _FREE else _camel(item) for key, item in named.items()}


def _tool(row: Json) -> Json:
    schema = next((row[name] for name in _SCHEMAS if name in row), None)
    return {"name": row["name"], "parameters": schema}


def _check_signatures(contents: list[Json]) -> None:
    step: list[Json] = []
    for content in contents:
        parts = content["parts"]
        if content.get("role") == "model":
            step += [part for part in parts if "functionCall" in part][:1]
        elif not all("functionResponse" in part for part in parts):
            step = []
    for part in step:
        given, made = part.get("thoughtSignature"), part["functionCall"]
        if given is None:
            raise RefusedError("request", "Function call is missing a thought_signature in functionCall parts")
        if given not in {signature(made["name"], made.get("args", {})), *_UNSIGNED}:
            raise RefusedError("request", "Thought signature is not valid")


def signature(name: str, arguments: Json) -> str:
    """The signature of a call."""
    return sign(name + json.dumps(arguments, sort_keys=True))


def _said(content: Json, before: list[Json]) -> Iterator[Json]:
    made = [part["functionCall"] for part in content["parts"] if "functionCall" in part]
    calls = [call(row.get("id", f"{len(before)}-{place}"), row["name"], row.get("args", {})) for place, row in enumerate(made)]  # fmt: skip
    texts = [_part(part) for part in content["parts"] if "functionCall" not in part and not part.get("thought")]
    yield assistant(texts, calls)


def _given(content: Json, before: list[Json]) -> Iterator[Json]:
    """The messages of a user's content. Results belong to calls by id, or without ids by place."""
    calls = before[-1].get("tool_calls", ()) if before else ()
    results = [part["functionResponse"] for part in content["parts"] if "functionResponse" in part]
    for row, made in zip(results, [*calls, *[{}] * len(results)], strict=False):
        if made and made["function"]["name"] != row["name"]:
            raise RefusedError("request", f"the result of {row['name']} does not belong to its call")
        text = row["response"].get("result") if len(row["response"]) == 1 else None
        told = {"type": "text", "text": text if isinstance(text, str) else json.dumps(row["response"])}
        shown = [_part(part) for part in row.get("parts", ())]
        yield {"role": "tool", "tool_call_id": row.get("id", made.get("id", "")), "content": [told, *shown]}
    if rest := [_part(part) for part in content["parts"] if "functionResponse" not in part]:
        yield {"role": "user", "content": rest}


def _part(part: Json) -> Json:
    if data := part.get("inlineData"):
        return picture(f"data:{data['mimeType']};base64,{data['data']}")
    return picture(part["fileData"]["fileUri"]) if "fileData" in part else {"type": "text", "text": part["text"]}
