"""Answers of models in the form of each provider: text, thoughts in its own place, calls with ids of its own form.

An answer is prx.emulator's: words, reasoning, calls. The writers of judges.dialects say it, but for Chat Completions, whose
vendors differ most.
"""

from __future__ import annotations

import json

from judges.dialects.common import Asked, RefusedError, event, sign
from judges.dialects.reads.parts import signature
from judges.dialects.writes.blocks import Blocks
from judges.dialects.writes.items import Items
from judges.dialects.writes.parts import Parts
from judges.dialects.writes.segments import Segments

from prx.emulator.brain import Answer

COUNTS = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}


class Chat:
    """Chat Completions.

    thoughts   where they stand: a key of the message, tags (in the content), chunks (of the content), details, or nowhere
    ids        form of the ids of its calls, {} is a number of nine digits
    """

    media = "text/event-stream"

    def __init__(self, thoughts="reasoning_content", ids="call_{}"):
        self.thoughts, self.ids = thoughts, ids

    def names(self, body):
        return [tool["function"]["name"] for tool in body.get("tools") or ()]

    def message(self, answer):
        calls = [
            {
                "id": self.ids.format(f"{number:09}"),
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(given)},
            }
            for number, name, given in answer.numbered()
        ]
        said = {"role": "assistant", "content": answer.text or None, **({"tool_calls": calls} if calls else {})}
        return said | self.thought("".join(answer.reasoning), said["content"])

    def thought(self, text, content):
        if self.thoughts == "tags":
            return {"content": f"<think>\n{text}\n</think>\n\n{content or ''}"}
        if self.thoughts == "chunks":
            thinking = {"type": "thinking", "thinking": [{"type": "text", "text": text}]}
            return {"content": [thinking, {"type": "text", "text": content or ""}]}
        if self.thoughts == "details":
            return {"reasoning": text, "reasoning_details": [_detail(text) | {"signature": sign(text)}]}
        return {self.thoughts: text} if self.thoughts else {}

    def whole(self, answer, model):
        choice = {"index": 0, "message": self.message(answer), "finish_reason": answer.finish}
        return {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": model,
            "choices": [choice],
            "usage": COUNTS,
        }

    def events(self, answer, model):
        for delta in [{"role": "assistant", "content": ""}, *self._deltas(self.message(answer), answer)]:
            yield event(_chunk(model, delta))
        yield event(_chunk(model, {}, answer.finish) | {"usage": COUNTS})
        yield "data: [DONE]\n\n"

    def _deltas(self, message, answer):
        thought = "".join(answer.reasoning)
        if self.thoughts == "details":
            for word in answer.reasoning:
                yield {"reasoning": word, "reasoning_details": [_detail(word)]}
            yield {"reasoning_details": [{"type": "reasoning.text", "index": 0, "signature": sign(thought)}]}
        elif self.thoughts == "chunks":
            for part in message["content"]:
                yield {"content": [part] if part["type"] == "thinking" else part["text"]}
        elif self.thoughts and self.thoughts != "tags":
            yield from ({self.thoughts: word} for word in answer.reasoning)
        if self.thoughts != "chunks" and message["content"]:
            content = message["content"]
            yield from ({"content": content[start : start + 7]} for start in range(0, len(content), 7))
        for place, call in enumerate(message.get("tool_calls", ())):
            text = call["function"]["arguments"]
            yield {"tool_calls": [{"index": place, **call, "function": {**call["function"], "arguments": text[:4]}}]}
            yield {"tool_calls": [{"index": place, "function": {"arguments": text[4:]}}]}

    def remembered(self, answer):
        """What is known again by its first call, or by its text."""
        message = self.message(answer)
        yield (message["tool_calls"][0]["id"] if answer.calls else answer.text), message


def _detail(text):
    return {"type": "reasoning.text", "text": text, "format": "anthropic-claude-v1", "index": 0}


def _chunk(model, delta, finish=None):
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [choice]}


class Shaped:
    """An API that a writer of judges.dialects speaks; `named` finds the names of tools in a body."""

    def __init__(self, shape, named, known):
        self.shape, self.named, self.remembered = shape, named, known
        self.media = shape.media

    def names(self, body):
        return self.named(body)

    def whole(self, answer, model):
        return self.shape.whole(answer, Asked(model, []), {})

    def events(self, answer, model):
        return self.shape.events(answer, Asked(model, []), {})

    def read(self, body, own):
        """The judgement of its reader of requests."""
        try:
            self.shape.read(body, {"model": "m", "verb": "generateContent"}, {})
        except RefusedError as refused:
            return str(refused)
        return None


def _thinking(answer):
    thought = "".join(answer.reasoning)
    for number, *_ in answer.numbered()[:1]:
        yield f"toolu_{number:06}", {"thinking": thought, "signature": sign(thought)}


def _signed(answer):
    for number, name, given in answer.numbered()[:1]:
        yield f"fc_{number}", signature(name, given)


def _declared(body):
    return [row["name"] for tool in body.get("tools") or () for row in tool["functionDeclarations"]]


def _nothing(answer):
    return ()


MESSAGES = Shaped(Blocks(), lambda body: [tool["name"] for tool in body.get("tools") or ()], _thinking)
GENERATE = Shaped(Parts(), _declared, _signed)
COHERE = Shaped(Segments(), lambda body: [tool["function"]["name"] for tool in body.get("tools") or ()], _nothing)
RESPONSES = Shaped(Items(), lambda body: [tool["name"] for tool in body.get("tools") or ()], _nothing)
__all__ = ["COHERE", "GENERATE", "MESSAGES", "RESPONSES", "Answer", "Chat"]
