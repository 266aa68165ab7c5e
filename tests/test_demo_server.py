"""The demo's server under everything that is sent to a port: it answers to this machine, in time, and says nothing odd."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

import pytest

from prx.emulator import gate
from prx.emulator.brain import answer
from prx.emulator.server import Emulator

BODY = json.dumps({"model": "words", "messages": [{"role": "user", "content": "Say hello."}]}).encode()


@pytest.fixture(scope="module")
def demo():
    """`prx demo --serve`, in a process of its own; its standard error has nothing in it at the end."""
    command = [sys.executable, "-m", "prx", "demo", "--serve", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        url = running.stdout.readline().split()[2].rstrip(";")
        try:
            yield urlsplit(url).port
        finally:
            running.kill()
            assert running.stderr.read() == ""


def exchanged(port, data, seconds=10):
    """All that comes back for some bytes, up to the end of the connection; None where that does not come in time."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(data)
        received = b""
        try:
            while part := connection.recv(65536):
                received += part
        except ConnectionResetError:
            pass
        except TimeoutError:
            return None
        return received


def request(*headers, host="127.0.0.1", body=BODY, line="POST /v1/chat/completions HTTP/1.1", length=None):
    head = [line, *([f"Host: {host}"] if host is not None else []), "Connection: close", *headers]
    head += [f"Content-Length: {len(body) if length is None else length}"] if length != "" else []
    return "\r\n".join([*head, "", ""]).encode() + body


def status(answer):
    return int(answer.split(b" ", 2)[1])


# ------------------------------------------------------------------ whose name it answers to

OURS = [
    "127.0.0.1", "127.0.0.1:{port}", "localhost", "LOCALHOST:{port}", "localhost.", "Localhost.:1", "a.localhost", "127.0.0.2:80",
    "127.1", "2130706433", "0x7f000001:80", "0177.0.0.1", "[::1]", "[::1]:{port}", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]:1", "ip6-localhost",
    "localhost:", "localhost.localdomain",
]  # fmt: skip
STRANGE = [
    "evil.test", "evil.test:{port}", "localhost.evil.test", "127.0.0.1.evil.test", "evil-localhost", "localhostx", "xlocalhost", "127.0.0.1@evil.test",
    "evil.test@127.0.0.1", "10.0.0.1", "192.168.1.1:{port}", "[::2]", "[fe80::1]", "[::ffff:10.0.0.1]", "0.0.0.0", "[::]", "", ":{port}", "[::1", "::1", "localhost:x",
    "127.0.0.1 evil.test", "127.0.0.1, evil.test", "http://127.0.0.1", "127.0.0.1/", "128.0.0.1", "1270.0.0.1", "127.0.0.1.1", "12.7.0.0.1", "[evil.test]", "[127.0.0.1]",
]  # fmt: skip


@pytest.mark.parametrize("host", OURS)
def test_it_answers_to_this_machine(demo, host):
    for line in ("POST /v1/chat/completions HTTP/1.1", "GET /v1/models HTTP/1.1"):
        answer = exchanged(demo, request(host=host.format(port=demo), line=line, body=BODY if "POST" in line else b""))
        assert status(answer) == 200, answer


@pytest.mark.parametrize("host", STRANGE)
def test_it_answers_to_nobody_else(demo, host):
    """A page may have its own name mean 127.0.0.1, and would read what it asks."""
    for line in ("POST /v1/chat/completions HTTP/1.1", "GET /v1/models HTTP/1.1"):
        answer = exchanged(demo, request(host=host.format(port=demo), line=line, body=BODY if "POST" in line else b""))
        assert status(answer) in (400, 421), answer
        assert b"words" not in answer


def test_one_host_and_no_more(demo):
    assert status(exchanged(demo, request("Host: evil.test"))) == 400
    assert status(exchanged(demo, request("Host: 127.0.0.1"))) == 400
    assert status(exchanged(demo, request(host=None))) == 400
    assert status(exchanged(demo, request(host=None, line="POST /v1/chat/completions HTTP/1.0"))) == 200, (
        "it knew no Host yet"
    )


# ------------------------------------------------------------------ what it reads

LENGTHS = {
    "a word": ("abc", 400), "negative": ("-1", 400), "with a sign": ("+5", 400), "with a point": ("5.0", 400), "with an underscore": ("1_0", 400), "empty": (" ", 400),
    "two": ("5, 5", 400), "hexadecimal": ("0x5", 400), "of other digits": ("\u0665", 400), "a terabyte": ("1000000000000", 413), "of thousands of digits": ("9" * 5000, 413),
    "just too large": (str(gate.MAX_BYTES + 1), 413),
}  # fmt: skip


@pytest.mark.parametrize(("length", "wanted"), LENGTHS.values(), ids=LENGTHS)
def test_a_length_that_is_none(demo, length, wanted):
    begin = time.monotonic()
    assert status(exchanged(demo, request(length=length))) == wanted
    assert time.monotonic() - begin < 5


def test_lengths_that_differ(demo):
    assert status(exchanged(demo, request("Content-Length: 5"))) == 400
    assert status(exchanged(demo, request(f"Content-Length: {len(BODY)}"))) == 200
    assert status(exchanged(demo, request("Transfer-Encoding: chunked", length="", body=b"0\r\n\r\n"))) == 411


BODIES = {
    "deep lists": b"[" * 100_000, "deep and whole": b"[" * 100_000 + b"]" * 100_000, "deep mappings": b'{"a":' * 100_000,
    "deep in a message": BODY.replace(b'"Say hello."', b"[" * 50_000 + b"]" * 50_000), "a number of many digits": b'{"model":' + b"9" * 50_000 + b"}",
    "empty": b"", "a text": b'"x"', "null": b"null", "no JSON": b"{", "not UTF-8": b'{"model": "\xff"}', "UTF-16": '{"model": "words"}'.encode("utf-16"), "zeros": b"\0" * 1000,
    "messages that are none": b'{"model": "words", "messages": 5}', "a message that is none": b'{"model": "words", "messages": [5]}',
    "a stop that is none": BODY[:-1] + b', "stop": true}', "a limit that is none": BODY[:-1] + b', "max_tokens": "x"}',
    "a tool that is none": BODY[:-1] + b', "tools": [true]}',
}  # fmt: skip


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_body_that_is_none(demo, body):
    answer = exchanged(demo, request(body=body))
    assert status(answer) in (400, 404)
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"]


LINES = {
    "no request": b"\r\n\r\n", "a word": b"x\r\n\r\n", "bytes": bytes(range(256)) * 10 + b"\r\n\r\n", "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "a long line": b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n", "a long header": b"GET /v1/models HTTP/1.1\r\nx: " + b"x" * 100_000 + b"\r\n\r\n",
    "many headers": b"GET /v1/models HTTP/1.1\r\n" + b"x: y\r\n" * 1000 + b"\r\n", "another method": b"PUT /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "another version": b"GET /v1/models HTTP/9.9\r\nHost: localhost\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("data", LINES.values(), ids=LINES)
def test_a_head_that_is_none(demo, data):
    answer = exchanged(demo, data)
    assert answer is not None
    assert answer == b"" or 400 <= status(answer) < 600
    assert status(exchanged(demo, request())) == 200, "it goes on"


@pytest.mark.parametrize("data", [b"", b"POST /v1", request()[:-9], request(length=10**6)[:-9]])
def test_a_caller_who_leaves(demo, data):
    with socket.create_connection(("127.0.0.1", demo)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset in place of an end
        connection.sendall(data)
        time.sleep(0.1)
    assert status(exchanged(demo, request())) == 200


# ------------------------------------------------------------------ how long it waits


@pytest.fixture
def quick(monkeypatch):
    for name in ("IDLE", "HEAD", "BODY"):
        monkeypatch.setattr(gate, name, 0.5)
    with Emulator() as emulator:
        yield urlsplit(emulator.url).port


@pytest.mark.parametrize(
    "data", [request(), b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nx: y"], ids=["whole", "head"]
)
@pytest.mark.parametrize("drips", [True, False])
def test_a_request_that_does_not_come(quick, data, drips):
    """However its bytes come in, a head and a body have an end, and so has the thread that waits for them."""
    with socket.create_connection(("127.0.0.1", quick), timeout=8) as connection:
        connection.sendall(data[:20])
        begin = time.monotonic()
        stop = threading.Event()
        dripping = threading.Thread(target=_drip, args=(connection, data[20:-1], stop))
        if drips:
            dripping.start()
        try:
            answer = connection.recv(65536)
        finally:
            stop.set()
        if drips:
            dripping.join()
    assert status(answer) == 408
    assert 0.3 < time.monotonic() - begin < 5


def test_a_body_that_does_not_come(quick):
    assert status(exchanged(quick, request()[:-5])) == 408
    assert status(exchanged(quick, request(length=10**6))) == 408


def test_a_caller_who_says_nothing(quick):
    before = threading.active_count()
    assert exchanged(quick, b"", seconds=8) == b""
    connections = [socket.create_connection(("127.0.0.1", quick)) for _ in range(20)]
    time.sleep(2)
    assert threading.active_count() <= before + 1, "no thread is held"
    for connection in connections:
        connection.close()


def _drip(connection, data, stop):
    for place in range(len(data)):
        with contextlib.suppress(OSError):
            connection.sendall(data[place : place + 1])
        if stop.wait(0.05):
            return


def test_a_connection_is_kept_for_the_next_request(quick):
    first = request().replace(b"Connection: close\r\n", b"")
    with socket.create_connection(("127.0.0.1", quick), timeout=8) as connection:
        for _ in range(3):
            connection.sendall(first)
            answer = b""
            while b"total_tokens" not in answer:
                answer += connection.recv(65536)
            assert status(answer) == 200
            time.sleep(0.1)


# ------------------------------------------------------------------ a call that the prompt words


TOOLS = [
    {"type": "function", "function": {"name": "start", "parameters": {"properties": {"what": {"type": "string"}}, "required": ["what", "who"]}}},
    {"type": "function", "function": {"name": "read", "parameters": {"properties": {}}}},
]  # fmt: skip


@pytest.mark.parametrize(
    ("prompt", "calls"),
    [
        ('Call read with {"path": "/a b", "lines": [1]}, please.', [("read", {"path": "/a b", "lines": [1]})]),
        ('Call write with {"path": "a"}', []),
        ("Call read with {path}", []),
        ("Look in Paris", []),  # the first tool needs more than a text
    ],
)
def test_a_prompt_words_a_call(prompt, calls):
    asked = [{"role": "user", "content": prompt}, {"role": "system", "content": "in London"}]
    assert answer(asked, TOOLS, reason=False).calls == calls
