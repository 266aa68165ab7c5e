"""Chat Completions: choices with a message or a delta.

Keys of a persona, the default first:
    reasoning       reasoning_content | reasoning | think_tags | parts
    usage           own_chunk | last_choice | every_chunk
    tool_index      true | false          whether streamed calls carry an index
    tool_arguments  text | object
    done            true | false          whether a stream ends with [DONE]
    keep_alive      false | true          comments before the first event
    error           object | flat | text | detail     the shape of its errors
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from judges.dialects.common import CREATED, Api, Asked, Json, Persona, RefusedError, event, fragments
from judges.dialects.reads.choices import read

from prx.emulator.brain import Answer


def usage(answer: Answer) -> Json:
    total = answer.prompt_tokens + answer.completion_tokens
    return {
        "prompt_tokens": answer.prompt_tokens, "completion_tokens": answer.completion_tokens, "total_tokens": total,
        "prompt_tokens_details": {"cached_tokens": answer.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": len(answer.reasoning)},
    }  # fmt: skip


def _add_reasoning(message: Json, text: str, persona: Persona) -> None:
    style = persona.get("reasoning", "reasoning_content")
    if not text:
        return
    if style == "think_tags":
        message["content"] = f"<think>\n{text}\n</think>\n\n{message['content'] or ''}"
    elif style == "parts":
        thinking = {"type": "thinking", "thinking": [{"type": "text", "text": text}]}
        message["content"] = [thinking, {"type": "text", "text": message["content"] or ""}]
    else:
        message[style] = text


def _call(number: int, name: str, arguments: Json, persona: Persona) -> Json:
    given = arguments if persona.get("tool_arguments") == "object" else json.dumps(arguments)
    return {"id": f"call_{number:09}", "type": "function", "function": {"name": name, "arguments": given}}


def _thinking(answer: Answer, persona: Persona) -> Iterator[Json]:
    style = persona.get("reasoning", "reasoning_content")
    if not answer.reasoning:
        return
    if style == "think_tags":
        yield from ({"content": word} for word in ("<thi", "nk>\n", *answer.reasoning, "\n</thi", "nk>", "\n\n"))
    elif style == "parts":
        yield from (
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": word}]}]}
            for word in answer.reasoning
        )
    else:
        yield from ({style: word} for word in answer.reasoning)


def _pieces(answer: Answer, persona: Persona) -> Iterator[Json]:
    """Deltas of calls: in fragments, but whole where calls have no index, since fragments could not be told apart."""
    for place, row in enumerate(answer.numbered()):
        call = _call(*row, persona)
        if not persona.get("tool_index", True) or persona.get("tool_arguments") == "object":
            yield {"tool_calls": [call]}
            continue
        yield {"tool_calls": [{"index": place, **call, "function": {**call["function"], "arguments": ""}}]}
        for piece in fragments(call["function"]["arguments"]):
            yield {"tool_calls": [{"index": place, "function": {"arguments": piece}}]}


def _chunk(delta: Json, finish: str | None, model: str) -> Json:
    return {
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": CREATED, "model": model,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }  # fmt: skip


class Choices(Api):
    def read(self, body: Json, said: Mapping[str, str], persona: Persona) -> Asked:
        return read(body, persona)

    def whole(self, answer: Answer, asked: Asked, persona: Persona) -> Json:
        message: Json = {"role": "assistant", "content": answer.text if answer.words or not answer.calls else None}
        _add_reasoning(message, "".join(answer.reasoning), persona)
        if answer.calls:
            message["tool_calls"] = [_call(*row, persona) for row in answer.numbered()]
        return {
            "id": "chatcmpl-1", "object": "chat.completion", "created": CREATED, "model": asked.model,
            "choices": [{"index": 0, "message": message, "finish_reason": answer.finish}], "usage": usage(answer),
        }  # fmt: skip

    def events(self, answer: Answer, asked: Asked, persona: Persona) -> Iterator[str]:
        if persona.get("keep_alive"):
            yield ": keep-alive\n\n"
        counts = usage(answer)
        deltas = [
            {"role": "assistant", "content": ""},
            *_thinking(answer, persona),
            *({"content": word} for word in answer.words),
            *_pieces(answer, persona),
        ]
        for delta in deltas:
            chunk = _chunk(delta, None, asked.model)
            yield event({**chunk, "usage": counts} if persona.get("usage") == "every_chunk" else chunk)
        last = _chunk({}, answer.finish, asked.model)
        with_last = persona.get("usage") in ("last_choice", "every_chunk")
        yield event({**last, "usage": counts} if with_last else last)
        if asked.usage and not with_last:
            yield event({**_chunk({}, None, asked.model), "choices": [], "usage": counts})
        if persona.get("done", True):
            yield "data: [DONE]\n\n"

    def models(self, names: list[str]) -> Json:
        return {"object": "list", "data": [{"id": name, "object": "model", "created": CREATED} for name in names]}

    def error(self, refused: RefusedError, persona: Persona) -> tuple[int, Any]:
        text = str(refused)
        shapes = {
            "flat": {"object": "error", "message": text, "code": refused.code},
            "text": {"error": text},
            "detail": {"detail": text},
        }
        usual = {"error": {"message": text, "type": "invalid_request_error", "param": None, "code": refused.code}}
        return refused.status, shapes.get(persona.get("error", "object"), usual)
