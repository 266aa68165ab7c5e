"""prx serve under load and attack, as a process: several workers, slow and many callers, TLS, logs, and Redis."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
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
from types import SimpleNamespace

import pytest
import uvicorn
from helpers.byte_server import DONE, HANG, RawServer, delta, own_authority, response, stream
from helpers.served import CALLER, PROVIDER, Service, begun, command, provider, until

from prx.serve.drain import Draining

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


def lives(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


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


def asked_of_each(service, name):
    """What each worker says of a metric, while the others sleep."""
    said, pids = [], workers_of(service)
    for pid in pids:
        others = [other for other in pids if other != pid]
        for other in others:
            os.kill(other, signal.SIGSTOP)
        said.append(metric(service, name))
        for other in others:
            os.kill(other, signal.SIGCONT)
    return said


def calm(service):
    with contextlib.suppress(OSError, http.client.HTTPException):
        return metric(service, "prx_calls_running")
    return None


def test_workers_end_where_the_first_process_was_killed(own):
    with RawServer(stream(delta("hel"), 1.5, delta("lo", "stop"), DONE)) as server:
        running = own(provider("slow", server.url), "--workers", "2")
        pids = workers_of(running)
        with begun(running, "slow/words") as (answer, text):
            running.process.kill()
            assert (text + answer.read()).endswith(b"data: [DONE]\n\n")
    assert until(lambda: not any(map(lives, pids)))
    socket.create_server(("127.0.0.1", running.port)).close()


def test_faults_of_a_reload_are_not_counted_once_a_worker(own, upstream):
    text = provider("up", upstream.url)
    running = own(text, "--workers", "3")
    pids = workers_of(running)
    running.process.send_signal(signal.SIGHUP)  # some of them are still starting
    assert asked_of_each(running, "prx_reload_problems") == [0, 0, 0]
    assert workers_of(running) == pids
    running.file.write_text("[nonsense")
    running.process.send_signal(signal.SIGHUP)
    assert until(lambda: asked_of_each(running, "prx_reload_problems") == [1, 1, 1])
    running.file.write_text(text)
    assert until(lambda: asked_of_each(running, "prx_reload_problems") == [0, 0, 0])  # each worker looks for itself


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


@pytest.fixture(scope="module", params=["httptools", "h11"])
def impatient(tmp_path_factory, upstream, request):
    """With either parser of heads: uvicorn takes the one in Python where the other is not installed."""
    hidden = tmp_path_factory.mktemp("hidden")
    if request.param == "h11":
        (hidden / "httptools.py").write_text("raise ImportError")
    text = "[serve]\nreceive_timeout = 1\nmax_head = 4000\nmax_connections = 30\n" + provider("up", upstream.url)
    running = Service(tmp_path_factory.mktemp("impatient"), text, PYTHONPATH=str(hidden))
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


def test_requests_that_come_at_once_are_all_answered(impatient):
    body = json.dumps({"model": "up/words", "max_tokens": 9, "messages": [{"role": "user", "content": "x" * 6000}]})
    call = POST + f"content-length: {len(body)}\r\n\r\n{body}".encode()
    with sent(impatient, call * 4) as raw:
        text = bytearray()
        assert until(lambda: text.extend(raw.recv(65536)) or text.count(b"HTTP/1.1 200 ") == 4)
        time.sleep(1.5)
        raw.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert until(lambda: b'"ok"' in raw.recv(4096))


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


def test_who_waits_at_the_port_and_speaks_no_tls_holds_up_no_end(certificate):
    class Ending(Draining):
        def _protocol(self):
            return asyncio.Protocol()

    async def ended(port):
        server = Ending(uvicorn.Config("", log_config=None))
        server.config.ssl = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.config.ssl.load_cert_chain(*certificate)
        server.servers = [SimpleNamespace(sockets=[port], close=port.close)]
        await server._stop_listening([])
        began = time.monotonic()
        await server._connections_ended(began + 30)
        return time.monotonic() - began

    with socket.create_server(("127.0.0.1", 0)) as port:
        at = port.getsockname()
        with socket.create_connection(at) as plain, socket.create_connection(at):
            plain.sendall(b"GET /health HTTP/1.1\r\n\r\n")
            assert asyncio.run(ended(port)) < 8


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


# ------------------------------------------------------------------ the log


LOGGED = f"""[serve]
log_format = "json"
keys = ["${{CALLER_KEY}}"]
[serve.keys_by_name.team-a]
sha256 = "{hashlib.sha256(b"team-key-5d2c").hexdigest()}"
"""


def lines_of(service, count):
    """The lines of calls, once there are so many."""
    rows = []

    def there():
        rows[:] = [json.loads(line) for line in service.log.read_text().splitlines()]
        rows[:] = [row for row in rows if row["message"] == "call"]
        return len(rows) >= count

    assert until(there), service.log.read_text()
    return rows


def test_a_line_of_json_for_each_call(own, upstream):
    running = own(LOGGED + provider("up", upstream.url) + provider("dead", "http://127.0.0.1:1/v1"), PRX_LOG="info")
    running.chat("up/words", key="team-key-5d2c", stream=True, x_request_id="mine-1")
    running.chat("dead/words")
    running.chat("up/words", key="wrong-key-77")
    running.get("/nowhere?key=wrong-key-77")
    running.get("/health")
    stream_, dead, refused, nowhere = lines_of(running, 4)
    assert {name: stream_[name] for name in ("level", "request_id", "caller", "face", "model", "provider", "status")} == {
        "level": "info", "request_id": "mine-1", "caller": "team-a", "face": "openai-chat", "model": "up/words", "provider": "up", "status": 200,
    }  # fmt: skip
    assert (stream_["attempts"], stream_["left"], stream_["input_tokens"] > 0, stream_["output_tokens"] > 0) == (
        1,
        False,
        True,
        True,
    )
    assert 0 < stream_["first_token_seconds"] <= stream_["seconds"] < 10
    assert not {"error", "request", "answer"} & stream_.keys()
    assert (dead["status"], dead["error"], dead["provider"], "caller" in dead) == (502, "connection", "dead", False)
    assert (refused["status"], refused["error"], "provider" in refused) == (401, "auth", False)
    assert (nowhere["status"], nowhere["asked"]) == (404, "GET /nowhere")
    text = running.log.read_text()
    assert not [word for word in (CALLER, PROVIDER, "team-key", "wrong-key", '"hi"', "You said") if word in text]


def test_a_header_and_the_line_say_what_the_provider_did_not_get(own, upstream):
    running = own(LOGGED + provider("up", upstream.url, "cohere-v2"), PRX_LOG="info")
    body = {"model": "up/words", "input": "hi", "parallel_tool_calls": False, "user": "u"}
    for stream_ in (False, True):
        strange = [{"type": "web_search"}, {"type": "web_search"}, {"type": "a\r\nx-mine: 1"}]
        answer = running.post("/v1/responses", body | {"tools": strange, "stream": stream_})
        told = "parallel_tool_calls, user, web_search, a??x-mine: 1"
        assert (answer.status, answer.headers["x-prx-dropped"], answer.headers["x-mine"]) == (200, told, None), (
            answer.text
        )
    many = [{"type": f"{number} {'long' * 1000}"} for number in range(60)]
    answer = running.post("/v1/responses", body | {"tools": many})
    assert answer.headers["x-prx-dropped"].endswith(", and 12 more")
    assert len(answer.headers["x-prx-dropped"]) < 6000
    assert lines_of(running, 3)[0]["dropped"] == "parallel_tool_calls, user, web_search, a\r\nx-mine: 1"


def test_the_line_says_that_the_caller_left(own):
    with RawServer([*stream(delta("hel"), HANG)]) as server:
        running = own(LOGGED + provider("slow", server.url), "--workers", "2", PRX_LOG="info")
        with begun(running, "slow/words"):
            pass
        (row,) = lines_of(running, 1)
    assert (row["left"], row["status"], row["provider"], "error" in row) == (True, 200, "slow", False)


def test_a_line_of_text_is_one_line_whatever_is_asked(own, upstream):
    running = own(provider("up", upstream.url), "--log-level", "info", PRX_LOG="error")
    running.chat("up/a\nb \x1b[31m=é")
    assert until(lambda: "model=" in running.log.read_text())
    (line,) = [line for line in running.log.read_text().splitlines() if " call " in line]
    assert 'model="up/a\\nb \\u001b[31m=\\u00e9"' in line
    assert re.search(r" INFO prx\.serve call request_id=req_\w+ face=openai-chat .* status=404 error=not_found ", line)


def test_bodies_are_shown_where_it_is_said_and_never_a_key(own):
    said = f"I was given {PROVIDER}, and {CALLER}"
    scripts = [stream(*map(delta, said), delta("", "stop"), DONE), response(401, {"error": {"message": said}})]
    with RawServer(*scripts) as server:
        running = own(
            LOGGED.replace("[serve]", "[serve]\nlog_bodies = true", 1) + provider("raw", server.url), PRX_LOG="debug"
        )
        content = f"keep {CALLER} and team-key-5d2c to yourself, é"
        for _ in scripts:
            also = {"messages": [{"role": "user", "content": content}]}
            running.chat("raw/words", stream=True, key="team-key-5d2c", also=also)
        answered, refused = lines_of(running, 2)
    assert "keep *** and *** to yourself, é" in answered["request"]
    assert json.loads(answered["answer"]) == {"content": "I was given ***, and ***"}
    assert refused["message"] == "call"
    assert "I was given" in refused["error_message"]
    text = running.log.read_text()
    assert not [word for word in (CALLER, PROVIDER, "team-key") if word in text]


def test_levels(own, upstream, tmp_path):
    running = own(provider("up", upstream.url), PRX_LOG="warning")
    assert running.chat("up/words").status == 200
    assert "call" not in running.log.read_text()
    done = command(tmp_path, "--check", PRX_LOG="loud")
    assert (done.returncode, "PRX_LOG is 'loud', and must be one of debug, info" in done.stderr) == (2, True), done
