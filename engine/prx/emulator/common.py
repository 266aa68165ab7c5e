"""What the emulator's server and the wire formats that it speaks say to each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from prx.emulator.brain import Answer

Json = dict[str, Any]
Persona = Mapping[str, Any]
_STATUS = {"key": 401, "model": 404, "path": 404, "request": 400}


class Head(NamedTuple):
    """Where a request has come in. path: percent-encoded. headers: by names in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, its messages and tools as Chat Completions has them.

    reason   show reasoning
    limit    the most tokens of the answer
    kind     of a call that is no chat, or ""; inputs: its arguments
    """

    model: str
    messages: list[Json]
    tools: list[Json] = field(default_factory=list)
    stream: bool = False
    reason: bool = False
    limit: int | None = None
    stop: list[str] = field(default_factory=list)
    kind: str = ""
    inputs: Mapping[str, Any] = field(default_factory=dict)


class RefusedError(Exception):
    """The request is refused. kind: key | model | path | request; name: of the model or path."""

    def __init__(self, kind: str, message: str, code: str | None = None, name: str = "") -> None:
        super().__init__(message)
        self.kind, self.code, self.name = kind, code, name
        self.status = _STATUS[kind]


class Wire(Protocol):
    """The wire format of one request. asks: whether it is for an answer, and not for a list; media: the content type of a stream."""

    asks: bool
    media: str

    def read(self, body: Json) -> Asked:
        """The request of a body. Raises RefusedError."""

    def whole(self, answer: Any, asked: Asked) -> Any:
        """An answer as one body: a JSON value; of a call that is no chat, an answer of emulator.others, also bytes or a text."""

    def events(self, answer: Answer, asked: Asked) -> Iterator[bytes]:
        """An answer as the events of a stream."""

    def listed(self, names: list[str]) -> Any:
        """What is told of the models. Raises RefusedError."""

    def error(self, refused: RefusedError) -> tuple[int, Any]:
        """A refusal, as status and body."""


Find = Callable[[Head], Wire | None]  # the wire format of a request; None for an unknown path
