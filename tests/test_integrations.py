"""docs/integrations.md: each part is run as it stands there, by the framework that it is about, against `prx serve` before `prx demo`."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from helpers.elsewhere import LEDGER, ROOT, demo, python_with

PAGE = (ROOT / "docs" / "integrations.md").read_text()
PARTS = {
    part.partition("\n")[0]: code[1]
    for part in PAGE.split("\n## ")[1:]
    if (code := re.search(r"^```python\n(.*?)^```", part, re.MULTILINE | re.DOTALL))
}
HERE = {name for name, row in LEDGER.items() if "page" not in row}
KEY = "caller-key"
STREAMED = {
    "DSPy": "'content': ' \"age\":'",
    "instructor": "name='Ada' age=None",
}  # what shows that pieces came, of those that stream objects
HELLO = "Hello! I am a small program on your own machine"


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """(URL of `prx serve`, its config.toml)."""
    folder = tmp_path_factory.mktemp("service")
    with demo() as url, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        config = folder / "config.toml"
        config.write_text(
            f'[serve]\nkeys = ["{KEY}"]\n[providers.demo]\nextends = "openai-chat"\napi_url = "{url}/v1"\napi_key = "k"\n'
            '[[model_routes]]\npattern = "words"\ntargets = ["demo/words"]\n'
        )
        command = [sys.executable, "-m", "prx", "serve", "--config", str(config), "--port", str(port)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
            try:
                _wait(f"http://127.0.0.1:{port}/health")
                yield f"http://127.0.0.1:{port}", config
            finally:
                running.terminate()


def _wait(url):
    until = time.monotonic() + 30
    while True:
        try:
            return urllib.request.urlopen(url).close()
        except OSError:
            assert time.monotonic() < until, f"nothing answers at {url}"
            time.sleep(0.1)


def test_every_part_is_in_the_ledger():
    names = {"in process": "In one process"}
    assert {names.get(name, name) for name in HERE} == {"llm", *PARTS}


@pytest.mark.parametrize("name", sorted(HERE - {"llm"}))
def test_a_part_of_the_page(name, service, tmp_path):
    python, (url, config) = python_with(name), service
    code = PARTS["In one process" if name == "in process" else name]
    for placed, value in (("http://127.0.0.1:8080", url), ("MODEL", "words"), ('"KEY"', f'"{KEY}"')):
        assert placed in code or (placed, name) == ("http://127.0.0.1:8080", "in process")
        code = code.replace(placed, value)
    program = tmp_path / "program.py"
    program.write_text(code)
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PRX_CONFIG": str(config),
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    }
    done = subprocess.run(
        [python, program], capture_output=True, text=True, timeout=300, env=env, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    sys.stdout.write(done.stdout)  # shown by pytest -s: what a framework makes of it
    said = re.sub(r"\s+", " ", done.stdout)
    assert said.count(HELLO) >= (
        1 if name in ("DSPy", "instructor") else 2
    )  # a chat, and a stream; two stream objects only
    assert "Paris" in said or name == "instructor"  # whose tools are the classes of its answers
    assert "Ada" in said
    assert "36" in said
