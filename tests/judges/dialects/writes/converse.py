"""Answers of Converse: a message of blocks, and in a stream the messages of Amazon's event stream, padded as they come."""

from __future__ import annotations

import json
from collections.abc import Iterator

from helpers import event_stream
from judges.dialects.common import Json, fragments, sign

from prx.emulator.brain import Answer

_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


def whole(answer: Answer) -> Json:
    thought = "".join(answer.reasoning)
    blocks = [{"reasoningContent": {"reasoningText": {"text": thought, "signature": sign(thought)}}}] if thought else []
    blocks += [{"text": answer.text}] if answer.words else []
    blocks += [
        {"toolUse": {"toolUseId": f"tooluse_{number:09}", "name": name, "input": given}}
        for number, name, given in answer.numbered()
    ]
    return {
        "metrics": {"latencyMs": 9},
        "output": {"message": {"role": "assistant", "content": blocks}},
        "stopReason": _REASONS[answer.finish],
        "usage": _usage(answer),
    }


def _usage(answer: Answer) -> Json:
    counts = {"inputTokens": answer.prompt_tokens - answer.cached_tokens, "outputTokens": answer.completion_tokens}
    cached = {"cacheReadInputTokens": answer.cached_tokens, "cacheWriteInputTokens": 0}
    return {**counts, "totalTokens": answer.prompt_tokens + answer.completion_tokens, **cached}


def events(answer: Answer) -> Iterator[bytes]:
    yield _event("messageStart", role="assistant")
    place = 0
    if answer.reasoning:
        for word in answer.reasoning:
            yield _delta(place, {"reasoningContent": {"text": word}})
        yield _delta(place, {"reasoningContent": {"signature": sign("".join(answer.reasoning))}})
        yield _event("contentBlockStop", contentBlockIndex=place)
        place += 1
    if answer.words:
        for word in answer.words:
            yield _delta(place, {"text": word})
        yield _event("contentBlockStop", contentBlockIndex=place)
        place += 1
    for at, (number, name, given) in enumerate(answer.numbered(), place):
        start = {"toolUse": {"toolUseId": f"tooluse_{number:09}", "name": name}}
        yield _event("contentBlockStart", contentBlockIndex=at, start=start)
        for piece in fragments(json.dumps(given)):
            yield _delta(at, {"toolUse": {"input": piece}})
        yield _event("contentBlockStop", contentBlockIndex=at)
    yield _event("messageStop", stopReason=_REASONS[answer.finish])
    yield _event("metadata", metrics={"latencyMs": 9}, usage=_usage(answer))


def _delta(place: int, delta: Json) -> bytes:
    return _event("contentBlockDelta", contentBlockIndex=place, delta=delta)


def _event(name: str, **fields: object) -> bytes:
    """With letters at its end, as the service adds them so that lengths say nothing about the text."""
    return event_stream.event(name, {**fields, "p": "abcdefghijklmn"[: len(str(fields)) % 14]})
