"""Requests of Converse: blocks that are told apart by their only key. Roles alternate, and results of tools come first."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from judges.dialects.common import Asked, Json, RefusedError, assistant, call, check_calls, picture, sign
from judges.dialects.strict import NUMBER, SOME, TOOL_NAME, By, check

_ID = re.compile("[a-zA-Z0-9_.:-]{1,64}")
_CACHE = {"cachePoint!": {"type!": {"default"}, "ttl": {"5m", "1h"}}}
_BYTES = {"bytes!": SOME}
_IMAGE = {"image!": {"format!": {"png", "jpeg", "gif", "webp"}, "source!": _BYTES}}
_FILE = {
    "document!": {
        "format!": {"pdf", "txt", "md", "csv", "html"},
        "name!": re.compile(r"[\w \[\]()-]+"),
        "source!": _BYTES,
    }
}
_TEXT = {"text!": SOME}
_RESULT = {
    "toolResult!": {
        "toolUseId!": _ID,
        "content!": [(_TEXT, _IMAGE, _FILE, {"json!": dict}), ...],
        "status": {"success", "error"},
    }
}
_CALL = {"toolUse!": {"toolUseId!": _ID, "name!": TOOL_NAME, "input!": dict}}
_THOUGHT = {
    "reasoningContent!": (
        {"reasoningText!": {"text!": str, "signature": str}},
        {"redactedContent!": SOME},
    )
}
_ASKS = ({"auto!": dict}, {"any!": dict}, {"tool!": {"name!": TOOL_NAME}})
_TOOL = {
    "toolSpec!": {"name!": TOOL_NAME, "description": SOME, "inputSchema!": {"json!": dict}, "strict": bool},
}
_BODY = {
    "messages!": [
        By(
            "role",
            {
                "user": {"content!": [(_TEXT, _IMAGE, _FILE, _RESULT, _CACHE), ...]},
                "assistant": {"content!": [(_TEXT, _CALL, _THOUGHT, _CACHE), ...]},
            },
        ),
        ...,
    ],
    "system": [(_TEXT, _CACHE)],
    "inferenceConfig": {"maxTokens": int, "temperature": NUMBER, "topP": NUMBER, "stopSequences": [SOME]},
    "toolConfig": {"tools!": [(_TOOL, _CACHE), ...], "toolChoice": _ASKS},
    "outputConfig": {
        "textFormat!": {
            "type!": {"json_schema"},
            "structure!": {"jsonSchema!": {"schema!": SOME, "name": str, "description": str}},
        }
    },
    "additionalModelRequestFields": dict,
}


def read(body: Json, model: str, *, stream: bool) -> Asked:
    check(body, _BODY)
    roles = [message["role"] for message in body["messages"]]
    if roles[0] != "user" or any(one == other for one, other in pairwise(roles)):
        raise RefusedError("request", "A conversation must start with a user message, and alternate between the roles")
    if not body.get("toolConfig") and any("toolUse" in block for each in body["messages"] for block in each["content"]):
        raise RefusedError("request", "toolConfig must be defined when using toolUse blocks")
    system = [block for block in body.get("system", ()) if "text" in block]
    messages = [{"role": "system", "content": [*map(_part, system)]}] if system else []
    for message in body["messages"]:
        messages += _said(message) if message["role"] == "assistant" else _given(message)
    check_calls(messages)
    specs = [tool["toolSpec"] for tool in body.get("toolConfig", {}).get("tools", ()) if "toolSpec" in tool]
    settings = body.get("inferenceConfig", {})
    return Asked(
        model,
        messages,
        [{**spec, "parameters": spec["inputSchema"]["json"]} for spec in specs],
        stream=stream,
        reason="reasoning_effort" in body.get("additionalModelRequestFields", {}),
        limit=settings.get("maxTokens"),
        stop=settings.get("stopSequences", []),
    )


def _said(message: Json) -> Iterator[Json]:
    blocks = message["content"]
    for block in blocks:
        thought = block.get("reasoningContent", {}).get("reasoningText")
        if thought and thought.get("signature") != sign(thought["text"]):
            raise RefusedError("request", "The signature of a thought does not fit its text")
    calls = [block["toolUse"] for block in blocks if "toolUse" in block]
    made = [call(each["toolUseId"], each["name"], each["input"]) for each in calls]
    yield assistant([_part(block) for block in blocks if "text" in block], made)


def _given(message: Json) -> Iterator[Json]:
    blocks = message["content"]
    kinds = ["toolResult" in block for block in blocks]
    if kinds != sorted(kinds, reverse=True):
        raise RefusedError("request", "toolResult blocks must come first in the content of a message")
    for block in blocks[: sum(kinds)]:
        result = block["toolResult"]
        yield {"role": "tool", "tool_call_id": result["toolUseId"], "content": [*map(_part, result["content"])]}
    if rest := [_part(block) for block in blocks[sum(kinds) :]]:
        yield {"role": "user", "content": rest}


def _part(block: Json) -> Json:
    if "image" in block:
        return picture(f"data:image/{block['image']['format']};base64,{block['image']['source']['bytes']}")
    return {"type": "text", "text": block.get("text", "")}
