"""Tells of what happens in a call: a flow around the call's own, which looks at what is asked and what is answered.

It changes nothing in a call but the headers that a hook adds. What it does not know it hands on as it is, in both directions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from prx.core.exchange import Emit, Flow, Send, Wait
from prx.core.watched import watched
from prx.errors import Error
from prx.events import CLOSED, Began, Ended, FellBack, FirstOutput, Responded, Retried, Sent, ToolNamed
from prx.secret import Secret, redact
from prx.wire import FRAMING, Head, HttpRequest, header_fault


class Telling:
    """What is known of a call while it runs.

    tell      is called with each event; gives headers for the request, or None
    clock     gives seconds, as time.monotonic
    number    of the call
    numbers   see Began
    stated    what the caller has stated, where the events are to have it
    """

    def __init__(
        self, tell: Callable[[Any], Any], clock: Callable[[], float], number: int, kind: str, model: str,
        numbers: Mapping[str, float], stated: Mapping[str, Any] | None,
    ) -> None:  # fmt: skip
        self._tell, self._clock, self._number = tell, clock, number
        self._kind, self._model, self._numbers, self._stated = kind, model, numbers, stated
        self._began = self._sent_at = 0.0
        self._attempts = 0
        self._send: Send | None = None  # the last one
        self._waited = False  # the last thing was a pause before another attempt
        self._first: float | None = None
        self._request_id: str | None = None
        self._tools: set[Any] = set()  # indexes of those that have been told
        self._secrets: list[Secret] = []  # of the accounts that were asked

    def begin(self) -> None:
        self._began = self._clock()
        self._tell(Began(self._number, 0.0, self._kind, self._model, self._numbers, self._stated))

    def before(self, ask: Any) -> Any:
        """What the driver is to do in place of an ask."""
        look = _BEFORE.get(type(ask))
        return ask if look is None else look(self, ask)

    def after(self, ask: Any, answer: Any) -> None:
        """The driver has done it, or failed."""
        if type(ask) is Send and isinstance(answer, Head):
            self._responded(ask, answer)

    def ended(self, result: Any) -> None:
        """The call has given a result."""
        calls = getattr(result, "tool_calls", ()) if not self._tools else ()
        for call in calls:
            self._tell(ToolNamed(self._number, self._past, call.name, call.id))
        fallbacks = self._send.fallbacks if self._send is not None else ()
        self._end(
            "", None, result, finish_reason=getattr(result, "finish_reason", None), usage=getattr(result, "usage", None),
            fallbacks=tuple(getattr(result, "fallbacks", fallbacks)),
        )  # fmt: skip

    def failed(self, error: BaseException) -> None:
        """The call ends with an exception."""
        if isinstance(error, Error):
            usage = error.partial.usage if error.partial is not None and hasattr(error.partial, "usage") else None
            self._end(error.kind, error.status, error, usage=usage, fallbacks=error.fallbacks)
        else:
            self._end(CLOSED if isinstance(error, GeneratorExit) else type(error).__name__, None, None)

    # -------------------------------------------------------------- asks

    def _sending(self, send: Send) -> Send:
        if send.after is not None and not self._waited:
            self._fell_back(send, send.after)
        self._send, self._waited = send, False
        self._attempts += 1
        attempt, request = send.attempt, send.request
        self._secrets += attempt.target.secrets if attempt else ()
        kind, provider, model = (
            (attempt.kind.name, attempt.spec.id, attempt.call.model) if attempt else (self._kind, "", "")
        )
        added = self._tell(
            Sent(
                self._number, self._past, self._attempts, kind, provider, model, method=request.method, url=self._safe(request.url.partition("?")[0]),
                dialect=send.dialect, stream=request.stream, fallbacks=send.fallbacks, headers=tuple(request.headers),
                telemetry_name=(attempt.spec.telemetry_name or attempt.spec.id) if attempt else "",
            )
        )  # fmt: skip
        self._sent_at = self._clock()
        return send._replace(request=with_headers(request, added)) if added else send

    def _fell_back(self, send: Send, error: Error) -> None:
        earlier = self._send
        changes = earlier is not None and send.target != earlier.target
        new = [name for name in send.fallbacks if earlier is None or name not in earlier.fallbacks]
        to = send.target if changes else ", ".join(new)
        self._tell(
            FellBack(
                self._number, self._past, self._attempts, error.kind, error.status, to, changes, self._words(error)
            )
        )

    def _waiting(self, wait: Wait) -> Wait:
        error = wait.error
        if error is not None:
            self._waited = True
            self._tell(
                Retried(
                    self._number, self._past, self._attempts, error.kind, error.status, wait.seconds, self._words(error)
                )
            )
        return wait

    def _emitting(self, emit: Emit) -> Emit:
        if self._first is None:
            self._first = self._past
            self._tell(FirstOutput(self._number, self._first, self._attempts))
        for delta in emit.deltas:
            for call in delta.tool_calls:
                if call.name and call.index not in self._tools:
                    self._tools.add(call.index)
                    self._tell(ToolNamed(self._number, self._past, call.name, call.id or ""))
        return emit

    def _responded(self, send: Send, head: Head) -> None:
        names = send.attempt.spec.response.request_id if send.attempt is not None else ()
        found = next((head.headers[name] for name in names if name in head.headers), None)
        self._request_id = self._safe(found) if found is not None else None
        now = self._clock()
        self._tell(
            Responded(
                self._number, now - self._began, self._attempts, head.status, now - self._sent_at, self._request_id,
                tuple(head.headers),
            )
        )  # fmt: skip

    # -------------------------------------------------------------- details

    def _end(self, error: str, status: int | None, content: Any, **known: Any) -> None:
        send = self._send
        attempt = send.attempt if send is not None else None
        provider = attempt.spec.id if attempt is not None else getattr(content, "provider", "")
        model = getattr(content, "model", "") or (attempt.call.model if attempt is not None else "")
        if send is not None and "fallbacks" not in known:
            known["fallbacks"] = send.fallbacks
        self._tell(
            Ended(
                self._number, self._past, self._kind, error, status, provider, model, request_id=self._request_id,
                attempts=self._attempts, first_output=self._first,
                content=content if self._stated is not None else None, hide=self._safe, **known,
            )
        )  # fmt: skip

    @property
    def _past(self) -> float:
        return self._clock() - self._began

    def _safe(self, text: str) -> str:
        return redact(text, self._secrets)

    def _words(self, error: Error) -> str | None:
        return error.message if self._stated is not None else None


_BEFORE: dict[type, Callable[[Telling, Any], Any]] = {
    Send: Telling._sending, Wait: Telling._waiting, Emit: Telling._emitting,  # noqa: SLF001 - of the class above
}  # fmt: skip


def told(flow: Flow, telling: Telling) -> Flow:
    """The flow, with everything told that happens in it."""
    telling.begin()
    try:
        result = yield from watched(flow, telling.before, telling.after)
        telling.ended(result)
    except BaseException as error:
        telling.failed(error)
        raise
    else:
        return result


def with_headers(request: HttpRequest, added: Mapping[str, str]) -> HttpRequest:
    """The request with further headers. One that has a key stays as it is, and so do those that say how long the body is."""
    headers = dict(request.headers)
    earlier = {name.lower(): name for name in headers}
    for name, value in added.items():
        present = earlier.get(name.lower(), name)
        if isinstance(headers.get(present), Secret) or name.lower() in FRAMING or header_fault(name, value):
            continue
        headers.pop(present, None)
        headers[name] = value
    return request._replace(headers=headers)
