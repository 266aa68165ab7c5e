"""Responses: a list of output items, each with its own events."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

from judges.dialects.common import CREATED, Asked, Json, Persona, event, fragments
from judges.dialects.reads.items import read
from judges.dialects.writes.choices import Choices, usage

from prx.emulator.brain import Answer


def _output(answer: Answer) -> Iterator[Json]:
    if answer.reasoning:
        yield {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "".join(answer.reasoning)}],
        }
    if answer.words:
        content = [{"type": "output_text", "text": answer.text, "annotations": []}]
        yield {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}
    for number, name, arguments in answer.numbered():
        yield {
            "type": "function_call", "id": f"fc_{number}", "call_id": f"call_{number:09}",
            "name": name, "arguments": json.dumps(arguments),
        }  # fmt: skip


def _usage(answer: Answer) -> Json:
    counts = usage(answer)
    return {
        "input_tokens": counts["prompt_tokens"], "output_tokens": counts["completion_tokens"],
        "total_tokens": counts["total_tokens"], "input_tokens_details": counts["prompt_tokens_details"],
        "output_tokens_details": counts["completion_tokens_details"],
    }  # fmt: skip


_EMPTY: dict[str, Json] = {"function_call": {"arguments": ""}, "message": {"content": []}, "reasoning": {"summary": []}}
_DELTA: dict[str, tuple[str, Json]] = {
    "function_call": ("response.function_call_arguments.delta", {}),
    "message": ("response.output_text.delta", {"content_index": 0}),
    "reasoning": ("response.reasoning_summary_text.delta", {"summary_index": 0}),
}


def _pieces(answer: Answer, item: Json) -> list[str]:
    if item["type"] == "function_call":
        return fragments(item["arguments"])
    return answer.words if item["type"] == "message" else answer.reasoning


class Items(Choices):
    def read(self, body: Json, said: Mapping[str, str], persona: Persona) -> Asked:
        return read(body, persona)

    def whole(self, answer: Answer, asked: Asked, persona: Persona) -> Json:
        cut = answer.finish == "length"
        return {
            "id": "resp_1", "object": "response", "created_at": CREATED, "model": asked.model, "output": list(_output(answer)),
            "status": "incomplete" if cut else "completed", "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "usage": _usage(answer),
        }  # fmt: skip

    def events(self, answer: Answer, asked: Asked, persona: Persona) -> Iterator[str]:
        body = self.whole(answer, asked, persona)
        number = itertools.count()

        def made(kind: str, **fields: Any) -> str:
            return event({"type": kind, "sequence_number": next(number), **fields}, kind)

        yield made("response.created", response={**body, "output": [], "status": "in_progress", "usage": None})
        for place, item in enumerate(body["output"]):
            yield made("response.output_item.added", output_index=place, item={**item, **_EMPTY[item["type"]]})
            kind, more = _DELTA[item["type"]]
            for piece in _pieces(answer, item):
                yield made(kind, item_id=item["id"], output_index=place, **more, delta=piece)
            yield made("response.output_item.done", output_index=place, item=item)
        yield made("response.incomplete" if body["incomplete_details"] else "response.completed", response=body)
