"""What a server says back reaches no terminal and no file as it came: keys are masked, and nothing in it is a command."""

from __future__ import annotations

import base64
import http.server
import json
import os
import pty
import subprocess
import sys
import threading
from urllib.parse import quote
from xml.etree import ElementTree as ET

import pytest

from prx.cli import output
from prx.conformance import report
from prx.wire import Secret

KEY = "sk-Zx9/Qw+7=Tn4_abc"
ESCAPES = "\x1b]52;c;aGk=\x07\x1b[2J\x1b]0;title\x07\x9b2J\x08\x7f\u202e"
SPELLINGS = {
    "plain": KEY,
    "in a URL": quote(KEY, safe=""),
    "letter by letter": "".join(f"\\u{ord(letter):04x}" for letter in KEY),
    "in base64": base64.b64encode(KEY.encode()).decode(),
    "in base64 behind one letter": base64.b64encode(f"u:{KEY}"[1:].encode()).decode(),
    "in base64 behind a name": base64.b64encode(f"user:{KEY}:x".encode()).decode(),
    "in base64 for URLs": base64.urlsafe_b64encode(f"ab{KEY}".encode()).decode(),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("key", [KEY, "sk-abcdefghij0123456789", "gsk_" + "aB3" * 12])
def test_every_spelling_is_masked(spelling, key):
    made = {
        "plain": key, "in a URL": quote(key, safe=""), "letter by letter": "".join(f"\\u{ord(letter):04x}" for letter in key),
        "in base64": base64.b64encode(key.encode()).decode(),
        "in base64 behind one letter": base64.b64encode(f":{key}".encode()).decode(),
        "in base64 behind a name": base64.b64encode(f"user:{key}:x".encode()).decode(),
        "in base64 for URLs": base64.urlsafe_b64encode(f"ab{key}".encode()).decode(),
    }[spelling]  # fmt: skip
    masked = Secret(key).redact(f"it was {made}, was it not")
    assert made not in masked
    assert "***" in masked
    assert masked.startswith("it was ")
    assert masked.endswith(", was it not")


def test_ordinary_words_are_not_masked():
    text = "The quick brown fox jumps over the lazy dog, aGVsbG8gd29ybGQ= and sk-other-key-of-somebody"
    assert Secret(KEY).redact(text) == text


class Echo(http.server.BaseHTTPRequestHandler):
    """Says the key back in whatever it says, in one spelling, with escapes beside it."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        said = self.server.spelling + ESCAPES
        call = {
            "id": said,
            "type": "function",
            "index": 0,
            "function": {"name": f"f{said}", "arguments": json.dumps({"a": said})},
        }
        message = {"role": "assistant", "content": said, "reasoning_content": said, "tool_calls": [call]}
        if asked.get("stream"):
            cut = len(said) // 3
            deltas = [{"content": said[:cut]}, {"content": said[cut:]}, {"tool_calls": [call]}]
            events = [{"model": said, "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
            events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": said}]})
            body = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
        else:
            body = json.dumps(
                {"model": said, "x": float("nan"), "choices": [{"message": message, "finish_reason": said}]}
            )
        self._answer(body, "text/event-stream" if asked.get("stream") else "application/json")

    def do_GET(self):
        self._answer(
            json.dumps({"data": [{"id": self.server.spelling + ESCAPES}, {"id": "other"}]}), "application/json"
        )

    def _answer(self, body, kind):
        self.send_response_only(200)
        self.send_header("content-type", f"{kind}; x={self.server.spelling}")
        self.send_header("x-request-id", self.server.spelling)
        self.send_header("content-length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *args):
        pass


@pytest.fixture
def echo(tmp_path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    server.daemon_threads = True
    server.spelling = KEY
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (tmp_path / "config.toml").write_text(
        f'[default]\nprovider = "compatible"\nmodel = "m"\n[providers.compatible]\n'
        f'api_url = "http://127.0.0.1:{server.server_port}/v1"\napi_key = "{KEY}"\n'
    )
    yield server, str(tmp_path / "config.toml")
    server.shutdown()
    server.server_close()


COMMANDS = [
    ("chat", "hi"), ("chat", "hi", "--no-stream"), ("chat", "hi", "--json"), ("chat", "hi", "--json", "--no-stream"), ("chat", "hi", "--events"),
    ("models",), ("models", "--json"), ("doctor",), ("doctor", "--json"), ("chat", "hi", "--raw"),
]  # fmt: skip


def run(*arguments, env=None):
    return subprocess.run(
        [sys.executable, "-m", "prx", *arguments], capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "HOME": "/nonexistent", **(env or {})},
    )  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("spelling", ["plain", "letter by letter", "in base64 behind a name"])
def test_no_command_says_a_key_back(echo, command, spelling):
    server, config = echo
    if command in {("chat", "hi"), ("chat", "hi", "--raw")}:
        spelling = "plain"  # of a text that runs in pieces, the key itself: its other spellings may be cut anywhere
    server.spelling = SPELLINGS[spelling]
    done = run(*command, "--config", config)
    said = done.stdout + done.stderr
    assert said.strip()
    assert SPELLINGS[spelling] not in said
    assert KEY not in said
    assert "Traceback" not in said
    if "--json" in command:
        json.loads(done.stdout, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


def on_a_terminal(*arguments):
    """What a command writes to a terminal that is both its output and its errors."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "prx", *arguments], stdin=subprocess.DEVNULL, stdout=follower, stderr=follower,
        env={**os.environ, "TERM": "dumb", "NO_COLOR": "1"},
    )  # fmt: skip
    os.close(follower)
    data = b""
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:
            break
        if not piece:
            break
        data += piece
    os.close(leader)
    process.wait(60)
    return data.decode("utf-8", "replace")


@pytest.mark.parametrize("command", COMMANDS[:-1], ids=" ".join)
def test_no_command_lets_a_server_command_a_terminal(echo, command):
    _, config = echo
    said = on_a_terminal(*command, "--config", config)
    assert said.strip()
    for mark in ("\x1b]52", "\x1b[2J", "\x1b]0;", "\x9b", "\x07", "\x08", "\x7f", "\u202e"):
        assert mark not in said, repr(said)


def test_raw_text_is_as_it_came(echo):
    _, config = echo
    assert "\x1b[2J" in on_a_terminal("chat", "hi", "--raw", "--config", config)
    assert "\x1b[2J" in run("chat", "hi", "--config", config).stdout, "and so it is in a pipe"


def test_a_recording_has_no_key_in_any_header(echo, tmp_path):
    server, _ = echo
    what = [
        "--model",
        "m",
        "--url",
        f"http://127.0.0.1:{server.server_port}/v1",
        "--what",
        "echo 1",
        "--to",
        str(tmp_path / "c"),
    ]
    for spelling in SPELLINGS.values():
        server.spelling = spelling
        run("record", "compatible", "--case", "chat", "--key-env", "THE_KEY", *what, env={"THE_KEY": KEY})
        (file,) = (tmp_path / "c").rglob("chat.yaml")
        text = file.read_text()
        assert spelling not in text
        assert KEY not in text
        assert "x-request-id" in text


def test_a_key_that_is_cut_in_two_is_masked(capsys):
    output._keys[:] = [Secret("sk-cut-in-two")]
    try:
        printer = output.Running(raw=True)
        for piece in ("a sk-", "cut", "-in-two b sk-cu", "p c"):
            printer.piece(piece)
        printer.end()
    finally:
        output._keys.clear()
    assert capsys.readouterr().out == "a *** b sk-cup c"


def test_junit_is_xml_whatever_a_server_says():
    for code in [*range(0x250), *range(0xD7F0, 0xE010), *range(0xFFF0, 0x10010), 0x1FFFE, 0x10FFFF]:
        row = {
            "provider": "p",
            "case": "c",
            "outcome": "failed",
            "why": f"a{chr(code)}b",
            "failures": [f"a{chr(code)}b"],
            "seconds": 0.1,
        }
        text = report.junit({"providers": [{"id": "p"}], "results": [row]})
        ET.fromstring(text.encode("utf-8", "replace"))


GOOD = {
    "provider": "p",
    "case": "c",
    "outcome": "passed",
    "why": "",
    "failures": [],
    "evidence": None,
    "seconds": 0.1,
    "exchanges": [],
}


@pytest.mark.parametrize(
    "odd",
    [[], 1, "x", {}, {"provider": "p"}, {**GOOD, "outcome": "x"}, {**GOOD, "provider": 1}, {**GOOD, "case": ["c"]}, {**GOOD, "seconds": "x"},
     {**GOOD, "evidence": 3}, {**GOOD, "evidence": {}}, {**GOOD, "failures": [1]}, {**GOOD, "exchanges": {}}, {**GOOD, "why": None}],
    ids=repr,
)  # fmt: skip
def test_a_run_that_cannot_be_taken_up_is_said_in_a_sentence(tmp_path, odd):
    path = tmp_path / "run.jsonl"
    text = json.dumps(GOOD) + "\n" + json.dumps(odd) + "\n"
    path.write_text(text)
    done = run("conformance", "groq", "--resume", str(path))
    assert done.returncode == 1
    assert f"prx: {path}: no run that could be taken up: line 2 is no result" in done.stderr
    assert path.read_text() == text, "nothing is lost"


RUN = """import pathlib
with pathlib.Path({ran!r}).open("a") as file: file.write(__file__)
def test_theirs(): pass
"""
PLACES = {
    "beside": ("empty", "../theirs"),
    "beside, and a slash": ("empty", "../theirs/"),
    "by a link": ("empty", "../link"),
    "as a package": ("empty", "../package"),
    "inside": ("home", "providers"),
    "inside, with the name of tests": ("home", "tests_too"),
    "here": ("theirs", "."),
    "twice": ("home", "providers"),
}


@pytest.mark.parametrize("place", PLACES)
def test_the_plugin_runs_nothing_of_a_folder(tmp_path, place):
    """A folder of provider files may be anybody's."""
    where, given = PLACES[place]
    (tmp_path / "home").mkdir()
    for folder in ("theirs", "theirs/sub", "theirs/tests", "package", *([f"home/{given}"] if where == "home" else [])):
        (tmp_path / folder).mkdir(exist_ok=True)
        for name in ("conftest.py", "test_theirs.py"):
            (tmp_path / folder / name).write_text(RUN.format(ran=str(tmp_path / "ran")))
        (tmp_path / folder / "mine.yaml").write_text(
            "spec: 1\nid: mine\nname: Mine\nextends: openai-chat\nbase_url: https://mine.example/v1\n"
        )
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("theirs")
    (tmp_path / "package" / "__init__.py").write_text("")
    (tmp_path / "home" / "test_own.py").write_text("def test_own(): pass\n")
    done = pytest_in(tmp_path / where, "-v", *["--prx-providers", given] * (2 if place == "twice" else 1))
    assert "mine-recordings" in done.stdout, done.stdout + done.stderr
    assert "test_theirs" not in done.stdout
    assert ("test_own" in done.stdout) == (where == "home")
    assert not (tmp_path / "ran").exists(), (tmp_path / "ran").read_text()


def test_the_plugin_takes_no_settings_of_a_folder(tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "theirs" / "pytest.ini").write_text(f"[pytest]\naddopts = --junit-xml={tmp_path / 'ran'}\n")
    done = pytest_in(tmp_path / "empty", "--prx-providers", "../theirs")
    assert done.returncode != 0
    assert "write --prx-providers=../theirs" in done.stderr
    pytest_in(tmp_path / "empty", "--prx-providers=../theirs")
    assert not (tmp_path / "ran").exists()
    assert "no such folder" in pytest_in(tmp_path / "empty", "--prx-providers", "../nobodys").stderr


def pytest_in(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", *arguments], cwd=folder, capture_output=True, text=True,
        timeout=120, check=False, env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST")},
    )  # fmt: skip
