"""Prompts and answers in the shapes that OpenTelemetry's conventions give them: JSON texts, with keys masked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from prx.chat import Reply
from prx.errors import Error
from prx.json_text import parsed

_KINDS = {"text": "text", "refusal": "text", "reasoning": "reasoning"}  # of a block of an answer: the type of its part
_REASONS = {"tool_calls": "tool_call"}  # the conventions' words for ends, where they are others


def contents(
    stated: Mapping[str, Any], result: Any, finish_reason: str | None, hide: Callable[[str], str]
) -> tuple[dict[str, str], str | None]:
    """(attributes of a call's span, the words of its error). hide: masks keys in a text."""
    asked, answered = stated.get("messages"), []
    messages = [{"role": "user", "content": asked}] if isinstance(asked, str) else [*(asked or ())]
    systems = [part for each in messages if _is_system(each) for part in _parts(each.get("content"))]
    given = [_message(each) for each in messages if isinstance(each, Mapping) and not _is_system(each)]
    if isinstance(result, Reply):
        answered = [{"role": "assistant", "parts": _blocks(result), "finish_reason": _reason(finish_reason)}]
    rows = {
        "gen_ai.system_instructions": systems, "gen_ai.input.messages": given, "gen_ai.output.messages": answered,
        "gen_ai.tool.definitions": [_tool(tool) for tool in stated.get("tools") or ()],
    }  # fmt: skip
    made = {name: hide(json.dumps(row, ensure_ascii=False, default=str)) for name, row in rows.items() if row}
    return made, hide(result.message) if isinstance(result, Error) else None


def _is_system(message: Any) -> bool:
    return isinstance(message, Mapping) and message.get("role") in ("system", "developer")


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    role, content = message.get("role"), message.get("content")
    if role == "tool":
        answer = {"type": "tool_call_response", "id": message.get("tool_call_id"), "response": content}
        return {"role": role, "parts": [answer]}
    calls = [{**(call.get("function") or {}), "id": call.get("id")} for call in message.get("tool_calls") or ()]
    parts = [*_parts(content), *(_call(call.get("id"), call.get("name"), call.get("arguments")) for call in calls)]
    return {"role": role, "parts": parts}


def _parts(content: Any) -> list[dict[str, Any]]:
    """Parts of a content. What is no text is told by its type alone: pictures and sound are large."""
    if isinstance(content, str):
        return [{"type": "text", "content": content}] if content else []
    rows: Sequence[Any] = content if isinstance(content, list | tuple) else ()
    return [
        {"type": "text", "content": row["text"]} if isinstance(row.get("text"), str) else {"type": str(row.get("type"))}
        for row in rows
        if isinstance(row, Mapping)
    ]


def _blocks(reply: Reply) -> list[dict[str, Any]]:
    return [
        _call(part.call.id, part.call.name, part.call.arguments)
        if part.call is not None
        else {"type": _KINDS[part.kind], "content": part.text}
        for part in reply.parts
    ]


def _call(identity: Any, name: Any, arguments: Any) -> dict[str, Any]:
    value = parsed(arguments) if isinstance(arguments, str) else None
    value = arguments if value is None else value
    return {"type": "tool_call", "id": identity, "name": name, "arguments": value}


def _tool(tool: Any) -> dict[str, Any]:
    row = tool if isinstance(tool, Mapping) else {}
    return {"type": row.get("type", "function"), **(row.get("function") or {})}


def _reason(finish_reason: str | None) -> str:
    return _REASONS.get(finish_reason or "", finish_reason or "error")
