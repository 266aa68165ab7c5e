"""`prx serve` as a process of its own, and how tests ask it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time

CALLER, PROVIDER = "caller-key-3f9a", "sk-provider-key-77b1"


class Service:
    def __init__(self, folder, config, *arguments, tls=None, **more):
        """tls: the context of a client, where TLS is spoken. more: variables of its environment."""
        self.tls = tls
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.file, self.log = folder / "config.toml", folder / "log"
        self.file.write_text(config)
        env = {
            "HOME": str(folder),
            "PATH": os.environ["PATH"],
            "CALLER_KEY": CALLER,
            "UP_KEY": PROVIDER,
            "PRX_LOG": "debug",
        } | more
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "prx", "serve", "--config", self.file, "--port", str(self.port), *arguments],
                env=env, stdout=log, stderr=log, cwd=folder,
            )  # fmt: skip
        until = time.monotonic() + 30
        while self.process.poll() is None and time.monotonic() < until:
            with contextlib.suppress(OSError):
                if self.get("/health").status == 200:
                    return
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def connection(self):
        if self.tls is not None:
            return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=20, context=self.tls)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)

    def open(self, method, path, body=None, key=CALLER, **headers):
        connection = self.connection()
        sent = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        try:
            connection.request(
                method, path, data, sent | {name.replace("_", "-"): value for name, value in headers.items()}
            )
        except OSError:
            connection.close()  # one that is left open fails a later test, in which it is collected
            raise
        return connection

    def get(self, path, **more):
        return self.answer(self.open("GET", path, **more))

    def post(self, path, body, **more):
        return self.answer(self.open("POST", path, body, **more))

    @staticmethod
    def answer(connection):
        with contextlib.closing(connection):
            answer = connection.getresponse()
            answer.text = answer.read().decode()
        return answer

    def chat(self, model, *, stream=False, **more):
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": stream}
        return self.post("/v1/chat/completions", body | more.pop("also", {}), **more)

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()


@contextlib.contextmanager
def services(folder, *, never=("Traceback",)):
    """Gives what starts services with configurations of their own; they are stopped at the end. never: what no log may have."""
    started = []

    def start(config, *arguments, **env):
        own = folder / f"service-{len(started)}"
        own.mkdir()
        started.append(Service(own, config, *arguments, **env))
        return started[-1]

    yield start
    for running in started:
        running.stop()
        said = running.log.read_text()
        assert not [text for text in never if text in said], said


@contextlib.asynccontextmanager
async def running_here(app):
    """Our own server of an application, in this event loop: (it, its address). It has ended afterwards."""
    from prx.serve.process import Server  # imported here: not every Python that tests run in has the extra

    server = Server.of(app, "127.0.0.1", 0)
    serving = asyncio.ensure_future(server._serve())  # `serve` takes the signals of this process
    while not server.started:  # noqa: ASYNC110 - uvicorn tells nobody when it has started
        await asyncio.sleep(0.01)
    try:
        yield server, server.servers[0].sockets[0].getsockname()
    finally:
        if not server.should_exit:
            server.handle_exit(signal.SIGINT, None)
        await serving


def provider(name, url, dialect="openai-chat"):
    return f'[providers.{name}]\nextends = "{dialect}"\napi_url = "{url}"\napi_key = "${{UP_KEY}}"\nretries = 0\nmodel = "words"\n'


@contextlib.contextmanager
def begun(service, model, count=1):
    """A stream of which so many events have come: (answer, text so far)."""
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": True}
    connection = service.open("POST", "/v1/chat/completions", body)
    answer, text = connection.getresponse(), b""
    while text.count(b'"content":"') < count:
        text += answer.read1(4096)
    try:
        yield answer, text
    finally:
        answer.close()
        connection.close()


def until(holds):
    end = time.monotonic() + 8
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def command(folder, *arguments, **more):
    env = {"HOME": str(folder), "PATH": os.environ["PATH"]} | more
    return subprocess.run(
        [sys.executable, "-m", "prx", "serve", *arguments], cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False
    )  # fmt: skip
