"""A server of bytes: plays a script to each request, and keeps what it was sent. Real sockets on loopback."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import subprocess
import threading
import time

HANG, RST, FIN = "hang", "rst", "fin"
COMPLETION = {
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
}


def response(status=200, body=None, *headers):
    data = body if isinstance(body, bytes) else json.dumps(COMPLETION if body is None else body).encode()
    lines = [f"HTTP/1.1 {status} X", "content-type: application/json", f"content-length: {len(data)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def stream(*pieces, head=(), end=True):
    """Pieces of a chunked event stream; a number is a pause."""
    yield (
        b"\r\n".join([b"HTTP/1.1 200 OK", b"content-type: text/event-stream", b"transfer-encoding: chunked", *head])
        + b"\r\n\r\n"
    )
    for piece in pieces:
        yield piece if not isinstance(piece, bytes) else b"%x\r\n%s\r\n" % (len(piece), piece)
    if end:
        yield b"0\r\n\r\n"


def delta(text, finish=None):
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': {'content': text}, 'finish_reason': finish}]})}\n\n".encode()


DONE = b"data: [DONE]\n\n"


def own_authority(folder):
    """What a server of this machine speaks TLS with, and the file of the authority that nobody trusts unasked."""
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context, str(cert)


def _value(body):
    """The JSON value of a body; the bytes of one that is a form with a file, None without a body."""
    try:
        return json.loads(body) if body else None
    except ValueError:
        return body


class RawServer:
    """scripts: one a request (the last one again for more): bytes to send, numbers to sleep, HANG, RST, FIN."""

    def __init__(self, *scripts, tls=None):
        self.scripts = [list(script) if not isinstance(script, bytes) else [script] for script in scripts] or [
            [response()]
        ]
        self.requests, self.connections = [], 0
        self.tls = tls
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}/v1"
        self.closed = threading.Event()
        self.left = threading.Event()  # set when a client closes before the script is over

    def __enter__(self):
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *exc):
        """Closing alone does not wake `accept`. A signal would begin it anew, on whatever socket has the number by then."""
        self.closed.set()
        self.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join(5)
        assert not self.thread.is_alive()
        self.socket.close()

    def _accept(self):
        while not self.closed.is_set():
            with contextlib.suppress(OSError):
                client, _ = self.socket.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with contextlib.suppress(OSError, ssl.SSLError):
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls:
                client = self.tls.wrap_socket(client, server_side=True)
            while request := self._read(client):
                self.requests.append(request)
                script = self.scripts[min(len(self.requests), len(self.scripts)) - 1]
                if not self._play(client, script):
                    break
        with contextlib.suppress(OSError):
            client.close()

    def _read(self, client):
        data = b""
        while b"\r\n\r\n" not in data:
            piece = client.recv(65536)
            if not piece:
                return None
            data += piece
            if data[:1] == b"\x16":  # a client that speaks TLS to us, who do not
                data = b"TLS\r\n\r\n"
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        while len(body) < int(headers.get("content-length", 0)):
            body += client.recv(65536)
        return {"line": lines[0], "headers": headers, "body": _value(body)}

    def _play(self, client, script):
        for op in script:
            if isinstance(op, bytes):
                try:
                    client.sendall(op)
                except OSError:
                    self.left.set()
                    return False
            elif isinstance(op, int | float):
                time.sleep(op)
            elif op == HANG:
                client.settimeout(10)
                try:
                    has_left = not client.recv(1)
                except ConnectionError:  # closed with bytes unread: a reset
                    has_left = True
                if has_left:
                    self.left.set()
                return False
            elif op == RST:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                client.close()
                return False
            else:
                return False
        return True
