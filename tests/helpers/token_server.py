"""A provider on loopback whose key is a token: an endpoint that exchanges a credential, and a chat that takes its tokens alone."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any, Self

from helpers.byte_server import COMPLETION


class TokenServer:
    """lasts: seconds that a token holds. answer: in place of a token, (status, headers, bytes) or a function that gives it.

    exchanges   the requests of the endpoint, as (method, path, headers, body)
    calls       the same of the chat
    valid       tokens that the chat takes; with echo it repeats them in its answers
    """

    def __init__(
        self, *, lasts: float = 3600, answer: Any = None, pause: float = 0.0, echo: bool = False, model: str = "m"
    ) -> None:
        self.lasts, self.answer, self.pause, self.echo, self.model = lasts, answer, pause, echo, model
        self.exchanges: list[tuple[str, str, dict[str, str], str]] = []
        self.calls: list[tuple[str, str, dict[str, str], str]] = []
        self.valid: set[str] = set()

    def __enter__(self) -> Self:
        started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, args=(started,), daemon=True)
        self._thread.start()
        started.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _serve(self, started: threading.Event) -> None:
        async def listen() -> None:
            self._server = await asyncio.start_server(self._handle, "127.0.0.1", 0, backlog=2000)
            self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
            started.set()

        asyncio.set_event_loop(self._loop)
        self._loop.create_task(listen())
        self._loop.run_forever()
        self._server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.01))
        self._loop.close()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode("latin-1").strip().split("\r\n")
                method, path, _ = first.split(" ")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
                body = (await reader.readexactly(int(headers.get("content-length", 0)))).decode()
                status, more, data = await self._answered(method, path, headers, body)
                head_lines = [
                    f"HTTP/1.1 {status} X",
                    f"content-length: {len(data)}",
                    *(f"{k}: {v}" for k, v in more.items()),
                ]
                writer.write("\r\n".join(head_lines).encode() + b"\r\n\r\n" + data)
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass  # the client has gone, or the server is to end
        finally:
            writer.close()

    async def _answered(
        self, method: str, path: str, headers: dict[str, str], body: str
    ) -> tuple[int, dict[str, str], bytes]:
        is_json = {"content-type": "application/json"}
        if path.startswith("/token"):
            self.exchanges.append((method, path, headers, body))
            if self.pause:
                await asyncio.sleep(self.pause)
            given = self.answer() if callable(self.answer) else self.answer
            if given is not None:
                status, more, data = given
                return status, {**is_json, **more}, data
            token = f"token-made-by-loopback-{len(self.exchanges)}"
            self.valid.add(token)
            return 200, is_json, json.dumps({"access_token": token, "expires_in": self.lasts}).encode()
        self.calls.append((method, path, headers, body))
        token = headers.get("authorization", "").removeprefix("Bearer ")
        if token not in self.valid:
            said = f"the token {token} is not valid" if self.echo else "the token is not valid"
            return 401, is_json, json.dumps({"error": {"message": said}}).encode()
        if path.endswith("/models"):
            return 200, is_json, json.dumps({"data": [{"id": "m"}]}).encode()
        return (
            200,
            is_json,
            json.dumps({**COMPLETION, "model": self.model, **({"id": token} if self.echo else {})}).encode(),
        )
