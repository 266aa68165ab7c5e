"""A server in front of another that fails some of its requests, in the ways in which busy servers fail: the same number of
requests each time, for the same seed.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

# What a failing request gets: a status and headers, or (None) its connection is closed.
WAYS = (
    (500, {}),
    (503, {"retry-after-ms": "20"}),
    (429, {"retry-after-ms": "30"}),
    (529, {}),
    None,
)


class FlakyServer:
    """`with FlakyServer(url, share=0.3, seed=1) as flaky: … flaky.url`.

    script  what the first requests get, before chance decides
    begun   when each request was decided on, of the monotonic clock
    counts  how many requests were answered, and how many failed, by way
    most    how many requests were under way at once, at most
    """

    def __init__(self, url, share=0.0, seed=0, ways=WAYS, pause=0.0, script=()):
        self.target, self.share, self.ways, self.pause = urlsplit(url), share, ways, pause
        self.chance = random.Random(seed)
        self.lock = threading.Lock()
        self.counts, self.begun, self.running, self.most = Counter(), [], 0, 0
        self.script = list(script)
        self.gone = threading.Event()
        handler = type("Handler", (_Handler,), {"flaky": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}{self.target.path}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.gone.set()
        self.server.shutdown()
        self.server.server_close()

    def way(self):
        """What the next request gets: "" for an answer."""
        with self.lock:
            self.begun.append(time.monotonic())
            fails = self.chance.random() < self.share
            way = self.script.pop(0) if self.script else self.chance.choice(self.ways) if fails else ""
            self.counts[str(way[0] if way else way)] += 1
        return way


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.answer()

    def do_POST(self):
        self.answer()

    def answer(self):
        flaky = self.flaky
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        with flaky.lock:
            flaky.running += 1
            flaky.most = max(flaky.most, flaky.running)
        try:
            flaky.gone.wait(flaky.pause)
            way = flaky.way()
            if way is None:
                self.close_connection = True
            elif way:
                self.send(way[0], way[1], json.dumps({"error": {"message": "busy", "type": "overloaded"}}).encode())
            else:
                self.send(*self.passed_on(body))
        finally:
            with flaky.lock:
                flaky.running -= 1

    def passed_on(self, body):
        connection = http.client.HTTPConnection(self.flaky.target.hostname, self.flaky.target.port, timeout=30)
        with contextlib.closing(connection):
            headers = {
                name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")
            }
            connection.request(self.command, self.path, body, headers)
            response = connection.getresponse()
            return response.status, {"content-type": response.headers["content-type"]}, response.read()

    def send(self, status, headers, body):
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
