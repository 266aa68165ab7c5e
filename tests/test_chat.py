"""A chat on a terminal, as a person has it: typed into, interrupted, gone on with; and the conversations that are kept."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import commands
from helpers.byte_server import DONE, HANG, RawServer, delta, response, stream
from helpers.terminal import (
    ALT_ENTER,
    BACKSPACE,
    CTRL_C,
    CTRL_D,
    CTRL_R,
    ENTER,
    LEFT,
    TAB,
    Terminal,
    paste,
    screen,
)  # fmt: skip

from prx.text import nearest

KEY = "sk-a-key-of-mine"


@pytest.fixture
def home(tmp_path):
    """The environment of a user with a home and nothing in it."""
    (tmp_path / "home").mkdir()
    return {"HOME": str(tmp_path / "home")}


@pytest.fixture
def config(tmp_path, emulator):
    return written(tmp_path, emulator.url)


def written(tmp_path, url, more=""):
    path = tmp_path / "config.toml"
    path.write_text(
        f'[default]\nprovider = "compatible"\nmodel = "words"\n{more}[providers.compatible]\napi_url = "{url}"\napi_key = "{KEY}"\n'
    )
    return path


def prx(*arguments, env, stdin=""):
    done = commands.run(*arguments, stdin=stdin, env={"PATH": os.environ["PATH"], **env})
    assert "Traceback" not in done.stderr, done.stderr
    return done


def conversations(env):
    return sorted((state(env) / "conversations").glob("*"), key=lambda path: path.stat().st_mtime_ns)


def state(env):
    return Path(env["HOME"]) / ".local" / "state" / "prx"


def turns(path):
    return [json.loads(line) for line in path.read_text().splitlines()][1:]


def said(env):
    """What was said in the conversation that went on last."""
    return [turn["messages"][0]["content"] for turn in turns(conversations(env)[-1])]


@pytest.fixture
def without_the_extra(tmp_path):
    """An environment in which prompt_toolkit cannot be imported."""
    package = tmp_path / "without" / "prompt_toolkit"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('raise ModuleNotFoundError("no", name="prompt_toolkit")\n')
    return {"PYTHONPATH": str(tmp_path / "without")}


# ------------------------------------------------------------------ typing


def test_a_line_is_edited(config, home):
    with Terminal("chat", "--config", config, env=home) as terminal:
        terminal.until(">")
        terminal.type("What is 2+3?", LEFT, BACKSPACE, "2", ENTER)
        terminal.until("2 + 2 = 4.")
        terminal.until(">")
        terminal.type(CTRL_D)
        assert terminal.end() == 0


def test_a_message_of_several_lines(config, home):
    with Terminal("chat", "--config", config, env=home) as terminal:
        terminal.until(">")
        terminal.type("a\\", ENTER, "b", ALT_ENTER, "c", ENTER)
        terminal.until("· stop")
        terminal.until(">")
        terminal.type(paste("first\r\nsecond\nthird"))
        terminal.until("third")
        assert len(said(home)) == 1, "a pasted line break sends nothing"
        terminal.type(ENTER)
        terminal.until("· stop")
        terminal.until(">")
    assert said(home) == ["a\nb\nc", "first\nsecond\nthird"]


def test_what_was_typed_is_found_in_the_next_chat(config, home):
    for keys in (("What is 2+2?", ENTER), (CTRL_R, "2+", ENTER, ENTER)):
        with Terminal("chat", "--config", config, env=home) as terminal:
            terminal.until(">")
            terminal.type(*keys)
            terminal.until("2 + 2 = 4.")
    history = state(home) / "history"
    assert history.stat().st_mode & 0o777 == 0o600
    assert history.read_text().count("What is 2+2?") == 1, "what is said twice in a row is remembered once"


def test_what_was_typed_is_remembered_without_keys_and_only_where_it_is_wanted(config, home):
    with Terminal("chat", "--no-log", "--config", config, "hello", "--chat", env=home) as terminal:
        terminal.until("· stop")
        terminal.type("What is 2+2?", ENTER)
        terminal.until("2 + 2 = 4.")
    assert not state(home).exists()
    with Terminal("chat", "--config", config, "--chat", "hello", env=home) as terminal:
        terminal.until("· stop")
        terminal.type(f"my key is {KEY}", ENTER)
        terminal.until("· stop")
    assert "my key is ***" in (state(home) / "history").read_text()


def test_commands_and_models_are_completed(config, home):
    with Terminal("chat", "--config", config, env=home) as terminal:
        terminal.until(">")
        terminal.type("/mod", TAB)
        terminal.until("/model")
        terminal.type(" compatible/words-rea")
        terminal.until("words-rea")
        terminal.type(TAB)
        terminal.until("soner")
        terminal.type(ENTER)
        terminal.until("(model: compatible/words-reasoner)")


def test_without_the_extra_it_is_said_how_to_get_it(config, home, without_the_extra):
    with Terminal("chat", "--config", config, env=home | without_the_extra) as terminal:
        terminal.until("pip install 'prx-engine[chat]'")
        terminal.until(">")
        terminal.type("What is\\\n")
        terminal.until("… ")
        terminal.type("2+2?\n")
        terminal.until("2 + 2 = 4.")
        terminal.until(">")
        terminal.type(CTRL_C)
        terminal.until("(Ctrl-D or /exit leaves)")
        terminal.type(CTRL_D)
        assert terminal.end() == 0
        assert terminal.text.count("pip install") == 1
    assert said(home) == ["What is\n2+2?"]


def test_what_edits_is_imported_only_where_something_is_typed(config, home, tmp_path):
    """Not for one call, nor for lines that come from a pipe; there, nothing is said of it either."""
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "prompt_toolkit.py").write_text('raise RuntimeError("it was imported")\n')
    env = home | {"PYTHONPATH": str(tmp_path / "broken"), "PATH": os.environ["PATH"]}
    for arguments, lines in (("What is 2+2?",), ""), (("--chat",), "What is 2+2?\n"):
        run = [sys.executable, "-m", "prx", "chat", "--config", config, *arguments]
        done = subprocess.run(run, input=lines, capture_output=True, text=True, env=env, check=False)
        assert (done.stdout, done.stderr) == ("2 + 2 = 4.\n", "")


# ------------------------------------------------------------------ Ctrl-C, errors, commands


def test_ctrl_c_ends_an_answer_and_not_the_chat(tmp_path, home):
    cut, whole = stream(delta("hel"), HANG), stream(delta("well", "stop"), DONE)
    with RawServer(cut, whole) as server:
        with Terminal("chat", "--config", written(tmp_path, server.url), env=home) as terminal:
            terminal.until(">")
            terminal.type("hi", ENTER)
            terminal.until("hel")
            started = time.monotonic()
            terminal.type(CTRL_C)
            terminal.until("(cut off)")
            assert server.left.wait(5), "the connection is closed"
            assert time.monotonic() - started < 2
            terminal.until(">")
            terminal.type("go on", ENTER)
            terminal.until("well")
            terminal.until(">")
            terminal.type(CTRL_C)
            terminal.until("(Ctrl-D or /exit leaves)")
            terminal.type("/exit", ENTER)
            assert terminal.end() == 0
    assert [message["content"] for message in server.requests[1]["body"]["messages"]] == ["hi", "hel", "go on"]
    assert [turn.get("cut_off", False) for turn in turns(conversations(home)[0])] == [True, False]
    assert "(cut off)" in prx("log", conversations(home)[0].stem, env=home).stderr


def test_ctrl_c_before_the_text_leaves_nothing_and_the_prompt_can_be_sent_again(tmp_path, home):
    with RawServer([HANG], stream(delta("well", "stop"), DONE)) as server:
        with Terminal("chat", "--config", written(tmp_path, server.url), env=home) as terminal:
            terminal.until(">")
            terminal.type("hi", ENTER)
            while not server.requests:
                time.sleep(0.01)
            terminal.type(CTRL_C)
            terminal.until("(cut off before its text began)")
            terminal.until("/retry")
            terminal.type("/retry", ENTER)
            terminal.until("well")
            terminal.until(">")
    assert [message["content"] for message in server.requests[1]["body"]["messages"]] == ["hi"]
    assert len(turns(conversations(home)[0])) == 1


def test_an_error_ends_no_chat_and_the_prompt_can_be_sent_again(tmp_path, home):
    refusal = response(400, {"error": {"message": "not today"}})
    with RawServer(refusal, stream(delta("well", "stop"), DONE), stream(delta("better", "stop"), DONE)) as server:
        with Terminal("chat", "--config", written(tmp_path, server.url), env=home) as terminal:
            terminal.until(">")
            terminal.type("hi", ENTER)
            terminal.until("not today")
            terminal.type("/retry", ENTER)
            terminal.until("well")
            terminal.type("/retry", ENTER)
            terminal.until("better")
            terminal.until(">")
    for request in server.requests:
        assert [message["content"] for message in request["body"]["messages"]] == ["hi"]
    path = conversations(home)[0]
    assert len(turns(path)) == 2, "each was written when it came"
    assert prx("log", path.stem, env=home).stdout == "> hi\n\nbetter\n", "the later one took the place of the other"


def test_ctrl_c_ends_an_answer_that_comes_whole(tmp_path, home):
    with RawServer([HANG], response()) as server:
        with Terminal("chat", "--no-stream", "--config", written(tmp_path, server.url), env=home) as terminal:
            terminal.until(">")
            terminal.type("hi", ENTER)
            while not server.requests:
                time.sleep(0.01)
            terminal.type(CTRL_C)
            terminal.until("(cut off)")
            terminal.until(">")
            terminal.type("/retry", ENTER)
            terminal.until("hello")


def test_a_chat_that_cannot_be_had_does_not_begin(home):
    """It is said before somebody has written a message."""
    for options, says in (
        ((), "no provider is named"),
        (("-m", "goq/x"), "did you mean 'groq'?"),
        (("-p", "groq", "-m", "x"), "no API key"),
    ):
        with Terminal("chat", *options, env=home) as terminal:
            assert terminal.end() == 1
            assert says in terminal.text


def test_commands(config, home, tmp_path):
    picture = tmp_path / "a.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\4\0\0\0\5")
    expected = {
        "/help": "/retry", "/hlep": "there is no command /hlep; did you mean '/help'?", "/xyzzy": "there is no command /xyzzy\n",
        "/retry": "nothing has been said yet", "/model words-reasoner": "(model: compatible/words-reasoner)", "/model": "(model: compatible/words-reasoner)",
        "/model compatible/words": "(model: compatible/words)", "/system Be brief.": "(system message: Be brief.)", "/system": "(system message: Be brief.)",
        "/image": "no picture is named", "/image nothing.png": "cannot be read", f"/image {picture}": "(with the next message", "What is it?": "picture of 4 by 5",
        f"/save {tmp_path}/saved": "(saved: ", f"/save {tmp_path}/saved ": "File exists", "/save": "no file is named",
        " /etc is a folder": "You said", "/etc/hosts is a file": "You said", "/system -": "(no system message)", "/modle x": "did you mean '/model'?",
        "/model groqq/x": "did you mean 'groq'?",
    }  # fmt: skip
    with Terminal("chat", "--config", config, env=home) as terminal:
        for line, answer in expected.items():
            terminal.until(">")
            terminal.type(line, ENTER)
            terminal.until(answer)
        terminal.until(">")
        terminal.type("/quit", ENTER)
        assert terminal.end() == 0
    saved = (tmp_path / "saved").read_text()
    assert saved == "system: Be brief.\n\n> What is it?\n[image_url]\n\nI see a PNG picture of 4 by 5 pixels.\n"


def test_lines_from_a_pipe_are_messages_and_no_commands(config, home):
    done = prx("chat", "--chat", "--config", config, stdin="/help\n", env=home)
    assert done.stdout == "You said: /help\n"


# ------------------------------------------------------------------ what is kept


def test_a_conversation_is_kept_and_gone_on_with(config, home):
    prx("chat", "--config", config, "-s", "Be brief.", "What is 2+2?", env=home)
    (path,) = conversations(home)
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert path.parent.parent.stat().st_mode & 0o777 == 0o700
    prx("chat", "--config", config, "Something else.", env=home)
    done = prx("chat", "--config", config, "--resume", path.stem[:5], "--dry-run", "And 3+3?", env=home)
    sent = json.loads(done.stdout.partition("\n\n")[2])["messages"]
    assert [message["content"] for message in sent] == ["Be brief.", "What is 2+2?", "2 + 2 = 4.", "And 3+3?"]
    assert prx("chat", "--config", config, "--resume", path.stem, "And 3+3?", env=home).stdout == "3 + 3 = 6.\n"
    assert prx("chat", "--config", config, "--continue", "And 4+4?", env=home).stdout == "4 + 4 = 8.\n"
    assert said(home) == ["What is 2+2?", "And 3+3?", "And 4+4?"]
    assert len(conversations(home)) == 2


def test_a_conversation_goes_on_with_its_own_model(config, home):
    prx("chat", "--config", config, "-m", "words-reasoner", "hello", env=home)
    prx("chat", "--config", config, "--continue", "hello", env=home)
    prx("chat", "--config", config, "--continue", "-p", "compatible", "-m", "words", "hello", env=home)
    prx("chat", "--config", config, "--continue", "hello", env=home)
    answered = [turn["answered_by"] for turn in turns(conversations(home)[0])]
    assert answered == ["compatible/words-reasoner"] * 2 + ["compatible/words"] * 2


def test_a_chat_is_gone_on_with_on_a_terminal(config, home):
    prx("chat", "--config", config, "What is 2+2?", env=home)
    with Terminal("chat", "--config", config, "--continue", env=home) as terminal:
        terminal.until("(going on after 1 turn; the last: What is 2+2?)")
        terminal.until(">")
        terminal.type("What is 3+3?", ENTER)
        terminal.until("3 + 3 = 6.")
        terminal.until(">")
    assert said(home) == ["What is 2+2?", "What is 3+3?"]


def test_nothing_is_kept_where_nobody_wants_it(config, home, tmp_path):
    assert prx("chat", "--config", config, "--no-log", "hello", env=home).returncode == 0
    assert prx("chat", "--config", config, "--dry-run", "hello", env=home).returncode == 0
    config.write_text(config.read_text() + "[chat]\nlog = false\n")
    assert prx("chat", "--config", config, "hello", env=home).returncode == 0
    assert not state(home).exists()
    done = prx("chat", "--config", config, "--continue", "hello", env=home)
    assert (done.returncode, "no conversation is kept" in done.stderr) == (1, True)
    elsewhere = {"HOME": str(tmp_path / "there-is-none")}
    config.write_text(config.read_text().replace("log = false", "log = true"))
    done = prx("chat", "--config", config, "hello", env=elsewhere)
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "there-is-none").exists(), "a home is not made"


def test_a_place_that_cannot_be_written_ends_no_chat(config, home):
    state(home).parent.mkdir(parents=True)
    state(home).write_text("a file where the folder should be")
    done = prx("chat", "--config", config, "What is 2+2?", env=home)
    assert (done.returncode, done.stdout) == (0, "2 + 2 = 4.\n")
    assert "this conversation is not kept" in done.stderr


def test_the_folder_of_the_state_may_be_elsewhere(config, home, tmp_path):
    prx("chat", "--config", config, "hello", env=home | {"XDG_STATE_HOME": str(tmp_path / "state")})
    prx("chat", "--config", config, "hello", env=home | {"XDG_STATE_HOME": "relative"})
    assert len([*(tmp_path / "state" / "prx" / "conversations").iterdir()]) == 1
    assert len(conversations(home)) == 1, "as the rule of XDG is: a relative one does not count"


def test_a_kill_loses_the_running_turn_and_nothing_else(tmp_path, home):
    with RawServer(stream(delta("first", "stop"), DONE), stream(delta("two and "), HANG), stream(delta("third", "stop"), DONE)) as server:  # fmt: skip
        config = written(tmp_path, server.url)
        with Terminal("chat", "--config", config, env=home) as terminal:
            terminal.until(">")
            terminal.type("one", ENTER)
            terminal.until("· stop")
            terminal.type("two", ENTER)
            terminal.until("two and")
            terminal.process.kill()
            terminal.end()
        path = conversations(home)[0]
        with path.open("a") as file:
            file.write('{"at": "2026-01-01", "messa')  # as a kill in the middle of writing would leave it
        assert prx("log", path.stem, env=home).stdout == "> one\n\nfirst\n"
        assert prx("chat", "--config", config, "--continue", "three", env=home).stdout == "third\n"
        assert prx("log", path.stem, env=home).stdout == "> one\n\nfirst\n> three\n\nthird\n"
    assert [message["content"] for message in server.requests[2]["body"]["messages"]] == ["one", "first", "three"]


def test_an_interrupt_keeps_what_had_come_of_one_answer(tmp_path, home):
    with RawServer(stream(delta("hel"), HANG)) as server:
        config = written(tmp_path, server.url)
        run = [sys.executable, "-m", "prx", "chat", "--config", config, "hi"]
        env = {"PATH": os.environ["PATH"], **home}
        with subprocess.Popen(run, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, env=env) as running:
            assert running.stdout.read(3) == "hel"
            running.send_signal(2)
            running.wait(20)
    assert running.returncode == 130
    assert turns(conversations(home)[0])[0]["cut_off"]


def test_no_key_is_in_what_is_kept(tmp_path, home):
    with RawServer(stream(delta(f"your key is {KEY[:5]}"), delta(f"{KEY[5:]}.", "stop"), DONE)) as server:
        config = written(tmp_path, server.url)
        prx("chat", "--config", config, "-s", f"say {KEY}", f"is it {KEY}?", env=home)
    for path in conversations(home):
        assert KEY not in path.read_text()
        assert "your key is ***." in path.read_text()


def test_what_a_provider_wants_back_is_kept(tmp_path, home):
    """Reasoning with its signature, and calls of tools: a conversation goes on as if it had not ended."""
    thought = {"type": "thinking", "thinking": "It is a sum.", "signature": "c2lnbmF0dXJl"}
    call = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 2}}
    body = {"role": "assistant", "model": "m", "content": [thought, {"type": "text", "text": "Wait."}, call], "stop_reason": "tool_use", "usage": {}}  # fmt: skip
    (tmp_path / "mine.yaml").write_text("spec: 1\nid: mine\nextends: anthropic-messages\n")
    tools = tmp_path / "tools.json"
    tools.write_text('[{"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}]')
    with RawServer(response(200, body)) as server:
        (tmp_path / "c.toml").write_text(f'[providers.mine]\napi_url = "{server.url}"\napi_key = "{KEY}"\n')
        options = ("--config", tmp_path / "c.toml", "--providers", tmp_path, "--no-stream", "--tools", tools)
        assert prx("chat", *options, "-m", "mine/m", "add", env=home).returncode == 0
        path = conversations(home)[0]
        assert "add({" in prx("log", path.stem, env=home).stdout
        assert prx("chat", *options, "--continue", "go on", env=home).returncode == 0
    sent = server.requests[1]["body"]["messages"][1]["content"]
    assert sent == body["content"]


def test_log(config, home):
    assert prx("log", env=home).stdout == ""
    assert "no conversation is kept" in prx("log", env=home).stderr
    for text in ("What is 2+2?", f"a long one {'x' * 100}\nwith a line break"):
        prx("chat", "--config", config, text, env=home)
    older, newer = (path.stem for path in conversations(home))
    rows = [line.split("\t") for line in prx("log", env=home).stdout.splitlines()]
    assert [row[0] for row in rows] == [newer, older], "the newest first"
    assert rows[1][2:] == ["compatible/words", "What is 2+2?"]
    assert rows[0][3].endswith("x…")
    assert json.loads(prx("log", "--json", env=home).stdout)[1]["first"] == "What is 2+2?"
    stored = [json.loads(line) for line in prx("log", older, "--json", env=home).stdout.splitlines()]
    assert stored == [json.loads(line) for line in conversations(home)[0].read_text().splitlines()]
    assert prx("log", older[:6], env=home).stdout == "> What is 2+2?\n\n2 + 2 = 4.\n"


def test_log_searches(config, home):
    for text in ("What is 2+2?", "Of tides"):
        prx("chat", "--config", config, text, env=home)
    first = conversations(home)[0]
    first.with_name("broken.jsonl").write_text('{"prx": 1}\n{"messages": 3}\n')
    found = prx("log", "--search", "TIDES", "--json", env=home)
    assert [row["first"] for row in json.loads(found.stdout)] == ["Of tides"]
    assert prx("log", "--search", "2 + 2 = 4", env=home).stdout.split("\t")[0] == first.stem, (
        "answers are searched, too"
    )
    nothing = prx("log", "--search", "nowhere", env=home)
    assert (nothing.returncode, nothing.stdout, "does this text stand" in nothing.stderr) == (0, "", True)
    assert prx("log", "x", "--search", "y", env=home).returncode == 2


def test_log_finds_and_removes(config, home):
    for _ in range(3):
        prx("chat", "--config", config, "hello", env=home)
    first, second, third = conversations(home)
    wrong = first.stem[:-1] + "x"
    done = prx("log", wrong, env=home)
    assert (done.returncode, f"did you mean '{first.stem}'?" in done.stderr) == (1, True)
    twin = first.with_name(f"{first.stem[:4]}0000.jsonl")
    twin.write_text(first.read_text())
    assert f"2 conversations begin with '{first.stem[:4]}'" in prx("log", first.stem[:4], env=home).stderr
    assert prx("log", "--remove", second.stem[:7], env=home).returncode == 0
    assert {*conversations(home)} == {first, third, twin}
    assert prx("log", "x", "--remove-all", env=home).returncode == 2
    assert "(3 removed)" in prx("log", "--remove-all", env=home).stderr
    assert conversations(home) == []


@pytest.mark.parametrize("text", ["", "\0\xff", "[]\n", '{"prx": 2}\n', '{"prx": 1}\n{"messages": 3}\n', '{"prx": 1}\n{"messages": [3], "model": "m", "system": ""}\n'])  # fmt: skip
def test_a_file_that_is_no_conversation_is_a_sentence(text, config, home):
    prx("chat", "--config", config, "hello", env=home)
    broken = conversations(home)[0].with_name("broken.jsonl")
    broken.write_text(text)
    listed = prx("log", env=home)
    assert "hello" in listed.stdout, "the others are listed"
    for command in ("log", "broken"), ("chat", "--config", config, "--resume", "broken", "hi"):
        done = prx(*command, env=home)
        assert done.returncode == 1
        assert "broken.jsonl" in done.stderr
        assert "not a conversation" in done.stderr


def test_what_stands_in_a_kept_conversation_commands_no_terminal(tmp_path, home):
    with RawServer(stream(delta("a\x1b]0;title\x07b\u202e"), delta("", "stop"), DONE)) as server:
        prx("chat", "--config", written(tmp_path, server.url), "hi\x1b[2J", env=home)
    name = conversations(home)[0].stem
    for command in ("log",), ("log", name), ("log", "--json"), ("log", name, "--json"):
        done = prx(*command, env=home)
        assert not {"\x1b", "\x07", "\u202e"} & {*done.stdout, *done.stderr}, command


# ------------------------------------------------------------------ Markdown

ANSWER = """\
# A title

Some **bold** words, `code`, a <div> and
a [link](http://x.example/y).

1. one
2. two

   more of it

```python
def f():

    return 1
```
Then

| a | b |
|---|---|
| 1 | 2 |

The end."""
SHOWN = """\
A title

Some bold words, code, a <div> and
a link (http://x.example/y).

 1 one
 2 two
   more of it

def f():

    return 1

Then

 a  b
 ─
 1  2

The end.
""".splitlines()


def answered(text, tmp_path, home, *options, step=3, rows=24, columns=80):
    """What a terminal has got of an answer that comes in small pieces."""
    pieces = [delta(text[at : at + step]) for at in range(0, len(text), step)]
    with RawServer(stream(*pieces, delta("", "stop"), DONE)) as server:
        config = written(tmp_path, server.url)
        with Terminal("chat", "--config", config, "hi", *options, env=home, rows=rows, columns=columns) as terminal:
            assert terminal.end() == 0
            return terminal.raw


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_markdown_is_set_on_a_terminal(step, tmp_path, home):
    lines = screen(answered(ANSWER, tmp_path, home, step=step, rows=40), 40)
    lines = [re.sub("[━─]+", "─", line) for line in lines]
    tables = {place for place, line in enumerate(SHOWN) if line[:2] in (" a", " 1", " ─") and "one" not in line}
    for place, line in enumerate(SHOWN):
        # How wide a table is differs between versions of rich.
        assert lines[place].split() == line.split() if place in tables else lines[place] == line
    assert lines[len(SHOWN)].startswith("compatible/words")


def test_markdown_stays_as_it_is_written_where_it_is_wanted_so(tmp_path, home):
    for options in ("--plain",), ("--raw",):
        assert "\n".join(screen(answered(ANSWER, tmp_path, home, *options, rows=40), 40)).startswith(ANSWER)
    with RawServer(stream(delta(ANSWER, "stop"), DONE)) as server:
        assert prx("chat", "--config", written(tmp_path, server.url), "hi", env=home).stdout == f"{ANSWER}\n"


def test_a_piece_is_shown_when_it_comes(tmp_path, home):
    """Also where its block is not finished, and so cannot be set."""
    with RawServer(stream(delta("some **bo"), HANG)) as server:
        with Terminal("chat", "--config", written(tmp_path, server.url), "hi", env=home) as terminal:
            terminal.until("some **bo")


def test_long_blocks_are_whole(tmp_path, home):
    """What is taller than the terminal stays as it came; code is set in pieces. Nothing is lost and nothing said twice."""
    code = "\n".join(f"line{number} = {number}" for number in range(60))
    text = "words " * 120 + f"\n\n```python\n{code}\n```\n\nThe *end*."
    lines = screen(answered(text, tmp_path, home, step=11, rows=12, columns=40), 12, 40)
    shown = "\n".join(lines)
    assert "".join(lines).count("words") == 120 + 1, "and the name of the model"
    assert [line for line in lines if line.startswith("line")] == code.splitlines()
    assert "```" not in shown
    assert "The end." in shown


def test_setting_brings_no_key_and_no_command_to_light(tmp_path, home):
    text = f"It is {KEY[:6]}**{KEY[6:]}**\n\nturned &#8238; and &#27;[2J and \x1b[2J\n\nThe *end*."
    raw = answered(text, tmp_path, home, step=4)
    assert KEY not in "".join(screen(raw))
    assert "\u202e" not in raw
    assert "\x1b[2J" not in raw
    assert "The end." in "\n".join(screen(raw)), "and the rest is set"


# ------------------------------------------------------------------ names that were meant otherwise


MEANT = {
    "goq/x": "did you mean 'groq'?", "groq": "'groq' is a provider: -p groq, or -m groq/MODEL.", "mistrall/x": "did you mean 'mistral'?",
    "xyzzyxyzzy/x": None, "wrods": "did you mean 'words'?", "something-else": None,
}  # fmt: skip


@pytest.mark.parametrize("model", MEANT)
def test_an_error_says_what_a_models_name_may_have_been_meant_to_be(model, config, home):
    """With a default provider, which is asked for whatever is no provider's."""
    done = prx("chat", "--config", config, "-m", model, "hi", env=home)
    assert done.returncode == 1
    if MEANT[model]:
        assert MEANT[model] in done.stderr
    else:
        assert "did you mean" not in done.stderr


def test_without_a_default_provider_too(home):
    assert "-p groq" in prx("chat", "-m", "groq", "hi", env=home).stderr
    assert prx("chat", "-m", "goq/x", "hi", env=home).stderr.count("did you mean 'groq'?") == 1


@pytest.mark.parametrize(
    ("word", "known", "near"),
    [
        ("hlep", "help", True), ("goq", "groq", True), ("moonshto", "moonshot", True), ("temprature", "temperature", True), ("claude-sonet-4-5", "claude-sonnet-4-5", True),
        ("llama3", "llama-3.3-70b", False), ("claude-3-opus-20240229", "claude-opus-4-20250514", False), ("quit", "exit", False), ("x", "y", False),
        ("a" * 300, "a" * 301, False),
    ],
)  # fmt: skip
def test_only_what_is_near_is_suggested(word, known, near):
    assert bool(nearest(word, [known, "entirely different"])) == near


# ------------------------------------------------------------------ standard input beside a prompt


def sent(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.partition("\n\n")[2])["messages"][-1]["content"]


def test_standard_input_follows_the_prompt(config, home):
    options = ("chat", "--config", config, "--dry-run")
    assert sent(prx(*options, "Summarise", "this:", stdin="a text\n", env=home)) == "Summarise this:\n\na text\n"
    assert sent(prx(*options, "Say hello.", stdin="", env=home)) == "Say hello."
    assert sent(prx(*options, "Say hello.", stdin=" \n", env=home)) == "Say hello."
    assert sent(prx(*options, stdin="a text\n", env=home)) == "a text\n"


@pytest.mark.parametrize("redirect", ["< /dev/null", "<&-"])
def test_a_standard_input_with_nothing_in_it_changes_nothing(redirect, config, home):
    run = f"{sys.executable} -m prx chat --config {config} 'What is 2+2?' {redirect}"
    env = {"PATH": os.environ["PATH"], **home}
    done = subprocess.run(["bash", "-c", run], capture_output=True, text=True, check=False, timeout=30, env=env)
    assert (done.stdout, done.stderr) == ("2 + 2 = 4.\n", "")


def test_a_pipe_that_nobody_writes_to_is_waited_for_and_it_is_said(config, home):
    run = [sys.executable, "-m", "prx", "chat", "--config", config, "What is 2+2?"]
    env = {"PATH": os.environ["PATH"], **home}
    with subprocess.Popen(run, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as running:  # fmt: skip
        assert "waiting for the end of standard input" in running.stderr.readline()
        assert running.poll() is None
        running.stdin.close()
        assert running.stdout.read() == "2 + 2 = 4.\n"
