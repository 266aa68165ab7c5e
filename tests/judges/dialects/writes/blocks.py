"""Messages: content as blocks, each with start, deltas and stop in a stream; thinking has a signature."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from judges.dialects.common import CREATED_TEXT, Api, Asked, Json, Persona, RefusedError, event, fragments, sign
from judges.dialects.reads.blocks import read

from prx.emulator.brain import Answer

_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
_FAULTS = {"key": "authentication_error", "model": "not_found_error", "path": "not_found_error"}


def _blocks(answer: Answer) -> Iterator[Json]:
    thought = "".join(answer.reasoning)
    if thought:
        yield {"type": "thinking", "thinking": thought, "signature": sign(thought)}
    if answer.words:
        yield {"type": "text", "text": answer.text}
    for number, name, arguments in answer.numbered():
        yield {"type": "tool_use", "id": f"toolu_{number:06}", "name": name, "input": arguments}


def _usage(answer: Answer) -> Json:
    return {
        "input_tokens": answer.prompt_tokens - answer.cached_tokens, "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": answer.cached_tokens, "output_tokens": answer.completion_tokens,
        "output_tokens_details": {"thinking_tokens": len(answer.reasoning)},
    }  # fmt: skip


_EMPTY: dict[str, Json] = {
    "thinking": {"thinking": "", "signature": ""},
    "text": {"text": ""},
    "tool_use": {"input": {}},
}


def _deltas(answer: Answer, block: Json) -> Iterator[Json]:
    if block["type"] == "thinking":
        yield from ({"type": "thinking_delta", "thinking": word} for word in answer.reasoning)
        yield {"type": "signature_delta", "signature": block["signature"]}
    elif block["type"] == "text":
        yield from ({"type": "text_delta", "text": word} for word in answer.words)
    else:
        pieces = ["", *fragments(json.dumps(block["input"]))]
        yield from ({"type": "input_json_delta", "partial_json": piece} for piece in pieces)


def _event(kind: str, **fields: Any) -> str:
    return event({"type": kind, **fields}, kind)


class Blocks(Api):
    def read(self, body: Json, said: Mapping[str, str], persona: Persona) -> Asked:
        return read(body)

    def whole(self, answer: Answer, asked: Asked, persona: Persona) -> Json:
        reason = "stop_sequence" if answer.stopped else _REASONS[answer.finish]
        return {
            "id": "msg_1", "type": "message", "role": "assistant", "model": asked.model, "content": list(_blocks(answer)),
            "stop_reason": reason, "stop_sequence": answer.stopped, "usage": _usage(answer),
        }  # fmt: skip

    def events(self, answer: Answer, asked: Asked, persona: Persona) -> Iterator[str]:
        """The prompt is counted at the beginning, the answer at the end."""
        body = self.whole(answer, asked, persona)
        counts = {**body["usage"], "output_tokens": 1}
        start = {**body, "content": [], "stop_reason": None, "stop_sequence": None, "usage": counts}
        yield _event("message_start", message=start)
        yield _event("ping")
        for place, block in enumerate(body["content"]):
            yield _event("content_block_start", index=place, content_block={**block, **_EMPTY[block["type"]]})
            for delta in _deltas(answer, block):
                yield _event("content_block_delta", index=place, delta=delta)
            yield _event("content_block_stop", index=place)
        ended = {"stop_reason": body["stop_reason"], "stop_sequence": body["stop_sequence"]}
        last = {key: body["usage"][key] for key in ("output_tokens", "output_tokens_details")}
        yield _event("message_delta", delta=ended, usage=last)
        yield _event("message_stop")

    def models(self, names: list[str]) -> Json:
        data = [{"type": "model", "id": name, "display_name": name, "created_at": CREATED_TEXT} for name in names]
        return {
            "data": data,
            "has_more": False,
            "first_id": names[0] if names else None,
            "last_id": names[-1] if names else None,
        }

    def error(self, refused: RefusedError, persona: Persona) -> tuple[int, Json]:
        texts = {"key": "invalid x-api-key", "model": f"model: {refused.name}"}
        kind = _FAULTS.get(refused.kind, "invalid_request_error")
        told = {"type": kind, "message": texts.get(refused.kind, str(refused))}
        return refused.status, {"type": "error", "error": told, "request_id": "req_1"}
