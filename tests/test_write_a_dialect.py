"""docs/write-a-dialect.md, done as it says: each file edited, each command run, each output compared."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import commands
from helpers.example_server import CAST, PASS, Parley

import prx
from prx.chat import Call
from prx.core.messages import turns
from prx.core.request import view
from prx.lang.functions import OWN
from prx.lang.template import WORDS, Template
from prx.spec.face import ANSWER, BLOCK
from prx.spec.read import parse_strictly

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "write-a-dialect.md").read_text()
HERE = {"8484", "8485", "8080"}  # the ports of the page: Parley's server, that of another dialect, and prx serve
DIALECT = "_dialects/parley.yaml"
STEPS = re.findall(r"^## (\d+\. [^\n]*)\n(.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL)


def blocks(text):
    """(language, name of the file or "", text) of each fenced block."""
    return re.findall(r"^```(\w+) ?(\S*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


# ------------------------------------------------------------------ the hand that edits the file


def tree(text):
    """YAML's block structure as [key, line, what stands below it]."""
    top = []
    open_ = [(-1, top)]
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip())
        while open_[-1][0] >= indent:
            open_.pop()
        below = []
        open_[-1][1].append([re.split(r":( |$)", line.strip())[0], line, below])
        open_.append((indent, below))
    return top


def joined(old, new):
    """As the page says: a key that is there takes the new lines below it, another value takes its place."""
    for key, line, below in new:
        mine = next((row for row in old if row[0] == key), None)
        if mine is None:
            old.append([key, line, below])
        elif mine[1] != line:
            mine[1:] = [line, below]
        else:
            joined(mine[2], below)
    return old


def written(rows):
    return "".join(f"{line}\n{written(below)}" for _, line, below in rows)


def merged(old, new):
    both = isinstance(old, dict) and isinstance(new, dict)
    return {**old, **{key: merged(old.get(key), value) for key, value in new.items()}} if both else new


# ------------------------------------------------------------------ the reader


class Reader:
    """A person at a desk of their own, with the server running, who has followed the page up to some step."""

    def __init__(self, home, server):
        self.home, self.server = home, server
        self.ports = {port: str(free_port()) for port in HERE} | {"8484": str(server.server_port)}
        self.terminals = []
        self.folder = home / ".config" / "prx" / "providers.d"
        self.exports, self.step = {}, 0
        (home / "bin").mkdir()
        for name, run in (("prx", "-m prx"), ("python3", "")):
            path = home / "bin" / name
            path.write_text(f'#!/bin/sh\nexec "{sys.executable}" {run} "$@"\n')
            path.chmod(0o755)

    def follow(self, last):
        while self.step <= last:
            for language, name, block in blocks(STEPS[self.step][1]):
                getattr(self, f"do_{language}")(self.here(block), name)
            self.step += 1
        return self

    def here(self, text):
        """A text of the page, with the ports that are free here."""
        return re.sub(
            rf"(localhost:|--serve |--port )({'|'.join(HERE)})", lambda found: found[1] + self.ports[found[2]], text
        )

    def there(self, text):
        """What a command has printed, with the ports of the page."""
        for port, own in self.ports.items():
            text = text.replace(f"localhost:{own}", f"localhost:{port}")
        return text

    def do_yaml(self, text, name):
        """The file has the new lines, means what it should, and `prx check` has nothing to say."""
        path = self.folder / (name or DIALECT)
        before = path.read_text() if path.exists() else ""
        more = parse_strictly(text, "block")
        assert not more.problems
        path.write_text(written(joined(tree(before), tree(text))))
        assert parse_strictly(path.read_text(), "file").value == merged(
            parse_strictly(before or "spec: 1", "").value, more.value
        )
        done = self.run(f"prx check {path}")
        assert (done.stdout, done.returncode) == (f"{path}: good\n", 0)

    def do_toml(self, text, name):
        (self.folder.parent / name).write_text(text)

    def do_sh(self, text, name):
        if name == "terminal":
            self.begin(text.strip())
            return
        for command, shown in re.findall(r"^((?!#>).*)\n((?:#>.*\n)*)", text, re.MULTILINE):
            self.exports |= dict(re.findall(r"^export (\w+)=(\S+)$", command))
            if not command.startswith("curl") or shutil.which("curl"):
                self.compare(
                    self.run(command) if self.ports["8080"] not in command else self.asked(command, shown), shown
                )

    def asked(self, command, shown):
        """What prx serve answers, which takes in a file that was changed a moment ago."""
        end = time.monotonic() + 10
        while True:
            done = self.run(command)
            if done.stdout.splitlines() == shown.replace("#> ", "").splitlines() or time.monotonic() > end:
                return done
            time.sleep(0.2)

    def begin(self, command):
        """A command that runs in a terminal of its own; it is ready once its port is open."""
        self.terminals.append(self.started(command))
        port = int(re.search(r"\d+$", command)[0])
        end = time.monotonic() + 30
        while time.monotonic() < end and self.terminals[-1].poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            time.sleep(0.05)
        raise AssertionError(f"{command} does not listen at {port}")

    def started(self, command):
        return subprocess.Popen(
            ["sh", "-c", f"exec {command}"], env=self.env(), cwd=self.home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )  # fmt: skip

    def leave(self):
        for terminal in self.terminals:
            terminal.terminate()
            terminal.wait(20)

    def do_python(self, text, _):
        (self.home / "round.py").write_text(text)
        self.compare(self.run("python3 round.py"), text)

    def compare(self, done, text):
        """The lines after #> are what came; a command without any only has to work."""
        wanted = "".join(re.findall(r"^#> (.*\n)", text, re.MULTILINE))
        if wanted:
            assert self.there(done.stdout).splitlines() == self.there(wanted).splitlines(), done.args
        else:
            assert done.returncode == 0, done.stdout

    def run(self, command):
        """A command, with what a terminal shows of it as its stdout."""
        env = self.env()
        if command.startswith("prx ") and not set("|<>;&$*`\\~") & set(command):
            done = commands.run(*shlex.split(command, comments=True)[1:], env=env, cwd=self.home, together=True)
            assert "Traceback" not in done.stdout, done.stdout
            return done
        done = subprocess.run(
            ["sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
            env=env,
            cwd=self.home,
        )
        assert "Traceback" not in done.stdout, done.stdout
        return done

    def env(self):
        path = f"{self.home / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return {"PATH": path, "PYTHONPATH": str(Path(prx.__file__).parents[1]), "HOME": str(self.home), **self.exports}

    def client(self):
        return prx.Client(env={"HOME": str(self.home), **self.exports})


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    with Parley() as server:
        reader = Reader(tmp_path_factory.mktemp("desk"), server)
        yield reader
        reader.leave()


@pytest.mark.parametrize("step", range(len(STEPS)), ids=lambda step: STEPS[step][0])
def test_the_page_works_step_by_step(reader, step):
    reader.follow(step)


@pytest.fixture
def client(reader):
    """Of somebody who has followed the whole page."""
    with reader.follow(len(STEPS) - 1).client() as client:
        yield client


# ------------------------------------------------------------------ what the page says besides its commands

TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
ASKED = {"role": "user", "content": "What is the weather in Oslo and Rome?"}


def sent(reader):
    return reader.server.talks[-1]


def test_the_dialect_is_short_and_good(reader):
    path = reader.follow(len(STEPS) - 1).folder / DIALECT
    asking, _, served = path.read_text().partition("\nserve:")
    assert len(asking.splitlines()) < 90
    assert len(served.splitlines()) < 75
    assert reader.client().catalog.check(path)[1] == []
    assert sum(reader.run(command).returncode for command in ("prx show tavern --resolved", "prx show json-http")) == 0


def test_the_recordings_hold_no_pass(reader):
    texts = [path.read_text() for path in (reader.follow(len(STEPS) - 1).home / "recordings").rglob("*.yaml")]
    assert len(texts) > 5
    assert not any(PASS in text for text in texts)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_text_reasoning_usage_and_end(client, reader, stream):
    reply = ask(client, stream, "hi", reasoning_effort="high", temperature=0, stop="nobody says this", seed=4)
    assert (reply.content, reply.reasoning) == ("You said: hi", "I look for a question in 'hi'.")
    assert (reply.finish_reason, reply.model, reply.streamed) == ("stop", "owl", stream)
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens) == (1, 10, 11)
    assert sent(reader)["tuning"] == {"heat": 0, "halt": ["nobody says this"], "ponder": "long"}
    assert ask(client, stream, "one two three", max_completion_tokens=3).finish_reason == "length"
    assert "tuning" not in (ask(client, stream, "hi"), sent(reader))[1]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_round_of_tools(client, reader, stream):
    reply = ask(client, stream, [ASKED], tools=TOOLS, reasoning_effort="low")
    assert reply.finish_reason == "tool_calls"
    assert [json.loads(call.arguments) for call in reply.tool_calls] == [{"city": "Oslo"}, {"city": "Rome"}]
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": f"{place} degrees"}
        for place, call in enumerate(reply.tool_calls)
    ]
    assert ask(client, stream, [ASKED, reply.message, *results], tools=TOOLS).content == (
        "You were told: 0 degrees and 1 degrees"
    )
    assert [scene["speaker"] for scene in sent(reader)["script"]] == ["guest", "host", "guest"]
    requests = [line["request"] for line in sent(reader)["script"][1]["lines"]]
    assert requests[1] == {"ticket": "t1", "ability": "weather", "with": {"city": "Rome"}}
    assert sent(reader)["script"][2]["lines"][1] == {"outcome": {"ticket": "t1", "text": "1 degrees"}}


def test_the_choice_of_a_tool(client, reader):
    named = {"type": "function", "function": {"name": "weather"}}
    for choice, word in (("auto", "freely"), ("none", "never"), ("required", "must"), (named, {"only": "weather"})):
        ask(client, False, "hi", tools=TOOLS, tool_choice=choice)
        assert sent(reader)["may_use"] == word
    with pytest.raises(prx.CapabilityError, match="cannot express this"):
        ask(client, False, "hi", tools=TOOLS, tool_choice={"type": "allowed_tools"})


def test_a_picture_by_its_address(client):
    content = [{"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}]
    assert ask(client, False, [{"role": "user", "content": content}]).content == (
        "I see the address https://x.example/a.png."
    )


def test_what_it_cannot_take_is_refused_before_it_is_sent(client, reader):
    before = len(reader.server.talks)
    with pytest.raises(prx.CapabilityError):
        ask(client, False, "hi", response_format={"type": "json_schema", "json_schema": {}})
    assert len(reader.server.talks) == before


def test_what_a_refusal_names_is_left_out(client, reader):
    """By the words that every dialect inherits: nothing in the page's file speaks of it."""
    before = len(reader.server.talks)
    for stream in (False, True):
        reply = ask(client, stream, "hi", top_k=4)
        assert (reply.content, reply.fallbacks) == ("You said: hi", ("without_top_k",))
    assert len(reader.server.talks) - before == 3, "what was learned from the first holds for the second"


def test_errors(client, reader):
    with pytest.raises(prx.BadRequestError, match="a talk has no 'top_k'"):
        ask(client, False, "hi", top_k=4, fallbacks=())
    with pytest.raises(prx.QuotaError, match="Put a coin into the purse") as caught:
        client.chat("hi", "tavern/moth")
    assert caught.value.retry_after == 3600
    with pytest.raises(prx.NotFoundError):
        client.chat("hi", "tavern/nobody")
    with prx.Client(env={"HOME": str(reader.home), "TAVERN_PASS": "wrong"}) as other, pytest.raises(prx.AuthError):
        other.chat("hi", "tavern/owl")
    with prx.Client(env={"HOME": str(reader.home)}) as other, pytest.raises(prx.ConfigError, match="TAVERN_PASS"):
        other.chat("hi", "tavern/owl")


def test_a_stream_that_fails_and_one_that_stops(client):
    with pytest.raises(prx.Error, match="The roof came down") as caught:
        ask(client, True, "a storm")
    assert caught.value.partial.content == "You said: a storm"
    with pytest.raises(prx.TruncatedError) as caught:
        ask(client, True, "a cliff")
    assert caught.value.partial.content == "You said: a cliff"


def test_models(client):
    assert client.models("tavern") == [name for name, awake in CAST.items() if awake]


@pytest.fixture
def mirror(client, reader):
    """A client that asks as a program of Parley: what the second half of the dialect writes is read by the first one."""
    at = f"http://localhost:{reader.ports['8080']}"
    config = {"providers": {"mirror": {"extends": "parley", "api_url": at, "api_key": "any"}}}
    with prx.Client(config=config, env={"HOME": str(reader.home)}) as mirror:
        yield mirror


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_served_it_says_what_the_first_half_reads(mirror, stream):
    reply = ask(mirror, stream, "one two three", model="mirror/demo/words")
    assert (reply.content, reply.finish_reason, reply.streamed) == ("You said: one two three", "stop", stream)
    assert reply.usage.completion_tokens == 5
    cut = ask(mirror, stream, "one two three", model="mirror/demo/words", max_tokens=2)
    assert (cut.content, cut.finish_reason) == ("You said:", "length")
    thinker = ask(mirror, stream, "hi", model="mirror/demo/words-reasoner", reasoning_effort="low")
    assert thinker.reasoning.startswith("The message has 1 words")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_served_it_carries_a_round_of_tools_and_a_picture(mirror, stream):
    city = {"type": "object", "properties": {"city": {"type": "string"}}}
    tools = [{"type": "function", "function": {"name": "weather", "parameters": city}}]
    reply = ask(mirror, stream, [ASKED], model="mirror/demo/words", tools=tools, tool_choice="auto")
    assert [json.loads(call.arguments) for call in reply.tool_calls] == [{"city": "Oslo"}, {"city": "Rome"}]
    assert reply.finish_reason == "tool_calls"
    results = [{"role": "tool", "tool_call_id": call.id, "content": "4 degrees"} for call in reply.tool_calls]
    after = ask(mirror, stream, [ASKED, reply.message, *results], model="mirror/demo/words", tools=tools)
    assert after.content == "The tool says: 4 degrees and 4 degrees."
    content = [{"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}]
    seen = ask(mirror, stream, [{"role": "user", "content": content}], model="mirror/demo/words")
    assert seen.content == "I see the address https://x.example/a.png."


def test_served_it_says_its_errors(mirror):
    with pytest.raises(prx.NotFoundError, match="does not exist"):
        mirror.chat("hi", "mirror/demo/nobody")


def test_the_server_runs_by_itself():
    command = [sys.executable, "-u", ROOT / "tests" / "helpers" / "example_server.py"]
    assert "run `python3 tests/helpers/example_server.py` in" in PAGE
    with subprocess.Popen([*command, "0"], stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout.readline().startswith("Parley listens on localhost:")
        finally:
            running.terminate()


def ask(client, stream, messages, model="tavern/owl", **more):
    if not stream:
        return client.chat(messages, model, **more)
    with client.stream(messages, model, **more) as deltas:
        pieces = list(deltas)
    assert "".join(piece.content or "" for piece in pieces) == deltas.reply.content
    return deltas.reply


# ------------------------------------------------------------------ the table

TABLE = [row.strip("| ").split(" | ") for row in PAGE.partition("## All words")[2].splitlines() if row[:2] == "| "]


def test_the_table_has_every_word():
    words = {word for row in TABLE for word in re.findall(r"`(\w+)`", row[0])}
    call = Call("m", ({"role": "user", "content": "hi"},))
    seen = view(call, {}, {"system", "system_parts", "turns", "sides", "choice"})
    assert {*WORDS, *OWN, *seen} <= words
    _, _, of_serve = PAGE.partition("**formulas of `serve` see**")
    assert {*ANSWER, *BLOCK} <= {word for row in of_serve.splitlines() for word in re.findall(r"`(\w+)`", row[:70])}


def test_the_table_has_every_part():
    found = turns(
        [
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "a"}]},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]},
            {"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]},
            {"role": "user", "content": [{"type": "file", "file": {"file_id": "a"}}]},
            {"role": "assistant", "reasoning_content": "a", "tool_calls": [{"id": "a", "function": {"name": "b"}}]},
            {"role": "tool", "tool_call_id": "a", "content": "a"},
        ]
    )
    rows = {row[0]: set(re.findall(r"`(\w+)`", row[1])) for row in TABLE if row[0].startswith("part: ")}
    for part in (part for turn in found for part in turn["parts"]):
        keys = next(keys for kinds, keys in rows.items() if part["type"] in re.split(r"[:,;]? ", kinds))
        assert part.keys() - {"type", "role", "model", "file"} <= keys, part


@pytest.mark.parametrize("example", [text for row in TABLE for text in re.findall(r"`([^`]+)`$", row[-1])])
def test_the_examples_of_the_table_are_right(example):
    formula = re.match(r"\w+\(", example)
    made = Template(f"={example}" if formula else parse_strictly(f"x: {example}", "").value["x"])
    assert made.problems == []
