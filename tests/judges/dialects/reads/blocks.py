"""Requests of Messages: content as blocks. With thinking enabled, an open turn has to begin with its thinking blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator

from judges.dialects.common import Asked, Json, RefusedError, assistant, call, check_calls, listed, picture, sign
from judges.dialects.strict import NUMBER, SOME, TOOL_NAME, By, check

_ID = re.compile("[a-zA-Z0-9_-]+")
_ALONE = {"disable_parallel_tool_use": bool}
_CACHE = {"cache_control": {"type!": {"ephemeral"}, "ttl": {"5m", "1h"}}}
_SOURCE = By(
    "type",
    {
        "base64": {"media_type!": re.compile("image/(png|jpeg|gif|webp)|application/pdf"), "data!": SOME},
        "url": {"url!": SOME},
        "file": {"file_id!": str},
    },
)
_TEXT = {"text": {"text!": SOME, **_CACHE}}
_SEEN = {
    **_TEXT,
    "image": {"source!": _SOURCE, **_CACHE},
    "document": {"source!": _SOURCE, "title": str, "context": str, **_CACHE},
}
_RESULT = {"tool_use_id!": _ID, "content": (str, [By("type", _SEEN)]), "is_error": bool, **_CACHE}
_DONE = {
    **_TEXT,
    "thinking": {"thinking!": str, "signature!": str},
    "redacted_thinking": {"data!": str},
    "tool_use": {"id!": _ID, "name!": TOOL_NAME, "input!": dict, **_CACHE},
}
_CHOICE = {"auto": _ALONE, "any": _ALONE, "none": {}, "tool": {"name!": TOOL_NAME, **_ALONE}}
_TOOL = {"name!": TOOL_NAME, "description": str, "input_schema!": dict, "strict": bool, "type": {"custom"}, **_CACHE}
_USER = [By("type", {**_SEEN, "tool_result": _RESULT}), ...]
_BODY = {
    "model!": str,
    "max_tokens!": int,
    "messages!": [
        By("role", {"user": {"content!": (SOME, _USER)}, "assistant": {"content!": (SOME, [By("type", _DONE), ...])}}),
        ...,
    ],
    "system": (str, [By("type", _TEXT)]),
    "stream": bool,
    "stop_sequences": [SOME],
    **dict.fromkeys(("temperature", "top_p", "top_k"), NUMBER),
    "metadata": {"user_id": (str, None)},
    "thinking": By("type", {"enabled": {"budget_tokens!": int}, "adaptive": {}, "disabled": {}}),
    "output_config": {"format": dict, "effort": str},
    "tools": [_TOOL],
    "tool_choice": By("type", _CHOICE),
}


def read(body: Json) -> Asked:
    check(body, _BODY)
    thinks = body.get("thinking", {"type": "disabled"})["type"] != "disabled"
    if thinks:
        _check_thinking(body)
    messages = [{"role": "system", "content": listed(body["system"])}] if body.get("system") else []
    for message in body["messages"]:
        messages += _said(message) if message["role"] == "assistant" else _given(message)
    check_calls(messages)
    return Asked(
        body["model"],
        messages,
        []
        if body.get("tool_choice", {}).get("type") == "none"
        else [{**tool, "parameters": tool["input_schema"]} for tool in body.get("tools", ())],
        stream=body.get("stream", False),
        reason=thinks,
        limit=body["max_tokens"],
        stop=body.get("stop_sequences", []),
    )


def _check_thinking(body: Json) -> None:
    """Raise RefusedError for parameters that thinking excludes, and for missing thinking blocks."""
    budget = body["thinking"].get("budget_tokens", 1024)
    faults = (
        (budget < 1024, "thinking.budget_tokens: at least 1024 expected"),
        (budget >= body["max_tokens"], "`max_tokens` must be greater than `thinking.budget_tokens`"),
        (body.get("temperature", 1) != 1, "`temperature` may only be set to 1 when thinking is enabled"),
        (
            body.get("tool_choice", {}).get("type") in ("any", "tool"),
            "Thinking may not be enabled when a tool is forced",
        ),
        (
            # Only with a fixed budget: an adaptive model may have begun the turn without thinking.
            body["thinking"]["type"] == "enabled"
            and _open_turn(body["messages"])[:1] not in ([], ["thinking"], ["redacted_thinking"]),
            "When `thinking` is enabled, a final `assistant` message must start with a thinking block",
        ),
    )
    for holds, text in faults:
        if holds:
            raise RefusedError("request", text)


def _open_turn(messages: list[Json]) -> list[str]:
    """The kinds of the assistant's blocks after the user's last message that has more than tool results."""
    kinds: list[str] = []
    for message in messages:
        blocks = [block["type"] for block in listed(message["content"])]
        if message["role"] == "assistant":
            kinds += blocks
        elif set(blocks) != {"tool_result"}:
            kinds = []
    return kinds


def _said(message: Json) -> Iterator[Json]:
    content = listed(message["content"])
    for block in content:
        if block["type"] == "thinking" and block["signature"] != sign(block["thinking"]):
            raise RefusedError("request", "Invalid `signature` in `thinking` block")
    calls = [call(block["id"], block["name"], block["input"]) for block in content if block["type"] == "tool_use"]
    yield assistant([block for block in content if block["type"] == "text"], calls)


def _given(message: Json) -> Iterator[Json]:
    content = listed(message["content"])
    kinds = [block["type"] == "tool_result" for block in content]
    if kinds != sorted(kinds, reverse=True):
        raise RefusedError("request", "tool_result blocks must come first in the content of a message")
    for block in content[: sum(kinds)]:
        parts = [_part(part) for part in listed(block.get("content"))]
        yield {"role": "tool", "tool_call_id": block["tool_use_id"], "content": parts}
    if rest := [_part(block) for block in content[sum(kinds) :]]:
        yield {"role": "user", "content": rest}


def _part(block: Json) -> Json:
    source: Json = block.get("source", {})
    if block["type"] != "image":
        return block
    return picture(source.get("url") or f"data:{source.get('media_type')};base64,{source.get('data')}")
