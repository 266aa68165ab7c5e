"""One call, from the first request to the reply, with its attempts, fallbacks and retries: a generator without I/O.

It yields one of these to its driver, which does the I/O and sends the result into it:
    Send(request, limits)   result: the Head of the response
    READ                    result: bytes of its body, b"" at the end
    Wait(seconds)           result: True, or False where the deadline comes first
    Emit(deltas)            no result; the deltas are for the caller
    Outside(function)       result: that of the function, which may take long
    Once(key, begin)        result: that of the flow, which runs once for all calls that ask for this key meanwhile
    Within(seconds)         no result; from now on the call has so many seconds, and no more than are left of its own deadline
and returns the result of the call: of a chat, the Reply. A driver throws the transport's errors into it. All exceptions
that it raises are Errors.

The laws: at most 1 + retries + fallbacks requests; nothing is sent after the first output; a fallback is
tried at most once; if all fallbacks were refused as well, the error that led to the first one is reported.
A fallback that leaves out what an error names counts as one for each parameter or key that it leaves out; a call
leaves out four at most. A call for a whole answer has no output before its end, also if it is sent as a stream.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any

from prx.chat import Call, Delta, Reply
from prx.core import fault, refusals
from prx.core.kinds import CHAT, CallKind
from prx.errors import OPENING, ConfigError, Error
from prx.record import Record
from prx.secret import redact
from prx.spec.model import Fallback, Limits, Spec
from prx.spec.resolve import PART
from prx.text import nearest
from prx.wire import Head, HttpRequest, Target

_MAX_ERROR_BODY = 64 * 1024
_MAX_LEARNED = 4  # fallbacks of one call that an error itself has named


class Send(Record, often=True):
    """dialect, fallbacks: of the request. network: as in session.Run, where it is not the call's own. reads_plainly: as in Spec.

    attempt   that it is of; for those who tell of it
    after     the error that it follows, or None
    target    of a route with several: the one that it goes to
    """

    request: HttpRequest
    limits: Limits
    dialect: str = ""
    fallbacks: tuple[str, ...] = ()
    network: Any = None
    reads_plainly: bool = False
    attempt: Any = None
    after: Error | None = None
    target: str = ""


class Read:
    __slots__ = ()


class Wait(Record):
    """error: why another attempt is to be made."""

    seconds: float
    error: Error | None = None


class Emit:
    """Deltas for the caller. so_far: gives the Reply with what has arrived. Not a Record, which takes longer to make: there
    is one for each piece that arrives.
    """

    __slots__ = ("deltas", "so_far")

    def __init__(self, deltas: Sequence[Delta], so_far: Callable[[], Reply]) -> None:
        self.deltas, self.so_far = deltas, so_far


class Once(Record):
    """key: what the flow is for; begin: gives the flow, which has no output; its error is that of all who wait for it."""

    key: Any
    begin: Callable[[], Flow]


class Outside(Record):
    """function: it blocks, so that a driver on an event loop calls it in a thread. It is given a function, true where nobody
    waits for it any more, so that it should end. Raises Error.
    """

    function: Callable[[Callable[[], bool]], Any]


class Within(Record):
    """seconds: None for those that are left of the call's own deadline."""

    seconds: float | None


READ = Read()
Ask = Send | Read | Wait | Emit | Once | Outside | Within
Flow = Generator[Ask, Any, Any]


if TYPE_CHECKING:  # at import, creating a Protocol class takes as long as the rest of this module
    from typing import Protocol

    from prx.core.kinds import AnswerReader

    class Variants(Protocol):
        """Gives the Spec for a model with some fallbacks applied; a Definition does."""

        def spec(self, model: str = "", fallbacks: tuple[str, ...] = ()) -> Spec: ...


class Policy(Record, often=True):
    """The caller's wishes for a call, and two functions that a core without I/O needs.

    retries     further attempts; None for as many as the spec has
    fallbacks   None for those that are enabled in the spec; otherwise only these names
    remembered  fallbacks that worked in an earlier call; they are applied from the first request on
    new_id      makes ids for tool calls that have none
    chance      gives a random number from 0 to 1, for the length of pauses
    hands_on    kinds of errors that end the call at once: its caller has another key for it
    now         gives the time in seconds since 1970, for signatures
    """

    retries: int | None = None
    fallbacks: tuple[str, ...] | None = None
    remembered: tuple[str, ...] = ()
    new_id: Callable[[], str] = staticmethod(lambda: "call_0")
    chance: Callable[[], float] = staticmethod(lambda: 0.5)
    hands_on: tuple[str, ...] = ()
    now: Callable[[], float] = staticmethod(lambda: 0.0)

    def allows(self, row: Fallback, name: str) -> bool:
        """Whether a fallback may be used, which is a row or one of those that a row stands for."""
        return row.enabled if self.fallbacks is None else not {row.name, name}.isdisjoint(self.fallbacks)


def exchange(variants: Variants, call: Call, target: Target, policy: Policy, kind: CallKind = CHAT) -> Flow:
    """The flow of a call; see the module. `call.model` selects the overrides; `target` has the URL of all requests."""
    spec = variants.spec(call.model)
    if policy.fallbacks:
        _refuse_unknown(spec, policy.fallbacks)
    applied = _from_the_start(variants, call, policy) if policy.remembered and kind.fallbacks else ()
    learned = 0
    retries = spec.retry.times if policy.retries is None else policy.retries
    failures: list[Error] = []
    cause: Error | None = None  # the error that led to the first fallback of this call
    retried = 0
    while True:
        spec = variants.spec(call.model, applied) if applied else spec
        run = _Attempt(kind, spec, call, target, policy, applied)
        run.after = failures[-1] if failures else None
        try:
            with OPENING:
                reply = yield from run.flow()
            reply = reply._replace(fallbacks=applied) if applied else reply
            return reply._replace(attempts=len(failures) + 1) if failures and hasattr(reply, "attempts") else reply
        except Error as error:
            error.fallbacks = applied
            fault.without_keys(error, target.secrets)
            failures.append(error.with_traceback(None))  # its frames would hold the connection during the next attempts
            if not run.sent or run.emitted:
                raise _reported(error, None if run.begun else cause, failures, run) from None
            name = _fallback(run, applied, error, learned) if kind.fallbacks else None
            if name is not None:
                cause, applied = cause or error, (*applied, name)
                learned += spec.fallback_rows[name].words is not None
            elif (
                error.kind not in policy.hands_on
                and retried < retries
                and (yield from pause(spec, error, retried, policy))
            ):
                retried += 1
            else:
                raise _reported(error, None if run.begun else cause, failures, run) from None


def _from_the_start(variants: Variants, call: Call, policy: Policy) -> tuple[str, ...]:
    """The remembered fallbacks that this call may use and that change something in it."""
    applied: tuple[str, ...] = ()
    for name in policy.remembered:
        spec = variants.spec(call.model, applied)
        row = spec.fallback_rows.get(name)
        if row is not None and policy.allows(row, name) and refusals.concerns(row, name, spec, call):
            applied = (*applied, name)
    return applied


def _refuse_unknown(spec: Spec, names: tuple[str, ...]) -> None:
    rows = [row.name for row in spec.fallbacks]
    for name in names:
        if name not in rows and name not in spec.fallback_rows:
            near = nearest(name, [*rows, *spec.fallback_rows])
            known = ", ".join(map(_named, spec.fallbacks)) or "none"
            raise ConfigError(f"no fallback is called {name!r}{near}; it has {known}", provider=spec.id)


def _named(row: Fallback) -> str:
    """The name of a fallback for an error message; of one with many names also the first three."""
    return row.name if row.words is None else f"{row.name} ({', '.join([*row.names][:3])}, …)"


def _fallback(run: _Attempt, applied: tuple[str, ...], error: Error, learned: int) -> str | None:
    """The first fallback that is allowed, not yet used, whose capability the provider has, and whose condition holds."""
    spec, policy = run.spec, run.policy
    for row in spec.fallbacks:
        left = {name for name in row.names if policy.allows(row, name) and name not in applied}
        concerns = run.kind.fallbacks == "all" or row.leaves_out is not None
        usable = left and concerns and (not row.needs or spec.can(row.needs))
        usable = usable and (row.words is None or learned < _MAX_LEARNED)
        if usable and fault.holds(row, error, spec):
            name = next((name for name in refusals.ways(row, spec, run.call, error) if name in left), None)
            if name is not None:
                return name
    return None


def pause(spec: Spec, error: Error, retried: int, policy: Policy) -> Generator[Ask, bool, bool]:
    """Wait before the next attempt; False where the error is not retryable, or the deadline comes before the attempt."""
    seconds = min(spec.retry.wait * 2**retried, spec.retry.max_wait) * (0.5 + policy.chance() / 2)
    asked = error.retry_after or 0.0
    if not error.retryable or asked > spec.retry.max_wait:
        return False
    return bool((yield Wait(max(seconds, asked), error)))


def _reported(error: Error, cause: Error | None, failures: list[Error], run: _Attempt) -> Error:
    reported = cause or error
    reported.attempts = len(failures) if run.sent else len(failures) - 1
    reported.history = tuple(failure.summary() for failure in failures)
    reported.partial = error.partial
    reported.provider = reported.provider or run.spec.id
    return reported


class _Attempt:
    """One request and its response. sent: the request was sent. begun: an answer has come. emitted: output was handed on.

    call        as it is sent: without stream, or with it, where the provider offers nothing else
    as_pieces   whether the caller wants the answer as it arrives
    after       the error of the attempt before it, or None
    reader      of its answer, once that has begun
    """

    after: Error | None = None
    reader: AnswerReader | None = None

    def __init__(
        self, kind: CallKind, spec: Spec, call: Call, target: Target, policy: Policy, applied: tuple[str, ...]
    ) -> None:
        self.kind, self.spec, self.target, self.policy, self.applied = kind, spec, target, policy, applied
        self.as_pieces = call.stream
        if kind.fallbacks == "parameters" and applied:
            left_out = {name.removeprefix(PART) for name in applied}
            call = call._replace(params={name: value for name, value in call.params.items() if name not in left_out})
        swapped = kind.fallbacks == "all" and not spec.can("stream" if call.stream else "whole")
        # A body that came from a caller asks for the stream itself, so it cannot be sent as it came then.
        self.call = call._replace(stream=not call.stream, given=None) if swapped else call
        self.sent = self.begun = self.emitted = False

    def flow(self) -> Flow:
        request = self._signed(self.kind.build(self.spec, self.call, self.target))
        self.sent = True
        spec = self.spec
        head: Head = yield Send(
            request, spec.transport, spec.dialect, self.applied,
            reads_plainly=spec.reads_plainly, attempt=self, after=self.after,
        )  # fmt: skip
        if not 200 <= head.status < 300:
            body = yield from self._error_body()
            safe = head._replace(
                headers={name: redact(text, self.target.secrets) for name, text in head.headers.items()}
            )
            raise fault.refused(self.spec, self.call, self.target, safe, body, "status")
        reader = self.reader = self.kind.reader(self.spec, self.call, self.target, head, self.policy.new_id)
        try:
            yield from self._answer(reader)
        except Error as error:
            error.partial = self._as_asked(reader.partial())
            raise
        return self._as_asked(reader.reply())

    def _signed(self, request: HttpRequest) -> HttpRequest:
        """The request with the signature that its provider wants; each attempt has one of its own time."""
        signer = self.target.signer
        if signer is None:
            return request
        from prx.core import aws4  # imported here: few providers want a signature

        return aws4.signed(request, signer, self.policy.now(), self.spec.id)

    def _as_asked(self, reply: Any) -> Any:
        """The reply, with streamed=False where the caller asked for a whole answer that was sent as a stream."""
        return reply._replace(streamed=False) if self.call.stream and reply and not self.as_pieces else reply

    def _answer(self, reader: AnswerReader) -> Generator[Ask, Any, None]:
        more = True
        held: Sequence[
            Delta
        ] = ()  # what came before any output, such as counts: until there is some, another attempt is possible
        while more:
            data = b""
            try:
                if not reader.complete:
                    data = yield READ
            except Error:
                if not reader.finished:
                    raise  # otherwise the answer is complete, and only the end of the body is missing
            more = bool(data)
            deltas, error = reader.feed(data) if more else reader.end()
            self.begun = self.begun or bool(deltas)
            if self.as_pieces and (deltas or held):
                if not self.emitted:
                    deltas = held = [*held, *deltas]
                    self.emitted = any(map(_is_output, deltas))
                if self.emitted or not (more or error):
                    held = ()
                    yield Emit(deltas, reader.reply)
            if error is not None:
                try:
                    raise error
                finally:
                    del error  # its traceback has this frame: with `error` in it, that would be a reference cycle

    def _error_body(self) -> Generator[Ask, bytes, bytes]:
        """The first _MAX_ERROR_BODY bytes of an error's body; a failure while it is read is ignored: the status is known."""
        body = b""
        try:
            while len(body) < _MAX_ERROR_BODY and (data := (yield READ)):
                body += data
        except Error:
            pass
        return body[:_MAX_ERROR_BODY]


def _is_output(delta: Delta) -> bool:
    """Whether a caller has got anything of the answer with this delta."""
    return bool(delta.content or delta.reasoning or delta.tool_calls or delta.refusal or delta.replay)
