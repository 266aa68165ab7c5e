"""The second version of chat: a message of content and calls, each with start, deltas and end in a stream."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from judges.dialects.common import Api, Asked, Json, Persona, RefusedError, event, fragments
from judges.dialects.reads.segments import read

from prx.emulator.brain import Answer

_REASONS = {"stop": "COMPLETE", "length": "MAX_TOKENS", "tool_calls": "TOOL_CALL"}


def _content(answer: Answer) -> list[tuple[str, list[str]]]:
    rows = (("thinking", answer.reasoning), ("text", answer.words))
    return [(kind, words) for kind, words in rows if words]


def _plan(answer: Answer) -> list[str]:
    """The words before calls; an answer with reasoning has none."""
    return ["I will", " ask", f" {answer.calls[0][0]}."] if answer.calls and not answer.reasoning else []


def _call(number: int, name: str, arguments: Json) -> Json:
    made = {"name": name, "arguments": json.dumps(arguments)}
    return {"id": f"{name}_{number:06}", "type": "function", "function": made}


def _reason(answer: Answer) -> str:
    return "STOP_SEQUENCE" if answer.stopped else _REASONS[answer.finish]


def _usage(answer: Answer) -> Json:
    counts = {"input_tokens": answer.prompt_tokens, "output_tokens": answer.completion_tokens}
    return {"billed_units": counts, "tokens": counts, "cached_tokens": answer.cached_tokens}


def _called(place: int, call: Json) -> Iterator[str]:
    function = call["function"]
    started = {**call, "function": {**function, "arguments": ""}}
    yield _event("tool-call-start", index=place, message={"tool_calls": started})
    for piece in fragments(function["arguments"]):
        yield _event("tool-call-delta", index=place, message={"tool_calls": {"function": {"arguments": piece}}})
    yield _event("tool-call-end", index=place)


def _event(kind: str, message: Json | None = None, **fields: Any) -> str:
    return event({"type": kind, **fields, **({"delta": {"message": message}} if message else {})}, kind)


class Segments(Api):
    def read(self, body: Json, said: Mapping[str, str], persona: Persona) -> Asked:
        return read(body)

    def whole(self, answer: Answer, asked: Asked, persona: Persona) -> Json:
        found = {
            "content": [{"type": kind, kind: "".join(words)} for kind, words in _content(answer)],
            "tool_plan": "".join(_plan(answer)),
            "tool_calls": [_call(*row) for row in answer.numbered()],
        }
        message = {"role": "assistant", **{key: value for key, value in found.items() if value}}
        return {"id": "1", "finish_reason": _reason(answer), "message": message, "usage": _usage(answer)}

    def events(self, answer: Answer, asked: Asked, persona: Persona) -> Iterator[str]:
        empty = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
        yield _event("message-start", id="1", message=empty)
        for word in _plan(answer):
            yield _event("tool-plan-delta", message={"tool_plan": word})
        for place, (kind, words) in enumerate(_content(answer)):
            yield _event("content-start", index=place, message={"content": {"type": kind, kind: ""}})
            yield from (_event("content-delta", index=place, message={"content": {kind: word}}) for word in words)
            yield _event("content-end", index=place)
        for place, row in enumerate(answer.numbered()):
            yield from _called(place, _call(*row))
        ended = {"finish_reason": _reason(answer), "usage": _usage(answer)}
        yield event({"type": "message-end", "id": "1", "delta": ended}, "message-end")
        yield "data: [DONE]\n\n"

    def models(self, names: list[str]) -> Json:
        return {"models": [{"name": name, "endpoints": ["chat"], "finetuned": False} for name in names]}

    def error(self, refused: RefusedError, persona: Persona) -> tuple[int, Json]:
        texts = {"key": "invalid api token", "model": f"model '{refused.name}' not found"}
        return refused.status, {"id": "1", "message": texts.get(refused.kind, str(refused))}
