"""Recorded exchanges, played back in place of a connection: what is asked is looked up, and nothing is waited for.

There is no I/O of any kind here, so that a driver which awaits its transport plays the same recordings.
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
_PLAIN = re.compile(r"[A-Za-z0-9._~-]")  # what is the same in a URL, escaped or not


class Interaction(Record):
    """One recorded exchange.

    method, uri            of the request
    sent                   its body: a JSON value, a text where it is no JSON, or None
    status, headers, body  of the response: names in lower case; bytes as they came, packed where a header says so
    """

    method: str
    uri: str
    sent: Any
    status: int
    headers: Mapping[str, str]
    body: bytes


class Played(Answer):
    """A recorded response being read. `read` gives its bytes, b"" at the end, unpacked where a header says so."""

    def __init__(self, interaction: Interaction, limits: Limits) -> None:
        incoming = Incoming.given(interaction.status, dict(interaction.headers), ToEnd())
        super().__init__(incoming, interaction.uri, limits)
        self._recorded, self._place = interaction.body, 0

    def read(self) -> bytes:
        """The next bytes of the body. Raises Error for one that cannot be unpacked."""
        piece = self.ready()
        while piece is None:
            piece = self.take(self._next())
        return piece

    def close(self, *, complete: bool) -> None:
        """Leave the rest unread. There is nothing to give back, so it makes no difference whether it is complete."""
        self._recorded = b""

    def _next(self) -> bytes:
        data = self._recorded[self._place : self._place + _BLOCK]
        self._place += len(data)
        return data


class _Asked(Record):
    """A request as it is compared: without keys, and without what is the same thing written in two ways."""

    method: str
    place: str
    sent: Any


class Playback:
    """Recorded exchanges, each of which is played once; of equal requests, the first one first. Safe between threads.

    interactions  what was recorded
    mask          the keys that are masked before requests are compared, as they were when these were recorded
    source        where they are from, for errors: the path of a file
    missing       what the first request that matches none has raised; a caller may take it for its provider's refusal
    """

    def __init__(self, interactions: Iterable[Interaction], mask: Mask, source: str) -> None:
        self._mask, self._source = mask, source
        self._rows = [(self._asked(row.method, row.uri, row.sent), row) for row in interactions]
        self._left = list(range(len(self._rows)))  # those that were not played, in their order
        self._lock = threading.Lock()
        self.missing: ConfigError | None = None

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def play_count(self) -> int:
        """How many were played."""
        return len(self._rows) - len(self._left)

    @property
    def all_played(self) -> bool:
        return not self._left

    def send(self, request: HttpRequest, limits: Limits, guard: object = None) -> Played:
        """The response that was recorded for a request. Raises ConfigError where there is none, or none any more.

        limits: how large an answer may be; nothing here takes time. guard: that of a connection, and not looked at.
        """
        asked = [self._asked(request.method, url, sent_value(request.body)) for url in _urls(request)]
        with self._lock:
            for index in self._left:
                known, row = self._rows[index]
                if known in asked:
                    self._left.remove(index)
                    return Played(row, limits)
            self.missing = self.missing or self._missed(request, asked)
        raise self._missed(request, asked)

    def _asked(self, method: str, uri: str, sent: Any) -> _Asked:
        return _Asked(method, _place(self._mask.text(uri)), self._mask.value(sent))

    def _missed(self, request: HttpRequest, asked: list[_Asked]) -> ConfigError:
        uri = self._mask.text(request.full_url())
        return ConfigError(
            f"{self._source}: there is nothing to play for {request.method} {uri}: {self._reason(asked)}; record it again"
        )

    def _reason(self, asked: list[_Asked]) -> str:
        if any(known in asked for known, _ in self._rows):
            return "what was recorded for it has been played"
        places = [(each.method, each.place) for each in asked]
        if any((known.method, known.place) in places for known, _ in self._rows):
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
        """The same: there is no connection to be given back."""
        self._played.close(complete=True)


class AsyncPlayback:
    """A Playback whose methods are awaited, for a driver that awaits its transport."""

    def __init__(self, playback: Playback) -> None:
        self._playback = playback

    async def send(self, request: HttpRequest, limits: Limits, guard: object = None) -> AsyncPlayed:
        """As Playback.send, the errors included."""
        return AsyncPlayed(self._playback.send(request, limits, guard))


def _urls(request: HttpRequest) -> set[str]:
    """Where a request goes, with its keys masked; and without the parameters that have keys, which some recorders leave out."""
    return {request.full_url(), request.url}


def sent_value(body: bytes) -> Any:
    """The body of a request as it is compared: a JSON value, a text where it is no JSON, or None."""
    text = body.decode("utf-8", "replace")
    value = parsed(text)
    return text or None if value is None else value


def _place(uri: str) -> str:
    """A URL as it goes over the wire: a recording has it so, and a provider's file may write it otherwise."""
    try:
        origin, target = origin_of(uri)
    except ConfigError:  # nothing that could be called: it is compared as it stands
        return uri
    return f"{origin.scheme}://{origin.header}{_ESCAPED.sub(_usual_form, target)}"


def _usual_form(escaped: re.Match[str]) -> str:
    """%7E as ~, and %c3 as %C3: the same URL."""
    character = chr(int(escaped[0][1:], 16))
    return character if _PLAIN.match(character) else escaped[0].upper()
