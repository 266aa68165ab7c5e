"""prx conformance --compare and --since: what changed between two runs, and what of it is worse."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from pathlib import Path
from xml.etree import ElementTree as ET

import click
import pytest
import yaml
from helpers import commands
from judges.dialects import Emulator
from test_conformance_jobs import ALL, provider, run

from prx.cli import prx as group
from prx.conformance import compare, compared_page, saved
from prx.conformance.saved import Saved
from prx.errors import ConfigError

KEY = "sk-right-0000"
EXAMPLE = Path(__file__).parents[1] / "docs" / "examples" / "conformance.yml"


def row(outcome, came="", case="chat", provider="p", runs=None, why=""):
    differences = [{"condition": "reply.x == 'a'", "path": "x", "wanted": "a", "came": came}] if came else []
    return {
        "provider": provider, "case": case, "outcome": outcome, "why": why, "failures": [], "evidence": None, "seconds": 0.1,
        "exchanges": [], "came": differences, "tokens": 1, "runs": runs,
    }  # fmt: skip


def of(*rows, name="run"):
    return Saved(name, list(rows))


CHANGES = [
    (row("passed"), row("passed"), "", False),
    (row("passed"), row("failed", "b"), "newly failing", True),
    (row("passed"), row("unclaimed", "b"), "newly failing", True),
    (row("failed", "b"), row("passed"), "newly passing", False),
    (row("failed", "b"), row("failed", "b"), "", False),
    (row("failed", "b"), row("failed", "c"), "changed", False),
    (row("failed", "b"), row("unclaimed", "b"), "no longer claimed", False),
    (row("unclaimed", "b"), row("failed", "b"), "newly failing", False),
    (row("skipped"), row("passed"), "newly claimed", False),
    (row("skipped"), row("failed"), "newly failing", True),
    (row("skipped"), row("unclaimed"), "no longer denied", False),
    (row("passed"), row("skipped"), "newly denied", False),
    (row("passed"), row("limited"), "no verdict", False),
    (row("passed"), row("unasked"), "no verdict", False),
    (row("unrecorded"), row("limited"), "", False),
    (row("error"), row("passed"), "newly passing", False),
    (row("error"), row("failed", "b"), "newly failing", False),
    (row("failed", "not_found: no m (req_01Hx8f2k)"), row("failed", "not_found: no m (req_77Ab19zz)"), "", False),
    (row("failed", "status 401"), row("failed", "status 403"), "changed", False),
    (row("passed", runs={"right": 8, "of": 8}), row("passed", runs={"right": 7, "of": 8}), "changed", False),
    (row("passed", runs={"right": 8, "of": 8}), row("passed", runs={"right": 4, "of": 4}), "", False),
]


@pytest.mark.parametrize(("before", "after", "change", "is_worse"), CHANGES)
def test_what_kind_of_change_it_is(before, after, change, is_worse):
    found = compare.compared(of(before), of(after))
    assert [row.change for row in found.changes] == ([change] if change else [])
    assert found.regressions == is_worse
    assert found.same == (not change)
    judged = after["outcome"] in ("passed", "failed", "unclaimed")
    assert found.holds == (judged and not is_worse)


def test_cases_that_only_one_run_has():
    one, two = row("passed"), row("passed", case="tools")
    assert [(x.case, x.change) for x in compare.compared(of(one, two), of(one)).changes] == [("tools", "only before")]
    assert [(x.case, x.change) for x in compare.compared(of(one), of(one, two)).changes] == [("tools", "only after")]
    assert compare.compared(of(one, two), of(one), partly=True).changes == []


def test_two_providers_are_compared_by_case_and_more_by_name():
    one, other, third = (row("passed", provider=name) for name in "abc")
    assert compare.compared(of(one), of(other)).same == 1
    found = compare.compared(of(one, third), of(other))
    assert [(x.provider, x.change) for x in found.changes] == [
        ("b", "only after"),
        ("a", "only before"),
        ("c", "only before"),
    ]


# ------------------------------------------------------------------ from the command line


@pytest.fixture
def desk(tmp_path):
    with Emulator({"key": KEY}) as emulator:
        provider(tmp_path, emulator.url)
        done = run(
            tmp_path, "mine.yaml", "--live", "--json", "--case", "chat", "--case", "max_tokens", "--case", "tools"
        )
        (tmp_path / "run.json").write_text(done.stdout)
        yield tmp_path, emulator.url


def rewrite(desk, more):
    """The file says something else of the same server."""
    folder, url = desk
    (folder / "c.toml").unlink()
    provider(folder, url, more=more)


WRONG = "response: {finish_reasons: {length: stop}}\n"


def test_only_what_is_otherwise_is_reported(desk):
    folder, _ = desk
    cases = ("--case", "chat", "--case", "max_tokens", "--case", "tools")
    asked = ("--live", "--providers", ".", "--since", "run.json", *cases)
    done = run(folder, *asked)
    assert (done.returncode, done.stdout) == (0, "no worse: 3 the same\n")
    rewrite(desk, f"capabilities: {{tools: false}}\n{WRONG}")
    done = run(folder, *asked)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "mine\tmax_tokens\tnewly failing\tpassed\tfailed: finish_reason: wanted length, came stop",
        "mine\ttools\tnewly failing\tpassed\tfailed: the file says capabilities.tools: false, but the case passes",
        "worse: 2 newly failing, 1 the same",
    ]
    whole = json.loads(run(folder, *asked, "--json").stdout)
    assert (whole["regressions"], whole["same"], whole["verdict"]) == (2, 1, done.stdout.splitlines()[-1])
    first = whole["changes"][0]
    assert (first["case"], first["change"], first["regression"]) == ("max_tokens", "newly failing", True)
    assert (first["before"]["outcome"], first["after"]["came"][0]["came"]) == ("passed", "stop")


def test_what_got_better_is_no_regression(desk):
    folder, _ = desk
    rewrite(desk, WRONG)
    (folder / "run.json").write_text(run(folder, "mine.yaml", "--live", "--json", "--case", "max_tokens").stdout)
    rewrite(desk, "")
    done = run(folder, "--live", "--providers", ".", "--since", "run.json", "--case", "max_tokens")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "no worse: 1 newly passing, 0 the same")


def test_where_nothing_was_judged_nothing_holds(desk):
    folder, _ = desk
    (folder / "c.toml").unlink()
    provider(folder, "http://127.0.0.1:9/v1")
    done = run(folder, "mine.yaml", "--live", "--since", "run.json", "--case", "chat")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (1, "no verdict: 1 no verdict, 0 the same")


def test_a_run_with_a_provider_that_is_run_now(desk):
    folder, _ = desk
    asked = ("--compare", "run.json", "mine.yaml", "--live", "--case", "max_tokens")
    assert run(folder, *asked).stdout == "no worse: 1 the same\n"
    rewrite(desk, WRONG)
    assert run(folder, *asked).returncode == 1
    later = run(folder, "mine.yaml", "--live", "--json", "--case", "max_tokens").stdout
    (folder / "later.json").write_text(later)
    done = run(folder, "--compare", "run.json", "later.json")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (1, "worse: 1 newly failing, 2 only before, 0 the same")
    assert run(folder, "--compare", "later.json", "run.json").returncode == 0


def test_two_providers_from_their_recordings(tmp_path):
    done = commands.run("conformance", "--compare", "llamacpp", "vllm", cwd=tmp_path, timeout=120)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (
        0,
        f"no worse: {len(ALL) + 1} the same",
    )  # and count_tokens, which both files name


def test_the_page_of_a_comparison(desk):
    folder, _ = desk
    rewrite(desk, WRONG)
    done = run(
        folder,
        "mine.yaml",
        "--live",
        "--since",
        "run.json",
        "--html",
        "out.html",
        "--junit",
        "out.xml",
        "--case",
        "max_tokens",
    )
    assert done.returncode == 1
    text = (folder / "out.html").read_text()
    assert "worse: 1 newly failing, 0 the same" in text
    assert "finish_reason: wanted length, came stop" in text
    assert text.count("<summary>The exchange</summary>") == 2
    assert KEY not in text
    assert "Bearer ***" in text
    assert [case.get("name") for case in ET.parse(folder / "out.xml").getroot().iter("testcase")] == ["max_tokens"]


NASTY = "</style></pre><script>alert(1)</script> @rows@ @verdict@ \ud800 & 'x' \""


def test_nothing_a_provider_says_is_read_as_html():
    later = row("failed", NASTY, provider=NASTY, case=NASTY, why=NASTY)
    later["exchanges"] = [{"request": {"method": NASTY, "uri": NASTY, "headers": {NASTY: NASTY}, "json": NASTY}, "response": {"status": 200, "headers": {}, "text": NASTY}}]  # fmt: skip
    text = compared_page.render(compare.compared(of(row("passed", case=NASTY), name=NASTY), of(later, name=NASTY)))
    text.encode()
    assert "<script" not in text
    assert text.count("</style>") == text.count("<style>") == 2
    assert "@rows@" in text, "what was said stays as it was said"
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1]
    blocks = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digests = [f"'sha256-{base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()}'" for block in blocks]
    assert policy == f"default-src 'none'; style-src {' '.join(digests)}; base-uri 'none'; form-action 'none'"


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"results": 1}', '{"results": [{}]}', "\0", "{" * 10_000, '{"results": [{"provider": "p"}]}'],
)
def test_a_file_that_is_not_a_run(tmp_path, text):
    path = tmp_path / "odd.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"odd\.json: is not a run"):
        saved.read(path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--compare", "none.json", "llamacpp"), "none.json: cannot be read: No such file"),
        (("--live", "--since", "none.json"), "none.json: cannot be read"),
        (("--compare", "odd.json", "llamacpp"), "odd.json: is not a run"),
        (("--compare", "llamacpp"), "requires 2 arguments"),
        (("--compare", "a.json", "b.json", "groq"), "--compare names the two sides itself"),
        (("--compare", "a.json", "b.json", "--since", "c.json"), "exclude each other"),
        (("--compare", "a.json", "b.json", "--dry-run"), "--dry-run is of one run"),
        (("--compare", "a.json", "b.json", "--junit", "x.xml"), "--junit is of one run"),
        (("--compare", "a.json", "b.json", "--record"), "leave out --record"),
    ],
)
def test_sides_that_cannot_be_compared_are_2(tmp_path, arguments, words):
    (tmp_path / "odd.json").write_text("{}")
    done = run(tmp_path, *arguments)
    assert (done.returncode, words in done.stderr) == (2, True), done.stderr


def test_an_older_run_is_read_too(tmp_path):
    """From before a report had what came, tokens and runs."""
    old = {name: value for name, value in row("passed").items() if name not in ("came", "tokens", "runs")}
    (tmp_path / "old.json").write_text(json.dumps({"results": [old]}))
    found = compare.compared(saved.read(tmp_path / "old.json"), of(row("failed", "b")))
    assert found.regressions == 1


# ------------------------------------------------------------------ the example for a nightly job


def commands_in_the_example():
    """The words of each prx command: those of the steps, and the one in the comment, without what the shell does."""
    steps = [step for job in yaml.safe_load(EXAMPLE.read_text())["jobs"].values() for step in job["steps"]]
    lines = [step["run"] for step in steps if step.get("run", "").startswith("prx ")]
    lines += re.findall(r"^#   (prx [^>\n]*)", EXAMPLE.read_text(), re.MULTILINE)
    return [shlex.split(line)[1:] for line in lines]


def test_the_example_is_a_workflow():
    whole = yaml.safe_load(EXAMPLE.read_text())
    assert whole[True]["schedule"][0]["cron"], "YAML 1.1 reads the key `on` as true"
    assert whole["permissions"] == {"contents": "read"}
    for step in whole["jobs"]["drift"]["steps"]:
        assert step.keys() & {"run", "uses"}
    assert len(commands_in_the_example()) >= 3


@pytest.mark.parametrize("words", commands_in_the_example(), ids=" ".join)
def test_the_examples_commands_exist(words):
    command = group.get_command(click.Context(group), words[0])
    assert command is not None
    with command.make_context(words[0], words[1:]) as context:
        assert context.params["mode"] == "live"
