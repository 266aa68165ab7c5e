"""prx batch: what it reads, what it writes, what is left where it ends early; and the iterators of both clients."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from helpers.batch_server import BatchServer
from helpers.byte_server import RawServer, response
from helpers.commands import run
from helpers.token_server import TokenServer

import prx
from prx.batch.limiter import limiter_of

KEY = "sk-batch-0123456789"
SCHEMA = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object", "required": ["mood"]}}}


def config_of(server, **more):
    return {"default": {"provider": "compatible", "model": "m"}, "providers": {"compatible": {"api_url": server.url, "api_key": KEY, **more}}}  # fmt: skip


class Place:
    """A folder with a configuration for a server, and `prx batch` in it."""

    def __init__(self, folder, server):
        self.folder, self.server = folder, server
        (folder / "config.toml").write_text(
            '[default]\nprovider = "compatible"\nmodel = "m"\n'
            f'[providers.compatible]\napi_url = "{server.url}"\napi_key = "{KEY}"\n'
        )

    def lines(self, name, rows):
        (self.folder / name).write_text("".join(f"{json.dumps(row)}\n" for row in rows))

    def batch(self, *options):
        return run("batch", *options, "--config", "config.toml", cwd=self.folder)

    def start(self, *options):
        command = [sys.executable, "-m", "prx", "batch", *options, "--config", "config.toml"]
        return subprocess.Popen(command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def read(self, name="out.jsonl"):
        return [json.loads(line) for line in (self.folder / name).read_text().splitlines()]


@pytest.fixture
def at(tmp_path):
    with BatchServer() as server:
        yield Place(tmp_path, server)


def questions(number):
    return [{"id": f"q{place}", "prompt": f"row {place}"} for place in range(number)]


def answered(rows):
    return [(row["id"], row["content"]) for row in rows]


def expected(number):
    return [(f"q{place}", f"answer to row {place}") for place in range(number)]


# ------------------------------------------------------------------ forms


def test_each_row_has_its_answer_in_order(at):
    at.lines("in.jsonl", questions(60))
    done = at.batch("in.jsonl", "out.jsonl", "--param", "temperature=0")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert answered(at.read()) == expected(60)
    assert at.read()[7]["usage"] == {"prompt_tokens": 2, "completion_tokens": 5, "total_tokens": 7}
    assert at.server.bodies[0]["temperature"] == 0
    assert sorted(path.name for path in at.folder.iterdir()) == ["config.toml", "in.jsonl", "out.jsonl"]


def test_a_row_has_parameters_and_a_model_of_its_own(at):
    rows = [
        {"messages": [{"role": "user", "content": "one"}], "model": "other", "max_tokens": 7},
        {"prompt": "two", "temperature": 0.5},
    ]
    at.lines("in.jsonl", rows)
    assert at.batch("in.jsonl", "out.jsonl", "--param", "temperature=1").returncode == 0
    bodies = {body["messages"][0]["content"]: body for body in at.server.bodies}
    assert (bodies["one"]["model"], bodies["one"]["max_tokens"], bodies["one"]["temperature"]) == ("other", 7, 1)
    assert (bodies["two"]["model"], bodies["two"]["temperature"]) == ("m", 0.5)
    assert [row["id"] for row in at.read()] == [1, 2]


def test_the_form_of_openais_batch_files(at):
    chat = {"messages": [{"role": "user", "content": "hi"}], "model": "m", "user": "u"}
    rows = [
        {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": chat},
        {"custom_id": "b", "method": "POST", "url": "/v1/embeddings", "body": {"model": "m", "input": "hello"}},
    ]
    at.lines("in.jsonl", rows)
    done = at.batch("in.jsonl", "out.jsonl")
    assert done.returncode == 0, done.stderr
    first, second = at.read()
    assert (first["custom_id"], first["error"], first["response"]["status_code"]) == ("a", None, 200)
    assert first["response"]["body"]["choices"][0]["message"]["content"] == "answer to hi"
    assert first["response"]["body"]["usage"]["completion_tokens"] == 5
    assert second["response"]["body"]["data"][0]["embedding"] == [5.0, 1.0]


def test_embeddings(at):
    at.lines("in.jsonl", [{"id": "a", "input": "four"}, {"id": "b", "prompt": "seven77"}])
    assert at.batch("in.jsonl", "out.jsonl", "--kind", "embed").returncode == 0
    assert [row["embedding"] for row in at.read()] == [[4.0, 1.0], [7.0, 1.0]]


def test_a_table_needs_a_template(at):
    (at.folder / "in.csv").write_text('text,lang\n"one, two",de\n{x},fr\n')
    done = at.batch("in.csv", "out.csv", "--prompt", "{{{text}}} in {lang}", "--system", "Be {lang}.")
    assert done.returncode == 0, done.stderr
    with (at.folder / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["text"], row["answer"]) for row in rows] == [
        ("one, two", "answer to {one, two} in de"),
        ("{x}", "answer to {{x}} in fr"),
    ]
    assert rows[0]["answer_prompt_tokens"] == str(len("{one, two} in de") // 4 + 1)
    assert {body["messages"][0]["content"] for body in at.server.bodies} == {"Be de.", "Be fr."}


@pytest.mark.parametrize("order", [(), ("--unordered",)])
def test_parquet(at, order):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = arrow.table(
        {"n": arrow.array([1, None, 3], arrow.int16()), "text": ["a", "b", "c"], "l": [[1.0], [], None]}
    )
    parquet.write_table(table, at.folder / "in.parquet")
    done = at.batch("in.parquet", "out.parquet", "--prompt", "say {text}", *order)
    assert done.returncode == 0, done.stderr
    found = parquet.read_table(at.folder / "out.parquet")
    assert found.schema.field("n").type == arrow.int16()
    rows = sorted(found.to_pylist(), key=lambda row: row["text"])
    assert [(row["n"], row["l"], row["answer"]) for row in rows] == [
        (1, [1.0], "answer to say a"), (None, [], "answer to say b"), (3, None, "answer to say c"),
    ]  # fmt: skip
    assert at.batch("in.parquet", "out.jsonl", "--prompt", "say {text}", *order).returncode == 0
    assert sorted(row["answer"] for row in at.read()) == [f"answer to say {letter}" for letter in "abc"]


def test_an_answer_that_does_not_fit_its_schema_is_an_error_row(at):
    at.server.reply = lambda prompt: {"good": '{"mood": "fine"}', "bad": "{}", "worse": "fine"}[prompt]
    at.lines("in.jsonl", [{"prompt": prompt, "response_format": SCHEMA} for prompt in ("good", "bad", "worse")])
    done = at.batch("in.jsonl", "out.jsonl")
    assert done.returncode == 1
    assert "2 of 3 rows failed (2 schema)" in done.stderr
    good, bad, worse = at.read()
    assert good["error"] is None
    assert (bad["error"]["kind"], bad["content"]) == ("schema", "{}")
    assert "'mood' is a required property" in bad["error"]["message"]
    assert worse["error"]["message"] == "the answer is not JSON"
    assert sum(at.server.asked.values()) == 3


# ------------------------------------------------------------------ limits and failures


def test_a_server_that_limits_and_fails_in_every_way(tmp_path):
    number = 300
    with BatchServer(per_minute=9000, share=0.05, seed=3, burst=30, headers=True) as server:
        at = Place(tmp_path, server)
        at.lines("in.jsonl", questions(number))
        began = time.monotonic()
        done = at.batch("in.jsonl", "out.jsonl", "--timeout", "1", "--quiet")
        took = time.monotonic() - began
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert answered(at.read()) == expected(number)
    assert set(server.answered.values()) == {1}
    assert len(server.ways) > 5
    assert server.ways["limit"] < number / 3  # the headers say the rate
    assert took < 20


def test_an_error_that_stays_is_a_row(at):
    at.server.share, at.server.ways_ = 1.0, ("500",)
    at.lines("in.jsonl", questions(3))
    done = at.batch("in.jsonl", "out.jsonl", "--retries", "1")
    assert done.returncode == 1
    assert "3 of 3 rows failed (3 server)" in done.stderr
    assert at.read()[0]["error"] == {"kind": "server", "message": "500", "status": 500, "attempts": 2}


def test_a_refusal_for_the_rate_is_no_failure_until_patience_is_over(at):
    at.server.share, at.server.ways_ = 1.0, ("429",)
    at.lines("in.jsonl", questions(1))
    done = at.batch("in.jsonl", "out.jsonl", "--retries", "0", "--patience", "1.5")
    assert done.returncode == 1
    row = at.read()[0]
    assert (row["error"]["kind"], row["error"]["status"]) == ("rate_limit", 429)
    assert row["error"]["attempts"] > 1


def test_a_run_in_which_nothing_can_be_answered_stops(at):
    at.server.refuse = 401
    at.lines("in.jsonl", questions(40))
    done = at.batch("in.jsonl", "out.jsonl", "--in-flight", "4")
    assert done.returncode == 1
    assert "stopped, since 10 rows in a row failed, the last with auth" in done.stderr
    assert KEY not in done.stderr
    assert sum(at.server.asked.values()) < 40
    at.server.refuse = 0
    assert at.batch("in.jsonl", "out.jsonl", "--resume").returncode == 0
    assert answered(at.read()) == expected(40)


# ------------------------------------------------------------------ runs that end early


def test_a_killed_run_goes_on_and_asks_nothing_twice(at):
    at.server.pause = 0.05
    at.lines("in.jsonl", questions(120))
    started = at.start("in.jsonl", "out.jsonl", "--in-flight", "5")
    until = time.monotonic() + 30
    while len(at.server.answered) < 30 and time.monotonic() < until:
        time.sleep(0.01)
    started.kill()
    started.communicate()
    assert not (at.folder / "out.jsonl").exists()
    refused = at.batch("in.jsonl", "out.jsonl")
    assert refused.returncode == 1
    assert "--resume goes on with it" in refused.stderr
    with (at.folder / "out.jsonl.journal").open("ab") as journal:
        journal.write(b'{"row": 119, "fou')  # as if it had been killed in the middle of a line
    done = at.batch("in.jsonl", "out.jsonl", "--resume")
    assert done.returncode == 0, done.stderr
    assert "under way when it ended: asked again" in done.stderr
    assert answered(at.read()) == expected(120)
    assert sum(count > 1 for count in at.server.asked.values()) <= 5
    assert not (at.folder / "out.jsonl.journal").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_at_once_and_says_how_to_go_on(at, number):
    at.server.pause = 0.2
    at.lines("in.jsonl", questions(100))
    started = at.start("in.jsonl", "out.jsonl", "--in-flight", "4")
    until = time.monotonic() + 30
    while len(at.server.answered) < 8 and time.monotonic() < until:
        time.sleep(0.01)
    at.server.pause = 30
    time.sleep(0.3)
    began = time.monotonic()
    started.send_signal(number)
    _, said = started.communicate(timeout=20)
    assert started.returncode == 130
    assert time.monotonic() - began < 5
    assert "of 100 rows done, and kept in out.jsonl.journal" in said
    assert "--resume" in said
    at.server.pause = 0
    assert at.batch("in.jsonl", "out.jsonl", "--resume").returncode == 0
    assert answered(at.read()) == expected(100)


def test_going_on_reads_only_what_is_left(at, monkeypatch):
    """The input was looked through when the run was begun: to do so again would take longer than asking some rows does."""
    from prx.batch.job import Job
    from prx.batch.rows import Reader, Terms
    from prx.session import Session

    at.lines("in.jsonl", questions(6))
    read, whole = [], Reader.read
    monkeypatch.setattr(Reader, "read", lambda self, index, given: read.append(index) or whole(self, index, given))

    def job():
        return Job(
            at.folder / "in.jsonl",
            at.folder / "out.jsonl",
            Terms("compatible/m"),
            Session(config_of(at.server), None, {}),
        )

    begun = job()
    plan = begun.check(resume=True)  # there is no journal yet
    with begun.open(plan, resume=True, overwrite=False) as journal:
        journal.found(0, "{}")
        journal.found(3, "{}")
    assert read == [0, 1, 2, 3, 4, 5]
    read.clear()
    again = job()
    assert again.check(resume=True) == plan
    with again.open(plan, resume=True, overwrite=False) as journal:
        assert [row.index for row in again._left(journal)] == read == [1, 2, 4, 5]
    read.clear()
    at.lines("in.jsonl", questions(7))
    assert job().check(resume=True).rows == len(read) == 7


def test_a_journal_belongs_to_its_input_and_settings(at):
    at.server.refuse = 401
    at.lines("in.jsonl", questions(20))
    assert at.batch("in.jsonl", "out.jsonl").returncode == 1
    done = at.batch("in.jsonl", "out.jsonl", "--resume", "-m", "compatible/other")
    assert (done.returncode, "was begun with model none, not" in done.stderr) == (1, True)
    at.lines("in.jsonl", questions(21))
    done = at.batch("in.jsonl", "out.jsonl", "--resume")
    assert (done.returncode, "belongs to another input" in done.stderr) == (1, True)
    at.server.refuse = 0
    assert at.batch("in.jsonl", "out.jsonl", "--overwrite").returncode == 0
    assert answered(at.read()) == expected(21)


# ------------------------------------------------------------------ what cannot be asked


BAD = [
    (['{"prompt": "a"}', "{prompt"], (), "in.jsonl:2: is not JSON"),
    (['["a"]'], (), "in.jsonl:1: is not a JSON object"),
    (['{"id": 1, "prompt": "a"}', "", '{"id": 1, "prompt": "b"}'], (), "in.jsonl:3: the id 1 is that of in.jsonl:1, too"),
    (['{"id": 1, "prompt": "a"}', '{"id": 1, "prompt": "b"}', "{"], (), "in.jsonl:2: the id 1 is that of in.jsonl:1, too"),
    (['{"id": -1, "prompt": "a"}', '{"id": -2, "prompt": "b"}', "{"], (), "in.jsonl:3: is not JSON"),  # of the same hash
    (['{"id": 1}'], (), "in.jsonl:1: has no prompt"),
    (['{"prompt": ""}'], (), "in.jsonl:1: the prompt is empty"),
    (['{"prompt": "a", "messages": []}'], (), "in.jsonl:1: has prompt and messages, of which a row has one"),
    (['{"prompt": "a", "stream": true}'], (), "in.jsonl:1: 'stream' is not a parameter of a call"),
    (['{"a": "x"}'], ("--prompt", "say {b}"), "in.jsonl:1: the template names {b}, and the row has no column 'b'"),
    (['{"prompt": "a"}'], ("--prompt", "say {a"), "--prompt: a single {"),
    (['{"custom_id": "a", "method": "POST", "url": "/v1/nothing", "body": {}}'], (), "method and url POST '/v1/nothing'"),
    (['{"prompt": "a", "response_format": {"type": "json_schema", "json_schema": {"schema": {"type": 1}}}}'], (), "not a JSON Schema"),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "options", "said"), BAD, ids=[row[2][:40] for row in BAD])
def test_bad_input_gets_a_sentence_and_nothing_is_sent(at, lines, options, said):
    (at.folder / "in.jsonl").write_text("\n".join(lines))
    done = at.batch("in.jsonl", "out.jsonl", *options)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2
    assert not at.server.asked
    assert sorted(path.name for path in at.folder.iterdir()) == ["config.toml", "in.jsonl"]


def test_tables_and_files_that_cannot_be_used(at):
    (at.folder / "in.csv").write_text("text,lang\na,b\nc\n")
    (at.folder / "out.jsonl").write_text("precious\n")
    (at.folder / "good.csv").write_text("text,lang\na,b\n")
    for command, said in (
        (("in.csv", "o.csv", "--prompt", "{text}"), "in.csv:3: has 1 cells, and the first line 2"),
        (("good.csv", "o.csv", "--prompt", "{txt}"), "good.csv has no column 'txt'; did you mean 'text'?"),
        (("good.csv", "o.csv"), "Add --prompt"),
        (("good.csv", "good.csv", "--prompt", "{text}"), "is the input as well"),
        (("good.csv", "out.jsonl", "--prompt", "{text}"), "out.jsonl: is there already"),
        (("none.csv", "o.csv", "--prompt", "{text}"), "there is no such file"),
        (("good.csv", "o.xlsx", "--prompt", "{text}"), "the ending is none of .jsonl"),
        (("good.csv", "no/o.csv", "--prompt", "{text}"), "there is no such folder"),
    ):
        done = at.batch(*command)
        assert (done.returncode, said in done.stderr) == (1, True), (command, done.stderr)
    assert not at.server.asked
    assert (at.folder / "out.jsonl").read_text() == "precious\n"
    assert at.batch("good.csv", "o.csv", "--resume", "--overwrite").returncode == 2


def test_a_dry_run_counts_and_sends_nothing(at):
    at.lines(
        "in.jsonl", [{"prompt": "a" * 400, "max_tokens": 10}, {"prompt": "b" * 400, "max_tokens": 10}, {"prompt": "c"}]
    )
    done = at.batch("in.jsonl", "out.jsonl", "--dry-run", "--limit", "2")
    assert done.stdout == ("compatible/m: 2 calls\n2 calls; tokens of prompts: about 200; of answers: 20 at most\n")
    assert "without a limit" in at.batch("in.jsonl", "out.jsonl", "--dry-run").stdout
    assert not at.server.asked
    assert not (at.folder / "out.jsonl").exists()


# ------------------------------------------------------------------ from Python


def test_results_of_a_client(at):
    with prx.Client(config=config_of(at.server), env={}) as client:
        found = list(client.batch([f"row {place}" for place in range(50)], temperature=0))
    assert [result.reply.content for result in found] == [f"answer to row {place}" for place in range(50)]
    assert [result.index for result in found] == list(range(50))
    assert at.server.bodies[0]["temperature"] == 0


def test_results_of_an_asynchronous_client(at):
    async def rows():
        for place in range(50):
            yield {"id": place, "prompt": f"row {place}"}

    async def main():
        async with prx.AsyncClient(config=config_of(at.server), env={}) as client:
            return [result async for result in client.batch(rows(), ordered=False)]

    found = asyncio.run(main())
    assert sorted((result.id, result.reply.content) for result in found) == [
        (place, f"answer to row {place}") for place in range(50)
    ]


def test_a_faulty_row_fails_alone(at):
    with prx.Client(config=config_of(at.server), env={}) as client:
        first, second, third = client.batch(["a", {"prompt": ""}, {"id": "x", "prompt": "b", "model": "a/"}])
        assert (first.reply.content, first.error) == ("answer to a", None)
        assert (second.reply, second.error.kind, second.error.attempts) == (None, "config", 0)
        assert third.id == "x"
        with pytest.raises(prx.ConfigError, match="rows are several"):
            client.batch("one text")
        with pytest.raises(prx.ConfigError, match="in_flight must be"):
            client.batch(["a"], in_flight=0)
        with pytest.raises(ZeroDivisionError):
            list(client.batch(1 / 0 for _ in range(3)))


@pytest.mark.parametrize("ordered", [True, False])
def test_who_takes_nothing_holds_rows_back(at, ordered):
    drawn = []

    def rows():
        for place in range(100_000):
            drawn.append(place)
            yield f"row {place}"

    async def main():
        async with prx.AsyncClient(config=config_of(at.server), env={}) as client:
            async with client.batch(rows(), in_flight=4, ordered=ordered) as results:
                await anext(results)
                await asyncio.sleep(0.5)
                most = len(drawn)
                assert most <= 4 * 8 + 1
                for _ in range(100):
                    await anext(results)
                assert len(drawn) <= most + 100 + 4

    asyncio.run(main())
    drawn.clear()
    with prx.Client(config=config_of(at.server), env={}) as client:
        results = client.batch(rows(), in_flight=4, ordered=ordered)
        next(results)
        time.sleep(0.5)
        assert len(drawn) <= 4 * 8 + 32
        results.close()
    asked = sum(at.server.asked.values())
    time.sleep(0.2)
    assert sum(at.server.asked.values()) == asked


def test_the_journal_is_written_by_one_run_alone(at):
    from prx.batch.journal import Journal

    about = {"input": 1, "settings": {}}
    with Journal(at.folder / "j", about, 3, resume=False) as journal:
        journal.found(1, '{"a":1}')
        with pytest.raises(prx.ConfigError, match="another run is writing"):
            Journal(at.folder / "j", about, 3, resume=True)
    with Journal(at.folder / "j", about, 3, resume=True) as journal:
        assert (journal.done, journal.text(1)) == (1, b'{"a":1}')
    (at.folder / "j").write_bytes((at.folder / "j").read_bytes() + b"{}\n")
    with pytest.raises(prx.ConfigError, match="j:3: is no line of a journal"):
        Journal(at.folder / "j", about, 3, resume=True)


def test_a_quota_that_ends_in_the_middle_costs_no_row(at):
    at.lines("in.jsonl", questions(60))
    answers = at.server.answer
    at.server.answer = lambda prompt, body: (
        setattr(at.server, "refuse", 402 * (len(at.server.answered) >= 20)),
        answers(prompt, body),
    )[1]
    done = at.batch("in.jsonl", "out.jsonl", "--in-flight", "4")
    assert (done.returncode, "the last with quota" in done.stderr) == (1, True), done.stderr
    at.server.answer, at.server.refuse = answers, 0
    assert at.batch("in.jsonl", "out.jsonl", "--resume").returncode == 0
    assert answered(at.read()) == expected(60)
    assert set(at.server.answered.values()) == {1}


# ------------------------------------------------------------------ what changes or fails during a run


@pytest.mark.parametrize("change", ["a row more", "a row less", "other words"])
@pytest.mark.parametrize("order", [(), ("--unordered",)])
def test_an_input_that_is_changed_during_the_run_stops_it(at, change, order):
    table = [f"{place},row {place}\n" for place in range(60)]
    text = "".join(["id,text\n", *table])
    other = {
        "a row more": f"{text}60,row 60\n",
        "a row less": "".join(["id,text\n", *table[1:]]),
        "other words": text.replace("row", "raw"),
    }[change]
    (at.folder / "in.csv").write_text(text)
    at.server.pause = 0.1
    options = ("in.csv", "out.csv", "--prompt", "{text}", "--in-flight", "4", *order)
    started = at.start(*options)
    until = time.monotonic() + 30
    while len(at.server.answered) < 8 and time.monotonic() < until:
        time.sleep(0.01)
    (at.folder / "in.csv").write_text(other)
    _, said = started.communicate(timeout=30)
    assert (started.returncode, "in.csv: has been changed during the run" in said) == (1, True), said
    assert not (at.folder / "out.csv").exists()
    assert not any(prompt.startswith("raw") or prompt == "row 60" for prompt in at.server.asked)
    (at.folder / "in.csv").write_text(text)
    at.server.pause = 0
    done = at.batch(*options, "--resume")
    assert done.returncode == 0, done.stderr
    with (at.folder / "out.csv").open(newline="") as file:
        assert {row["text"]: row["answer"] for row in csv.DictReader(file)} == {
            f"row {place}": f"answer to row {place}" for place in range(60)
        }


def test_a_file_that_is_touched_during_the_run_is_the_same_file(at):
    from prx.batch.files import Source

    at.lines("in.jsonl", questions(2))
    source = Source(at.folder / "in.jsonl")
    source.digest()
    at.lines("in.jsonl", questions(2))
    source.check_same()
    at.lines("in.jsonl", questions(3))
    with pytest.raises(prx.ConfigError, match="has been changed during the run"):
        source.check_same()


def test_a_full_disk_damages_no_journal(at, monkeypatch):
    from prx.batch import journal as module

    about = {"input": 1, "settings": {}}
    write, full = module.os.write, [False]

    def until_full(descriptor, line):
        if full[0] and len(line) < 30:
            raise OSError(28, "No space left on device")
        return write(descriptor, line[:5] if full[0] else line)

    with module.Journal(at.folder / "j", about, 3, resume=False) as journal:
        journal.found(1, '{"a":1}')
        full[0] = True
        monkeypatch.setattr(module.os, "write", until_full)
        with pytest.raises(prx.ConfigError, match="j: cannot be written: No space left on device"):
            journal.found(2, '{"a":2222222}')
        assert journal.done == 1
        full[0] = False
        journal.found(0, '{"a":0}')
    with module.Journal(at.folder / "j", about, 3, resume=True) as journal:
        assert (journal.done, journal.text(1), journal.text(0)) == (2, b'{"a":1}', b'{"a":0}')


# ------------------------------------------------------------------ ids and cells


FAULTS = [
    ('{"id": 2, "prompt": "a"}\n{"prompt": "b"}\n', "out.jsonl", "in.jsonl: row 2 has no id, and row 1 has a number"),
    ('{"id": "x", "prompt": "a"}\n{"prompt": "b"}\n', "out.parquet", "the id of row 1 is a text, and that of row 2 a number"),
    ('{"id": true, "prompt": "a"}\n', "out.jsonl", "in.jsonl:1: the id is a text or a whole number, not true or false"),
    ('{"id": 1.5, "prompt": "a"}\n', "out.jsonl", "in.jsonl:1: the id is a text or a whole number, not a number with"),
    ('{"id": "\\ud800", "prompt": "a"}\n', "out.jsonl", "in.jsonl:1: the id has half a character in it"),
    ('{"prompt": "a", "temperature": NaN}\n', "out.jsonl", "in.jsonl:1: is not JSON: NaN is no JSON"),
    ('{"prompt": "a"}\n', "folder.jsonl", "folder.jsonl: is a folder"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "out", "said"), FAULTS, ids=[row[2][:50] for row in FAULTS])
def test_what_the_output_could_not_hold_is_refused_before_anything_is_sent(at, text, out, said):
    if out.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    (at.folder / "folder.jsonl").mkdir()
    (at.folder / "in.jsonl").write_text(text)
    done = at.batch("in.jsonl", out, "--overwrite")
    assert (done.returncode, said in done.stderr) == (1, True), done.stderr
    assert not at.server.asked
    assert sorted(path.name for path in at.folder.iterdir()) == ["config.toml", "folder.jsonl", "in.jsonl"]


def test_rows_do_not_come_from_what_cannot_be_read_again(at):
    (at.folder / "in.jsonl").mkdir()
    done = at.batch("in.jsonl", "out.jsonl")
    assert (done.returncode, "in.jsonl: is no file; rows are read several times" in done.stderr) == (1, True)


def test_a_cell_may_be_long(at):
    (at.folder / "in.csv").write_text(f"id,text\n1,{'x' * 200_000}\n")
    at.server.reply = lambda prompt: str(len(prompt))
    assert at.batch("in.csv", "out.jsonl", "--prompt", "{text}").returncode == 0
    assert at.read()[0]["answer"] == "200000"


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_several_vectors_of_a_row_are_in_its_cell(at, ending):
    at.lines("in.jsonl", [{"input": ["four", "seven77"]}])
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    done = at.batch("in.jsonl", f"out.{ending}", "--kind", "embed")
    assert done.returncode == 0, done.stderr
    if ending == "csv":
        with (at.folder / "out.csv").open(newline="") as file:
            assert json.loads(next(csv.DictReader(file))["answer"]) == [[4.0, 1.0], [7.0, 1.0]]
    else:
        from pyarrow import parquet

        assert parquet.read_table(at.folder / "out.parquet")["answer"].to_pylist() == [[[4.0, 1.0], [7.0, 1.0]]]


def test_results_that_do_not_fit_in_parquet_can_be_had_as_csv(at):
    pytest.importorskip("pyarrow")
    at.lines("in.jsonl", [{"input": ["four", "seven77"]}, {"input": "one"}])
    done = at.batch("in.jsonl", "out.parquet", "--kind", "embed")
    assert done.returncode == 1
    assert "rename out.parquet.journal to out.csv.journal, and give out.csv and --resume" in done.stderr
    (at.folder / "out.parquet.journal").rename(at.folder / "out.csv.journal")
    asked = sum(at.server.asked.values())
    assert at.batch("in.jsonl", "out.csv", "--kind", "embed", "--resume").returncode == 0
    assert sum(at.server.asked.values()) == asked


def test_a_route_of_several_targets_is_a_model_and_no_key_of_its_targets_is_kept(at):
    other = "sk-other-9876543210"
    with BatchServer(reply=lambda prompt: f"{prompt}: {other}") as second:
        at.server.refuse = 500
        (at.folder / "config.toml").write_text(
            f'[providers.one]\nextends = "compatible"\napi_url = "{at.server.url}"\napi_key = "{KEY}"\n'
            f'[providers.two]\nextends = "compatible"\napi_url = "{second.url}"\napi_key = "{other}"\n'
            '[[model_routes]]\npattern = "both"\ntargets = ["one/m", "two/m"]\npolicy = "order"\n'
        )
        at.lines("in.jsonl", questions(6))
        done = at.batch("in.jsonl", "out.jsonl", "-m", "both", "--dry-run")
        assert done.stdout.startswith("both: 6 calls\n"), done.stderr
        done = at.batch("in.jsonl", "out.jsonl", "-m", "both")
    assert done.returncode == 0, done.stderr
    assert answered(at.read()) == [(f"q{place}", f"row {place}: ***") for place in range(6)]
    assert set(at.server.asked) | set(second.asked) == {f"row {place}" for place in range(6)}


def test_rows_that_end_with_an_error_never_end_as_if_they_were_all():
    from prx.batch.results import BatchResult
    from prx.batch.rows import Terms
    from prx.batch.stream import Results

    class Together:
        """A pool whose four results come in one turn of the event loop."""

        terms = Terms(in_flight=4, ordered=False)

        def __init__(self):
            self.waiting, self.all_there = 0, asyncio.Event()

        async def result(self, index, given):
            self.waiting += 1
            if self.waiting == 4:
                self.all_there.set()
            await self.all_there.wait()
            return BatchResult(index, None, given)

    def rows():
        yield from "abcd"
        raise ZeroDivisionError

    async def main():
        async with Results(Together(), rows()) as results:
            return [result async for result in results]

    with pytest.raises(ZeroDivisionError):
        asyncio.run(main())


# ------------------------------------------------------------------ whose limiter it is

SOURCES = {
    "a command": {"api_key": {"command": ["echo", "sk-from-a-command"]}},
    "several": {"api_key": ["sk-first-of-two", "sk-second-of-two"]},
    "written": {"api_key": "sk-written-there"},
}


def of(settings, url="http://127.0.0.1:1/v1"):
    api = prx.Client({"providers": {"compatible": {"api_url": url, **settings}}}, env=dict(os.environ))
    return limiter_of(api.accounts.get("compatible"), "m")


def test_each_key_has_its_own_also_where_it_is_got_when_a_call_is_made():
    limiters = [of(settings) for settings in SOURCES.values()]
    assert len({*map(id, limiters)}) == len(SOURCES)
    assert [of(settings) for settings in SOURCES.values()] == limiters, "and every client of this process the same"


@pytest.mark.parametrize("source", SOURCES)
def test_a_batch_with_a_key_that_is_got(source):
    with RawServer(response()) as server:
        api = prx.Client(
            {"providers": {"compatible": {"api_url": server.url, **SOURCES[source]}}}, env=dict(os.environ)
        )
        assert [row.reply.content for row in api.batch(["a", "b"], "compatible/m")] == ["hello"] * 2


def test_a_batch_whose_key_is_exchanged(tmp_path):
    text = (
        "spec: 1\nid: mine\nextends: openai-chat\nbase_url: {url}/v1\nauth:\n  credential: [MINE_KEY]\n"
        "  token:\n    url: {url}/token\n    form: {{key: '{{api_key}}'}}\n    answer: {{token: access_token, expires_in: expires_in}}\n"
    )
    with TokenServer() as server:
        (tmp_path / "mine.yaml").write_text(text.format(url=server.url))
        api = prx.Client({}, tmp_path, env={"MINE_KEY": "credential-of-a-batch"})
        assert [row.reply.content for row in api.batch(["a", "b"], "mine/m")] == ["hello"] * 2
        assert len(server.exchanges) == 1


def test_a_key_that_a_provider_repeats_is_in_no_output_wherever_it_was_got(at):
    """One that a command prints is not known before the first call."""
    secret = "sk-printed-by-a-command"
    said = {
        "choices": [{"message": {"role": "assistant", "content": f"your key is {secret}"}, "finish_reason": "stop"}]
    }
    with RawServer(response(200, said)) as server:
        (at.folder / "config.toml").write_text(
            '[default]\nprovider = "compatible"\nmodel = "m"\n'
            f'[providers.compatible]\napi_url = "{server.url}"\napi_key = {{command = ["echo", "{secret}"]}}\n'
        )
        at.lines("in.jsonl", [{"prompt": "which key?"}])
        done = at.batch("in.jsonl", "out.jsonl")
    assert done.returncode == 0, done.stderr
    assert secret not in (at.folder / "out.jsonl").read_text()
    assert "your key is ***" in (at.folder / "out.jsonl").read_text()
