"""AsyncClient: what only an event loop can ask for. What it has in common with Client, test_transport.py asks of both."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import os
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time
import warnings

import anyio
import pytest
from helpers.byte_server import DONE, FIN, HANG, RST, RawServer, delta, own_authority, response, stream

import prx
from prx.transport import addresses, asynchronous
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
                with pytest.raises(prx.ConfigError, match="has not ended yet"):
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


def test_a_fault_of_ours_closes_the_connection_too(monkeypatch):
    async def main():
        with RawServer([HANG]) as server:
            async with client(server.url) as api:
                monkeypatch.setattr(asynchronous.Incoming, "head", lambda *_: 1 // 0)
                monkeypatch.setattr(server, "scripts", [[b"HTTP", HANG]])
                with pytest.raises(ZeroDivisionError) as caught:
                    await ask(api)
                assert await left(server)
                return (
                    caught.value
                )  # its frames hold the connection, so that it is not the garbage collector that closes it

    run(main)


def test_a_stream_may_be_closed_several_times():
    """A pause and a connection that is being made are ended by a timeout, which can pass only once."""

    async def ended(pieces):
        task = asyncio.create_task(read(pieces))
        await asyncio.sleep(0.2)
        for _ in range(4):
            await pieces.aclose()
            await asyncio.sleep(0)
        with pytest.raises(prx.Error):
            await task

    async def main():
        with RawServer(response(429, {"error": {"message": "slow"}}, "retry-after: 5")) as server:
            async with client(server.url) as api:
                await ended(api.stream("hi", "compatible/m", retries=3))
        with RawServer([HANG]) as server:  # it reads what begins TLS, and says nothing
            async with client(server.url.replace("http:", "https:")) as api:
                await ended(api.stream("hi", "compatible/m", retries=3))

    run(main)


def test_a_deadline_that_has_passed_before_the_connection_warns_of_nothing():
    async def main():
        async with client("http://127.0.0.1:1/v1") as api:
            with pytest.raises(prx.ProviderTimeoutError, match="the deadline passed"):
                await ask(api, deadline=1e-9)

    with warnings.catch_warnings(record=True, action="always") as said:  # of a coroutine that was never awaited
        run(main)
        gc.collect()
    assert [str(warning.message) for warning in said] == []


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


def test_each_kept_connection_has_its_own_time(monkeypatch):
    """One that was kept just after a look at all of them is closed no later than the others."""
    monkeypatch.setattr(asynchronous, "_IDLE_SECONDS", 1.0)

    async def main():
        with RawServer(response(), response(), [0.05, response()]) as server:
            async with client(server.url) as api:
                await ask(api)
                await asyncio.gather(ask(api), ask(api))
                (http,) = api._https.values()
                (kept,) = http._kept.values()
                started = time.monotonic()
                while kept:  # noqa: ASYNC110 - nobody is told of it
                    await asyncio.sleep(0.01)
                return time.monotonic() - started

    assert 0.9 < run(main) < 1.3  # half as long again, where all are looked at in even steps


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


def test_a_cancelled_task_leaves_no_connection_open_to_a_host_with_a_name():
    """Whenever it is cancelled, and without the garbage collector."""

    async def main(place):
        async with client(f"http://localhost:{place.getsockname()[1]}/v1") as api:
            for rounds in range(96):  # on a busy machine few of them come as far as a connection
                task = asyncio.create_task(ask(api))
                for _ in range(rounds % 12):
                    await asyncio.sleep(0)
                await asyncio.sleep(0.0005 * (rounds % 3))
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            await asyncio.sleep(0.05)
            came = []
            with contextlib.suppress(BlockingIOError):
                while True:
                    came.append(place.accept()[0])
            for sock in came:
                sock.settimeout(1)
                with sock:
                    while sock.recv(65536):
                        pass  # at the end of what it sent stands the end of the connection
            return len(came)

    with socket.create_server(("127.0.0.1", 0), backlog=100) as place:
        place.setblocking(False)
        gc.disable()
        try:
            assert run(lambda: main(place)) > 10
        finally:
            gc.enable()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_calls_that_are_ended_at_any_step_leave_nothing(tmp_path, scheme):
    """Cancelled or closed after so many rounds of the loop: no task, no stream, no connection and no descriptor stays, and nothing
    fails behind their backs.
    """
    tls, cert = own_authority(tmp_path) if scheme == "https" else (None, "")
    script = [*stream(delta("hel"), 0.002, delta("lo", "stop"), DONE, 0.002)]

    async def one(api, rounds):
        pieces = api.stream("a" * (300_000 if rounds % 5 == 0 else 2), "compatible/m", retries=1)
        task = asyncio.create_task(read(pieces))
        for _ in range(rounds % 25):
            await asyncio.sleep(0)
        await asyncio.sleep(0.001 * (rounds % 7))
        if rounds % 3:
            task.cancel()
        else:
            await pieces.aclose()
        with contextlib.suppress(asyncio.CancelledError, prx.Error):
            await task

    failed = []

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context))
        with RawServer(script, tls=tls) as server:
            async with client(server.url, **({"ca_file": cert} if cert else {})) as api:
                await read(api.stream("hi", "compatible/m"))
                await asyncio.gather(*[one(api, rounds) for rounds in range(200)])
                assert len(asyncio.all_tasks()) == 1
                gc.collect()  # a task and its exception hold each other
                assert len(api._streams) == 0
            await asyncio.sleep(0.05)
            gc.collect()
            assert [each for each in gc.get_objects() if type(each) is asynchronous.Connection] == []
            return server.connections

    assert run(main) > 20
    assert failed == []


def test_the_addresses_of_a_host_are_tried_in_turn(monkeypatch):
    """One that refuses, then one that does not answer, then the right one; and where none is right, all are named."""
    monkeypatch.setattr(addresses, "_NEXT_ADDRESS", 0.1)

    async def main():
        with RawServer() as server, socket.create_server(("127.0.0.1", 0), backlog=0) as silent, socket.socket() as one:
            one.connect(silent.getsockname())  # the one that may wait there: the next gets no answer
            ports = [1, silent.getsockname()[1], server.port]

            async def resolved(*_args, **_options):
                return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port)) for port in ports]

            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolved)
            async with client("http://host.invalid/v1") as api:
                assert (await ask(api)).content == "hello"
                assert len(asyncio.all_tasks()) == 1
                await api.aclose()
                ports[1:] = [2]
                with pytest.raises(prx.ProviderConnectionError, match="no server listens"):
                    await ask(api)
                ports[:] = []
                with pytest.raises(prx.ProviderConnectionError, match="no address"):
                    await ask(api)

    run(main)


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


def test_the_limit_of_connecting_is_that_of_tls_too(monkeypatch):
    """asyncio has a limit of its own, 60 s, for the beginning of TLS."""
    monkeypatch.setattr(asyncio.sslproto.constants, "SSL_HANDSHAKE_TIMEOUT", 0.2)

    async def main():
        with RawServer([HANG]) as server:
            async with client(server.url.replace("http:", "https:")) as api:
                with pytest.raises(prx.ProviderTimeoutError, match=r"sent nothing for 0\.6 s"):
                    await ask(api, timeout=0.6)
                assert await left(server)

    run(main)


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


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "ftp"])
def test_only_proxies_that_speak_http_are_spoken_to(scheme):
    """Another one, with a port or without, is sent nothing: over http:// a request would show it the key."""

    async def main():
        with RawServer() as proxy:
            for place in (f"127.0.0.1:{proxy.port}", "127.0.0.1"):
                async with client("http://host.invalid/v1", proxy=f"{scheme}://{place}") as api:
                    with pytest.raises(prx.ConfigError, match=f"'{scheme}' is neither http nor https") as caught:
                        await ask(api)
            assert proxy.connections == 0
            return caught.value.hint

    assert "SOCKS is for Client alone" in run(main)


def test_a_certificate_of_a_proxy_that_nobody_trusts(tmp_path):
    context, _ = own_authority(tmp_path)
    with Tunnel(context) as proxy:

        async def main():
            async with client("https://host.invalid/v1", proxy=f"https://127.0.0.1:{proxy.port}") as api:
                with pytest.raises(
                    prx.ProviderConnectionError, match=r"the proxy https://127\.0\.0\.1:\d+: TLS fail"
                ) as caught:
                    await ask(api)
            return caught.value

        error = run(main)
    assert "ca_file" in error.hint
    assert not error.retryable


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


CLOSED_IN_A_CHILD = """
    import asyncio, os, sys, prx
    config = {"providers": {"compatible": {"api_url": sys.argv[1], "api_key": "k"}}}
    async def rest_of(pieces):
        return "".join([piece.content async for piece in pieces])
    async def main():
        api = prx.AsyncClient(config=config, env={})
        await api.chat("hi", "compatible/m")
        kept = api.stream("hi", "compatible/m", timeout=3)
        await anext(kept)
        reading = asyncio.create_task(rest_of(kept))
        await api.chat("hi", "compatible/m")
        pausing = asyncio.create_task(api.chat("hi", "compatible/m", retries=1))
        await asyncio.sleep(0.2)
        child = os.fork()
        if not child:
            code = 1
            try:
                try:
                    kept.aclose().send(None)
                except StopIteration:
                    api.aclose().send(None)
                    code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        reply = await api.chat("hi", "compatible/m", timeout=3)
        print(await reading, (await pausing).content, reply.content)
        await api.aclose()
    asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_that_closes_disturbs_nothing_of_its_parent():
    """The child of a fork shares with its parent what the loop waits with, so that it must not touch it."""
    slow = [*stream(delta("hel"), 1, delta("lo", "stop"), DONE)]
    scripts = [
        response(),
        slow,
        response(),
        response(429, {"error": {"message": "slow"}}, "retry-after: 1"),
        response(),
    ]
    with RawServer(*scripts) as server:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(CLOSED_IN_A_CHILD), server.url],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert (done.stdout, done.returncode) == ("lo hello hello\n", 0), done.stderr[-2000:]
    assert len(server.requests) == 6


FIRST_USED_IN_A_CHILD = """
    import asyncio, os, sys, prx
    api = prx.AsyncClient(config={"providers": {"compatible": {"api_url": sys.argv[1], "api_key": "k"}}}, env={})
    async def main():
        async with api:
            print((await api.chat("hi", "compatible/m")).content, flush=True)
    child = os.fork()
    assert not child or os.waitpid(child, 0)[1] == 0
    asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_client_that_was_made_before_a_fork_is_of_the_loop_it_is_first_used_on():
    with RawServer(response()) as server:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(FIRST_USED_IN_A_CHILD), server.url],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert (done.stdout, done.returncode) == ("hello\n" * 2, 0), done.stderr[-2000:]


def test_a_client_and_a_stream_can_be_closed_when_their_loop_has_ended():
    async def first(api):
        await ask(api)
        pieces = api.stream("hi", "compatible/m")
        await anext(pieces)
        return pieces

    with RawServer(response(), [*stream(delta("hel"), end=False), HANG]) as server:
        api = client(server.url)
        pieces = asyncio.run(first(api))
        with warnings.catch_warnings(action="ignore", category=ResourceWarning):  # asyncio's, for what was left open
            asyncio.run(pieces.aclose())
            asyncio.run(api.aclose())
            del api, pieces
            gc.collect()
        assert server.left.wait(3)


def test_a_task_that_its_loop_left_behind_ends_quietly():
    ignored = []
    with RawServer([HANG]) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "unraisablehook", lambda problem: ignored.append(problem.exc_value))
        api, loop = client(server.url), asyncio.new_event_loop()
        task = loop.create_task(ask(api))
        loop.run_until_complete(asyncio.sleep(0.2))
        task._log_destroy_pending = False
        loop.close()
        with warnings.catch_warnings(action="ignore", category=ResourceWarning):
            del api, task
            gc.collect()
        assert server.left.wait(3)
    assert [error for error in ignored if not isinstance(error, ResourceWarning)] == []


def test_only_its_own_loop_closes_what_is_open():
    async def elsewhere(close):
        with pytest.raises(prx.ConfigError, match="another event loop"):
            await close()

    async def main():
        with RawServer([*stream(delta("hel"), 0.3, delta("lo", "stop"), DONE)]) as server:
            async with client(server.url) as api, api.stream("hi", "compatible/m") as pieces:
                await anext(pieces)
                for thing in (api, pieces):
                    await asyncio.to_thread(asyncio.run, elsewhere(thing.aclose))
                return "".join([piece.content async for piece in pieces])

    assert run(main) == "lo"


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


def test_what_is_to_be_sent_is_not_written_to_a_connection_that_is_lost_meanwhile():
    """The server resets each connection at once, while the loop has other work: nothing fails but the calls."""
    failed, ended = [], []

    def reset(place):
        with contextlib.suppress(OSError):
            while True:
                taken, _ = place.accept()
                taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                taken.close()

    async def busy():
        while True:
            time.sleep(0.0005)  # noqa: ASYNC251 - the loop has to be late
            await asyncio.sleep(0)

    async def one(api):
        try:
            await ask(api)
        except prx.Error as error:
            ended.append(error.kind)

    async def main(place):
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context))
        other = asyncio.ensure_future(busy())
        async with client(f"http://127.0.0.1:{place.getsockname()[1]}/v1") as api:
            for _ in range(10):
                await asyncio.gather(*[one(api) for _ in range(10)])
        other.cancel()

    with socket.create_server(("127.0.0.1", 0), backlog=100) as place:
        thread = threading.Thread(target=reset, args=(place,), daemon=True)
        thread.start()
        run(lambda: main(place))
        place.shutdown(socket.SHUT_RDWR)
        thread.join(5)
    assert ended == ["connection"] * 100
    assert failed == []


# ------------------------------------------------------------------ another event loop


@pytest.mark.parametrize(
    ("test", "arguments"),
    [
        (test_chat_stream_and_models, ()),
        (test_256_streams_at_once_lose_nothing, ()),
        (test_leaving_early_or_forgetting_stops_the_provider, ()),
        (test_a_kept_connection_that_the_server_closes_is_noticed, ()),
        (test_a_large_body_that_is_refused_early, ()),
        (test_a_cancelled_task_leaves_no_connection_open_to_a_host_with_a_name, ()),
        (test_a_stream_may_be_closed_several_times, ()),
        (test_only_its_own_loop_closes_what_is_open, ()),
        (test_what_is_to_be_sent_is_not_written_to_a_connection_that_is_lost_meanwhile, ()),
        # Not https: what uvloop keeps of a handshake that is cancelled stays until the handshake's time is over.
        (test_calls_that_are_ended_at_any_step_leave_nothing, (None, "http")),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_it_works_on_uvloop(test, arguments, monkeypatch):
    """Services often run on it; it lacks some parameters that asyncio's loop has."""
    uvloop = pytest.importorskip("uvloop", reason="has no wheel for this system")
    monkeypatch.setitem(globals(), "run", lambda main: uvloop.run(main()))
    test(*arguments)
