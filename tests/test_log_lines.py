"""-v and --log-json: lines of calls on standard error, of every command, with no key and no body; and of a program that asks."""

from __future__ import annotations

import json
import logging
import os
import re

import click
import pytest
from helpers import commands
from helpers.byte_server import DONE, RST, RawServer, delta, response, stream
from helpers.served import Service
from helpers.told import FILE, KEY

import prx
from prx import events, log_lines
from prx.cli import prx as group
from prx.mask import Mask
from prx.secret import Secret


@pytest.fixture
def run(tmp_path):
    def run(server, *arguments):
        (tmp_path / "seen.yaml").write_text(FILE.format(url=f"{server.url}/{KEY}"))
        config = tmp_path / "config.toml"
        config.write_text(f'[default]\nprovider = "seen"\nmodel = "m"\n[providers.seen]\napi_key = "{KEY}"\n')
        env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        common = ("--config", str(config), "--providers", str(tmp_path))
        done = commands.run(arguments[0], *common, *arguments[1:], stdin="", env=env, cwd=None)
        assert KEY not in done.stdout + done.stderr
        return done

    return run


def rows(text):
    """The lines, as (level, message, {name: value})."""
    found = []
    for line in text.splitlines():
        shape = re.fullmatch(r"\S+T\S+\+00:00 (\w+) prx\.call ([a-z ]+?)((?: \w+=(?:\"[^\"]*\"|\S+))*)", line)
        assert shape, line
        found.append((shape[1], shape[2], dict(re.findall(r" (\w+)=(\S+)", shape[3]))))
    return found


BUSY = response(503, {"error": {"message": f"busy, {KEY}"}})
REFUSED = response(400, {"error": {"message": "no max_tokens"}})
ANSWER = [*stream(delta("hel"), delta("lo", "stop"), DONE, head=[b"x-request-id: r-1"])]


def test_a_line_for_each_attempt_retry_fallback_and_end(run):
    with RawServer(BUSY, RST, REFUSED, ANSWER) as server:
        done = run(server, "chat", "-v", "--param", "max_tokens=5", "secret-words")
    assert done.stdout.strip() == "hello"
    lines = rows(done.stderr)
    words = ["request", "retry", "request", "retry", "request", "fallback", "request", "end"]
    assert [(level, word) for level, word, _ in lines] == [("INFO", word) for word in words]
    first, retry, *_, fallback, last, end = [facts for *_, facts in lines]
    assert (first["attempt"], first["provider"], first["model"], first["stream"]) == ("1", "seen", "m", "true")
    assert first["url"].endswith("/***/chat/completions")
    assert (retry["attempt"], retry["error"], retry["status"]) == ("1", "server", "503")
    assert (fallback["error"], fallback["status"], fallback["to"]) == ("bad_request", "400", "shorter")
    assert (last["attempt"], last["fallbacks"]) == ("4", "shorter")
    assert (end["attempts"], end["finish_reason"], end["provider_request_id"]) == ("4", "stop", "r-1")
    assert not {"secret-words", "hello", "busy"} & {*re.findall(r"[\w-]+", done.stderr)}


def test_more_of_it(run):
    with RawServer(ANSWER) as server:
        done = run(server, "chat", "-vv", "hi")
    lines = rows(done.stderr)
    assert [word for _, word, _ in lines] == ["call begins", "request", "response", "first output", "end"]
    sent, answered = lines[1][2], lines[2][2]
    assert "authorization" in sent["headers"].split(",")
    assert answered["headers"].split(",") == ["content-type", "transfer-encoding", "x-request-id"]
    assert float(answered["took"]) <= float(answered["seconds"])


def test_as_json(run):
    with RawServer(BUSY, ANSWER) as server:
        done = run(server, "chat", "--log-json", "hi")
    found = [json.loads(line) for line in done.stderr.splitlines()]
    assert [row["message"] for row in found] == ["request", "retry", "request", "end"]
    assert found[1] | {"time": "", "wait": 0, "seconds": 0, "call": 0} == {
        "time": "", "level": "info", "message": "retry", "call": 0, "attempt": 1, "error": "server", "status": 503, "wait": 0,
        "seconds": 0,
    }  # fmt: skip


def test_an_error_is_said_beside_its_lines(run):
    with RawServer(response(401, {"error": {"message": f"wrong key {KEY}"}})) as server:
        done = run(server, "chat", "-v", "hi")
    assert done.returncode == 1
    *lines, _said, _hint = done.stderr.splitlines()
    (_, end) = rows("\n".join(lines))
    assert end[1:] == ("end", end[2] | {"error": "auth", "status": "401", "attempts": "1"})


def test_nothing_is_said_without_it(run):
    with RawServer(BUSY, ANSWER) as server:
        done = run(server, "chat", "hi")
    assert done.stderr == ""


def test_commands_that_make_their_clients_deep_within(run):
    """`models` asks a list; `conformance` plays recordings, and its -v is another one."""
    with RawServer(response(200, {"data": [{"id": "m"}]})) as server:
        done = run(server, "models", "seen", "-v")
    assert [(word, facts["kind"]) for _, word, facts in rows(done.stderr)] == [("request", "models"), ("end", "models")]


def test_every_command_has_both_options():
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        options = [option for parameter in command.params for option in parameter.opts]
        assert options.count("-v") == 1, name
        assert "--log-json" in options or name == "conformance", name


# ------------------------------------------------------------------ the service

CONFIG = """
[serve]
keys = ["${{CALLER_KEY}}"]
[providers.up]
extends = "openai-chat"
api_url = "{url}"
api_key = "${{UP_KEY}}"
"""


@pytest.mark.parametrize("more", [(), ("--workers", "2")])
def test_the_service(more, tmp_path):
    with RawServer(response()) as server:
        service = Service(tmp_path, CONFIG.format(url=server.url), "-v", "--log-json", *more, PRX_LOG="error")
        try:
            asked = {"model": "up/m", "messages": [{"role": "user", "content": "secret-words"}]}
            assert service.post("/v1/chat/completions", asked, x_request_id="mine-7").status == 200
        finally:
            service.stop()
    found = [json.loads(line) for line in service.log.read_text().splitlines()]
    lines = {row["message"]: row for row in found if row.get("request_id") == "mine-7" or row.get("face")}
    assert {"request", "end", "call"} <= lines.keys()
    assert lines["request"]["url"] == f"{server.url}/chat/completions"
    assert lines["call"]["request_id"] == lines["end"]["request_id"] == "mine-7"
    assert "secret-words" not in service.log.read_text()


# ------------------------------------------------------------------ a program


def test_a_program_that_gives_the_hook(tmp_path, caplog):
    with RawServer(BUSY, response()) as server, caplog.at_level(logging.INFO, "prx.call"):
        (tmp_path / "seen.yaml").write_text(FILE.format(url=server.url))
        with prx.Client({}, tmp_path, {}, on_event=log_lines.log_event) as client:
            client.chat("hi", "seen/m")
    assert [record.message for record in caplog.records] == ["request", "retry", "request", "end"]
    assert caplog.records[1].facts["status"] == 503


def test_every_event_has_a_line():
    made = {cls for cls in vars(events).values() if isinstance(cls, type) and issubclass(cls, events.CallEvent)}
    assert made - {events.CallEvent} == log_lines._LINES.keys()
    for cls, (_, _, *fields) in log_lines._LINES.items():
        assert {*fields[0], *fields[1]} <= {*cls._fields} - {"content"}


def test_a_line_commands_no_terminal_and_is_one_line():
    for form in log_lines.FORMS.values():
        record = logging.LogRecord("prx.call", logging.INFO, "", 0, "a\nb\x1b[2J", (), None)
        record.facts = {"request_id": f"\x1b[2J\n{KEY} x=y"}
        line = form(lambda: Mask([Secret(KEY)])).format(record)
        assert line.isprintable()
        assert KEY not in line
