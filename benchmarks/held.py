"""Streams held open on one event loop: python benchmarks/held.py [STREAMS]. Tells memory, and what a cancellation leaves.

A server in a process of its own sends each stream its first piece and then nothing. Needs as many open files as streams.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import resource
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "engine"))

import prx

PIECE = b'data: {"choices": [{"index": 0, "delta": {"content": "hello"}}]}\n\n'
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
AT_ONCE = 200  # connections that are being made; a listening socket's queue is short


async def serve(ports: multiprocessing.SimpleQueue[int]) -> None:
    held = 0

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal held
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + b"%x\r\n%s\r\n" % (len(PIECE), PIECE))
        held += 1
        while await reader.read(65536):
            pass
        held -= 1
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0, backlog=4096)
    ports.put(server.sockets[0].getsockname()[1])
    while True:
        await asyncio.sleep(0.05)
        ports.put(-held)


def in_a_process(ports: multiprocessing.SimpleQueue[int]) -> None:
    asyncio.run(serve(ports))


def resident() -> float:
    """MB of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def main(count: int, port: int, ports: multiprocessing.SimpleQueue[int]) -> None:
    config = {"providers": {"compatible": {"api_url": f"http://127.0.0.1:{port}/v1", "api_key": "k"}}}
    api = prx.AsyncClient(config=config, env={})
    begun, gate = asyncio.Semaphore(0), asyncio.Semaphore(AT_ONCE)

    async def hold() -> None:
        async with gate:
            pieces = api.stream("hi", "compatible/m", deadline=3600)
            await anext(pieces)
            begun.release()
        await anext(pieces)

    warm = asyncio.create_task(hold())
    await begun.acquire()
    warm.cancel()
    await asyncio.wait([warm])
    await asyncio.sleep(0.2)
    gc.collect()
    files, memory, started = open_files(), resident(), time.perf_counter()
    tasks = [asyncio.create_task(hold()) for _ in range(count)]
    for _ in tasks:
        await begun.acquire()
    gc.collect()
    say(
        f"{count:,} streams held: {time.perf_counter() - started:.1f} s to open, {(resident() - memory) / count * 1000:.1f} KB each"
    )
    started = time.perf_counter()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    await asyncio.sleep(0)
    gone = time.perf_counter() - started
    tasks.clear()
    gc.collect()
    while (held := -ports.get()) > 0:  # noqa: ASYNC110 - the server is another process
        await asyncio.sleep(0)
    left = [open_files() - files, len(asyncio.all_tasks()) - 1, len(api._whole), held]  # noqa: SLF001 - what is left inside counts
    say(
        f"cancelled all at once: {gone:.1f} s; left: {left[0]} files, {left[1]} tasks, {left[2]} calls, {left[3]} streams at the server"
    )
    await api.aclose()
    if any(left):
        raise SystemExit(1)


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < wanted + 200:
        raise SystemExit(f"{wanted} streams need as many open files; this process may have {hard}: see ulimit -Hn")
    queue: multiprocessing.SimpleQueue[int] = multiprocessing.SimpleQueue()
    server = multiprocessing.Process(target=in_a_process, args=(queue,), daemon=True)
    server.start()
    try:
        asyncio.run(main(wanted, queue.get(), queue))
    finally:
        server.terminate()
