"""A large call: 200 messages, with calls of tools and their results among them, and 40 tools. The same each time."""

from __future__ import annotations

from typing import Any

MESSAGES, TOOLS = 200, 40
_SENTENCE = "The harbour office has moved two boats, and the third one waits for the tide. "


def messages() -> list[dict[str, Any]]:
    """A system message, and then again and again: a question, calls of two tools, their results, an answer."""
    made: list[dict[str, Any]] = [{"role": "system", "content": _SENTENCE * 10}]
    while len(made) < MESSAGES - 1:
        made += _turn(len(made))
    return [*made[: MESSAGES - 1], {"role": "user", "content": "And what is next?"}]


def _turn(place: int) -> list[dict[str, Any]]:
    calls = [_call(f"call_{place}_{number}", (place + number) % TOOLS) for number in range(2)]
    results = [{"role": "tool", "tool_call_id": call["id"], "content": f'{{"found": "{_SENTENCE}"}}'} for call in calls]
    return [
        {"role": "user", "content": f"Question {place}: {_SENTENCE}"},
        {"role": "assistant", "content": None, "tool_calls": calls},
        *results,
        {"role": "assistant", "content": _SENTENCE * 3},
    ]


def _call(name: str, tool: int) -> dict[str, Any]:
    arguments = f'{{"place": "quay {tool}", "limit": {tool + 1}}}'
    return {"id": name, "type": "function", "function": {"name": f"look_up_{tool}", "arguments": arguments}}


def tools() -> list[dict[str, Any]]:
    return [{"type": "function", "function": _function(number)} for number in range(TOOLS)]


def _function(number: int) -> dict[str, Any]:
    properties = {
        "place": {"type": "string", "description": "Where to look."},
        "limit": {"type": "integer", "minimum": 1},
        "order": {"type": "string", "enum": ["newest", "oldest"]},
        "area": {
            "type": "object",
            "properties": {"north": {"type": "number"}, "east": {"type": "number"}},
            "required": ["north", "east"],
        },
    }
    schema = {"type": "object", "properties": properties, "required": ["place"]}
    return {"name": f"look_up_{number}", "description": f"Look up list {number}. {_SENTENCE}", "parameters": schema}
