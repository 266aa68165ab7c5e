"""generateContent: candidates with parts; thoughts are parts, too, and calls are not streamed in pieces.

Keys of a persona:
    call_ids        true | false     whether calls have an id
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from judges.dialects.common import Api, Asked, Json, Persona, RefusedError, event
from judges.dialects.reads.parts import read, signature

from prx.emulator.brain import Answer

_REASONS = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP"}
_FAULTS = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 404: "NOT_FOUND"}


def _calls(answer: Answer, persona: Persona) -> Iterator[Json]:
    """The parts of calls. Of several calls in one answer only the first one has a signature."""
    for place, (number, name, arguments) in enumerate(answer.numbered()):
        made = {"name": name, "args": arguments}
        given = {"id": f"fc_{number}"} if persona.get("call_ids", True) else {}
        signed = {"thoughtSignature": signature(name, arguments)} if answer.reasoning and not place else {}
        yield {"functionCall": {**given, **made}, **signed}


def _answer(parts: list[Json], asked: Asked, answer: Answer, *, last: bool) -> Json:
    candidate: Json = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if last:
        candidate["finishReason"] = _REASONS[answer.finish]
    known = {"promptTokenCount": answer.prompt_tokens, "totalTokenCount": answer.prompt_tokens}
    usage = _usage(answer) if last else known
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": asked.model, "responseId": "1"}


def _usage(answer: Answer) -> Json:
    return {
        "promptTokenCount": answer.prompt_tokens, "cachedContentTokenCount": answer.cached_tokens,
        "candidatesTokenCount": answer.completion_tokens - len(answer.reasoning),
        "thoughtsTokenCount": len(answer.reasoning), "totalTokenCount": answer.prompt_tokens + answer.completion_tokens,
    }  # fmt: skip


class Parts(Api):
    def read(self, body: Json, said: Mapping[str, str], persona: Persona) -> Asked:
        return read(body, said)

    def whole(self, answer: Answer, asked: Asked, persona: Persona) -> Json:
        thought, said = "".join(answer.reasoning), [*_calls(answer, persona)]
        parts = [{"text": thought, "thought": True}] if thought else []
        parts += [{"text": answer.text}] if answer.words else []
        return _answer([*parts, *said], asked, answer, last=True)

    def events(self, answer: Answer, asked: Asked, persona: Persona) -> Iterator[str]:
        """One piece of the answer in each event, with the usage so far."""
        pieces: list[Json] = [
            *({"text": word, "thought": True} for word in answer.reasoning),
            *({"text": word} for word in answer.words),
            *_calls(answer, persona),
        ]
        for piece in pieces[:-1]:
            yield event(_answer([piece], asked, answer, last=False), end="\r\n")
        yield event(_answer(pieces[-1:] or [{"text": ""}], asked, answer, last=True), end="\r\n")

    def models(self, names: list[str]) -> Json:
        able = ["generateContent", "countTokens"]
        rows = [{"name": f"models/{name}", "displayName": name, "supportedGenerationMethods": able} for name in names]
        return {"models": rows}

    def error(self, refused: RefusedError, persona: Persona) -> tuple[int, Json]:
        """As the API: a wrong API key gives 400, a wrong bearer token 401."""
        status = 400 if refused.kind == "key" and persona.get("auth") != "authorization" else refused.status
        texts = {
            "key": "API key not valid. Please pass a valid API key.",
            "model": f"models/{refused.name} is not found for API version v1beta",
        }
        told = {"code": status, "message": texts.get(refused.kind, str(refused)), "status": _FAULTS[status]}
        return status, {"error": told}
