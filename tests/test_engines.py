"""Tasks on engines: what came of each, those that are run again, those that fail, and what they share."""

from __future__ import annotations

import gc
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import engine_tasks
from helpers.engine_here import ENGINES, Here

import prx
from prx.engines import open_engine
from prx.engines.engine import MOST_RUNS, Fault


def test_a_task_whose_worker_died_is_run_again():
    found = list(Here({2: 1}).map(engine_tasks.square, [1, 2, 3]))
    assert {(each.task, each.value, each.error, each.runs) for each in found} == {
        (1, 1, None, 1), (2, 4, None, 2), (3, 9, None, 1),
    }  # fmt: skip


def test_a_task_that_loses_each_worker_ends_with_a_sentence():
    lost, good = sorted(Here({2: 100}).map(engine_tasks.square, [1, 2]), key=lambda each: each.error is None)
    assert (lost.task, lost.value, lost.runs) == (2, None, MOST_RUNS)
    assert lost.error == Fault("lost", f"its worker died {MOST_RUNS} times, the last time: it was told to")
    assert good.value == 1


def test_a_task_is_drawn_when_there_is_room_for_it():
    engine, drawn = Here(), []
    tasks = (drawn.append(number) or number for number in range(100))
    results = engine.map(engine_tasks.square, tasks, at_once=3)
    next(results)
    assert len(drawn) == 3
    results.close()
    assert engine.stopped == [1, 2]


def test_an_error_of_a_task_is_its_outcome():
    config, bug = Here().map(engine_tasks.fails, ["config", "bug"])
    assert config.error == Fault("config", "the sentence", "The hint.")
    assert bug.error.kind == "bug"
    assert bug.error.message.startswith("ValueError at ")
    assert "engine_tasks.py" in bug.error.message
    assert "sk-in-no-sentence" not in str(bug.error)


@pytest.mark.parametrize(
    ("name", "address", "workers", "said"),
    [
        ("spark", None, None, "an engine is ray or dask, not 'spark'"),
        ("ray", "auto", 2, "workers are counted where an engine is started"),
    ],
)
def test_wrong_arguments_get_a_sentence(name, address, workers, said):
    with pytest.raises(prx.ConfigError, match=said):
        open_engine(name, address, workers)


@pytest.mark.parametrize("name", ["ray", "dask"])
def test_an_engine_without_its_library_says_how_to_get_it(name, monkeypatch):
    monkeypatch.delitem(sys.modules, f"prx.engines.on_{name}", raising=False)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(prx.ConfigError, match=rf"pip install 'prx-engine\[{name}\]'"):
        open_engine(name)


# ------------------------------------------------------------------ real ones


@pytest.fixture(scope="module", params=ENGINES)
def engine(request):
    path = str(Path(__file__).parent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", path)  # the workers import the tasks from here
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        with open_engine(request.param, workers=2) as opened:
            yield opened
    gc.collect()  # the libraries leave sockets behind, and later tests count theirs


pytestmark = [
    # What the libraries warn of: sockets and processes that they leave to the end, and changes to come.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_each_task_has_its_outcome(engine):
    found = list(engine.map(engine_tasks.square, range(30)))
    assert sorted((each.task, each.value) for each in found) == [(number, number**2) for number in range(30)]
    assert {each.error for each in found} == {None}
    assert engine.slots() == 2


def test_a_killed_worker_loses_no_task(engine, tmp_path):
    marks = [str(tmp_path / "a"), str(tmp_path / "b")]
    found = {each.task: each for each in engine.map(engine_tasks.dies_at_first, marks)}
    assert [(found[mark].value, found[mark].error) for mark in marks] == [("done", None)] * 2
    assert max(each.runs for each in found.values()) >= 2


def test_a_task_that_kills_its_workers_is_given_up(engine, capfd):
    (found,) = engine.map(engine_tasks.dies, ["x"])
    assert (found.error.kind, found.runs) == ("lost", MOST_RUNS)
    assert [each.value for each in engine.map(engine_tasks.square, [3])] == [9]
    assert capfd.readouterr().out == ""


def test_errors_come_from_the_workers_as_sentences(engine):
    found = {each.task: each.error for each in engine.map(engine_tasks.fails, ["config", "bug"])}
    assert found["config"] == Fault("config", "the sentence", "The hint.")
    assert (found["bug"].kind, "sk-in" in str(found["bug"])) == ("bug", False)


def test_what_is_held_is_one_for_all_tasks(engine):
    held = engine.hold(engine_tasks.Counter, 10)
    found = [each.value for each in engine.map(engine_tasks.adds, [(held, 1)] * 8)]
    assert sorted(found) == list(range(11, 19))
    assert held.ask("add", 0) == 18


def test_tasks_that_run_end_when_the_iterator_is_closed(engine, tmp_path):
    """Of Ray; Dask ends none that has begun, and gives its worker back when it is over."""
    results = engine.map(_square_or_wait, [3, str(tmp_path / "mark")])
    assert next(results).value == 9
    results.close()
    if engine.name == "ray":
        assert sorted(each.value for each in engine.map(engine_tasks.square, range(6))) == [0, 1, 4, 9, 16, 25]
    assert not (tmp_path / "mark").exists() or (tmp_path / "mark").read_text() == "begun"


def _square_or_wait(task):
    return engine_tasks.square(task) if isinstance(task, int) else engine_tasks.waits(task)


@pytest.mark.parametrize("name", ENGINES)
def test_an_address_where_nobody_answers_gets_a_sentence(name):
    """In a process of its own: one that is connected connects no further."""
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        address = address if name == "ray" else f"tcp://{address}"
        code = f"import prx.engines; prx.engines.open_engine({name!r}, {address!r})"
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert f"ConfigError: no {name.capitalize()} can be joined at {address}: " in ended.stderr
