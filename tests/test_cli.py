"""The command line as a user runs it: what it prints, where, and with which exit code."""

from __future__ import annotations

import json
import os
import pty
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import commands
from helpers.byte_server import FIN, HANG, RawServer, delta, response, stream
from judges.dialects import Emulator

RUN = [sys.executable, "-m", "prx"]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]


def prx(*arguments, stdin="", env=None, cwd=None):
    clean = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **(env or {})}
    done = commands.run(*arguments, stdin=stdin, env=clean, cwd=cwd)
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.fixture
def config(tmp_path, emulator):
    path = tmp_path / "config.toml"
    path.write_text(
        f'[default]\nprovider = "compatible"\nmodel = "words"\n[providers.compatible]\napi_url = "{emulator.url}"\n'
    )
    return path


# ------------------------------------------------------------------ chat


def test_the_prompt_is_an_argument_or_standard_input(config):
    assert prx("chat", "--config", config, "What is", "2+2?").stdout == "2 + 2 = 4.\n"
    assert prx("chat", "--config", config, stdin="What is 3+4?\n").stdout == "3 + 4 = 7.\n"
    assert prx("chat", "--config", config, "--no-stream", "What is 2+2?").stdout == "2 + 2 = 4.\n"
    assert prx("chat", "-m", "compatible/words", "--config", config, "What is 2+2?").stdout == "2 + 2 = 4.\n"
    assert prx("chat", "-p", "compatible", "-m", "words", "--config", config, "What is 2+2?").stdout == "2 + 2 = 4.\n"
    assert prx("chat", "-p", "compatible", "--config", config, "What is 2+2?").stdout == "2 + 2 = 4.\n"


def test_several_turns(config):
    done = prx("chat", "--chat", "--config", config, "What is 1+1?", stdin="What is 2+2?\n\nWhat is 3+3?\n")
    assert done.stdout == "1 + 1 = 2.\n2 + 2 = 4.\n3 + 3 = 6.\n"


def test_text_arrives_before_the_answer_is_over(tmp_path):
    with RawServer(stream(delta("hel"), 1.5, delta("lo", "stop"))) as server:
        run = [*RUN, "chat", "-m", "compatible/m", "--config", str(tmp_path / "c.toml"), "hi"]
        (tmp_path / "c.toml").write_text(f'[providers.compatible]\napi_url = "{server.url}"\n')
        with subprocess.Popen(run, stdout=subprocess.PIPE, text=True) as running:
            assert running.stdout.read(3) == "hel"
            assert running.poll() is None, "and it is still running"
            assert running.stdout.read() == "lo\n"


def test_reasoning_is_apart(config):
    done = prx("chat", "--config", config, "-m", "compatible/words-reasoner", "What is 2+2?")
    assert done.stdout == "2 + 2 = 4.\n"
    assert "The message has 3 words." in done.stderr


def test_tools_and_pictures(config, tmp_path):
    (tmp_path / "tools.json").write_text(json.dumps(TOOLS))
    done = prx("chat", "--config", config, "--tools", tmp_path / "tools.json", "What is the weather in Paris and Rome?")
    assert done.stdout == 'get_weather({"city": "Paris"})\nget_weather({"city": "Rome"})\n'
    (tmp_path / "bare.json").write_text(json.dumps([TOOLS[0]["function"]]))
    assert "Paris" in prx("chat", "--config", config, "--tools", tmp_path / "bare.json", "Weather in Paris?").stdout
    picture = tmp_path / "a.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\4\0\0\0\5")
    assert (
        prx("chat", "--config", config, "--image", picture, "What is it?").stdout
        == "I see a PNG picture of 4 by 5 pixels.\n"
    )


def test_json_events_and_dry_run(config):
    reply = json.loads(prx("chat", "--config", config, "--json", "What is 2+2?").stdout)
    assert (reply["content"], reply["streamed"], reply["usage"]["total_tokens"]) == ("2 + 2 = 4.", True, 11)
    assert (
        json.loads(prx("chat", "--config", config, "--json", "--no-stream", "What is 2+2?").stdout)["streamed"] is False
    )
    events = [
        json.loads(line) for line in prx("chat", "--config", config, "--events", "What is 2+2?").stdout.splitlines()
    ]
    assert "".join(event.get("content", "") for event in events) == "2 + 2 = 4."
    dry = prx(
        "chat",
        "--config",
        config,
        "--dry-run",
        "--param",
        "temperature=0",
        "--param",
        "stop=x",
        "-s",
        "Be brief.",
        "hi",
    ).stdout
    head, _, body = dry.partition("\n\n")
    assert head.splitlines()[0].startswith("POST http://127.0.0.1")
    sent = json.loads(body)
    assert (sent["temperature"], sent["stop"], sent["messages"][0]) == (
        0,
        "x",
        {"role": "system", "content": "Be brief."},
    )


def test_on_a_terminal(config):
    """In colour, with reasoning dimmed, and a line that says what it cost."""
    parent, child = pty.openpty()
    run = [*RUN, "chat", "--config", str(config), "-m", "compatible/words-reasoner", "What is 2+2?"]
    done = subprocess.Popen(run, stdin=child, stdout=child, stderr=child, env={**os.environ, "TERM": "xterm"})
    os.close(child)
    seen = b""
    try:
        while piece := os.read(parent, 4096):
            seen += piece
    except OSError:
        pass  # the terminal is gone when the program is
    assert done.wait(30) == 0
    text = seen.decode()
    assert "\x1b[2mThe" in text, "reasoning is dimmed"
    assert "2 + 2 = 4." in text
    assert "tokens · stop" in text


def test_a_finish_that_is_none(config):
    done = prx("chat", "--config", config, "--param", "max_tokens=2", "Say hello.")
    assert done.stdout == "Hello! I\n"
    assert "(ended early: length)" in done.stderr


# ------------------------------------------------------------------ bad input: one clear sentence, exit 1


def test_bad_input(config, tmp_path):
    (tmp_path / "no.json").write_text('{"a": ')
    (tmp_path / "object.json").write_text('{"a": 1}')
    (tmp_path / "empty.json").write_text("[]")
    (tmp_path / "nameless.json").write_text('[{"type": "function", "function": {"name": 3}}]')
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "typed.toml").write_text("[default]\nprovider = 3\n")
    (tmp_path / "url.toml").write_text('[providers.compatible]\napi_url = "localhost:8000/v1"\n')
    (tmp_path / "var.toml").write_text(
        '[providers.compatible]\napi_url = "http://localhost:1"\napi_key = "${NOT_SET}"\n'
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "port.toml").write_text(
        f'[providers.compatible]\napi_url = "http://127.0.0.1:{port}/v1"\nretries = 0\n'
    )
    with_config = ("--config", config)
    for arguments, words in (
        (("chat", *with_config, ""), "the prompt is empty"),
        (("chat", *with_config), "the prompt is empty"),
        (
            ("chat", *with_config, "-m", "gorq/x", "--provider", "gorq", "hi"),
            "unknown provider 'gorq'; did you mean 'groq'?",
        ),
        (
            ("chat", *with_config, "-m", "compatible/wrods", "hi"),
            "compatible has no model 'wrods'; did you mean 'words'?",
        ),
        (("chat", *with_config, "--image", tmp_path / "none.png", "hi"), "none.png: cannot be read: No such file"),
        (("chat", *with_config, "--image", tmp_path / "text.png", "hi"), "neither PNG"),
        (("chat", *with_config, "--tools", tmp_path / "none.json", "hi"), "none.json: cannot be read: No such file"),
        (("chat", *with_config, "--tools", tmp_path / "no.json", "hi"), "no.json:1:7: not JSON"),
        (("chat", *with_config, "--tools", tmp_path / "object.json", "hi"), "not a list of functions"),
        (("chat", *with_config, "--tools", tmp_path / "empty.json", "hi"), "not a list of functions"),
        (("chat", "--config", tmp_path / "none.toml", "hi"), "none.toml: cannot be read: No such file"),
        (("chat", "--config", tmp_path / "typed.toml", "hi"), "typed.toml:2:1: default.provider: must be text, not 3"),
        (("chat", "--config", tmp_path / "url.toml", "-m", "compatible/m", "hi"), "http://localhost:8000/v1"),
        (
            ("chat", "--config", tmp_path / "var.toml", "-m", "compatible/m", "hi"),
            "the environment variable NOT_SET is not set",
        ),
        (
            ("chat", "--config", tmp_path / "port.toml", "-m", "compatible/m", "hi"),
            f"no server listens at http://127.0.0.1:{port}",
        ),
        (("chat", "hi"), "no provider is named"),
        (("chat", "-p", "groq", "hi"), "no API key"),
        (("chat", "-p", "vllm", "hi"), "no model is named"),
        (("chat", "--providers", tmp_path / "none", "hi"), "there is no such folder"),
        (("models", "gorq"), "did you mean 'groq'?"),
        (("show", "gorq"), "did you mean 'groq'?"),
        (("doctor",), "no provider is configured"),
        (("doctor", "nothing"), "nothing"),
        (("doctor", tmp_path / "none.yaml"), "none.yaml: there is no such file"),
        (("record", tmp_path / "none.yaml"), "none.yaml: there is no such file"),
        (("show", tmp_path / "none.yaml"), "none.yaml: there is no such file"),
        (("chat", "-p", tmp_path / "none.yaml", "hi"), "none.yaml: there is no such file"),
        (("chat", *with_config, "caf\udce9"), "not valid Unicode, after 'caf\ufffd'"),
        (("chat", *with_config, "--tools", tmp_path / "nameless.json", "hi"), "tools must be a list of definitions"),
        (("chat", *with_config, "-m", "", "hi"), "model must be a name"),
        (("chat", *with_config, "--events", "--no-stream", "hi"), "--events needs a stream"),
        (("record", "vllm", "--case", "caht"), "no case is called 'caht'; did you mean 'chat'?"),
        (("record", "vllm", "--emulated", tmp_path / "none.yaml"), "none.yaml: cannot be read"),
        (("record", "vllm", "--emulated", "-", "--case", "chat", "--to", config), "cannot be written"),
    ):
        done = prx(*arguments)
        assert done.returncode == 1, (arguments, done)
        assert words in done.stderr + done.stdout, (arguments, done.stderr)
        assert len((done.stderr + done.stdout).splitlines()) <= 3, (arguments, done.stderr)


@pytest.mark.parametrize(
    "arguments",
    [
        ("chta",),
        ("chat", "--no-such"),
        ("chat", "--param", "x", "hi"),
        ("chat", "--param", "model=x", "hi"),
        ("chat", "--timeout", "inf", "hi"),
        ("chat", "--deadline", "-1", "hi"),
        ("chat", "--retries", "-1", "hi"),
        ("chat", "--json", "--events", "hi"),
        ("demo", "--serve", "99999"),
    ],
)
def test_wrong_usage_is_2(arguments):
    assert prx(*arguments).returncode == 2


def test_an_interrupt_is_130(tmp_path):
    with RawServer(stream(delta("hel"), HANG)) as server:
        (tmp_path / "c.toml").write_text(f'[providers.compatible]\napi_url = "{server.url}"\n')
        run = [*RUN, "chat", "-m", "compatible/m", "--config", str(tmp_path / "c.toml"), "hi"]
        with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
            assert running.stdout.read(3) == "hel"
            running.send_signal(2)
            _, stderr = running.communicate(timeout=20)
    assert running.returncode == 130
    assert "Traceback" not in stderr


@pytest.mark.parametrize(
    ("redirect", "says"), [(">/dev/full", "No space left"), (">&-", "output is closed"), ("<&-", "")]
)
def test_a_closed_or_full_stream_is_a_sentence(config, redirect, says):
    run = f"{' '.join(RUN)} chat --config {config} 'Say hello.' {redirect}"
    done = subprocess.run(["bash", "-c", run], capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, "fault of prx" in done.stderr) == (1 if says else 0, False)
    assert says in done.stderr


def test_a_reader_that_leaves_is_no_fault(config):
    done = subprocess.run(
        f"{' '.join(RUN)} chat --config {config} --events 'Say hello.' | head -n 1",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1


def test_an_error_in_a_stream_keeps_what_came(tmp_path):
    with RawServer(stream(delta("hel"), delta("lo"))) as server:
        (tmp_path / "c.toml").write_text(f'[providers.compatible]\napi_url = "{server.url}"\n')
        done = prx("chat", "-m", "compatible/m", "--config", tmp_path / "c.toml", "hi")
    assert done.returncode == 1
    assert done.stdout == "hello\n"
    assert "the stream ended before the answer did" in done.stderr


# ------------------------------------------------------------------ providers, show, check, models, doctor


def test_a_new_users_ten_minutes(tmp_path, emulator):
    """A file of less than twelve lines, checked, used, changed, used again; no Python and nothing restarted."""
    mine = tmp_path / "home" / ".config" / "prx" / "providers.d" / "mine.yaml"
    mine.parent.mkdir(parents=True)
    env = {"HOME": str(tmp_path / "home"), "MY_KEY": "k"}
    mine.write_text(
        f"spec: 1\nid: mine\nname: My server\nextends: openai-chat\nbase_url: {emulator.url}\nauth: {{style: bearer, env: MY_KEY}}\naliases: [my]\n"
    )
    assert prx("check", mine, env=env).stdout == f"{mine}: good\n"
    assert prx("chat", "-m", "mine/words", "What is 2+2?", env=env).stdout == "2 + 2 = 4.\n"
    mine.write_text(mine.read_text() + "models: {default: words}\nrequest: {headers: {x-title: mine}}\n")
    assert prx("chat", "-p", "my", "What is 2+3?", env=env).stdout == "2 + 3 = 5.\n"
    assert len(mine.read_text().splitlines()) <= 12
    rows = json.loads(prx("providers", "--json", env=env).stdout)
    assert next(row for row in rows if row["id"] == "mine")["aliases"] == ["my"]
    assert "x-title: mine" in prx("chat", "-p", "my", "--dry-run", "hi", env=env).stdout


def test_check_prints_every_fault(tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text("spec: 1\nid: bad\nextends: openai-chta\nauth: {style: baerer}\nbase_ulr: x\n")
    good = tmp_path / "good.yaml"
    good.write_text("spec: 1\nid: good\nextends: openai-chat\nbase_url: http://localhost:1\n")
    done = prx("check", bad, good)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        f"{bad}:3:1: extends: unknown dialect or provider 'openai-chta'; did you mean 'openai-chat'?",
        f"{bad}:4:8: auth.style: \"baerer\" is not one of bearer, x-api-key, custom, query, none; did you mean 'bearer'?",
        f"{bad}:5:1: base_ulr: unknown key 'base_ulr'; did you mean 'base_url'?",
        f"{good}: good",
    ]
    rows = json.loads(prx("check", "--json", tmp_path).stdout)
    assert [(row["line"], row["path"]) for row in rows] == [(3, "extends"), (4, "auth.style"), (5, "base_ulr")]
    assert prx("check", good).returncode == 0
    listed = prx("providers", "--providers", tmp_path)
    assert "good" in listed.stdout
    assert "bad.yaml:3:1" in listed.stderr


def test_check_looks_up_what_a_configuration_names(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(
        '[default]\nprovider = "grok2"\n[[model_routes]]\npattern = "x/*"\nprovider = "gorq"\n'
        '[providers.mine]\nextends = "openai-chta"\napi_url = "http://localhost:1"\n[providers.yours]\nextends = "openai-chat"\n'
    )
    lines = [
        f"{path}:2:1: default.provider: no provider is called 'grok2'; did you mean 'grok'?",
        f"{path}:5:1: model_routes[0].provider: no provider is called 'gorq'; did you mean 'groq'?",
    ]
    for arguments in ((path,), ("--config", path)):
        done = prx("check", *arguments)
        assert done.returncode == 1
        assert done.stdout.splitlines()[:2] == lines
        assert f"{path}:7:1: providers.mine.extends: no provider is called 'openai-chta'" in done.stdout
    path.write_text("[defau")
    assert prx("check", path).stdout.startswith(f"{path}: not TOML")
    path.write_text('[providers.groq]\napi_kye = "x"\n')
    assert "2:1: providers.groq.api_kye: unknown key" in prx("check", path).stdout
    path.write_text('[default]\nprovider = "groq"\n')
    assert prx("check", path).stdout == f"{path}: good\n"


def test_check_without_a_file_looks_at_the_users_own(tmp_path):
    folder = tmp_path / ".config" / "prx" / "providers.d"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("spec: 1\nid: mine\nextends: openai-chat\nbase_url: http://localhost:1\n")
    (folder.parent / "config.toml").write_text('[default]\nprovider = "mine"\n')
    done = prx("check", env={"HOME": str(tmp_path)})
    assert done.stdout.splitlines() == [f"{folder / 'mine.yaml'}: good", f"{folder.parent / 'config.toml'}: good"]


def test_a_file_may_stand_where_a_providers_name_does(tmp_path, emulator):
    path = tmp_path / "mine.yaml"
    path.write_text(f"spec: 1\nid: mine\nextends: openai-chat\nbase_url: {emulator.url}\nmodels: {{default: words}}\n")
    assert prx("show", path).stdout == path.read_text()
    assert "words" in prx("models", path).stdout
    assert "You said: hi" in prx("chat", "-p", path, "hi").stdout
    for named in (("-p", path), (path,), ("models", path), ("models", "-p", path)):
        done = prx("doctor", *named)
        assert done.returncode == 0, done.stdout
        assert ("words answered" in done.stdout) is ("models" not in named)


@pytest.mark.parametrize("more", [(), ("--no-stream",)])
def test_an_empty_answer_is_said_to_be_empty(tmp_path, more):
    nothing = {"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": "stop"}
    whole = response(200, {"model": "m", "choices": [nothing]})
    answers = [whole] if more else [list(stream(delta("", "stop"), b"data: [DONE]\n\n"))]
    with RawServer(*answers) as server:
        text = f"spec: 1\nid: mine\nextends: openai-chat\nbase_url: {server.url}\nmodels: {{default: m}}\n"
        (tmp_path / "mine.yaml").write_text(text)
        done = prx("chat", "-p", tmp_path / "mine.yaml", *more, "hi")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "(the answer is empty: neither a text nor a call; stop)\n"


def test_a_stream_that_ends_before_it_begins_is_told_without_words_of_pythons(tmp_path):
    """Some servers find what is wrong only when they have said 200 already."""
    with RawServer([*stream(end=False), FIN]) as server:
        text = f"spec: 1\nid: mine\nextends: openai-chat\nbase_url: {server.url}\nmodels: {{default: m}}\n"
        (tmp_path / "mine.yaml").write_text(text)
        done = prx("chat", "-p", tmp_path / "mine.yaml", "--retries", "0", "hi")
    assert done.returncode == 1
    assert "the connection ended inside the answer\n" in done.stderr
    assert "--no-stream" in done.stderr
    assert "IncompleteRead" not in done.stderr


def test_a_provider_that_only_the_configuration_has_is_shown(tmp_path):
    (tmp_path / "c.toml").write_text('[providers.mine]\napi_url = "http://localhost:1/v1"\n')
    shown = prx("show", "mine", "--config", tmp_path / "c.toml").stdout
    assert shown.startswith("spec: 1\nid: mine\n")
    assert "chat: /chat/completions" in shown


def test_doctor_asks_a_server_that_has_no_list_of_models(tmp_path):
    """Most small servers have none, and chat all the same."""
    answers = (
        response(404, {"detail": "Not Found"}),
        response(),
        list(stream(delta("hi", "stop"), "data: [DONE]\n\n")),
        response(),
    )
    with RawServer(*answers) as server:
        text = f"spec: 1\nid: mine\nextends: openai-chat\nbase_url: {server.url}\nmodels: {{default: m}}\n"
        (tmp_path / "mine.yaml").write_text(text)
        done = prx("doctor", "--providers", tmp_path, "-p", "mine")
    assert done.returncode == 0, done.stdout
    assert "warn models   the server has no list of its models" in done.stdout
    assert "ok   chat" in done.stdout


def test_doctor_finds_a_file_that_was_dropped_in(tmp_path):
    (tmp_path / "mine.yaml").write_text("spec: 1\nid: mine\nextends: openai-chat\nbase_url: http://127.0.0.1:9/v1\n")
    done = prx("doctor", "--providers", tmp_path)
    assert done.stdout.startswith("mine\n")


def test_show():
    assert prx("show", "grok").stdout == (Path(__file__).parents[1] / "providers.d" / "xai.yaml").read_text()
    assert json.loads(prx("show", "xai", "--json").stdout)["endpoints"]["models"] == "/models"
    assert "stop_sequence: stop" in prx("show", "openai-chat", "--resolved").stdout


def test_show_fallbacks():
    done = prx("show", "compatible", "--fallbacks")
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    names = [row[0] for row in rows]
    assert names[:2] == ["one_system", "merge_system"], "in the order in which they are tried"
    assert ["responses", "on", '{"extends": "openai-responses"}'] in rows
    (parameters,) = [row for row in rows if row[0] == "without_parameter"]
    assert parameters[2].startswith("without the parameter that the error names: top_p, ")
    assert "without_NAME" in done.stderr
    rows = [line.split("\t") for line in prx("show", "perplexity", "--fallbacks").stdout.splitlines()]
    assert "responses" not in [row[0] for row in rows]
    assert ["merge_system", "off"] in [row[:2] for row in rows]
    found = json.loads(prx("show", "openai", "--fallbacks", "--json").stdout)
    assert "without_temperature" in found["without_parameter"]["names"]
    assert found["merge_system"] == {"enabled": False, "names": ["merge_system"]}


def test_schema():
    assert json.loads(prx("schema").stdout)["$id"] == "urn:prx:provider:1"
    assert Path(prx("schema", "config", "--path").stdout.strip()).name == "config.schema.json"


def test_models(config):
    assert prx("models", "compatible", "--config", config).stdout.splitlines() == [
        "words",
        "words-reasoner",
        "words-responses",
    ]
    first, *_ = json.loads(prx("models", "--config", config, "--json").stdout)
    assert (first["id"], first["data"]["id"]) == ("words", "words")


def test_models_that_match(config):
    assert prx("models", "--config", config, "--search", "WORDS son").stdout == "words-reasoner\n"
    assert prx("models", "--config", config, "--search", "words", "--search", "son").stdout == "words-reasoner\n"
    found = json.loads(prx("models", "--config", config, "--search", "reasoner", "--json").stdout)
    assert [row["id"] for row in found] == ["words-reasoner"]
    done = prx("models", "--config", config, "--search", "wrods")
    assert (done.returncode, done.stderr) == (1, "prx: no model matches 'wrods'; did you mean 'words'?\n")


LISTS = {
    "data": ("compatible", {"object": "list", "data": [{"id": "a/x", "parent": "b"}, {"id": "b", "context_length": 8, "pricing": {"prompt": "0.1"}}]}),
    "a prefix": ("gemini", {"models": [{"name": "models/b", "inputTokenLimit": 8}, {"name": "models/a/x"}]}),
    "a bare list": ("compatible", [{"id": "b", "type": "chat"}, {"id": "a/x", "type": "chat"}]),
    "names twice": ("compatible", {"data": [{"id": "b", "n": 1}, {"id": "b", "n": 2}, {"id": "a/x"}]}),
    "another list beside": ("compatible", {"owners": [{"id": "b"}], "data": [{"id": "b", "n": 1}, {"id": "a/x"}]}),
}  # fmt: skip


@pytest.mark.parametrize("name", LISTS)
def test_what_a_list_says_of_a_model_is_kept(name, tmp_path):
    """Also where another entry names the model, as its parent."""
    provider, body = LISTS[name]
    with RawServer(response(200, body)) as server:
        (tmp_path / "c.toml").write_text(f'[providers.{provider}]\napi_url = "{server.url}"\napi_key = "k-of-mine"\n')
        rows = json.loads(prx("models", provider, "--json", "--config", tmp_path / "c.toml").stdout)
    entries = next(iter(entry for entry in body.values() if isinstance(entry, list) and len(entry) > 1)) if isinstance(body, dict) else body  # fmt: skip
    named = {row["id"]: row["data"] for row in rows}
    assert set(named) == {"a/x", "b"}
    for model, data in named.items():
        expected = next(entry for entry in entries if model in (entry.get("id"), entry.get("name", "")[7:]))
        assert data == expected


def test_a_list_of_names_alone(tmp_path):
    listed = "spec: 1\nid: mine\nextends: openai-chat\nbase_url: URL\nmodels: {list: 'data'}\n"
    with RawServer(response(200, {"data": ["a", "b"]})) as server:
        (tmp_path / "mine.yaml").write_text(listed.replace("URL", server.url))
        done = prx("models", tmp_path / "mine.yaml", "--json")
    assert json.loads(done.stdout) == [{"id": "a", "data": None}, {"id": "b", "data": None}]


def test_doctor(tmp_path):
    """Rows for every configured provider, each asked with its own key; hints for each trouble."""
    with Emulator({"key": "sk-a"}) as first, Emulator({"key": "sk-b", "models": ["other"]}) as second:
        (tmp_path / "c.toml").write_text(
            f'[default]\nprovider = "compatible"\nmodel = "words"\n[providers.compatible]\napi_url = "{first.url}"\napi_key = "sk-a"\n'
            f'[providers.second]\napi_url = "{second.url}"\napi_key = "sk-wrong"\n'
            '[providers.third]\napi_url = "http://127.0.0.1:9"\n[providers.fourth]\napi_url = "nothing"\n'
        )
        done = prx("doctor", "--config", tmp_path / "c.toml")
        rows = json.loads(prx("doctor", "models", "--json", "--config", tmp_path / "c.toml").stdout)
    assert done.returncode == 1
    text = done.stdout
    for words in (
        "words is in the provider's list",
        "chat     words answered",
        "stream   16 pieces",
        "system   words answered",
        "header authorization: Bearer ***",
    ):
        assert words in text
    for words in (
        "auth: 401: Invalid API key",
        "no server listens at http://127.0.0.1:9",
        "is not a URL that prx can call",
    ):
        assert words in text
    assert [row["ok"] for row in rows] == [True, False, False, False]
    assert "chat" not in {check["name"] for check in rows[0]["checks"]}
    with Emulator({"models": ["wrods"], "refuses": ["system", "stream"]}) as odd:
        (tmp_path / "c.toml").write_text(
            f'[default]\nprovider = "compatible"\nmodel = "words"\n[providers.compatible]\napi_url = "{odd.url}"\n'
        )
        text = prx("doctor", "--config", tmp_path / "c.toml").stdout
    assert "words is not in the provider's list; did you mean 'wrods'?" in text


def test_doctor_says_how_old_the_rules_are(tmp_path):
    """What a file refuses or leaves out, with the date of what was read of it; no retired provider for its key alone."""
    (tmp_path / "aged.yaml").write_text(
        "spec: 1\nid: aged\nextends: openai-chat\nbase_url: http://127.0.0.1:9\nauth: {env: AGED_KEY}\n"
        "capabilities: {vision: false, tools: true}\nrequest: {parameters: {stop: {drop: true}, seed: {rename: s}}}\n"
        "evidence: [{of: [request.parameters.stop, tools], kind: documented, source: a page, date: '2026-03-04'}]\n"
    )
    (tmp_path / "gone.yaml").write_text(
        "spec: 1\nid: gone\nextends: openai-chat\nbase_url: http://127.0.0.1:9\nauth: {env: AGED_KEY}\nretired: {date: '2026-01-02'}\n"
    )
    text = prx(
        "doctor", "models", "--providers", tmp_path, env={"AGED_KEY": "sk-aged", "GITHUB_TOKEN": "sk-for-other-things"}
    ).stdout
    assert "rules    no vision, stop left out (2026-03-04)" in text
    assert "github-models" not in text
    assert "fail settings was retired on 2026-01-02" in text, "a file of one's own is looked at whatever it says"
    named = prx("doctor", "-p", "github-models", env={"GITHUB_TOKEN": "sk-for-other-things"}).stdout
    assert "fail settings was retired on 2026-07-30; use azure" in named


def test_a_retired_provider_is_shown_as_such(tmp_path):
    path = tmp_path / "gone.yaml"
    path.write_text(
        "spec: 1\nid: gone\nextends: openai-chat\nbase_url: http://x.example\nretired: {date: '2026-01-02', successor: groq}\n"
    )
    says = "retired on 2026-01-02; use groq"
    listed = prx("providers", "--search", "gone", "--providers", tmp_path).stdout
    assert says in listed
    assert "x.example" not in listed
    (row,) = json.loads(prx("providers", "--search", "gone", "--json", "--providers", tmp_path).stdout)
    assert row["retired"] == {"date": "2026-01-02", "successor": "groq"}
    assert json.loads(prx("providers", "--search", "groq", "--json").stdout)[0]["retired"] is None
    shown = prx("show", "gone", "--providers", tmp_path)
    assert shown.stdout == path.read_text()
    assert f"gone was {says}" in shown.stderr
    assert prx("check", path).stdout == f"{path}: good, of a provider {says}\n"


def test_doctor_never_sends_one_providers_key_to_another(tmp_path):
    with RawServer(response(200, {"data": []})) as first, RawServer(response(200, {"data": []})) as second:
        (tmp_path / "c.toml").write_text(
            f'[providers.one]\napi_url = "{first.url}"\napi_key = "sk-one-key"\n[providers.two]\napi_url = "{second.url}"\napi_key = "sk-two-key"\n'
        )
        prx(
            "doctor",
            "models",
            "--config",
            tmp_path / "c.toml",
            env={"GROQ_API_KEY": "sk-groq-key", "OPENAI_API_KEY": "sk-openai-key"},
        )
    assert [request["headers"]["authorization"] for request in first.requests] == ["Bearer sk-one-key"]
    assert [request["headers"]["authorization"] for request in second.requests] == ["Bearer sk-two-key"]


def test_completion():
    done = prx(env={"_PRX_COMPLETE": "bash_complete", "COMP_WORDS": "prx show gro", "COMP_CWORD": "2"})
    assert "groq" in done.stdout


def test_demo_serves(tmp_path):
    with subprocess.Popen([*RUN, "demo", "--serve", "0"], stdout=subprocess.PIPE, text=True) as running:
        line = running.stdout.readline()
        url = line.split()[2].rstrip(";")
        (tmp_path / "c.toml").write_text(f'[providers.compatible]\napi_url = "{url}"\n')
        assert (
            prx("chat", "-m", "compatible/words", "--config", tmp_path / "c.toml", "What is 2+2?").stdout
            == "2 + 2 = 4.\n"
        )
        running.send_signal(2)
        started = time.monotonic()
        running.wait(10)
    assert running.returncode == 130
    assert time.monotonic() - started < 5


def test_a_port_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = prx("demo", "--serve", taken.getsockname()[1])
    assert (done.returncode, "Address already in use" in done.stderr) == (1, True)


def test_a_provider_that_is_named_is_asked_whatever_the_routes_say(tmp_path, emulator):
    (tmp_path / "c.toml").write_text(
        f'[providers.mine]\napi_url = "{emulator.url}"\n[providers.other]\napi_url = "http://127.0.0.1:9/v1"\n'
        '[[model_routes]]\npattern = "*"\nprovider = "other"\n'
    )
    assert prx("chat", "--config", tmp_path / "c.toml", "-p", "mine", "-m", "words", "Say hello.").returncode == 0


@pytest.fixture(scope="module")
def everything():
    """The lines of the table of all providers."""
    return prx("providers").stdout.splitlines()


def test_a_provider_is_found_by_any_of_its_names(everything):
    """By id, alias, name, host, or variable, in any case; one that nothing fits is a sentence with the nearest."""
    for text, found in (
        ("GROQ", "groq"), ("hugging-f", "huggingface"), ("vertex ai", "vertexai"), ("router.requesty.ai", "requesty"), ("gsk", ""),
        ("hf_token", "huggingface"), ("nothing-like-it", ""),
    ):  # fmt: skip
        done = prx("providers", "--search", text)
        rows = done.stdout.splitlines()
        assert [row.split("\t")[0] for row in rows] == ([found] if found else [])
        assert set(rows) <= set(everything), "the same table"
        assert done.returncode == (0 if found else 1)
    assert prx("providers", "--search", "moonshto").stderr == (
        "prx: no provider matches 'moonshto'; did you mean 'moonshot'?\n"
    )
    assert [row["id"] for row in json.loads(prx("providers", "--search", "groq", "--json").stdout)] == ["groq"]
    assert len(everything) >= 130


@pytest.mark.parametrize("columns", [80, 100, 160])
def test_no_id_is_cut_in_a_terminals_table(columns, everything):
    """A narrow terminal goes without the aliases and the evidence instead."""
    main, sub = pty.openpty()
    env = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}
    running = commands.start("providers", files=(sub, sub, sub), env=env)
    os.close(sub)
    said = b""
    while True:
        try:
            piece = os.read(main, 65536)
        except OSError:
            break
        if not piece:
            break
        said += piece
    assert running.wait(60) == 0
    os.close(main)
    shown = {line.split()[0] for line in said.decode().splitlines() if line.strip()}
    assert {row.split("\t")[0] for row in everything} <= shown
    assert ("groqcloud" in said.decode()) == (columns >= 160)
