"""Many callers who come at once: each is let in at once, whatever the event loop does by itself."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket

import pytest
import uvloop

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


def test_requests_that_are_over_leave_nothing_for_the_garbage_collector(tmp_path):
    (tmp_path / "config.toml").write_text("")

    async def main():
        server = Server.of(App(config=str(tmp_path / "config.toml"), env={"HOME": str(tmp_path)}), "127.0.0.1", 0)
        server.lifespan = server.config.lifespan_class(server.config)
        await server.startup()
        reader, writer = await asyncio.open_connection(*server.servers[0].sockets[0].getsockname())
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                writer.write(b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
                await reader.readuntil(b"}")
            return sum(type(each).__name__ == "RequestResponseCycle" for each in gc.get_objects())
        finally:
            gc.enable()
            writer.close()
            await server.shutdown()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(main()) <= 2
