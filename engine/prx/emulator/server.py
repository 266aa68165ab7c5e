"""The emulator as an HTTP server on loopback. A persona (a mapping) says which habits it has; see also wire.

Keys of a persona beside those of wire:
    key              the key that it wants; none where it is not given
    auth             authorization | another header's name
    models           names of its models; "words" where they are not given
    refuses          names of what it answers with 400: system, stream, stream_options, max_tokens
    only_responses   models for which Chat Completions is 404
    error            object | flat | text | detail     the shape of its errors
    delay            seconds between two events of a stream
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from prx.emulator import wire
from prx.emulator.brain import Answer, answer


class Emulator:
    """A running emulator: `with Emulator() as emulator: … emulator.url`."""

    def __init__(self, persona: Mapping[str, Any] | None = None, port: int = 0) -> None:
        handler = type("Handler", (_Handler,), {"persona": persona or {}})
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _RefusedError(Exception):
    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "prx-emulator"
    persona: Mapping[str, Any] = {}

    def log_message(self, *args: Any) -> None:
        """Say nothing: the terminal is the conversation's."""

    def do_GET(self) -> None:
        self._guarded(self._models)

    def do_POST(self) -> None:
        self._guarded(self._post)

    def _guarded(self, handle: Any) -> None:
        self.body = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            self._check_key()
            handle()
        except _RefusedError as refused:
            self._json(refused.status, self._error(refused))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    # -------------------------------------------------------------- what it refuses

    def _check_key(self) -> None:
        key = self.persona.get("key")
        header = self.persona.get("auth", "authorization")
        if key and self.headers.get(header, "").removeprefix("Bearer ") != key:
            raise _RefusedError(401, "Invalid API key", "invalid_api_key")

    def _check(self, request: dict[str, Any]) -> None:
        model, refuses = request.get("model"), self.persona.get("refuses", ())
        if model not in self.persona.get("models", ["words"]):
            raise _RefusedError(404, f"The model `{model}` does not exist", "model_not_found")
        if "system" in refuses and any(message.get("role") == "system" for message in request.get("messages", ())):
            raise _RefusedError(400, "role 'system' is not supported; only user and assistant roles are")
        if "stream" in refuses and request.get("stream"):
            raise _RefusedError(400, "Streaming is not supported for this model", "unsupported_value")
        for name in ("stream_options", "max_tokens"):
            if name in refuses and name in request:
                other = ", use max_completion_tokens" if name == "max_tokens" else ""
                raise _RefusedError(400, f"Unrecognized request argument supplied: {name}{other}")

    def _error(self, refused: _RefusedError) -> Any:
        text = str(refused)
        shapes = {
            "flat": {"object": "error", "message": text, "code": refused.code},
            "text": {"error": text},
            "detail": {"detail": text},
        }
        usual = {"error": {"message": text, "type": "invalid_request_error", "param": None, "code": refused.code}}
        return shapes.get(self.persona.get("error", "object"), usual)

    # -------------------------------------------------------------- what it answers

    def _models(self) -> None:
        if not self._path().endswith("/models"):
            raise _RefusedError(404, f"Unknown request URL: GET {self._path()}", "unknown_url")
        names = self.persona.get("models", ["words"])
        self._json(
            200,
            {"object": "list", "data": [{"id": name, "object": "model", "created": wire.CREATED} for name in names]},
        )

    def _post(self) -> None:
        path = self._path()
        try:
            request = json.loads(self.body)
        except ValueError:
            raise _RefusedError(400, "the body is not JSON") from None
        responses = path.endswith("/responses")
        if not responses and (
            not path.endswith("/chat/completions") or request.get("model") in self.persona.get("only_responses", ())
        ):
            raise _RefusedError(404, f"Unknown request URL: POST {path}", "unknown_url")
        self._check(request)
        model, found = request["model"], self._answer(request, responses=responses)
        if not request.get("stream"):
            self._json(
                200, wire.responses_body(found, model) if responses else wire.chat_body(found, model, self.persona)
            )
        elif responses:
            self._events(wire.responses_events(found, model))
        else:
            wanted = bool((request.get("stream_options") or {}).get("include_usage"))
            self._events(wire.chat_events(found, model, self.persona, include_usage=wanted))

    def _answer(self, request: dict[str, Any], *, responses: bool) -> Answer:
        stop = request.get("stop")
        reasons = (
            request.get("reasoning")
            or request.get("reasoning_effort")
            or str(request.get("model")).endswith("reasoner")
        )
        return answer(
            wire.responses_messages(request) if responses else request.get("messages") or [],
            [] if request.get("tool_choice") == "none" else request.get("tools") or [],
            reason=bool(reasons),
            limit=next(
                (
                    request[name]
                    for name in ("max_completion_tokens", "max_tokens", "max_output_tokens")
                    if request.get(name)
                ),
                None,
            ),
            stop=[stop] if isinstance(stop, str) else stop,
        )

    # -------------------------------------------------------------- HTTP

    def _path(self) -> str:
        return self.path.partition("?")[0].rstrip("/")

    def _json(self, status: int, value: Any) -> None:
        data = json.dumps(value, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.send_header("x-request-id", "req_1")
        self.end_headers()
        self.wfile.write(data)

    def _events(self, events: Iterator[str]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.send_header("x-request-id", "req_1")
        self.end_headers()
        for event in events:
            data = event.encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()
            time.sleep(self.persona.get("delay", 0))
        self.wfile.write(b"0\r\n\r\n")
