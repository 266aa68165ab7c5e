"""Errors as callers see them: which status each kind has, and what its body says."""

from __future__ import annotations

from typing import Any

from prx.errors import Error, UnwritableError

# What a kind of error means to a caller where the provider has given no status of its own.
_STATUS = {
    "connection": 502, "protocol": 502, "truncated": 502, "overflow": 502, "server": 502, "timeout": 504, "capability": 400,
    "bad_request": 400, "content_filter": 400, "not_found": 404, "auth": 502, "quota": 502, "rate_limit": 429,
    "config": 500, "spec": 500, "permission": 403, "too_large": 413, "overloaded": 503,
}  # fmt: skip


_LONGEST_CODE = 100  # a longer one is no word


class RefusedError(Exception):
    """A request that is answered with an error of the service itself. kind: as of an Error, or permission, too_large, overloaded.

    closes: whether the connection ends with the answer, as what is left of the request is not waited for.
    """

    def __init__(
        self, status: int, kind: str, message: str, *, retry_after: float | None = None, allow: str = "", code: str = "",
        closes: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.status, self.kind, self.retry_after, self.allow, self.code = status, kind, retry_after, allow, code
        self.closes = closes


def status_of(error: Error | RefusedError) -> int:
    """The provider's own status where it says an error, else the kind's."""
    if error.status is not None and 400 <= error.status < 600:
        return error.status
    return _STATUS.get(_kind_of(error), 500)


def _kind_of(error: Error | RefusedError) -> str:
    """What a caller of the library has to mend in its program, one of the service has to mend in its request."""
    return "bad_request" if isinstance(error, UnwritableError) else error.kind


def said(error: Error | RefusedError) -> dict[str, Any]:
    """What the templates of a face see of an error."""
    if isinstance(error, RefusedError):
        facts: dict[str, Any] = {
            "provider": None,
            "retryable": error.retry_after is not None,
            "code": error.code or None,
        }
    else:
        facts = {"provider": error.provider or None, "retryable": error.retryable, "code": _code(error)}
    return {
        **facts, "message": str(error.args[0]), "kind": _kind_of(error), "status": status_of(error),
        "retry_after": _seconds(error.retry_after), "param": None,
    }  # fmt: skip


def _code(error: Error) -> str | int | None:
    """The provider's own word for it: programs look at some, such as context_length_exceeded."""
    code = error.view.get("code")
    return code if type(code) is int or (isinstance(code, str) and 0 < len(code) <= _LONGEST_CODE) else None


def _seconds(value: float | None) -> float | int | None:
    return int(value) if value is not None and float(value).is_integer() else value
