"""One call: it is made, and its answer goes back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping
from functools import lru_cache
from typing import Any

from prx.chat import Reply
from prx.core import overlay
from prx.core.inbound import Found
from prx.core.weave import MEDIA_TYPES, Identity, Weaver
from prx.errors import Error
from prx.serve.asked import Asked
from prx.serve.callers import Caller
from prx.serve.failures import said
from prx.serve.other import written
from prx.serve.relay import Heard, Relay
from prx.serve.service import Service
from prx.serve.shortcut import Shortcut
from prx.serve.streams import Writer, writer
from prx.serve.ways import Came, Unchanged
from prx.serve.wire import Request, json_bytes, new_id
from prx.spec.face import Face
from prx.transport.asynchronous import Deadline

_STREAM = {"cache-control": "no-cache, no-transform", "x-accel-buffering": "no"}
_UNWATCHED = 0.02  # seconds of a call in which it is not looked whether the caller has left


class Answer:
    """A call of a caller."""

    def __init__(self, app: Service, request: Request, found: Found, body: dict[str, Any]) -> None:
        self._app, self._request, self._found = app, request, found
        self.began = self._last_sent = time.monotonic()
        self._asked = Asked(app, request, found, body)
        self._caller = ""
        self._relay: Relay | None = None
        self._writer: Writer | None = None
        self._first: float | None = None  # when the first output went out
        self._deadline: Deadline | None = None  # of the short way

    @property
    def model(self) -> str:
        """As it was asked for."""
        return self._asked.model

    @property
    def face(self) -> Face:
        return self._found.face

    @staticmethod
    def error_body(face: Face, facts: Mapping[str, Any], request_id: str) -> Any:
        return Weaver(face, {}, Identity(request_id, "")).error_body(facts)

    def told(self) -> dict[str, Any]:
        """What those who look at the service see of a call: nothing of what is said in it."""
        provider = self._relay.so_far().provider if self._relay is not None else ""
        provider = provider or (self._asked.way.spec.id if self._asked.way is not None else "")
        return {
            "id": self._request.id, "face": self.face.id, "for": self._found.entrance.use, "caller": self._caller,
            "model": self._asked.shown_model, "provider": provider, "stream": self._asked.accepted.stream,
            "answering": self._first is not None, "seconds": round(time.monotonic() - self.began, 3),
        }  # fmt: skip

    def check(self, caller: Caller) -> None:
        """Read what is asked. Raises RefusedError for a call that is no call, or that this caller may not make."""
        self._caller = caller.name
        self._asked.check(caller)

    # -------------------------------------------------------------- the call

    async def run(self) -> None:
        """Make the call and send its answer, until it is over or the caller has left. Raises Error before any output."""
        work: Awaitable[None] = self._driven()
        driver = asyncio.current_task()
        if self._asked.accepted.stream:  # its own task is woken for each piece, without all that awaits the answer
            work = driver = asyncio.ensure_future(work)
        assert driver is not None
        watch = Watch(self._request, driver)
        try:
            await work
        except asyncio.CancelledError:
            if not watch.has_left or (driver is not work and driver.uncancel()):
                raise  # somebody else, such as the server, has cancelled the request
            self._note(499)
        finally:
            watch.end()
            # The traceback of an error holds this frame, and the task the error: they would stay until the garbage collector comes.
            del work, driver, watch

    def cut_off(self) -> None:
        """End the call: a stream with an error event."""
        if self._relay is not None:
            self._relay.stop()
        elif self._deadline is not None:
            self._deadline.stop()

    async def _driven(self) -> None:
        try:
            if self._found.entrance.use != "chat":
                await self._other()
            elif self._asked.accepted.stream:
                await self._streamed()
            else:
                await self._whole()
        except Error as error:
            self._note(error.status or 0, error)
            if not self._request.started:
                raise
            # Headers have gone out with a ping, or output has: what is left is the event of an error.

    async def _other(self) -> None:
        """A call that is no chat: its answer is handed on in pieces, handed on as a whole, or written anew."""
        session, use = self._app.client.session, self._found.entrance.use
        run = (
            session.begin_passed(self._asked.options())
            if self._asked.other is None
            else session.begin_kind(use, self._asked.options())
        )
        relay = self._relay = Relay(run, self._app.client)
        try:
            heard = await relay.more()
            while heard:
                await self._send(_bytes_of(heard), relay)
                heard = await relay.more()
        except Error as error:
            if self._request.started and self.face.framing == "sse" and self._media_type(relay) == "text/event-stream":
                await self._request.send(self._failed(error), more=False)
            raise  # of other answers the end never comes, so that nobody takes what has come for the whole
        finally:
            relay.stop()
        result = relay.reply
        known = result if isinstance(result, Reply) else Reply(provider=result.provider, usage=_usage_of(result))
        if self._request.started:
            await self._request.send(b"", more=False)
        else:
            data, media_type = written(self._asked.other, self._weaver(_model_of(result)), result)
            await self._request.reply(200, data, {"content-type": media_type, **self._headers(relay, known.provider)})
            if "json" in media_type:
                self._request.told.bodies["answer"] = data
        self._note(200, reply=known)

    @staticmethod
    def _media_type(relay: Relay) -> str:
        return str(relay.so_far().media_type).partition(";")[0].strip().lower()

    async def _whole(self) -> None:
        came = await self._on_a_short_way()
        if self._request.started:
            return
        relay = self._relay = self._long_way(came)
        del came  # the traceback of its error will have this frame: that would be a reference cycle
        reply = await relay.whole()
        body = self._body_of(reply, relay.dialect, relay.reads_plainly)
        await self._answered(reply, body, self._headers(relay, reply.provider))
        self._asked.learn(reply, body, relay)

    async def _on_a_short_way(self) -> Came | None:
        """Make the call and send its answer, where a short way is known; gives what has come in place of an answer for it."""
        way = self._asked.present_way
        if isinstance(way, Unchanged):
            deadline = self._deadline = Deadline(way.deadline)
            plain = await way.answer(self._asked.body, self._app.client, deadline)
            if isinstance(plain, Came):
                return plain
            told = Reply(provider=way.spec.id, usage=plain.usage)
            await self._answered(told, plain.data, {"x-prx-provider": way.spec.id})
        elif way is not None:
            try:
                _, call = self._app.client.session.plan(self._asked.options(way), stream=False)
            except Error:
                return None  # the long way tells of it
            deadline = self._deadline = Deadline(way.deadline)
            reply = await way.answer(call, self._app.client, deadline)
            if isinstance(reply, Came):
                return reply
            headers = _filled({"x-prx-provider": way.spec.id, "x-prx-dropped": self._asked.dropped})
            await self._answered(reply, self._body_of(reply, way.spec.dialect, way.spec.reads_plainly), headers)
        return None

    async def _answered(self, reply: Reply, body: Any, headers: dict[str, str]) -> None:
        await self._request.reply(200, body if type(body) is bytes else json_bytes(body), headers)
        self._note(200, reply=reply)

    def _long_way(self, came: Came | None) -> Relay:
        """The call by way of what it asks for; came: what the short way has brought, which may not be left open."""
        try:
            if isinstance(self._asked.way, Unchanged):
                self._asked.accept()
            options = self._asked.options(self._asked.way if came is not None else None)
            run = self._app.client.session.begin_chat(options, stream=False)
        except BaseException:
            if came is not None and came.response is not None:
                came.response.abort()
            raise
        relay = Relay(run, self._app.client, came=came)
        if came is not None:
            relay.limit(self._deadline)
        return relay

    def _body_of(self, reply: Reply, dialect: str, reads_plainly: bool) -> Any:
        own = dialect == self.face.id and isinstance(reply.raw, dict)
        if own and self.face.as_it_comes and reads_plainly:
            return reply.raw
        written = self._weaver(reply.model).body(reply)
        return overlay.overlaid(reply.raw, written) if own and not self.face.as_it_comes else written

    async def _streamed(self) -> None:
        session = self._app.client.session
        run = session.begin_chat(self._asked.options(), stream=True)
        relay = self._relay = Relay(run, self._app.client, self.face)
        pings = asyncio.ensure_future(self._pinged()) if self._pings else None
        try:
            await self._handed_on(relay)
        except Error as error:
            if not self._request.started:
                raise
            self._note(error.status or 0, error)
            await self._request.send(self._failed(error), more=False)
        finally:
            if pings is not None:
                pings.cancel()
            relay.idle = relay.shortcut = None  # they hold this call, which holds the relay
            relay.stop()

    async def _handed_on(self, relay: Relay) -> None:
        while heard := await relay.more():
            data = self._made_writer().feed(heard)
            if data:
                await self._send(data, relay)
            relay.idle = self._taken
            relay.shortcut = self._shortcut
        reply = relay.reply
        await self._send(self._made_writer().end(reply), relay, more=False)
        self._note(200, reply=reply)

    def _shortcut(self, reader: Any) -> Shortcut | None:
        direct = self._request.direct
        if direct is None or not self._request.started:
            return None
        return self._made_writer().shortcut(reader, direct.write)

    async def _taken(self) -> None:
        """Send what has come while the provider is silent: events that brought nothing that was read."""
        assert self._relay is not None
        data = self._made_writer().feed(self._relay.taken())
        if data:
            await self._send(data, self._relay)

    def _made_writer(self) -> Writer:
        relay = self._relay
        assert relay is not None
        if self._writer is None:
            weaver = self._weaver(relay.so_far().model)
            self._writer = writer(
                self.face, self._asked.body, relay, weaver, self._framing, several=self._asked.several
            )
        return self._writer

    async def _send(self, data: bytes, relay: Relay, *, more: bool = True) -> None:
        if not self._request.started:
            await self._start(relay, relay.so_far().provider)
        self._last_sent = time.monotonic()
        if self._first is None:
            self._first = self._last_sent
        await self._request.send(data, more=more)

    async def _start(self, relay: Relay, provider: str) -> None:
        own = self._found.entrance.use == "chat"
        media_type = MEDIA_TYPES[self._framing] if own else relay.so_far().media_type or "application/octet-stream"
        headers = {"content-type": media_type, **_STREAM, **self._headers(relay, provider)}
        await self._request.start(200, headers)

    def _failed(self, error: Error) -> bytes:
        if self._writer is None:
            return self._weaver("").fail(said(error))
        return self._writer.fail(said(error))

    # -------------------------------------------------------------- details

    @property
    def _framing(self) -> str:
        return self._found.entrance.framing or self.face.framing

    @property
    def _pings(self) -> bool:
        return bool(self._app.settings.ping) and self._framing == "sse"

    async def _pinged(self) -> None:
        """Send a comment after each silence of `ping` seconds; it is the first thing that goes out where nothing has yet."""
        silence = self._app.settings.ping
        direct = self._request.direct
        while True:
            await asyncio.sleep(max(0.01, self._last_sent + silence - time.monotonic()))
            self._last_sent = max(self._last_sent, direct.last if direct is not None else 0.0)
            if time.monotonic() - self._last_sent < silence:
                continue
            self._last_sent = time.monotonic()
            if not self._request.started and self._relay is not None:
                await self._start(self._relay, "")
            await self._request.send(b": ping\n\n")

    def _weaver(self, model: str) -> Weaver:
        created = int(time.time())
        identity = Identity(new_id(), model or self._asked.model, created, _as_text(created))
        return Weaver(self.face, self._asked.body, identity, self._framing)

    def _headers(self, relay: Relay, provider: str) -> dict[str, str]:
        return _filled({
            "x-prx-provider": provider,
            "x-prx-fallbacks": ", ".join(relay.fallbacks),
            "x-prx-attempts": str(relay.requests) if relay.requests > 1 else "",
            "x-prx-dropped": self._asked.dropped,
        })  # fmt: skip

    def _note(self, status: int, error: Error | None = None, reply: Reply | None = None) -> None:
        """What the log and the metrics say of a call that is over."""
        took = time.monotonic() - self.began
        first = self._first - self.began if self._first is not None else None
        kind = error.kind if error is not None else "cancelled" if status == 499 else ""
        known = reply or (self._relay.partial if self._relay is not None else Reply())
        known = known if isinstance(known, Reply) else Reply()  # what is handed on in pieces is read by nobody
        provider = known.provider or (error.provider if error is not None else "")
        usage = reply.usage if reply is not None else None
        self._app.metrics.called(self._found.entrance.use, provider, self._asked.model, kind, took, first, usage)
        self._tell(error, known, provider, first)
        if error is not None:
            self._app.failed({**self.told(), "provider": provider, "kind": kind, "status": status, "at": time.time()})
        self._request.told.add(left=status == 499)

    def _tell(self, error: Error | None, known: Reply, provider: str, first: float | None) -> None:
        told, relay, usage = self._request.told, self._relay, known.usage
        if not told.is_shown:
            return
        told.add(
            provider=provider,
            error=error.kind if error is not None else None,
            attempts=relay.requests if relay is not None else 1 if self._deadline is not None else None,
            fallbacks=", ".join(relay.fallbacks) if relay is not None else None,
            dropped=self._asked.dropped,
            first_token_seconds=round(first, 3) if first is not None else None,
            input_tokens=usage.prompt_tokens if usage is not None else None,
            output_tokens=usage.completion_tokens if usage is not None else None,
        )
        if error is not None:
            told.bodies["error_message"] = str(error.args[0])
        shown = {name: getattr(known, name) for name in ("reasoning", "content", "refusal") if getattr(known, name)}
        calls = [{"name": call.name, "arguments": call.arguments} for call in known.tool_calls]
        if shown or calls:
            told.bodies["answer"] = shown | ({"tool_calls": calls} if calls else {})


class Watch:
    """Cancels a task when the caller has left. Where the server tells nobody of it, this begins a moment later: most whole answers are
    there by then, and to watch costs as much as to read the request.
    """

    def __init__(self, request: Request, driver: asyncio.Task[None]) -> None:
        self._request, self._driver = request, driver
        self.has_left = False
        self._left: asyncio.Future[None] | None = None
        self._timer: asyncio.Handle | None = None
        loop, direct = asyncio.get_running_loop(), request.direct
        if direct is None:
            self._timer = loop.call_later(_UNWATCHED, self._begin)
        elif direct.is_left:
            self._timer = loop.call_soon(self._leave)
        else:
            direct.on_left = self._leave

    def _begin(self) -> None:
        self._left = asyncio.ensure_future(self._request.left())
        self._left.add_done_callback(self._leave)

    def _leave(self, _: asyncio.Future[None] | None = None) -> None:
        self.has_left = True
        self._driver.cancel()

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._request.direct is not None:
            self._request.direct.on_left = None
        if self._left is not None:
            self._left.remove_done_callback(self._leave)
            self._left.cancel()


@lru_cache(maxsize=2)
def _as_text(seconds: int) -> str:
    """A time as RFC 3339."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _bytes_of(heard: list[Heard]) -> bytes:
    """What is handed on in pieces: each Delta is a Piece."""
    pieces: list[Any] = [piece.content for each in heard for piece in each.deltas]
    return b"".join(pieces)


def _usage_of(result: Any) -> Any:
    return getattr(result, "usage", None)


def _model_of(result: Any) -> str:
    return str(getattr(result, "model", ""))


def _filled(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers without those that would be empty."""
    return {name: value for name, value in headers.items() if value}
