"""Recordings played back by our own reader: without vcrpy, without a network, each exchange once and in its order."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers.recordings import CASSETTES
from judges.dialects import Emulator

from prx.aclient import AsyncClient
from prx.client import Client
from prx.conformance import cases, cassette, run, suite
from prx.conformance.evidence import digest_of
from prx.errors import ConfigError, ProtocolError, TruncatedError
from prx.mask import Mask
from prx.secret import Secret
from prx.spec.catalog import Catalog
from prx.spec.model import Limits
from prx.transport.playback import AsyncPlayback, Interaction, Playback
from prx.wire import HttpRequest

URL = "https://api.example/v1/chat"
KEY = "sk-a-key-of-mine-0000"
LIMITS = Limits()
CHAT = next(case for case in cases.load() if case.name == "chat")
WITHOUT = (
    "import sys\nfor name in {names}: sys.modules[name] = None\nimport prx.cli\nsys.argv[0] = 'prx'\nprx.cli.main()"
)


def prx(*arguments, without, cwd):
    """The command, in a process where some packages cannot be imported."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT.format(names=without), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        timeout=300,
    )


def request(sent=None, url=URL, **more):
    body = sent if isinstance(sent, bytes) else json.dumps(sent).encode() if sent is not None else b""
    return HttpRequest("POST", url, {"authorization": Secret(KEY, "Bearer {api_key}")}, body, **more)


def interaction(sent=None, answer=b"hello", uri=URL, **headers):
    return Interaction(
        "POST", uri, sent, 200, {name.replace("_", "-"): value for name, value in headers.items()}, answer
    )


def playback(*interactions):
    return Playback(interactions, Mask([Secret(KEY)]), "some.yaml")


def body_of(played):
    return b"".join(iter(played.read, b""))


# ------------------------------------------------------------------ matching


def test_an_exchange_is_played_once():
    player = playback(interaction({"n": 1}, b"one", content_type="text/plain"))
    assert (len(player), player.play_count, player.all_played) == (1, 0, False)
    played = player.send(request({"n": 1}), LIMITS)
    assert (played.head.status, dict(played.head.headers)) == (200, {"content-type": "text/plain"})
    assert (played.read(), played.read(), played.read()) == (b"one", b"", b"")
    assert (player.play_count, player.all_played, player.missing) == (1, True, None)
    with pytest.raises(
        ConfigError, match="the one that was recorded has been played already; record it again"
    ) as caught:
        player.send(request({"n": 1}), LIMITS)
    assert str(caught.value).startswith(f"some.yaml: no recorded exchange is left for POST {URL}: ")
    assert player.missing is not None


def test_equal_requests_are_answered_in_their_order():
    player = playback(interaction({"n": 1}, b"one"), interaction({"n": 2}, b"other"), interaction({"n": 1}, b"two"))
    assert [body_of(player.send(request({"n": n}), LIMITS)) for n in (1, 1, 2)] == [b"one", b"two", b"other"]
    assert player.all_played


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (request({"n": 2}), "the body of the request has changed"),
        (request(), "the body of the request has changed"),
        (request({"n": 1}, f"{URL}/x"), "no such request was recorded"),
        (request({"n": 1}, f"{URL}?x=1"), "no such request was recorded"),
        (request({"n": 1})._replace(method="GET"), "no such request was recorded"),
    ],
)
def test_a_request_that_was_not_recorded(asked, why):
    player = playback(interaction({"n": 1}))
    with pytest.raises(ConfigError, match=f"{why}; record it again"):
        player.send(asked, LIMITS)
    assert player.play_count == 0
    with pytest.raises(ConfigError, match=r"some\.yaml"):
        playback().send(asked, LIMITS)


def test_a_key_in_a_request_is_masked_before_it_is_compared():
    recorded = f"{URL}?key=***"
    player = playback(interaction({"user": "I am ***"}, uri=recorded), interaction({"***": 1}, uri=recorded))
    player.send(request({"user": f"I am {KEY}"}, query={"key": Secret(KEY)}), LIMITS)
    player.send(request({KEY: 1}, f"{URL}?key={KEY}"), LIMITS)
    with pytest.raises(ConfigError) as caught:
        player.send(request({"user": KEY}, query={"key": Secret(KEY)}), LIMITS)
    assert KEY not in str(caught.value)
    assert "?key=***" in str(caught.value)


def test_a_parameter_with_a_key_may_have_been_left_out():
    playback(interaction()).send(request(query={"key": Secret(KEY)}), LIMITS)


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("https://API.example:443/v1/%7Ea b", "https://api.example/v1/~a%20b"),
        ("http://api.example:80", "http://api.example/"),
        ("http://bücher.example/a", "http://xn--bcher-kva.example/a"),
    ],
)
def test_an_address_is_compared_as_it_is_sent(written, sent):
    playback(interaction(uri=sent)).send(request(url=written), LIMITS)


def test_a_body_that_is_no_json_is_compared_as_text():
    playback(interaction("a=1")).send(request(b"a=1"), LIMITS)
    with pytest.raises(ConfigError, match="has changed"):
        playback(interaction("a=1")).send(request(b"a=2"), LIMITS)


# ------------------------------------------------------------------ bodies


def test_a_packed_body_is_unpacked():
    text = b"data: hello\n\n" * 20_000
    player = playback(
        interaction(1, gzip.compress(text), content_encoding="gzip"), interaction(2, text, content_encoding="gzip")
    )
    assert body_of(player.send(request(1), LIMITS)) == text
    assert body_of(player.send(request(2), LIMITS)) == text, "one that says that it is packed and is not"


def test_a_packed_body_that_is_broken():
    half = gzip.compress(b"hello" * 1000)[:20]
    with pytest.raises(TruncatedError):
        body_of(playback(interaction(1, half, content_encoding="gzip")).send(request(1), LIMITS))
    with pytest.raises(ProtocolError):
        body_of(playback(interaction(1, b"\x1f\x8bnone", content_encoding="gzip")).send(request(1), LIMITS))


def test_a_closed_response_says_nothing_more():
    played = playback(interaction(1, b"x" * 200_000)).send(request(1), LIMITS)
    assert len(played.read()) == 65536
    played.close(complete=False)
    assert played.read() == b""


def test_played_by_who_awaits():
    async def ask():
        player = AsyncPlayback(playback(interaction(1, b"one"), interaction(2, b"two")))
        played = await player.send(request(1), LIMITS)
        said = [await played.read(), await played.read()]
        await played.finish()
        with pytest.raises(ConfigError):
            await player.send(request(3), LIMITS)
        return played.head.status, said, await (await player.send(request(2), LIMITS)).read()

    assert asyncio.run(ask()) == (200, [b"one", b""], b"two")


# ------------------------------------------------------------------ without vcrpy


def test_everything_is_played_without_vcrpy(tmp_path):
    """A provider of each dialect; all of them are played in a fresh install without vcrpy, in .ci/run."""
    dialects = ("compatible", "openai-responses", "anthropic", "gemini", "cohere", "ollama-native")
    done = prx("conformance", *dialects, "--json", without=("vcr",), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["results"]
    passed = {(row["provider"], row["case"]) for row in rows if row["outcome"] == "passed"}
    assert passed == {(name, path.stem) for name in dialects for path in (CASSETTES / name).glob("*.yaml")}
    assert {row["outcome"] for row in rows} <= {"passed", "unrecorded", "skipped"}


@pytest.mark.parametrize("arguments", [("conformance", "groq", "--record"), ("record", "groq", "--emulated", "-")])
def test_to_record_needs_vcrpy_and_says_so(tmp_path, arguments):
    done = prx(*arguments, without=("vcr",), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "prx: recording needs the package vcrpy: pip install 'prx-engine[conformance]'\n"
    assert not list(tmp_path.iterdir())


@pytest.fixture
def desk(tmp_path):
    with Emulator({"key": "sk-right-0000"}) as emulator:
        (tmp_path / "mine.yaml").write_text(
            f"spec: 1\nid: mine\nextends: openai-chat\nbase_url: {emulator.url}\nauth: {{style: bearer}}\n"
        )
        settings = f'[providers.mine]\napi_url = "{emulator.url}"\napi_key = "sk-right-0000"\nmodel = "words"\n'
        (tmp_path / "c.toml").write_text(settings)
        yield tmp_path


def test_live_needs_no_vcrpy_and_reports_what_a_recording_does(desk):
    asked = ("conformance", "mine.yaml", "--config", "c.toml", "--json")
    live = prx(*asked, "--live", without=("vcr",), cwd=desk)
    recorded = prx(*asked, "--record", without=(), cwd=desk)
    assert (live.returncode, recorded.returncode) == (0, 0), live.stderr
    assert "sk-right-0000" not in live.stdout
    for one, other in zip(*(json.loads(done.stdout)["results"] for done in (live, recorded)), strict=True):
        assert (one["case"], one["outcome"]) == (other["case"], other["outcome"])
        assert [row["request"] for row in one["exchanges"]] == [row["request"] for row in other["exchanges"]]
        assert [_shape(row["response"]) for row in one["exchanges"]] == [
            _shape(row["response"]) for row in other["exchanges"]
        ]
        assert {**one["evidence"], "digest": ""} == {**other["evidence"], "digest": ""}


def _shape(response):
    return response["status"], response["headers"].keys(), "json" in response


def test_recordings_are_put_here_and_found_here(desk):
    """Whatever the installation brings along: nothing is written there."""
    asked = ("conformance", "mine.yaml", "--config", "c.toml", "--case", "chat")
    assert prx(*asked, "--record", without=(), cwd=desk).returncode == 0
    assert (desk / "cassettes" / "mine" / "chat.yaml").is_file()
    assert prx(*asked, without=("vcr",), cwd=desk).returncode == 0


def test_where_recordings_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert suite.default_recordings("record") == Path("cassettes")
    assert suite.default_recordings().is_absolute(), "the packaged ones, to be read"
    (tmp_path / "cassettes").mkdir()
    assert suite.default_recordings() == Path("cassettes")


# ------------------------------------------------------------------ what is missing, through a case


def test_what_is_missing_is_told_whatever_the_case_makes_of_it(tmp_path):
    """A case that wants an error is not passed by the one that says that nothing was recorded."""
    refused = next(case for case in cases.load() if case.name == "unknown_model")
    path = tmp_path / "unknown_model.yaml"
    value = yaml.safe_load((CASSETTES / "groq" / "unknown_model.yaml").read_text())
    value["interactions"][0]["request"]["json"]["model"] = "another"
    value["evidence"]["digest"] = digest_of(value["interactions"])
    path.write_text(yaml.safe_dump(value))
    with pytest.raises(ConfigError, match="the body of the request has changed"):
        run.replay(refused, "groq", path, [])
    value["interactions"] = []
    value["evidence"]["digest"] = digest_of([])
    path.write_text(yaml.safe_dump(value))
    with pytest.raises(ConfigError, match="no such request was recorded"):
        run.replay(refused, "groq", path, [])


# ------------------------------------------------------------------ vcrpy's own form

ANSWER = {"choices": [{"message": {"role": "assistant", "content": f"Hello {KEY}"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}  # fmt: skip


def foreign(path, body, **headers):
    asked = yaml.safe_load((CASSETTES / "compatible" / "chat.yaml").read_text())["interactions"][0]["request"]["json"]
    row = {
        "request": {
            "method": "POST", "uri": f"{URL}/completions", "body": json.dumps(asked).encode(),
            "headers": {"Authorization": [f"Bearer {KEY}"], "Content-Type": ["application/json"], "User-Agent": ["x"]},
        },
        "response": {
            "status": {"code": 200, "message": "OK"}, "body": body,
            "headers": {"Content-Type": ["application/json"], "Set-Cookie": ["a=b"], **headers},
        },
    }  # fmt: skip
    path.write_text(yaml.safe_dump({"version": 1, "interactions": [row]}))
    return path


@pytest.fixture
def theirs(tmp_path):
    (tmp_path / "theirs.yaml").write_text(
        "spec: 1\nid: theirs\nextends: openai-chat\nbase_url: https://api.example/v1\nauth: {style: bearer}\n"
    )
    return tmp_path


PLAIN = json.dumps(ANSWER)
PACKED = gzip.compress(PLAIN.encode())
GZIP = {"Content-Encoding": ["gzip"]}


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ({"string": PLAIN}, {}),
        ({"string": PLAIN.encode()}, {}),
        ({"string": PACKED}, GZIP),
        ({"string": PLAIN}, GZIP),
        ({"base64_string": base64.b64encode(PACKED).decode()}, GZIP),
    ],
    ids=["text", "bytes", "packed", "said to be packed", "base64"],
)
def test_a_file_of_vcrpys_own_is_played(theirs, body, headers):
    path = foreign(theirs / "chat.yaml", body, **headers)
    result = run.replay(CHAT, "theirs", path, [theirs])
    assert (result.outcome, result.why) == ("passed", "")
    assert result.seen["reply"]["content"] == "Hello ***", "its keys are known by the headers that they are in"
    assert KEY not in repr(result)
    assert (result.evidence.kind, result.evidence.base_url) == ("corpus", "https://api.example/v1")
    (exchange,) = result.exchanges
    assert {name.lower() for name in exchange["request"]["headers"]} == {"authorization", "content-type"}
    assert exchange["response"]["headers"] == {"content-type": "application/json"}
    assert "choices" in exchange["response"]["json"]


def test_a_file_of_vcrpys_own_that_is_cut_short(theirs):
    path = foreign(theirs / "chat.yaml", {"string": PACKED[:30]}, **GZIP)
    result = run.replay(CHAT, "theirs", path, [theirs])
    assert (result.outcome, result.seen["error"]["kind"]) == ("failed", "truncated")


@pytest.mark.parametrize(
    "text",
    [
        "version: 1\n",
        "version: 1\ninteractions: 1\n",
        "version: 1\ninteractions: [1]\n",
        "version: 1\ninteractions: [{request: {method: GET, uri: x, body: null, headers: []}, response: {}}]\n",
        "version: 1\ninteractions: [{request: {method: GET, uri: x, body: '', headers: {}}, response: {status: {code: x}, headers: {}, body: {}}}]\n",
        "version: 1\ninteractions: [{request: {method: GET, uri: x, body: {base64_string: '*'}, headers: {}}}]\n",
        "version: 2\n",
        "[]\n",
        "a: [\n",
    ],
)
def test_a_file_of_something_else(theirs, text):
    path = theirs / "chat.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="not a recording: "):
        run.replay(CHAT, "theirs", path, [theirs])


def test_a_file_that_names_no_model(theirs):
    path = theirs / "chat.yaml"
    path.write_text("version: 1\ninteractions: []\n")
    with pytest.raises(ConfigError, match="no request in it names a model"):
        run.replay(CHAT, "theirs", path, [theirs])


def test_all_of_ours_are_read():
    for path in sorted(CASSETTES.glob("*/chat.yaml")):
        found = cassette.load(path)
        assert found.interactions, path
        assert Catalog().entry(path.parent.name)


def test_both_clients_play_the_same_recordings():
    """The calls of an application, through a client and through an asynchronous one, with no network for either."""

    def recorded():
        return playback(
            Interaction(
                "POST", "http://host.invalid/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
                200, {"content-type": "application/json"}, json.dumps({"choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}]}).encode(),
            )
        )  # fmt: skip

    config = {"providers": {"compatible": {"api_url": "http://host.invalid/v1", "api_key": "k"}}}

    async def ask():
        async with AsyncClient(config=config, env={}) as api:
            api._playback = AsyncPlayback(recorded())
            return await api.chat("hi", "compatible/m")

    with Client(config=config, env={}) as api:
        api._playback = recorded()
        assert api.chat("hi", "compatible/m").content == "hello" == asyncio.run(ask()).content
