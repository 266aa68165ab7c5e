"""What the page of `prx serve` is made of, and what /status says. tests/page/service.py opens the page in a browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from importlib.metadata import version

import pytest
from helpers.served import CALLER, PROVIDER, Service, begun, provider, until

from prx.emulator.server import Emulator
from prx.errors import KINDS
from prx.serve import failures, page, status

TEXT = page.page().decode()
TEAM = "team-key-51c0"
KEYS = '[serve]\nkeys = ["${CALLER_KEY}"]\n[serve.keys_by_name.team]\nkey = "${TEAM_KEY}"\nmodels = ["up/*"]\n'


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with Emulator({"models": ["words"], "key": PROVIDER}) as up:
        others = provider("dead", "http://127.0.0.1:1/v1") + provider("other", "http://127.0.0.1:1/v1")
        routes = '[[model_routes]]\npattern = "fast"\ntargets = ["dead/words", "up/words"]\ncooldown = 60\n[[model_routes]]\npattern = "own-*"\nprovider = "up"\n'
        running = Service(
            tmp_path_factory.mktemp("page"), KEYS + provider("up", up.url) + others + routes, TEAM_KEY=TEAM
        )
        yield running
        running.stop()


def told(service, key=CALLER):
    answer = service.get("/status", key=key)
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-store"), answer.text
    return json.loads(answer.text)


def rows(told, name, key):
    return {row[key]: row for row in told[name]}


# ------------------------------------------------------------------ the file


def test_it_loads_nothing():
    assert re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)""", TEXT.replace("%3Csvg xmlns=", "")) == [
        "data:image/svg+xml,", "#main", "status",
    ]  # fmt: skip
    assert re.findall(r"https?://[^\s\"'`<)]+", TEXT) == ["http://www.w3.org/2000/svg"] * 3
    assert not re.findall(
        r"@import|url\(|XMLHttpRequest|WebSocket|EventSource|sendBeacon|\bimport\b|innerHTML|insertAdjacent|\beval\b|document\.write|style=|\son\w+=",
        TEXT,
    )
    assert re.findall(r"fetch\((.*?),", TEXT) == ['"status"']


def test_its_policy_lets_only_its_own_blocks_through():
    rules = {name: values for name, *values in map(str.split, page.headers()["content-security-policy"].split(";"))}
    assert (rules["default-src"], rules["connect-src"], rules["form-action"]) == (["'none'"], ["'self'"], ["'none'"])
    for tag in ("script", "style"):
        blocks = re.findall(rf"<{tag}>(.*?)</{tag}>", TEXT, re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(block.encode()).digest()).decode() for block in blocks]
        assert rules[f"{tag}-src"] == [f"'sha256-{digest}'" for digest in digests]
        assert TEXT.count(f"<{tag}") == len(blocks) == 1


def test_it_has_words_for_every_kind_of_error():
    of_calls, of_requests = (
        set(re.findall(r"(?m)^  (\w+):", part)) for part in re.findall(r"const OF_\w+ = \{\n(.*?)\n\}", TEXT, re.DOTALL)
    )
    assert {*KINDS, "cancelled"} <= of_calls
    assert of_requests | of_calls >= {*failures._STATUS}
    assert {"permission", "too_large", "overloaded", "auth", "rate_limit"} <= of_requests


# ------------------------------------------------------------------ who may look


def test_without_a_key_there_is_no_figure(service):
    for path in ("/status", "/metrics"):
        assert [service.get(path, key=key).status for key in (None, "wrong", CALLER)] == [401, 401, 200]
        assert "up/words" not in service.get(path, key=None).text
    form = service.get("/", key=None, accept="text/html,*/*")
    assert (form.status, form.headers["content-type"], form.text) == (401, "text/html; charset=utf-8", TEXT)
    assert json.loads(service.get("/", key=None, accept="*/*").text)
    assert service.get("/").text == TEXT
    assert service.answer(service.open("HEAD", "/")).status == 200
    assert not [name for name in ("up/words", "team", version("prx-engine")) if name in TEXT]


def test_no_key_is_told(service):
    service.chat(f"up/{PROVIDER}", x_request_id=CALLER)
    assert told(service)["failures"][0]["model"] == "up/***"
    for key in (CALLER, TEAM):
        text = service.get("/status", key=key).text
        assert not [secret for secret in (CALLER, TEAM, PROVIDER) if secret in text]
        assert not [one for one in (CALLER, TEAM) if hashlib.sha256(one.encode()).hexdigest() in text]


def test_a_key_with_a_name_is_told_of_its_own(service):
    service.chat("other/words")
    known = told(service, TEAM)
    assert [[row["name"] for row in known[name]] for name in ("models", "callers")] == [["up/words"], ["team"]]
    assert [row["id"] for row in known["providers"]] == ["up"]
    assert not [row for name in ("calls", "failures") for row in known[name] if not row["model"].startswith("up/")]
    everything = told(service)
    assert [row["name"] for row in everything["callers"]] == ["", "team"]
    assert "other/words" in rows(everything, "calls", "model")


# ------------------------------------------------------------------ what is told


def test_what_is_served(service):
    known = told(service)
    models = rows(known, "models", "name")
    assert [target["model"] for target in models["fast"]["targets"]] == ["dead/words", "up/words"]
    assert (models["fast"]["policy"], models["own-*"]["pattern"]) == ("order", True)
    assert rows(known, "providers", "id")["up"]["dialect"] == "openai-chat"
    faces = rows(known, "faces", "id")
    assert len(faces) >= 5
    assert all(face["example"] for face in faces.values()), "a dialect that is served has an example"
    assert (known["state"], known["version"], known["needs_key"], known["process"]["of"]) == (
        "ready", version("prx-engine"), True, 1,
    )  # fmt: skip


def test_calls_errors_and_times(service):
    before = rows(told(service), "calls", "model").get("up/words", {"count": 0})["count"]
    for stream in (True, True, False):
        assert service.chat("up/words", stream=stream).status == 200
    service.chat("dead/words")
    service.chat("nobody/x")
    known = told(service)
    calls = rows(known, "calls", "model")
    assert calls["up/words"]["count"] == before + 3
    assert 0 < calls["up/words"]["first_output"]["median"] <= calls["up/words"]["first_output"]["most"] < 20
    assert calls["up/words"]["tokens"]["output"] > 0
    assert (calls["dead/words"]["errors"], calls["dead/words"]["duration"]) == ({"connection": 1}, None)
    assert known["refused"]["not_found"] >= 1
    failure = known["failures"][0]
    assert (failure["model"], failure["kind"], failure["provider"]) == ("dead/words", "connection", "dead")
    assert failure["id"].startswith("req_")


def test_a_running_call_and_a_target_that_rests(service):
    for _ in range(3):
        assert service.chat("fast").status == 200
    (resting,) = told(service)["resting"]
    assert (resting["target"], 50 < resting["seconds"] <= 60) == ("dead/words", True)
    assert told(service)["running"]["calls"] == []
    assert told(service, TEAM)["resting"] == []


def test_a_running_call(tmp_path):
    with Emulator({"models": ["words"], "delay": 0.3}) as slow:
        running = Service(tmp_path, provider("slow", slow.url))
        try:
            with begun(running, "slow/words"):
                known = told(running)["running"]
            assert (known["count"], known["calls"][0]["model"], known["calls"][0]["answering"]) == (
                1, "slow/words", True,
            )  # fmt: skip
            assert until(lambda: told(running)["running"] == {"count": 0, "most": 1000, "calls": []})
        finally:
            running.stop()


def test_a_share_of_calls_by_buckets():
    buckets = [(1.0, 4), (2.0, 8), (float("inf"), 10)]
    assert [status._quantile(buckets, share) for share in (0.2, 0.5, 0.8, 0.95)] == [0.5, 1.25, 2.0, 2.0]
    assert status._quantile([(1.0, 0), (float("inf"), 3)], 0.5) == 1.0
