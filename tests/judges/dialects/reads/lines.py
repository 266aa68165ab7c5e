"""Requests of a chat API that answers in lines of JSON: pictures have a key of their own, arguments are objects, and the
answer is a stream unless the request says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator

from judges.dialects.common import Asked, Json, assistant, call, check_calls, picture
from judges.dialects.strict import NUMBER, By, check

_CALL = {"id": str, "function!": {"name!": str, "arguments!": dict, "index": int}}
_BODY = {
    "model!": str,
    "stream": bool,
    "messages!": [
        By(
            "role",
            {
                "system": {"content!": str},
                "user": {"content": str, "images": [str, ...]},
                "assistant": {"content": str, "thinking": str, "tool_calls": [_CALL, ...]},
                "tool": {"content!": str, "images": [str, ...], "tool_name": str, "tool_call_id": str},
            },
        ),
        ...,
    ],
    "tools": [{"type": {"function"}, "function!": {"name!": str, "description": str, "parameters": dict}}],
    "format": (str, dict),
    "think": (bool, {"low", "medium", "high"}),
    "keep_alive": (str, *NUMBER),
    "logprobs": bool,
    "top_logprobs": int,
    "options": {
        **dict.fromkeys(("temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty"), NUMBER),
        **dict.fromkeys(("top_k", "num_predict", "num_ctx", "seed"), int),
        "stop": [str],
    },
}


def read(body: Json) -> Asked:
    check(body, _BODY)
    messages: list[Json] = []
    for message in body["messages"]:
        messages += _plain(message, messages)
    check_calls(messages)
    options = body.get("options", {})
    return Asked(
        body["model"],
        messages,
        body.get("tools", []),
        stream=body.get("stream", True),
        reason=bool(body.get("think")),
        limit=options.get("num_predict"),
        stop=options.get("stop", []),
    )


def _plain(message: Json, before: list[Json]) -> Iterator[Json]:
    """A message in the common form. Calls and results without an id belong together by their order."""
    text = [{"type": "text", "text": message["content"]}] if message.get("content") else []
    made = [
        call(row.get("id", f"{len(before)}-{place}"), row["function"]["name"], row["function"]["arguments"])
        for place, row in enumerate(message.get("tool_calls", ()))
    ]
    content = [*text, *(picture(f"data:;base64,{data}") for data in message.get("images", ()))]
    if message["role"] == "assistant":
        yield assistant(text, made)
    elif message["role"] == "tool":
        yield {"role": "tool", "tool_call_id": message.get("tool_call_id", _next(before)), "content": content}
    else:
        yield {"role": message["role"], "content": content}


def _next(before: list[Json]) -> str:
    """The id of the first call that has no result yet."""
    called = [each["id"] for message in before for each in message.get("tool_calls", ())]
    place = len([message for message in before if message["role"] == "tool"])
    return called[place] if place < len(called) else ""
