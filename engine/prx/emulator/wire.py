"""The emulator's wire formats: answers as bodies and as events, with the habits that a persona has.

A persona says how its provider differs on the wire. Keys, with what is usual first:
    reasoning       reasoning_content | reasoning | think_tags | parts
    usage           own_chunk | last_choice | every_chunk
    tool_index      true | false          whether streamed calls carry an index
    tool_arguments  text | object
    done            true | false          whether a stream ends with [DONE]
    keep_alive      false | true          comments before the first event
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

from prx.emulator.brain import Answer

Json = dict[str, Any]
CREATED = 1767225600  # the same in every recording: 2026-01-01


def usage(answer: Answer) -> Json:
    total = answer.prompt_tokens + answer.completion_tokens
    return {"prompt_tokens": answer.prompt_tokens, "completion_tokens": answer.completion_tokens, "total_tokens": total}


# ------------------------------------------------------------------ Chat Completions


def chat_body(answer: Answer, model: str, persona: Mapping[str, Any]) -> Json:
    message: Json = {"role": "assistant", "content": answer.text if answer.words or not answer.calls else None}
    _add_reasoning(message, "".join(answer.reasoning), persona)
    if answer.calls:
        message["tool_calls"] = [
            _call(place, name, arguments, persona) for place, (name, arguments) in enumerate(answer.calls)
        ]
    return {
        "id": "chatcmpl-1", "object": "chat.completion", "created": CREATED, "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": answer.finish}], "usage": usage(answer),
    }  # fmt: skip


def _add_reasoning(message: Json, text: str, persona: Mapping[str, Any]) -> None:
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


def _call(place: int, name: str, arguments: Json, persona: Mapping[str, Any]) -> Json:
    given = arguments if persona.get("tool_arguments") == "object" else json.dumps(arguments)
    return {"id": f"call_{place + 1:09}", "type": "function", "function": {"name": name, "arguments": given}}


def chat_events(answer: Answer, model: str, persona: Mapping[str, Any], *, include_usage: bool) -> Iterator[str]:
    """A stream as text, one event after the other."""
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
        chunk = _chunk(delta, None, model)
        yield _event({**chunk, "usage": counts} if persona.get("usage") == "every_chunk" else chunk)
    last = _chunk({}, answer.finish, model)
    with_last = persona.get("usage") in ("last_choice", "every_chunk")
    yield _event({**last, "usage": counts} if with_last else last)
    if include_usage and not with_last:
        yield _event({**_chunk({}, None, model), "choices": [], "usage": counts})
    if persona.get("done", True):
        yield "data: [DONE]\n\n"


def _thinking(answer: Answer, persona: Mapping[str, Any]) -> Iterator[Json]:
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


def _pieces(answer: Answer, persona: Mapping[str, Any]) -> Iterator[Json]:
    """Calls in fragments; whole ones where there is no index to tell fragments apart by."""
    for place, (name, arguments) in enumerate(answer.calls):
        call = _call(place, name, arguments, persona)
        if not persona.get("tool_index", True) or persona.get("tool_arguments") == "object":
            yield {"tool_calls": [call]}
            continue
        text = call["function"]["arguments"]
        yield {"tool_calls": [{"index": place, **call, "function": {"name": name, "arguments": ""}}]}
        for start in range(0, len(text), 8):
            yield {"tool_calls": [{"index": place, "function": {"arguments": text[start : start + 8]}}]}


def _chunk(delta: Json, finish: str | None, model: str) -> Json:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": model,
        "choices": choices,
    }


def _event(value: Json, name: str = "") -> str:
    return (f"event: {name}\n" if name else "") + f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


# ------------------------------------------------------------------ Responses


def responses_body(answer: Answer, model: str) -> Json:
    output: list[Json] = []
    if answer.reasoning:
        output.append(
            {
                "type": "reasoning",
                "id": "rs_1",
                "summary": [{"type": "summary_text", "text": "".join(answer.reasoning)}],
            }
        )
    for place, (name, arguments) in enumerate(answer.calls):
        output.append(
            {
                "type": "function_call",
                "id": f"fc_{place}",
                "call_id": f"call_{place + 1:09}",
                "name": name,
                "arguments": json.dumps(arguments),
            }
        )
    if answer.words:
        content = [{"type": "output_text", "text": answer.text, "annotations": []}]
        output.append(
            {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}
        )
    counts = usage(answer)
    cut = answer.finish == "length"
    return {
        "id": "resp_1", "object": "response", "created_at": CREATED, "model": model, "output": output,
        "status": "incomplete" if cut else "completed", "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "usage": {"input_tokens": counts["prompt_tokens"], "output_tokens": counts["completion_tokens"], "total_tokens": counts["total_tokens"]},
    }  # fmt: skip


def responses_events(answer: Answer, model: str) -> Iterator[str]:
    body = responses_body(answer, model)
    number = itertools.count()

    def event(kind: str, **fields: Any) -> str:
        return _event({"type": kind, "sequence_number": next(number), **fields}, kind)

    yield event("response.created", response={**body, "output": [], "status": "in_progress", "usage": None})
    for place, item in enumerate(body["output"]):
        empty = (
            {**item, "arguments": ""}
            if item["type"] == "function_call"
            else {**item, "content": []}
            if item["type"] == "message"
            else item
        )
        yield event("response.output_item.added", output_index=place, item=empty)
        if item["type"] == "reasoning":
            for word in answer.reasoning:
                yield event(
                    "response.reasoning_summary_text.delta",
                    item_id=item["id"],
                    output_index=place,
                    summary_index=0,
                    delta=word,
                )
        elif item["type"] == "function_call":
            yield event(
                "response.function_call_arguments.delta",
                item_id=item["id"],
                output_index=place,
                delta=item["arguments"],
            )
        else:
            for word in answer.words:
                yield event(
                    "response.output_text.delta", item_id=item["id"], output_index=place, content_index=0, delta=word
                )
        yield event("response.output_item.done", output_index=place, item=item)
    yield event("response.incomplete" if body["incomplete_details"] else "response.completed", response=body)


def responses_messages(body: Json) -> list[Json]:
    """The input of a Responses request as chat messages, for the brain."""
    messages: list[Json] = [{"role": "system", "content": body["instructions"]}] if body.get("instructions") else []
    given = body.get("input") or []
    for item in [{"role": "user", "content": given}] if isinstance(given, str) else given:
        if item.get("type") == "function_call_output":
            messages.append({"role": "tool", "content": item.get("output")})
        elif "role" in item:
            messages.append({"role": item["role"], "content": item.get("content")})
    return messages
