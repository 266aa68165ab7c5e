"""One client in a program with forks, threads and signals: nobody gets another's answer, and every call has an end."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from raw import DONE, HANG, RawServer, delta, response, stream

import prx
from prx.transport.http import is_loopback

FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
QUIET = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


class Echo(http.server.BaseHTTPRequestHandler):
    """Says back what it was asked."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        time.sleep(0.002)
        body = json.dumps(
            {"choices": [{"message": {"content": asked["messages"][0]["content"]}, "finish_reason": "stop"}]}
        ).encode()
        self.send_response_only(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture(params=["http", "https"])
def echo(request, tmp_path):
    """(url, ca_file) of a server that says back what it is asked."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    server.daemon_threads = True
    files = [str(tmp_path / "key.pem"), str(tmp_path / "cert.pem")]
    if request.param == "https":
        import ssl

        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
             "subjectAltName=IP:127.0.0.1", "-keyout", files[0], "-out", files[1]], check=True, capture_output=True,
        )  # fmt: skip
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files[1], files[0])
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"{request.param}://127.0.0.1:{server.server_port}/v1", files[1] if request.param == "https" else None
    server.shutdown()
    server.server_close()


def client(url, ca_file=None, env=None):
    table = {"api_url": url, "api_key": "k", **({"ca_file": ca_file} if ca_file else {})}
    return prx.Client(config={"providers": {"compatible": table}}, env=env or {})


def in_child(work):
    """The exit code of a child that does this: 0 where it ends without an exception."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def ended(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# ------------------------------------------------------------------ forks


@FORKS
@QUIET
def test_parent_and_children_never_share_a_connection(echo):
    url, ca_file = echo
    with client(url, ca_file) as api:

        def ask(who, count=50):
            for number in range(count):
                wanted = f"{who}-{number}"
                assert api.chat(wanted, "compatible/m", retries=0, deadline=20).content == wanted

        ask("before", 2)  # a connection is kept that all of them inherit
        children = [in_child(lambda who=who: ask(f"child{who}")) for who in range(3)]
        ask("parent")
        assert [ended(child) for child in children] == [0, 0, 0]
        ask("after", 2)


@FORKS
@QUIET
def test_a_child_that_leaves_does_not_disturb_a_stream_of_its_parent(echo):
    url, ca_file = echo
    with client(url, ca_file) as api:
        api.chat("warm", "compatible/m")
        assert ended(in_child(api.close)) == 0
        assert api.chat("again", "compatible/m", retries=0).content == "again"


@FORKS
@QUIET
def test_a_stream_of_the_parent_is_not_read_by_its_child():
    with RawServer(stream(delta("hel"), 0.6, delta("lo", "stop"), DONE)) as server, client(server.url) as api:
        pieces = api.stream("hi", "compatible/m")
        assert next(pieces).content == "hel"

        def read():
            with pytest.raises(prx.Error, match="before a fork"):
                list(pieces)
            pieces.close()

        assert ended(in_child(read)) == 0
        assert "".join(piece.content or "" for piece in pieces) == "lo"


# ------------------------------------------------------------------ closed by another thread


@pytest.mark.parametrize(
    ("script", "retries"),
    [([HANG], 0), ([b"HTTP/1.1 200 OK\r\nx: ", HANG], 0), (response(500, {"error": {"message": "busy"}}), 20)],
    ids=["before the head", "in the head", "between attempts"],
)
def test_a_stream_that_waits_can_be_closed(script, retries):
    """Whatever it waits for; and the provider is left."""
    with RawServer(script) as server, client(server.url) as api:
        pieces = api.stream("hi", "compatible/m", timeout=30, retries=retries)
        failed = []

        def read():
            try:
                list(pieces)
            except prx.Error as error:
                failed.append(error)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        deadline = time.monotonic() + 5
        while not server.requests and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        pieces.close()
        reader.join(5)
        assert not reader.is_alive()
        assert len(failed) == 1
        asked = len(server.requests)
        time.sleep(0.7)
        assert len(server.requests) == asked, "nothing is sent after it was closed"


def test_a_stream_is_read_by_one_thread():
    with RawServer(stream(delta("hel"), 0.5, delta("lo", "stop"), DONE)) as server, client(server.url) as api:
        pieces = api.stream("hi", "compatible/m")
        found = []
        reader = threading.Thread(target=lambda: found.extend(piece.content for piece in pieces))
        reader.start()
        time.sleep(0.2)
        with pytest.raises(prx.ConfigError, match="another thread reads"):
            list(pieces)
        with pytest.raises(prx.ConfigError, match="another thread reads"):
            next(pieces)
        reader.join(5)
        assert "".join(text or "" for text in found) == "hello"
        assert pieces.reply.content == "hello"


# ------------------------------------------------------------------ signals

INTERRUPTED = """
    import random, signal, sys, time
    import prx
    url = sys.argv[1]
    api = prx.Client(config={"providers": {"compatible": {"api_url": url, "api_key": "k"}}}, env={})
    class Interrupt(KeyboardInterrupt): pass
    def stop(*_): raise Interrupt
    signal.signal(signal.SIGALRM, stop)
    random.seed(7)
    api.chat("warm", "compatible/m")
    interrupted = 0
    for number in range(400):
        try:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, 0.004))
            try:
                assert api.chat(f"q{number}", "compatible/m", retries=0, deadline=10).content == f"q{number}"
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except Interrupt:
            interrupted += 1
        except prx.Error as error:
            raise SystemExit(f"{number}: {error}")
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    assert interrupted > 20, interrupted
    for number in range(20):
        assert api.chat(f"z{number}", "compatible/m", retries=0, deadline=10).content == f"z{number}"
    print("ok")
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers on this system")
@pytest.mark.parametrize("echo", ["http"], indirect=True)
def test_calls_work_after_interrupts_at_any_moment(echo):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(INTERRUPTED), echo[0]],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("ok\n", 0), done.stderr[-2000:]


# ------------------------------------------------------------------ this machine by any name


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST", "localhost.", "a.localhost", "127.0.0.1", "127.8.9.1", "127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1",
     "::1", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1", "0.0.0.0", "0", "::", "ip6-localhost", "ip6-loopback", "::1%lo"],
)  # fmt: skip
def test_this_machine(host):
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "localhost.example.com",
        "127.example.com",
        "128.0.0.1",
        "example.com",
        "::2",
        "::ffff:10.0.0.1",
        "10.0.0.1",
        "",
        "127.0.0.1.nip.io",
        "fd00::1",
    ],
)
def test_other_machines(host):
    assert not is_loopback(host)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "127.1", "[::ffff:127.0.0.1]", "0.0.0.0"]
)
def test_no_proxy_of_the_environment_for_this_machine(host):
    with RawServer() as proxy, RawServer() as server:
        url = server.url.replace("127.0.0.1", host)
        env = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY"), proxy.url[:-3])
        with contextlib.suppress(prx.ProviderConnectionError):  # not every system takes every spelling; none goes to the proxy
            client(url, env=env).chat("hi", "compatible/m", retries=0, timeout=3)
        assert not proxy.requests
