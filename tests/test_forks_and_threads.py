"""One client in a program with forks, threads and signals: nobody gets another's answer, and every call has an end."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from helpers.byte_server import DONE, HANG, RawServer, delta, own_authority, response, stream

import prx
from prx.transport.proxies import is_loopback, of_environment

FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
QUIET = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


class Echo(http.server.BaseHTTPRequestHandler):
    """Says back what it was asked."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body go out at once

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
    ca_file = None
    if request.param == "https":
        context, ca_file = own_authority(tmp_path)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    yield f"{request.param}://127.0.0.1:{server.server_port}/v1", ca_file
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


@contextlib.contextmanager
def full_queue():
    """The port of a listener that lets nobody connect."""
    with socket.socket() as full, contextlib.ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            blocker = stack.enter_context(socket.socket())
            blocker.setblocking(False)
            blocker.connect_ex(full.getsockname())
        time.sleep(0.1)
        yield full.getsockname()[1]


@contextlib.contextmanager
def deaf():
    """The port of a listener that takes connections and never says a word, nor reads one."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@contextlib.contextmanager
def reading(work):
    """What another thread, which does this, has failed with; it ends promptly once the block has."""
    failed = []

    def run():
        try:
            work()
        except prx.Error as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    time.sleep(0.4)
    yield failed
    started = time.monotonic()
    thread.join(5)
    assert time.monotonic() - started < 1.5


@pytest.mark.parametrize("how", ["stream", "client", "deadline"])
@pytest.mark.parametrize(
    ("listener", "scheme", "size"),
    [(full_queue, "http", 2), (full_queue, "https", 2), (deaf, "https", 2), (deaf, "http", 30_000_000)],
    ids=["connecting", "connecting for TLS", "in the handshake", "in an upload"],
)
def test_what_has_no_answer_yet_can_be_ended(listener, scheme, size, how):
    with listener() as port, client(f"{scheme}://127.0.0.1:{port}/v1") as api:
        more = {"deadline": 0.8} if how == "deadline" else {}
        pieces = api.stream("x" * size, "compatible/m", timeout=30, retries=0, **more)
        with reading(lambda: list(pieces)) as failed:
            {"stream": pieces.close, "client": api.close, "deadline": lambda: None}[how]()
        assert [error.kind for error in failed] == ["timeout" if how == "deadline" else "connection"]


@pytest.mark.parametrize("script", [[HANG], response(500, {"error": {"message": "busy"}})], ids=["head", "pause"])
def test_closing_the_client_ends_its_calls(script):
    with RawServer(script) as server, client(server.url) as api:
        with reading(lambda: api.chat("hi", "compatible/m", timeout=30, retries=20)) as failed:
            api.close()
        assert len(failed) == 1
        with RawServer() as other:
            assert client(other.url).chat("hi", "compatible/m").content == "hello"


@pytest.mark.parametrize("how", ["stream", "client"])
@pytest.mark.parametrize("by", ["loop", "next"])
def test_a_stream_that_is_closed_between_two_pieces(by, how):
    """Its reader is told: what it has is not the whole answer."""
    script = stream(delta("hel"), *[delta("."), 0.02] * 400)
    with RawServer(script) as server, client(server.url) as api:
        pieces = api.stream("hi", "compatible/m", retries=0)
        got, closed = threading.Event(), threading.Event()

        def read():
            if by == "next":
                next(pieces)
                got.set()
                closed.wait(5)
                while True:
                    next(pieces)
            for _ in pieces:
                got.set()
                closed.wait(5)

        with reading(read) as failed:
            assert got.wait(5)
            (pieces if how == "stream" else api).close()
            closed.set()
        assert [error.kind for error in failed] == ["truncated"]
        assert failed[0].partial.content.startswith("hel")
        assert server.left.wait(3), "the provider was not told"


@pytest.mark.parametrize("read", [list, next], ids=["loop", "next"])
@pytest.mark.parametrize("entered", [False, True], ids=["not begun", "entered"])
def test_a_stream_that_is_closed_before_its_first_piece(entered, read):
    """It is no empty answer."""
    with RawServer(stream(delta("hel"), delta("lo", "stop"), DONE)) as server, client(server.url) as api:
        pieces = api.stream("hi", "compatible/m", retries=0)
        if entered:
            pieces.__enter__()
        closer = threading.Thread(target=pieces.close)
        closer.start()
        closer.join()
        with pytest.raises(prx.TruncatedError, match="was closed"):
            read(pieces)
        assert len(server.requests) == entered


def test_a_stream_that_its_reader_has_closed_is_no_shorter_answer():
    with RawServer(stream(delta("hel"), delta("lo", "stop"), DONE)) as server, client(server.url) as api:
        pieces = api.stream("hi", "compatible/m")
        assert next(pieces).content == "hel"
        pieces.close()
        for read in (list, next, list):
            with pytest.raises(prx.TruncatedError, match="was closed"):
                read(pieces)
        whole = api.stream("hi", "compatible/m")
        assert len(list(whole)) == 2
        whole.close()
        assert (list(whole), whole.reply.content) == ([], "hello")


def test_a_loop_over_a_stream_that_another_thread_waits_for():
    with RawServer(stream(delta("hel"), 0.5, delta("lo", "stop"), DONE)) as server, client(server.url) as api:
        pieces = api.stream("hi", "compatible/m")
        assert next(pieces).content == "hel"
        with reading(lambda: next(pieces)) as failed, pytest.raises(prx.ConfigError, match="another thread is reading"):
            list(pieces)
        assert not failed


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers on this system")
def test_a_handler_of_a_signal_may_close_the_client():
    """Whatever it interrupts: the first call, which makes the connections, too."""
    code = """
        import faulthandler, signal, sys
        import prx
        faulthandler.dump_traceback_later(50, exit=True)
        api = None
        def client():
            global api
            api = prx.Client(config={"providers": {"compatible": {"api_url": sys.argv[1], "api_key": "k"}}}, env={})
        signal.signal(signal.SIGALRM, lambda *_: api.close())
        from prx.transport import blocking
        made = blocking.Http.__init__
        def slowly(*given):
            signal.raise_signal(signal.SIGALRM)
            made(*given)
        blocking.Http.__init__ = slowly
        client()
        assert api.chat("hi", "compatible/m").content == "hello"
        api.close()
        print("ok")
    """
    with RawServer() as server:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), server.url],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.stdout, done.returncode) == ("ok\n", 0), done.stderr[-2000:]


def test_a_stream_is_read_by_one_thread():
    with RawServer(stream(delta("hel"), 0.5, delta("lo", "stop"), DONE)) as server, client(server.url) as api:
        pieces = api.stream("hi", "compatible/m")
        found = []
        reader = threading.Thread(target=lambda: found.extend(piece.content for piece in pieces))
        reader.start()
        time.sleep(0.2)
        with pytest.raises(prx.ConfigError, match="another thread is reading"):
            list(pieces)
        with pytest.raises(prx.ConfigError, match="another thread is reading"):
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


EACH_STEP = """
    import faulthandler, itertools, sys
    import prx
    api = prx.Client(config={"providers": {"compatible": {"api_url": sys.argv[1], "api_key": "k"}}}, env={})
    class Interrupt(KeyboardInterrupt): pass
    def ask(text):
        assert api.chat(text, "compatible/m", retries=0, deadline=20).content == text
    def interrupted(step):
        steps = itertools.count()
        def watch(frame, event, argument):
            if event in ("call", "c_return") and next(steps) == step:  # where Python itself looks for signals
                sys.setprofile(None)
                raise Interrupt
        sys.setprofile(watch)
        try:
            ask(f"q{step}")
            return False
        except Interrupt:
            return True
        finally:
            sys.setprofile(None)
    faulthandler.dump_traceback_later(60, exit=True)
    ask("warm")
    step = 0
    while interrupted(step):
        ask(f"z{step}")
        step += 1
    assert step > 300, step
    print("ok")
"""


@pytest.mark.parametrize("echo", ["http"], indirect=True)
def test_calls_work_after_an_interrupt_at_each_step(echo):
    """At the beginning of each function of Python that a call goes through, and behind each of C."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(EACH_STEP), echo[0]],
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
     "::1", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1", "0.0.0.0", "0", "::", "ip6-localhost", "ip6-loopback", "::1%lo", "::ffff:7f00:1", "[::1]", "127.0.0.1.", "IP6-Loopback.", "a.b.localhost."],
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
        with contextlib.suppress(
            prx.ProviderConnectionError
        ):  # not every system takes every spelling; none goes to the proxy
            client(url, env=env).chat("hi", "compatible/m", retries=0, timeout=3)
        assert not proxy.requests


@pytest.mark.parametrize(
    ("said", "url", "excepted"),
    [
        ("host.test:443", "https://host.test/v1", True),
        ("host.test:8443", "https://host.test/v1", False),
        ("host.test:8443", "https://a.host.test:8443/v1", True),
        ("host.test.", "https://host.test/v1", True),
        (".host.test", "https://host.test./v1", True),
        ("*.host.test", "https://A.Host.test/v1", True),
        ("host.test", "https://nothost.test/v1", False),
        ("other.test, host.test", "https://host.test/v1", True),
        ("*", "https://host.test/v1", True),
        ("[fd00::]/8", "https://[fd00::7]/v1", True),
        ("fd00::/8", "https://[fd00::7]/v1", True),
        ("[fd00::7]:443", "https://[fd00::7]/v1", True),
        ("[fd00::7]:8443", "https://[fd00::7]/v1", False),
        ("fd00::7", "https://[fd00:0::7]/v1", True),
        ("10.0.0.0/8", "https://10.1.2.3/v1", True),
        ("10.0.0.0/8", "https://[::ffff:10.1.2.3]/v1", True),
        ("10.0.0.0/8", "https://11.1.2.3/v1", False),
        ("3", "https://10.1.2.3/v1", False),
        ("10.1.2.3:443", "https://10.1.2.3/v1", True),
        ("", "https://host.test/v1", False),
        (" ,:, .", "https://host.test/v1", False),
    ],
)
def test_no_proxy(said, url, excepted):
    found = of_environment(url, {"ALL_PROXY": "http://proxy.test:1", "NO_PROXY": said})
    assert found == ("" if excepted else "http://proxy.test:1")
