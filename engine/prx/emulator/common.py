"""What the shapes share: a request in the brain's words, refusals, signatures, and events as text.

Messages are those of shapes/choices, whatever came in: roles, content as text or parts, tool_calls, tool_call_id.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from prx.emulator.brain import Answer

Json = dict[str, Any]
Persona = Mapping[str, Any]
CREATED = 1767225600  # the same in every recording: 2026-01-01
CREATED_TEXT = "2026-01-01T00:00:00Z"
_STATUS = {"key": 401, "model": 404, "path": 404, "request": 400}


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, whatever its shape."""

    model: str
    messages: list[Json]
    tools: list[Json] = field(default_factory=list)
    stream: bool = False
    reason: bool = False
    limit: int | None = None
    stop: list[str] = field(default_factory=list)
    usage: bool = True  # whether a stream is to tell its counts


class RefusedError(Exception):
    """What is refused. kind: key | model | path | request; name: of the model or path."""

    def __init__(self, kind: str, message: str, code: str | None = None, name: str = "") -> None:
        super().__init__(message)
        self.kind, self.code, self.name = kind, code, name
        self.status = _STATUS[kind]


class Api(Protocol):
    """One shape: how a request is read, and what is answered."""

    media: ClassVar[str] = "text/event-stream"

    def read(self, body: Json, said: Mapping[str, str], persona: Persona) -> Asked:
        """A body, and what its path says, to what is asked. Raises RefusedError."""

    def whole(self, answer: Answer, asked: Asked, persona: Persona) -> Json:
        """An answer as one body."""

    def events(self, answer: Answer, asked: Asked, persona: Persona) -> Iterator[str]:
        """An answer as a stream, one text after the other."""

    def models(self, names: list[str]) -> Json:
        """The list of models."""

    def error(self, refused: RefusedError, persona: Persona) -> tuple[int, Json]:
        """A refusal, as status and body."""


def event(value: Json, name: str = "", end: str = "\n") -> str:
    """One server-sent event."""
    return (f"event: {name}{end}" if name else "") + f"data: {json.dumps(value, ensure_ascii=False)}{end}{end}"


def fragments(text: str) -> list[str]:
    """A text in pieces of eight characters, the way arguments of calls arrive."""
    return [text[start : start + 8] for start in range(0, len(text), 8)]


def sign(text: str) -> str:
    """The signature of a thought or of a call: the same text has the same. It is base64, too."""
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:24]


def listed(content: Any) -> list[Json]:
    """A content as parts."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content or ())


def picture(url: str) -> Json:
    return {"type": "image_url", "image_url": {"url": url}}


def call(given: str, name: str, arguments: Any) -> Json:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"id": given, "type": "function", "function": {"name": name, "arguments": text}}


def assistant(content: list[Json], calls: list[Json]) -> Json:
    return {"role": "assistant", "content": content, **({"tool_calls": calls} if calls else {})}


def check_calls(messages: list[Json]) -> None:
    """Every call is answered before anything else is said, and nothing is answered that was not called."""
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
