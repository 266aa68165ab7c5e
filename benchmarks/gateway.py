"""Measure `prx serve` beside other gateways and beside none: CPU of a request and of a delta, and a delta's added delay.

    python benchmarks/gateway.py [--rounds N] [--targets a,b] [--out gateway.json]
    python benchmarks/run.py --setup aiohttp,litellm         # environments of the others; nginx is the system's

64 callers at once ask for whole answers, one after the other on a connection that is kept; then 64 streams run at once, with
a delta every 10 ms. Before that each gateway has some answers and streams that are not counted. CPU is that of the gateway's
processes, user and system, from /proc, so this needs Linux. In each round every gateway is asked, in an order that starts
with another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import math
import os
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click

HERE = Path(__file__).resolve().parent
VENVS = Path.home() / ".cache" / "prx-perf"
CALLERS, REQUESTS = 64, 2000
STREAMS, DELTAS, PAUSE = 64, 100, 10_000  # PAUSE: microseconds
KEY = "sk-" + "3f9c1a7be2" * 6
PLACES = {
    "whole": "events-50",
    "paced": f"events-{DELTAS},pause-{PAUSE},clock-1",
}  # by name; a comma would be several models
MESSAGES = [
    {"role": "system", "content": "You are a terse assistant."},
    {"role": "user", "content": "Explain a declarative adapter engine in one paragraph."},
]
PATIENCE = 90.0  # seconds that a gateway has to start
CLOCK = re.compile(rb'"content": ?" (\d+)"')  # a delta's text is the server's clock
TICKS = os.sysconf("SC_CLK_TCK")


class Place(NamedTuple):
    """Where a gateway is started: its folder, its port, the URL of the server behind it, the environments of others."""

    folder: Path
    port: int
    upstream: str
    venvs: Path

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path


class Gateway(NamedTuple):
    """command: the program to start, or None where what it needs is not here. model: that of a place on the server."""

    command: Callable[[Place], list[str] | None]
    model: str = "{}/m"
    path: str = "/v1/chat/completions"


def direct(_: Place) -> list[str]:
    """No gateway: the delay of a delta without one. The program only stands where a gateway would."""
    return ["sleep", "600"]


def aiohttp(place: Place) -> list[str] | None:
    python = place.venvs / "v-aiohttp" / "bin" / "python"
    program = [str(python), str(HERE / "gateways" / "pass_aiohttp.py")]
    return [*program, str(place.port), place.upstream, json.dumps(PLACES)] if python.exists() else None


def nginx(place: Place) -> list[str] | None:
    """A proxy that reads no body: the place stands in the path."""
    if (program := shutil.which("nginx") or shutil.which("/usr/sbin/nginx")) is None:
        return None
    host = place.upstream.removeprefix("http://")
    lines = f"""
daemon off; pid {place.folder}/pid; error_log {place.folder}/error.log; worker_processes 1;
events {{ worker_connections 4096; }}
http {{ access_log off; client_body_temp_path {place.folder}/b; proxy_temp_path {place.folder}/p;
fastcgi_temp_path {place.folder}/f; uwsgi_temp_path {place.folder}/u; scgi_temp_path {place.folder}/s;
upstream behind {{ server {host}; keepalive 128; }}
server {{ listen 127.0.0.1:{place.port} backlog=4096; location / {{ proxy_pass http://behind; proxy_http_version 1.1;
proxy_set_header Connection ""; proxy_buffering off; }} }} }}
"""
    return [program, "-c", str(place.write("nginx.conf", lines)), "-p", str(place.folder)]


def litellm(place: Place) -> list[str] | None:
    program = place.venvs / "v-litellm" / "bin" / "litellm"
    if not program.exists():
        return None
    parameters = {
        name: json.dumps({"model": "openai/m", "api_base": f"{place.upstream}/{path}/v1", "api_key": "sk-upstream"})
        for name, path in PLACES.items()
    }
    lines = ["model_list:"]
    for name, row in parameters.items():
        lines += [f"  - model_name: {json.dumps(f'{name}/m')}", f"    litellm_params: {row}"]
    lines += ["litellm_settings: {telemetry: false}", f"general_settings: {{master_key: {KEY}}}", ""]
    config = place.write("litellm.yaml", "\n".join(lines))
    return [
        str(program),
        "--config",
        str(config),
        "--host",
        "127.0.0.1",
        "--port",
        str(place.port),
        "--num_workers",
        "1",
    ]


def prx(dialect: str, base: str) -> Callable[[Place], list[str]]:
    """`prx serve` with one worker, in front of a server of this dialect."""

    def command(place: Place) -> list[str]:
        lines = [f'[serve]\nkeys = ["{KEY}"]']
        for name, path in PLACES.items():
            url = f"{place.upstream}/{path}{base}"
            lines.append(f'[providers."{name}"]\nextends = "{dialect}"\napi_url = "{url}"\napi_key = "sk-upstream"')
        config = place.write("config.toml", "\n".join(lines))
        options = ["--config", str(config), "--host", "127.0.0.1", "--port", str(place.port), "--workers", "1"]
        return [sys.executable, "-m", "prx", "serve", *options]

    return command


GATEWAYS = {
    "direct": Gateway(direct, "m", "/{}/v1/chat/completions"),
    "nginx": Gateway(nginx, "m", "/{}/v1/chat/completions"),
    "aiohttp": Gateway(aiohttp),
    "litellm": Gateway(litellm),
    "prx": Gateway(prx("openai-chat", "/v1")),
    "prx-between": Gateway(prx("anthropic-messages", "/v1")),
}


# ------------------------------------------------------------------ the load


class Caller(asyncio.Protocol):
    """One connection, and what comes on it. delays: of the deltas, in microseconds; None where they are not asked for."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.came = asyncio.Event()
        self.delays: list[float] | None = None
        self.rest = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.delays is not None:
            now = time.monotonic_ns()
            whole, end, self.rest = (self.rest + data).rpartition(b"\n")
            self.delays += [(now - int(sent)) / 1e3 for sent in CLOCK.findall(whole + end)]
        self.data += data
        self.came.set()

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        self.came.set()

    async def ask(self, request: bytes, ends: Callable[[bytearray], bool]) -> bytearray:
        self.data.clear()
        self.transport.write(request)
        while not ends(self.data) and self.transport is not None:
            self.came.clear()
            await self.came.wait()
        return self.data

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()


def is_whole(data: bytearray) -> bool:
    """Whether a response with a length, or in chunks, has come whole."""
    head, found, body = bytes(data).partition(b"\r\n\r\n")
    if not found:
        return False
    length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
    return len(body) >= int(length) if length else body.endswith(b"0\r\n\r\n")


def is_ended(data: bytearray) -> bool:
    return data.endswith(b"0\r\n\r\n")


def request(gateway: Gateway, place: str, *, stream: bool) -> bytes:
    asked = {"model": gateway.model.format(place), "messages": MESSAGES, "temperature": 0.2, "max_tokens": 256}
    body = json.dumps({**asked, "stream": stream}).encode()
    head = f"POST {gateway.path.format(PLACES[place])} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {KEY}\r\n"
    return f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


async def connected(port: int) -> Caller:
    return (await asyncio.get_running_loop().create_connection(Caller, "127.0.0.1", port))[1]


async def whole_answers(port: int, asked: bytes, count: int) -> int:
    """How many of `count` answers were not the right one, or broke off."""
    left, failed = iter(range(count)), 0

    async def one() -> None:
        nonlocal failed
        caller = await connected(port)
        for _ in left:
            answer = await caller.ask(asked, is_whole)
            failed += not answer.startswith(b"HTTP/1.1 200") or b"benchmark" not in answer
            caller = caller if caller.transport is not None else await connected(port)
        caller.close()

    await asyncio.gather(*(one() for _ in range(CALLERS)))
    return failed


async def streams(port: int, asked: bytes) -> tuple[list[float], int]:
    """(the delays of all deltas in microseconds, how many streams lost one)."""

    async def one(place: int) -> list[float]:
        await asyncio.sleep(
            place * PAUSE / STREAMS / 1e6
        )  # spread out: deltas that all come at once wait for each other
        caller = await connected(port)
        caller.delays = delays = []
        await caller.ask(asked, is_ended)
        caller.close()
        return delays

    found = await asyncio.gather(*map(one, range(STREAMS)))
    return [delay for delays in found for delay in delays], sum(len(delays) != DELTAS for delays in found)


# ------------------------------------------------------------------ the processes


def family(pid: int) -> Iterator[int]:
    yield pid
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                yield from family(int(child))


def cpu(pid: int) -> float:
    """Seconds of CPU of a process and all that it has started."""
    total = 0
    for each in family(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{each}/stat").read_text().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
    return total / TICKS


def memory(pid: int) -> float:
    """Megabytes of memory that they hold."""
    pages = 0
    for each in family(pid):
        with contextlib.suppress(OSError):
            pages += int(Path(f"/proc/{each}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@contextlib.contextmanager
def started(argv: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    env = {
        **os.environ,
        "HOME": str(folder),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        "NO_DOCS": "True",
    }
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(argv, env=env, cwd=folder, stdout=output, stderr=output, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


async def ready(port: int, asked: bytes, process: subprocess.Popen[bytes], folder: Path) -> None:
    until = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError):
            if not await whole_answers(port, asked, CALLERS):
                return
        if process.poll() is not None or time.monotonic() > until:
            raise click.ClickException((folder / "output").read_text(errors="replace")[-400:])
        await asyncio.sleep(0.1)


async def measure(gateway: Gateway, port: int, pid: int) -> dict[str, float]:
    asked, streamed = request(gateway, "whole", stream=False), request(gateway, "paced", stream=True)
    # Warm: caches filled, connections open, and what the first stream makes is made.
    await whole_answers(port, asked, REQUESTS // 4)
    await streams(port, streamed)
    before, since = cpu(pid), time.monotonic()
    failed = await whole_answers(port, asked, REQUESTS)
    between, took = cpu(pid), time.monotonic() - since
    delays, lost = await streams(port, streamed)
    return {
        "request": (between - before) / REQUESTS * 1e6,
        "rate": REQUESTS / took,
        "delta": (cpu(pid) - between) / (STREAMS * DELTAS) * 1e6,
        "delay": statistics.median(delays) if delays else math.nan,
        "failed": failed + lost,
        "memory": memory(pid),
    }


def one_round(name: str, upstream: str, venvs: Path) -> dict[str, float] | None:
    """The figures of one gateway, or None where it is not here."""
    gateway = GATEWAYS[name]
    with tempfile.TemporaryDirectory() as temporary:
        port = free_port()
        place = Place(Path(temporary), port, upstream, venvs)
        if (argv := gateway.command(place)) is None:
            return None
        at = int(upstream.rpartition(":")[2]) if name == "direct" else port
        with started(argv, place.folder) as process:

            async def all_of_it() -> dict[str, float]:
                await ready(at, request(gateway, "whole", stream=False), process, place.folder)
                return await measure(gateway, at, process.pid)

            return asyncio.run(all_of_it())


@click.command(help=__doc__)
@click.option("--rounds", default=5, show_default=True)
@click.option("--targets", "names", default=",".join(GATEWAYS), show_default=True)
@click.option("--out", default="gateway.json", show_default=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--venvs", default=VENVS, show_default=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--shared", is_flag=True, help="The machine has other work meanwhile: the page says so.")
def main(rounds: int, names: str, out: Path, venvs: Path, *, shared: bool) -> None:
    chosen = names.split(",")
    if unknown := set(chosen) - GATEWAYS.keys():
        raise click.ClickException(f"no gateway is called {min(unknown)!r}; there are {', '.join(GATEWAYS)}")
    rows: list[dict[str, Any]] = []
    server = subprocess.Popen([sys.executable, HERE / "server.py"], stdout=subprocess.PIPE, text=True)
    try:
        url = f"http://127.0.0.1:{server.stdout.readline().strip() if server.stdout else ''}"
        for round_ in range(rounds):
            first = round_ % len(chosen)
            for name in chosen[first:] + chosen[:first]:
                figures = one_round(name, url, venvs)
                if figures is None:
                    click.echo(f"{name}: left out, it is not installed")
                    continue
                rows.append({"target": name, "round": round_, **figures})
                told = "  ".join(f"{what} {value:,.1f}" for what, value in figures.items())
                click.echo(f"{round_} {name:12} {told}")
    finally:
        server.kill()
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors"
    about = {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "python": platform.python_version(),
        "machine": machine,
    }
    out.write_text(json.dumps({"about": {**about, "rounds": rounds, "shared": shared}, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
