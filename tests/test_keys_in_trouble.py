"""Keys that are got, where several things happen at once: calls with an old key, a command that hangs or prints without end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from helpers.commands import run

import prx
from prx.accounts.kept import Held
from prx.accounts.key_entries import Command
from prx.accounts.key_sources import _OfCommand
from prx.secret import Secret

HELLO = {"choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}]}
AT_ONCE = 20


class Provider:
    """answer: gives (status, body) for a key; keys: those that came."""

    def __init__(self, answer):
        provider = self
        self.keys = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_POST(self):
                self.rfile.read(int(self.headers["content-length"]))
                key = self.headers["authorization"].removeprefix("Bearer ")
                provider.keys.append(key)
                status, value = answer(key)
                body = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        return self

    def __exit__(self, *exc):
        self.server.shutdown()
        self.server.server_close()


def says(message):
    return {"error": {"message": message}}


def client(url, key, env=None, kind=prx.Client):
    table = {"api_url": url, "api_key": key, "model": "m", "retries": 0}
    config = {"providers": {"compatible": table}, "default": {"provider": "compatible"}}
    return kind(config, env={"PATH": os.environ["PATH"]} if env is None else env)


NOWHERE = "http://127.0.0.1:9/v1"


# ------------------------------------------------------------------ at once


def test_who_looked_before_a_key_was_got_does_not_get_another():
    """A thread may find no key, and come to ask for one when another thread's has just arrived."""
    place, runs = _OfCommand("here", Command(("program",), 300), {}), []
    place._run = lambda _: runs.append(1) or "sk-printed"
    first, second = (place.text(100.0) for _ in range(2))
    for asked in (first.send(None), second.send(None)):
        flow, answer = asked.begin(), None
        with contextlib.suppress(StopIteration):
            while True:
                answer = flow.send(answer).function(lambda: False)
    assert len(runs) == 1


@pytest.mark.parametrize("how", ["file", "command"])
def test_calls_with_the_old_key_have_the_new_one_whenever_they_are_refused(tmp_path, monkeypatch, how):
    """All have the old key when the provider changes it, and are refused one after the other: also after another call of them
    has got the new one."""
    written = tmp_path / "key"
    written.write_text("sk-old")
    together, lock, refused = threading.Barrier(AT_ONCE, timeout=20), threading.Lock(), []

    def answer(key):
        if key == "sk-new-one":
            return 200, HELLO
        if together.wait() == 0:
            written.write_text("sk-new-one")
        with lock:
            refused.append(key)
            place = len(refused)
        time.sleep(0.1 + 0.03 * place)
        return 401, says("not with this key")

    begun, real = time.time(), time.time
    key = {"file": str(written)} if how == "file" else {"command": ["cat", str(written)]}
    with Provider(answer) as provider, client(provider.url, key) as api, ThreadPoolExecutor(AT_ONCE) as pool:
        if how == "command":  # the old key has been there for a minute
            place = api.accounts.get("compatible").source.places[0]
            place._kept.held = Held(Secret("sk-old"), begun, begun + 270, begun + 300)
            monkeypatch.setattr("prx.session.time.time", lambda: real() + 60)
        replies = list(pool.map(api.chat, ["x"] * AT_ONCE))
    assert {(reply.content, reply.attempts) for reply in replies} == {("hello", 2)}
    assert provider.keys.count("sk-new-one") == AT_ONCE


# ------------------------------------------------------------------ a command that does not end


@pytest.mark.parametrize("argv", [["sleep", "8"], ["sh", "-c", "sleep 8; echo sk-late"]])
def test_a_deadline_ends_a_command(argv):
    began = time.monotonic()
    with client(NOWHERE, {"command": argv}) as api, pytest.raises(prx.ProviderTimeoutError, match="deadline"):
        api.chat("x", deadline=0.3)
    assert time.monotonic() - began < 3


def test_closing_the_client_ends_a_command():
    failed = []

    def call(api):
        try:
            api.chat("x")
        except prx.Error as error:
            failed.append(error)

    with client(NOWHERE, {"command": ["sleep", "8"]}) as api:
        thread = threading.Thread(target=call, args=(api,))
        thread.start()
        time.sleep(0.3)
        began = time.monotonic()
        api.close()
        thread.join(5)
    assert time.monotonic() - began < 3
    assert "closed" in str(failed[0])


def test_the_end_of_a_loop_does_not_wait_for_a_command():
    """asyncio waits for its threads when a loop ends."""

    async def main():
        api = client(NOWHERE, {"command": ["sleep", "8"]}, kind=prx.AsyncClient)
        with pytest.raises(prx.ProviderTimeoutError):
            await api.chat("x", deadline=0.3)

    began = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - began < 3


def test_a_command_may_leave_something_running():
    """Such as an agent, which has the same output: the key is there when the command itself has ended."""
    began = time.monotonic()
    command = {"command": ["sh", "-c", "echo sk-printed; sleep 8 &"]}
    with Provider(lambda _: (200, HELLO)) as provider, client(provider.url, command) as api:
        assert api.chat("x").content == "hello"
    assert time.monotonic() - began < 3
    assert provider.keys == ["sk-printed"]


@pytest.mark.parametrize("stream", ["", " >&2"])
def test_a_command_that_prints_without_end(monkeypatch, stream):
    monkeypatch.setattr("prx.accounts.command._PATIENCE", 0.5)
    command = {"command": ["sh", "-c", f"exec yes sk-printed{stream}"]}
    began = time.monotonic()
    with client(NOWHERE, command) as api, pytest.raises(prx.ConfigError) as caught:
        api.chat("x")
    assert time.monotonic() - began < 3
    assert ("had not ended after" if stream else "too much for a key") in str(caught.value)
    assert stream or "sk-printed" not in str(caught.value)


# ------------------------------------------------------------------ what is known of keys


def test_a_provider_that_names_another_of_the_keys():
    """Every key that is known is masked, whichever a call was made with."""
    both = (429, says("sk-the-first and sk-the-second are used up"))
    with (
        Provider(lambda _: both) as provider,
        client(provider.url, ["sk-the-first", "${B}"], {"B": "sk-the-second"}) as api,
        pytest.raises(prx.RateLimitError) as caught,
    ):
        api.chat("x")
    error = caught.value
    for text in (str(error), repr(error), repr(error.history), repr(error.__dict__)):
        assert "sk-the-" not in text
    assert (error.attempts, provider.keys) == (2, ["sk-the-first", "sk-the-second"])


def test_a_reload_looks_at_the_variables_of_a_list():
    env = {"A": "sk-before", "B": "sk-other"}
    with Provider(lambda _: (200, HELLO)) as provider, client(provider.url, ["${A}", "${B}"], env) as api:
        api.chat("x")
        env["A"] = "sk-after"
        api.reload()
        api.chat("x")
    assert provider.keys == ["sk-before", "sk-after"]


def test_a_file_that_has_changed_rests_no_longer(tmp_path):
    (tmp_path / "key").write_text("sk-bad")
    bad = (401, says("no"))
    with (
        Provider(lambda key: bad if key == "sk-bad" else (200, HELLO)) as provider,
        client(provider.url, [{"file": str(tmp_path / "key")}, "sk-spare"]) as api,
    ):
        api.chat("x")
        api.chat("x")
        (tmp_path / "key").write_text("sk-mended")
        api.chat("x")
        api.chat("x")
    assert provider.keys == ["sk-bad", "sk-spare", "sk-spare", "sk-mended", "sk-mended"]


def test_a_clock_that_is_set_back_does_not_keep_a_key():
    place = _OfCommand("here", Command(("program",), 300), {})
    held = place._kept.held = Held(Secret("sk-printed"), 10_000.0, 10_270.0, 10_300.0)
    assert held.before(held.early, 10_100.0)
    assert not held.before(held.early, 9_000.0)
    assert place.again(9_000.0, Secret("sk-printed"))


def test_what_a_command_prints_is_called_no_token(tmp_path):
    """Only a key that is exchanged is one."""
    (tmp_path / "config.toml").write_text('[providers.groq]\napi_key = {command = ["cat", "here"]}\n')
    done = run("explain", "-m", "groq/m", "hi", env={"PRX_CONFIG": str(tmp_path / "config.toml")})
    assert "got from the command cat" in done.stdout
    assert "a token" not in done.stdout
