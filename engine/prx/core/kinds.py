"""Kinds of call, one row each: how its request is built, and which reader assembles its answer.

Everything else of a call (attempts, retries, fallbacks, errors, keys) is in core.exchange and the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from prx.chat import Call, Delta, Reply
from prx.core.decode import Decoder
from prx.core.fault import safely
from prx.core.request import build, build_models, build_passed
from prx.errors import Error, ProtocolError
from prx.json_text import parsed
from prx.record import Record
from prx.spec.model import Spec
from prx.wire import Head, HttpRequest, Target, too_large

if TYPE_CHECKING:  # at import, creating a Protocol class takes as long as the rest of this module
    from typing import Protocol

    class AnswerReader(Protocol):
        """Reads one response whose status is 2xx.

        complete   the rest of the body needs no reading
        finished   the provider has marked the end of the answer; a connection that breaks now costs nothing
        """

        @property
        def complete(self) -> bool: ...
        @property
        def finished(self) -> bool: ...
        def feed(self, data: bytes) -> tuple[Sequence[Delta], Error | None]:
            """Read the next bytes: gives the deltas that they complete, and the error in them or None."""

        def end(self) -> tuple[Sequence[Delta], Error | None]:
            """The body has ended: as `feed`, for what was held back and for what is missing."""

        def reply(self) -> Any:
            """The answer, as much of it as has arrived."""

        def partial(self) -> Reply | None:
            """The part of the answer that goes with an error; None where nothing has arrived."""


class CallKind(Record):
    """One kind of call.

    build          makes its request
    reader         makes the reader of its answer; its last argument makes ids
    falls_back     whether the fallbacks of the provider's file apply to it
    """

    name: str
    build: Callable[[Spec, Call, Target], HttpRequest]
    reader: Callable[[Spec, Call, Target, Head, Callable[[], str]], AnswerReader]
    falls_back: bool


class BodyReader:
    """Reads a whole body, and gives its bytes as they are."""

    complete = finished = False

    def __init__(self, spec: Spec, call: Call, target: Target, head: Head, new_id: Callable[[], str]) -> None:
        self._spec = spec
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> tuple[Sequence[Delta], Error | None]:
        self._data.append(data)
        self._size += len(data)
        limit = self._spec.transport.max_body
        return (), too_large(limit) if self._size > limit else None

    def end(self) -> tuple[Sequence[Delta], Error | None]:
        return (), None

    def reply(self) -> Any:
        return b"".join(self._data)

    def partial(self) -> None:
        return None


class NamesReader(BodyReader):
    """Reads the list of a provider's models: names without repetitions, in the provider's order."""

    def __init__(self, spec: Spec, call: Call, target: Target, head: Head, new_id: Callable[[], str]) -> None:
        super().__init__(spec, call, target, head, new_id)
        self._names: list[str] = []

    def end(self) -> tuple[Sequence[Delta], Error | None]:
        try:
            (names,) = safely(
                self._spec.models.list.run, parsed(b"".join(self._data).decode("utf-8", "replace")), self._spec
            )
        except ProtocolError as error:
            return (), error
        if not isinstance(names, list):
            return (), ProtocolError(
                "the answer has no list of models where models.list looks for it", provider=self._spec.id
            )
        self._names = list(dict.fromkeys(name.strip() for name in names if isinstance(name, str) and name.strip()))
        return (), None

    def reply(self) -> list[str]:
        return self._names


CHAT = CallKind("chat", build, Decoder, falls_back=True)
MODELS = CallKind("models", build_models, NamesReader, falls_back=False)
PASSED = CallKind("passed", build_passed, BodyReader, falls_back=False)
