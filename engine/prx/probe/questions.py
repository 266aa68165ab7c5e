"""The questions, as data: requests, the words by which an error names the feature, and what an answer must show.

An answer proves a feature if it could not look so without it: two calls, several events, JSON with a word that only
the schema contains, the colour of a picture. The feature was ignored if the answer is as it would be without it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from prx.chat import Reply
from prx.lang.query import compile_query
from prx.probe.doors import HELLO, LIMIT
from prx.probe.findings import Judged, told
from prx.probe.line import Answer, Ask

THINKING = 2048  # max_tokens for a model that reasons
_SLACK = 8  # tokens; servers do not count exactly, so a limit of 5 may give so many
_WORD = "prx-7"  # a word that no model writes unless the schema requires it
_RED = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAACAAAAAgCAIAAAD8GO2jAAAAJ0lEQVR42u3NsQkAAAjAsP7/tF7hIA"
    "Syp6lTCQQCgUAgEAgEgi/BAjLD/C5w/SM9AAAAAElFTkSuQmCC"
)
_WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
_PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "badge": {"type": "string", "enum": [_WORD]},
    },
    "required": ["name", "age", "badge"],
    "additionalProperties": False,
}
Judge = Callable[[Answer], Judged]


@dataclass(frozen=True, slots=True)
class Question:
    """One feature to find out about.

    name        for people
    capability  the capability that it decides, "" for none
    asks        requests, sent one after the other until one shows the feature
    words       words by which an error may name the feature
    shows       judges an answer
    reads       name of an earlier question whose answer may already show it
    needs       names of questions that must have been answered with yes
    helps       an overlay of the file to try if all requests were ignored
    case        name of the conformance case that asks the same
    settles     whether an answer that does not show the feature shows that the server does otherwise
    """

    name: str
    capability: str
    asks: tuple[Ask, ...]
    words: tuple[str, ...]
    shows: Judge
    reads: str = ""
    needs: tuple[str, ...] = ()
    helps: Mapping[str, Any] = field(default_factory=dict)
    case: str = ""
    settles: bool = False


# ------------------------------------------------------------------ what answers mean


def _limited(answer: Answer) -> Judged:
    reply = _reply(answer)
    if reply.finish_reason == "length":
        return Judged("yes", "a story of 5 tokens was cut there")
    count = (reply.usage.completion_tokens if reply.usage else None) or 0
    length = f" after {count} tokens" if count else ""
    how = f"with a limit of 5 tokens, the answer ended with {reply.finish_reason!r}{length}"
    return Judged("ignored" if count > _SLACK else "open", how)


def _pieces(answer: Answer) -> Judged:
    count = sum(1 for delta in answer.deltas if delta.content or delta.reasoning)
    if not _reply(answer).streamed:
        return Judged("ignored", "one body came in place of a stream")
    return (
        Judged("yes", f"the text came in {count} events")
        if count > 1
        else Judged("open", "all the text came in one event")
    )


def _counted(answer: Answer) -> Judged:
    usage = _reply(answer).usage
    if usage is None or not usage.total_tokens:
        return Judged("ignored", "the tokens are not counted")
    return Judged("yes", f"{usage.prompt_tokens} + {usage.completion_tokens} tokens")


def _called(answer: Answer) -> Judged:
    calls = [f"{call.name}({told(call.arguments, 30)})" for call in _reply(answer).tool_calls]
    sound = [call for call in _reply(answer).tool_calls if call.name == "get_weather" and _json(call.arguments)]
    if sound or "get_weather" not in _reply(answer).content:
        return Judged("yes", f"called {' and '.join(calls)}") if sound else Judged("ignored", _text(answer))
    return Judged("open", f"the call came as text: {_text(answer)}")


def _called_twice(answer: Answer) -> Judged:
    count = len(_reply(answer).tool_calls)
    return Judged("yes", f"{count} calls at once") if count > 1 else Judged("open", f"{count or 'no'} call at a time")


def _called_in_pieces(answer: Answer) -> Judged:
    found = _called(answer)
    pieces = sum(len(delta.tool_calls) for delta in answer.deltas)
    return (
        Judged("yes", f"{found.how}, in {pieces} piece{'s' * (pieces != 1)}")
        if found.verdict == "yes"
        else Judged("open", f"no call: {_text(answer)}")
    )


def _not_called(answer: Answer) -> Judged:
    found = _called(answer)
    called = bool(_reply(answer).tool_calls)
    return (
        Judged("open", f"{found.how}, though it was forbidden")
        if called
        else Judged("yes", f"no call: {_text(answer)}")
    )


def _fits(answer: Answer) -> Judged:
    value = _json(_reply(answer).content)
    if not isinstance(value, dict) or value.get("badge") != _WORD:
        return Judged("ignored", _text(answer))
    sound = (
        value.keys() == set(_PERSON["required"]) and isinstance(value["age"], int) and isinstance(value["name"], str)
    )
    return Judged("yes" if sound else "open", f"JSON by the schema: {told(_reply(answer).content, 60)}")


def _answered(answer: Answer) -> Judged:
    reply = _reply(answer)
    return Judged("yes" if reply.content or reply.tool_calls else "open", _text(answer))


def _saw(answer: Answer) -> Judged:
    seen = "red" in _reply(answer).content.lower()
    return Judged("yes" if seen else "open", f"a red picture: {_text(answer)}")


def _thought(answer: Answer) -> Judged:
    reply = _reply(answer)
    if reply.reasoning:
        return Judged("yes", f"{told(reply.reasoning, 30)!r} in {_where(answer)}")
    count = reply.usage.reasoning_tokens if reply.usage else None
    return (
        Judged("yes", f"{count} tokens of reasoning, not shown")
        if count
        else Judged("open", "taken, but no thinking came")
    )


def _where(answer: Answer) -> str:
    """Which expression of the dialect finds the reasoning in a body."""
    assert answer.spec is not None
    source = answer.spec.response.found.sources.get("reasoning") or ()
    found = (
        text for text in ([source] if isinstance(source, str) else source) if compile_query(text)(_reply(answer).raw)
    )
    return next(found, "") or " ".join(next(iter(answer.spec.response.think_tags), ("its text",)))


def _reply(answer: Answer) -> Reply:
    assert answer.reply is not None
    return answer.reply


def _text(answer: Answer) -> str:
    return f"says {told(_reply(answer).content, 40)!r}"


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


# ------------------------------------------------------------------ the table

_CALLING: dict[str, Any] = {
    "messages": "What is the weather in Paris and London?",
    "temperature": 0,
    "max_tokens": LIMIT,
    "tools": [_WEATHER],
}
_CUT: dict[str, Any] = {**HELLO, "messages": "Tell me a long story.", "max_tokens": 5}
_SUM: dict[str, Any] = {"messages": "What is 2+2?", "max_tokens": THINKING, "reasoning_effort": "low"}
_FORMAT = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": _PERSON}}
_SHAPED = Ask(
    {"messages": "Give me a person as JSON.", "temperature": 0, "max_tokens": LIMIT, "response_format": _FORMAT}
)
_SYSTEM = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hello."}]
_SHOWN = [
    {"type": "text", "text": "What colour is this? Answer with one word."},
    {"type": "image_url", "image_url": {"url": _RED}},
]
_NAMED = {"type": "function", "function": {"name": "get_weather"}}
_TOOL_WORDS = ("tool", "function")

QUESTIONS = (
    Question("usage", "", (Ask(HELLO),), (), _counted, reads="chat"),
    Question(
        "limit", "", (Ask(_CUT, holds="max_tokens 5"),), ("max_tokens",), _limited,
        helps={"request": {"parameters": {"max_tokens": {"rename": "max_completion_tokens"}}}}, case="max_tokens", settles=True,
    ),
    Question("stream", "stream", (Ask(HELLO, "stream"),) * 2, ("stream",), _pieces, case="stream"),
    Question("stream limit", "", (Ask(_CUT, "stream", holds="max_tokens 5"),), ("max_tokens",), _limited, needs=("stream",), case="stream_stop", settles=True),
    Question("stream usage", "", (Ask(HELLO, "stream"),), (), _counted, reads="stream", needs=("stream",)),
    Question("tools", "tools", (Ask(_CALLING), Ask({**_CALLING, "tool_choice": "required"})), _TOOL_WORDS, _called, case="tools"),
    Question(
        "parallel tools", "parallel_tools", (Ask({**_CALLING, "parallel_tool_calls": True}),), ("parallel",), _called_twice,
        reads="tools", needs=("tools",),
    ),
    Question("stream tools", "", (Ask(_CALLING, "stream"),), _TOOL_WORDS, _called_in_pieces, needs=("tools", "stream"), case="stream_tools"),
    Question(
        "tool choice", "tool_choice",
        (Ask({**_CALLING, "messages": "Say hello.", "tool_choice": "required"}), Ask({**_CALLING, "messages": "Say hello.", "tool_choice": _NAMED})),
        ("tool_choice", "tool choice", "required", "forced"), _called, needs=("tools",),
    ),
    Question("forbidden tools", "", (Ask({**_CALLING, "tool_choice": "none"}),), ("tool_choice",), _not_called, needs=("tools",), case="tool_none", settles=True),
    Question("json schema", "json_schema", (_SHAPED, _SHAPED), ("response_format", "json_schema", "schema", "json"), _fits),
    Question("system", "", (Ask({**HELLO, "messages": _SYSTEM}, holds="a system message"),), ("system",), _answered, case="system"),
    Question(
        "vision", "vision", (Ask({**HELLO, "messages": [{"role": "user", "content": _SHOWN}]}, holds="a picture"),),
        ("image", "vision", "picture", "multimodal", "multi-modal"), _saw,
    ),
    Question("reasoning", "reasoning", (Ask(_SUM),), ("reasoning", "effort", "think"), _thought, case="reasoning"),
)  # fmt: skip
