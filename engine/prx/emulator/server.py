"""The emulator as an HTTP server on loopback. A persona (a mapping) sets its habits.

Keys of a persona, besides those of shapes and reads:
    key              the key that it requires; without it, none
    auth             the name of the header with the key; without it, any usual one
    models           names of its models; default: words
    api              the wire format of the list at /models: choices | blocks | parts | segments
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
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from prx.emulator import gate, shapes
from prx.emulator.brain import Answer, answer
from prx.emulator.common import Asked, RefusedError
from prx.json_text import parsed

_HEARD = 100
_DRAINED = 1 << 20  # bytes read from a refused request: closing with unread bytes would reset the connection, and the
# client might not get the answer


class Emulator:
    """A running emulator: `with Emulator() as emulator: … emulator.url`. heard: the newest requests."""

    def __init__(self, persona: Mapping[str, Any] | None = None, port: int = 0) -> None:
        self.heard: deque[Asked] = deque(maxlen=_HEARD)
        handler = type("Handler", (_Handler,), {"persona": persona or {}, "heard": self.heard})
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
    persona: Mapping[str, Any] = {}
    heard: deque[Asked]

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
        self._guarded(self._models)

    def do_POST(self) -> None:
        self._guarded(self._post)

    def _guarded(self, handle: Callable[[dict[str, str]], None]) -> None:
        try:
            gate.check_host(self.headers, self.request_version)
            self.body = self._read(gate.length(self.headers))
        except gate.TurnedAwayError as refused:
            return self._turn_away(refused)
        self.connection.settimeout(gate.WRITE)
        path = self.path.partition("?")[0].rstrip("/")
        self.api, said = shapes.find(self.command, path, self.persona)
        try:
            self._check_key()
            handle(self._known(said, path))
        except RefusedError as refused:
            self._json(*self.api.error(refused, self.persona))
        except OSError:  # the client has closed the connection
            self.close_connection = True
        return None

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
            self._json(refused.status, {"error": {"message": str(refused), "type": "invalid_request_error"}})
            self.connection.shutdown(socket.SHUT_WR)
            self._timed.allow(1)
            left = _DRAINED
            while left > 0 and (data := self.rfile.read1(1 << 16)):
                left -= len(data)

    def _known(self, said: dict[str, str] | None, path: str) -> dict[str, str]:
        if said is None:
            raise RefusedError("path", f"Unknown request URL: {self.command} {path}", "unknown_url", path)
        return said

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

    def _models(self, said: dict[str, str]) -> None:
        self._json(200, self.api.models(self._names()))

    def _names(self) -> list[str]:
        return list(self.persona.get("models", ["words"]))

    def _post(self, said: dict[str, str]) -> None:
        try:
            request = parsed(self.body.decode())
        except UnicodeDecodeError:
            request = None
        if not isinstance(request, dict):
            raise RefusedError("request", "the body is not a JSON object")
        model = said.get("model") or request.get("model")
        if model not in self._names():
            raise RefusedError("model", f"The model `{model}` does not exist", "model_not_found", str(model))
        asked, found = self._understood(request, said)
        self.heard.append(asked)
        if asked.stream:
            self._events(self.api.events(found, asked, self.persona))
        else:
            self._json(200, self.api.whole(found, asked, self.persona))

    def _understood(self, request: dict[str, Any], said: dict[str, str]) -> tuple[Asked, Answer]:
        try:
            asked = self.api.read(request, said, self.persona)
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
        data = json.dumps(value, ensure_ascii=False).encode(errors="replace")
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.send_header("x-request-id", "req_1")
        if self.close_connection:
            self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def _events(self, events: Iterator[str]) -> None:
        self.send_response(200)
        self.send_header("content-type", self.api.media)
        self.send_header("transfer-encoding", "chunked")
        self.send_header("x-request-id", "req_1")
        self.end_headers()
        for event in events:
            data = event.encode(errors="replace")
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()
            time.sleep(self.persona.get("delay", 0))
        self.wfile.write(b"0\r\n\r\n")
