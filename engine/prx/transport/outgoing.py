"""The bytes of a request. Secrets are revealed here, and nowhere else in a transport."""

from __future__ import annotations

from collections.abc import Mapping

from prx.errors import ConfigError
from prx.secret import Secret
from prx.transport.http11 import head_of
from prx.wire import HttpRequest


def check_sendable(request: HttpRequest) -> None:
    """Raises ConfigError for a key that no header can carry."""
    for value in (*request.headers.values(), *request.query.values()):
        if isinstance(value, Secret) and not value.sendable:
            raise ConfigError("the key has characters that a header cannot carry (a line break, a space at its end, …)")


def head_of_request(request: HttpRequest, target: str, headers: Mapping[str, str]) -> bytes:
    """Request line and headers. headers: those of the connection (Host, a proxy's). Raises ValueError."""
    return head_of(request.method, target_of(request, target), revealed(request, headers))


def target_of(request: HttpRequest, target: str) -> str:
    """The request target with the query parameters that are secret."""
    return target + request.full_url(reveal=True)[len(request.url) :] if request.query else target


def revealed(request: HttpRequest, more: Mapping[str, str]) -> dict[str, str]:
    """The headers to send: `more`, the request's with their secrets revealed, and Content-Length."""
    sent = {**more, **request.headers}
    headers = {name: value.reveal() if isinstance(value, Secret) else value for name, value in sent.items()}
    if request.body:
        headers["content-length"] = str(len(request.body))
    return headers
