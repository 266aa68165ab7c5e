"""prx explain: the rule, file and line behind each difference; and that no check before a deploy prints a key."""

from __future__ import annotations

import base64
import json
import os

import pytest
from helpers import commands

from prx.spec.loader import Loader
from prx.spec.origins import Origins

KEY = "sk-very-secret-0123456789"
OTHER = "sk-other-secret-987654321"
MINE = """spec: 1
id: mine
extends: openai-chat
base_url: https://x.example/v1
auth: {style: x-api-key, env: MINE_KEY, required: true}
request:
  headers: {x-title: Mine}
  roles: {system: developer}
  parameters:
    max_tokens: {rename: max_completion_tokens}
    temperature: {max: 1}
    logprobs: {drop: true}
    seed: {default: 7}
capabilities:
  vision: false
overrides:
  - model: 'big-*'
    request: {parameters: {top_p: {drop: true}}}
"""
ENV = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(MINE)
    return path


def prx(*arguments, cwd=None, **env):
    done = commands.run(*arguments, env=ENV | env, cwd=cwd)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def explain(mine, *arguments, model="small", **env):
    done = prx("explain", "-p", mine, "-m", model, "--json", "hi", *arguments, **env)
    assert done.returncode == 0, done
    return json.loads(done.stdout)


def reasons(rows):
    """{rule: (what, name of the file, line)}"""
    return {row["rule"]: (row["what"], row["file"] and row["file"].rpartition("/")[2], row["line"]) for row in rows}


def test_each_difference_has_its_rule_and_line(mine):
    given = [f"--param={each}" for each in ("max_tokens=16", "temperature=1.5", "logprobs=true", "top_p=0.5")]
    found = explain(mine, *given, "-s", "Be brief.")
    assert found["request"]["body"]["max_completion_tokens"] == 16
    assert reasons(found["differences"]) == {
        "base_url": ("server https://x.example/v1", "mine.yaml", 4),
        "auth.style": ("header x-api-key: ***", "mine.yaml", 5),
        "request.headers.x-title": ("header x-title: Mine", "mine.yaml", 7),
        "request.roles.system": ("messages[0].role: system → developer", "mine.yaml", 8),
        "request.parameters.max_tokens.rename": ("max_tokens → max_completion_tokens", "mine.yaml", 10),
        "request.parameters.temperature.max": ("temperature: 1.5 → 1", "mine.yaml", 11),
        "request.parameters.logprobs.drop": ("logprobs left out", "mine.yaml", 12),
        "request.parameters.seed.default": ("seed: added, 7", "mine.yaml", 13),
        "request.body.stream_options": ('stream_options: added, {"include_usage": true}', "openai-chat.yaml", _line("stream_options:")),
    }  # fmt: skip


def _line(text):
    path = Loader().base_path("openai-chat")
    return next(number for number, line in enumerate(path.read_text().splitlines(), 1) if line.strip().startswith(text))


def test_a_rule_that_changes_nothing_of_this_call_is_not_named(mine):
    found = reasons(explain(mine, "--no-stream", "--param", "temperature=0.5")["differences"])
    assert [rule for rule in found if rule.startswith("request.")] == [
        "request.headers.x-title",
        "request.parameters.seed.default",
    ]


def test_a_rule_of_an_override(mine):
    rule = "request.parameters.top_p.drop"
    assert reasons(explain(mine, "--param", "top_p=0.5", model="big-1")["differences"])[rule] == (
        "top_p left out",
        "mine.yaml",
        18,
    )
    assert rule not in reasons(explain(mine, "--param", "top_p=0.5")["differences"])


def test_a_refused_call(mine, tmp_path):
    picture = tmp_path / "a.png"
    picture.write_bytes(base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="))  # fmt: skip
    found = explain(mine, "--image", picture)
    assert found["request"] is None
    (row,) = found["refused"]
    assert (row["rule"], row["line"]) == ("capabilities.vision", 15)
    assert [row["rule"] for row in explain(mine)["lacks"]] == ["capabilities.vision"]


def test_another_dialect_path_and_endpoint():
    found = explain("anthropic", "--param", "max_tokens=9")
    rows = reasons(found["differences"])
    assert rows["endpoints.chat"][:2] == ("path /messages", "anthropic-messages.yaml")
    assert rows["request.body.messages"][:2] == ("messages: in another form", "anthropic-messages.yaml")
    assert found["key"][0]["what"] == "the variable ANTHROPIC_API_KEY, which is not set"


def test_limits_and_key_come_from_the_configuration(mine, tmp_path):
    config = tmp_path / "config.toml"
    config.write_text(
        '[[model_routes]]\npattern = "fast"\nprovider = "mine"\nmodel = "big-2"\n[providers.mine]\napi_url = "https://x.example/v2"\n'
        'api_key = "${OWN_KEY}"\ntimeout = 7\nretries = 0\n'
    )
    done = prx("explain", "-m", "fast", "--json", "hi", "--config", config, "--providers", tmp_path, OWN_KEY=KEY)
    found = json.loads(done.stdout)
    assert found["model"] == "big-2"
    rows = reasons([*found["differences"], *found["limits"], *found["key"]])
    assert rows["providers.mine.api_url"] == ("server https://x.example/v2", "config.toml", 6)
    assert rows["providers.mine.api_key"] == ("the variable OWN_KEY", "config.toml", 7)
    assert rows["model_routes, pattern fast"] == ("model big-2", "config.toml", 2)
    assert rows["providers.mine.timeout"][1:] == ("config.toml", 8)
    assert rows["providers.mine.retries"] == ("retries: 0", "config.toml", 9)
    assert rows["retry.wait"][1] == "json-http.yaml"


def test_the_text_has_columns(mine, tmp_path):
    done = prx("explain", "-p", mine, "-m", "small", "hi", "--param", "max_tokens=16", cwd=tmp_path, MINE_KEY=KEY)
    lines = done.stdout.splitlines()
    assert lines[0] == "POST https://x.example/v1/chat/completions"
    assert "\x1b" not in done.stdout
    start = lines.index("differs from the plain call") + 1
    block = lines[start : lines.index("", start)]
    row = next(line for line in block if "max_tokens → max_completion_tokens" in line)
    assert row.split() == [
        "max_tokens",
        "→",
        "max_completion_tokens",
        "request.parameters.max_tokens.rename",
        "mine.yaml:10",
    ]
    assert len({line.index("mine.yaml:") for line in block if "mine.yaml:" in line}) == 1
    assert "the variable MINE_KEY " in done.stdout


def test_a_provider_whose_variables_are_not_set(tmp_path):
    (tmp_path / "far.yaml").write_text(MINE.replace("id: mine", "id: far").replace("//x.", "//${FAR_HOST}.x."))
    done = prx("explain", "-m", "far/a", "hi", "--providers", tmp_path)
    assert done.stdout.startswith("POST https://FAR_HOST.x.example/v1/chat/completions\n"), done
    assert "the variable MINE_KEY, which is not set" in done.stdout


def test_a_provider_that_only_the_configuration_has(tmp_path):
    config = tmp_path / "config.toml"
    config.write_text(
        '[providers.own]\nextends = "openai-chat"\napi_url = "http://localhost:9/v1"\nauth_style = "x-api-key"\napi_key = "k"\n'
    )
    found = json.loads(prx("explain", "-m", "own/a", "hi", "--json", "--config", config).stdout)
    rows = reasons([*found["differences"], *found["key"]])
    assert rows["providers.own.auth_style"] == ("header x-api-key: ***", "config.toml", 4)
    assert rows["providers.own.api_key"] == ("written in config.toml", "config.toml", 5)


def test_places_of_keys(tmp_path):
    (tmp_path / "base.yaml").write_text(MINE.replace("id: mine", "id: base"))
    (tmp_path / "top.yaml").write_text(
        "spec: 1\nid: top\nextends: base\nrequest: {parameters: {max_tokens: null}}\nretry: {times: 4}\n"
        "overrides: [{model: 'x*', extends: anthropic-messages, capabilities: {tools: false}}]\n"
    )
    definition = Loader([tmp_path]).get("top")

    def at(model, *keys):
        place = Origins(definition, model).of(*keys)
        return place and (place.file.rpartition("/")[2], place.line)

    assert at("a", "base_url") == ("base.yaml", 4)
    assert at("a", "retry", "times") == ("top.yaml", 5)
    assert at("x1", "retry", "times") == ("top.yaml", 5)
    assert at("x1", "capabilities", "tools") == ("top.yaml", 6)
    assert at("a", "request", "parameters", "max_tokens", "rename") == ("top.yaml", 4)
    assert at("a", "request", "roles", "system") == ("base.yaml", 8)
    assert at("x1", "base_url") == ("base.yaml", 4)
    assert at("x1", "endpoints", "chat")[0] == "anthropic-messages.yaml"
    assert at("x1", "request", "parameters", "temperature", "max") != ("base.yaml", 11), "of the dialect that is left"
    assert at("a", "nothing", "here") is None


def test_bad_input(mine, tmp_path):
    (tmp_path / "bad.yaml").write_text("spec: 1\nid: bad\nextends: openai-chta\n")
    for arguments, words in (
        (("-m", "gorq/x"), "did you mean 'groq'?"),
        (("hi",), "no provider is named"),
        (("-p", tmp_path / "none.yaml", "-m", "x"), "none.yaml: there is no such file"),
        (("-p", tmp_path / "bad.yaml", "-m", "x"), "bad.yaml:3:1: extends: unknown dialect"),
        (("-p", mine, "-m", "x", "--tools", tmp_path / "none.json"), "none.json: cannot be read"),
        (("-p", mine, "-m", "x", "--image", tmp_path / "none.png"), "none.png"),
        (("-p", mine, "-m", "x", "--param", "x"), "write NAME=VALUE"),
        (("-m", "groq/x", "--config", tmp_path / "none.toml"), "none.toml: cannot be read"),
    ):
        done = prx("explain", *arguments)
        assert done.returncode == 2, (arguments, done)
        assert words in done.stderr, (arguments, done.stderr)


@pytest.mark.parametrize("style", ["bearer", "x-api-key", "query", "custom"])
def test_no_check_prints_a_key(style, tmp_path):
    """Of the environment and of config.toml, in text, JSON and annotations, of good and of faulty files."""
    name = {"query": ", name: key", "custom": ", name: x-k, template: 'T {api_key}'"}.get(style, "")
    folder = tmp_path / "providers.d"
    folder.mkdir()
    text = MINE.replace("style: x-api-key", f"style: {style}{name}").replace(
        "x-title: Mine", "'x-own': 'a ${MINE_KEY}'"
    )
    (folder / "mine.yaml").write_text(text)
    (folder / "other.yaml").write_text(text.replace("id: mine", "id: other").replace("rename: max", "rename: a_max"))
    (folder / "bad.yaml").write_text(text.replace("id: mine", "id: bad").replace("times", "x") + "x: 1\n")
    config = tmp_path / "config.toml"
    config.write_text(
        f'[[model_routes]]\npattern = "*"\nprovider = "mine"\n[[model_routes]]\npattern = "a"\nprovider = "gorq"\napi_key = "{KEY}"\n'
        f'[providers.mine]\napi_url = "https://x.example/v1"\napi_key = "{OTHER}"\nheaders = {{x-a = "{OTHER}"}}\n'
    )
    base = [
        ["check", folder, config], ["check", "--json", folder, config], ["check", "--github", folder, config],
        ["diff", folder / "mine.yaml", folder / "other.yaml"], ["diff", "--json", folder / "mine.yaml", folder / "other.yaml"],
        ["diff", folder / "mine.yaml", folder / "bad.yaml"],
    ]  # fmt: skip
    asked = ["explain", "hi", "--providers", folder]
    base += [
        [*asked, "-m", "mine/x", *more]
        for more in ([], ["--json"], ["--config", config], ["--json", "--config", config])
    ]
    for command in base:
        done = prx(*command, MINE_KEY=KEY, GROQ_API_KEY=KEY)
        assert done.stdout + done.stderr, command
        assert (
            done.returncode
            == {"explain": 0, "check": 1, "diff": 2 if folder / "bad.yaml" in command else 1}[command[0]]
        ), done
        for key in (KEY, OTHER):
            assert key not in done.stdout + done.stderr, command
            assert base64.b64encode(key.encode()).decode() not in done.stdout + done.stderr
