"""Requests of the second version of chat: messages by role, with a plan before calls."""

from __future__ import annotations

import re

from judges.dialects.common import Asked, Json, check_calls, listed
from judges.dialects.strict import NUMBER, By, check

_NAME = re.compile("[a-zA-Z_][a-zA-Z0-9_]{0,63}")
_TEXT = {"text": {"text!": str}}
_IMAGE = {"image_url": {"image_url!": {"url!": str, "detail": {"auto", "low", "high"}}}}
_CALL = {"id!": str, "type!": {"function"}, "function!": {"name!": _NAME, "arguments!": str}}
_BODY = {
    "model!": str,
    "stream": bool,
    "messages!": [
        By(
            "role",
            {
                "system": {"content!": (str, [By("type", _TEXT), ...])},
                "user": {"content!": (str, [By("type", {**_TEXT, **_IMAGE}), ...])},
                "assistant": {
                    "content": (str, [By("type", {**_TEXT, "thinking": {"thinking!": str}}), ...]),
                    "tool_calls": [_CALL, ...],
                    "tool_plan": str,
                },
                "tool": {
                    "content!": (str, [By("type", {**_TEXT, "document": {"document!": dict}}), ...]),
                    "tool_call_id!": str,
                },
            },
        ),
        ...,
    ],
    "tools": [{"type!": {"function"}, "function!": {"name!": _NAME, "description": str, "parameters!": dict}}],
    "strict_tools": bool,
    "tool_choice": {"REQUIRED", "NONE"},
    "thinking": {"type!": {"enabled", "disabled"}, "token_budget": int},
    "response_format": {"type!": {"text", "json_object"}, "json_schema": dict},
    "safety_mode": {"CONTEXTUAL", "STRICT", "OFF"},
    "stop_sequences": [str],
    "logprobs": bool,
    **dict.fromkeys(("max_tokens", "seed", "k", "priority"), int),
    **dict.fromkeys(("temperature", "p", "frequency_penalty", "presence_penalty"), NUMBER),
}


def read(body: Json) -> Asked:
    check(body, _BODY)
    messages = [_plain(message) for message in body["messages"]]
    check_calls(messages)
    return Asked(
        body["model"],
        messages,
        [] if body.get("tool_choice") == "NONE" else body.get("tools", []),
        stream=body.get("stream", False),
        reason=body.get("thinking", {}).get("type") == "enabled",
        limit=body.get("max_tokens"),
        stop=body.get("stop_sequences", []),
    )


def _plain(message: Json) -> Json:
    """A message without its reasoning and its plan."""
    kept = {key: value for key, value in message.items() if key != "tool_plan"}
    return {**kept, "content": [part for part in listed(message.get("content")) if part["type"] != "thinking"]}
