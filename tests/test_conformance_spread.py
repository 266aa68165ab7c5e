"""prx conformance for pairs of provider and model, on this machine and from the workers of an engine: the same report, without a key
in a task, within what an account allows, and with nothing lost where a worker dies.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import pytest
from helpers import commands
from helpers.engine_here import ENGINES
from helpers.flaky_server import FlakyServer
from judges.dialects import Emulator

from prx.conformance import cases, jobs, spread, suite
from prx.conformance.cost import Budget
from prx.conformance.limiter import Limiters
from prx.conformance.spread import Turns, _SharedLimiters
from prx.conformance.suite import Plan
from prx.engines import Fault, Outcome
from prx.errors import Error

KEY = "sk-spread-0123456789"
CASES = ("chat", "stream", "unknown_model")


@pytest.fixture
def emulator():
    with Emulator({"key": KEY, "models": ["m1", "m2", "m3"]}) as running:
        yield running


@pytest.fixture
def at(tmp_path, emulator, monkeypatch):
    """A folder with two providers of one account, three pairs of them, and a key in the environment alone."""
    monkeypatch.setenv("SPREAD_KEY", KEY)
    monkeypatch.chdir(tmp_path)
    write(tmp_path, emulator.url)
    (tmp_path / "pairs").write_text("# three of them\nmine/m1\nmine/m2\n\nyours/m3\nmine/m1\n")
    return tmp_path


def write(folder, url):
    (folder / "files").mkdir(exist_ok=True)
    for name in ("mine", "yours"):
        text = f"spec: 1\nid: {name}\nextends: openai-chat\nbase_url: {url}\nauth: {{style: bearer, env: SPREAD_KEY}}\n"
        (folder / "files" / f"{name}.yaml").write_text(text)


def run(*options):
    done = commands.run("conformance", "--providers", "files", "--live", *options, timeout=120)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def without_times(text):
    """A report, but for when it was made and how long it took: as JSON."""
    report = json.loads(text)
    report.pop("made")
    for row in report["results"]:
        row.pop("seconds")
        row.pop("exchanges")  # which have the time in their headers
        (row["evidence"] or {}).pop("digest", None)
    return json.dumps(report)


def only():
    return [word for name in CASES for word in ("--case", name)]


# ------------------------------------------------------------------ pairs


def test_each_pair_has_the_results_of_a_run_of_its_own(at):
    whole = json.loads(run("--pairs", "pairs", *only(), "--json").stdout)
    assert [row["id"] for row in whole["providers"]] == ["mine/m1", "mine/m2", "yours/m3"]
    for provider, model in (("mine", "m2"), ("yours", "m3")):
        alone = json.loads(run(provider, "--model", model, *only(), "--json").stdout)["results"]
        found = [row for row in whole["results"] if row["provider"] == f"{provider}/{model}"]
        assert [(row["case"], row["outcome"], row["why"], row["evidence"]["model"]) for row in found] == [
            (row["case"], row["outcome"], row["why"], row["evidence"]["model"]) for row in alone
        ]
    assert whole["verdict"] == "conforms: 9 of 9 asked"


def test_pairs_are_shown_resumed_and_written_as_providers_are(at):
    first = run("--pairs", "pairs", "--case", "chat", "--resume", "state", "--junit", "j.xml")
    assert [line.split() for line in first.stdout.splitlines()[:3]] == [
        ["mine/m1", "."],
        ["mine/m2", "."],
        ["yours/m3", "."],
    ]
    assert "3 calls to 3 pairs, at most" in first.stderr
    assert (at / "j.xml").read_text().count('<testsuite name="') == 3
    with (at / "pairs").open("a") as file:
        file.write("yours/m1\n")
    planned = json.loads(run("--pairs", "pairs", "--case", "chat", "--resume", "state", "--dry-run", "--json").stdout)
    assert [(row["provider"], row["calls"]) for row in planned["providers"] if row["calls"]] == [("yours/m1", 1)]


def test_a_brief_report_has_the_exchanges_of_what_has_not_passed(at):
    with (at / "files" / "mine.yaml").open("a") as file:
        file.write("deviations: {chat: [\"reply.content == 'something else'\"]}\n")
    rows = json.loads(run("mine", "--model", "m1", *only(), "--json", "--brief").stdout)["results"]
    assert {(row["case"], row["outcome"], bool(row["exchanges"])) for row in rows} == {
        ("chat", "failed", True), ("stream", "passed", False), ("unknown_model", "passed", False),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mine/m1\nmine\n", "pairs:2: is not provider/model"),
        ("# none\n", "pairs: has no pair"),
        ("nobody/m1\n", "unknown provider 'nobody'"),
        (None, "pairs: cannot be read"),
    ],
)
def test_a_file_of_pairs_that_cannot_be_used_gets_a_sentence(at, text, said):
    (at / "pairs").unlink()
    if text is not None:
        (at / "pairs").write_text(text)
    done = run("--pairs", "pairs")
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("mine", "--pairs", "pairs"), "--pairs names the providers"),
        (("--pairs", "pairs", "--model", "m1"), "--pairs names the models"),
        (("--compare", "mine", "yours", "--pairs", "pairs"), "--pairs is of one run"),
        (("mine", "--workers", "2"), "--address and --workers go with --engine"),
        (("mine", "--engine", "ray", "--record"), "recordings stay on the machine"),
        (("mine", "--engine", "ray", "--budget", "5"), "--budget counts what one machine uses"),
    ],
)
def test_options_that_do_not_go_together_get_a_sentence(at, options, said):
    done = run(*options)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr


# ------------------------------------------------------------------ tasks


class Here:
    """An engine in this process that pickles what it is handed. lost: names of tasks whose workers die."""

    def __init__(self, lost=()):
        self.lost, self.pickled, self.tasks = lost, b"", []

    def hold(self, make, *arguments):
        return Held(pickle.loads(pickle.dumps(make))(*arguments))

    def map(self, function, tasks):
        for task in tasks:
            pickled = pickle.dumps((function, task))
            self.pickled += pickled
            self.tasks.append(task.name)
            function_, task_ = pickle.loads(pickled)
            fault = Fault("lost", "its worker died 4 times") if task.name in self.lost else None
            yield Outcome(task, None if fault else function_(task_), fault)


class Held:
    """A pickle has its name alone, as with the engines."""

    made: ClassVar = {}

    def __init__(self, held):
        self.name = id(held)
        self.made[self.name] = held

    def ask(self, method, *arguments):
        return getattr(self.made[self.name], method)(*arguments)


def work(folder, pairs):
    plan = Plan("live", cases.named(CASES), [Path("files")], folder)
    found = []
    for provider, model in pairs:
        own = replace(plan, model=model)
        spec = suite.Client(config=None, providers=["files"]).catalog.get(provider).spec()
        runner = suite.Runner(own, provider, spec, Limiters(), f"{provider}/{model}")
        found += [jobs.Job(runner, case) for case in own.cases]
    return found


TERMS = jobs.Terms(2, 1, 1.0, Limiters(), Budget())
PAIRS = [("mine", "m1"), ("mine", "m2"), ("yours", "m3")]


def test_a_task_names_what_it_needs_and_has_no_key(at):
    engine = Here()
    rows = list(spread.rows(engine, work(at, PAIRS), TERMS, 0))
    assert sorted((row["provider"], row["case"]) for row in rows) == sorted(
        (f"{provider}/{model}", case) for provider, model in PAIRS for case in CASES
    )
    assert {row["outcome"] for row in rows} == {"passed"}
    assert KEY.encode() not in engine.pickled
    assert engine.tasks == ["mine/m1", "yours/m3", "mine/m2"]  # so that one account does not keep all workers


def test_what_is_lost_has_no_verdict_and_is_asked_again(at):
    rows = list(spread.rows(Here(lost=["mine/m2"]), work(at, PAIRS), TERMS, 0))
    lost = [row for row in rows if row["provider"] == "mine/m2"]
    assert {(row["outcome"], row["why"]) for row in lost} == {("error", "its worker died 4 times")}
    assert len(lost) == len(CASES)
    assert {row["outcome"] for row in rows if row not in lost} == {"passed"}


def test_workers_share_what_an_account_allows():
    held = Held(Turns(120))
    limiters = [_SharedLimiters(held).of("http://a.test/v1") for _ in range(3)]
    begun = []
    for limiter in limiters:
        limiter.wait()
        begun.append(time.monotonic())
    assert all(later - earlier >= 0.45 for earlier, later in pairwise(begun))
    _SharedLimiters(held).of("http://b.test/v1").wait()
    assert time.monotonic() - begun[-1] < 0.45  # of another account


def test_a_refusal_that_one_worker_gets_holds_all_of_them():
    held = Held(Turns(0))
    one, other = (_SharedLimiters(held).of("http://a.test/v1") for _ in range(2))
    other.wait()
    one.told(429, 0.3)
    began = time.monotonic()
    other.wait()
    assert 0.25 <= time.monotonic() - began < 2
    one.told(200, None)
    one.stop()
    with pytest.raises(Error, match="closed"):
        one.wait()


def test_limits_that_are_gone_are_said():
    class Gone:
        def ask(self, *_):
            raise LookupError

    with pytest.raises(Error, match="the limits that all workers share are gone"):
        _SharedLimiters(Gone()).of("http://a.test/v1").wait()


# ------------------------------------------------------------------ real engines


def command(*options, **more):
    env = os.environ | {"SPREAD_KEY": KEY, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    done = subprocess.run(
        [sys.executable, *options], env=env | more, capture_output=True, text=True, timeout=200, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert KEY not in done.stdout + done.stderr
    return done


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_gives_the_report_of_one_machine(at, emulator, name):
    with FlakyServer(emulator.url) as counting:
        write(at, counting.url)
        here = run("--pairs", "pairs", *only(), "--json", "--resume", "of-one")
        Path("begun").write_text(
            "".join(line for line in Path("of-one").read_text().splitlines(True) if '"provider": "mine/m1"' in line)
        )
        counting.begun.clear()
        options = [
            "--providers",
            "files",
            "--live",
            "--pairs",
            "pairs",
            *only(),
            "--json",
            "--resume",
            "begun",
            "--rate",
            "600",
        ]
        there = command("-m", "prx", "conformance", *options, "--engine", name, "--workers", "2")
        assert without_times(there.stdout) == without_times(here.stdout)
        assert (there.returncode, here.returncode) == (0, 0)
        begun = sorted(counting.begun)
        assert len(begun) == 6  # of two pairs: the third was in the file
        assert begun[-1] - begun[0] >= 0.45  # 600 a minute of both workers, not of each
        assert KEY not in Path("begun").read_text()


@pytest.mark.parametrize("name", ENGINES)
def test_a_worker_that_dies_loses_nothing(at, name):
    program = f"""
import sys
from functools import partial
from pathlib import Path
from helpers import engine_tasks
from prx.conformance import spread
from prx.cli import main

if __name__ == "__main__":
    spread.ask = partial(engine_tasks.asks_but_dies_at_first, Path("mark").absolute())
    sys.argv = ["prx", "conformance", "--providers", "files", "--live", "--pairs", "pairs", "--json", *{only()!r},
                "--engine", {name!r}, "--workers", "2"]
    main()
"""
    Path("program.py").write_text(program)
    done = command("program.py", PYTHONPATH=str(Path(__file__).parent))
    assert Path("mark").exists(), "no worker has died"
    assert without_times(done.stdout) == without_times(run("--pairs", "pairs", *only(), "--json").stdout)
