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
CHECKED = f"""
import sys
sys.path.insert(0, {str(FOLDER)!r})
import counts
{{slower}}
counts.main(["--check", "--quick", "--budgets", sys.argv[1]])
"""
# By the kind of call that is counted: one more call for each delta, or for each message and tool, and nothing else.
SLOWER = {
    "stream": """
from prx.client import Stream
whole = Stream.__iter__
Stream.__iter__ = lambda self: (delta for delta in whole(self))
""",
    "large": """
from prx import arguments
whole = arguments.plain
arguments.plain = lambda value: whole(value)
""",
}
# A target that needs no server, and gives one delta fewer than it should where it is told to.
LOSING = f"""
import asyncio, contextlib, sys
sys.path.insert(0, {str(FOLDER)!r})
import worker_async
lost = int(sys.argv[1])

class Target:
    @staticmethod
    @contextlib.asynccontextmanager
    async def connect(url):
        left = [lost]

        async def stream(text):
            wanted = 5 if "events-5/" in url else worker_async.EVENTS
            fewer = left.pop() if left and wanted != 5 else 0
            for _ in range(wanted - fewer):
                yield "x"

        yield None, stream

print(asyncio.run(worker_async.parallel(worker_async.Asking(Target, ""))) > 0)
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


def test_more_calls_than_before_are_caught(tmp_path):
    """The budget is made here and now, of what is counted in one process; without strace."""
    budgets = tmp_path / "counts.json"
    ended = run(FOLDER / "counts.py", "--update", "--quick", "--budgets", budgets, PATH="")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "system calls: not counted" in ended.stdout
    counted = json.loads(budgets.read_text())[VERSION]["counts"]
    for kind, slower in SLOWER.items():
        ended = run("-c", CHECKED.format(slower=slower), budgets, PATH="")
        assert (ended.returncode, ended.stderr) == (1, "")
        assert f"{kind}: Python calls was {counted[kind]['Python calls']:,g}, is " in ended.stdout
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


def test_asynchronous_clients_and_what_is_built(tmp_path):
    results = tmp_path / "results.json"
    names = "floor_asyncio,floor_socket,prx_async,prx_plain"
    what = ("async-call", "async-event", "async-256", "build", "build-rules")
    ended = run(FOLDER / "run.py", *what, "--rounds", "1", "--targets", names, "--shared", "--out", results)
    assert (ended.returncode, ended.stderr) == (0, "")
    rows = json.loads(results.read_text())["rows"]
    assert [row for row in rows if "value" not in row] == []
    measured = {(row["what"], row["target"]) for row in rows}
    assert measured == {
        *((each, target) for each in what[:3] for target in ("floor_asyncio", "prx_async")),
        *((each, target) for each in what[3:] for target in ("floor_socket", "prx_plain")),
    }
    ended = run(FOLDER / "report.py", results, "--into", tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    page = (tmp_path / "performance.md").read_text()
    assert page.count("| prx AsyncClient |") == 3
    assert "The machine was shared" in page


def test_a_stream_that_loses_a_delta_has_no_figure():
    whole, lost = (run("-c", LOSING, number) for number in (0, 1))
    assert (whole.returncode, whole.stdout) == (0, "True\n"), whole.stderr
    assert (lost.returncode, lost.stderr) == (1, "got 5119 deltas, not 5120 deltas\n")


def test_measurements_are_added_and_told_apart(tmp_path):
    """Of the same rounds they stand together; others stay beside them as earlier ones, but for two kinds of others."""
    results = tmp_path / "results.json"

    def add(what, rounds):
        options = ("--rounds", rounds, "--targets", "floor_socket,floor_httpclient", "--out", results, "--add")
        ended = run(FOLDER / "run.py", what, *options)
        read = json.loads(results.read_text())
        places = (read, read.get("earlier", {"rows": ()}))
        return ended.returncode, *([*dict.fromkeys(row["what"] for row in place["rows"])] for place in places)

    assert add("connections", 1) == (0, ["connections"], [])
    assert add("call", 1) == (0, ["connections", "call"], [])
    assert add("call", 2) == (0, ["call"], ["connections"])
    assert add("short", 3) == (1, ["call"], ["connections"])
    ended = run(FOLDER / "report.py", results, "--into", tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    page = (tmp_path / "performance.md").read_text()
    assert page.count("Measured earlier, on ") == 1
    assert page.index("## Connections") < page.index("Measured earlier, on ")


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
