"""Programs of others, which the tests do not install: found in a folder of virtual environments, or beside the tests.

PRX_VENVS=FOLDER    has FOLDER/NAME/bin/python for each of them that is there; the ledger is tests/integrations.yaml
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
LEDGER = yaml.safe_load((ROOT / "tests" / "integrations.yaml").read_text())


def python_with(name):
    """The Python that has one of the ledger's programs; skips the test, with the ledger's reason, where there is none."""
    row = LEDGER[name]
    own = Path(os.environ.get("PRX_VENVS", "/nowhere"), name, "bin", "python")
    if own.exists():
        return str(own)
    if all(importlib.util.find_spec(module.partition(".")[0]) for module in row["modules"]):
        return sys.executable
    pytest.skip(f"{row['reason']}: pip install {row['install']}, in $PRX_VENVS/{name} or here")
    raise AssertionError


@contextlib.contextmanager
def demo():
    """The URL of `prx demo --serve`, without a path."""
    command = [sys.executable, "-m", "prx", "demo", "--serve", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as running:
        try:
            yield running.stdout.readline().split()[2].rstrip(";").removesuffix("/v1")
        finally:
            running.terminate()
