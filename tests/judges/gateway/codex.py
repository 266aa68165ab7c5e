"""The command line Codex before the gateway: a plain turn, one in which it runs a command with its own tool, and one with a search
that OpenAI's server would make: other providers answer without it.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import common
from common import HELLO, HELLO_ANSWER, same

CODEX = common.needs_program("codex", "CODEX", "@openai/codex")
WORDS = "the heron stands in the reeds"
CONFIG = """model = "{model}"
model_provider = "prx"
[model_providers.prx]
name = "prx serve"
base_url = "{url}/v1"
env_key = "PRX_CALLER_KEY"
wire_api = "responses"
"""


def run(*arguments: str, env: dict[str, str], folder: str) -> str:
    done = subprocess.run(
        [CODEX, *arguments],
        check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=180, cwd=folder,
        env={"PATH": os.environ["PATH"], **env},
    )  # fmt: skip
    if done.returncode:
        raise AssertionError(f"{done.stderr[-600:]} {done.stdout[-600:]}")
    return done.stdout


with common.gateway() as gateway, tempfile.TemporaryDirectory() as home, tempfile.TemporaryDirectory() as folder:
    Path(folder, "note.txt").write_text(f"{WORDS}\n")

    def ask(model: str, prompt: str, *more: str) -> list[dict[str, Any]]:
        """The items of a run, as Codex tells them."""
        Path(home, "config.toml").write_text(CONFIG.format(model=model, url=gateway.url))
        env = {"HOME": home, "CODEX_HOME": home, "PRX_CALLER_KEY": gateway.key}
        # Its sandbox needs user namespaces, which containers often lack; the only command here is ours.
        options = ["--json", "--skip-git-repo-check", "--sandbox", "danger-full-access"]
        events = [
            json.loads(line) for line in run("exec", *options, *more, prompt, env=env, folder=folder).splitlines()
        ]
        return [event["item"] for event in events if event["type"] == "item.completed"]

    def last_message(items: list[dict[str, Any]]) -> str:
        return str([item["text"] for item in items if item["type"] == "agent_message"][-1])

    def plain(model: str) -> Any:
        return same(last_message(ask(model, HELLO)), HELLO_ANSWER)

    def tool(model: str) -> Any:
        items = ask(model, 'Call exec_command with {"cmd": "cat note.txt"}')
        same([item["exit_code"] for item in items if item["type"] == "command_execution"], [0])
        return same(last_message(items), WORDS)

    def search(model: str) -> Any:
        def ask_for_it() -> None:
            same(last_message(ask(model, HELLO, "--config", 'web_search="live"')), HELLO_ANSWER)

        left_out = gateway.left_out("web_search", ask_for_it)
        return f"web_search left out: {same(left_out, model != 'openai-responses')}"

    version = run("--version", env={"HOME": home}, folder=folder).split()[-1]
    common.judge(f"Codex {version}", {"plain": plain, "tool": tool, "search": search}, gateway.plain)
