"""Requests of Responses: a list of input items."""

from __future__ import annotations

import re

from judges.dialects.common import Asked, Json, Persona, assistant, call, check_calls, listed, picture
from judges.dialects.reads import choices
from judges.dialects.strict import TOOL_NAME, By, check

_GIVEN = By(
    "type",
    {
        "input_text": {"text!": str},
        "input_image": {"image_url": str, "file_id": str, "detail": str},
        "input_file": {"file_id": str, "file_data": str, "file_url": str, "filename": str},
        "input_audio": {"input_audio!": {"data!": str, "format!": str}},
    },
)
_SAID = By("type", {"output_text": {"text!": str, "annotations": list}, "refusal": {"refusal!": str}})
_ID = re.compile(".{1,64}", re.DOTALL)
_SHARED = {"id": str, "status": str}
_PLAIN = {**_SHARED, "content!": (str, [_GIVEN, ...])}
_ITEM = By(
    "type",
    {
        "message": By(
            "role",
            {
                "system": _PLAIN,
                "developer": _PLAIN,
                "user": _PLAIN,
                "assistant": {**_SHARED, "content!": (str, [_SAID, ...])},
            },
        ),
        "function_call": {**_SHARED, "call_id!": _ID, "name!": TOOL_NAME, "arguments!": str},
        "function_call_output": {**_SHARED, "call_id!": str, "output!": (str, [_GIVEN, ...])},
        "reasoning": {**_SHARED, "summary!": list, "content": list, "encrypted_content": (str, None)},
    },
    usual="message",
)


def read(body: Json, persona: Persona) -> Asked:
    choices.refuse_habits(body, persona)
    check(body.get("input"), (str, [_ITEM, ...]), "input")
    check(body.get("instructions"), (str, None), "instructions")
    messages = [{"role": "system", "content": body["instructions"]}] if body.get("instructions") else []
    given = body["input"]
    for item in [{"role": "user", "content": given}] if isinstance(given, str) else given:
        _add(messages, item)
    check_calls(messages)
    return choices.asked(body, messages, "max_output_tokens")


def _add(messages: list[Json], item: Json) -> None:
    """Add an item as a message; a call is added to the assistant's message before it."""
    kind = item.get("type", "message")
    if kind == "message":
        messages.append({"role": item["role"], "content": [_part(part) for part in listed(item["content"])]})
    elif kind == "function_call_output":
        content = [_part(part) for part in listed(item["output"])]
        messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": content})
    elif kind == "function_call":
        if not messages or messages[-1]["role"] != "assistant":
            messages.append(assistant([], []))
        calls = messages[-1].setdefault("tool_calls", [])
        calls.append(call(item["call_id"], item["name"], item["arguments"]))


def _part(part: Json) -> Json:
    if part["type"] == "input_image":
        return picture(part.get("image_url", ""))
    return {"type": "text", "text": part["text"]} if "text" in part else part
