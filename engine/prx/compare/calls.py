"""The calls by which two versions of a provider are compared: one for each part that a call may have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prx.chat import Call

_PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
_ASKED: dict[str, Any] = {"role": "user", "content": "Hello"}
_SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
_TOOL = {
    "type": "function",
    "function": {"name": "get_weather", "description": "The weather in a city.", "parameters": _SCHEMA},
}
_PICTURE = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": _PIXEL}}]
_CALLED = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Oslo"}'}}
_FORMAT = {"type": "json_schema", "json_schema": {"name": "place", "strict": True, "schema": _SCHEMA}}
_SAMPLING = {
    "max_tokens": 16, "temperature": 0.5, "top_p": 0.9, "stop": ["END"], "seed": 7, "n": 1, "presence_penalty": 0.1,
    "frequency_penalty": 0.1, "user": "somebody",
}  # fmt: skip
_TOOL_TURNS = [
    _ASKED,
    {"role": "assistant", "content": None, "tool_calls": [_CALLED]},
    {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
]

# {name: what differs from the plain call}
CALLS: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "stream": {"stream": True},
    "system": {"messages": ({"role": "system", "content": "Be brief."}, _ASKED)},
    "tools": {"tools": (_TOOL,), "tool_choice": "required"},
    "image": {"messages": ({"role": "user", "content": _PICTURE},)},
    "response_format": {"params": {"response_format": _FORMAT}},
    "reasoning_effort": {"params": {"reasoning_effort": "low"}},
    "sampling": {"params": _SAMPLING},
    "tool results": {"messages": tuple(_TOOL_TURNS), "tools": (_TOOL,)},
}


def calls(model: str) -> Iterator[tuple[str, Call]]:
    """(name, call) of every row, for a model."""
    for name, row in CALLS.items():
        yield name, Call(**({"model": model, "messages": (_ASKED,)} | dict(row)))
