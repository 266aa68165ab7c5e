"""The hook of a client: what it is told, in which order, in both clients; and that it changes nothing, whatever it does."""

from __future__ import annotations

import asyncio
import gc
import logging

import pytest
from helpers.byte_server import DONE, HANG, RST, RawServer, delta, response, stream
from helpers.told import FILE, KEY

import prx
from prx import events
from prx.core import exchange, telling
from prx.core.exchange import READ
from prx.wire import Head, HttpRequest

BUSY = response(503, {"error": {"message": "overloaded"}}, "x-request-id: r-1")


class Asking:
    """Calls of one client or the other, with a hook that keeps what it is told."""

    def __init__(self, kind, folder, url, text="", **options):
        (folder / "seen.yaml").write_text((text or FILE).format(url=url))
        self.told = []
        options = {"on_event": self.told.append, **options}
        config = {"providers": {"seen": {"api_key": KEY}}}
        self.client = kind({**config, **options.pop("config", {})}, folder, env={}, **options)

    def chat(self, *args, model="seen/m", **options):
        if isinstance(self.client, prx.Client):
            return self.client.chat(*args, model=model, **options)

        async def main():
            async with self.client as client:
                return await client.chat(*args, model=model, **options)

        return asyncio.run(main())

    def stream(self, pieces=None, model="seen/m", **options):
        """Read so many pieces, or all of them."""
        if isinstance(self.client, prx.Client):
            with self.client.stream("hi", model=model, **options) as deltas:
                for place, _ in enumerate(deltas, 1):
                    if place == pieces:
                        break
            return

        async def main():
            async with self.client as client, client.stream("hi", model=model, **options) as deltas:
                place = 0
                async for _ in deltas:
                    place += 1
                    if place == pieces:
                        break

        asyncio.run(main())

    @property
    def names(self):
        return [type(event).__name__ for event in self.told]

    def of(self, kind):
        return [event for event in self.told if type(event) is kind]

    def one(self, kind):
        (event,) = self.of(kind)
        return event


both = pytest.mark.parametrize("kind", [prx.Client, prx.AsyncClient])


# ------------------------------------------------------------------ what is told


@both
def test_a_call_that_answers(kind, tmp_path):
    usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    body = {"model": "m-2", "usage": usage, "choices": [{"index": 0, "message": {"content": "hello"}, "finish_reason": "stop"}]}  # fmt: skip
    with RawServer(response(200, body, "x-request-id: r-7")) as server:
        asking = Asking(kind, tmp_path, server.url + "?tenant=1")
        asking.chat("hi")
    assert asking.names == ["Began", "Sent", "Responded", "Ended"]
    began, sent, responded, ended = asking.told
    assert (began.kind, began.model, began.content) == ("chat", "seen/m", None)
    assert (sent.attempt, sent.kind, sent.provider, sent.model, sent.method) == (1, "chat", "seen", "m", "POST")
    assert sent.url == f"{server.url}/chat/completions"  # without its query
    assert (sent.dialect, sent.stream, sent.fallbacks) == ("openai-chat", False, ())
    assert "authorization" in sent.headers
    assert (responded.status, responded.request_id) == (200, "r-7")
    assert {"content-type", "x-request-id"} <= {*responded.headers}
    assert (ended.error, ended.finish_reason, ended.model, ended.provider) == ("", "stop", "m-2", "seen")
    assert (ended.usage.prompt_tokens, ended.usage.completion_tokens) == (3, 5)
    assert (ended.attempts, ended.fallbacks, ended.first_output, ended.content) == (1, (), None, None)
    assert 0 <= responded.took <= responded.seconds <= ended.seconds < 10


@both
def test_a_stream(kind, tmp_path):
    with RawServer(stream(delta("a"), 0.8, delta("b"), delta("", "stop"), DONE)) as server:
        asking = Asking(kind, tmp_path, server.url)
        asking.stream()
    assert asking.names == ["Began", "Sent", "Responded", "FirstOutput", "Ended"]
    assert asking.one(events.Sent).stream
    first, ended = asking.one(events.FirstOutput), asking.one(events.Ended)
    assert first.seconds == ended.first_output < ended.seconds - 0.03
    assert ended.finish_reason == "stop"


@both
def test_a_retry(kind, tmp_path):
    with RawServer(BUSY, RST, response()) as server:
        asking = Asking(kind, tmp_path, server.url)
        asking.chat("hi")
    assert asking.names == ["Began", "Sent", "Responded", "Retried", "Sent", "Retried", "Sent", "Responded", "Ended"]
    first, second = asking.of(events.Retried)
    assert (first.attempt, first.error, first.status) == (1, "server", 503)
    assert (second.attempt, second.error, second.status) == (2, "connection", None)
    assert 0 < first.wait < second.wait
    assert [sent.attempt for sent in asking.of(events.Sent)] == [1, 2, 3]
    assert asking.one(events.Ended).attempts == 3


@both
def test_a_fallback(kind, tmp_path):
    refused = response(400, {"error": {"message": "no temperature"}})
    with RawServer(refused, response()) as server:
        asking = Asking(kind, tmp_path, server.url)
        asking.chat("hi", max_tokens=1)
    fell = asking.one(events.FellBack)
    assert (fell.attempt, fell.error, fell.status, fell.to, fell.target) == (1, "bad_request", 400, "shorter", False)
    assert [sent.fallbacks for sent in asking.of(events.Sent)] == [(), ("shorter",)]
    assert asking.one(events.Ended).fallbacks == ("shorter",)
    assert not asking.of(events.Retried)


@both
def test_the_next_target(kind, tmp_path):
    with RawServer(BUSY) as first, RawServer(response()) as second:
        providers = {
            name: {"extends": "openai-chat", "api_url": url, "retries": 0, "api_key": KEY}
            for name, url in (("one", first.url), ("two", second.url))
        }
        routes = [{"pattern": "fast", "targets": ["one/m", "two/n"]}]
        asking = Asking(
            kind, tmp_path, "http://127.0.0.1:1/v1", config={"providers": providers, "model_routes": routes}
        )
        asking.chat("hi", model="fast")
    assert asking.names == ["Began", "Sent", "Responded", "FellBack", "Sent", "Responded", "Ended"]
    fell, ended = asking.one(events.FellBack), asking.one(events.Ended)
    assert (fell.to, fell.target, fell.error, fell.status) == ("two/n", True, "server", 503)
    assert [(sent.attempt, sent.provider, sent.model) for sent in asking.of(events.Sent)] == [
        (1, "one", "m"),
        (2, "two", "n"),
    ]
    assert (ended.provider, ended.attempts, asking.one(events.Began).model) == ("two", 2, "fast")


def tool_call(index, **function):
    return {"index": index, "id": f"c{index}", "type": "function", "function": function}


@both
@pytest.mark.parametrize("streamed", [False, True])
def test_tools_are_named(kind, streamed, tmp_path):
    calls = [tool_call(0, name="weather", arguments='{"city": "Oslo"}'), tool_call(1, name="clock", arguments="{}")]
    event = {"choices": [{"index": 0, "delta": {"tool_calls": calls}, "finish_reason": "tool_calls"}]}
    body = {"choices": [{"index": 0, "message": {"tool_calls": calls}, "finish_reason": "tool_calls"}]}
    answer = (
        stream(b"data: " + prx.json_text.json.dumps(event).encode() + b"\n\n", DONE)
        if streamed
        else response(200, body)
    )
    with RawServer(answer) as server:
        asking = Asking(kind, tmp_path, server.url)
        asking.stream() if streamed else asking.chat("hi")
    assert [(event.name, event.id) for event in asking.of(events.ToolNamed)] == [("weather", "c0"), ("clock", "c1")]
    assert "Oslo" not in repr(asking.told)


@both
def test_tools_that_are_run(kind, tmp_path):
    """One that gives something, one that raises an exception, one that nobody has."""

    def weather(city: str) -> str:
        return f"sunny in {city}"

    def clock() -> str:
        raise LookupError("no clock")

    calls = [tool_call(0, name="weather", arguments='{"city": "Oslo"}'), tool_call(1, name="clock", arguments="{}"), tool_call(2, name="none", arguments="{}")]  # fmt: skip
    body = {"choices": [{"index": 0, "message": {"tool_calls": calls}, "finish_reason": "tool_calls"}]}
    with RawServer(response(200, body), response()) as server:
        asking = Asking(kind, tmp_path, server.url)
        tools = [prx.tool(weather), prx.tool(clock)]
        if kind is prx.Client:
            asking.client.run_tools("hi", "seen/m", tools=tools)
        else:

            async def main():
                async with asking.client as client:
                    await client.run_tools("hi", "seen/m", tools=tools)

            asyncio.run(main())
    started, returned = asking.of(events.ToolStarted), asking.of(events.ToolReturned)
    assert [(event.name, event.id) for event in started] == [("weather", "c0"), ("clock", "c1")]
    assert {(event.name, event.id, event.error) for event in returned} == {
        ("weather", "c0", ""),
        ("clock", "c1", "LookupError"),
    }
    assert {event.call for event in started} == {event.call for event in returned}
    assert len({event.call for event in asking.told}) == 4  # two calls, two tools
    assert "Oslo" not in repr(asking.told)


@both
def test_an_error(kind, tmp_path):
    with RawServer(response(401, {"error": {"message": f"wrong key {KEY}"}})) as server:
        asking = Asking(kind, tmp_path, server.url)
        with pytest.raises(prx.AuthError):
            asking.chat("hi")
    ended = asking.one(events.Ended)
    assert (ended.error, ended.status, ended.attempts, ended.provider) == ("auth", 401, 1, "seen")
    assert asking.names[-1] == "Ended"


@both
def test_a_call_that_is_refused_before_it_is_sent(kind, tmp_path):
    asking = Asking(kind, tmp_path, "http://127.0.0.1:1/v1", FILE + "capabilities: {{tools: false}}\n")
    with pytest.raises(prx.CapabilityError):
        asking.chat("hi", tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}])
    assert asking.names == ["Began", "Ended"]
    ended = asking.one(events.Ended)
    assert (ended.error, ended.attempts, ended.provider) == ("capability", 0, "seen")


@both
def test_a_stream_that_is_left_has_an_end_at_once(kind, tmp_path):
    with RawServer(stream(delta("a"), HANG)) as server:
        asking = Asking(kind, tmp_path, server.url)
        asking.stream(pieces=1)
        assert asking.names[-1] == "Ended"
    ended = asking.one(events.Ended)
    assert (ended.error, ended.attempts, ended.finish_reason) == (events.CLOSED, 1, None)


def test_a_cancelled_call_has_an_end(tmp_path):
    with RawServer([HANG]) as server:
        asking = Asking(prx.AsyncClient, tmp_path, server.url)

        async def main():
            async with asking.client as client:
                task = asyncio.ensure_future(client.chat("hi", model="seen/m"))
                await asyncio.sleep(0.1)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

        asyncio.run(main())
    assert asking.one(events.Ended).error == events.CLOSED


def test_calls_are_told_apart(tmp_path):
    with RawServer() as server:
        asking = Asking(prx.Client, tmp_path, server.url)
        asking.chat("hi")
        asking.chat("hi")
    numbers = [event.call for event in asking.told]
    assert numbers[:4] == [numbers[0]] * 4
    assert numbers[4:] == [numbers[4]] * 4
    assert numbers[0] < numbers[4]


def test_other_kinds_and_lists_of_models(tmp_path):
    vectors = {
        "model": "e",
        "data": [{"index": 0, "embedding": [0.5]}],
        "usage": {"prompt_tokens": 2, "total_tokens": 2},
    }
    names = {"data": [{"id": "m"}]}
    with RawServer(response(200, vectors), response(200, names)) as server:
        asking = Asking(prx.Client, tmp_path, server.url)
        asking.client.embed("hi", "seen/e")
        asking.client.models("seen")
    kinds = [(event.kind, event.model) for event in asking.of(events.Began)]
    assert kinds == [("embed", "seen/e"), ("models", "seen")]
    assert [event.kind for event in asking.of(events.Sent)] == ["embed", "models"]
    assert asking.of(events.Ended)[0].usage.prompt_tokens == 2


# ------------------------------------------------------------------ what is not told


@both
def test_neither_key_nor_words_are_in_any_event(kind, tmp_path):
    """In no spelling of an event: the key is repeated in a header, in the address, and in what the provider says."""
    said = response(500, {"error": {"message": f"you said secret-words with {KEY}"}}, f"x-request-id: {KEY}")
    with RawServer(said) as server:
        asking = Asking(kind, tmp_path, f"{server.url}/{KEY}")
        with pytest.raises(prx.ServerError):
            asking.chat("secret-words")
    assert len(asking.told) == 10
    assert KEY not in repr(asking.told)
    assert "secret-words" not in repr(asking.told)


class Wanting(list):
    wants_content = True

    def __call__(self, event):
        self.append(event)


@both
def test_a_hook_that_wants_content_gets_it_and_no_other(kind, tmp_path):
    wanting, other = Wanting(), []
    with RawServer(response(503, {"error": {"message": f"busy, {KEY}"}}), response()) as server:
        Asking(kind, tmp_path, server.url, on_event=[wanting, other.append]).chat("hi")
    contents = {type(event).__name__: event.content for event in wanting if hasattr(event, "content")}
    assert contents["Began"]["messages"] == "hi"
    assert "busy" in contents["Retried"]
    assert KEY not in contents["Retried"]
    assert contents["Ended"].content == "hello"
    assert all(event.content is None for event in other if hasattr(event, "content"))
    assert len(other) == len(wanting)


# ------------------------------------------------------------------ what a hook does


@both
def test_a_hook_that_raises_breaks_nothing_and_is_logged_once(kind, tmp_path, caplog):
    def broken(event):
        raise ValueError("no room")

    told = []
    with RawServer(BUSY, response()) as server, caplog.at_level(logging.WARNING, "prx"):
        assert Asking(kind, tmp_path, server.url, on_event=[broken, told.append]).chat("hi").content == "hello"
    assert len(told) == 7
    (record,) = caplog.records
    assert "raised ValueError: no room" in record.getMessage()


@both
def test_headers_that_a_hook_adds(kind, tmp_path):
    def hook(event):
        if isinstance(event, events.Sent):
            return {"traceparent": f"00-{event.attempt}", "Authorization": "none", "content-length": "1", "bad name": "x", "X-Bad": "a\nb"}  # fmt: skip
        return {"x-not": "here"}

    with RawServer(BUSY, response()) as server:
        Asking(kind, tmp_path, server.url, on_event=hook).chat("hi", extra_headers={"Traceparent": "theirs"})
    first, second = [request["headers"] for request in server.requests]
    assert (first["traceparent"], second["traceparent"]) == ("00-1", "00-2")
    assert first["authorization"] == f"Bearer {KEY}"
    assert int(first["content-length"]) > 1
    assert not {"bad name", "x-bad", "x-not"} & first.keys()


def test_what_is_no_hook_is_refused():
    async def later(event): ...

    class Later:
        async def __call__(self, event): ...

    with pytest.raises(prx.ConfigError, match="on_event has to be a function, and is int"):
        prx.Client({}, env={}, on_event=[1])
    for hook in (later, Later()):
        with pytest.raises(prx.ConfigError, match="an async function"):
            prx.Client({}, env={}, on_event=hook)


def test_nothing_is_logged_without_a_hook(tmp_path, caplog):
    with RawServer(BUSY, response()) as server, caplog.at_level(logging.DEBUG, "prx"):
        Asking(prx.Client, tmp_path, server.url, on_event=None).chat("hi")
    assert not caplog.records


def test_no_call_leaves_anything_to_the_garbage_collector(tmp_path):
    with RawServer(BUSY, response()) as server:
        asking = Asking(prx.Client, tmp_path, server.url)
        asking.chat("hi")
        gc.collect()
        gc.disable()
        try:
            asking.chat("hi")
            asking.told.clear()
            assert gc.collect() == 0
        finally:
            gc.enable()


# ------------------------------------------------------------------ the flow alone


def test_an_ask_that_is_not_known_is_handed_on_as_it_is():
    class Outside:
        pass

    strange, told = Outside(), []

    def flow():
        answer = yield strange
        try:
            yield strange
        except prx.Error:
            answer += " and an error"
        head = yield exchange.Send(HttpRequest("GET", "http://h/x"), None)
        assert (yield READ) == b"data"
        return f"{answer}, {head.status}"

    watched = telling.told(flow(), telling.Telling(told.append, lambda: 0.0, 1, "chat", "m", {}, None))
    assert next(watched) is strange
    assert watched.send("an answer") is strange
    assert type(watched.throw(prx.ServerError("x"))) is exchange.Send
    assert watched.send(Head(204, {}, 0.0)) is READ
    with pytest.raises(StopIteration) as stopped:
        watched.send(b"data")
    assert stopped.value.value == "an answer and an error, 204"
    assert [type(event).__name__ for event in told] == ["Began", "Sent", "Responded", "Ended"]


def test_a_bug_ends_the_call_too():
    def flow():
        yield READ
        raise KeyError("x")

    told = []
    watched = telling.told(flow(), telling.Telling(told.append, lambda: 0.0, 1, "chat", "m", {}, None))
    next(watched)
    with pytest.raises(KeyError):
        watched.send(b"")
    assert told[-1].error == "KeyError"
