"""Completion in the shells themselves: what Tab shows, and what it makes of a word."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import commands
from helpers.terminal import ENTER, TAB, Terminal

SHELLS = {
    "bash": (("--norc", "--noprofile", "-i"), ". prx.bash"),
    "zsh": (("-f",), "autoload -U compinit; compinit -u -D; . ./prx.zsh"),
    "fish": (("--no-config",), "source prx.fish"),
}
# In place of prx where a line is run: it writes down what it was given.
STAND_IN = """\
#!/bin/sh
[ -n "$_PRX_COMPLETE" ] && exec {prx} "$@"
printf '%s|' "$@" >> {said}
echo >> {said}
"""
here = pytest.mark.parametrize(
    "shell",
    [
        pytest.param(name, marks=pytest.mark.skipif(not shutil.which(name), reason=f"{name} is not on this machine"))
        for name in SHELLS
    ],
)


@pytest.fixture
def env(tmp_path):
    """A home with a configuration and a conversation in it."""
    folder = tmp_path / ".config" / "prx"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text('[providers.myown]\napi_url = "http://127.0.0.1:9/v1"\n')
    kept = tmp_path / ".local" / "state" / "prx" / "conversations"
    kept.mkdir(parents=True)
    (kept / "4f1c2a3b.jsonl").write_text(
        '{"prx": 1, "id": "4f1c2a3b", "begun": "", "model": "myown/small:8b", "first": "Hello, you"}\n'
    )
    stand_in = tmp_path / "bin" / "prx"
    stand_in.parent.mkdir()
    stand_in.write_text(STAND_IN.format(prx=Path(sys.executable).with_name("prx"), said=tmp_path / "said"))
    stand_in.chmod(0o700)
    return {"HOME": str(tmp_path), "PATH": f"{stand_in.parent}{os.pathsep}{os.environ['PATH']}"}


COMPLETED = {
    "prx chat -m deepse": "deepseek/", "prx chat -m myo": "myown/", "prx chat -m myown/": "myown/small:8b ", "prx models cereb": "cerebras ",
    "prx chat --resume 4f": "4f1c2a3b ", "prx log --remove-a": "--remove-all ", "prx log 4": "4f1c2a3b ", "prx models --sea": "--search ",
    "prx chat --cont": "--continue ", "prx chat --no-l": "--no-log ", "prx chat --plai": "--plain ", "prx lo": "log ", "prx chat --image pict": "picture.png ",
}  # fmt: skip


@here
def test_tab_completes_a_word(shell, env, tmp_path, monkeypatch):
    """And puts a space behind it, but for a provider's name, which goes on with that of a model."""
    (tmp_path / "picture.png").touch()
    (tmp_path / f"prx.{shell}").write_text(commands.run("completion", shell).stdout)
    options, begin = SHELLS[shell]
    monkeypatch.chdir(tmp_path)
    with Terminal(*options, command=(shutil.which(shell),), env=env, columns=200) as terminal:
        terminal.type(f"{begin}{ENTER}", f"prx ready{ENTER}")
        for number, (typed, completed) in enumerate(COMPLETED.items(), 1):
            said = lines_of(tmp_path / "said", number, terminal)
            terminal.type(typed, TAB, "END", ENTER)
            *_, last = lines_of(tmp_path / "said", number + 1, terminal)
            expected = f"{typed.rpartition(' ')[0]} {completed}END".removeprefix("prx ")
            assert last == expected.replace(" ", "|") + "|", said


def lines_of(path, number, terminal):
    """The lines of a file, when there are so many."""
    end = time.monotonic() + 20
    while not path.exists() or path.read_text().count("\n") < number:
        assert time.monotonic() < end, terminal.text
        terminal.read(0.05)
    return path.read_text().splitlines()


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not on this machine")
def test_fish_shows_what_a_word_means(env, tmp_path):
    """All of it, also where there is a comma in it."""
    (tmp_path / "prx.fish").write_text(commands.run("completion", "fish").stdout)
    asked = ('complete -C "prx chat --resume 4"', 'complete -C "prx chat -m gro"', 'complete -C "prx chat --no-l"')
    run = ["fish", "--no-config", "-c", f"source {tmp_path}/prx.fish; {'; '.join(asked)}"]
    done = subprocess.run(run, capture_output=True, text=True, check=False, timeout=60, env=env)
    lines = [line for line in done.stdout.splitlines() if line]
    assert lines[0] == "4f1c2a3b\tHello, you"
    assert {"grok/", "groq/", "groqcloud/"} <= {*lines}
    assert lines[-1] == "--no-log\tDo not keep this conversation."
