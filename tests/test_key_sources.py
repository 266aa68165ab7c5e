"""Keys that are no text: a command, a file, several keys; and client certificates. Real servers, commands and TLS."""

import asyncio
import contextlib
import json
import os
import re
import ssl
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers.byte_server import RawServer, own_authority, response
from helpers.commands import run
from helpers.token_server import TokenServer

import prx
from prx.accounts import command, kept, key_sources

ANSWER = json.dumps(
    {"choices": [{"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]}
).encode()
HEAD = b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
PROGRAM = """
import pathlib, sys
runs = pathlib.Path(sys.argv[1])
with runs.open("a") as file:
    file.write("run\\n")
print(pathlib.Path(sys.argv[2]).read_text())
"""


class Judge:
    """A server that takes some keys and refuses others: {key: status}; and remembers what came."""

    def __init__(self, refused=None):
        self.refused, self.keys, self.lock = refused or {}, [], threading.Lock()

    async def _serve(self, reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
                await reader.readexactly(int(headers[b"content-length"]))
                key = re.search(rb"(?i)authorization: bearer (\S+)", head)[1].decode()
                self.keys.append(key)
                status = self.refused.get(key, 200)
                body = ANSWER if status == 200 else json.dumps({"error": {"message": f"not with {key}"}}).encode()
                writer.write(HEAD % (status, len(body)) + body)
                await writer.drain()
        writer.close()

    def __enter__(self):
        ready = threading.Event()

        async def main():
            self.loop, self.over = asyncio.get_running_loop(), asyncio.Event()
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=2000)
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
            ready.set()
            await self.over.wait()
            server.close()

        self.thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
        self.thread.start()
        assert ready.wait(5)
        return self

    def __exit__(self, *exc):
        self.loop.call_soon_threadsafe(self.over.set)
        self.thread.join(5)


@pytest.fixture
def judge():
    with Judge() as server:
        yield server


@pytest.fixture
def clock(monkeypatch):
    """The time of accounts, which a test can move on."""
    moved = [0.0]
    real = time.time
    monkeypatch.setattr("prx.session.time.time", lambda: real() + moved[0])
    return moved


@pytest.fixture
def printer(tmp_path):
    """A command that prints what a file contains, and how often it has run."""

    class Printer:
        def __init__(self):
            self.runs, self.key = tmp_path / "runs", tmp_path / "printed"
            self.argv = [sys.executable, "-c", PROGRAM, str(self.runs), str(self.key)]

        @property
        def count(self):
            return len(self.runs.read_text().split()) if self.runs.exists() else 0

    return Printer()


def config(url, key, **more):
    return {
        "providers": {"compatible": {"api_url": url, "api_key": key, "model": "m", "retries": 0, **more}},
        "default": {"provider": "compatible"},
    }


def client(url, key, env=None, **more):
    return prx.Client(config(url, key, **more), env={"PATH": os.environ["PATH"], **(env or {})})


def test_a_command_is_run_once_for_its_life(judge, printer, clock):
    printer.key.write_text("  sk-first\n")
    with client(judge.url, {"command": printer.argv, "for": 100}) as api:
        assert [api.chat("x").attempts for _ in range(3)] == [1, 1, 1]
        printer.key.write_text("sk-second")
        clock[0] = 85
        api.chat("x")
        assert (printer.count, judge.keys[-1]) == (1, "sk-first")
        clock[0] = 95
        api.chat("x")
    assert (printer.count, judge.keys[-1]) == (2, "sk-second")


def test_a_command_that_fails_before_the_key_ends_does_no_harm(judge, printer, clock):
    printer.key.write_text("sk-first")
    with client(judge.url, {"command": printer.argv, "for": 100}) as api:
        api.chat("x")
        printer.key.unlink()
        clock[0] = 95
        api.chat("x")
        clock[0] = 101
        with pytest.raises(prx.ConfigError, match="ended with exit code 1"):
            api.chat("x")
    assert judge.keys == ["sk-first"] * 2


def test_calls_at_once_across_the_end_of_a_key_run_the_command_once(judge, printer, clock):
    printer.key.write_text("sk-first")

    async def main():
        async with prx.AsyncClient(
            config(judge.url, {"command": printer.argv, "for": 100}), env=dict(os.environ)
        ) as api:
            await api.chat("x")
            printer.key.write_text("sk-second")
            clock[0] = 101
            replies = await asyncio.gather(*(api.chat("x") for _ in range(1000)))
            assert {reply.content for reply in replies} == {"hi"}

    asyncio.run(main())
    assert printer.count == 2
    assert judge.keys == ["sk-first", *["sk-second"] * 1000]


def test_threads_at_once_run_the_command_once(judge, printer):
    printer.key.write_text("sk-first")
    with client(judge.url, {"command": printer.argv}) as api, ThreadPoolExecutor(50) as pool:
        assert {reply.content for reply in pool.map(api.chat, ["x"] * 50)} == {"hi"}
    assert printer.count == 1


def test_the_loop_runs_on_while_a_command_does(judge, tmp_path):
    slow = {"command": [sys.executable, "-c", "import time; time.sleep(0.5); print('sk-slow')"]}

    async def main():
        ticks = 0
        async with prx.AsyncClient(config(judge.url, slow), env=dict(os.environ)) as api:
            call = asyncio.create_task(api.chat("x"))
            while not call.done():
                await asyncio.sleep(0.01)
                ticks += 1
        return ticks

    assert asyncio.run(main()) > 10


def test_a_key_that_is_refused_is_got_anew_once(judge, printer, clock):
    printer.key.write_text("sk-old")
    with client(judge.url, {"command": printer.argv}) as api:
        api.chat("x")
        judge.refused = {"sk-old": 401}
        printer.key.write_text("sk-new")
        clock[0] = 60
        assert api.chat("x").attempts == 2
        assert (printer.count, judge.keys) == (2, ["sk-old", "sk-old", "sk-new"])
        judge.refused = {"sk-old": 401, "sk-new": 401}
        clock[0] = 120
        with pytest.raises(prx.AuthError) as caught:
            api.chat("x")
    assert (caught.value.attempts, judge.keys[3:]) == (2, ["sk-new"] * 2)
    assert "sk-new" not in f"{caught.value} {caught.value!r}"


def test_a_command_is_run_again_however_often_its_key_is_refused(judge, printer, clock):
    judge.refused = {"sk-old": 401}
    printer.key.write_text("sk-old")
    with client(judge.url, {"command": printer.argv, "for": 86400}) as api:
        for clock[0] in (0, 60, 120):
            with pytest.raises(prx.AuthError):
                api.chat("x")
        printer.key.write_text("sk-new")
        clock[0] = 180
        assert api.chat("x").attempts == 2


def test_a_refused_key_that_is_no_token_is_not_called_one(judge):
    judge.refused = {"sk-old": 401}
    with client(judge.url, {"command": ["echo", "sk-old"]}) as api, pytest.raises(prx.AuthError) as caught:
        api.chat("x")
    sent = "The key, got from the command echo, was sent in the header authorization: Bearer ***."
    assert caught.value.hint.startswith(sent)


@pytest.mark.parametrize("second", [{"command": ["false"]}, {"file": "/nowhere/key"}, "${NOWHERE}"])
def test_a_request_counts_where_the_next_key_cannot_be_got(judge, second):
    judge.refused = {"sk-a": 401}
    with client(judge.url, ["sk-a", second]) as api, pytest.raises(prx.ConfigError) as caught:
        api.chat("x")
    assert (caught.value.attempts, judge.keys) == (1, ["sk-a"])


def test_a_command_that_fails_late_rests_from_its_end(judge, printer, clock, monkeypatch):
    real = time.monotonic
    monkeypatch.setattr(kept, "time", type("Clock", (), {"monotonic": staticmethod(lambda: real() + late.pop())}))
    late = [30.0, 0.0]
    with client(judge.url, {"command": printer.argv}) as api:
        for clock[0] in (0, 32):
            with pytest.raises(prx.ConfigError):
                api.chat("x")
    assert printer.count == 1


def test_calls_that_still_have_the_key_before_share_its_account():
    opened = []

    def open_with(key, literal):
        opened.append(key.reveal())
        return f"account {len(opened)}"

    place = key_sources._OfFile("api_key", key_sources.KeyFile("key"))
    old, new = prx.secret.Secret("sk-old"), prx.secret.Secret("sk-new")
    assert [place.account(key, open_with) for key in (old, new, old, new)] == ["account 1", "account 2"] * 2
    assert opened == ["sk-old", "sk-new"]


def test_the_key_that_was_got_last_is_the_one_that_is_held(judge, tmp_path):
    place = tmp_path / "key"
    with client(judge.url, {"file": str(place)}) as api:
        for key in ("sk-old", "sk-later"):
            place.write_text(key)
            api.chat("x")
            held = api.accounts.get("compatible").source.held
            assert held.auth["authorization"].reveal() == f"Bearer {key}"


def test_a_file_is_read_again_when_it_changes(judge, tmp_path):
    place = tmp_path / "key"
    place.write_text("sk-first\n")
    with client(judge.url, {"file": str(place)}) as api:
        api.chat("x")
        place.write_text("sk-the-second\n")
        api.chat("x")
        place.unlink()
        with pytest.raises(prx.ConfigError, match="cannot be read: No such file"):
            api.chat("x")
    assert judge.keys == ["sk-first", "sk-the-second"]


def test_a_text_from_a_command_or_a_file_names_no_variable(judge, tmp_path):
    place = tmp_path / "key"
    for text in ("sk-${HOME}", "sk-$${HOME}", "sk-$$${HOME}$${"):
        place.write_text(text)
        with client(judge.url, {"file": str(place)}, {"HOME": "secret-home"}) as api:
            api.chat("x")
        assert judge.keys.pop() == text


@pytest.mark.parametrize("status", [401, 402, 403, 429])
def test_the_next_of_several_keys(judge, status, clock):
    judge.refused = {"sk-a": status}
    with client(judge.url, ["${A}", "${B}"], {"A": "sk-a", "B": "sk-b"}) as api:
        assert api.chat("x").attempts == 2
        assert api.chat("x").attempts == 1, "a key that was refused rests"
        clock[0] = 301
        assert api.chat("x").attempts == 2, "and is tried again after its rest"
    assert judge.keys == ["sk-a", "sk-b", "sk-b", "sk-a", "sk-b"]


def test_other_errors_are_the_same_with_any_key(judge):
    judge.refused = {"sk-a": 400}
    with client(judge.url, ["sk-a", "sk-b"]) as api, pytest.raises(prx.BadRequestError):
        api.chat("x")
    assert judge.keys == ["sk-a"]


def test_with_all_keys_refused_the_last_error_is_told(judge):
    judge.refused = {"sk-a": 429, "sk-b": 401}
    with client(judge.url, ["sk-a", "sk-b"]) as api, pytest.raises(prx.AuthError) as caught:
        api.chat("x")
    assert caught.value.attempts == 2
    assert "sk-b" not in str(caught.value)


def test_the_last_key_is_retried_as_an_only_one_is(judge):
    judge.refused = {"sk-a": 429, "sk-b": 429}
    with client(judge.url, ["sk-a", "sk-b"], retries=1) as api, pytest.raises(prx.RateLimitError) as caught:
        api.chat("x")
    assert (caught.value.attempts, judge.keys) == (3, ["sk-a", "sk-b", "sk-b"])


def test_streams_lists_and_asynchronous_calls_have_the_next_key_as_well(judge):
    judge.refused = {"sk-a": 429}

    async def main():
        async with prx.AsyncClient(
            config(judge.url, ["sk-a", {"command": ["echo", "sk-b"]}]), env=dict(os.environ)
        ) as api:
            return await api.chat("x")

    assert asyncio.run(main()).attempts == 2
    with client(judge.url, ["sk-a", {"command": ["echo", "sk-b"]}]) as api, api.stream("x") as pieces:
        assert "".join(piece.content or "" for piece in pieces) == "hi"
    assert judge.keys == ["sk-a", "sk-b"] * 2


def test_a_route_has_its_own_sources(judge):
    table = config(judge.url, "sk-table")
    table["model_routes"] = [
        {
            "pattern": "mine",
            "provider": "compatible",
            "api_url": judge.url,
            "api_key": {"command": ["echo", "sk-route"]},
        }
    ]
    with prx.Client(table, env=dict(os.environ)) as api:
        api.chat("x", "mine")
        api.chat("x")
    assert judge.keys == ["sk-route", "sk-table"]


def test_a_reload_keeps_what_is_known(judge, printer):
    printer.key.write_text("sk-first")
    with client(judge.url, {"command": printer.argv}) as api:
        api.chat("x")
        api.reload()
        api.chat("x")
    assert printer.count == 1


def test_a_packaged_provider_s_command_is_for_its_own_server(judge, tmp_path):
    (tmp_path / "groq.yaml").write_text(
        f"spec: 1\nid: groq\nname: Groq\nextends: openai-chat\nbase_url: {judge.url}\nauth: {{style: bearer}}\n"
    )
    table = {"providers": {"groq": {"api_key": {"command": ["echo", "sk-groq"]}}}}
    with (
        prx.Client(table, tmp_path, env=dict(os.environ)) as api,
        pytest.raises(prx.ConfigError, match="would send it to"),
    ):
        api.chat("x", "groq/m")
    assert judge.keys == []


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("raise SystemExit('broken sk-printed')", "ended with exit code 1: broken sk-printed"),
        ("print('sk-printed'); raise SystemExit('no sk-printed')", "ended with exit code 1: no ***"),
        ("pass", "printed nothing"),
        ("import sys; sys.stdout.buffer.write(b'sk-\\x00')", "cannot be sent in a header"),
    ],
)
def test_what_a_command_may_do_wrong(judge, program, said):
    with (
        client(judge.url, {"command": [sys.executable, "-c", program]}) as api,
        pytest.raises(prx.ConfigError) as caught,
    ):
        api.chat("x")
    assert said in str(caught.value) or said.startswith("cannot be sent")
    assert judge.keys == []


def test_a_command_that_does_not_end_is_ended_with_its_children(judge, monkeypatch, tmp_path):
    monkeypatch.setattr(command, "_PATIENCE", 0.5)
    late = tmp_path / "late"
    sources = {"command": ["sh", "-c", f"(sleep 2; touch {late}) & sleep 60"]}
    with client(judge.url, sources) as api, pytest.raises(prx.ConfigError, match="had not ended after"):
        api.chat("x")
    time.sleep(2.2)
    assert not late.exists()


def test_a_command_that_failed_is_not_run_for_every_call(judge, printer):
    with client(judge.url, {"command": printer.argv}) as api:
        for _ in range(3):
            with pytest.raises(prx.ConfigError):
                api.chat("x")
    assert printer.count == 1


def test_nothing_shows_a_key(judge, printer, tmp_path):
    printer.key.write_text("sk-very-secret")
    (tmp_path / "file").write_text("sk-also-secret")
    own = tmp_path / "config.toml"
    own.write_text(
        f'[default]\nprovider = "compatible"\n[providers.compatible]\napi_url = "{judge.url}"\nmodel = "m"\n'
        f'api_key = [{{command = {json.dumps(printer.argv)}}}, {{file = "{tmp_path}/file"}}]\n'
    )
    judge.refused = {"sk-very-secret": 401, "sk-also-secret": 401}
    shown = ""
    for words in (
        ["doctor", "compatible"],
        ["explain"],
        ["chat", "x"],
        ["chat", "x", "--dry-run"],
        ["chat", "x", "-vv"],
    ):
        ended = run(*words, env={"PRX_CONFIG": str(own)})
        shown += f"{words}\n{ended.stdout}{ended.stderr}"
    assert f"the command {sys.executable} or the file {tmp_path}/file" in shown
    assert "Traceback" not in shown
    assert "sk-very-secret" not in shown
    assert "sk-also-secret" not in shown
    assert set(judge.keys) == {"sk-also-secret", "sk-very-secret"}


# ------------------------------------------------------------------ client certificates


@pytest.fixture
def certificates(tmp_path):
    """{name: path} of a client's certificate, its key, another key, and a key with a passphrase."""
    made = {name: tmp_path / f"{name}.pem" for name in ("cert", "key", "other", "locked", "both")}

    def openssl(*words):
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)

    openssl(
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=client",
        "-keyout",
        made["key"],
        "-out",
        made["cert"],
    )
    openssl("genrsa", "-out", made["other"], "2048")
    openssl("rsa", "-in", made["key"], "-aes256", "-passout", "pass:secret", "-out", made["locked"])
    made["both"].write_text(made["cert"].read_text() + made["key"].read_text())
    return {name: str(path) for name, path in made.items()}


def mutual(folder, certificates):
    """(what a server speaks TLS with that asks for the client's certificate, the file of its authority)"""
    context, authority = own_authority(folder)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certificates["cert"])
    return context, authority


@pytest.mark.parametrize("form", [("cert", "key"), ("both",)])
def test_a_client_certificate(tmp_path, certificates, form):
    own = tmp_path / "server"
    own.mkdir()
    context, authority = mutual(own, certificates)
    names = dict(zip(("cert_file", "key_file"), (certificates[name] for name in form), strict=False))

    async def one(table):
        async with prx.AsyncClient(table, env={}) as api:
            return (await api.chat("x")).content

    with RawServer(response(200, ANSWER), tls=context) as server:
        url = server.url
        table = config(url, "sk-x", ca_file=authority, **names)
        with prx.Client(table, env={}) as api:
            assert api.chat("x").content == "hi"
        assert asyncio.run(one(table)) == "hi"
        bare = config(url, "sk-x", ca_file=authority)
        with prx.Client(bare, env={}) as api, pytest.raises(prx.ProviderConnectionError):
            api.chat("x")
        with pytest.raises(prx.ProviderConnectionError):
            asyncio.run(one(bare))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({"cert_file": "cert", "key_file": "other"}, "other.pem is not the key of"),
        ({"cert_file": "cert", "key_file": "locked"}, "has a passphrase"),
        ({"cert_file": "cert"}, "has no private key in PEM"),
        ({"cert_file": "none"}, "No such file"),
        ({"key_file": "key"}, "needs cert_file beside it"),
    ],
)
def test_a_certificate_that_cannot_be_used(certificates, names, said):
    named = {key: certificates.get(name, "/nowhere/none.pem") for key, name in names.items()}
    with pytest.raises(prx.ConfigError) as caught, client("https://127.0.0.1:1/v1", "sk-x", **named) as api:
        api.chat("x")
    assert said in str(caught.value)


# ------------------------------------------------------------------ what may stand in the configuration


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ({}, "needs either command"),
        ({"command": ["a"], "file": "b"}, "needs either command"),
        ({"file": "b", "for": 3}, "is for command"),
        ({"comand": ["a"]}, "did you mean 'command'?"),
        ({"command": "a"}, "must be a list"),
        ([], "api_key: has an invalid value"),
        (["${A}", {"file": ""}], "api_key[1].file"),
        (3, "api_key: must be text or a mapping or a list"),
        (["!cmd"], "api_key[0]: begins with"),
    ],
)
def test_what_no_key_can_be(key, said):
    with pytest.raises(prx.ConfigError) as caught:
        client("http://127.0.0.1:1/v1", key)
    assert said in str(caught.value)


def test_a_missing_variable_of_a_list_is_told(judge):
    with client(judge.url, ["${A}", "${B}"]) as api, pytest.raises(prx.ConfigError, match="variable A is not set"):
        api.chat("x")


def test_the_rests_are_what_the_docs_say():
    assert (key_sources._RESTS, key_sources._REST) == ({"rate_limit": 60.0}, 300.0)


# ------------------------------------------------------------------ credentials that are exchanged

EXCHANGED = """spec: 1
id: mine
extends: openai-chat
base_url: {url}/v1
auth:
  required: true
  credential: [MINE_KEY]
  token:
    url: {url}/token
    form: {{id: '{{client_id}}', secret: '{{client_secret}}'}}
    answer: {{token: access_token, expires_in: expires_in, message: error}}
"""


def test_a_credential_from_a_file_or_a_command_is_exchanged(tmp_path, clock):
    place, folder = tmp_path / "credential", tmp_path / "files"
    folder.mkdir()
    place.write_text(json.dumps({"client_id": "one", "client_secret": "first-secret"}))
    with TokenServer() as server:
        (folder / "mine.yaml").write_text(EXCHANGED.format(url=server.url))
        for source in ({"file": str(place)}, {"command": ["cat", str(place)]}):
            server.exchanges.clear()
            with prx.Client({"providers": {"mine": {"api_key": source}}}, folder, env=dict(os.environ)) as api:
                assert [api.chat("hi", "mine/m").content for _ in range(2)] == ["hello"] * 2
            assert [body for *_, body in server.exchanges] == ["id=one&secret=first-secret"]
        with prx.Client({"providers": {"mine": {"api_key": {"file": str(place)}}}}, folder, env={}) as api:
            api.chat("hi", "mine/m")
            place.write_text(json.dumps({"client_id": "one", "client_secret": "a-second-secret"}))
            api.chat("hi", "mine/m")
            server.valid.clear()
            clock[0] = 60
            assert api.chat("hi", "mine/m").attempts == 2, "a token that is refused is got anew"
        assert [body.rpartition("=")[2] for *_, body in server.exchanges[1:]] == [
            "first-secret",
            *["a-second-secret"] * 2,
        ]


def test_where_one_credential_is_refused_the_next_is_exchanged(tmp_path):
    def answer():
        if "secret=bad" in server.exchanges[-1][3]:
            return 401, {"content-type": "application/json"}, b'{"error": "unknown client"}'
        return None

    rows = [json.dumps({"client_id": "one", "client_secret": name}) for name in ("bad", "good")]
    with TokenServer(answer=answer) as server:
        (tmp_path / "mine.yaml").write_text(EXCHANGED.format(url=server.url))
        with prx.Client({"providers": {"mine": {"api_key": rows}}}, tmp_path, env={}) as api:
            assert api.chat("hi", "mine/m").content == "hello"
        assert [body.rpartition("=")[2] for *_, body in server.exchanges] == ["bad", "good"]
