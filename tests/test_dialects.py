"""Every shipped dialect reads what servers send: one case a shape, the stream cut into single bytes as well."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import data_files
from helpers.driver_without_io import holds, play

CASES = data_files.read(Path(__file__).parent / "dialects.yaml")


@pytest.mark.parametrize("pieces", [0, 1], ids=["whole", "bytewise"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['dialect']}: {case['name']}")
def test_reads(case, pieces):
    answer = {name: case[name] for name in ("json", "text", "events", "messages", "status", "headers") if name in case}
    call = {**case.get("call", {}), "stream": case.get("stream", False)}
    view = play({"extends": case["dialect"]}, call, [answer], pieces, **case.get("policy", {})).view()
    for condition in case["hold"]:
        assert holds(condition, view), f"{condition}\n{json.dumps(view, indent=1)}"
