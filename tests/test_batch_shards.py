"""prx batch --engine: shards, what is in them, what is left where a run ends early, and what goes to the workers."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from helpers.batch_server import BatchServer
from helpers.commands import run
from helpers.engine_here import ENGINES, Here
from helpers.redis_server import RedisServer

import prx
from prx.batch import shard_tasks
from prx.batch.rows import Template, Terms
from prx.batch.shard_run import ShardRun
from prx.batch.shard_tasks import Answered, Setup, answer
from prx.batch.shards import MANIFEST, Sharded, path_of
from prx.engines import Fault
from prx.session import Session

arrow = pytest.importorskip("pyarrow", reason="pip install '.[batch]' brings what shards are written with")
parquet = pytest.importorskip("pyarrow.parquet")
KEY = "sk-shards-0123456789"


class Place:
    """A folder with a configuration for a server, whose key is in the environment, and batches in it."""

    def __init__(self, folder, server):
        self.folder, self.server, self.out = folder, server, folder / "out"
        self.config = folder / "config.toml"
        self.config.write_text(
            '[default]\nprovider = "compatible"\nmodel = "m"\n'
            f'[providers.compatible]\napi_url = "{server.url}"\napi_key = "${{SHARDS_KEY}}"\n'
        )

    def rows(self, count=10, name="in.jsonl"):
        return self.lines([{"id": f"q{place}", "prompt": f"row {place}"} for place in range(count)], name)

    def lines(self, rows, name="in.jsonl"):
        path = self.folder / name
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        return path

    def sharded(self, source, size=4, folders=(), limit=None, **terms):
        session = Session(str(self.config), list(folders), None)
        batch = Sharded(source, self.out, Terms(**terms), session, limit, size)
        return batch, ShardRun(batch, session, str(self.config))

    def run(self, source, size=4, engine=None, resume=False, overwrite=False, **more):
        """One run with an engine in this process."""
        batch, running = self.sharded(source, size, **more)
        try:
            batch.check(resume=resume)
            batch.open(resume=resume, overwrite=overwrite)
            running.run(engine or Here(), lambda *_: None)
        finally:
            batch.close()
        return batch, running

    def table(self):
        return parquet.read_table(self.out)

    def asked(self):
        return sorted(self.server.asked.elements())


@pytest.fixture
def at(tmp_path, monkeypatch):
    monkeypatch.setenv("SHARDS_KEY", KEY)
    monkeypatch.setattr(shard_tasks, "_sessions", {})
    with BatchServer() as server:
        yield Place(tmp_path, server)


PROMPTS = [f"row {place}" for place in range(10)]
ANSWERS = [f"answer to {prompt}" for prompt in PROMPTS]


def test_every_row_has_its_answer_in_the_shard_of_its_place(at):
    batch, running = at.run(at.rows())
    assert sorted(path.name for path in at.out.iterdir()) == [MANIFEST, *(f"part-0000{n}.parquet" for n in range(3))]
    assert [parquet.read_table(path_of(at.out, n)).num_rows for n in range(3)] == [4, 4, 2]
    table = at.table()
    assert table.column("answer").to_pylist() == ANSWERS
    assert table.column("id").to_pylist() == [f"q{place}" for place in range(10)]
    assert (batch.count, sum(batch.done.values(), Counter())) == (3, Counter())
    assert at.asked() == PROMPTS
    assert (running.figures.rows, running.lost, running.again) == (10, 0, 0)


def test_rows_without_an_id_are_numbered_through_all_shards(at):
    at.run(at.lines([{"prompt": prompt} for prompt in PROMPTS]))
    assert at.table().column("id").to_pylist() == list(range(1, 11))
    assert at.table().schema.field("id").type == arrow.int64()


def test_tables_keep_their_columns_and_types(at):
    source = at.folder / "in.parquet"
    words = arrow.array([None, None, None, None, "e", "f"], arrow.string())
    parquet.write_table(arrow.table({"word": words, "n": arrow.array(range(6), arrow.int16())}), source)
    at.run(source, prompt=Template("say {n}"))
    table = at.table()
    assert table.column("word").to_pylist() == [None, None, None, None, "e", "f"]
    assert table.schema.field("n").type == arrow.int16()
    assert table.column("answer").to_pylist() == [f"answer to say {n}" for n in range(6)]
    assert {parquet.read_schema(path).remove_metadata() for path in at.out.glob("part*")} == {
        table.schema.remove_metadata()
    }


def test_csv_is_of_texts(at):
    source = at.folder / "in.csv"
    source.write_text("n,word\n1,a\n2,b\n3,c\n")
    at.run(source, size=2, prompt=Template("say {word}"))
    assert at.table().select(["n", "answer"]).to_pylist()[2] == {"n": "3", "answer": "answer to say c"}


def test_shards_have_the_same_types_where_one_has_no_answers(at):
    """A column of vectors where all rows of a shard fail."""
    at.server.refuse = 400
    source = at.lines([{"input": "a"}, {"input": "b"}, {"input": "c"}])
    batch, _ = at.run(source, size=2, kind="embed")
    assert at.table().schema.field("answer").type == arrow.list_(arrow.float64())
    assert sum(batch.done.values(), Counter()) == Counter(bad_request=3)


def test_several_vectors_of_each_row(at):
    at.run(at.lines([{"input": ["a", "bb"]}, {"input": ["c", "d"]}]), size=1, kind="embed")
    assert at.table().column("answer").to_pylist() == [[[1.0, 1.0], [2.0, 1.0]], [[1.0, 1.0], [1.0, 1.0]]]


def test_what_no_column_can_hold_is_refused_before_anything_is_sent(at):
    batch, _ = at.sharded(at.lines([{"input": "a"}, {"input": ["a", "b"]}]), kind="embed")
    with pytest.raises(prx.ConfigError, match="rows that ask for one vector, and rows that ask for several"):
        batch.check()
    assert at.asked() == []


# ------------------------------------------------------------------ going on


class Stops(Here):
    """An engine that is interrupted once so many tasks are done."""

    def __init__(self, after):
        super().__init__()
        self.after = after

    def _ended(self, running):
        self.after -= 1
        if self.after < 0:
            raise KeyboardInterrupt
        return super()._ended(running)


def interrupted(at, source, after, **more):
    with pytest.raises(KeyboardInterrupt):
        at.run(source, engine=Stops(after), **more)


def test_a_run_that_is_gone_on_with_asks_only_shards_that_are_missing(at):
    source = at.rows()
    interrupted(at, source, 1)
    assert at.asked() == PROMPTS[:4]
    batch, _ = at.run(source, resume=True)
    assert (at.asked(), at.table().column("answer").to_pylist(), len(batch.done)) == (PROMPTS, ANSWERS, 3)


def test_failures_of_shards_of_an_earlier_run_are_counted(at):
    source = at.rows()
    at.server.refuse = 400
    interrupted(at, source, 1)
    at.server.refuse = 0
    batch, _ = at.run(source, resume=True)
    assert sum(batch.done.values(), Counter()) == Counter(bad_request=4)


class Dies(Here):
    """An engine whose worker dies in the middle of a shard, once."""

    def __init__(self, server):
        super().__init__({})
        self.server, self.dead = server, False

    def _ended(self, running):
        from prx.engines.engine import Lost

        if self.dead:
            return super()._ended(running)
        _, function, shard = self.begun[running[0]]
        self.server.pause = 0.05
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shard_tasks, "_asked", self.dying)
            with pytest.raises(asyncio.CancelledError):
                function(shard)
        self.dead, self.server.pause = True, 0.0
        return [(running[0], Lost("it was killed"))]

    async def dying(self, *given):
        work = asyncio.ensure_future(ASKED(*given))
        await asyncio.to_thread(self.wait)
        work.cancel()
        await work

    def wait(self):
        while sum(self.server.answered.values()) < 6:
            time.sleep(0.01)


ASKED = shard_tasks._asked


def test_rows_that_a_dead_worker_has_done_are_not_asked_again(at):
    _, running = at.run(at.rows(20), size=20, engine=Dies(at.server), in_flight=4)
    assert at.table().column("answer").to_pylist() == [f"answer to row {place}" for place in range(20)]
    assert running.lost == 1
    assert 1 <= running.again <= 4
    assert sum(at.server.asked.values()) == 20 + running.again


def test_a_worker_that_was_taken_to_be_dead_is_waited_for(at, monkeypatch):
    monkeypatch.setattr(shard_tasks, "_LOOK_SECONDS", 0.01)
    at.server.pause = 0.3
    found, tasks = [], []

    class Twice(Here):
        def _ended(self, running):
            _, function, shard = self.begun[running[0]]
            tasks.extend(threading.Thread(target=lambda: found.append(function(shard))) for _ in range(2))
            for each in tasks:
                each.start()
            for each in tasks:
                each.join()
            return [(running[0], (found[0], None))]

    at.run(at.rows(4), engine=Twice())
    assert found == [Answered(0, {}), Answered(0, {})]
    assert at.asked() == PROMPTS[:4]


def test_the_key_that_is_refused_ends_the_run(at):
    at.server.refuse = 401
    with pytest.raises(prx.ConfigError, match="stopped, since 10 rows in a row failed") as caught:
        at.run(at.rows(40), size=20)
    assert KEY not in str(caught.value)
    at.server.refuse = 0
    at.run(at.rows(40), size=20, resume=True)
    assert at.table().column("answer_error").null_count == 40


def test_a_shard_that_kills_its_workers_does_not_end_the_others(at):
    source = at.rows()
    batch, running = at.sharded(source)
    batch.check()
    batch.open(resume=False, overwrite=False)

    class Kills(Here):
        def _ended(self, running):
            if self.begun[running[0]][2].number == 1:
                return [(running[0], (None, Fault("lost", "its worker died")))]
            return super()._ended(running)

    running.run(Kills(), lambda *_: None)
    batch.close()
    assert running.faults == {1: Fault("lost", "its worker died")}
    assert sorted(batch.done) == [0, 2]


# ------------------------------------------------------------------ what is refused


def refused(at, said, source=None, **more):
    with pytest.raises(prx.ConfigError, match=said) as caught:
        at.run(source or at.rows(), **more)
    assert caught.value.hint or said.startswith("there is no")


def test_a_folder_that_is_there_is_no_place_for_another_run(at):
    at.run(at.rows())
    refused(at, "is that of a run before")
    refused(at, "belongs to another input", at.rows(9), resume=True)
    refused(at, "was begun with rows of a shard 4, not 5", size=5, resume=True)
    refused(at, "was begun with parameters", params={"temperature": 1}, resume=True)
    at.run(at.rows(3), overwrite=True, size=2)
    assert at.table().num_rows == 3


def test_a_folder_with_other_files_is_left_alone(at):
    at.out.mkdir()
    (at.out / "mine.txt").write_text("mine")
    refused(at, "has other files in it: mine.txt", overwrite=True)
    (at.out / "mine.txt").rename(at.out / "part-00000.parquet")
    refused(at, "has other files in it: part-00000.parquet")
    assert (at.out / "part-00000.parquet").read_text() == "mine"


def test_a_file_in_place_of_the_folder(at):
    at.out.write_text("")
    refused(at, "out: is a file")


def test_a_damaged_shard_is_named(at):
    source = at.rows()
    interrupted(at, source, 1)
    path_of(at.out, 0).write_bytes(b"PAR1")
    refused(at, "part-00000.parquet: is no part of this run, or damaged", source, resume=True)
    path_of(at.out, 0).unlink()
    at.run(source, resume=True)
    assert at.table().column("answer").to_pylist() == ANSWERS


def test_two_runs_at_once(at):
    first, _ = at.sharded(at.rows())
    first.check()
    first.open(resume=False, overwrite=False)
    refused(at, "another run is writing to it", resume=True)
    first.close()


def test_a_manifest_of_something_else(at):
    at.out.mkdir()
    (at.out / MANIFEST).write_text("[]")
    refused(at, "is not of this version of prx batch")


def test_workers_that_share_no_disk(at):
    class Elsewhere(Here):
        def _ended(self, running):
            return [(running[0], (Answered(0, {}), None))]

    refused(at, "was written by its worker, and is not here", engine=Elsewhere())
    setup = Setup(str(at.folder / "none"), "", None, None, {}, None, (), None, b"")
    with pytest.raises(prx.ConfigError, match="a worker has no such folder"):
        answer(setup, shard_tasks.Shard(0, 0, []))


def test_an_input_that_changes_ends_the_run(at):
    source = at.rows()

    class Changes(Here):
        def _ended(self, running):
            source.write_text(source.read_text().replace("row 9", "row x"))
            os.utime(source, (1, 1))
            return super()._ended(running)

    refused(at, "has been changed during the run", source, engine=Changes(), size=1)
    assert "row x" not in at.asked()


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
def test_limits_that_a_redis_holds(at, tmp_path):
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisServer(folder)
    try:
        batch, running = at.sharded(at.rows(40), size=20, per_minute={"requests": 1200})
        batch.check()
        batch.open(resume=False, overwrite=False)
        began = time.monotonic()
        running.run(Here(), lambda *_: None, server.url)
        batch.close()
        assert 1.5 <= time.monotonic() - began <= 10
    finally:
        server.stop()
    assert running.figures.rows == 40
    assert at.table().num_rows == 40
    with pytest.raises(prx.ConfigError, match="--limits: no Redis answers there"):
        running.run(Here(), lambda *_: None, server.url)


# ------------------------------------------------------------------ what goes to the workers


def test_no_key_goes_to_the_workers(at, monkeypatch):
    """Neither one of the environment nor one that is written in config.toml."""
    at.config.write_text(at.config.read_text().replace("${SHARDS_KEY}", KEY))
    engine = Here()
    at.run(at.rows(), engine=engine)
    assert engine.begun
    for _, function, shard in engine.begun:
        setup = function.args[0]
        sent = pickle.dumps((setup._replace(holder=None), shard))
        assert KEY.encode() not in sent
        assert b"row" in sent
    assert KEY.encode() not in pickle.dumps([*engine.held.held._accounts])


def test_provider_files_go_to_the_workers_as_they_are(at):
    """Also one that another folder has under the same name: the order of the folders stays."""
    text = "spec: 1\nid: mine\nextends: openai-chat\nbase_url: {}\nauth: {{style: none}}\n"
    folders = [at.folder / "first", at.folder / "second"]
    for folder, url in zip(folders, (at.server.url, "http://127.0.0.1:9/v1"), strict=True):
        folder.mkdir()
        (folder / "mine.yaml").write_text(text.format(url))

    class Away(Here):
        def _ended(self, running):
            for folder in folders:
                folder.rename(folder.with_suffix(".away")) if folder.exists() else None
            return super()._ended(running)

    at.run(at.rows(), folders=map(str, folders), model="mine/m", engine=Away())
    assert at.table().column("answer_model").to_pylist() == ["m"] * 10
    assert at.table().column("answer").to_pylist() == ANSWERS


# ------------------------------------------------------------------ the command, and real engines


def command(at, *more, out="out"):
    return ["batch", "in.jsonl", out, "--config", str(at.config), "--shard-rows", "50", *more]


def test_the_command_says_what_is_wrong(at):
    at.rows()
    assert (
        "--address, --workers and --limits go with --engine"
        in run(*command(at, "--address", "auto"), cwd=at.folder).stderr
    )
    ended = run(*command(at, "--engine", "ray", "--dry-run"), cwd=at.folder)
    assert (ended.returncode, ended.stdout.splitlines()[-1]) == (0, "1 shard")
    assert not at.out.exists()


@pytest.fixture
def logs():
    """The folder of what Ray writes down; its sockets are there, too, whose paths must be short."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="r", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.mark.parametrize("name", ENGINES)
def test_a_run_on_a_real_engine(at, name, logs):
    """Failures are counted through all shards; no key is in the logs and the state of the engine, nor in what is said."""
    at.rows(200)
    at.server.refuse = 400
    options = ["--engine", name, "--workers", "2"]
    environment = {**os.environ, "RAY_TMPDIR": str(logs)}
    ended = subprocess.run([sys.executable, "-m", "prx", *command(at, *options)], cwd=at.folder, env=environment, capture_output=True, text=True, check=False)  # fmt: skip
    assert (ended.returncode, ended.stdout) == (1, ""), ended.stderr
    assert "out: 200 of 200 rows failed (200 bad_request); their rows say why" in ended.stderr
    assert (at.table().num_rows, at.table().column("answer_error").unique().to_pylist()) == (200, ["bad_request"])
    found = [path for folder in (logs, at.out) for path in folder.rglob("*") if path.is_file()]
    assert len(found) > (20 if name == "ray" else 4)
    assert not [path for path in found if KEY.encode() in path.read_bytes()]
    assert KEY not in ended.stderr


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_it_and_resume_goes_on(at, name, number):
    """As from a terminal: every process of the command has it."""
    at.rows(200)
    at.server.pause = 0.2
    options = ["--engine", name, "--workers", "2", "--in-flight", "4"]
    running = subprocess.Popen([sys.executable, "-m", "prx", *command(at, *options)], cwd=at.folder, stderr=subprocess.PIPE, text=True, start_new_session=True)  # fmt: skip
    while sum(at.server.answered.values()) < 20:
        assert running.poll() is None, running.stderr.read()
        time.sleep(0.02)
    os.killpg(running.pid, number) if number == signal.SIGINT else running.send_signal(number)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130, said
    assert "Traceback" not in said
    assert re.search(r"stopped: 0 of 4 shards done, with 0 of 200 rows; others are begun, and kept", said)
    before = sum(at.server.asked.values())
    time.sleep(0.5)
    assert sum(at.server.asked.values()) == before
    at.server.pause = 0.0
    # A start of its own: a process that is forked from one that has imported Ray cannot begin one.
    again = [sys.executable, "-m", "prx", *command(at, *options, "--resume")]
    ended = subprocess.run(again, cwd=at.folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert at.table().num_rows == 200
    assert sum(at.server.asked.values()) <= 200 + 8
