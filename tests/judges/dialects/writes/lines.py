"""A chat API that streams lines of JSON: pieces of a message, whole calls, and the usage in the last line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from judges.dialects.common import CREATED_TEXT, Api, Asked, Json, Persona, RefusedError
from judges.dialects.reads.lines import read

from prx.emulator.brain import Answer


def _call(name: str, arguments: Json) -> Json:
    return {"function": {"name": name, "arguments": arguments}}


def _line(asked: Asked, message: Json, done: Answer | None = None) -> Json:
    line: Json = {"model": asked.model, "created_at": CREATED_TEXT, "message": {"role": "assistant", **message}}
    return {**line, "done": done is not None, **(_end(done) if done else {})}


def _end(answer: Answer) -> Json:
    return {
        "done_reason": "length" if answer.finish == "length" else "stop",
        "total_duration": 1, "load_duration": 1, "prompt_eval_duration": 1, "eval_duration": 1,
        "prompt_eval_count": answer.prompt_tokens, "eval_count": answer.completion_tokens,
    }  # fmt: skip


class Lines(Api):
    media: ClassVar[str] = "application/x-ndjson"

    def read(self, body: Json, said: Mapping[str, str], persona: Persona) -> Asked:
        return read(body)

    def whole(self, answer: Answer, asked: Asked, persona: Persona) -> Json:
        message: Json = {"content": answer.text}
        message |= {"thinking": "".join(answer.reasoning)} if answer.reasoning else {}
        message |= {"tool_calls": [_call(*row) for row in answer.calls]} if answer.calls else {}
        return _line(asked, message, answer)

    def events(self, answer: Answer, asked: Asked, persona: Persona) -> Iterator[str]:
        messages: list[Json] = [
            *({"content": "", "thinking": word} for word in answer.reasoning),
            *({"content": word} for word in answer.words),
            *({"content": "", "tool_calls": [_call(*row)]} for row in answer.calls),
        ]
        yield from (f"{json.dumps(_line(asked, message), ensure_ascii=False)}\n" for message in messages)
        yield f"{json.dumps(_line(asked, {'content': ''}, answer), ensure_ascii=False)}\n"

    def models(self, names: list[str]) -> Json:
        rows = [{"name": name, "model": name, "modified_at": CREATED_TEXT, "size": 1, "digest": ""} for name in names]
        return {"models": rows}

    def error(self, refused: RefusedError, persona: Persona) -> tuple[int, Any]:
        texts = {"key": "unauthorized", "model": f"model '{refused.name}' not found"}
        return refused.status, {"error": texts.get(refused.kind, str(refused))}
