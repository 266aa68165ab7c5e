"""What a call of the service leaves to Python's garbage collector, which runs rarely there: nothing."""

from __future__ import annotations

import asyncio
import gc
import json

import pytest
from helpers.byte_server import DONE, RST, RawServer, delta, own_authority, response, stream
from helpers.served import provider, running_here
from helpers.short_ways import ANSWER

from prx.serve.app import App

MESSAGES = [{"role": "user", "content": "hi"}]
WHOLE, STREAM = {"messages": MESSAGES}, {"messages": MESSAGES, "stream": True}
ANSWERS = {
    "an answer": [response()],
    "a stream": [*stream(delta("hel"), delta("lo", "stop"), DONE)],
    "a refusal": [response(400, {"error": {"message": "no"}})],
    "a broken connection": [RST],
    "a broken answer": [response()[:-5], RST],
    "a broken stream": [*stream(delta("hel")), RST],
    "an error in a stream": [*stream(delta("hel"), b'data: {"error": {"message": "no"}}\n\n')],
}


async def opened(port, body, path="/v1/chat/completions"):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data)
    return reader, writer


async def asked(port, body, *path):
    reader, writer = await opened(port, body, *path)
    assert await asyncio.wait_for(reader.read(), 20)
    writer.close()


async def left_early(port, body, *path):
    _, writer = await opened(port, body, *path)
    await asyncio.sleep(0.02)
    writer.transport.abort()


async def unreachable(ask):
    """What only the collector frees after several of these calls: the names of the types, without what asyncio leaves by itself."""
    for _ in range(3):  # what is made once is made
        await ask()
    await asyncio.sleep(0.1)
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    for _ in range(5):
        await ask()
    await asyncio.sleep(0.1)
    gc.collect()
    gc.set_debug(0)
    found = [
        item
        for item in gc.garbage
        if type(item).__name__ in {"frame", "traceback", "coroutine", "Task"} or "prx" in type(item).__module__
    ]
    gc.garbage.clear()
    return {getattr(item, "__qualname__", type(item).__name__) for item in found}


async def served(folder, url, ask, more=""):
    """more: settings of the provider."""
    config = folder / "config.toml"
    config.write_text(provider("raw", url).replace("${UP_KEY}", "sk") + more)
    async with running_here(App(config=str(config), env={"HOME": str(folder)})) as (_, (_, port)):
        gc.disable()
        try:
            return await unreachable(lambda: ask(port))
        finally:
            gc.enable()


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("body", [WHOLE, STREAM], ids=["whole", "stream"])
@pytest.mark.parametrize("ask", [asked, left_early])
def test_a_call_leaves_nothing_to_the_collector(tmp_path, answer, body, ask):
    with RawServer(ANSWERS[answer]) as server:
        assert asyncio.run(served(tmp_path, server.url, lambda port: ask(port, {"model": "raw/m", **body}))) == set()


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize("ask", [asked, left_early])
def test_a_call_on_a_short_way_leaves_nothing_to_the_collector(tmp_path, answer, path, ask):
    """As all calls after the first two of their form are, or the first one between dialects."""
    whole = response(body=ANSWER)
    with RawServer(whole, whole, ANSWERS[answer]) as server:
        body = {"model": "raw/m", **WHOLE, "max_tokens": 9}
        assert asyncio.run(served(tmp_path, server.url, lambda port: ask(port, body, path))) == set()


@pytest.mark.parametrize("answer", ["an answer", "a broken answer", "a broken stream"])
@pytest.mark.parametrize("ask", [asked, left_early])
def test_a_call_by_tls_leaves_nothing_to_the_collector(tmp_path, answer, ask):
    tls, authority = own_authority(tmp_path)
    with RawServer(ANSWERS[answer], tls=tls) as server:
        left = served(
            tmp_path, server.url, lambda port: ask(port, {"model": "raw/m", **STREAM}), f'ca_file = "{authority}"\n'
        )
        assert asyncio.run(left) == set()


@pytest.mark.parametrize("body", [{"model": "nobody", **WHOLE}, {"model": "raw/m"}, {"model": "raw/m", "messages": 3}])
def test_a_call_that_is_refused_leaves_nothing_to_the_collector(tmp_path, body):
    with RawServer() as server:
        assert asyncio.run(served(tmp_path, server.url, lambda port: asked(port, body))) == set()
