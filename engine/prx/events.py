"""What happens in a call, as small records for a hook: `Client(on_event=…)` is called with each, in their order.

    Began -> Sent -> Responded -> FirstOutput, ToolNamed … -> Ended
                  -> Retried or FellBack -> Sent -> …
    ToolStarted -> ToolReturned, of a tool that `run_tools` runs, between its calls

No record has a key in it, nor a word of the caller's or of the provider's answer: those stand in `content` alone, and for
a hook that has an attribute `wants_content` which is true.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from prx.chat import NONE, Usage
from prx.record import Record


class CallEvent(Record):
    """What all have in common.

    call      a number: events of one call have the same one, no two calls of a process have
    seconds   since the call began
    """

    call: int
    seconds: float


class Began(CallEvent, often=True):
    """A call has begun. A call that cannot be made at all, since no such model is known, raises before that.

    kind      "chat", "embed", … ; "passed" for a body that `prx serve` passes on unread
    model     as it was asked for, "" for the default; of a list of models, the provider
    numbers   those among the caller's parameters that are numbers, such as temperature
    content   {"messages": …, "tools": …, "inputs": …} as the caller gave them, or None
    """

    kind: str = ""
    model: str = ""
    numbers: Mapping[str, float] = NONE
    content: Mapping[str, Any] | None = None


class Sent(CallEvent, often=True):
    """A request is about to be sent. What a hook returns is ignored, but for a mapping: headers that the request gets in
    addition, such as traceparent.

    attempt    1 for the first request of the call
    model      the provider's own name for it
    url        without its query, and without secrets
    dialect    of the body
    fallbacks  in effect in this request
    headers    names of those that the request has
    telemetry_name   what OpenTelemetry's conventions call the provider
    """

    attempt: int = 1
    kind: str = ""
    provider: str = ""
    model: str = ""
    method: str = "POST"
    url: str = ""
    dialect: str = ""
    stream: bool = False
    fallbacks: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    telemetry_name: str = ""


class Responded(CallEvent, often=True):
    """The head of a response has come.

    took        seconds since its request was sent
    request_id  as the provider's headers have it, or None
    headers     names of those that the response has
    """

    attempt: int = 1
    status: int = 0
    took: float = 0.0
    request_id: str | None = None
    headers: tuple[str, ...] = ()


class Retried(CallEvent, often=True):
    """A request has failed, and the same one is sent again after a pause. Where the deadline comes before, Ended follows.

    attempt   that failed
    error     kind of the error, as of prx.Error
    status    HTTP status, or None
    wait      seconds of the pause
    """

    attempt: int = 1
    error: str = ""
    status: int | None = None
    wait: float = 0.0
    content: str | None = None


class FellBack(CallEvent, often=True):
    """A request has failed, and another one is sent in its place.

    to        the name of the fallback that is in effect from now on; of a route with several targets, the next one
    target    whether it is a target
    """

    attempt: int = 1
    error: str = ""
    status: int | None = None
    to: str = ""
    target: bool = False
    content: str | None = None


class FirstOutput(CallEvent, often=True):
    """The first piece of a streamed answer has come."""

    attempt: int = 1


class ToolNamed(CallEvent, often=True):
    """The model calls a tool. id: of the call; arguments are not in it."""

    name: str = ""
    id: str = ""


class Ended(CallEvent, often=True):
    """The call is over.

    error          kind of the error, "closed" where the caller closed the stream or was cancelled, "" for an answer
    status         HTTP status that the error came with, or None
    provider       that was asked last, "" where none was
    model          as the answer names it, or the one that was asked
    finish_reason  of a chat
    attempts       requests that were sent
    fallbacks      in effect in the last one
    first_output   seconds from the beginning to the first piece, or None where the answer was no stream
    content        the result, or the error; or None
    hide           masks the keys that this call has sent in a text: in `content` they are not masked
    """

    kind: str = ""
    error: str = ""
    status: int | None = None
    provider: str = ""
    model: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    request_id: str | None = None
    attempts: int = 0
    fallbacks: tuple[str, ...] = ()
    first_output: float | None = None
    content: Any = None
    hide: Callable[[str], str] = staticmethod(str)


class ToolStarted(CallEvent, often=True):
    """A tool is about to be run. Its `call` is a number of its own. id: of the model's call."""

    name: str = ""
    id: str = ""


class ToolReturned(CallEvent, often=True):
    """The tool has been run. error: the name of the exception's class, or ""."""

    name: str = ""
    id: str = ""
    error: str = ""


CLOSED = "closed"  # an `error` of Ended: the caller closed the stream, or was cancelled
Hook = Callable[[Any], Any]
