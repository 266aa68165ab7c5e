"""What is right: everything in an answer follows from the token in its prompt, so that an answer of another call shows.

The server makes its answers of this, and the client's side holds what it got against it.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from functools import cached_property

TOOL = {
    "type": "function",
    "function": {"name": "note", "parameters": {"type": "object", "properties": {"token": {"type": "string"}}}},
}
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Answer:
    """The right answer to a token: text, or with tools two calls."""

    token: str
    tools: bool = False

    @cached_property
    def number(self):
        return zlib.crc32(self.token.encode())

    @cached_property
    def pieces(self):
        return [] if self.tools else [f"{self.token}:{place} " for place in range(3 + self.number % 30)]

    @property
    def text(self):
        return "".join(self.pieces)

    @cached_property
    def calls(self):
        """(id, arguments) of each call."""
        if not self.tools:
            return []
        return [
            (f"call_{self.token}_{place}", json.dumps({"token": self.token, "notes": [place] * (1 + self.number % 9)}))
            for place in range(2)
        ]

    @property
    def finish_reason(self):
        return "tool_calls" if self.tools else "stop"

    @cached_property
    def usage(self):
        counts = {"prompt_tokens": 1 + self.number % 9973, "completion_tokens": 1 + self.number % 89}
        return {**counts, "total_tokens": sum(counts.values())}

    # ------------------------------------------------------------------ as the server says it

    def body(self):
        calls = [_call(given, arguments) for given, arguments in self.calls]
        message = {"role": "assistant", "content": self.text or None, **({"tool_calls": calls} if calls else {})}
        return json.dumps(self._whole("message", message, self.finish_reason, usage=self.usage)).encode()

    def events(self):
        """Every event of the stream, the last one [DONE]."""
        deltas = [{"content": piece} for piece in self.pieces]
        for place, (given, arguments) in enumerate(self.calls):
            cuts = [arguments[start : start + 7] for start in range(0, len(arguments), 7)]
            deltas.append({"tool_calls": [{"index": place, **_call(given, "")}]})
            deltas += [{"tool_calls": [{"index": place, "function": {"arguments": cut}}]} for cut in cuts]
        chunks = [self._whole("delta", delta, None) for delta in deltas]
        chunks += [self._whole("delta", {}, self.finish_reason, usage=self.usage)]
        return [*(event(chunk) for chunk in chunks), DONE]

    def _whole(self, name, value, reason, **more):
        return {"model": f"m-{self.token}", "choices": [{"index": 0, name: value, "finish_reason": reason}], **more}

    # ------------------------------------------------------------------ as the client judges it

    def wrong(self, reply):
        """What of a whole reply is not the answer, or ""."""
        counts = reply.usage and {name: getattr(reply.usage, name) for name in self.usage}
        found = {
            "content": (reply.content, self.text),
            "tool calls": ([(call.id, call.arguments) for call in reply.tool_calls], self.calls),
            "finish reason": (reply.finish_reason, self.finish_reason),
            "usage": (counts, self.usage),
            "model": (reply.model, f"m-{self.token}"),
            "request id": ((reply.request_id or "").rpartition("-")[0], f"req-{self.token}"),
        }
        return "; ".join(f"{name}: {got!r} is not {right!r}" for name, (got, right) in found.items() if got != right)

    def strange(self, reply):
        """What of a part of a reply cannot be the beginning of the answer, or ""."""
        if not self.text.startswith(reply.content):
            return f"content: {reply.content!r} does not begin {self.text!r}"
        rights = dict(self.calls)
        for call in reply.tool_calls:  # "{}" stands where nothing of the arguments came
            if call.arguments != "{}" and not rights.get(call.id, "").startswith(call.arguments):
                return f"tool call {call.id}: {call.arguments!r} does not begin {rights.get(call.id)!r}"
        return ""


def event(value):
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def _call(given, arguments):
    return {"id": given, "type": "function", "function": {"name": "note", "arguments": arguments}}
