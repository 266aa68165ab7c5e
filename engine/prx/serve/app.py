"""The ASGI application: reads a request, asks a provider, and writes the answer in the dialect of the caller.

No framework stands between: twelve routes need no router, and a framework hides that a caller has left. Our own server tells
of that by itself; under any other one a second task of each call waits for it, and the first that ends stops the other.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from prx.core.inbound import Found
from prx.errors import Error
from prx.mask import Mask
from prx.secret import Secret
from prx.serve import logs, page
from prx.serve.answer import Answer
from prx.serve.callers import Caller, is_own_name, key_in
from prx.serve.failures import RefusedError, said, status_of
from prx.serve.service import Service
from prx.serve.status import status
from prx.serve.wire import Body, LeftError, Request, json_bytes, new_id
from prx.spec.model import KINDS_OF_CALLS

if TYPE_CHECKING:
    from prx.serve.shared import Shared

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_SOUND_ID = re.compile(r"[A-Za-z0-9._-]{1,200}")
_LOG = logging.getLogger("prx.serve")


class App(Service):
    """Every provider of a client's configuration, as an ASGI application; it can be mounted in another one.

    client   an AsyncClient; without one, one is made of the usual configuration, which takes in changed files
    """

    # -------------------------------------------------------------- ASGI

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._traced(Request.of(scope, receive, send), scope.get("scheme", "http"))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1003})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                if self.shared is not None:
                    self.shared.start()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.client.aclose()
                if self.telemetry is not None:
                    await asyncio.to_thread(self.telemetry.close)
                if self.shared is not None:
                    await self.shared.aclose()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _traced(self, request: Request, scheme: str) -> None:
        """Answer a request; where there is telemetry, within a span of its own, but for what a machine asks all the time."""
        if self.telemetry is None or request.path in self._operations:
            await self._http(request)
            return
        with self.telemetry.serving(request.method, scheme, request.path, request.headers) as answered:
            await self._http(request)
            answered(request.status, request.route)

    async def _http(self, request: Request) -> None:
        given = request.headers.get("x-request-id", "")
        request.id = given if _SOUND_ID.fullmatch(given) else f"req_{new_id()}"
        logs.request_id.set(request.id)
        request.ends_connection = lambda: self.draining
        found: Found | None = None
        began = time.monotonic()
        try:
            self._refuse_large(request)
            if not await self._operation(request):
                found = self._found(request)
                request.told.add(face=found.face.id, left=False)
                request.route = found.entrance.at.partition(" ")[2]
                await self._face(request, found)
        except RefusedError as error:
            await self._refuse(request, error, found)
        except Error as error:
            await self._refuse(request, error, found)
        except LeftError:
            request.told.add(left=True)
        except Exception as error:  # a caller gets an answer all the same, and other calls go on
            _LOG.error("a bug of prx: %s: %s", type(error).__name__, error, exc_info=_LOG.isEnabledFor(logging.DEBUG))
            if not request.started:
                await self._refuse(request, RefusedError(500, "server", "a bug of prx; its log says more"), found)
        if request.told.is_shown and {"face", "error"} & request.told.facts.keys():
            request.told.add(
                request_id=request.id, status=request.status or None, seconds=round(time.monotonic() - began, 3)
            )
            request.told.write(partial(self._mask_for, request) if self.settings.log_bodies else None)

    def _refuse_large(self, request: Request) -> None:
        if request.head_size > self.settings.max_head:
            raise RefusedError(431, "too_large", "the line and the headers of the request are too large", closes=True)

    def _mask_for(self, request: Request) -> Mask:
        """Masks all that is known of keys, and the one that this request has."""
        return Mask([*self.secrets(), Secret(key_in(request.headers, request.query))])

    def _found(self, request: Request) -> Found:
        self._try_to_take_in()  # a changed file may have brought the route that is asked for
        query = dict(parse_qsl(request.query, keep_blank_values=True)) if request.query else {}
        method = "GET" if request.method == "HEAD" else request.method
        found = self.routes.find(method, request.path, request.headers, query)
        if found is not None:
            return found
        others = {
            method: shape
            for method in ("GET", "POST")
            if (shape := self.routes.find(method, request.path, request.headers, query)) is not None
        }
        if others:
            request.shape = next(iter(others.values()))
            raise RefusedError(405, "bad_request", f"{request.method} is not possible here", allow=", ".join(others))
        raise RefusedError(404, "not_found", f"nothing is served at {request.path[:100]}")

    async def _refuse(self, request: Request, error: Error | RefusedError, found: Found | None) -> None:
        """Answer with an error in the dialect of the caller; where none is known, in the first that has a form of one."""
        shape = found or request.shape
        face = shape.face if shape is not None else self.faces[0] if self.faces else None
        facts = said(error)
        if isinstance(error, RefusedError):
            self.metrics.refused(error.kind)
        body = Answer.error_body(face, facts, request.id) if face is not None else {"error": facts["message"]}
        headers = {"x-prx-provider": facts["provider"]} if facts["provider"] else {}
        if facts["retry_after"] is not None:
            headers["retry-after"] = str(max(1, round(facts["retry_after"])))
        if isinstance(error, RefusedError) and error.allow:
            headers["allow"] = error.allow
        if isinstance(error, RefusedError) and error.closes:
            headers["connection"] = "close"
        asked = "" if found is not None else f"{request.method[:20]} {request.path[:200]}"
        request.told.add(error=facts["kind"], asked=asked)
        request.told.bodies["error_message"] = facts["message"]
        await request.reply(status_of(error), json_bytes(body), headers)

    # -------------------------------------------------------------- what people and machines look at

    @cached_property
    def _operations(self) -> Mapping[str, Callable[[Request], Awaitable[None]]]:
        return {
            "/health": self._health, "/ready": self._ready, "/metrics": self._metrics, "/status": self._status,
            "/": self._page,
        }  # fmt: skip

    async def _operation(self, request: Request) -> bool:
        """Answer a request that is for no face; gives whether it was one."""
        answer = self._operations.get(request.path)
        if answer is None or request.method not in ("GET", "HEAD"):
            return False
        await answer(request)
        return True

    async def _health(self, request: Request) -> None:
        await request.reply(200, json_bytes({"status": "ok"}))

    async def _ready(self, request: Request) -> None:
        self._try_to_take_in()
        state = "draining" if self.draining else "ready"
        await request.reply(503 if self.draining else 200, json_bytes({"status": state, "problems": [*self.problems]}))

    async def _metrics(self, request: Request) -> None:
        self._try_to_take_in()
        self._caller(request)
        text = self.metrics.text(len(self.problems))
        await request.reply(200, text, {"content-type": "text/plain; version=0.0.4; charset=utf-8"})

    async def _page(self, request: Request) -> None:
        """The same file for everybody: what it shows comes from /status, and one without a key is asked for it there."""
        try:
            self._caller(request)
            code = 200
        except RefusedError as error:
            if error.kind != "auth" or "text/html" not in request.headers.get("accept", ""):
                raise
            code = error.status
        await request.reply(code, page.page(), page.headers())

    async def _status(self, request: Request) -> None:
        self._try_to_take_in()
        told = status(self, self._caller(request))
        await request.reply(200, json_bytes(told), {"cache-control": "no-store"})

    def _try_to_take_in(self) -> None:
        try:
            self.take_in()
        except Error as error:
            self.problems = (str(error),)

    # -------------------------------------------------------------- faces

    def _caller(self, request: Request) -> Caller:
        """Who calls. Raises RefusedError for a wrong key, and for what only a web page would ask."""
        assert self.callers is not None
        if not self.callers.all and not is_own_name(request.headers.get("host", "")):
            raise RefusedError(
                403, "permission", "the Host header is not a name of this machine; set keys to serve others"
            )
        caller = self.callers.of(request.headers, request.query)
        request.told.add(caller=caller.name if caller else None)
        if caller is None:
            raise RefusedError(401, "auth", "the key is missing, or it is not one that may call here")
        return caller

    async def _face(self, request: Request, found: Found) -> None:
        caller = self._caller(request)
        use = found.entrance.use
        if use in ("chat", "pass") or use in found.face.calls:
            await self._call(request, found, caller)
            return
        names = [name for name in self.names() if caller.may_ask(name)]
        if use == "model" and found.path["model"] not in names:
            raise RefusedError(
                404, "not_found", f"no model is called {found.path['model']!r} here", code="model_not_found"
            )
        template = found.face.operations.get(use)
        body = template({"names": names, "name": found.path["model"]}) if template is not None else {}
        await request.reply(200, json_bytes(body))

    async def _call(self, request: Request, found: Found, caller: Caller) -> None:
        self._refuse_more(len(self.running) < self.settings.max_calls)
        body = await self._body(request, found)
        answer = Answer(self, request, found, body)
        answer.check(caller)
        if self.shared is None:
            self._refuse_more(len(self.running) < self.settings.max_calls)
            await self._run(answer, caller)
        else:
            async with self._place(self.shared):
                await self._run(answer, caller)

    async def _run(self, answer: Answer, caller: Caller) -> None:
        if wait := await self._wait(caller):
            raise RefusedError(429, "rate_limit", "the rate of this key is used up", retry_after=wait)
        self.running.add(answer)
        self.metrics.runs(len(self.running))
        try:
            await answer.run()
        finally:
            self.running.discard(answer)
            self.metrics.runs(len(self.running))

    async def _body(self, request: Request, found: Found) -> dict[str, Any]:
        """The body of a call: JSON, or a form where the call has a file. Raises RefusedError."""
        settings, use = self.settings, found.entrance.use
        read = Body(request, settings.max_body, settings.receive_timeout)
        if request.media_type != "multipart/form-data" or "file" not in KINDS_OF_CALLS.get(use, ((),))[0]:
            request.told.bodies["request"] = body = await read.json()
            return body
        if "origin" in request.headers and not (self.callers and self.callers.all):
            # Any web page may send a form to any address, and would otherwise make calls by a browser of this machine.
            raise RefusedError(403, "permission", "a form from a web page is not taken; set keys to serve web pages")
        body = await read.form()
        request.told.bodies["request"] = {name: value for name, value in body.items() if not isinstance(value, dict)}
        return body

    @staticmethod
    def _refuse_more(has_room: bool) -> None:
        if not has_room:
            raise RefusedError(503, "overloaded", "as many calls run as are allowed at once", retry_after=1)

    @asynccontextmanager
    async def _place(self, shared: Shared) -> AsyncIterator[None]:
        """A place among the calls that run, of all processes that share it. Raises RefusedError where there is none."""
        here = len(self.running) < self.settings.max_calls
        may_run, name = await shared.enter(self.settings.max_calls)
        try:
            self._refuse_more(here if may_run is None else may_run)
            yield
        finally:
            shared.leave(name)

    async def _wait(self, caller: Caller) -> float:
        """Take one request of a caller's rate, of all processes that share it: seconds until the next one, 0 for none."""
        wait = await self.shared.wait(caller) if self.shared is not None and caller.rate is not None else None
        # This process's count goes on beside the shared one, so that it is right when Redis fails.
        if wait:
            return wait
        own = caller.wait()
        return own if wait is None else 0.0
