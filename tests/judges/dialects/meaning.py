"""What a request means, whatever API it is of: what two of them have to have in common that say the same."""

from __future__ import annotations

import json

from judges.dialects.common import Json

from prx.emulator.common import Asked


def meant(asked: Asked) -> Json:
    """All of a request that no dialect may lose."""
    tools = [tool.get("function", tool) for tool in asked.tools]
    return {
        "messages": understood(asked),
        "tools": [(tool["name"], tool["parameters"]) for tool in tools],
        **{name: getattr(asked, name) for name in ("model", "stream", "reason", "limit", "stop")},
    }


def understood(asked: Asked) -> list[Json]:
    """What a request says, without ids: roles, texts, pictures, calls, and whose result it is."""
    ids: list[str] = []
    made: list[Json] = []
    for message in asked.messages:
        content = message.get("content") or []
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        calls = message.get("tool_calls", [])
        ids += [call["id"] for call in calls]
        made.append({
            "role": message["role"],
            "text": "".join(_read(part["text"]) for part in parts if part["type"] == "text"),
            "pictures": [part["image_url"]["url"].partition(",")[2] for part in parts if part["type"] == "image_url"],
            "calls": [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls],
            "of": ids.index(message["tool_call_id"]) if message["role"] == "tool" else None,
        })  # fmt: skip
    assert len(ids) == len(set(ids))
    return made


def _read(text: str) -> str:
    """JSON of one form, since an API that takes objects writes them anew."""
    try:
        return json.dumps(json.loads(text), sort_keys=True)
    except ValueError:
        return text
