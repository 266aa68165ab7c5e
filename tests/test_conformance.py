"""Recordings and their ledger. Every provider against every case is in providers.d itself: the plugin makes each file tests."""

from __future__ import annotations

import copy
import dataclasses
import fnmatch
import os
import re
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from helpers import commands, data_files
from helpers.token_server import TokenServer
from judges.dialects import Emulator

from prx import Client, resources, urls
from prx.conformance import cases, run
from prx.conformance.evidence import Evidence, checked, digest_of, value_of
from prx.conformance.run import Asked
from prx.errors import ConfigError, ProtocolError
from prx.spec.loader import Loader

ROOT = Path(__file__).parents[1]
CASSETTES = ROOT / "cassettes"
CASES = cases.load()
CATALOG = Loader()
LEDGER = yaml.safe_load((CASSETTES / "todo.yaml").read_text()) or {}


@pytest.fixture
def no_network(monkeypatch):
    def blocked(*_):
        raise AssertionError("a replay reached for the network")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, blocked)
    monkeypatch.setattr(socket, "getaddrinfo", blocked)


def test_every_line_of_the_ledger_is_needed():
    """A case, a provider of which nothing is recorded, or a pattern: each explains something that is missing."""
    missing = {
        f"{entry.id}/{case.name}"
        for entry in CATALOG.entries()
        for case in CASES
        if case.fits(CATALOG.load(entry).spec()) and not (CASSETTES / entry.id / f"{case.name}.yaml").exists()
    }
    assert all(isinstance(reason, str) and reason for reason in LEDGER.values())
    for key in LEDGER:
        if "/" in key:
            assert fnmatch.filter(missing, key), f"{key}: nothing is missing that this line would explain"
        else:
            assert CATALOG.entry(key), f"{key}: no such provider"
            assert not (CASSETTES / key).exists(), f"{key}: is recorded by now"


def test_every_recording_belongs_to_a_case():
    names = {case.name for case in CASES}
    for path in CASSETTES.glob("*/*.yaml"):
        assert CATALOG.entry(path.parent.name), path
        assert path.stem in names, path


RECORDED = sorted(CASSETTES.glob("*/*.yaml"))
KEY_SHAPED = re.compile(
    r"\b(sk-[A-Za-z0-9_-]{8,}|gsk_\w{8,}|xai-\w{8,}|hf_\w{8,}|nvapi-\S{8,}|AIza\S{20,}|Bearer (?!\*\*\*)\S+|eyJ[\w-]{20,})"
)
HEADERS = {
    "accept", "content-type", "anthropic-version", "authorization", "x-api-key", "api-key", "x-goog-api-key", "x-request-id",
    "retry-after", "retry-after-ms",
}  # fmt: skip


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_recording_holds_no_key_and_says_what_it_is(path):
    text = path.read_text()
    assert not KEY_SHAPED.findall(text)
    value = value_of(path)
    evidence = checked(path, value)[0]
    assert evidence.kind in ("live", "server", "emulated")
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", evidence.date)
    assert ("emulator" in evidence.what) == (evidence.kind == "emulated") == ("emulator.invalid" in evidence.base_url)
    for exchange in value["interactions"]:
        assert exchange["request"]["headers"].keys() | exchange["response"]["headers"].keys() <= HEADERS
        assert urls.origin(exchange["request"]["uri"]) == urls.origin(evidence.base_url), (
            "an endpoint may be beside the base"
        )
        for name in ("authorization", "x-api-key", "api-key", "x-goog-api-key"):
            assert exchange["request"]["headers"].get(name, "***").endswith("***")


def test_a_deviation_takes_the_place_of_a_case():
    """What a file admits to is held to, too: the deviation must be true."""
    by_name = {case.name: case for case in CASES}
    spec = CATALOG.get("llamacpp").spec()
    assert by_name["unknown_model"].conditions(spec) == ("reply.content",)
    assert by_name["unknown_model"].conditions(CATALOG.get("vllm").spec()) == by_name["unknown_model"].hold
    seen = {"reply": None, "error": {"kind": "not_found"}}
    assert cases.failures(by_name["unknown_model"], spec, seen) == ["reply.content"]
    odd = replace(by_name["chat"], hold=("error.kind > `1`",))
    assert cases.failures(odd, spec, seen) == ["error.kind > `1`"], "what does not compare does not hold"


EDITS = [
    ("Hello!", "Hullo!"),
    ("content: Say hello.", "content: Say hullo."),
    ("finish_reason: stop", "finish_reason: length"),
]


@pytest.mark.parametrize("resealed", [False, True])
@pytest.mark.parametrize(("token", "other"), EDITS)
def test_a_recording_edited_by_one_token_is_found_out(token, other, resealed, tmp_path, no_network):
    """By its digest; and with a new digest, in the answer by the conditions, in the request by finding nothing to play."""
    path = tmp_path / "chat.yaml"
    text = (CASSETTES / "llamacpp" / "chat.yaml").read_text()
    assert text.count(token) == 1
    path.write_text(text.replace(token, other))
    case = next(case for case in CASES if case.name == "chat")
    strict = dataclasses.replace(case, hold=(*case.hold, "contains(reply.content, 'Hello!')"))
    if not resealed:
        with pytest.raises(ConfigError, match="was edited after it was recorded"):
            run.replay(strict, "llamacpp", path, [])
        return
    reseal(path)
    if token.startswith("content"):
        with pytest.raises(ConfigError, match=r"chat\.yaml: .* the body of the request has changed; record it again"):
            run.replay(strict, "llamacpp", path, [])
    else:
        assert run.replay(strict, "llamacpp", path, []).failures


def reseal(path):
    value = yaml.safe_load(path.read_text())
    value["evidence"]["digest"] = digest_of(value["interactions"])
    path.write_text(yaml.safe_dump(value, sort_keys=False))


def test_an_exchange_that_is_not_played_is_found_out(tmp_path, no_network):
    value = yaml.safe_load((CASSETTES / "llamacpp" / "chat.yaml").read_text())
    value["interactions"] += copy.deepcopy(value["interactions"])
    path = tmp_path / "chat.yaml"
    path.write_text(yaml.safe_dump(value))
    reseal(path)
    with pytest.raises(ProtocolError, match="1 of 2 recorded exchanges"):
        run.replay(next(case for case in CASES if case.name == "chat"), "llamacpp", path, [])


def test_recording_and_playing_back(tmp_path, monkeypatch):
    """The whole way: a server, a recording with a deadline set, and the recording alone."""
    (tmp_path / "mine.yaml").write_text(
        "spec: 1\nid: mine\nextends: openai-chat\nauth: {style: custom, name: x-key, template: 'K {api_key}'}\ntransport: {total: 30}\n"
    )
    chats = [case for case in CASES if not case.kind]  # of the others: test_conformance_others.py
    with Emulator({"key": "K sk-the-right-key-1", "auth": "x-key"}) as emulator:
        evidence = Evidence("server", "a test", "2026-01-01", emulator.url, "words")
        for case in chats:
            path = tmp_path / "out" / f"{case.name}.yaml"
            asked = Asked(
                "mine", run.connect("mine", emulator.url, "sk-the-right-key-1", [tmp_path]), evidence, emulator.url
            )
            assert run.record(case, asked, path).failures == ()
            assert "sk-the-right" not in path.read_text()
            assert "K ***" in path.read_text()
    monkeypatch.setattr(socket.socket, "connect", None)
    for case in chats:
        assert run.replay(case, "mine", tmp_path / "out" / f"{case.name}.yaml", [tmp_path]).failures == ()


EXCHANGING = """spec: 1
id: mine
extends: openai-chat
base_url: {url}/v1
auth: {{required: true, credential: MINE_KEY, token: {{url: '{url}/token', form: {{key: '{{api_key}}'}}, answer: {{token: access_token}}}}}}
"""


@pytest.mark.parametrize("own", [True, False], ids=["a client of one's own", "the command's"])
def test_an_exchange_is_not_recorded(tmp_path, monkeypatch, own):
    """Neither the request that gets a token, nor the credential, nor the token; and a recording is played without an exchange."""
    env = {"MINE_KEY": "credential-0123456789"}
    case, path = next(case for case in CASES if case.name == "chat"), tmp_path / "out" / "mine" / "chat.yaml"
    with TokenServer(model="words", echo=True) as server:
        (tmp_path / "mine.yaml").write_text(EXCHANGING.format(url=server.url))
        if own:
            asked = Asked(
                "mine",
                lambda _: Client({}, tmp_path, env=env),
                Evidence("server", "a test", "2026-01-01", f"{server.url}/v1", "words"),
                f"{server.url}/v1",
            )
            run.record(case, asked, path)
            listened = run.live(case, asked)
            assert [row["request"]["uri"] for row in listened.exchanges] == [f"{server.url}/v1/chat/completions"]
            assert "token-made" not in str(listened.exchanges)
        else:
            where = ["--model", "words", "--case", "chat", "--to", str(tmp_path / "out"), "--providers", str(tmp_path)]
            done = commands.run("record", "mine", *where, env={**os.environ, **env})
            assert "mine/chat: recorded" in done.stdout, done.stderr
            assert "token-made" not in done.stdout + done.stderr
        assert len(server.exchanges) == (2 if own else 1)
        assert {headers["authorization"] for *_, headers, _ in server.calls} <= {
            f"Bearer {token}" for token in server.valid
        }
    text = path.read_text()
    (exchange,) = yaml.safe_load(text)["interactions"]
    assert exchange["request"]["uri"].endswith("/v1/chat/completions")
    assert "token-made" not in text
    assert "credential-0123" not in text
    monkeypatch.setattr(socket.socket, "connect", None)
    run.replay(case, "mine", path, [tmp_path])


def test_cases_are_packaged():
    assert {case.name for case in CASES} >= {
        "chat",
        "stream",
        "tools",
        "stream_tools",
        "unknown_model",
        "wrong_key",
        "models",
    }
    assert resources.folder("cases").is_dir()


@pytest.mark.parametrize(("name", "uri"), [("chat", "/openai/v1/chat/completions"), ("models", "/v1/models")])
def test_a_recorded_address_is_nobodys_port(tmp_path, name, uri):
    """Neither below the base URL nor beside it, where an endpoint may be as well."""
    (tmp_path / "beside.yaml").write_text(
        "spec: 1\nid: beside\nextends: openai-chat\nendpoints: {models: /../../v1/models}\n"
    )
    with Emulator({}) as emulator:
        real, shown = emulator.url.replace("/v1", "/openai/v1"), "http://emulator.invalid/openai/v1"
        evidence = Evidence("emulated", "an emulator", "2026-01-01", shown, "words")
        asked = Asked("beside", run.connect("beside", real, "", [tmp_path]), evidence, real)
        run.record(next(case for case in CASES if case.name == name), asked, tmp_path / "kept.yaml")
    (exchange,) = data_files.read(tmp_path / "kept.yaml")["interactions"]
    assert exchange["request"]["uri"] == f"http://emulator.invalid{uri}"
