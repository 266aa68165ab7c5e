"""prx.batch.Worker: a table in, the same kind of table out, and no key in its pickle."""

from __future__ import annotations

import pickle

import pytest
from helpers.batch_server import BatchServer

import prx
from prx.batch import Worker

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
