"""Clients in JavaScript before the gateway: each script in this folder that ends in .mjs.

NODE_CLIENTS=FOLDER python tests/judges/gateway/node.py [DIALECT…]     (npm install openai @anthropic-ai/sdk ai @ai-sdk/openai @ai-sdk/anthropic zod)
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import common

NODE = common.needs_program("node", "NODE", "node")
FOLDER = os.environ.get("NODE_CLIENTS", "")
if not Path(FOLDER, "node_modules").is_dir():
    common.skip("give NODE_CLIENTS, a folder with node_modules")

with common.gateway() as gateway:

    def run(script: Path, model: str) -> Any:
        env = {**os.environ, "GATEWAY": gateway.url, "KEY": gateway.key, "MODEL": model}
        done = subprocess.run(
            [NODE, "--input-type=module", "-"],  # read from its input, a script finds the packages of the folder that it runs in
            check=False, input=script.read_text(), capture_output=True, text=True, timeout=120, env=env, cwd=FOLDER,
        )  # fmt: skip
        if done.returncode:
            raise AssertionError(done.stderr[-500:])
        return done.stdout

    scripts = sorted(common.HERE.glob("*.mjs"))
    questions = {script.stem: lambda model, script=script: run(script, model) for script in scripts}
    common.judge("node", questions, gateway.models)
