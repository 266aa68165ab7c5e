"""A server that answers with what it is given, and keeps what it was asked."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server:
    """Answers with what it is given, one after the other, the last one again and again; keeps what was asked."""

    def __init__(self):
        self.answers, self.asked = [], []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.asked.append((self.path, dict(self.headers), body))
                status, kind, data = outer.answer(self.path, self.headers, body)
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()

    def answer(self, path, headers, body):
        """(status, content type, bytes) for a request."""
        status, answer, kind = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        answer = answer(json.loads(body)) if callable(answer) else answer
        return status, kind, answer if isinstance(answer, bytes) else json.dumps(answer).encode()

    def says(self, answer, status=200, kind="application/json"):
        self.answers.append((status, answer, kind))
        return self

    def body(self, place=-1):
        return json.loads(self.asked[place][2])
