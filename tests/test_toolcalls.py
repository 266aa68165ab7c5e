"""Tool calls joined from fragments, by data."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import yaml

from prx.core.toolcalls import ToolCalls

CASES = yaml.safe_load((Path(__file__).parent / "toolcalls.yaml").read_text())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_joined(case):
    numbers = itertools.count(1)
    calls = ToolCalls(lambda: f"NEW{next(numbers)}")
    how = case.get("how", "piece")
    how = [how] * len(case["add"]) if isinstance(how, str) else how
    deltas = [calls.add(tuple(fragment), way) for fragment, way in zip(case["add"], how, strict=True)]
    found = [["NEW" if call.id.startswith("NEW") else call.id, call.name, call.arguments] for call in calls.calls()]
    assert found == case["calls"]
    ids = [call.id for call in calls.calls() if call.id.startswith("NEW")]
    assert len(set(ids)) == len(ids)
    assert calls.calls() == calls.calls(), "an id that was made stays"
    joined = [
        "".join(delta.arguments or "" for delta in deltas if delta.index == place) or "{}"
        for place in range(len(found))
    ]
    assert joined == [call[2] for call in found], "the deltas say the same as the calls"
