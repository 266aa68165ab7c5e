"""All errors of a call, as one tree of exceptions.

    prx.Error
    ├─ ConfigError            config          config.toml, the environment or an argument is wrong
    │  └─ UnwritableError     config          a value of the call has no form in JSON, or not the type that it should have
    ├─ SpecError              spec            a provider's YAML file is wrong
    ├─ CapabilityError        capability      not sent: the provider's file says that it cannot do this
    ├─ AuthError              auth            refused by the provider, as all kinds below
    ├─ QuotaError             quota           no money left, or not in the plan; waiting does not help
    ├─ RateLimitError         rate_limit
    ├─ BadRequestError        bad_request
    ├─ NotFoundError          not_found
    ├─ OverflowedError        overflow        context too long, or an answer beyond prx's limits
    │  └─ TooManyTurnsError   overflow        a model still calls tools after the last turn of a run
    ├─ ContentFilterError     content_filter
    ├─ ServerError            server
    ├─ ProviderTimeoutError   timeout
    ├─ ProviderConnectionError connection
    ├─ ProtocolError          protocol        the answer is not as the provider's file describes it
    │  └─ UnfitReplyError     protocol        the answer is not of the class that response_format named
    └─ TruncatedError         truncated       the answer was cut off

prx raises no exceptions of other libraries: each is translated into one of these.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar, Literal, ParamSpec, Self, TypeVar

if TYPE_CHECKING:
    from prx.chat import Reply

P = ParamSpec("P")
R = TypeVar("R")
Kind = Literal[
    "config", "spec", "capability", "auth", "quota", "rate_limit", "bad_request", "not_found", "overflow",
    "content_filter", "server", "timeout", "connection", "protocol", "truncated",
]  # fmt: skip


class Error(Exception):
    """A failed call.

    kind        one word of the closed list above
    status      HTTP status, or None where no answer came
    retryable   whether the same call may work later, unchanged
    retry_after seconds that the provider asked to wait, or None
    message     what went wrong, in the provider's words where it gave some; no key in it
    provider    id of the provider, "" where none was reached
    partial     Reply with what had arrived, or None
    attempts    requests sent so far for this call
    hint        what to do next, one sentence, or ""
    history     one line for each failed request, the first one first
    fallbacks   names of those that were in effect when it failed
    """

    kind: ClassVar[Kind] = "server"
    retryable: bool = False

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
        provider: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.retryable = type(self).retryable if retryable is None else retryable
        self.retry_after = retry_after
        self.provider = provider
        self.partial: Reply | None = None
        self.attempts = 0
        self.hint = hint
        self.history: tuple[str, ...] = ()
        self.fallbacks: tuple[str, ...] = ()
        self.view: dict[str, Any] = {}  # what fallback conditions look at; see core.fault

    def anew(self) -> Self:
        """The same error for another call: what a call adds to its error is its own."""
        return type(self)(
            self.message, status=self.status, retryable=self.retryable, retry_after=self.retry_after,
            provider=self.provider, hint=self.hint,
        )  # fmt: skip

    def summary(self) -> str:
        """One line: status and message."""
        return f"{self.status}: {self.message}" if self.status else self.message

    def __str__(self) -> str:
        lead = f"{self.provider}: " if self.provider else ""
        others = [line for line in self.history if line != self.summary()]
        tail = f" (also: {'; '.join(others)})" if others else ""
        return f"{lead}{self.summary()}{tail}" + (f"\n{self.hint}" if self.hint else "")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.summary()!r}, retryable={self.retryable})"

    def __reduce__(self) -> tuple[Any, ...]:
        # What fallback conditions look at has the request's call and the answer's headers, which no other process needs.
        return type(self), (self.message,), {**self.__dict__, "view": {}}


class ConfigError(Error):
    kind = "config"


class UnwritableError(ConfigError):
    """A call with a value that no request can be made of: it has not its type, or no form in JSON."""


class SpecError(Error):
    kind = "spec"


class CapabilityError(Error):
    kind = "capability"


class AuthError(Error):
    kind = "auth"


class QuotaError(Error):
    kind = "quota"


class RateLimitError(Error):
    kind = "rate_limit"
    retryable = True


class BadRequestError(Error):
    kind = "bad_request"


class NotFoundError(Error):
    kind = "not_found"


class OverflowedError(Error):
    kind = "overflow"


class TooManyTurnsError(OverflowedError):
    """A run of tools that was ended. messages: the conversation; partial: its last reply, whose calls were not made."""

    messages: list[dict[str, Any]] = []  # noqa: RUF012 - the run that ends sets its own


class ContentFilterError(Error):
    kind = "content_filter"


class ServerError(Error):
    kind = "server"
    retryable = True


class ProviderTimeoutError(Error):
    kind = "timeout"
    retryable = True


class ProviderConnectionError(Error):
    kind = "connection"
    retryable = True


class ProtocolError(Error):
    kind = "protocol"


class UnfitReplyError(ProtocolError):
    """An answer that came as it should, and that is no instance of the class that response_format named. partial: the reply."""


class TruncatedError(Error):
    kind = "truncated"
    retryable = True


def frameless(error: Error) -> Error:
    """The error without its traceback, cause and context.

    Their frames hold keys, the environment and a provider's raw answer, which reports of errors would show.
    """
    error.__cause__ = error.__context__ = error.__traceback__ = None
    return error


def sealed(function: Callable[P, R]) -> Callable[P, R]:
    """The function, wrapped: Errors that it raises have no frame of it, and none of its arguments, in their traceback."""

    @wraps(function)
    def call(*args: P.args, **named: P.kwargs) -> R:
        try:
            return function(*args, **named)
        except Error as error:
            failed = [frameless(error)]
        del args, named
        raise failed.pop()  # this frame is in its traceback: if it held the error in turn, neither would be freed

    return call


def sealed_coroutine(function: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """As `sealed`, for a coroutine function."""

    @wraps(function)
    async def call(*args: P.args, **named: P.kwargs) -> R:
        try:
            return await function(*args, **named)
        except Error as error:
            failed = [frameless(error)]
        del args, named
        raise failed.pop()

    return call


def starved(error: BaseException | None) -> bool:
    """Whether an error says that too many files are open. Then prx cannot open a file of its own either; it may pass."""
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)


def unopened(error: BaseException) -> ConfigError:
    """The ConfigError for an error that `starved` is true of."""
    error.__traceback__ = None  # its frames hold the call
    return ConfigError(
        f"a file that prx needs cannot be opened: {os.strerror(errno.EMFILE)}",
        hint="`ulimit -n` says how many may be open at once.",
    )


class _Opening:
    """A context in which prx opens files of its own: too many open files are a ConfigError there."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _frames: object) -> None:
        if error is not None and starved(error):
            raise unopened(error) from None


OPENING = _Opening()


KINDS: dict[str, type[Error]] = {cls.kind: cls for cls in Error.__subclasses__()}
