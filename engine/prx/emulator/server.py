"""The emulator as an HTTP server on loopback. A persona (a mapping) sets its habits.

Keys of a persona, besides those of its wire formats:
    key              the key that it requires; without it, none
    auth             the name of the header with the key; without it, any usual one
    models           names of its models; default: words
    only_at          {model: end of the only path at which it answers}
    delay            seconds between two events of a stream
"""

from __future__ import annotations

import contextlib
import io
import json
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl

from prx.core import forms
from prx.emulator import gate, others
from prx.emulator.brain import answer
from prx.emulator.common import Asked, Find, Head, Persona, RefusedError, Wire
from prx.emulator.faces import Faces
from prx.json_text import parsed

_HEARD = 100
_DRAINED = 1 << 20  # bytes read from a refused request: closing with unread bytes would reset the connection, and the
# client might not get the answer


class Emulator:
    """A running emulator: `with Emulator() as emulator: … emulator.url`. heard: the newest requests.

    find     gives the wire format of a request; by default one of the faces of prx's own dialects
    """

    def __init__(self, persona: Persona | None = None, port: int = 0, find: Find | None = None) -> None:
        self.heard: deque[Asked] = deque(maxlen=_HEARD)
        own = {"persona": persona or {}, "heard": self.heard, "find": staticmethod(find or Faces(persona or {}).find)}
        handler = type("Handler", (_Handler,), own)
        self._server = _Server(("127.0.0.1", port), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing for a connection that was lost."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    request_version = protocol_version  # until the request line has been read
    requestline = ""
    disable_nagle_algorithm = True
    server_version = "prx-emulator"
    persona: Persona
    heard: deque[Asked]
    find: Find

    def log_message(self, *args: Any) -> None:
        """Print nothing: the terminal is for the conversation of `prx demo`."""

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self._timed = gate.Timed(self.connection)
        self.rfile: io.BufferedReader = io.BufferedReader(self._timed)

    def handle_one_request(self) -> None:
        if not self._has_begun():
            self.close_connection = True
            return
        try:
            self._timed.allow(gate.HEAD)
            super().handle_one_request()
        except gate.LateError:
            self._turn_away(gate.TurnedAwayError(408, "the request did not arrive in time"))

    def _has_begun(self) -> bool:
        self._timed.allow(gate.IDLE)
        try:
            return bool(self.rfile.peek(1))
        except gate.LateError:
            return False

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a malformed head, which BaseHTTPRequestHandler finds, with JSON as all other errors."""
        self.request_version = self.protocol_version  # without it no status line would be sent
        self._turn_away(gate.TurnedAwayError(int(code), message or explain or "this is not an HTTP request"))

    def do_GET(self) -> None:
        self._guarded()

    def do_POST(self) -> None:
        self._guarded()

    def _guarded(self) -> None:
        try:
            gate.check_host(self.headers, self.request_version)
            self.body = self._read(gate.length(self.headers))
        except gate.TurnedAwayError as refused:
            return self._turn_away(refused)
        self.connection.settimeout(gate.WRITE)
        head = self._head()
        wire = self.find(head)
        try:
            self._answer(wire, head)
        except RefusedError as refused:
            self._json(*(wire.error(refused) if wire else (refused.status, _plain(str(refused)))))
        except OSError:  # the client has closed the connection
            self.close_connection = True
        return None

    def _head(self) -> Head:
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        return Head(self.command, path.rstrip("/"), dict(parse_qsl(query, keep_blank_values=True)), headers)

    def _answer(self, wire: Wire | None, head: Head) -> None:
        if wire is None:
            raise _nothing_at(head)
        self._check_key()
        if wire.asks:
            self._post(wire, head)
        else:
            self._json(200, wire.listed(self._names()))

    def _read(self, length: int) -> bytes:
        self._timed.allow(gate.BODY)
        body = self.rfile.read(length)
        if len(body) < length:
            raise gate.TurnedAwayError(400, "the body is shorter than its Content-Length")
        return body

    def _turn_away(self, refused: gate.TurnedAwayError) -> None:
        """Answer a refused request, and close the connection."""
        self.close_connection = True
        with contextlib.suppress(OSError, gate.LateError):
            self.connection.settimeout(gate.WRITE)
            self._json(refused.status, _plain(str(refused)))
            self.connection.shutdown(socket.SHUT_WR)
            self._timed.allow(1)
            left = _DRAINED
            while left > 0 and (data := self.rfile.read1(1 << 16)):
                left -= len(data)

    def _check_key(self) -> None:
        key, header = self.persona.get("key"), self.persona.get("auth")
        names = (
            [header]
            if header
            else [name for name in self.headers if name.lower().endswith(("authorization", "api-key"))]
        )
        if key and key not in [self.headers.get(name, "").removeprefix("Bearer ") for name in names]:
            raise RefusedError("key", "Invalid API key", "invalid_api_key")

    # -------------------------------------------------------------- answers

    def _names(self) -> list[str]:
        return list(self.persona.get("models", ["words"]))

    def _post(self, wire: Wire, head: Head) -> None:
        body = self._body()
        if not isinstance(body, dict):
            raise RefusedError("request", "the body is neither a JSON object nor a form")
        asked, found = self._understood(wire, body)
        if asked.model not in self._names():
            raise RefusedError("model", f"The model `{asked.model}` does not exist", "model_not_found", asked.model)
        if not head.path.endswith(self.persona.get("only_at", {}).get(asked.model, "")):
            raise _nothing_at(head)
        self.heard.append(asked)
        if asked.stream:
            self._events(wire.media, wire.events(found, asked))
        else:
            self._json(200, wire.whole(found, asked))

    def _body(self) -> Any:
        """The body as a value: JSON, or the fields of a form; None for neither."""
        kind = self.headers.get("content-type", "")
        try:
            return forms.read(kind, self.body) if kind.startswith("multipart/") else parsed(self.body.decode())
        except ValueError:
            return None

    def _understood(self, wire: Wire, body: dict[str, Any]) -> tuple[Asked, Any]:
        try:
            asked = wire.read(body)
            if asked.kind:
                return asked, others.answer(asked)
            found = answer(asked.messages, asked.tools, reason=asked.reason, limit=asked.limit, stop=asked.stop)
        except (
            TypeError,
            ValueError,
            LookupError,
            AttributeError,
        ):  # a value of another type than the one that is read
            raise RefusedError("request", "something in the body has another type than it should have") from None
        return asked, found

    # -------------------------------------------------------------- HTTP

    def _json(self, status: int, value: Any) -> None:
        media_type, data = _written(value)
        self.send_response(status)
        self.send_header("content-type", media_type)
        self.send_header("content-length", str(len(data)))
        self.send_header("x-request-id", "req_1")
        if self.close_connection:
            self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def _events(self, media: str, events: Iterator[bytes]) -> None:
        self.send_response(200)
        self.send_header("content-type", media)
        self.send_header("transfer-encoding", "chunked")
        self.send_header("x-request-id", "req_1")
        self.end_headers()
        for data in filter(None, events):  # an empty chunk would end the body
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()
            time.sleep(self.persona.get("delay", 0))
        self.wfile.write(b"0\r\n\r\n")


def _written(value: Any) -> tuple[str, bytes]:
    """(media type, data) of a body: audio is bytes, and a transcript may be a text."""
    if isinstance(value, bytes):
        return others.AUDIO, value
    if isinstance(value, str):
        return "text/plain; charset=utf-8", value.encode(errors="replace")
    return "application/json", json.dumps(value, ensure_ascii=False).encode(errors="replace")


def _nothing_at(head: Head) -> RefusedError:
    return RefusedError("path", f"Unknown request URL: {head.method} {head.path}", "unknown_url", head.path)


def _plain(message: str) -> dict[str, Any]:
    """The body of an error where no wire format is known."""
    return {"error": {"message": message, "type": "invalid_request_error"}}
