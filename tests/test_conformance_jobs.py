"""prx conformance with several jobs, retries and repeats: the same verdict whatever the order in which answers come."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise
from types import SimpleNamespace

import pytest
from helpers import commands
from helpers.byte_server import RawServer, response
from helpers.clock import Clock
from helpers.flaky_server import FlakyServer
from judges.dialects import Emulator

from prx.conformance import cases, repeats
from prx.conformance.limiter import Limiter, Limiters
from prx.conformance.run import Result
from prx.errors import Error
from prx.wire import Head

KEY = "sk-right-0000"
ALL = [case.name for case in cases.load() if not case.kind]  # what a file that names no other call is asked


@pytest.fixture
def clock(monkeypatch):
    """What the limiters tell the time by."""
    clock = Clock(1000.0)
    monkeypatch.setattr("prx.conformance.limiter.time", SimpleNamespace(monotonic=clock))
    return clock


@pytest.fixture
def emulator():
    with Emulator({"key": KEY}) as running:
        yield running


def provider(folder, url, name="mine", more=""):
    """A provider's file and its configuration."""
    (folder / f"{name}.yaml").write_text(
        f"spec: 1\nid: {name}\nextends: openai-chat\nbase_url: {url}\nauth: {{style: bearer}}\nretry: {{wait: 0.02}}\n{more}"
    )
    with (folder / "c.toml").open("a") as file:
        file.write(f'[providers.{name}]\napi_url = "{url}"\napi_key = "{KEY}"\nmodel = "words"\n')
    return f"{name}.yaml"


def run(folder, *arguments):
    done = commands.run("conformance", "--config", "c.toml", *arguments, cwd=folder, timeout=120)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def rows(done):
    return {(row["provider"], row["case"]): row for row in json.loads(done.stdout)["results"]}


# ------------------------------------------------------------------ a server that fails


def test_a_server_that_fails_a_third_of_the_time_gives_the_same_verdict_three_times(tmp_path, emulator):
    """26 cases, 8 at a time, each with 8 more attempts, against 30 % of failing requests: another third fails each time."""
    verdicts = []
    for seed in range(3):
        with FlakyServer(emulator.url, share=0.3, seed=seed) as flaky:
            folder = tmp_path / str(seed)
            folder.mkdir()
            file = provider(folder, flaky.url)
            done = run(folder, file, "--live", "--jobs", "8", "--retries", "8", "--json")
        whole = json.loads(done.stdout)
        failed = sum(count for way, count in flaky.counts.items() if way)
        assert failed >= 4, flaky.counts
        assert flaky.most > 1, "nothing was asked at the same time"
        outcomes = [(row["case"], row["outcome"]) for row in whole["results"]]
        verdicts.append((done.returncode, whole["verdict"], outcomes))
    assert verdicts[0] == verdicts[1] == verdicts[2]
    assert verdicts[0][:2] == (0, f"conforms: {len(ALL)} of {len(ALL)} asked")
    assert [case for case, _ in verdicts[0][2]] == ALL


def test_without_retries_such_a_server_has_no_verdict(tmp_path, emulator):
    with FlakyServer(emulator.url, share=0.3, seed=1) as flaky:
        done = run(tmp_path, provider(tmp_path, flaky.url), "--live", "--jobs", "8", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["verdict"].startswith("no verdict: "), "busy is not wrong"


def test_the_list_of_models_is_asked_again_too(tmp_path, emulator):
    with FlakyServer(emulator.url, share=0.5, seed=0, ways=((503, {}),)) as flaky:
        done = run(
            tmp_path, provider(tmp_path, flaky.url), "--live", "--retries", "20", "--case", "models", "--repeat", "4"
        )
    assert done.returncode == 0, done.stdout
    assert flaky.counts["503"] > 0


# ------------------------------------------------------------------ jobs


def test_the_report_does_not_depend_on_jobs(tmp_path, emulator):
    with FlakyServer(emulator.url, pause=0.02) as slow:
        files = [provider(tmp_path, slow.url, name) for name in ("mine", "other", "third")]
        chosen = [word for name in ("tools", "chat", "models", "usage") for word in ("--case", name)]
        said, reports = [], []
        for count in ("1", "6"):
            slow.most = 0
            asked = (*files, "--live", *chosen, "--jobs", count)
            said.append(run(tmp_path, *asked).stdout)
            most = slow.most
            reports.append(list(rows(run(tmp_path, *asked, "--json"))))
            assert most == 1 if count == "1" else most > 1
    assert said[0] == said[1]
    assert reports[0] == reports[1]
    assert [name for name, _ in reports[0]] == ["mine"] * 4 + ["other"] * 4 + ["third"] * 4


def test_playing_back_with_jobs(tmp_path):
    done = [
        commands.run("conformance", "llamacpp", "vllm", "--jobs", jobs, cwd=tmp_path, timeout=120)
        for jobs in ("1", "4")
    ]
    assert done[0].returncode == 0
    assert done[0].stdout == done[1].stdout


def test_an_interrupted_run_with_jobs_ends_at_once_and_goes_on(tmp_path, emulator):
    with FlakyServer(emulator.url) as server:
        file = provider(tmp_path, server.url)
        arguments = ["conformance", "--config", "c.toml", file, "--live", "--jobs", "4", "--resume", "state.jsonl"]
        running = subprocess.Popen(
            [sys.executable, "-m", "prx", *arguments, "--rate", "300"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )  # fmt: skip
        state = tmp_path / "state.jsonl"
        until = time.monotonic() + 30
        while time.monotonic() < until and (not state.exists() or len(state.read_text().splitlines()) < 3):
            time.sleep(0.02)
        server.pause = 60  # what is under way would take a minute
        time.sleep(0.5)
        running.send_signal(signal.SIGINT)
        started = time.monotonic()
        _, errors = running.communicate(timeout=30)
        assert (running.returncode, time.monotonic() - started < 5) == (130, True)
        assert "Traceback" not in errors
        before = len(state.read_text().splitlines())
        assert 3 <= before < len(ALL)
        server.pause = 0.0
        asked = sum(server.counts.values())
        done = commands.run(*arguments, "--json", cwd=tmp_path, timeout=120)
    assert (done.returncode, len(rows(done))) == (0, len(ALL))
    assert sum(server.counts.values()) - asked <= len(ALL) - before + 4, "what was known was not asked again"


def test_one_429_holds_back_what_all_jobs_of_the_provider_send(tmp_path, emulator):
    """Two jobs: the two requests that are under way, then the pause, and then the rest; the other provider does not wait."""
    with (
        FlakyServer(emulator.url, script=[(429, {"retry-after-ms": "800"})]) as busy,
        FlakyServer(emulator.url, pause=0.05) as other,
    ):
        files = [provider(tmp_path, busy.url), provider(tmp_path, other.url, "other")]
        chosen = [word for name in ("chat", "usage", "system", "unicode", "stop") for word in ("--case", name)]
        done = run(tmp_path, *files, "--live", "--jobs", "4", "--retries", "1", *chosen)
    assert done.returncode == 0, done.stdout
    pause = max(later - earlier for earlier, later in pairwise(busy.begun))
    early = [when for when in busy.begun if when < busy.begun[0] + 0.7]
    assert pause > 0.6
    assert len(early) <= 4, "what was under way when the 429 came"
    assert len(busy.begun) == 6
    assert other.begun[-1] < busy.begun[0] + 0.7


# ------------------------------------------------------------------ the limiter


def head(status, **headers):
    return Head(status, {name.replace("_", "-"): value for name, value in headers.items()}, time.time())


def begins_after(limiter):
    started = time.monotonic()
    limiter.wait()
    return time.monotonic() - started


def test_all_jobs_of_an_account_wait_where_one_is_told_to():
    limiters = Limiters()
    limiter = limiters.of("http://a.example/v1")
    limiter.heard(head(503, retry_after="0.3"))
    waited = []
    threads = [threading.Thread(target=lambda: waited.append(begins_after(limiter))) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert begins_after(limiters.of("http://b.example/v1")) < 0.1, "another account does not wait"
    for thread in threads:
        thread.join()
    assert all(0.25 < seconds < 2 for seconds in waited), waited
    assert limiters.of("http://a.example/other") is limiter, "another path of the host is the same account"


@pytest.mark.parametrize(
    ("heads", "seconds"),
    [
        ([head(429)], 0.5),
        ([head(429), head(429)], 1),
        ([head(429), head(200), head(429)], 0.5),
        ([head(429, retry_after_ms="100")], 0.1),
        ([head(200, retry_after="5")], 0),
        ([head(500)], 0),
        ([head(429, retry_after="3600")], 0),  # a call that is told this fails, and so do all others
    ],
)
def test_how_long_a_response_holds_requests_back(clock, heads, seconds):
    limiter = Limiter()
    for each in heads:
        limiter.heard(each)
    assert limiter.turn() == pytest.approx(seconds)


def test_a_rate_spreads_requests_evenly(clock):
    limiter = Limiter(per_minute=600)
    for _ in range(4):
        assert limiter.turn() == 0
        assert limiter.turn() == pytest.approx(0.1)
        clock.now += 0.1


def test_a_stopped_limiter_lets_nothing_begin():
    limiter = Limiter()
    limiter.heard(head(429, retry_after="30"))
    threading.Timer(0.1, limiter.stop).start()
    with pytest.raises(Error, match="closed"):
        limiter.wait()


# ------------------------------------------------------------------ repeats


def result(outcome, why=""):
    return Result("p", "c", outcome, why, seconds=1.0, tokens=10)


@pytest.mark.parametrize(
    ("outcomes", "share", "outcome", "runs"),
    [
        (["passed"] * 4, 1.0, "passed", (4, 4)),
        (["passed", "failed", "passed", "passed"], 1.0, "failed", (3, 4)),
        (["passed", "failed", "passed", "passed"], 0.75, "passed", (3, 4)),
        (["failed"] + ["passed"] * 7, 0.8, "passed", (7, 8)),
        (["failed"] * 2 + ["passed"] * 6, 0.8, "failed", (6, 8)),
        (["failed"] * 3 + ["passed"] * 7, 0.7, "passed", (7, 10)),
        (["passed", "limited", "passed", "passed"], 1.0, "limited", (3, 4)),
        (["passed", "limited", "failed", "passed"], 1.0, "failed", (2, 4)),
        (["error", "error", "error", "passed"], 0.5, "error", (1, 4)),
        (["passed", "unclaimed"], 1.0, "unclaimed", (1, 2)),
        (["skipped", "skipped"], 1.0, "skipped", (0, 0)),
        (["skipped", "failed"], 1.0, "failed", (1, 2)),
    ],
)
def test_several_runs_are_one_result(outcomes, share, outcome, runs):
    found = repeats.merged([result(each, "" if each == "passed" else f"was {each}") for each in outcomes], share)
    assert (found.outcome, found.runs) == (outcome, runs)
    if runs[1] and len(set(outcomes)) > 1:
        assert found.why.startswith(f"{runs[0]} of {runs[1]} passed; was ")
    if runs[1]:
        assert (found.seconds, found.tokens) == (float(len(outcomes)), 10 * len(outcomes))


def test_the_pass_rate_is_said(tmp_path, emulator):
    """A server that answers every fourth request with another reason why it ended."""
    answer = {"model": "words", "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello!"}, "finish_reason": "stop"}],
              "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}  # fmt: skip
    cut = json.loads(json.dumps(answer).replace('"stop"', '"length"'))
    for share, code, outcome in (("1", 1, "failed"), ("0.7", 0, "passed")):
        scripts = [response(200, cut if place % 4 == 1 else answer) for place in range(8)]
        with RawServer(*scripts) as server:
            folder = tmp_path / share
            folder.mkdir()
            file = provider(folder, server.url)
            done = run(folder, file, "--live", "--case", "chat", "--repeat", "8", "--pass-rate", share, "--json")
        row = rows(done)["mine", "chat"]
        assert (done.returncode, row["outcome"]) == (code, outcome)
        assert row["runs"] == {"right": 6, "of": 8}
        assert row["why"] == "6 of 8 passed; finish_reason: wanted stop, came length"


def test_a_run_that_is_resumed_counts_its_repeats(tmp_path, emulator):
    with FlakyServer(emulator.url) as server:
        file = provider(tmp_path, server.url)
        asked = (file, "--live", "--case", "chat", "--resume", "state.jsonl", "--repeat")
        counts = []
        for repeat in ("1", "3", "3"):
            assert run(tmp_path, *asked, repeat).returncode == 0
            counts.append(sum(server.counts.values()))
    assert counts == [1, 4, 4]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--jobs", "0"), "0 is not in the range 1<=x<=64"),
        (("--live", "--retries", "-1"), "-1 is not in the range"),
        (("--live", "--repeat", "2", "--pass-rate", "0"), "0.0 is not in the range"),
        (("--repeat", "2"), "--repeat is for calls of providers: add --live"),
        (("--retries", "2"), "--retries is for calls of providers: add --live"),
        (("--rate", "2"), "--rate is for calls of providers: add --live"),
        (("--live", "--pass-rate", "0.5"), "--pass-rate is a share of the runs of a case: add --repeat"),
        (("--record", "--jobs", "2"), "--record writes one exchange after another: leave out --jobs"),
    ],
)
def test_options_that_cannot_be_used_are_2(tmp_path, arguments, words):
    done = run(tmp_path, "groq", *arguments)
    assert done.returncode == 2
    assert words in done.stderr
