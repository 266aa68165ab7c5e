"""Kinds of call, one row each: how its request is built, and which reader assembles its answer.

Everything else of a call (attempts, retries, fallbacks, errors, keys) is in core.exchange and the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from prx.chat import Call, Delta, Reply
from prx.core.decode import Decoder
from prx.core.fault import classify, safely
from prx.core.request import build, build_models, build_passed
from prx.errors import Error, ProtocolError
from prx.json_text import parsed
from prx.record import Record
from prx.secret import redact_json
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


_LONGEST_ERROR = 1 << 16  # bytes; a longer answer is not looked through for an error
_DEPTH = 3  # how deep in a body its list of models may be


class CallKind(Record):
    """One kind of call.

    build          makes its request
    reader         makes the reader of its answer; its last argument makes ids
    fallbacks      which of the provider's file apply to it: "all", "parameters" (those that leave one out), or ""
    flow           of all its requests, where one call may take several; otherwise core.exchange's
    """

    name: str
    build: Callable[[Spec, Call, Target], HttpRequest]
    reader: Callable[[Spec, Call, Target, Head, Callable[[], str]], AnswerReader]
    fallbacks: str = ""
    flow: Callable[..., Any] | None = None


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


class Passed(Record):
    """An answer that is handed on as it comes. data: the whole of it, where it was not handed on in pieces."""

    provider: str
    data: bytes = b""
    media_type: str = ""


class Piece(Record):
    """Bytes of such an answer, in place of a Delta."""

    content: bytes


class PassedReader(BodyReader):
    """Hands on a body: JSON as a whole, since it may say an error; anything else in pieces, where the call is a stream."""

    def __init__(self, spec: Spec, call: Call, target: Target, head: Head, new_id: Callable[[], str]) -> None:
        super().__init__(spec, call, target, head, new_id)
        self._call, self._target, self._head = call, target, head
        self._media_type = head.headers.get("content-type", "")
        is_json = self._media_type.partition(";")[0].strip().lower().endswith(("/json", "+json"))
        self._in_pieces = call.stream and not is_json

    def feed(self, data: bytes) -> tuple[Sequence[Any], Error | None]:
        return ((Piece(data),), None) if self._in_pieces else super().feed(data)

    def end(self) -> tuple[Sequence[Delta], Error | None]:
        size = sum(map(len, self._data))
        body = parsed(b"".join(self._data).decode("utf-8", "replace")) if 0 < size <= _LONGEST_ERROR else None
        if not isinstance(body, dict):
            return (), None
        try:
            (error,) = safely(self._spec.errors.detect.run, body, self._spec)
        except ProtocolError as fault:
            return (), fault
        if not error:
            return (), None
        shown, safe = redact_json(b"".join(self._data).decode("utf-8", "replace"), self._target.secrets)
        return (), classify(self._spec, self._call, self._head, shown, safe, "body")

    def reply(self) -> Passed:
        return Passed(self._spec.id, b"".join(self._data), self._media_type)


class NamesReader(BodyReader):
    """Reads the list of a provider's models: names without repetitions, in the provider's order."""

    def __init__(self, spec: Spec, call: Call, target: Target, head: Head, new_id: Callable[[], str]) -> None:
        super().__init__(spec, call, target, head, new_id)
        self._rows: list[dict[str, Any]] = []

    def end(self) -> tuple[Sequence[Delta], Error | None]:
        try:
            body = parsed(b"".join(self._data).decode("utf-8", "replace"))
            (names,) = safely(self._spec.models.list.run, body, self._spec)
        except ProtocolError as error:
            return (), error
        if not isinstance(names, list):
            return (), ProtocolError(
                "the answer has no list of models where models.list looks for it", provider=self._spec.id
            )
        unique = dict.fromkeys(name.strip() for name in names if isinstance(name, str) and name.strip())
        known = _rows(body, unique.keys())
        self._rows = [{"id": name, "data": known.get(name)} for name in unique]
        return (), None

    def reply(self) -> list[dict[str, Any]]:
        return self._rows


def _rows(body: Any, names: Collection[str]) -> dict[str, dict[str, Any]]:
    """{name: all that a list of models says of it}. The list is the one that has most of the names under one key."""
    found: dict[str, dict[str, Any]] = {}
    for rows in _lists(body, _DEPTH):
        by_key: dict[str, dict[str, dict[str, Any]]] = {}
        for row in rows:
            for key, value in row.items():
                for name in _spellings(value):
                    if name in names:
                        by_key.setdefault(key, {}).setdefault(name, row)
        found = max((found, *by_key.values()), key=len)
    return found


def _spellings(value: Any) -> tuple[str, ...]:
    """A text as it is, and without a prefix such as models/, which files take off."""
    return (value.strip(), value.strip().partition("/")[2]) if isinstance(value, str) else ()


def _lists(value: Any, depth: int) -> Iterator[list[dict[str, Any]]]:
    """The lists of objects in a body, down to a depth."""
    if isinstance(value, list):
        yield [row for row in value if isinstance(row, dict)]
    elif isinstance(value, dict) and depth:
        for inner in value.values():
            yield from _lists(inner, depth - 1)


CHAT = CallKind("chat", build, Decoder, "all")
MODELS = CallKind("models", build_models, NamesReader)
PASSED = CallKind("passed", build_passed, PassedReader)
