"""What a server says back reaches no terminal and no file as it came: keys are masked, and nothing in it is a command."""

from __future__ import annotations

import base64
import http.server
import json
import os
import pty
import re
import threading
import zlib
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree as ET

import pytest
import yaml
from helpers import commands

from prx.cli import output
from prx.conformance import report
from prx.conformance.run import Result
from prx.errors import ConfigError
from prx.secret import Secret

KEY = "sk-Zx9/Qw+7=Tn4_abc"
ESCAPES = "\x1b]52;c;aGk=\x07\x1b[2J\x1b]0;title\x07\x9b2J\x08\x7f\u202e"


def spelled(key):
    return {
        "plain": key,
        "in a URL": quote(key, safe=""),
        "letter by letter": "".join(f"\\u{ord(letter):04x}" for letter in key),
        "in base64": base64.b64encode(key.encode()).decode(),
        "in base64 behind one letter": base64.b64encode(f":{key}".encode()).decode(),
        "in base64 behind a name": base64.b64encode(f"user:{key}:x".encode()).decode(),
        "in base64 for URLs": base64.urlsafe_b64encode(f"ab{key}".encode()).decode(),
        "in capitals": key.upper(),
        "with what nobody sees": "\u200b".join(key),
        "as hexadecimal digits": key.encode().hex(),
        "by numbers in a page": "".join(f"&#{ord(letter)};" for letter in key),
    }


SPELLINGS = spelled(KEY)


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("key", [KEY, "sk-abcdefghij0123456789", "gsk_" + "aB3" * 12])
def test_every_spelling_is_masked(spelling, key):
    made = spelled(key)[spelling]
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
        if self.server.status != 200:
            body, kind = (
                json.dumps({"error": {"message": f"no such thing as {self.server.spelling}{ESCAPES}"}}),
                "application/json",
            )
        self.send_response_only(self.server.status)
        said = self.server.spelling.encode().decode("latin-1")
        self.send_header("content-type", f"{kind}; x={said}")
        self.send_header("x-request-id", said)
        self.send_header("content-length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *args):
        pass


@pytest.fixture
def echo(tmp_path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    server.daemon_threads = True
    server.status = 200
    server.spelling, server.url = KEY, f"http://127.0.0.1:{server.server_port}/v1"
    threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    (tmp_path / "config.toml").write_text(
        f'[default]\nprovider = "compatible"\nmodel = "m"\n[providers.compatible]\n'
        f'api_url = "{server.url}"\napi_key = "{KEY}"\n'
    )
    yield server, str(tmp_path / "config.toml")
    server.shutdown()
    server.server_close()


COMMANDS = [
    ("chat", "hi"), ("chat", "hi", "--no-stream"), ("chat", "hi", "--json"), ("chat", "hi", "--json", "--no-stream"), ("chat", "hi", "--events"),
    ("models",), ("models", "--json"), ("doctor",), ("doctor", "--json"), ("chat", "hi", "--raw"),
]  # fmt: skip


def run(*arguments, env=None, cwd=None):
    return commands.run(*arguments, env={**os.environ, "HOME": "/nonexistent", **(env or {})}, cwd=cwd)


def assert_no_key(said):
    """Not in any spelling, also where JSON has escaped it once more, and not its first half either."""
    small = said.lower()
    for spelling in SPELLINGS.values():
        for text in (spelling, json.dumps(spelling)[1:-1]):
            assert text.lower() not in small
            assert text[: len(text) // 2].lower() not in small, "half a key"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("spelling", ["plain", "letter by letter", "in base64 behind a name"])
def test_no_command_says_a_key_back(echo, command, spelling):
    server, config = echo
    server.spelling = SPELLINGS[spelling]
    done = run(*command, "--config", config)
    said = done.stdout + done.stderr
    assert said.strip()
    assert_no_key(said)
    assert "Traceback" not in said
    if "--events" in command:
        assert_no_key(
            "".join(piece for line in done.stdout.splitlines() for piece in json.loads(line).get("content", ""))
        )
    if "--json" in command:
        json.loads(done.stdout, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


def on_a_terminal(*arguments):
    """What a command writes to a terminal that is both its output and its errors."""
    leader, follower = pty.openpty()
    with Path(os.devnull).open() as nothing:
        env = {**os.environ, "TERM": "dumb", "NO_COLOR": "1"}
        process = commands.start(*arguments, files=(nothing.fileno(), follower, follower), env=env)
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


def assert_tame(said):
    for mark in ("\x1b]52", "\x1b[2J", "\x1b]0;", "\x9b", "\x07", "\x08", "\x7f", "\u202e"):
        assert mark not in said, repr(said)


@pytest.mark.parametrize("command", COMMANDS[:-1], ids=" ".join)
def test_no_command_lets_a_server_command_a_terminal(echo, command):
    _, config = echo
    said = on_a_terminal(*command, "--config", config)
    assert said.strip()
    assert_tame(said)


REFUSED = [
    ("chat", "hi"), ("chat", "hi", "--json"), ("doctor",), ("doctor", "--json"), ("models",),
    ("conformance", "mine.yaml", "--live", "--model", "m", "--case", "chat", "--case", "models"),
    ("conformance", "mine.yaml", "--live", "--model", "m", "--case", "chat", "--json"),
    ("record", "mine", "--providers", ".", "--url", "URL", "--key-env", "MINE_KEY", "--model", "m", "--to", "made", "--case", "chat"),
    ("probe", "URL", "--key-env", "MINE_KEY", "--yes", "--id", "mine", "--pause", "0"),
]  # fmt: skip


@pytest.mark.parametrize("command", REFUSED, ids=" ".join)
def test_no_refusal_commands_a_terminal_or_has_a_key(echo, tmp_path, command, monkeypatch):
    server, config = echo
    server.status = 400
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINE_KEY", KEY)
    (tmp_path / "mine.yaml").write_text(
        f"spec: 1\nid: mine\nname: Mine\nextends: openai-chat\nbase_url: {server.url}\nauth: {{style: bearer, env: MINE_KEY}}\n"
    )
    asked = [server.url if word == "URL" else word for word in command]
    said = on_a_terminal(*asked, *([] if command[0] in ("conformance", "record", "probe") else ["--config", config]))
    assert "no such thing" in said
    assert_tame(said)
    assert_no_key(said)


def test_names_of_models_make_no_lines_of_their_own(echo):
    server, config = echo
    server.spelling = "m\n  ok   key      all is well\t"
    assert len(run("models", "--config", config).stdout.splitlines()) == 2
    done = run("doctor", "--config", config).stdout
    assert not [line for line in done.splitlines() if line.startswith("  ok   key      all is well")]


def test_text_on_a_terminal_keeps_its_lines_and_its_letters(capsys):
    printer = output.Running(raw=False)
    for piece in ("a\r", "\nb\r\nc\td\r", "e\x1b", "[2J \u00a0\u200d", "\U0001f469\u200d\U0001f4bb", " \u202ex\r"):
        printer.piece(piece)
    printer.end()
    assert capsys.readouterr().out == "a\nb\nc\td\\re\\x1b[2J \u00a0\u200d\U0001f469\u200d\U0001f4bb \\u202ex\\r"


def test_no_command_prints_by_another_way():
    """What a server has a say in goes through one module; what is left elsewhere are words of our own."""
    own = re.compile(r"click\.(echo\((nl=|err=|$|\)|f?\"|\n)|secho\((f?\"))")
    for path in Path(output.__file__).parent.glob("*.py"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if path.name != "output.py" and re.search(r"click\.s?echo\(|\bprint\(|stdout\.write\(", line):
                assert own.search(line) or line.strip() in OWN, f"{path.name}:{number}: {line}"


OWN = (
    "sys.stdout.write(text)",
    'console.print(Segments(_separated(lines)), end="", soft_wrap=True)',  # Markdown, escaped
    "click.echo(_dot(row), nl=False)",
    "click.echo(output.json_text(rows))",
    'click.echo(path if as_path else path.read_text(encoding="utf-8"), nl=as_path)',
    "click.echo(script.replace(*_CHANGES[shell]))",
    'click.echo(file.read_text(encoding="utf-8").partition("\\n")[2], nl=False)',
)


def test_raw_text_is_as_it_came(echo):
    _, config = echo
    assert "\x1b[2J" in on_a_terminal("chat", "hi", "--raw", "--config", config)
    assert "\x1b[2J" in run("chat", "hi", "--config", config).stdout, "and so it is in a pipe"


CASES = ("chat", "stream", "stream_tools", "tools", "models")


def unpacked(page):
    """All that a report's page says, with what it shows only where somebody looks."""
    blocks = re.findall(r"[A-Za-z0-9+/]{40,}={0,2}", page)
    return page + "".join(
        zlib.decompress(base64.b64decode(block)).decode() for block in blocks if block.startswith("eJ")
    )


SOME = (
    "plain",
    "letter by letter",
    "in base64 behind a name",
    "with what nobody sees",
)  # each unlike the others on its way


@pytest.mark.parametrize("spelling", SOME)
def test_no_report_and_no_recording_has_a_key(echo, tmp_path, spelling):
    server, _ = echo
    server.spelling = SPELLINGS[spelling]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mine.yaml").write_text(
        f"spec: 1\nid: mine\nname: Mine\nextends: openai-chat\nbase_url: {server.url}\nauth: {{style: bearer, env: MINE_KEY}}\n"
    )
    env = {"MINE_KEY": KEY}
    cases = [word for case in CASES for word in ("--case", case)]
    files = {name: tmp_path / name for name in ("state.jsonl", "out.xml", "out.html")}
    reports = ["--resume", files["state.jsonl"], "--junit", files["out.xml"], "--html", files["out.html"]]
    asked = ["mine/mine.yaml", *cases, "--cassettes", "kept", *map(str, reports), "--json"]
    said = [run("conformance", *asked, "--record", env=env, cwd=tmp_path)]
    files["state.jsonl"].unlink()
    said.append(run("conformance", *asked, "--live", env=env, cwd=tmp_path))
    said.append(run("conformance", "mine/mine.yaml", *cases, "--cassettes", "kept", cwd=tmp_path))
    made = run("record", "mine", "--providers", "mine", *cases, "--to", "made", "--url", server.url, "--key-env", "MINE_KEY", "--model", "m", env=env, cwd=tmp_path)  # fmt: skip
    kept = [path.read_text() for path in (*tmp_path.glob("kept/*/*.yaml"), *tmp_path.glob("made/*/*.yaml"))]
    assert len(kept) == 2 * len(CASES), made
    for done in (*said, made):
        assert "Traceback" not in done.stderr
        assert_no_key(done.stdout + done.stderr)
    for text in (*kept, *(path.read_text() for path in files.values())):
        assert_no_key(unpacked(text))
        assert_no_key("".join(re.findall(r'"content": ?"([^"]*)', text)))
    assert "x-request-id" in kept[0]
    replayed = {
        row["case"]: row["outcome"] for row in json.loads(run("conformance", *asked, cwd=tmp_path).stdout)["results"]
    }
    live = {row["case"]: row["outcome"] for row in json.loads(said[1].stdout)["results"]}
    assert replayed == live, "and a recording without the key is played as what was recorded"


@pytest.mark.parametrize("spelling", SOME)
def test_no_probe_says_or_writes_a_key(echo, tmp_path, spelling):
    server, _ = echo
    server.spelling = SPELLINGS[spelling]
    env = {"MINE_KEY": KEY}
    asked = ["probe", server.url, "--key-env", "MINE_KEY", "--yes", "--id", "mine", "--pause", "0"]
    done = run(*asked, "--json", "--out", "mine.yaml", env=env, cwd=tmp_path)
    assert_no_key(done.stdout + done.stderr + (tmp_path / "mine.yaml").read_text())
    assert yaml.safe_load((tmp_path / "mine.yaml").read_text())["models"]["default"] == "other"


def test_an_ordinary_value_of_a_header_spoils_no_json(echo, tmp_path):
    server, _ = echo
    (tmp_path / "c.toml").write_text(
        f'[default]\nprovider = "compatible"\nmodel = "m"\n[providers.compatible]\napi_url = "{server.url}"\n'
        'headers = {x-a = "content", x-b = "function", x-c = "verdict"}\n'
    )
    reply = json.loads(run("chat", "hi", "--json", "--no-stream", "--config", str(tmp_path / "c.toml")).stdout)
    assert reply.keys() >= {"content", "content_source", "message", "tool_calls"}
    assert KEY in reply["message"]["content"]
    rows = json.loads(run("doctor", "--json", "--config", str(tmp_path / "c.toml")).stdout)
    assert {check["verdict"] for check in rows[0]["checks"]} <= {"ok", "warn", "fail", "skip"}


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
    """Every code point, in every place of the report."""
    for start in range(0, 0x110000, 0x1000):
        said = "".join(map(chr, range(start, start + 0x1000)))
        row = {**GOOD, "case": said, "outcome": "failed", "why": said, "failures": [said]}
        text = report.junit({"providers": [{"id": "p"}], "results": [row]})
        (case,) = ET.fromstring(text.encode("utf-8", "replace")).iter("testcase")
        assert len(case.get("name")) >= len(said), "what cannot be said is written as a number"


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


HEAD = {"kind": "live", "what": "w", "date": "d", "base_url": "u", "model": "m", "digest": "d"}
EXCHANGE = {
    "request": {"method": "GET", "uri": "u", "headers": {}},
    "response": {"status": 200, "headers": {}, "text": ""},
}
ODD = [
    [], 1, 1.5, True, "x", {}, None, [1], [[]], [{}], -1, float("nan"), float("inf"), {"kind": "live"}, {**HEAD, "kind": "none"}, {**HEAD, "model": 1},
    [{**EXCHANGE, "request": {}}], [{**EXCHANGE, "response": 1}], [{"request": EXCHANGE["request"]}],
]  # fmt: skip
RIGHT = [("provider", "x"), ("case", "x"), ("why", "x"), ("seconds", 1), ("seconds", 1.5), ("failures", ["x"])]


@pytest.mark.parametrize(
    "odd",
    [
        *({**GOOD, name: value} for name in GOOD for value in ODD if value != GOOD[name] and (name, value) not in RIGHT),
        *({key: value for key, value in GOOD.items() if key != name} for name in GOOD if name != "evidence"),
        *ODD,
    ],
)  # fmt: skip
def test_a_run_that_cannot_be_taken_up_is_said_in_a_sentence(tmp_path, odd):
    path = tmp_path / "run.jsonl"
    text = json.dumps(GOOD) + "\n" + json.dumps(odd) + "\n"
    path.write_text(text)
    with pytest.raises(ConfigError, match="cannot be resumed: line 2 is not a result"):
        report.State(path)
    assert path.read_text() == text, "nothing is lost"


WHOLE = json.dumps(GOOD)


@pytest.mark.parametrize(
    "text",
    [b"\xff\xfe", b"{", b"[" * 100000, b'{"a":' * 50000, f"{WHOLE}\n{'9' * 5000}\n".encode(), b"\0", WHOLE.encode()[:-1] + b"\n", b"x\n" + WHOLE.encode(),
     f"{WHOLE} {WHOLE}\n".encode()],
    ids=lambda text: repr(text[:12]),
)  # fmt: skip
def test_a_file_of_something_else_is_not_taken_up(tmp_path, text):
    path = tmp_path / "run.jsonl"
    path.write_bytes(text)
    done = run("conformance", "groq", "--resume", str(path))
    assert done.returncode == 1
    assert done.stderr.startswith(f"prx: {path}: cannot be resumed: ")
    assert path.read_bytes() == text, "nothing is lost"


@pytest.mark.parametrize(
    ("text", "after", "count"),
    [("", "", 0), ("\n", "\n", 0), (f"{WHOLE}\n", f"{WHOLE}\n", 1), (WHOLE, f"{WHOLE}\n", 1), (f'{WHOLE}\n{{"prov', f"{WHOLE}\n", 1), (f"{WHOLE}\r\n\n", f"{WHOLE}\r\n\n", 1)],
)  # fmt: skip
def test_a_run_that_was_interrupted_is_taken_up(tmp_path, text, after, count):
    path = tmp_path / "run.jsonl"
    path.write_bytes(text.encode())
    state = report.State(path)
    assert (len(state.rows), path.read_bytes()) == (count, after.encode())
    state.add({**GOOD, "case": "another"})
    assert len(report.State(path).rows) == count + 1


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        assert "cannot be resumed" in run("conformance", "groq", "--resume", str(path)).stderr


def test_a_number_that_json_does_not_have_breaks_no_report(tmp_path):
    exchange = {**EXCHANGE, "response": {"status": 200, "headers": {}, "json": {"a": [float("nan"), float("inf")]}}}
    row = report.row_of(Result("p", "c", exchanges=(exchange,)))
    state = report.State(tmp_path / "run.jsonl")
    state.add(row)
    text = (tmp_path / "run.jsonl").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["exchanges"][0]["response"]["json"] == {"a": [None, None]}


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
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return commands.run("-p", "no:cacheprovider", "-rs", *arguments, module="pytest", cwd=folder, env=env, timeout=120)
