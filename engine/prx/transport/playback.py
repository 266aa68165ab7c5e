"""Plays recorded exchanges back in place of a connection: each request is looked up among the recorded ones.

There is no I/O here, so that the blocking and the asynchronous driver play the same recordings.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from prx.errors import ConfigError
from prx.json_text import parsed
from prx.mask import Mask
from prx.record import Record
from prx.spec.model import Limits
from prx.transport.answer import Answer
from prx.transport.http11 import Incoming, ToEnd
from prx.transport.origin import origin_of
from prx.wire import HttpRequest

_BLOCK = 65536
_ESCAPED = re.compile("%[0-9A-Fa-f]{2}")
_PLAIN = re.compile(r"[A-Za-z0-9._~-]")  # characters that mean the same in a URL, percent-encoded or not


class Interaction(Record):
    """One recorded exchange.

    method, uri            of the request
    sent                   body of the request: a JSON value, a text where it is not JSON, or None
    status, headers, body  of the response: names in lower case; bytes as they came, compressed where a header says so
    """

    method: str
    uri: str
    sent: Any
    status: int
    headers: Mapping[str, str]
    body: bytes


class Played(Answer):
    """The response of a recorded exchange. `read` gives its bytes, decompressed, and b"" at the end."""

    def __init__(self, interaction: Interaction, limits: Limits) -> None:
        incoming = Incoming.given(interaction.status, dict(interaction.headers), ToEnd())
        super().__init__(incoming, interaction.uri, limits)
        self._recorded, self._place = interaction.body, 0

    def read(self) -> bytes:
        """The next bytes of the body. Raises Error for a body that cannot be decompressed."""
        piece = self.ready()
        while piece is None:
            piece = self.take(self._next())
        return piece

    def close(self, *, complete: bool) -> None:
        """Leave the rest unread. complete is ignored: there is no connection that could be kept."""
        self._recorded = b""

    def _next(self) -> bytes:
        data = self._recorded[self._place : self._place + _BLOCK]
        self._place += len(data)
        return data


class _ComparedRequest(Record):
    """A request in the form in which it is compared: keys masked, URL normalised."""

    method: str
    url: str
    sent: Any


class Playback:
    """Recorded exchanges. Each is played once; of equal requests the first one first. Safe to share between threads.

    interactions  the recorded exchanges
    mask          masks keys before requests are compared, as it did when they were recorded
    source        path of the file that they are from, for errors
    missing       the error of the first request that has no recording, or None; a caller that handles errors of providers
                  may have taken it for one
    """

    def __init__(self, interactions: Iterable[Interaction], mask: Mask, source: str) -> None:
        self._mask, self._source = mask, source
        self._rows = [(self._compared(row.method, row.uri, row.sent), row) for row in interactions]
        self._left = list(range(len(self._rows)))  # places of the exchanges that have not been played, in their order
        self._lock = threading.Lock()
        self.missing: ConfigError | None = None

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def play_count(self) -> int:
        """How many exchanges have been played."""
        return len(self._rows) - len(self._left)

    @property
    def all_played(self) -> bool:
        return not self._left

    def send(self, request: HttpRequest, limits: Limits, guard: object = None) -> Played:
        """The response that was recorded for a request. Raises ConfigError where there is none, or all have been played.

        Of limits only the sizes are used. guard is ignored: it is for the sockets of other transports.
        """
        forms = [self._compared(request.method, url, sent_value(request.body)) for url in _urls(request)]
        with self._lock:
            for index in self._left:
                recorded, row = self._rows[index]
                if recorded in forms:
                    self._left.remove(index)
                    return Played(row, limits)
            self.missing = self.missing or self._not_found(request, forms)
        raise self._not_found(request, forms)

    def _compared(self, method: str, uri: str, sent: Any) -> _ComparedRequest:
        return _ComparedRequest(method, _normalised(self._mask.text(uri)), self._mask.value(sent))

    def _not_found(self, request: HttpRequest, forms: list[_ComparedRequest]) -> ConfigError:
        uri = self._mask.text(request.full_url())
        return ConfigError(
            f"{self._source}: no recorded exchange is left for {request.method} {uri}: {self._reason(forms)}; record it again"
        )

    def _reason(self, forms: list[_ComparedRequest]) -> str:
        if any(recorded in forms for recorded, _ in self._rows):
            return "the one that was recorded has been played already"
        urls = [(each.method, each.url) for each in forms]
        if any((recorded.method, recorded.url) in urls for recorded, _ in self._rows):
            return "the body of the request has changed"
        return "no such request was recorded"


class AsyncPlayed:
    """A Played whose `read` is awaited."""

    def __init__(self, played: Played) -> None:
        self._played = played
        self.head = played.head

    async def read(self) -> bytes:
        """As Played.read."""
        return self._played.read()

    def abort(self) -> None:
        """Leave the rest unread."""
        self._played.close(complete=False)

    async def finish(self) -> None:
        """Leave the rest unread: there is no connection that could be kept."""
        self._played.close(complete=True)


class AsyncPlayback:
    """A Playback whose methods are awaited, for a driver that awaits its transport."""

    def __init__(self, playback: Playback) -> None:
        self._playback = playback

    async def send(self, request: HttpRequest, limits: Limits, guard: object = None) -> AsyncPlayed:
        """As Playback.send, the errors included."""
        return AsyncPlayed(self._playback.send(request, limits, guard))


def _urls(request: HttpRequest) -> set[str]:
    """The request's URL with its keys masked; and without the parameters that hold keys, which some recorders leave out."""
    return {request.full_url(), request.url}


def sent_value(body: bytes) -> Any:
    """The body of a request in the form in which it is compared: a JSON value, a text where it is not JSON, or None."""
    text = body.decode("utf-8", "replace")
    value = parsed(text)
    return text or None if value is None else value


def _normalised(uri: str) -> str:
    """A URL in the form in which it is sent; a provider's file may have another form of the same URL."""
    try:
        origin, target = origin_of(uri)
    except ConfigError:  # not a URL that can be called; it is compared as it is
        return uri
    return f"{origin.scheme}://{origin.header}{_ESCAPED.sub(_normalised_escape, target)}"


def _normalised_escape(escaped: re.Match[str]) -> str:
    """%7E as ~, and %c3 as %C3: they mean the same in a URL."""
    character = chr(int(escaped[0][1:], 16))
    return character if _PLAIN.match(character) else escaped[0].upper()
