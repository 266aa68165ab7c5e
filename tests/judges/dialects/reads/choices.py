"""Requests of Chat Completions, whose messages are the common form already.

Keys of a persona:
    takes           further keys that are allowed in a message
    refuses         parts of a request that get a 400: system, stream, stream_options, max_tokens
"""

from __future__ import annotations

from judges.dialects.common import Asked, Json, Persona, RefusedError, check_calls
from judges.dialects.strict import TOOL_NAME, By, check

_TEXT = By("type", {"text": {"text!": str}})
_PART = By(
    "type",
    {
        **_TEXT.cases,
        "image_url": {"image_url!": {"url!": str, "detail": str}},
        "input_audio": {"input_audio!": {"data!": str, "format!": str}},
        "file": {"file!": {"file_id": str, "file_data": str, "filename": str}},
    },
)
_SAID = By("type", {**_TEXT.cases, "refusal": {"refusal!": str}})
_CALL = By(
    "type",
    {
        "function": {"id!": str, "function!": {"name!": TOOL_NAME, "arguments!": str}},
        "custom": {"id!": str, "custom!": {"name!": TOOL_NAME, "input!": str}},
    },
)
_SYSTEM = {"content!": (str, [_TEXT, ...]), "name": str}
_MESSAGE = By(
    "role",
    {
        "system": _SYSTEM,
        "developer": _SYSTEM,
        "user": {"content!": (str, [_PART, ...]), "name": str},
        "assistant": {
            "content": (str, None, [_SAID, ...]),
            "refusal": (str, None),
            "tool_calls": [_CALL, ...],
            "name": str,
        },
        "tool": {"content!": (str, [_TEXT, ...]), "tool_call_id!": str},
    },
)


def read(body: Json, persona: Persona) -> Asked:
    messages = body.get("messages")
    also = dict.fromkeys(persona.get("takes", ()), object)
    rule = By("role", {role: {**keys, **also} for role, keys in _MESSAGE.cases.items()})
    check(messages, [rule, ...], "messages")
    assert isinstance(messages, list)
    refuse_habits(body, persona)
    check_calls(messages)
    return asked(body, messages, "max_completion_tokens", "max_tokens")


def refuse_habits(body: Json, persona: Persona) -> None:
    """Raise RefusedError for the parts of a request that the persona refuses."""
    refuses = persona.get("refuses", ())
    messages = body.get("messages") or ()
    if "system" in refuses and any(message.get("role") == "system" for message in messages):
        raise RefusedError("request", "role 'system' is not supported; only user and assistant roles are")
    if "stream" in refuses and body.get("stream"):
        raise RefusedError("request", "Streaming is not supported for this model", "unsupported_value")
    for name in ("stream_options", "max_tokens"):
        if name in refuses and name in body:
            other = ", use max_completion_tokens" if name == "max_tokens" else ""
            raise RefusedError("request", f"Unrecognized request argument supplied: {name}{other}")


def _is_switched_on(body: Json) -> bool:
    """Whether the request enables reasoning by a switch, which some vendors have in place of reasoning_effort."""
    return bool(body.get("enable_thinking")) or (body.get("thinking") or {}).get("type") == "enabled"


def asked(body: Json, messages: list[Json], *limits: str) -> Asked:
    """The request, from the keys that Chat Completions and Responses have in common. limits: names of the token limit."""
    check(body.get("tools"), (None, [dict]), "tools")
    check([tool["function"]["name"] for tool in body.get("tools") or () if "function" in tool], [TOOL_NAME], "tools")
    stop, effort = body.get("stop") or [], body.get("reasoning_effort") or (body.get("reasoning") or {}).get("effort")
    model = str(body.get("model"))
    return Asked(
        model,
        messages,
        [] if body.get("tool_choice") == "none" else body.get("tools") or [],
        stream=bool(body.get("stream")),
        reason=effort not in (None, "none") or _is_switched_on(body) or model.endswith("reasoner"),
        limit=next((body[name] for name in limits if body.get(name)), None),
        stop=[stop] if isinstance(stop, str) else stop,
        usage=bool((body.get("stream_options") or {}).get("include_usage")),
    )
