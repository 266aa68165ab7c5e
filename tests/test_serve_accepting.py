"""Many callers who come at once: each is let in at once, whatever the event loop does by itself."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time

import pytest
import uvloop
from helpers.byte_server import own_authority
from helpers.served import running_here

from prx.serve import drain
from prx.serve.app import App
from prx.serve.process import Server

CALLERS, TURNS = 150, 20


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_all_who_wait_are_let_in_within_a_few_turns_of_the_loop(tmp_path, loop):
    (tmp_path / "config.toml").write_text("")

    async def main():
        server = Server.of(App(config=str(tmp_path / "config.toml"), env={"HOME": str(tmp_path)}), "127.0.0.1", 0)
        server.lifespan = server.config.lifespan_class(server.config)
        await server.startup()
        place = server.servers[0].sockets[0].getsockname()
        with contextlib.ExitStack() as callers:
            for _ in range(CALLERS):  # the loop does not run meanwhile
                callers.enter_context(socket.create_connection(place))
            for _ in range(TURNS):
                await asyncio.sleep(0)
            let_in = len(server.server_state.connections)
        await server.shutdown()
        return let_in

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(main()) == CALLERS


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_who_was_let_in_and_never_begins_tls_does_not_hold_up_the_end(tmp_path, monkeypatch, loop):
    monkeypatch.setattr(drain, "_HANDSHAKE", 0.5)
    own_authority(tmp_path)
    config = tmp_path / "config.toml"
    config.write_text(f'[serve]\ntls_cert = "{tmp_path}/cert.pem"\ntls_key = "{tmp_path}/key.pem"\ngrace = 20\n')

    async def main():
        with contextlib.ExitStack() as callers:
            async with running_here(App(config=str(config), env={"HOME": str(tmp_path)})) as (server, place):
                callers.enter_context(socket.create_connection(place))
                await asyncio.sleep(0.2)
                began = time.monotonic()
                server.handle_exit(signal.SIGTERM, None)
            return time.monotonic() - began

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(main()) < 10


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("path", ["/health", "/nothing", "/v1/models"])
def test_who_says_that_nothing_more_comes_is_answered(tmp_path, path, loop):
    """As `nc -N` does, and scripts that look whether a service runs."""
    (tmp_path / "config.toml").write_text("")

    async def main():
        answers = []
        app = App(config=str(tmp_path / "config.toml"), env={"HOME": str(tmp_path)})
        async with running_here(app) as (_, place):
            for _ in range(10):
                reader, writer = await asyncio.open_connection(*place)
                writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
                writer.write_eof()
                answers.append((await reader.read())[:9])
                writer.close()
        return answers

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(main()) == [b"HTTP/1.1 "] * 10
