"""The command `llm` before the gateway.

A question starts the command anew, which imports a large SDK: seconds each, and minutes for all of them on a busy machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import common
from common import ADA, HELLO, HELLO_ANSWER, PERSON, PERSON_SCHEMA, WEATHER, WEATHER_ANSWER, same

common.needs("llm", "llm")
FUNCTION = 'def get_weather(city: str) -> str:\n    """Weather of a city"""\n    return f"sunny in {city}"\n'

with common.gateway() as gateway, tempfile.TemporaryDirectory() as folder:
    rows = [
        {
            "model_id": model,
            "model_name": model,
            "api_base": f"{gateway.url}/v1",
            "api_key_name": "prx",
            "supports_tools": True,
            "supports_schema": True,
        }
        for model in gateway.models.values()
    ]
    Path(folder, "extra-openai-models.yaml").write_text(json.dumps(rows))  # JSON is YAML
    Path(folder, "keys.json").write_text(json.dumps({"prx": gateway.key}))

    def llm(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "llm", *arguments],
            check=False, capture_output=True, text=True, timeout=120, env={**os.environ, "LLM_USER_PATH": folder},
        )  # fmt: skip
        if done.returncode:
            raise AssertionError(done.stderr or done.stdout)
        return done.stdout

    def plain(model: str) -> Any:
        return same(llm("-m", model, "--no-stream", "-s", "Be brief.", HELLO), HELLO_ANSWER)

    def streamed(model: str) -> Any:
        return same(llm("-m", model, HELLO), HELLO_ANSWER)

    def tool(model: str) -> Any:
        return same(llm("-m", model, "--functions", FUNCTION, WEATHER), WEATHER_ANSWER)

    def structured(model: str) -> Any:
        return same(json.loads(llm("-m", model, "--schema", json.dumps(PERSON_SCHEMA), PERSON)), ADA)

    common.judge(
        llm("--version").strip().replace(", version", ""),
        {"plain": plain, "streamed": streamed, "tool": tool, "structured": structured},
        gateway.models,
    )
