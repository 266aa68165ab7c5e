"""prx serve under load and attack, as a process: several workers, slow and many callers, TLS, logs, and Redis."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest
from helpers.byte_server import DONE, HANG, RawServer, delta, own_authority, stream
from helpers.served import Service, begun, command, provider, until

from prx.emulator.server import Emulator


@pytest.fixture(scope="module")
def upstream():
    with Emulator({"models": ["words"]}) as running:
        yield running


@pytest.fixture
def own(tmp_path):
    """Starts services with configurations of their own."""
    started = []

    def start(config, *arguments, **env):
        folder = tmp_path / str(len(started))
        folder.mkdir()
        started.append(Service(folder, config, *arguments, **env))
        return started[-1]

    yield start
    for running in started:
        running.stop()
        assert "Traceback" not in running.log.read_text()


# ------------------------------------------------------------------ several workers


def workers_of(service):
    """The processes that serve, by what /proc says: children of the first one that run Python's spawn_main."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == service.process.pid and b"spawn_main" in (path / "cmdline").read_bytes():
                found.append(int(path.name))
    return found


def counted(text, name):
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if re.match(rf"{name}(\{{| )", line))


def metric(service, name):
    return counted(service.get("/metrics").text, name)


DURATIONS = "gen_ai_server_request_duration_seconds_count"


def test_metrics_are_those_of_all_workers_also_of_one_that_was_replaced(own, upstream):
    running = own(provider("up", upstream.url), "--workers", "2")
    for _ in range(20):
        assert running.chat("up/words").status == 200
    assert until(lambda: metric(running, DURATIONS) == 20)
    first, _ = workers_of(running)
    os.kill(first, signal.SIGKILL)
    assert until(lambda: len(workers_of(running)) == 2 and first not in workers_of(running))
    assert {metric(running, DURATIONS) for _ in range(10)} == {20}
    assert running.chat("up/words").status == 200
    assert until(lambda: metric(running, DURATIONS) == 21)
    text = running.get("/metrics").text
    assert text.count("\nprx_reload_problems ") == text.count("\nprx_calls_running ") == 1
    assert "pid=" not in text


def test_calls_of_a_worker_that_died_run_no_more(own):
    with RawServer([*stream(delta("hel"), HANG)]) as server:
        running = own(provider("slow", server.url), "--workers", "2")
        with contextlib.ExitStack() as open_calls:
            for _ in range(6):
                open_calls.enter_context(begun(running, "slow/words"))
            assert {metric(running, "prx_calls_running") for _ in range(6)} == {6}
            for pid in workers_of(running):
                os.kill(pid, signal.SIGKILL)
            assert until(lambda: calm(running) == 0)
            assert len(workers_of(running)) == 2


def calm(service):
    with contextlib.suppress(OSError, http.client.HTTPException):
        return metric(service, "prx_calls_running")
    return None


def test_faults_of_a_reload_are_not_counted_once_a_worker(own, upstream):
    text = provider("up", upstream.url)
    running = own(text, "--workers", "3")
    running.file.write_text("[nonsense")
    running.process.send_signal(signal.SIGHUP)
    assert until(lambda: metric(running, "prx_reload_problems") == 1)
    assert {metric(running, "prx_reload_problems") for _ in range(12)} == {1}
    running.file.write_text(text)
    assert until(lambda: metric(running, "prx_reload_problems") == 0)
    assert {metric(running, "prx_reload_problems") for _ in range(12)} == {0}


# ------------------------------------------------------------------ slow, large and many


POST = b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"


def sent(service, data=b""):
    raw = socket.create_connection(("127.0.0.1", service.port), timeout=10)
    raw.sendall(data)
    return raw


def rest_of(raw):
    """All that comes until the connection is closed."""
    text = b""
    with contextlib.suppress(ConnectionResetError):
        while data := raw.recv(65536):
            text += data
    return text


def drip(raw, data, seconds):
    """Send a byte after another, so many seconds long; gives whether the connection was closed meanwhile."""
    end = time.monotonic() + seconds
    with contextlib.suppress(OSError):
        while time.monotonic() < end:
            raw.sendall(data)
            time.sleep(0.1)
        return False
    return True


@pytest.fixture(scope="module")
def impatient(tmp_path_factory, upstream):
    text = "[serve]\nreceive_timeout = 1\nmax_head = 4000\nmax_connections = 30\n" + provider("up", upstream.url)
    running = Service(tmp_path_factory.mktemp("impatient"), text)
    yield running
    running.stop()
    assert "Traceback" not in running.log.read_text()


def test_a_head_that_does_not_come_is_closed(impatient):
    with sent(impatient) as silent, sent(impatient, POST) as begun_only, sent(impatient, POST + b"x-a: ") as dripping:
        began = time.monotonic()
        assert drip(dripping, b"a", 4)
        assert time.monotonic() - began < 3
        assert rest_of(silent) == b""
        assert rest_of(begun_only).startswith(b"HTTP/1.1 408 ")


def test_a_body_that_does_not_come_is_408_in_the_faces_shape(impatient):
    head = POST + b"content-length: 100\r\n\r\n"
    with sent(impatient, head + b"{") as begun_only, sent(impatient, head) as dripping:
        assert drip(dripping, b" ", 4)
        answer = rest_of(begun_only)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["type"] == "timeout_error"


def test_a_large_body_may_take_its_time(impatient):
    body = json.dumps({"model": "up/words", "max_tokens": 9, "messages": [{"role": "user", "content": "x" * 60_000}]})
    data, began = body.encode(), time.monotonic()
    with sent(impatient, POST + f"connection: close\r\ncontent-length: {len(data)}\r\n\r\n".encode()) as raw:
        for place in range(0, len(data), 6000):
            raw.sendall(data[place : place + 6000])
            time.sleep(0.2)
        assert rest_of(raw).startswith(b"HTTP/1.1 200 ")
    assert time.monotonic() - began > 1.5


def test_a_kept_connection_has_the_same_limits(impatient):
    asked = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"
    with sent(impatient, asked) as raw:
        assert until(lambda: b'"ok"' in raw.recv(4096))
        time.sleep(1.5)  # idle, which is no fault
        raw.sendall(asked)
        assert until(lambda: b'"ok"' in raw.recv(4096))
        raw.sendall(b"GET /he")
        assert rest_of(raw).startswith(b"HTTP/1.1 408 ")


def test_a_large_head_is_refused_whole_or_not(impatient):
    whole = sent(impatient, POST + b"x-a: " + b"a" * 4000 + b"\r\ncontent-length: 0\r\n\r\n")
    with whole, sent(impatient, POST + b"x-a: " + b"a" * 4000) as unfinished:
        assert rest_of(unfinished).startswith(b"HTTP/1.1 431 ")
        answer = rest_of(whole)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["type"] == "error"


def test_a_running_call_outlives_the_time_to_send(own):
    with RawServer(stream(delta("hel"), 2.5, delta("lo", "stop"), DONE)) as server:
        running = own("[serve]\nreceive_timeout = 1\n" + provider("slow", server.url))
        answer = running.chat("slow/words", stream=True)
    assert (answer.status, answer.text.count("[DONE]")) == (200, 1)


def test_most_connections(impatient):
    assert until(lambda: impatient.get("/health").status == 200)
    with contextlib.ExitStack() as idle:
        for _ in range(30):
            idle.enter_context(sent(impatient))
        answer = impatient.get("/health")
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        with sent(impatient) as silent:
            assert rest_of(silent).startswith(b"HTTP/1.1 503 ")
    assert until(lambda: impatient.get("/health").status == 200)
    assert impatient.log.read_text().count("max_connections") == 1


# ------------------------------------------------------------------ TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    own_authority(folder)
    return folder / "cert.pem", folder / "key.pem"


def test_tls(own, upstream, certificate, tmp_path):
    cert, key = certificate
    trusting = ssl.create_default_context(cafile=str(cert))
    text = f'[serve]\ntls_cert = "{cert}"\ntls_key = "{key}"\n' + provider("up", upstream.url)
    running = own(text, tls=trusting)
    assert f"https://127.0.0.1:{running.port}" in running.log.read_text()
    assert running.chat("up/words").status == 200
    with sent(running, b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n") as plain:
        assert b"200" not in rest_of(plain)
    running = own(text, "--workers", "2", tls=trusting)
    assert running.chat("up/words", stream=True).text.count("[DONE]") == 1


def test_a_new_certificate_is_taken_in(own, upstream, certificate, tmp_path):
    own_authority(tmp_path)
    first, second = (ssl.create_default_context(cafile=str(path)) for path in (certificate[0], tmp_path / "cert.pem"))
    files = tmp_path / "used-cert.pem", tmp_path / "used-key.pem"
    for path, source in zip(files, certificate, strict=True):
        path.write_bytes(source.read_bytes())
    running = own(
        f'[serve]\ntls_cert = "{files[0]}"\ntls_key = "{files[1]}"\n' + provider("up", upstream.url), tls=first
    )
    files[0].write_text("nonsense")
    running.process.send_signal(signal.SIGHUP)
    assert until(lambda: "are not a certificate and its key" in running.get("/ready").text)
    files[0].write_bytes((tmp_path / "cert.pem").read_bytes())
    files[1].write_bytes((tmp_path / "key.pem").read_bytes())
    running.process.send_signal(signal.SIGHUP)
    running.tls = second
    assert until(lambda: calm(running) == 0)
    assert running.chat("up/words").status == 200


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('tls_cert = "missing.pem"', "serve.tls_cert: missing.pem cannot be read: No such file or directory"),
        ('tls_cert = "cert.pem"', "serve.tls_cert: cert.pem has not both a certificate and its key"),
        ('tls_cert = "cert.pem"\ntls_key = "cert.pem"', "cert.pem and cert.pem are not a certificate and its key"),
        ('tls_cert = "cert.pem"\ntls_key = "locked.pem"', "cert.pem and locked.pem are not a certificate and its key"),
        ('tls_key = "cert.pem"', "needs tls_cert beside it"),
    ],
)
@pytest.mark.parametrize("how", [[], ["--workers", "2"], ["--check"]])
def test_a_bad_certificate_is_one_sentence(tmp_path, certificate, lines, words, how):
    (tmp_path / "cert.pem").write_bytes(certificate[0].read_bytes())
    if "locked" in lines:
        subprocess.run(
            ["openssl", "rsa", "-aes256", "-passout", "pass:secret", "-in", str(certificate[1]), "-out", "locked.pem"],
            cwd=tmp_path, check=True, capture_output=True,
        )  # fmt: skip
    (tmp_path / "config.toml").write_text(f"[serve]\nport = 0\n{lines}\n")
    done = command(tmp_path, "--config", "config.toml", *how)
    assert (done.returncode, words in done.stderr, "Traceback" in done.stderr) == (1, True, False), done
