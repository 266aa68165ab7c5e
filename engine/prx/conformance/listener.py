"""Live runs: the calls go over ordinary connections, and their exchanges are kept for the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prx.conformance.cassette import Row, request_headers, row_of
from prx.conformance.limiter import Limiter
from prx.errors import Error
from prx.mask import Mask
from prx.secret import Secret
from prx.spec.model import Limits
from prx.transport.playback import Interaction
from prx.wire import Head, HttpRequest

if TYPE_CHECKING:
    from prx.transport.blocking import Http
    from prx.transport.response import Response
    from prx.transport.watchdog import Guard


class Listener:
    """A transport that keeps what it sends and receives, and waits where the account has to.

    rows: the exchanges that were completed, without keys
    """

    def __init__(self, http: Http, mask: Mask, limiter: Limiter, unheard: str = "") -> None:
        """unheard: the URL whose requests are not kept, "" for none."""
        self._unheard = unheard
        self._http, self._mask, self._limiter = http, mask, limiter
        self.rows: list[Row] = []

    def send(self, request: HttpRequest, limits: Limits, guard: Guard | None = None) -> Heard:
        """As Http.send, the errors included."""
        self._limiter.wait()
        response = self._http.send(request, limits, guard)
        self._limiter.heard(response.head)
        return Heard(response, request, self)

    def keep(self, request: HttpRequest, head: Head, body: bytes) -> None:
        """Add an exchange to the rows."""
        if request.url == self._unheard:
            return
        plain = {name: value for name, value in request.headers.items() if isinstance(value, str)}
        keyed = {name: str(value) for name, value in request.headers.items() if isinstance(value, Secret)}
        answer = Interaction(request.method, request.full_url(), None, head.status, head.headers, body)
        headers = {**request_headers(plain, self._mask), **keyed}
        self.rows.append(row_of(answer, headers, request.body, self._mask))


class Heard:
    """A response that is added to the listener's rows when it is closed, unless reading it has failed."""

    def __init__(self, response: Response, request: HttpRequest, listener: Listener) -> None:
        self._response, self._request, self._listener = response, request, listener
        self._pieces: list[bytes] | None = []
        self.head = response.head

    def read(self) -> bytes:
        """As Response.read, the errors included."""
        try:
            data = self._response.read()
        except Error:
            self._pieces = None
            raise
        if self._pieces is not None:
            self._pieces.append(data)
        return data

    def close(self, *, complete: bool) -> None:
        """As Response.close."""
        self._response.close(complete=complete)
        pieces, self._pieces = self._pieces, None
        if pieces is not None:
            self._listener.keep(self._request, self.head, b"".join(pieces))
