"""Every command in the README and the pages, run as it stands, in a shell, against the demo's server.

What a page's reader has is there: a provider file `mine.yaml`, a picture, a list of tools, changes in git, a conversation. The servers and
hosts that pages name are the demo's server here, by configuration; `…` stands for a key, and the demo has a port of its own.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.served import Service

from prx.emulator.server import Emulator

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
FOLLOWED = "write-a-dialect.md"  # run step by step in tests/test_write_a_dialect.py
BLOCK = re.compile(r"^( *)```sh\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
ASIDE = {  # by a command in it: where a block is run, if not here
    "prx demo": "tests/test_demo.py and .ci/run, which installs prx from its files alone",
    "pytest -q": ".ci/run",
    "pip freeze": ".ci/run",
    "pip install '.[chat]'": "tests/test_chat.py has it; pip would change what tests run in",
    "llama-server": "it needs a model's weights; .ci/run has tests/judges/servers.py ask one",
    "prx serve\n": "the fixture `served` runs it, with the configuration of the page",
    "claude -p": "a program of others, which answers only with a model",
    "codex exec": "a program of others, which answers only with a model",
    "pip install open-webui": "a program of others, which answers only with a model",
    "--engine ": "tests/test_batch_shards.py runs it on real engines; pip would change what tests run in",
    "pip install '.[conformance]'": "the other command of the block: tests/test_conformance_command.py; pip would change what tests run in",
}
SERVED = "127.0.0.1:8080"  # where pages have `prx serve`
# Which pages call by name, and the models that they name.
HOSTS = ("groq", "mistral", "llamacpp", "vllm", "litellm")
MODELS = ["words", "llama-3.3-70b-versatile", "mistral-large-latest", "pixtral-large-latest", "my-model"]
CONVERSATION = (
    {"prx": 1, "id": "4f1c2a3b", "begun": "", "model": "mistral/mistral-large-latest", "first": "Say hello."},
    {
        "model": "mistral/mistral-large-latest", "system": "", "answered_by": "mistral/mistral-large-latest",
        "messages": [{"role": "user", "content": "Say hello."}, {"role": "assistant", "content": "Hello!"}],
    },
)  # fmt: skip
PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def blocks():
    for page in [page for page in PAGES if page.name != FOLLOWED]:
        for place, found in enumerate(BLOCK.finditer(page.read_text())):
            text = "\n".join(line.removeprefix(found[1]) for line in found[2].splitlines())
            yield pytest.param(text, id=f"{page.name}-{place}")


def aside(text):
    return next((reason for command, reason in ASIDE.items() if command in f"{text}\n"), None)


@pytest.fixture(scope="module")
def demo():
    with Emulator({"models": MODELS}) as running:
        yield running


@pytest.fixture
def place(tmp_path, demo):
    """What a reader of the pages has at hand; the working directory of each command."""
    address = demo.url.removesuffix("/v1")
    file = f"spec: 1\nid: mine\nextends: openai-chat\nbase_url: {address}/v1\nauth: {{style: bearer, env: MY_KEY}}\n"
    config = tmp_path / ".config" / "prx"
    for folder in (config / "providers.d", tmp_path / "my-providers"):
        folder.mkdir(parents=True)
        (folder / "mine.yaml").write_text(file)
    (tmp_path / "mine.yaml").write_text(file)
    (config / "config.toml").write_text(
        "".join(f'[providers.{name}]\napi_key = "k"\napi_url = "{address}/v1"\nmodel = "words"\n' for name in HOSTS)
    )
    kept = tmp_path / ".local" / "state" / "prx" / "conversations"
    kept.mkdir(parents=True)
    (kept / "4f1c2a3b.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in CONVERSATION))
    (tmp_path / "tools.json").write_text(json.dumps([TOOL]))
    (tmp_path / "photo.jpg").write_bytes(base64.b64decode(PICTURE))
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-C", str(tmp_path)]
    for command in (["init", "-q"], ["add", "mine.yaml"], ["commit", "-qm", "a"]):
        subprocess.run([*git, *command], check=True)
    (tmp_path / "mine.yaml").write_text(file + "# a change\n")
    return tmp_path


@pytest.fixture(scope="module")
def served(tmp_path_factory, demo):
    """The port of `prx serve` with the configuration that the page about it writes."""
    page = (ROOT / "docs" / "serve.md").read_text()
    config = re.search(r"config\.toml <<'END'\n(.*?)^END", page, re.MULTILINE | re.DOTALL)[1]
    running = Service(tmp_path_factory.mktemp("served"), with_ports(config, demo), PRX_LOG="warning")
    yield running.port
    running.stop()


@pytest.mark.parametrize("text", [block for block in blocks() if not aside(block.values[0])])
def test_a_block_runs_as_it_stands(text, place, demo, request):
    if SERVED in text:
        text = text.replace(SERVED, f"127.0.0.1:{request.getfixturevalue('served')}").replace("curl -s", "curl -fs")
    done = run(text, place, demo)
    assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def test_a_command_that_fails_is_seen(place, demo):
    assert run("prx chat -m nobody/words hi | cat\nprx providers", place, demo).returncode != 0


def test_every_reason_is_needed():
    texts = [block.values[0] for block in blocks()]
    assert {command for command in ASIDE if not any(command in f"{text}\n" for text in texts)} == set()


def with_ports(text, demo):
    port = demo.url.rpartition(":")[2].removesuffix("/v1")
    return text.replace("localhost:8000", f"localhost:{port}")


def run(text, place, demo):
    script = with_ports(text.replace("=…", "=k"), demo)
    kept = {"LANG", "SYSTEMROOT", "TMPDIR"} & os.environ.keys()
    env = {name: os.environ[name] for name in kept} | {
        "HOME": str(place),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MY_KEY": "k",
    }
    bash = shutil.which("bash")
    return subprocess.run(
        [bash, "-euo", "pipefail", "-c", script],
        cwd=place,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
