"""Kinds of call, one row each: how its request is built, and who puts its answer together.

Everything else of a call (attempts, retries, fallbacks, errors, keys) is core.exchange's, and the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from prx.chat import Call, Delta, Reply
from prx.core.decode import Decoder
from prx.core.fault import safely
from prx.core.request import build, build_models
from prx.errors import Error, ProtocolError
from prx.json_text import parsed
from prx.record import Record
from prx.spec.model import Spec
from prx.wire import Head, HttpRequest, Target, too_large

if TYPE_CHECKING:  # to make a protocol costs as much as the rest of this module
    from typing import Protocol

    class AnswerReader(Protocol):
        """Reads one response with a status of success.

        complete   nothing more needs to be read
        finished   the provider has said that the answer is over; only the connection's end may be missing
        """

        @property
        def complete(self) -> bool: ...
        @property
        def finished(self) -> bool: ...
        def feed(self, data: bytes) -> tuple[Sequence[Delta], Error | None]:
            """What these bytes complete, and the error that they turn out to be, if they do."""

        def end(self) -> tuple[Sequence[Delta], Error | None]:
            """As `feed`, for the end of the bytes."""

        def reply(self) -> Any:
            """The answer as far as it has come."""

        def partial(self) -> Reply | None:
            """What an error may show of the answer; None where nothing has come."""


class CallKind(Record):
    """One kind of call.

    build          its request, from (spec, call, target)
    reader         who reads its answer, from (spec, call, target, head, new_id)
    falls_back     whether the fallbacks of the provider's file are for it
    """

    name: str
    build: Callable[[Spec, Call, Target], HttpRequest]
    reader: Callable[[Spec, Call, Target, Head, Callable[[], str]], AnswerReader]
    falls_back: bool


class NamesReader:
    """Reads the list of a provider's models: names, each once, in its order."""

    complete = finished = False

    def __init__(self, spec: Spec, call: Call, target: Target, head: Head, new_id: Callable[[], str]) -> None:
        self._spec = spec
        self._data: list[bytes] = []
        self._size = 0
        self._names: list[str] = []

    def feed(self, data: bytes) -> tuple[Sequence[Delta], Error | None]:
        self._data.append(data)
        self._size += len(data)
        limit = self._spec.transport.max_body
        return (), too_large(limit) if self._size > limit else None

    def end(self) -> tuple[Sequence[Delta], Error | None]:
        try:
            (names,) = safely(
                self._spec.models.list.run, parsed(b"".join(self._data).decode("utf-8", "replace")), self._spec
            )
        except ProtocolError as error:
            return (), error
        if not isinstance(names, list):
            return (), ProtocolError("the list of models is not where models.list says", provider=self._spec.id)
        self._names = list(dict.fromkeys(name.strip() for name in names if isinstance(name, str) and name.strip()))
        return (), None

    def reply(self) -> list[str]:
        return self._names

    def partial(self) -> None:
        return None


CHAT = CallKind("chat", build, Decoder, falls_back=True)
MODELS = CallKind("models", build_models, NamesReader, falls_back=False)
