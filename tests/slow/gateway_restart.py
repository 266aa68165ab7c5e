"""Two processes of `prx serve` behind nginx, restarted in turn by SIGTERM under load: python tests/slow/gateway_restart.py --seconds 120

nginx runs with docs/deploy/nginx.conf as it stands, but for ports and the place of its log. The provider fails in nothing and
no caller leaves, so every call must be answered, wholly, whatever is restarted meanwhile; each process must end with
code 0, and within its grace. Half of the calls stream, some for a second. With --workers N each of the two has so many.
Exit 1 with a sentence where something fails; 77 where nginx is not installed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import click
from answers import Answer
from gateway import FACES, Asked, BrokenError, Connection, Events, Gateway, free_port
from serving import Process
from watching import Violations, say

PAGE = Path(__file__).parents[2] / "docs" / "deploy" / "nginx.conf"
CONFIG = """[serve]
keys = ["${{CALLER_KEY}}"]
grace = 20
[providers.up]
extends = "openai-chat"
api_url = "{url}"
api_key = "${{LOAD_KEY}}"
retries = 0
model = "m"
"""
AROUND = """daemon off;
pid {folder}/nginx.pid;
error_log {folder}/errors;
worker_processes 2;
{user}
events {{ worker_connections 1024; }}
http {{
    client_body_temp_path {folder}/bodies;
    proxy_temp_path {folder}/answers;
    fastcgi_temp_path {folder}/unused;
    uwsgi_temp_path {folder}/unused;
    scgi_temp_path {folder}/unused;
    include {folder}/prx.conf;
}}
"""
SKIPPED = 77
LONG = 0.1  # part of the streams that last for about a second
PATIENCE = 40.0


class Nginx:
    """nginx with the page's file, before these two ports."""

    def __init__(self, program, folder, ports):
        self.folder, self.port = Path(folder) / "nginx", free_port()
        self.folder.mkdir()
        places = {
            "127.0.0.1:8081": f"127.0.0.1:{ports[0]}",
            "127.0.0.1:8082": f"127.0.0.1:{ports[1]}",
            "listen 80;": f"listen 127.0.0.1:{self.port};",
            "/var/log/nginx/prx.log": f"{self.folder}/log",
        }
        text = PAGE.read_text()
        for old, new in places.items():
            head, found, tail = text.rpartition(old)
            assert found, f"{PAGE.name} has no {old}"
            text = head + new + tail
        (self.folder / "prx.conf").write_text(text)
        main = self.folder / "nginx.conf"
        main.write_text(AROUND.format(folder=self.folder, user="user root;" if is_root() else ""))
        self.process = subprocess.Popen([program, "-c", main, "-e", self.folder / "errors"])
        until = time.monotonic() + 10
        while not self.listens():
            if self.process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"nginx did not start:\n{(self.folder / 'errors').read_text()}")
            time.sleep(0.05)

    def listens(self):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def errors(self):
        """{what nginx says of connections to a process: how often}."""
        lines = (self.folder / "errors").read_text().splitlines()
        said = (re.sub(r".*\*\d+ ", "", line).partition(", client")[0] for line in lines if "upstream" in line)
        return Counter(said)

    def served(self):
        """(calls that the log has, calls that were sent to a second process)."""
        lines = (self.folder / "log").read_text().splitlines()
        return len(lines), sum(", " in line for line in lines)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.process.terminate()
        self.process.wait()


def is_root():
    return Path("/proc/self").stat().st_uid == 0


class Callers:
    """Calls without a pause but one's own answers, and what became of each."""

    def __init__(self, port, violations, seed):
        self.port, self.violations, self.seed = port, violations, seed
        self.outcomes, self.over = Counter(), False

    async def caller(self, place, pause):
        chance, connection = random.Random(self.seed * 1000 + place), None
        while not self.over:
            name, stream = chance.choice(list(FACES)), chance.random() < 0.5
            try:
                if connection is None or not connection.kept:
                    if connection is not None:
                        connection.close()
                    connection = await Connection.to(self.port)
                wrong = await asyncio.wait_for(call(connection, chance, name, stream=stream), PATIENCE)
            except (OSError, EOFError, ValueError, TimeoutError, LookupError, BrokenError) as error:
                wrong = f"{type(error).__name__}: {error}"
                if connection is not None:
                    connection.close()
            self.outcomes["lost" if wrong else "stream" if stream else "whole"] += 1
            self.violations.must(not wrong, f"{name} {'stream' if stream else 'whole'}: {wrong}")
            await asyncio.sleep(chance.uniform(0, 2 * pause))
        if connection is not None:
            connection.close()


async def call(connection, chance, name, *, stream):
    """Make a call; what of its answer is wrong, or ""."""
    face, answer = FACES[name], Answer(f"t{chance.getrandbits(64):016x}")
    pause = 0.08 if stream and chance.random() < LONG else 0.0
    path, body = Asked(face, stream, "up/m").request({"token": answer.token, "pause": pause})
    await connection.ask(path, body, x_request_id=answer.token)
    await connection.head()
    events, data = Events(), b""
    async for piece in connection.body():
        data += piece
    if connection.status != 200:
        return f"{connection.status} {data[:200]!r}"
    if connection.headers.get("x-request-id") != answer.token:
        return f"x-request-id is {connection.headers.get('x-request-id')}"
    if not stream:
        text = face.whole(json.loads(data))
    else:
        text = "".join(face.piece(event) for event in events.feed(data) if event != "[DONE]")
        if sum(map(face.ends, events.all)) != 1:
            return f"no mark of the end: {data[-200:]!r}"
    return "" if text == answer.text else f"{text!r} is not {answer.text!r}"


def restarts(gateways, until, violations):
    """End one after the other, each when the one before is ready again. Seconds that each took to end."""
    took = []
    while time.monotonic() < until:
        for gateway in gateways:
            began = time.monotonic()
            code = gateway.end()
            took.append(time.monotonic() - began)
            violations.must(code == 0, f"a process ended with {code}")
            gateway.start()
            time.sleep(0.5)
    return sorted(took)


async def judged(nginx, gateways, violations, asked):
    seconds, number, rate, seed = asked
    callers = Callers(nginx.port, violations, seed)
    running = [asyncio.ensure_future(callers.caller(place, number / rate)) for place in range(number)]
    await asyncio.sleep(1)
    took = await asyncio.to_thread(restarts, gateways, time.monotonic() + seconds, violations)
    callers.over = True
    _, late = await asyncio.wait(running, timeout=PATIENCE + 5)
    violations.must(not late, f"{len(late)} callers still wait")
    violations.must(callers.outcomes["whole"] + callers.outcomes["stream"] > 0, "no call succeeded")
    logged, again = nginx.served()
    say(f"{sum(callers.outcomes.values())} calls ({dict(callers.outcomes)}), {len(took)} restarts")
    say(f"a process took {took[len(took) // 2]:.1f} s to end (median), {took[-1]:.1f} s at most")
    say(f"nginx: {logged} calls, {again} of them sent on to the other process; its errors: {dict(nginx.errors())}")


@click.command(help=__doc__)
@click.option("--seconds", default=60.0, show_default=True)
@click.option("--callers", default=32, show_default=True)
@click.option("--rate", default=100.0, show_default=True, help="Calls a second that are begun, at most.")
@click.option("--workers", default=1, show_default=True)
@click.option("--seed", default=1, show_default=True)
def main(seconds, callers, rate, workers, seed):
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        say("skipped: nginx is not installed (Debian: apt-get install nginx-light)")
        sys.exit(SKIPPED)
    violations = Violations()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Process())
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        config = CONFIG.format(url=server.url)
        gateways = [stack.enter_context(Gateway(folder, config, workers=workers)) for _ in range(2)]
        nginx = stack.enter_context(Nginx(program, folder, [gateway.port for gateway in gateways]))
        asyncio.run(judged(nginx, gateways, violations, (seconds, callers, rate, seed)))
        for gateway in gateways:
            said = gateway.log.read_text()
            violations.must("a bug of prx" not in said and "Traceback" not in said, f"the log: {said[-2000:]}")
    raise SystemExit(violations.report())


if __name__ == "__main__":
    main()
