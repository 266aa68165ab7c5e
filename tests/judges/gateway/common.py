"""What the judges of the gateway share: `prx serve` before `prx demo`, the questions, and how the answers are told.

    PRX=.venv/bin/prx PYTHON_WITH_THE_CLIENT tests/judges/gateway/with_openai.py [DIALECT…]

A judge is a program of others. It runs in the Python that the client is installed in, which needs no prx; PRX names the command
to start (default: the project's .venv, then the PATH). Each judge asks a provider of each dialect, or of those that are named. Prints
a line a question; exit 1 where one fails. Where the client is not installed, the reason is printed, and the exit is 0.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
KEY = "caller-key-of-the-judges"

# Where the demo answers in each dialect: {dialect: end of the base URL}
BASES = {
    "openai-chat": "/v1",
    "openai-responses": "/v1",
    "anthropic-messages": "/v1",
    "gemini": "/v1beta",
    "cohere-v2": "",
    "ollama": "",
}

HELLO = "Say hello."
HELLO_ANSWER = "Hello! I am a small program on your own machine"
WEATHER = "What is the weather in Paris and London?"
WEATHER_ANSWER = "sunny in Paris and sunny in London"
PERSON = "Give me a person as JSON."
ADA = {"name": "Ada", "age": 36}
PERSON_BY_TOOL = 'Call %s with {"name": "Ada", "age": 36}, please.'
WEATHER_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
PERSON_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}

# A tool that has to be called has no form in one of the dialects, and few have all other calls: the gateway says so, where it could have
# sent half of what was asked.
REFUSED = ("does not support a forced tool_choice", "neither its dialect nor its file has a form for it")

Question = Callable[[str], Any]


class Gateway(NamedTuple):
    """A running gateway. url: without a path. models: {dialect: name of a model behind it}; those in `plain` have no slash."""

    url: str
    key: str
    models: dict[str, str]
    plain: dict[str, str]
    log: Path

    def calls(self) -> list[dict[str, Any]]:
        """What its log says of the calls so far, see docs/serve.md: a command line shows its user no headers."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["message"] == "call"]

    def left_out(self, name: str, work: Callable[[], Any]) -> bool:
        """Whether a call that is made meanwhile, and that succeeds, says that `name` did not go to the provider."""
        before = len(self.calls())
        work()
        lines = [line for line in self.calls()[before:] if line["status"] == 200]
        return any(name in line.get("dropped", "").split(", ") for line in lines)


def weather(city: str) -> str:
    """Weather of a city"""
    return f"sunny in {city}"


def same(found: Any, wanted: Any) -> Any:
    """What was found. Raises AssertionError where it is not what was wanted; a text need only contain it."""
    fits = wanted in found if isinstance(found, str) and isinstance(wanted, str) else found == wanted
    if not fits:
        raise AssertionError(f"found {found!r}, wanted {wanted!r}")
    return found


def parsed(text: str) -> Any:
    """The value of a JSON text that a model wrote."""
    return json.loads(text)


def needs(module: str, package: str) -> Any:
    """A module of a client, or the end of the judge where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        skip(f"pip install {package} ({error})")


def needs_program(name: str, variable: str, package: str) -> str:
    """The path of a client's program: the variable's, or one on the PATH; or the end of the judge."""
    found = os.environ.get(variable) or shutil.which(name)
    if not found:
        skip(f"npm install {package}, and give {variable}=PATH or have {name} on the PATH")
    return str(found)


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def skip(reason: str) -> Any:
    tell(f"SKIP {Path(sys.argv[0]).stem} | not installed: {reason}")
    sys.exit(0)


@contextlib.contextmanager
def gateway() -> Iterator[Gateway]:
    """`prx serve` before `prx demo --serve`, on free ports, with a configuration of its own."""
    dialects = sys.argv[1:] or [*BASES]
    with tempfile.TemporaryDirectory() as folder, _demo(folder) as upstream:
        config, port, log = Path(folder, "config.toml"), free_port(), Path(folder, "log")
        config.write_text(_config(upstream, dialects))
        url = f"http://127.0.0.1:{port}"
        arguments = ["serve", "--config", str(config), "--port", str(port), "--log-level", "info"]
        with _running(arguments, folder) as process:
            _wait(url, process, log)
            names = {each: f"{each}-demo/words" for each in dialects}
            yield Gateway(url, KEY, names, {each: each for each in dialects}, log)


def _config(upstream: str, dialects: list[str]) -> str:
    rows = [f'[serve]\nkeys = ["{KEY}"]\nlog_format = "json"\n']
    for dialect in dialects:
        url = upstream + BASES[dialect]
        rows.append(
            f'[providers.{dialect}-demo]\nextends = "{dialect}"\napi_url = "{url}"\napi_key = "none"\nmodel = "words"\n'
        )
        rows.append(f'[[model_routes]]\npattern = "{dialect}"\ntargets = ["{dialect}-demo/words"]\n')
    return "\n".join(rows)


@contextlib.contextmanager
def _demo(folder: str) -> Iterator[str]:
    with _running(["demo", "--serve", "0"], folder) as process:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        yield words[2].rstrip(";").removesuffix("/v1")


@contextlib.contextmanager
def _running(arguments: list[str], folder: str) -> Iterator[subprocess.Popen[str]]:
    ours = HERE.parents[2] / ".venv/bin/prx"
    prx = os.environ.get("PRX") or (str(ours) if ours.exists() else "prx")
    env = {"HOME": folder, "PATH": os.environ["PATH"]}
    with Path(folder, "log").open("ab") as log:
        process = subprocess.Popen(
            [str(Path(prx).absolute()) if "/" in prx else prx, *arguments],
            stdout=subprocess.PIPE, stderr=log, text=True, env=env, cwd=folder,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait(url: str, process: subprocess.Popen[str], log: Path) -> None:
    until = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < until:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health"):
            return
        time.sleep(0.1)
    raise SystemExit(f"prx serve did not start: {log.read_text()}")


def judge(client: str, questions: Mapping[str, Question], models: Mapping[str, str]) -> None:
    """Ask each question of each model, print a line each, and exit: 1 where one fails."""
    failed = 0
    for dialect, model in models.items():
        for name, question in questions.items():
            try:
                said = question(model)
            except Exception as error:  # whatever a client raises is its verdict
                if reason := next((each for each in REFUSED if each in str(error)), None):
                    tell(f"ok   {client}, {dialect}: {name} | refused, as it must be: {reason}")
                    continue
                failed += 1
                tell(f"FAIL {client}, {dialect}: {name} | {type(error).__name__}: {str(error)[:600]}")
                if os.environ.get("VERBOSE"):
                    traceback.print_exc()
            else:
                tell(f"ok   {client}, {dialect}: {name} | {' '.join(str(said).split())[:90]}")
    asked = len(models) * len(questions)
    tell(f"{client}: {asked - failed} of {asked}")
    sys.exit(1 if failed else 0)
