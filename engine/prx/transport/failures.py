"""Translates exceptions of libraries into prx's errors; no other module does."""

from __future__ import annotations

import errno
import socket
import ssl
from http.client import BadStatusLine, HTTPException, IncompleteRead, RemoteDisconnected, UnknownProtocol
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from urllib3.exceptions import HTTPError, NameResolutionError, NewConnectionError
from urllib3.exceptions import SSLError as UrllibSSLError
from urllib3.exceptions import TimeoutError as UrllibTimeout

from prx.errors import ConfigError, Error, ProviderConnectionError, ProviderTimeoutError, TruncatedError
from prx.spec.model import Limits
from prx.transport.http11 import DrippingError

if TYPE_CHECKING:  # at import, creating a Protocol class takes longer than the rest of this module
    from typing import Protocol

    class Guard(Protocol):
        """The deadline of a call. fired: it has passed, or the call was stopped. stopped: the caller has stopped it."""

        fired: bool
        stopped: bool

        @property
        def remaining(self) -> float:
            """Seconds until the deadline."""


Phase = Literal["connect", "first_byte", "idle"]  # each is named by the field of Limits that is its timeout
_BROKEN = (HTTPError, HTTPException, OSError)


def translated(error: Exception, url: str, phase: Phase, limits: Limits, guard: Guard | None) -> Error:
    """The Error for a library's exception. Raises the exception itself where it is not a failure of a connection."""
    failure = _failure(error, url, phase, limits, guard)
    _drop_tracebacks(error)
    return failure


def _drop_tracebacks(error: BaseException | None) -> None:
    """Free the frames of a chain of exceptions. They hold the exceptions and the connection: a reference cycle."""
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _failure(error: Exception, url: str, phase: Phase, limits: Limits, guard: Guard | None) -> Error:
    place = "{0.scheme}://{0.netloc}".format(urlsplit(url))
    if isinstance(error, Error):
        return error
    if guard is not None and guard.stopped:
        closed = TruncatedError if phase == "idle" else ProviderConnectionError
        return closed(f"the call was closed while it waited for {place}", retryable=False)
    if guard is not None and (guard.fired or guard.remaining <= 0):
        return ProviderTimeoutError(f"the deadline passed while waiting for {place}")
    if isinstance(error, TimeoutError | UrllibTimeout) and not isinstance(error, NewConnectionError):
        failed_to = "did not end its headers in" if isinstance(error, DrippingError) else "sent nothing for"
        return ProviderTimeoutError(
            f"{place} {failed_to} {getattr(limits, phase):g} s",
            hint=f"transport.{phase} in the provider's file, or timeout, sets how long prx waits.",
        )
    if not isinstance(error, _BROKEN) and isinstance(error, ValueError):
        return _unsendable(error, place, phase)
    if not isinstance(error, _BROKEN):
        raise error
    return _broken(error, place, phase)


def _unsendable(error: ValueError, place: str, phase: Phase) -> Error:
    if isinstance(error, UnicodeError) and phase == "connect":  # Python encodes a host before it looks it up
        return ConfigError(f"{place}: this host is not a name that can be looked up", hint="Check api_url and proxy.")
    return ConfigError(f"{place}: the request cannot be sent: {type(error).__name__}")


_MAY_BE_TOLD = (
    "Some servers tell what is wrong only where no stream was asked for: --no-stream, or chat() in place of stream()."
)


def _broken(error: Exception, place: str, phase: Phase) -> Error:
    if phase == "idle":  # the head had come, so that the answer has begun and is not complete
        why = "" if isinstance(error, IncompleteRead) else f": {_reason(error)}"
        return TruncatedError(f"{place}: the connection ended inside the answer{why}", hint=_MAY_BE_TOLD)
    return _tls(error, place) if isinstance(error, UrllibSSLError | ssl.SSLError) else _connection(error, place)


def _tls(error: Exception, place: str) -> Error:
    text = str(error).lower()
    if "alert" in text and ("certificate" in text or "unknown ca" in text):
        hint = "The server wants to see a certificate that it trusts: set cert_file, and key_file."
    elif "certificate" in text:
        hint = "For a server with a certificate of your own, set ca_file to its PEM file."
    else:
        hint = "Does the server speak TLS, and HTTP/1.1 within it? Without TLS, write http://."
    return ProviderConnectionError(f"{place}: TLS failed: {_reason(error)}", retryable=False, hint=hint)


def _connection(error: Exception, place: str) -> Error:
    if isinstance(error, NameResolutionError | socket.gaierror) or isinstance(error.__cause__, socket.gaierror):
        return ProviderConnectionError(
            f"the name of {place} cannot be resolved", hint="Check the host in api_url, and the network."
        )
    text = str(error).lower()
    if "refused" in text or f"[errno {errno.ECONNREFUSED}]" in text:  # asyncio's text has the number, not the word
        return ProviderConnectionError(
            f"no server listens at {place}: connection refused",
            hint=f"Is the server running? Check with: curl -i {place}/v1/models",
        )
    if isinstance(error, BadStatusLine | UnknownProtocol) and not isinstance(error, RemoteDisconnected):
        return ProviderConnectionError(
            f"{place} does not answer in HTTP/1.1 but with: {_reason(error)}",
            hint="Does the port belong to another service? Where the server speaks TLS, write https://.",
        )
    return ProviderConnectionError(f"{place}: the connection failed: {_reason(error)}")


def unreachable_proxy(place: str, error: OSError) -> Error:
    """The Error for a proxy to which no connection can be made; `place` is its URL without a login."""
    if isinstance(error, ssl.SSLError):
        return _tls(error, f"the proxy {place}")
    return ProviderConnectionError(
        f"no connection to the proxy {place}: {_reason(error)}",
        hint="Check proxy in the configuration, or HTTPS_PROXY, HTTP_PROXY and ALL_PROXY in the environment.",
    )


def _reason(error: Exception) -> str:
    """The first line of the innermost message of an exception; urllib3 nests three. At most 200 characters."""
    inner = error.args[-1] if error.args else error
    text = str(inner) if isinstance(inner, Exception) else str(error)
    unnamed = "the other side closed it" if isinstance(error, ConnectionError) else type(error).__name__
    return (text.splitlines() or [unnamed])[0][:200]
