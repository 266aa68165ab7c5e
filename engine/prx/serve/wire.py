"""A request of ASGI: what came, and how an answer is sent."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import quote

from prx.core import forms
from prx.core.inbound import Found
from prx.json_text import compact, read_finite
from prx.serve.failures import RefusedError
from prx.serve.logs import Told
from prx.serve.writes import DIRECT, Direct

Message = MutableMapping[str, Any]
_BYTES_A_SECOND = 10_000  # a line so slow is a line, and not somebody who holds a connection open
_HALF = re.compile(r"\\u[dD][89a-fA-F]")  # a character written as two of these is whole, one alone is none


def _in_header(value: str) -> bytes:
    """A value as a header can carry it: names of a caller's tools stand in some, and an end of a line would begin another header."""
    if not value.isprintable():
        value = "".join(letter if letter.isprintable() else "?" for letter in value)
    return value.encode("latin-1", "replace")


def new_id() -> str:
    """What a request or an answer is called: it has to differ from all others, and is no secret."""
    return f"{random.getrandbits(96):024x}"  # the system's own random numbers take ten times as long


def json_bytes(value: Any) -> bytes:
    return compact(value).encode("utf-8", "surrogatepass")


def _is_unicode(value: Any) -> bool:
    try:
        compact(value).encode()
    except UnicodeEncodeError:
        return False
    return True


class Request:
    """path: as it was sent, percent-encoded. headers: by names in lower case. shape: the face whose errors it gets. route: the
    path that it has come in by, with {model} for a name.
    """

    def __init__(
        self, method: str, path: str, query: str, headers: Mapping[str, str], receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:  # fmt: skip
        self.method, self.path, self.query, self.headers = method, path, query, headers
        self.receive, self._send = receive, send
        self.id = self.route = ""
        self.head_size = 0  # in bytes, about
        self.shape: Found | None = None
        self.started = False
        self.status = 0  # of the answer; 0 where none has begun
        self.told = Told()
        self.ends_connection: Callable[[], bool] = bool  # no, unless the service says so
        self.direct: Direct | None = None  # where the server has it

    @classmethod
    def of(
        cls, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> Request:
        headers: dict[str, str] = {}
        size = 0
        for name, value in scope["headers"]:
            size += len(name) + len(value) + 4
            headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
        raw = scope.get("raw_path")
        path = raw.decode("latin-1").partition("?")[0] if raw else quote(scope["path"])
        root = scope.get("root_path", "")
        request = cls(
            scope["method"],
            path.removeprefix(root) or "/",
            scope["query_string"].decode("latin-1"),
            headers,
            receive,
            send,
        )
        # Taken out of the scope, which it holds: the two would stay until the garbage collector comes.
        request.direct = (scope.get("extensions") or {}).pop(DIRECT, None)
        request.head_size = len(request.method) + len(path) + len(request.query) + size
        return request

    @property
    def media_type(self) -> str:
        """Of the body, in lower case, without parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    async def start(self, status: int, headers: Mapping[str, str]) -> None:
        self.started, self.status = True, status
        rows = {"x-request-id": self.id, **headers, **({"connection": "close"} if self.ends_connection() else {})}
        await self._send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(name.encode(), _in_header(value)) for name, value in rows.items()],
            }
        )

    def send(self, data: bytes, *, more: bool = True) -> Awaitable[None]:
        return self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def reply(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """A whole answer, as JSON unless the headers say otherwise."""
        own = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
        await self.start(status, own)
        await self.send(b"" if self.method == "HEAD" else body, more=False)

    async def left(self) -> None:
        """Wait until the caller has left."""
        while (await self.receive())["type"] != "http.disconnect":
            pass


class LeftError(Exception):
    """The caller left before the request was complete."""


class Body:
    """The body of a request, read up to a limit in bytes and in time."""

    def __init__(self, request: Request, limit: int, seconds: float) -> None:
        """seconds: until it must be here; what has come makes it longer, see _BYTES_A_SECOND."""
        self._request, self._limit, self._seconds = request, limit, seconds

    async def form(self) -> dict[str, Any]:
        """The fields of a form as a mapping, its files with their data in base64. Raises RefusedError."""
        try:
            return forms.read(self._request.headers.get("content-type", ""), await self._read())
        except ValueError as error:
            raise RefusedError(400, "bad_request", f"the form cannot be read: {error}") from None

    async def json(self) -> dict[str, Any]:
        """The body as a mapping. Raises RefusedError."""
        kind = self._request.media_type
        if kind != "application/json" and not kind.endswith("+json"):
            raise RefusedError(
                415, "bad_request", "the body must be JSON, with the header content-type: application/json"
            )
        data = await self._read()
        try:
            text = data.decode()
            value = read_finite(text)
        except (ValueError, RecursionError):
            raise RefusedError(400, "bad_request", "the body is not JSON") from None
        if _HALF.search(text) and not _is_unicode(value):
            raise RefusedError(400, "bad_request", "a text of the body is not valid Unicode: it has half a character")
        if not isinstance(value, dict):
            raise RefusedError(400, "bad_request", "the body must be a JSON object")
        return value

    async def _read(self) -> bytes:
        length = self._request.headers.get("content-length", "")
        if length.isdigit() and int(length) > self._limit:
            raise self._too_large()
        parts, size = [], 0
        direct = self._request.direct
        if direct is not None and direct.has_body:  # to set a time costs as much as to read it
            message = await self._request.receive()
            if message["type"] == "http.disconnect":
                raise LeftError
            data: bytes = message.get("body", b"")
            if len(data) > self._limit:
                raise self._too_large()
            return data
        try:
            async with asyncio.timeout(self._seconds) as time:
                while True:
                    message = await self._request.receive()
                    if message["type"] == "http.disconnect":
                        raise LeftError
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > self._limit:
                        raise self._too_large()
                    if not message.get("more_body"):
                        return b"".join(parts)
                    time.reschedule((time.when() or 0.0) + len(parts[-1]) / _BYTES_A_SECOND)
        except TimeoutError:
            raise RefusedError(408, "timeout", "the body has not come in time", closes=True) from None

    def _too_large(self) -> RefusedError:
        return RefusedError(413, "too_large", f"the body is larger than {self._limit} bytes")
