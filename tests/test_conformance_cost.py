"""prx conformance says what a live run may cost before it begins, and stops at its budget."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers.flaky_server import FlakyServer
from judges.dialects import Emulator
from test_conformance_jobs import ALL, provider, rows, run

from prx.conformance import cases, cost
from prx.conformance.evidence import Evidence
from prx.conformance.run import Result
from prx.spec.loader import Loader

CHATS = [case for case in cases.load() if not case.kind]  # what a file that names no other call is asked
TOKENS = sum(case.call.get("max_tokens", 0) for case in CHATS)


@pytest.fixture
def server():
    with Emulator({"key": "sk-right-0000"}) as emulator, FlakyServer(emulator.url) as counting:
        yield counting


def test_what_it_may_take_is_said_before_it_begins(tmp_path, server):
    files = [provider(tmp_path, server.url, name) for name in ("mine", "other")]
    said = f"{2 * len(ALL)} calls to 2 providers, at most {2 * TOKENS} output tokens; provider files have no prices\n"
    assert run(tmp_path, *files, "--live").stderr == said
    chosen = ("--live", "--case", "chat", "--case", "models")
    assert run(tmp_path, files[0], *chosen).stderr == "", "one file, each case once"
    assert run(tmp_path, files[0], *chosen, "--repeat", "3", "--retries", "2").stderr == (
        "6 calls to 1 provider, at most 180 output tokens; each call up to 3 times where it fails; provider files have no prices\n"
    )


def test_a_dry_run_sends_nothing(tmp_path, server):
    files = [provider(tmp_path, server.url, name) for name in ("mine", "other")]
    done = run(tmp_path, *files, "--live", "--dry-run", "--html", "out.html")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        f"mine\t{len(ALL)}\t{TOKENS}",
        f"other\t{len(ALL)}\t{TOKENS}",
        f"{2 * len(ALL)} calls to 2 providers, at most {2 * TOKENS} output tokens; provider files have no prices",
    ]
    whole = json.loads(
        run(tmp_path, files[0], "--live", "--dry-run", "--json", "--case", "chat", "--repeat", "2").stdout
    )
    assert (whole["calls"], whole["tokens"], whole["providers"][0]["provider"]) == (2, 120, "mine")
    assert run(tmp_path, "llamacpp", "--dry-run").stdout == "recordings of 1 provider are played: no calls\n"
    assert server.counts.total() == 0
    assert not (tmp_path / "out.html").exists()


def test_a_dry_run_counts_only_what_is_left(tmp_path, server):
    file = provider(tmp_path, server.url)
    run(tmp_path, file, "--live", "--case", "chat", "--resume", "state.jsonl")
    done = run(tmp_path, file, "--live", "--case", "chat", "--case", "usage", "--resume", "state.jsonl", "--dry-run")
    assert done.stdout.splitlines()[0] == "mine\t1\t60"


@pytest.mark.parametrize("jobs", ["1", "3"])
def test_no_case_begins_when_the_budget_is_used_up(tmp_path, server, jobs):
    file = provider(tmp_path, server.url)
    asked = (file, "--live", "--resume", "state.jsonl")
    done = run(tmp_path, *asked, "--budget", "60", "--jobs", jobs, "--json")
    found = rows(done)
    left = [case for (_, case), row in found.items() if row["outcome"] == "unasked"]
    used = sum(row["tokens"] or 0 for row in found.values())
    assert done.returncode == 1
    assert len(found) == len(ALL)
    assert 0 < len(left) < len(ALL)
    assert server.counts.total() == len(ALL) - len(left)
    assert 60 <= used < 60 + 400, "only the last case may go beyond the budget"
    assert json.loads(done.stdout)["verdict"].endswith(f", {len(left)} not asked")
    assert f"no verdict: {len(ALL) - len(left)} of {len(ALL) - len(left)} asked" in json.loads(done.stdout)["verdict"]
    assert found["mine", left[0]]["why"] == "the budget of 60 tokens was used up"
    again = run(tmp_path, *asked)
    assert (again.returncode, again.stdout.splitlines()[-1]) == (0, f"conforms: {len(ALL)} of {len(ALL)} asked")


def test_what_an_answer_does_not_report_counts_as_all_that_was_asked_for():
    chat = next(case for case in cases.load() if case.name == "chat")
    evidence = Evidence("live", "w", "d", "u", "m")
    budget = cost.Budget(100)
    for tokens, there, used in ((30, evidence, 30), (None, evidence, 90), (0, evidence, 90), (None, None, 90)):
        assert budget.begin(chat)
        budget.end(chat, Result("p", "chat", tokens=tokens, evidence=there))
        assert budget.used == used
    assert budget.begin(chat)
    budget.end(chat, Result("p", "chat", tokens=10, evidence=evidence))
    assert not budget.begin(chat)
    assert cost.Budget().begin(chat)


def test_a_case_waits_for_those_that_run_where_they_may_use_up_the_budget():
    chat = next(case for case in cases.load() if case.name == "chat")
    evidence = Evidence("live", "w", "d", "u", "m")
    budget = cost.Budget(cost.limit_of(chat) + 2)
    assert budget.begin(chat)
    assert budget.begin(chat)
    with ThreadPoolExecutor() as pool:
        third = pool.submit(budget.begin, chat)
        with pytest.raises(TimeoutError):
            third.result(0.2)
        budget.end(chat, Result("p", "chat", tokens=1, evidence=evidence))
        assert third.result(5)
        fourth = pool.submit(budget.begin, chat)
        budget.end(chat, Result("p", "chat", tokens=cost.limit_of(chat) + 1, evidence=evidence))
        assert fourth.result(5) is False


def test_a_provider_without_keys_is_not_asked_with_a_wrong_one(tmp_path):
    (tmp_path / "open.yaml").write_text(
        "spec: 1\nid: open\nextends: openai-chat\nbase_url: http://localhost:1/v1\nauth: {style: none}\n"
    )
    spec = Loader([tmp_path]).get("open").spec()
    assert cost.estimate(spec, CHATS, 1).calls == len(ALL) - 1
    assert cost.estimate(spec, [cases.Case("c", "t", "text", (), call={"messages": "hi"})], 2) == ("open", 2, 0, 2)
    assert "and 2 calls without a limit" in cost.sentence([cost.Estimate("open", 2, 0, 2)], 0, None)


def test_a_budget_is_for_live_runs(tmp_path):
    done = run(tmp_path, "groq", "--budget", "5")
    assert (done.returncode, "--budget is for calls of providers: add --live" in done.stderr) == (2, True)
