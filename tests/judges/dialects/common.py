"""What the hand-written dialects share: signatures, events as text, and messages in one common form.

In the common form messages are those of Chat Completions: role, content as text or parts, tool_calls, tool_call_id.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from prx.emulator.brain import Answer
from prx.emulator.common import Asked as PlainlyAsked
from prx.emulator.common import Json, Persona, RefusedError

CREATED = 1767225600  # 2026-01-01
CREATED_TEXT = "2026-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Asked(PlainlyAsked):
    """One request in the common form. usage: whether a stream reports its usage."""

    usage: bool = True


class Api(Protocol):
    """One wire format: reads requests and writes answers."""

    media: ClassVar[str] = "text/event-stream"

    def read(self, body: Json, said: Mapping[str, str], persona: Persona) -> Asked:
        """The request of a body. said: the named parts of its path. Raises RefusedError."""

    def whole(self, answer: Answer, asked: Asked, persona: Persona) -> Json:
        """An answer as one body."""

    def events(self, answer: Answer, asked: Asked, persona: Persona) -> Iterator[str]:
        """An answer as the texts of a stream's events."""

    def models(self, names: list[str]) -> Json:
        """The list of models."""

    def error(self, refused: RefusedError, persona: Persona) -> tuple[int, Json]:
        """A refusal, as status and body."""


def event(value: Json, name: str = "", end: str = "\n") -> str:
    """One server-sent event."""
    return (f"event: {name}{end}" if name else "") + f"data: {json.dumps(value, ensure_ascii=False)}{end}{end}"


def fragments(text: str) -> list[str]:
    """A text in pieces of eight characters, as providers send arguments of calls."""
    return [text[start : start + 8] for start in range(0, len(text), 8)]


def sign(text: str) -> str:
    """The signature of reasoning or of a call: the same for the same text. As hexadecimal digits it is valid base64, too."""
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:24]


def listed(content: Any) -> list[Json]:
    """A message's content as parts."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content or ())


def picture(url: str) -> Json:
    return {"type": "image_url", "image_url": {"url": url}}


def call(given: str, name: str, arguments: Any) -> Json:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"id": given, "type": "function", "function": {"name": name, "arguments": text}}


def assistant(content: list[Json], calls: list[Json]) -> Json:
    return {"role": "assistant", "content": content, **({"tool_calls": calls} if calls else {})}


def check_calls(messages: list[Json]) -> None:
    """Raise RefusedError where a call has no result before the next message, or a result has no call."""
    waiting: set[str] = set()
    for message in messages:
        if message.get("role") == "tool":
            if message["tool_call_id"] not in waiting:
                raise RefusedError("request", f"no call waits for the result of {message['tool_call_id']!r}")
            waiting.remove(message["tool_call_id"])
            continue
        if waiting:
            break
        waiting = {each["id"] for each in message.get("tool_calls") or ()}
    if waiting:
        raise RefusedError("request", f"the calls {', '.join(sorted(waiting))} have no result")
