"""Pieces of text that are handed on while the task of their call waits: byte for byte what the call itself would have sent."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import random
import re
import socket
import time
import weakref
from types import SimpleNamespace

import pytest
import uvloop
from helpers.byte_server import DONE, HANG, RawServer, stream
from helpers.served import running_here
from test_serve_streams import _long_stream as long_stream
from test_serve_streams import _unnamed as unnamed
from test_serve_streams import chunk, provider

from prx.serve import door, writes
from prx.serve.answer import Answer
from prx.serve.app import App
from prx.serve.relay import Relay
from prx.serve.shortcut import Shortcut
from prx.serve.wire import Body, LeftError, Request
from prx.serve.writes import DIRECT, Direct

WORDS = [chunk({"content": f"w{number} "}) for number in range(40)]
PAUSE = 0.004  # so that each piece comes by itself


def served(folder, url, ask, limits="", loop=uvloop.new_event_loop, serve=""):
    """What `ask`, a coroutine function of a port, gives of our own server in front of a provider. limits: of its connections. serve: its settings."""
    config, files = folder / "config.toml", folder / "files"
    config.write_text(serve + provider("raw", url).replace("${UP_KEY}", "sk"))
    files.mkdir(exist_ok=True)
    if limits:
        config.write_text("")
        (files / "raw.yaml").write_text(
            f"spec: 1\nid: raw\nextends: openai-chat\nbase_url: {url}\nauth: {{style: none}}\nretry: {{times: 0}}\ntransport: {limits}\n"
        )

    async def main():
        app = App(config=str(config), providers=str(files), env={"HOME": str(folder)})
        async with running_here(app) as (_, (_, port)):
            return await ask(port)

    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(main())


def request(also=None, connection="close"):
    body = {"model": "raw/words", "messages": [{"role": "user", "content": "hi"}], "stream": True, **(also or {})}
    data = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: {connection}\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    return head.encode() + data


async def opened(port, also=None):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request(also))
    return reader, writer


async def answered(port):
    """The body of a streamed answer, without its chunks."""
    reader, writer = await opened(port)
    text = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    _, _, rest = text.partition(b"\r\n\r\n")
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        body += rest[:length]
        assert rest[length : length + 2] == b"\r\n"
        rest = rest[length + 2 :]
    return body.decode()


def left_of(made):
    """Asks twice, the second time without the garbage collector, and gives what these weak references lead to then."""

    async def ask(port):
        await answered(port)
        gc.collect()
        gc.disable()
        try:
            await answered(port)
            await asyncio.sleep(0.1)
            return [each() for each in made]
        finally:
            gc.enable()

    return ask


@pytest.fixture
def used(monkeypatch):
    """How many pieces each use of the shortcut has handed on; 0 for one that was left to the call."""
    counts = []

    def counted(self, pieces, real=Shortcut.__call__):
        done = real(self, pieces)
        counts.append(len(pieces) if done else 0)
        return done

    monkeypatch.setattr(Shortcut, "__call__", counted)
    return counts


@pytest.mark.parametrize("seed", range(24))
def test_it_sends_what_the_call_would_send(tmp_path, monkeypatch, used, seed):
    chance = random.Random(seed)
    pieces = long_stream(seed) if seed % 3 else [*WORDS, chunk({}, "stop"), DONE]
    script = [part for piece in pieces for part in ((piece, PAUSE) if chance.random() < 0.8 else (piece,))]
    loop = uvloop.new_event_loop if seed % 2 else asyncio.new_event_loop
    texts = []
    for offer in (door.offer_direct, lambda _: None):
        monkeypatch.setattr(door, "offer_direct", offer)
        with RawServer(stream(*script)) as server:
            texts.append(unnamed(served(tmp_path, server.url, answered, loop=loop)))
    assert texts[0] == texts[1]
    assert seed % 3 or sum(used) > 20


@pytest.mark.parametrize("odd", ["<think>", "a <th", "h\ud83d", "b\x7fd", "\ufffd", "</think>"])
def test_it_ends_where_text_is_read_as_something_else(tmp_path, monkeypatch, used, odd):
    """What was held back, or stands between tags, is not in the bytes of its event; and bytes that are no UTF-8 are no text."""
    strange = chunk({"content": odd}).replace(b"\\u007f", b"\xff").replace(b"\x7f", b"\xff")
    script = [part for piece in [*WORDS[:20], strange, *WORDS[20:], chunk({}, "stop"), DONE] for part in (piece, PAUSE)]
    texts = []
    for offer in (door.offer_direct, lambda _: None):
        monkeypatch.setattr(door, "offer_direct", offer)
        with RawServer(stream(*script)) as server:
            texts.append(unnamed(served(tmp_path, server.url, answered)))
    assert texts[0] == texts[1]
    assert sum(used) > 5


def test_what_comes_within_a_chunk_is_no_chunk_of_its_own(tmp_path, monkeypatch, used):
    """A chunk whose length has come before it, and whose content looks like a chunk that has all that is wanted."""
    inner = b"%x\r\n%b\r\n" % (len(WORDS[30]), WORDS[30])
    odd = [b"%x\r\n" % len(inner), 0.05, inner, 0.05, b"\r\n", 0.05]
    before, after = ([part for piece in some for part in (piece, PAUSE)] for some in (WORDS[:20], WORDS[20:]))
    head, *rest = stream(*before, *after, chunk({}, "stop"), DONE)
    script = [head, *rest[: len(before)], *odd, *rest[len(before) :]]
    texts = []
    for offer in (door.offer_direct, lambda _: None):
        monkeypatch.setattr(door, "offer_direct", offer)
        with RawServer(script) as server:
            texts.append(unnamed(served(tmp_path, server.url, answered)))
    assert texts[0] == texts[1]
    assert texts[0].count("w30 ") == 2
    assert sum(used) > 5


@pytest.mark.parametrize(
    "change",
    [
        lambda word: [word.replace(b"data: ", b"data:")],  # not all readers take it without the space
        lambda word: [b"id: 7\n", PAUSE, word],  # the event has begun before the piece that would fit
        lambda word: [word.replace(b"\n", b"\r\n")],
    ],
)
def test_events_that_are_not_as_they_are_written_take_the_long_way(tmp_path, monkeypatch, used, change):
    words = [part for word in WORDS for part in (*change(word), PAUSE)]
    texts = []
    for offer in (door.offer_direct, lambda _: None):
        monkeypatch.setattr(door, "offer_direct", offer)
        with RawServer(stream(*words, chunk({}, "stop"), DONE)) as server:
            texts.append(unnamed(served(tmp_path, server.url, answered)))
    assert texts[0] == texts[1]
    assert sum(used) == 0


def test_the_reply_and_what_was_written_have_what_it_hands_on(tmp_path, monkeypatch, used):
    known = []

    def noted(self, status, error=None, reply=None, real=Answer._note):
        known.append((reply.content, self._writer._weaver._blocks[0]["text"]))
        real(self, status, error, reply)

    monkeypatch.setattr(Answer, "_note", noted)
    script = [part for piece in [*WORDS, chunk({}, "stop"), DONE] for part in (piece, PAUSE)]
    with RawServer(stream(*script)) as server:
        served(tmp_path, server.url, answered)
    assert known == [("".join(f"w{number} " for number in range(40)),) * 2]
    assert sum(used) > 20


def test_what_it_hands_on_breaks_a_silence(tmp_path, used):
    """So a comment is only sent where nothing else was for as long as `ping` says."""
    words = [part for piece in WORDS for part in (piece, 0.05)]
    with RawServer(stream(*words, 1.0, chunk({}, "stop"), DONE)) as server:
        text = served(tmp_path, server.url, answered, serve="[serve]\nping = 0.6\n")
    assert sum(used) > 20
    assert text.count(": ping\n\n") == 1
    assert text.index("w39 ") < text.index(": ping")


def test_what_it_hands_on_is_counted(tmp_path, used):
    """So the limit of a body holds."""
    script = [part for piece in [*WORDS, chunk({}, "stop"), DONE] for part in (piece, PAUSE)]
    with RawServer(stream(*script)) as server:
        text = served(tmp_path, server.url, answered, "{max_body: 4096}")
    assert "4096" in text.partition('"error"')[2], text
    assert sum(used) > 10
    assert len(text.partition('data: {"error"')[0]) < 4400  # the first events are longer than they came


def test_a_provider_that_falls_silent_behind_it_is_given_up_in_time(tmp_path, used):
    """Pieces that the call itself has not seen put the end of its wait off, and the last of them does, too."""
    words = [part for piece in WORDS for part in (piece, 0.02)]  # in all longer than the limit
    began = time.monotonic()
    with RawServer(stream(*words, HANG, end=False)) as server:
        text = served(tmp_path, server.url, answered, "{idle: 0.5}")
    assert "w39 " in text
    assert '"kind":"timeout"' in text.replace(" ", "")
    assert sum(used) > 20
    assert time.monotonic() - began < 15


def test_a_caller_who_leaves_stops_the_provider(tmp_path, used):
    async def ask(port):
        reader, writer = await opened(port)
        await asyncio.wait_for(reader.readuntil(b"w9 "), 20)
        writer.close()
        return await asyncio.to_thread(server.left.wait, 10)

    words = itertools.chain.from_iterable((chunk({"content": f"w{number} "}), 0.02) for number in range(400))
    with RawServer(stream(*words)) as server:
        assert served(tmp_path, server.url, ask)
    assert sum(used) > 2


def test_a_caller_who_reads_slowly_gets_all_of_it(tmp_path, monkeypatch, used):
    """What he has not taken waits at the provider, and not here."""
    long = "x" * 3000
    pieces = [part for number in range(600) for part in (chunk({"content": f"w{number} {long}"}), 0.001)]
    written, waiting = [], []

    def counted(self, piece, real=Direct.write):
        caller = self._cycle.transport.get_extra_info("socket")
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # the system's own buffers would hold all of it
        written.append(real(self, piece))
        waiting.append(self._cycle.transport.get_write_buffer_size())
        return written[-1]

    monkeypatch.setattr(Direct, "write", counted)

    async def ask(port):
        caller = socket.socket()
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        caller.connect(("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=caller)
        writer.write(request())
        await asyncio.wait_for(reader.readuntil(b"w3 "), 20)
        await asyncio.sleep(1)
        text = await asyncio.wait_for(reader.read(), 30)
        writer.close()
        return text

    with RawServer(stream(*pieces, chunk({}, "stop"), DONE)) as server:
        text = served(tmp_path, server.url, ask)
    assert [int(number) for number in re.findall(rb"w(\d+) ", text)] == [*range(4, 600)]
    assert b"[DONE]" in text
    assert sum(used) > 10
    assert False in written
    assert max(waiting) < 150_000


@pytest.mark.parametrize("stream_", [True, False])
def test_a_caller_who_leaves_before_anything_has_come_stops_the_provider(tmp_path, stream_):
    async def ask(port):
        _, writer = await opened(port, {"stream": stream_})
        while not server.requests:  # noqa: ASYNC110 - filled by another thread
            await asyncio.sleep(0.01)
        writer.close()
        return await asyncio.to_thread(server.left.wait, 10)

    with RawServer([HANG]) as server:
        assert served(tmp_path, server.url, ask)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("together", [True, False])
def test_a_caller_who_leaves_with_a_further_request_sent_stops_the_provider(tmp_path, caplog, loop, together):
    async def ask(port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request(connection="keep-alive") * (1 + together))
        await asyncio.wait_for(reader.readuntil(b"w9 "), 20)
        if not together:
            writer.write(request(connection="keep-alive"))
            await asyncio.wait_for(reader.readuntil(b"w19 "), 20)
        writer.transport.abort()
        return await asyncio.to_thread(server.left.wait, 3)

    words = itertools.chain.from_iterable((chunk({"content": f"w{number} "}), 0.02) for number in range(400))
    with RawServer(stream(*words)) as server:
        assert served(tmp_path, server.url, ask, loop=loop)
    assert len(server.requests) == 1
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


def test_a_request_that_is_over_leaves_nothing_for_the_garbage_collector(tmp_path, monkeypatch):
    made = []

    class Watched(Direct):
        def __init__(self, cycle):
            super().__init__(cycle)
            made.append(weakref.ref(cycle))

    monkeypatch.setattr(writes, "Direct", Watched)

    with RawServer(stream(*WORDS, chunk({}, "stop"), DONE)) as server:
        assert served(tmp_path, server.url, left_of(made)) == [None, None]


def test_who_has_left_before_the_whole_body_is_read_has_sent_no_wrong_one():
    headers = [(b"content-type", b"application/json")]
    scope = {"method": "POST", "path": "/", "query_string": b"", "headers": headers}
    cycle = SimpleNamespace(chunked_encoding=None, more_body=False, scope=scope)

    async def receive():
        return {"type": "http.disconnect"}

    writes.offer_direct(cycle)
    assert DIRECT in scope["extensions"]
    with pytest.raises(LeftError):
        asyncio.run(Body(Request.of(scope, receive, receive), 100, 1).json())


def test_a_stream_that_is_over_leaves_nothing_for_the_garbage_collector(tmp_path, monkeypatch, used):
    made = []

    class Watched(Relay):
        def __init__(self, *args, **more):
            super().__init__(*args, **more)
            made.append(weakref.ref(self))

    monkeypatch.setattr("prx.serve.answer.Relay", Watched)

    script = [part for piece in [*WORDS, chunk({}, "stop"), DONE] for part in (piece, PAUSE)]
    with RawServer(stream(*script)) as server:
        assert served(tmp_path, server.url, left_of(made)) == [None, None]
    assert sum(used) > 20
