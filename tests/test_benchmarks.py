"""The benchmarks run, their page is theirs, and the counts of calls catch an engine that does more than it did."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "benchmarks"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
BUDGETS = json.loads((FOLDER / "counts.json").read_text())
# One more call for each delta, and nothing else.
SLOWED = f"""
import sys
sys.path.insert(0, {str(FOLDER)!r})
import counts
from prx.client import Stream
whole = Stream.__iter__
Stream.__iter__ = lambda self: (delta for delta in whole(self))
counts.main(["--check", "--quick", "--budgets", sys.argv[1]])
"""


def run(*program, **environment):
    return subprocess.run(
        [sys.executable, *map(str, program)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, **environment},
    )


def test_the_counts_are_within_their_budget():
    if VERSION not in BUDGETS:
        pytest.skip(f"no budget for Python {VERSION} yet: python benchmarks/counts.py --update makes one")
    ended = run(FOLDER / "counts.py", "--check")
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout


def test_more_calls_for_each_event_are_caught(tmp_path):
    """The budget is made here and now, of what is counted in one process; without strace."""
    budgets = tmp_path / "counts.json"
    ended = run(FOLDER / "counts.py", "--update", "--quick", "--budgets", budgets, PATH="")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "system calls: not counted" in ended.stdout
    was = json.loads(budgets.read_text())[VERSION]["counts"]["stream"]["Python calls"]
    ended = run("-c", SLOWED, budgets, PATH="")
    assert (ended.returncode, ended.stderr) == (1, "")
    assert f"stream: Python calls was {was:,g}, is " in ended.stdout
    assert "chat: Python calls was" not in ended.stdout


def test_a_version_without_a_budget_is_said(tmp_path):
    budgets = tmp_path / "counts.json"
    budgets.write_text("{}")
    for strict, code in (((), 0), (("--strict",), 1)):
        ended = run(FOLDER / "counts.py", "--check", *strict, "--budgets", budgets, PATH="")
        assert (ended.returncode, ended.stderr) == (code, "")
        assert f"no budget for Python {VERSION} yet" in ended.stdout


def test_a_run_and_its_page(tmp_path):
    results = tmp_path / "results.json"
    names = "floor_socket,floor_requests,prx_plain,prx_deadline"
    ended = run(FOLDER / "run.py", "call", "connections", "--rounds", "1", "--targets", names, "--out", results)
    assert (ended.returncode, ended.stderr) == (0, "")
    rows = json.loads(results.read_text())["rows"]
    assert [row for row in rows if "value" not in row] == []
    assert len(rows) == 8
    ended = run(FOLDER / "report.py", results, "--into", tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "| prx with a deadline | 1 |" in (tmp_path / "performance.md").read_text()
    drawn = ET.parse(tmp_path / "performance.svg").getroot()
    assert [text for text in drawn.itertext() if text == "prx with a deadline"] == ["prx with a deadline"]


@pytest.mark.parametrize(
    ("given", "said"),
    [(("nothing",), "nothing is called 'nothing'"), (("--targets", "nobody"), "no target is called 'nobody'"), (("--setup", "nobody"), "nothing is called 'nobody'")],
)  # fmt: skip
def test_a_wrong_word_gets_a_sentence(given, said):
    ended = run(FOLDER / "run.py", *given)
    assert ended.returncode == 1
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_page_is_of_the_results(tmp_path):
    ended = run(FOLDER / "report.py", FOLDER / "results.json", "--into", tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    for name in ("performance.md", "performance.svg"):
        assert (tmp_path / name).read_text() == (ROOT / "docs" / name).read_text(), name
