"""prx.batch.Worker: a table in, the same kind of table out, and no key in its pickle."""

from __future__ import annotations

import contextlib
import pickle
import threading
import time
from pathlib import Path

import pytest
from helpers.batch_server import BatchServer

import prx
from prx.batch import Worker
from prx.batch import worker as module
from prx.batch.results import COLUMNS
from prx.session import Session

KEY = "sk-worker-0123456789"


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKER_KEY", KEY)
    with BatchServer() as server:
        path = tmp_path / "config.toml"
        path.write_text(f'[providers.compatible]\napi_url = "{server.url}"\napi_key = "${{WORKER_KEY}}"\n')
        yield str(path)


@pytest.fixture
def worker(config):
    """As it is in another process: used, pickled, and used again."""
    made = Worker("compatible/m", prompt="say {word}", config=config, temperature=0, in_flight=4)
    assert made([{"word": "first"}])[0]["answer"] == "answer to say first"
    pickled = pickle.dumps(made)
    assert KEY.encode() not in pickled
    return pickle.loads(pickled)


WORDS = ["a", "b", "c"]
ANSWERS = [f"answer to say {word}" for word in WORDS]


def test_lists_and_mappings(worker):
    rows = worker([{"word": word, "n": 1} for word in WORDS])
    assert [(row["word"], row["n"], row["answer"], row["answer_error"]) for row in rows] == [
        (word, 1, answer, None) for word, answer in zip(WORDS, ANSWERS, strict=True)
    ]
    table = worker({"word": WORDS, "n": [1, 2, 3]})
    assert (table["n"], table["answer"], table["answer_completion_tokens"]) == ([1, 2, 3], ANSWERS, [5, 5, 5])
    assert worker({"word": "a", "n": 1})["answer"] == ANSWERS[0]
    assert [part["answer"] for part in worker(iter([{"word": ["a"]}, {"word": ["b"]}]))] == [[ANSWERS[0]], [ANSWERS[1]]]


def test_tables_of_pyarrow(worker):
    arrow = pytest.importorskip("pyarrow")
    table = arrow.table({"word": WORDS})
    assert worker(table).column("answer").to_pylist() == ANSWERS
    batch = worker(table.to_batches()[0])
    assert batch.column("answer").to_pylist() == ANSWERS
    assert batch.schema.field("answer_prompt_tokens").type == arrow.int64()


def test_frames_of_pandas(worker):
    pandas = pytest.importorskip("pandas")
    frame = worker(pandas.DataFrame({"word": WORDS}, index=[7, 8, 9]))
    assert (list(frame["answer"]), list(frame.index)) == (ANSWERS, [7, 8, 9])


def test_columns_of_numpy(worker):
    numpy = pytest.importorskip("numpy")
    table = worker({"word": numpy.array(WORDS)})
    assert list(table["answer"]) == ANSWERS
    assert isinstance(table["answer"], numpy.ndarray)


def test_a_row_that_fails_says_so_in_its_columns(worker):
    good, bad = worker([{"word": "a"}, {"other": "b"}])
    assert (good["answer_error"], bad["answer"], bad["answer_error"]) == (None, None, "config")
    assert "no column 'word'" in bad["answer_error_message"]


def test_a_column_of_ids_is_one_as_any_other_and_a_missing_cell_is_an_empty_text(worker):
    rows = [{"word": "a", "id": 1.5}, {"word": float("nan"), "id": [1]}, {"word": None, "id": True}]
    assert [row["answer"] for row in worker(rows)] == [ANSWERS[0], "answer to say ", "answer to say "]
    numpy = pytest.importorskip("numpy")
    table = worker({"word": numpy.array(WORDS), "id": numpy.arange(3)})
    assert list(table["answer"]) == ANSWERS
    times = worker({"word": numpy.array(["2026-01-02"], dtype="datetime64[ns]")})
    assert times["answer"][0].startswith("answer to say 2026-01-02T")


def test_a_frame_of_pandas_has_the_same_types_whatever_is_in_it(worker):
    pandas = pytest.importorskip("pandas")
    frames = [pandas.DataFrame({"word": WORDS}), pandas.DataFrame({"other": [1]}), pandas.DataFrame({"word": []})]
    kinds = [dict(worker(frame).filter(like="answer").dtypes) for frame in frames]
    assert kinds[0] == kinds[1] == kinds[2]
    assert (str(kinds[0]["answer"]), str(kinds[0]["answer_error_status"])) == ("string", "Int64")


def test_columns_of_the_answers_are_told_for_a_schema(worker):
    told = dict(column.split(" ") for column in worker.sql_columns.split(", "))
    assert tuple(told) == COLUMNS
    assert (told["answer"], told["answer_prompt_tokens"], told["answer_error"]) == ("string", "bigint", "string")
    assert "answer array<double>," in Worker("compatible/m", prompt="x", kind="embed").sql_columns


def test_a_column_in_the_place_of_the_answers_is_refused(worker):
    with pytest.raises(prx.ConfigError, match="a column is called 'answer_error'"):
        worker({"word": WORDS, "answer_error": WORDS})


def test_an_empty_table_asks_nothing_and_needs_no_configuration():
    assert Worker("nobody/m", prompt="{word}", config="/nowhere.toml")({"word": []})["answer"] == []


def test_workers_of_one_process_share_a_session_of_the_same_environment(worker, monkeypatch):
    made = []
    monkeypatch.setattr(module, "Session", lambda *given: made.append(given) or Session(*given))
    monkeypatch.setenv("WORKER_KEY", "sk-another")
    for _ in range(2):
        pickle.loads(pickle.dumps(worker))([{"word": "a"}])
    assert len(made) == 1
    monkeypatch.setenv("WORKER_KEY", "sk-a-third")
    worker([{"word": "a"}])
    assert len(made) == 2


def test_a_key_that_is_not_there_is_said_in_the_row(worker, monkeypatch):
    monkeypatch.delenv("WORKER_KEY")
    row = worker([{"word": "a"}])[0]
    assert (row["answer"], row["answer_error"]) == (None, "config")
    assert "WORKER_KEY" in row["answer_error_message"]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="there is no /proc on this system")
def test_nothing_stays_open_after_a_table(worker):
    def sockets():
        found = 0
        for entry in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):  # closed since it was listed
                found += str(entry.readlink()).startswith("socket:")
        return found

    before, threads = sockets(), threading.active_count()
    worker([{"word": str(place)} for place in range(20)])
    until = time.monotonic() + 5
    while sockets() > before and time.monotonic() < until:
        time.sleep(0.02)  # the server's ends of them
    assert sockets() <= before  # fewer where what other tests have left is closed meanwhile
    assert threading.active_count() <= threads


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"config": {"providers": {}}}, "config is a path here"),
        ({"in_flight": 0}, "in_flight must be"),
        ({"kind": "image"}, "a batch is of chat"),
        ({"prompt": "{"}, "a single {"),
    ],
)
def test_wrong_settings_get_a_sentence(given, said):
    with pytest.raises(prx.ConfigError, match=said):
        Worker("compatible/m", **{"prompt": "x", **given})


def test_what_is_no_table_gets_a_sentence(worker):
    with pytest.raises(prx.ConfigError, match="a table is"):
        worker(3)
