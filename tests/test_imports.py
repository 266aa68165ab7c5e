"""What is imported when: `import prx` brings little, a client all that its calls need, and a call nothing."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import textwrap

import pytest
from helpers.byte_server import COMPLETION, DONE, RawServer, delta, response, stream

CALLS = """
    import asyncio, json, sys
    import prx
    config = {"providers": {"compatible": {"api_url": sys.argv[2], "api_key": "k"}}}
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    asked = [{}, {"tools": [tool]}, {}, {}, {}, {}]
    def failing(call):
        try:
            call()
        except prx.Error:
            pass
    before = set()
    def blocking():
        api = prx.Client(config=config, env={})
        before.update(sys.modules)
        for options in asked:
            failing(lambda: api.chat("hi [IMAGE:x.png]", "compatible/m", retries=0, deadline=20, **options))
        for _ in range(2):
            failing(lambda: list(api.stream("hi", "compatible/m", retries=0, deadline=20)))
    async def asynchronous():
        api = prx.AsyncClient(config=config, env={})
        before.update(sys.modules)
        for options in asked:
            try:
                await api.chat("hi [IMAGE:x.png]", "compatible/m", retries=0, deadline=20, **options)
            except prx.Error:
                pass
        for _ in range(2):
            try:
                async with api.stream("hi", "compatible/m", retries=0, deadline=20) as pieces:
                    async for _ in pieces:
                        pass
            except prx.Error:
                pass
        await api.aclose()
    blocking() if sys.argv[1] == "Client" else asyncio.run(asynchronous())
    print(json.dumps(sorted(set(sys.modules) - before)))
"""
TWO_LINES = (
    b'data: {"choices":\ndata: [{"delta": {"content": "lo"}}]}\n\n'  # the one kind of event that sseclient-py reads
)


@pytest.mark.parametrize("client", ["Client", "AsyncClient"])
def test_a_call_imports_nothing(client):
    """Of a provider whose file is kept on disk: the first process that reads one loads what reads YAML."""
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    calling = {"choices": [{"message": {"content": None, "tool_calls": [call]}, "finish_reason": "tool_calls"}]}
    packed = gzip.compress(json.dumps(COMPLETION).encode())
    scripts = [
        response(), response(200, calling), response(200, packed, "content-encoding: gzip"),
        response(429, {"error": {"message": "slow"}}, "retry-after: Wed, 21 Oct 2065 07:28:00 GMT"), response(404, {"error": {"message": "no model m"}}),
        response(200, {}), [*stream(delta("hel"), TWO_LINES, delta("", "stop"), DONE)], [*stream(delta("hel"))],
    ]  # fmt: skip
    for _ in range(2):  # the first keeps on disk what the second finds there
        with RawServer(*scripts) as server:
            done = subprocess.run(
                [sys.executable, "-c", textwrap.dedent(CALLS), client, server.url],
                capture_output=True, text=True, timeout=120, check=False,
            )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert len(server.requests) == len(scripts)
    assert json.loads(done.stdout) == []


def test_the_command_line_imports_the_command_that_is_asked_for():
    code = "import sys, prx.cli; print(*sorted({'yaml', 'requests', 'jsonschema', 'prx.conformance', 'prx.emulator', 'prx.cli.chat'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
