"""A real Redis, of the program redis-server, for the time of a test."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess

from helpers.served import until


class RedisServer:
    def __init__(self, folder, *options):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder, self.options = folder, options
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--save", "", "--bind", "127.0.0.1", *self.options],
            cwd=self.folder, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        assert until(self.answers)

    def answers(self):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as raw:
            raw.sendall(b"PING\r\n")
            return raw.recv(100).startswith((b"+PONG", b"-NOAUTH"))
        return False

    def stop(self):
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        self.process.wait(10)
