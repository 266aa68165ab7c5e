"""prx serve, as a process: callers over real HTTP, providers behind it, signals, and what must never be shown."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib

import pytest
from helpers.byte_server import DONE, HANG, RawServer, delta, response, stream
from helpers.clock import Clock
from helpers.served import CALLER, PROVIDER, Service, begun, command, provider, until
from judges.dialects import Emulator

from prx.accounts.config import CallerKey
from prx.serve.callers import ANYBODY, Caller, Callers, is_own_name

ASKED = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Say hello."}]},
    "/v1/responses": {"input": "Say hello."},
    "/v1/messages": {"max_tokens": 50, "messages": [{"role": "user", "content": "Say hello."}]},
    "/v1beta/models/{model}:generateContent": {"contents": [{"role": "user", "parts": [{"text": "Say hello."}]}]},
    "/api/chat": {"messages": [{"role": "user", "content": "Say hello."}], "stream": False},
    "/v2/chat": {"messages": [{"role": "user", "content": "Say hello."}]},
}


KEYS = f"""[serve]
keys = ["${{CALLER_KEY}}", "sha256:{hashlib.sha256(b"second").hexdigest()}"]
max_body = 100000
[serve.keys_by_name.team]
sha256 = "{hashlib.sha256(b"team").hexdigest()}"
models = ["up/*"]
requests_per_minute = 2
"""


@pytest.fixture(scope="module")
def upstream():
    with Emulator({"models": ["words", "a/b:free"], "key": PROVIDER}) as running:
        yield running


@pytest.fixture(scope="module")
def service(tmp_path_factory, upstream):
    text = KEYS + provider("up", upstream.url) + provider("dead", "http://127.0.0.1:1/v1")
    running = Service(tmp_path_factory.mktemp("serve"), text)
    yield running
    running.stop()
    said = running.log.read_text()
    assert "Traceback" not in said, said
    assert not [key for key in (CALLER, PROVIDER, "wrong-key") if key in said]


# ------------------------------------------------------------------ faces


@pytest.mark.parametrize("path", ASKED)
def test_every_face_answers(service, path):
    answer = service.post(path.replace("{model}", "up/words"), ASKED[path] | {"model": "up/words"})
    assert (answer.status, answer.headers["x-prx-provider"]) == (200, "up"), answer.text
    assert "Hello!" in answer.text
    assert answer.headers["x-request-id"]


def test_a_stream(service):
    answer = service.chat("up/words", stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert (answer.headers["x-accel-buffering"], answer.headers["cache-control"]) == ("no", "no-cache, no-transform")
    events = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    assert "".join(json.loads(event)["choices"][0]["delta"].get("content") or "" for event in events[:-1]).startswith(
        "You said: hi"
    )


def test_lists_and_names(service):
    assert [row["id"] for row in json.loads(service.get("/v1/models").text)["data"]] == ["up/words", "dead/words"]
    assert json.loads(service.get("/v1/models", anthropic_version="1").text)["has_more"] is False
    assert json.loads(service.get("/v1/models/up/words").text)["id"] == "up/words"
    assert service.get("/v1/models/nobody/x").status == 404
    assert service.chat("up/a/b:free").status == 200
    assert json.loads(service.get("/api/version").text)["version"]


def test_several_answers_at_once_are_handed_on(own):
    chunk = json.dumps({"id": "c", "choices": [{"index": 1, "delta": {"content": "two"}}], "odd": [1]}).encode()
    with RawServer(stream(delta("one"), b"data: " + chunk + b"\n\n", delta("", "stop"), DONE)) as server:
        running = own(provider("raw", server.url))
        answer = running.chat("raw/words", stream=True, also={"n": 2})
    assert (answer.status, "data: " + chunk.decode() in answer.text, answer.text.count("[DONE]")) == (200, True, 1)


def test_paths_and_methods(service):
    assert (service.get("/v1/nothing").status, service.get("/nowhere").status) == (404, 404)
    answer = service.answer(service.open("DELETE", "/v1/messages"))
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert json.loads(answer.text)["type"] == "error"
    head, models = (service.answer(service.open(method, "/v1/models")) for method in ("HEAD", "GET"))
    assert (head.status, head.text, head.headers["content-length"]) == (200, "", str(len(models.text)))
    assert service.answer(service.open("HEAD", "/v1/messages")).status == 405


# ------------------------------------------------------------------ errors


@pytest.mark.parametrize("stream", [False, True])
def test_a_failure_before_the_output_has_its_own_status(service, stream):
    answer = service.chat("dead/words", stream=stream)
    error = json.loads(answer.text)["error"]
    assert (answer.status, error["kind"], error["provider"]) == (502, "connection", "dead")
    answer = service.chat("up/unknown", stream=stream)
    assert (answer.status, json.loads(answer.text)["error"]["kind"]) == (404, "not_found")
    answer = service.chat("nobody/x", stream=stream)
    assert answer.status == 404


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b"null",
        b'{"model": "up/words"}',
        b'{"model": "up/words", "messages": 3}',
        b"[" * 50_000,
        *(
            b'{"model": "up/words", "messages": [{"role": "user", "content": "a"}], %s}' % more
            for more in (
                b'"temperature": NaN',
                b'"temperature": 1e999',
                b'"user": "\\ud800"',
                b'"stream": true, "n": "x"',
            )
        ),
    ],
)
def test_what_is_no_question_is_400(service, body):
    answer = service.post("/v1/chat/completions", body)
    assert (answer.status, json.loads(answer.text)["error"]["type"]) == (400, "invalid_request_error"), answer.text


@pytest.mark.parametrize(
    "message",
    [{"role": "assistant", "tool_calls": True}, {"role": "tool", "tool_call_id": [1], "content": "a"}],
)
def test_values_of_the_wrong_type_are_400(own, message):
    running = own("".join(provider(name, "http://127.0.0.1:1", name) for name in ("gemini", "cohere-v2")))
    for name in ("gemini", "cohere-v2"):
        also = {"messages": [{"role": "user", "content": "a"}, message]}
        answer = running.chat(f"{name}/words", also=also)
        assert answer.status in (400, 502), answer.text
    assert "bug" not in running.log.read_text()


def test_a_caller_sets_no_header_of_a_provider(service):
    for name in ("extra_headers", "extra_query", "extra_body"):
        answer = service.chat("up/words", also={name: {"x-own": "1"}})
        assert (answer.status, name in answer.text) == (400, True)


def test_sizes_and_types(service):
    assert service.post("/v1/chat/completions", b"x" * 100_001).status == 413
    answer = service.post("/v1/chat/completions", {}, content_type="text/plain")
    assert (answer.status, "content-type: application/json" in answer.text) == (415, True)


def test_a_failure_after_the_output_is_an_event(own):
    with RawServer(stream(delta("hel"), delta("lo"))) as cut:
        running = own(provider("cut", cut.url))
        answer = running.chat("cut/words", stream=True)
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    assert answer.status == 200
    assert events[-1]["error"]["kind"] == "truncated"
    assert "[DONE]" not in answer.text


# ------------------------------------------------------------------ callers


def test_keys(service):
    for headers in (
        {"authorization": f"Bearer {CALLER}"},
        {"x-api-key": CALLER},
        {"api-key": CALLER},
        {"x-goog-api-key": "second"},
    ):
        assert service.get("/v1/models", key=None, **headers).status == 200, headers
    assert service.get(f"/v1/models?key={CALLER}", key=None).status == 200
    for key in (None, "wrong-key", CALLER[:-1], hashlib.sha256(b"second").hexdigest()):
        answer = service.chat("up/words", key=key)
        assert (answer.status, json.loads(answer.text)["error"]["kind"]) == (401, "auth")
        assert not key or key not in answer.text
    assert [service.get(path, key=None).status for path in ("/metrics", "/status", "/")] == [401] * 3
    assert service.get("/health", key=None).status == service.get("/ready", key=None).status == 200


def test_models_and_rate_of_a_key(service):
    assert service.chat("dead/words", key="team").status == 403
    assert [row["id"] for row in json.loads(service.get("/v1/models", key="team").text)["data"]] == ["up/words"]
    assert [service.chat("up/words", key="team").status for _ in range(3)] == [200, 200, 429]
    assert int(service.chat("up/words", key="team").headers["retry-after"]) >= 1


def test_a_rate_refills():
    clock = Clock()
    caller = Caller(CallerKey("a", requests_per_minute=60), "", clock)
    assert [caller.wait() for _ in range(60)] == [0.0] * 60
    assert caller.wait() == pytest.approx(1.0)
    clock.now = 1.0
    assert (caller.wait(), caller.wait() > 0) == (0.0, True)


def test_without_keys_only_names_of_this_machine():
    assert Callers((), {}).of({}, "") is ANYBODY
    assert all(map(is_own_name, ("localhost:80", "127.0.0.1:8080", "[::1]:1", "app.localhost", "gateway:8080")))
    assert not any(map(is_own_name, ("evil.example", "evil.example:8080", "10.0.0.1", "[2001:db8::1]:80")))


def test_without_keys_no_other_host_is_served(tmp_path):
    (tmp_path / "c.toml").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "prx", "serve", "--config", "c.toml", "--host", "0.0.0.0"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False, env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert (done.returncode, "key" in done.stderr, "Traceback" in done.stderr) == (1, True, False)


def test_no_key_is_in_any_answer(service):
    texts = [
        service.chat(model, key=key).text
        for model in ("up/words", "dead/words", "up/unknown")
        for key in (CALLER, "wrong-key")
    ]
    texts += [service.get(path).text for path in ("/metrics", "/ready", "/", "/status", "/v1/models")]
    assert not [key for key in (CALLER, PROVIDER, "wrong-key") for text in texts if key in text]


# ------------------------------------------------------------------ what goes to the provider


def test_headers_and_hints(own):
    answers = [response() for _ in range(3)]
    with RawServer(*answers) as server:
        running = own(provider("raw", server.url))
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        said = {
            "cookie": "a=b",
            "user_agent": "mine",
            "anthropic_beta": "x",
            "traceparent": trace,
            "x_request_id": "mine-1",
        }
        answer = running.chat("raw/words", also={"odd": {"deep": [1]}, "user": "u"}, **said)
        assert (answer.status, answer.headers["x-request-id"], answer.headers["x-prx-dropped"]) == (200, "mine-1", None)
        body = {
            "model": "raw/words",
            "max_tokens": 9,
            "messages": [{"role": "user", "content": "hi"}],
            "context_management": {},
        }
        answer = running.post("/v1/messages", body)
        assert (answer.status, answer.headers["x-prx-dropped"]) == (200, "context_management"), answer.text
        answer = running.post("/v1/messages", body | {"strange": 1})
        assert (answer.status, "strange" in answer.text) == (400, True)
        answer = running.post("/v1/messages", body | {"tools": [{"type": "odd\r\nx-evil: 1"}]})
        assert (answer.status, answer.headers["x-evil"]) == (200, None), answer.text
        assert answer.headers["x-prx-dropped"] == "context_management, odd??x-evil: 1"
    first, second, _ = server.requests
    assert first["headers"]["traceparent"] == trace
    assert not {"cookie", "anthropic-beta"} & first["headers"].keys()
    assert not [word for word in ("mine", CALLER) if word in str(first["headers"])]
    assert first["body"]["odd"] == {"deep": [1]}
    assert "context_management" not in second["body"]


# ------------------------------------------------------------------ running


def test_a_caller_who_leaves_ends_the_call(own):
    with RawServer([*stream(delta("hel"), HANG)]) as server:
        running = own(provider("slow", server.url))
        with begun(running, "slow/words"):
            pass
        assert server.left.wait(3), "the provider's connection is still open"


def test_most_calls_and_pings(own):
    with RawServer([*stream(delta("hel"), HANG)]) as server:
        running = own("[serve]\nmax_calls = 1\nping = 0.5\n" + provider("slow", server.url))
        with begun(running, "slow/words") as (answer, _):
            refused = running.chat("slow/words")
            assert (refused.status, refused.headers["retry-after"]) == (503, "1")
            assert b": ping\n\n" in answer.read1(4096)


def test_drain(own):
    pieces = [piece for number in range(20) for piece in (delta(str(number)), 0.1)]
    with RawServer(stream(*pieces, delta("", "stop"), DONE)) as server:
        running = own(provider("slow", server.url))
        with begun(running, "slow/words", 2) as (answer, text):
            running.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            with pytest.raises(OSError, match=r"refused|reset|closed"):
                running.get("/health")
            assert (text + answer.read()).endswith(b"data: [DONE]\n\n")
        assert running.process.wait(10) == 0


def test_the_grace_ends(own):
    with RawServer([*stream(delta("hel"), HANG)]) as server:
        running = own("[serve]\ngrace = 0.5\n" + provider("slow", server.url))
        with begun(running, "slow/words") as (answer, text):
            running.process.send_signal(signal.SIGTERM)
            whole = text + answer.read()
        assert b'"error"' in whole
        assert b"[DONE]" not in whole
        assert running.process.wait(10) == 0


def test_reload(own, upstream):
    text = provider("up", upstream.url)
    running = own(text)
    assert running.chat("new/words").status == 404
    running.file.write_text(text + provider("new", upstream.url))
    assert until(lambda: running.chat("new/words").status == 200)
    running.file.write_text("[nonsense")
    running.process.send_signal(signal.SIGHUP)
    assert until(lambda: "config.toml" in running.get("/ready").text)
    assert (running.get("/ready").status, running.chat("new/words").status) == (200, 200)
    assert re.search(r"(?m)^prx_reload_problems 1", running.get("/metrics").text)
    running.file.write_text(text)
    assert until(lambda: running.chat("new/words").status == 404)
    assert json.loads(running.get("/ready").text)["problems"] == []


def test_several_processes(own, upstream):
    running = own(provider("up", upstream.url), "--workers", "2")
    assert {running.chat("up/words").status for _ in range(10)} == {200}
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(15) == 0


def test_metrics(service):
    service.chat("up/words")
    service.chat("up/a-text-of-the-caller")
    text = service.get("/metrics").text
    assert re.search(r'gen_ai_server_request_duration_seconds_count\{.*gen_ai_request_model="up/words".*\} [1-9]', text)
    assert re.search(r'error_type="not_found"', text)
    assert re.search(r"(?m)^prx_calls_running 0", text)
    assert "a-text-of-the-caller" not in text


# ------------------------------------------------------------------ the command


def test_check(tmp_path):
    (tmp_path / "good.toml").write_text(
        provider("up", "http://localhost:1/v1") + '[[model_routes]]\npattern = "fast"\ntargets = ["up/x"]\n'
    )
    done = command(tmp_path, "--config", "good.toml", "--check")
    assert (done.returncode, "fast" in done.stdout, "up/words" in done.stdout) == (0, True, True), done
    (tmp_path / "bad.toml").write_text("[serve]\nporrt = 1\n")
    done = command(tmp_path, "--config", "bad.toml", "--check")
    assert (done.returncode, "did you mean 'port'" in done.stderr) == (1, True), done


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ('[[model_routes]]\npattern = "fast"\ntargets = ["up/x", "nobody/x"]\n', "no provider is called 'nobody'"),
        ('[default]\nprovider = "nobody"\nmodel = "x"\n', "no provider is called 'nobody'"),
        ('[providers.gorq]\nmodel = "x"\n', "did you mean"),
        ('[providers.zzzzzz]\nmodel = "x"\n', "needs api_url"),
        ('[serve]\nkeys = ["sha256:' + "A" * 64 + '"]\n', "serve.keys[0]: after sha256:"),
        ("", "own.yaml:3"),
    ],
)
def test_check_finds_what_would_fail_at_the_first_call(tmp_path, config, words):
    (tmp_path / "own.toml").write_text(provider("up", "http://localhost:1/v1") + config)
    (tmp_path / "files").mkdir()
    if not config:
        (tmp_path / "files" / "own.yaml").write_text("spec: 1\nid: [own\n")
    done = command(tmp_path, "--config", "own.toml", "--providers", "files", "--check")
    assert (done.returncode, words in done.stderr, done.stdout) == (1, True, ""), done


def test_a_key_is_shown_once_with_its_lines(tmp_path):
    done = command(tmp_path, "key", "team-z")
    made = re.search(r"prx-[\w-]{43}", done.stdout)[0]
    assert f'[serve.keys_by_name.team-z]\n    sha256 = "{hashlib.sha256(made.encode()).hexdigest()}"' in done.stdout


@pytest.mark.parametrize("name", ["team-a", "team a", 'a"b', "a.b", "é\\\t\U0001f600", "#"])
def test_the_lines_of_a_key_are_read_again(tmp_path, name):
    done = command(tmp_path, "key", "--", name)
    assert done.returncode == 0, done
    (tmp_path / "own.toml").write_text(done.stdout.partition("In config.toml:")[2])
    checked = command(tmp_path, "--config", "own.toml", "--check")
    assert (checked.returncode, "keys: 1" in checked.stdout) == (0, True), checked
    assert len(tomllib.loads((tmp_path / "own.toml").read_text())["serve"]["keys_by_name"]) == 1


def test_a_key_needs_a_name(tmp_path):
    done = command(tmp_path, "key", " ")
    assert (done.returncode, "needs a name" in done.stderr, "prx-" in done.stdout) == (2, True, False), done


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_that_is_taken_is_one_sentence(tmp_path, workers):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = command(tmp_path, "--port", str(taken.getsockname()[1]), "--workers", workers)
    assert done.returncode == 1, done
    assert done.stderr.startswith("prx: cannot listen at 127.0.0.1, port ")
    assert ("--port" in done.stderr, "serving at" in done.stderr, "ERROR" in done.stderr) == (True, False, False), done


@pytest.mark.parametrize("host", ["nosuch.invalid", "192.0.2.1", "a" * 80 + ".example"])
def test_a_host_of_another_machine_is_one_sentence(tmp_path, host):
    (tmp_path / "own.toml").write_text(f'[serve]\nkeys = ["sha256:{"a" * 64}"]\n')
    done = command(tmp_path, "--config", "own.toml", "--host", host, "--port", "0")
    assert (done.returncode, done.stderr.startswith(f"prx: cannot listen at {host}")) == (1, True), done


def test_without_the_extra_a_sentence_says_how_to_get_it(tmp_path):
    script = "import sys; sys.modules['uvicorn'] = None; sys.argv = ['prx', 'serve']; from prx.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
    )
    assert (done.returncode, "pip install 'prx-engine[serve]'" in done.stderr) == (2, True), done
