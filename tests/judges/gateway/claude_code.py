"""The command line Claude Code before the gateway: a plain turn, one in which it reads a file with its own tool, and one in which
it asks for a search that Anthropic's server would make: other providers answer without it.
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

CLAUDE = common.needs_program("claude", "CLAUDE", "@anthropic-ai/claude-code")
WORDS = "the heron stands in the reeds"


def run(*arguments: str, env: dict[str, str], folder: str) -> str:
    done = subprocess.run(
        [CLAUDE, *arguments],
        check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=180, env=env, cwd=folder,
    )  # fmt: skip
    if done.returncode:
        raise AssertionError(done.stderr or done.stdout)
    return done.stdout


with common.gateway() as gateway, tempfile.TemporaryDirectory() as home, tempfile.TemporaryDirectory() as folder:
    note = Path(folder, "note.txt")
    note.write_text(f"{WORDS}\n")

    def ask(model: str, *arguments: str) -> dict[str, Any]:
        env = {
            "HOME": home,
            "PATH": os.environ["PATH"],
            "ANTHROPIC_BASE_URL": gateway.url,
            "ANTHROPIC_AUTH_TOKEN": gateway.key,
            "ANTHROPIC_MODEL": model,
            "ANTHROPIC_DEFAULT_HAIKU_MODEL": model,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        }
        answer: dict[str, Any] = json.loads(
            run("-p", *arguments, "--output-format", "json", env=env, folder=folder).splitlines()[-1]
        )
        return answer

    def plain(model: str) -> Any:
        answer = ask(model, HELLO)
        same(answer["is_error"], False)
        return same(answer["result"], HELLO_ANSWER)

    def tool(model: str) -> Any:
        answer = ask(model, f'Call Read with {{"file_path": "{note}"}}', "--allowedTools", "Read")
        same((answer["is_error"], answer["num_turns"]), (False, 2))
        return same(answer["result"], WORDS)

    def search(model: str) -> Any:
        def ask_for_it() -> None:
            answer = ask(model, 'Call WebSearch with {"query": "herons"}', "--allowedTools", "WebSearch")
            same((answer["is_error"], answer["num_turns"]), (False, 2))

        left_out = gateway.left_out("web_search", ask_for_it)
        return f"web_search left out: {same(left_out, model != 'anthropic-messages')}"

    version = run("--version", env={"HOME": home, "PATH": os.environ["PATH"]}, folder=folder).split()[0]
    common.judge(f"Claude Code {version}", {"plain": plain, "tool": tool, "search": search}, gateway.plain)
