"""Open WebUI before the gateway: its server, asked as its pages ask it.

It is started with the variables of docs/serve.md and a folder of its own. OPEN_WEBUI names its program (default: beside this
Python, then the PATH). It takes half a minute to start.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import common
from common import ADA, HELLO, HELLO_ANSWER, PERSON, PERSON_SCHEMA, WEATHER, WEATHER_SCHEMA, same

beside = Path(sys.executable).with_name("open-webui")
PROGRAM = os.environ.get("OPEN_WEBUI") or (str(beside) if beside.exists() else shutil.which("open-webui"))
if not PROGRAM:
    common.skip("pip install open-webui")
PATIENCE = 180.0  # seconds that its server may take to start
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": WEATHER_SCHEMA}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON_SCHEMA}}


def asked(path: str, body: Any = None, token: str = "") -> str:
    """What its server says at a path, as text."""
    headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(own + path, data, headers), timeout=60) as answer:
        return str(answer.read().decode())


def wait(process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            asked("/health")
            return
        time.sleep(0.5)
    raise AssertionError("Open WebUI has not started")


with common.gateway() as gateway, tempfile.TemporaryDirectory() as folder:
    port = common.free_port()
    own = f"http://127.0.0.1:{port}"
    env = {
        "PATH": os.environ["PATH"], "HOME": folder, "DATA_DIR": folder, "WEBUI_SECRET_KEY": "of-the-judges",
        "OFFLINE_MODE": "true", "HF_HUB_OFFLINE": "1", "ENABLE_OLLAMA_API": "false",
        "OPENAI_API_BASE_URL": f"{gateway.url}/v1", "OPENAI_API_KEY": gateway.key,
    }  # fmt: skip
    with Path(folder, "log").open("wb") as log:
        process = subprocess.Popen([PROGRAM, "serve", "--port", str(port)], env=env, cwd=folder, stdout=log, stderr=log)
    try:
        wait(process)
        person = {"name": "A", "email": "a@example.com", "password": "of-the-judges-1"}
        token = json.loads(asked("/api/v1/auths/signup", person))["token"]

        def chat(model: str, question: str, **more: Any) -> str:
            messages = [{"role": "user", "content": question}]
            return asked("/api/chat/completions", {"model": model, "messages": messages, **more}, token)

        def message(model: str, question: str, **more: Any) -> Any:
            return json.loads(chat(model, question, stream=False, **more))["choices"][0]["message"]

        def models(model: str) -> Any:
            names = [row["id"] for row in json.loads(asked("/api/models", token=token))["data"]]
            return same(model in names, True)

        def plain(model: str) -> Any:
            return same(message(model, HELLO)["content"], HELLO_ANSWER)

        def streamed(model: str) -> Any:
            events = [line[6:] for line in chat(model, HELLO, stream=True).splitlines() if line.startswith("data: ")]
            same(events[-1], "[DONE]")
            deltas = [choice["delta"] for event in events[:-1] for choice in json.loads(event).get("choices", ())]
            return same("".join(delta.get("content") or "" for delta in deltas), HELLO_ANSWER)

        def tool(model: str) -> Any:
            calls = message(model, WEATHER, tools=[TOOL])["tool_calls"]
            return same([call["function"]["name"] for call in calls], ["get_weather"] * 2)

        def structured(model: str) -> Any:
            return same(json.loads(message(model, PERSON, response_format=FORMAT)["content"]), ADA)

        questions = {"models": models, "plain": plain, "streamed": streamed, "tool": tool, "structured": structured}
        try:
            name = f"Open WebUI {version('open-webui')}"
        except PackageNotFoundError:
            name = "Open WebUI"
        common.judge(name, questions, gateway.plain)
    finally:
        process.terminate()
        process.wait(30)
