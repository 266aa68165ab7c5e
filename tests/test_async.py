"""AsyncClient: what only an event loop can ask for. What it has in common with Client, test_transport.py asks of both."""

from __future__ import annotations

import asyncio
import base64
import gc
import os
import subprocess
import sys
import textwrap
import threading
import time

import anyio
import pytest
from helpers.byte_server import DONE, FIN, HANG, RST, RawServer, delta, own_authority, response, stream

import prx
from prx.transport import asynchronous
from prx.transport.origin import proxy_of

ENDLESS = [*stream(delta("hel"), *[delta("."), 0.01] * 500)]


def client(url, **settings):
    return prx.AsyncClient(
        config={"providers": {"compatible": {"api_url": url, "api_key": "sk-secret-key", **settings}}}, env={}
    )


async def ask(api, **options):
    return await api.chat("hi", "compatible/m", **{"retries": 0, "fallbacks": (), **options})


async def left(server):
    """Whether the server sees within three seconds that its client has gone."""
    return await asyncio.to_thread(server.left.wait, 3)


def run(main):
    return asyncio.run(main())


# ------------------------------------------------------------------ the same calls


def test_chat_stream_and_models():
    names = response(200, {"data": [{"id": "a"}, {"id": "b"}, {"id": "a"}]})

    async def main():
        with RawServer(response(), stream(delta("hel"), delta("lo", "stop"), DONE), names) as server:
            async with client(server.url) as api:
                whole = await ask(api)
                async with api.stream("hi", "compatible/m") as pieces:
                    texts = [piece.content async for piece in pieces]
                return whole, texts, pieces.reply, await api.models("compatible"), server.connections

    whole, texts, streamed, names_found, connections = run(main)
    assert whole.content == streamed.content == "hello"
    assert texts == ["hel", "lo"]
    assert names_found == ["a", "b"]
    assert connections == 1


def test_a_stream_says_what_it_is_not_yet():
    async def main():
        with RawServer(stream(delta("hel"), 0.2, delta("lo", "stop"), DONE)) as server:
            async with client(server.url) as api, api.stream("hi", "compatible/m") as pieces:
                with pytest.raises(prx.ConfigError, match="not ended yet"):
                    pieces.reply  # noqa: B018 - it raises
                assert (await anext(pieces)).content == "hel"
                assert pieces.partial.content == "hel"
                assert [piece.content async for piece in pieces] == ["lo"]
                assert [piece async for piece in pieces] == []
                await pieces.aclose()
                assert pieces.reply.content == "hello"

    run(main)


def test_arguments_are_checked_when_they_are_awaited():
    async def main():
        async with client("http://127.0.0.1:1/v1") as api:
            call = api.chat("", "compatible/m")
            with pytest.raises(prx.ConfigError, match="prompt is empty"):
                await call
            with pytest.raises(prx.ConfigError, match="unknown provider"):
                await api.chat("hi", "nobody/m")

    run(main)


def test_256_streams_at_once_lose_nothing():
    texts = [f"{n} " for n in range(40)]

    async def one(api):
        async with api.stream("hi", "compatible/m") as pieces:
            return "".join([piece.content async for piece in pieces])

    async def main():
        script = [*stream(*[delta(text) for text in texts], delta("end", "stop"), DONE)]
        with RawServer(script) as server:
            async with client(server.url) as api:
                return await asyncio.gather(*[one(api) for _ in range(256)])

    assert set(run(main)) == {"".join(texts) + "end"}


# ------------------------------------------------------------------ ending a call


def ended_by_cancel(task, _api, _pieces):
    task.cancel()


def ended_by_the_client(_task, api, _pieces):
    api.ends = asyncio.ensure_future(api.aclose())


def ended_by_the_stream(_task, _api, pieces):
    pieces.ends = asyncio.ensure_future(pieces.aclose())


@pytest.mark.parametrize("end", [ended_by_cancel, ended_by_the_client, ended_by_the_stream])
@pytest.mark.parametrize(
    "script", [[HANG], [b"HTTP/1.1 200 OK\r\ncontent-", HANG], [*stream(delta("hel"), end=False), HANG]]
)
def test_a_call_that_waits_is_ended_at_once(script, end):
    async def main():
        with RawServer(script) as server:
            api = client(server.url)
            pieces = api.stream("hi", "compatible/m", retries=2)

            task = asyncio.create_task(read(pieces))
            await asyncio.sleep(0.2)
            started = time.monotonic()
            end(task, api, pieces)
            with pytest.raises((asyncio.CancelledError, prx.Error)) as caught:
                await task
            assert time.monotonic() - started < 1
            assert await left(server), "the provider was not told"
            assert len(server.requests) == 1, "nothing is tried again"
            await api.aclose()
            return caught.value

    error = run(main)
    assert isinstance(error, asyncio.CancelledError) == (end is ended_by_cancel)
    if end is not ended_by_cancel:
        assert "closed" in str(error)
        assert not error.retryable


def test_a_pause_between_attempts_is_ended_too():
    async def main():
        with RawServer(response(429, {"error": {"message": "slow"}}, "retry-after: 5")) as server:
            async with client(server.url) as api:
                started = time.monotonic()
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.2):
                        await ask(api, retries=3)
                with pytest.raises(prx.RateLimitError):
                    await ask(api, retries=3, deadline=1)
                return time.monotonic() - started

    assert run(main) < 2


async def side_by_side(*calls):
    async with asyncio.TaskGroup() as group:
        for call in calls:
            group.create_task(call)


async def read(pieces):
    async with pieces:
        async for _ in pieces:
            pass


def test_timeouts_groups_and_anyio():
    async def hang(api):
        await ask(api)

    async def main():
        with RawServer([HANG]) as server:
            async with client(server.url) as api:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await ask(api)
                with pytest.raises(ExceptionGroup) as caught:
                    await side_by_side(hang(api), ask(api, timeout=0.1))
                assert [type(error) for error in caught.value.exceptions] == [prx.ProviderTimeoutError]
                with anyio.move_on_after(0.1) as scope:
                    await read(api.stream("hi", "compatible/m"))
                assert scope.cancelled_caught
                with anyio.move_on_after(0.1):
                    async with anyio.create_task_group() as several:
                        several.start_soon(hang, api)
                        several.start_soon(hang, api)
                assert await left(server)

    anyio.run(main)


@pytest.mark.parametrize("script", [[HANG], [*stream(delta("hel"), end=False), HANG], ENDLESS])
def test_a_deadline_is_exact(script):
    async def main():
        with RawServer(script) as server:
            async with client(server.url) as api:
                started = time.monotonic()
                with pytest.raises(prx.ProviderTimeoutError, match="the deadline passed"):
                    await read(api.stream("hi", "compatible/m", retries=0, deadline=0.3))
                spent = time.monotonic() - started
                assert await left(server)
                return spent

    assert 0.3 <= run(main) < 1  # a busy machine may be late


def test_leaving_early_or_forgetting_stops_the_provider():
    async def main():
        with RawServer(ENDLESS) as server:
            async with client(server.url) as api:
                async with api.stream("hi", "compatible/m") as pieces:
                    await anext(pieces)
                assert await left(server)
                with pytest.raises(prx.TruncatedError, match="closed before its end"):
                    await anext(pieces)
                server.left.clear()
                pieces = api.stream("hi", "compatible/m")
                await anext(pieces)
                del pieces
                assert await left(server)

    run(main)


def test_a_stream_is_read_by_one_task():
    async def main():
        with RawServer([*stream(delta("hel"), end=False), HANG]) as server:
            async with client(server.url) as api:
                pieces = api.stream("hi", "compatible/m")
                await anext(pieces)
                first = asyncio.create_task(anext(pieces))
                await asyncio.sleep(0.05)
                with pytest.raises(prx.ConfigError, match="another task reads"):
                    await anext(pieces)
                await pieces.aclose()
                with pytest.raises(prx.TruncatedError):
                    await first

    run(main)


def test_nothing_is_left_in_circles():
    """Frames, errors and keys go with the error; what asyncio itself leaves for the collector holds none of them."""
    no_json = [*stream(delta("hel"), b"data: {no json\n\n")]

    async def main():
        found = set()
        for script in ([RST], [response()[:-5], 0.05, RST], [response()[:-5], HANG], no_json):
            with RawServer(script) as server:
                async with client(server.url) as api:
                    for _ in range(3):  # the first makes what stays
                        gc.collect()
                        gc.disable()
                        with pytest.raises(prx.Error):
                            await ask(api, timeout=0.2)
                        await asyncio.sleep(0.05)
                        gc.set_debug(gc.DEBUG_SAVEALL)
                        gc.collect()
                        gc.set_debug(0)
                        gc.enable()
                        found = {type(item).__name__ for item in gc.garbage}
                        gc.garbage.clear()
        return found

    assert run(main) <= {"tuple", "socket", "_SelectorSocketTransport", "TransportSocket", "dict", "method"}


# ------------------------------------------------------------------ connections


def test_connections_are_kept_bounded_and_closed_when_idle(monkeypatch):
    monkeypatch.setattr(asynchronous, "_MOST_KEPT", 3)
    monkeypatch.setattr(asynchronous, "_IDLE_SECONDS", 0.3)

    async def main():
        with RawServer([0.1, response()]) as server:
            async with client(server.url) as api:
                await asyncio.gather(*[ask(api) for _ in range(8)])
                (http,) = api._https.values()
                (kept,) = http._kept.values()
                assert (len(kept), server.connections) == (3, 8)
                await asyncio.gather(*[ask(api) for _ in range(3)])
                assert server.connections == 8
                await asyncio.sleep(0.8)
                assert len(kept) == 0

    run(main)


def test_a_kept_connection_that_the_server_closes_is_noticed():
    async def main():
        with RawServer([response(), 0.05, FIN]) as server:
            async with client(server.url) as api:
                await ask(api)
                await asyncio.sleep(0.2)
                (http,) = api._https.values()
                assert [len(kept) for kept in http._kept.values()] == [0]
                await ask(api)
                time.sleep(0.2)  # noqa: ASYNC251 - the loop itself cannot see it
                await ask(api)
                return server.connections

    assert run(main) == 3


class Tunnel(threading.Thread):
    """A proxy that has one word, CONNECT, and passes on what comes; it asks for a password."""

    def __init__(self, tls=None):
        super().__init__(daemon=True)
        self.heads, self.loop, self.tls = [], asyncio.new_event_loop(), tls
        self.port = None
        self.ready = threading.Event()

    def __enter__(self):
        self.start()
        self.ready.wait(5)
        return self

    def __exit__(self, *exc):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.join(5)
        self.loop.close()

    def run(self):
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=self.tls))
        self.port = server.sockets[0].getsockname()[1]
        self.ready.set()
        self.loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0.05))

    async def serve(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        if base64.b64encode(b"me:secret-word").decode() not in head:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
            writer.close()
            return
        host, _, port = head.split()[1].rpartition(":")
        there, back = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.wait([asyncio.create_task(self.copy(*pair)) for pair in ((reader, back), (there, writer))])

    async def copy(self, source, sink):
        while data := await source.read(65536):
            sink.write(data)
        sink.close()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_tls_through_a_proxy(tmp_path, scheme):
    context, cert = own_authority(tmp_path)
    with RawServer(tls=context) as server, Tunnel(context if scheme == "https" else None) as proxy:
        right, wrong = (f"{scheme}://me:{word}@127.0.0.1:{proxy.port}" for word in ("secret-word", "other-word"))

        async def main():
            async with client(server.url, ca_file=cert, proxy=right) as api:
                assert (await ask(api)).content == "hello"
                assert (await ask(api)).content == "hello"
            async with client(server.url, ca_file=cert, proxy=wrong) as api:
                with pytest.raises(prx.ProviderConnectionError, match="407") as caught:
                    await ask(api)
            return caught.value

        error = run(main)
        assert len(proxy.heads) == 2
        assert proxy.heads[0].startswith(f"CONNECT 127.0.0.1:{server.port} HTTP/1.1\r\n")
        assert "sk-secret-key" not in "".join(proxy.heads)
        assert "other-word" not in str(error)


def test_a_large_body_that_is_refused_early():
    """The server answers without reading it all: its answer counts, and the rest is not sent."""
    refused = response(413, {"error": {"message": "too large"}})

    async def main():
        with RawServer() as server:
            server._read = lambda client: {"line": client.recv(1000)[:10]}
            server.scripts = [[refused, 0.3, FIN]]
            async with client(server.url) as api:
                with pytest.raises(prx.Error) as caught:
                    await api.chat("a" * (30 << 20), "compatible/m", retries=0, timeout=5, fallbacks=())
                return caught.value

    error = run(main)
    assert error.status == 413 or error.kind == "connection"  # a reset may take the answer with it


# ------------------------------------------------------------------ loops, threads, forks


def test_one_client_is_of_one_loop():
    api = client("http://127.0.0.1:1/v1")
    with pytest.raises(prx.ConfigError, match="no asyncio event loop runs"):
        api.chat("hi", "compatible/m").send(None)

    async def first():
        with pytest.raises(prx.ProviderConnectionError):
            await ask(api)
        await api.aclose()
        return api.stream("hi", "compatible/m")

    async def second(pieces):
        with pytest.raises(prx.ConfigError, match="another event loop"):
            await ask(api)
        with pytest.raises(prx.ConfigError, match="another event loop"):
            await anext(pieces)

    asyncio.run(second(asyncio.run(first())))


def test_no_thread_is_started():
    async def main():
        with RawServer() as server:
            async with client(server.url) as api:
                before = threading.enumerate()  # a blocking client of another test may have left one
                await ask(api, deadline=5)
                return [thread.name for thread in threading.enumerate() if thread not in before]

    assert not [name for name in run(main) if "prx" in name or "asyncio" in name]


IN_A_CHILD = """
    import asyncio, os, sys, prx
    config = {"providers": {"compatible": {"api_url": sys.argv[1], "api_key": "k"}}}
    async def main():
        api = prx.AsyncClient(config=config, env={})
        pieces = api.stream("hi", "compatible/m")
        await anext(pieces)
        child = os.fork()
        if not child:
            code = 1
            try:
                for call in (api.chat("hi", "compatible/m"), anext(pieces)):
                    try:
                        call.send(None)
                    except prx.Error:
                        code -= 0.5
                del pieces
            finally:
                os._exit(int(code * 2))
        assert os.waitpid(child, 0)[1] == 0
        rest = "".join([piece.content async for piece in pieces])
        await api.aclose()
        print(rest)
    asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_leaves_its_parents_stream_alone():
    with RawServer([*stream(delta("hel"), 0.5, delta("lo", "stop"), DONE)]) as server:
        done = subprocess.run(
            [sys.executable, "-W", "error::ResourceWarning", "-c", textwrap.dedent(IN_A_CHILD), server.url],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert (done.stdout, done.returncode) == ("lo\n", 0), done.stderr[-2000:]


def test_a_key_is_in_no_error_of_a_task():
    async def main():
        with RawServer(response(401, {"error": {"message": "wrong key sk-secret-key"}})) as server:
            async with client(server.url) as api:
                with pytest.raises(prx.AuthError) as caught:
                    await ask(api)
                return caught.value

    error = run(main)
    frames = []
    trace = error.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame)
        trace = trace.tb_next
    ours = [frame for frame in frames if "/prx/" in frame.f_code.co_filename]
    assert "sk-secret-key" not in str(error) + repr(error)
    assert all("sk-secret-key" not in repr(frame.f_locals) for frame in ours)
    assert error.__context__ is None


def test_a_proxy_shows_its_password_to_nobody():
    proxy = proxy_of("https://host.invalid/v1", "http://me:secret-word@127.0.0.1:1", {})
    assert base64.b64decode(proxy.headers["proxy-authorization"].removeprefix("Basic ")) == b"me:secret-word"
    assert "secret-word" not in repr(proxy) + str(proxy)
    assert proxy_of("http://127.0.0.1:9/v1", "", {"http_proxy": "http://127.0.0.1:1"}) is None


def test_what_a_list_says_of_a_model():
    rows = [{"id": "a", "context_length": 8}, {"id": "b"}]

    async def ask(url):
        async with prx.AsyncClient(config={"providers": {"compatible": {"api_url": url}}}) as client:
            return await client.models("compatible"), await client.model_rows("compatible")

    with RawServer(response(200, {"data": rows})) as server:
        names, found = asyncio.run(ask(server.url))
    assert names == ["a", "b"]
    assert found == [{"id": row["id"], "data": row} for row in rows]


# ------------------------------------------------------------------ another event loop


@pytest.mark.parametrize(
    ("test", "arguments"),
    [
        (test_chat_stream_and_models, ()),
        (test_256_streams_at_once_lose_nothing, ()),
        (test_leaving_early_or_forgetting_stops_the_provider, ()),
        (test_a_kept_connection_that_the_server_closes_is_noticed, ()),
        (test_a_large_body_that_is_refused_early, ()),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_it_works_on_uvloop(test, arguments, monkeypatch):
    """Services often run on it; it lacks some parameters that asyncio's loop has."""
    uvloop = pytest.importorskip("uvloop", reason="has no wheel for this system")
    monkeypatch.setitem(globals(), "run", lambda main: uvloop.run(main()))
    test(*arguments)
