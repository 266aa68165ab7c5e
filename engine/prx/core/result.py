"""Assembles an answer, from the pieces of a stream or from one body."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from typing import Any, Literal

from prx.chat import Call, JsonText, Message, Part, Reply, ToolCall, Usage
from prx.core import names
from prx.core.blocks import Blocks, in_usual_order
from prx.core.replay import Replay
from prx.core.toolcalls import ToolCalls
from prx.spec.model import Spec
from prx.text import clean

_RAW_EVENTS = 1000


class Assembly:
    """What has arrived of an answer so far; `reply` may be called at any time.

    raw         the events of a stream that brought more than text, the newest _RAW_EVENTS of them; or the body
    counts      the provider's usage object, where it reports usage in parts
    streamed    the answer was asked for as a stream and came as one
    """

    def __init__(self, spec: Spec, call: Call, new_id: Callable[[], str]) -> None:
        self.spec = spec
        self.call = call
        self.blocks = Blocks()
        # The pieces as they were handed on.
        pieces = self.blocks.pieces
        self.content, self.reasoning, self.refusal = pieces["text"], pieces["reasoning"], pieces["refusal"]
        self.calls = ToolCalls(new_id, *(names.of_tools(call, spec.request.tool_names) if call.tools else ()))
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.model = ""
        self.request_id: str | None = None
        self.replay = Replay()
        self.counts: dict[str, Any] = {}
        self.raw: Any = deque(maxlen=_RAW_EVENTS)
        self.streamed = False

    @property
    def empty(self) -> bool:
        return not (self.content or self.reasoning or self.refusal or self.calls or self.finish_reason)

    def add_counts(self, found: Any) -> dict[str, Any]:
        """Add to the usage object of a provider that reports it in parts; gives all of it so far."""
        if isinstance(found, dict):
            new = {name: count for name, count in found.items() if count or self.counts.get(name) is None}
            self.counts = {**self.counts, **{name: count for name, count in new.items() if count is not None}}
        return self.counts

    def add_usage(self, found: Usage) -> Usage:
        """Add a usage report; gives all counts so far. A later count replaces an earlier one, but a later 0 does not."""
        old = self.usage
        if old is not None:
            found = Usage(*(new if new or kept is None else kept for new, kept in zip(found, old, strict=True)))
        self.usage = found
        return found

    def reply(self) -> Reply:
        content, reasoning = _joined(self.content), "".join(self.reasoning) or None
        refusal = "".join(self.refusal) or None
        calls = self.calls.calls() if self.calls else ()
        parts = tuple(self.blocks.parts(calls, self.calls.replays() if calls else ()))
        source: Literal["content", "reasoning"] = "content"
        shown = content
        if reasoning and not content.strip() and not calls and not refusal and self.finish_reason:
            source, shown = "reasoning", reasoning
        return Reply(
            content=shown,
            reasoning=reasoning,
            tool_calls=calls,
            finish_reason="tool_calls" if calls and self.finish_reason == "stop" else self.finish_reason,
            usage=self.usage,
            model=self.model or self.call.model,
            provider=self.spec.id,
            streamed=self.streamed,
            content_source=source,
            request_id=self.request_id,
            message=self._message(content, refusal, calls, parts),
            refusal=refusal,
            parts=parts,
            raw=list(self.raw) if isinstance(self.raw, deque) else self.raw,
        )

    def _message(
        self, content: str, refusal: str | None, calls: tuple[ToolCall, ...], parts: tuple[Part, ...]
    ) -> Message:
        message: Message = {"role": "assistant", "content": str(content) if content or not calls else None}
        if refusal:
            message["refusal"] = refusal
        if calls:
            message["tool_calls"] = self.calls.messages()
        if len(parts) > 1 and not in_usual_order(parts, sent_as_blocks="turns" in self.spec.request.body.reads):
            message["parts"] = [_message_part(part) for part in parts]
        return {**message, **self.replay.folded()}


def _message_part(part: Part) -> dict[str, Any]:
    """A block as an element of an assistant message's `parts`; of a call only its id: tool_calls has the rest."""
    content = {"id": part.call.id} if part.call else {"text": part.text} if part.text else {}
    return {"type": part.kind, **content, **(part.replay if not part.call else {})}


def _joined(pieces: list[str]) -> str:
    return pieces[0] if len(pieces) == 1 else "".join(pieces)


def text_of(value: Any, between: str = "") -> str:
    """The text of a value that an extractor found: a text as it is; the texts of a list of parts, joined by `between`;
    null, true and false as ""; anything else as JsonText.
    """
    if isinstance(value, str):
        return clean(value)
    if value is None or isinstance(value, bool):
        return ""
    if isinstance(value, list) and all(map(_is_part, value)):
        return clean(between.join(filter(None, map(_part_text, value))))
    json_text = JsonText(clean(json.dumps(value, ensure_ascii=False)))
    json_text.value = value
    return json_text


def _is_part(value: Any) -> bool:
    return value is None or isinstance(value, str) or (isinstance(value, dict) and "type" in value)


def _part_text(part: Any) -> str:
    text = part.get("text") if isinstance(part, dict) else part
    return text if isinstance(text, str) else ""
