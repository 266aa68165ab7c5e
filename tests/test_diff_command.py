"""prx diff: what it says of two files, two folders, two revisions; groups; refusals; exit codes."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from helpers import commands

from prx.compare.changes import sample
from prx.spec.resolve import fits

FILE = "spec: 1\nid: {id}\nextends: openai-chat\nbase_url: https://x.example/v1\nauth: {{style: bearer, env: MY_KEY}}\n"
ENV = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}


@pytest.fixture
def write(tmp_path):
    def write(name, more=""):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(FILE.format(id=path.stem) + more)
        return path

    return write


def diff(*arguments, cwd=None):
    done = commands.run("diff", *arguments, env=ENV, cwd=cwd)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def changes(*arguments, cwd=None):
    """{(calls, path): (before, after)}; "-" for what is absent."""
    rows = json.loads(diff("--json", *arguments, cwd=cwd).stdout)["changes"]
    return {(*row["calls"], row["path"]): (row.get("before", "-"), row.get("after", "-")) for row in rows}


RENAMED = "request: {parameters: {max_tokens: {rename: max_completion_tokens}}}\n"


def test_no_change_of_what_is_sent_or_read(write):
    done = diff(write("a.yaml"), write("b.yaml", "docs: https://x.example/docs\nname: Another\n"))
    assert (done.returncode, done.stdout) == (0, "no change\n")
    assert json.loads(diff("--json", write("a.yaml"), write("b.yaml")).stdout) == {"changes": [], "faults": []}


def test_a_change_of_a_body(write):
    old, new = write("a.yaml"), write("b.yaml", RENAMED)
    assert changes(old, new) == {
        ("sampling", "body.max_tokens"): (16, "-"),
        ("sampling", "body.max_completion_tokens"): ("-", 16),
    }
    done = diff(old, new)
    assert done.returncode == 1
    assert done.stdout == (
        "b\n  sampling  body.max_tokens             16 → absent\n  sampling  body.max_completion_tokens  absent → 16\n"
    )


def test_a_change_of_url_headers_and_key(write, tmp_path):
    old = write("a.yaml")
    new = tmp_path / "b.yaml"
    new.write_text(
        old.read_text().replace("id: a", "id: b").replace("x.example/v1", "y.example/v2").replace("bearer", "x-api-key")
    )
    done = diff(old, new)
    assert (
        "every call  url                    https://x.example/v1/chat/completions → https://y.example/v2/chat/completions"
        in done.stdout
    )
    assert changes(old, new)[(*_every(), "headers.authorization")] == ("Bearer ***", "-")
    assert changes(old, new)[(*_every(), "headers.x-api-key")] == ("-", "***")


def _every():
    from prx.compare.calls import CALLS

    return tuple(CALLS)


def test_a_refusal_is_one_change(write):
    found = changes(write("a.yaml"), write("b.yaml", "capabilities: {vision: false}\n"))
    assert found.keys() == {("image", "request"), ("capabilities.vision",)}
    before, after = found["image", "request"]
    assert before == "sent"
    assert after.startswith("refused: does not support pictures")


def test_a_change_of_reading(write):
    more = "retry: {times: 5}\nresponse: {finish_reasons: {done: stop}}\nerrors: {rules: {mine: {when: code, kind: quota}}}\n"
    found = changes(write("a.yaml"), write("b.yaml", more))
    assert found["retry.times",] == (2, 5)
    assert found["response.finish_reasons.done",] == ("-", "stop")
    assert found["errors.rules.mine.kind",] == ("-", "quota")


def test_a_change_for_some_models_only(write):
    done = diff(
        write("a.yaml"),
        write("b.yaml", "overrides:\n  - {model: 'o?-*', request: {parameters: {temperature: {drop: true}}}}\n"),
    )
    assert done.stdout == "b (models o?-*)\n  sampling  body.temperature  0.5 → absent\n"


@pytest.mark.parametrize("pattern", ["*", "a*", "*gpt-oss*", "o?-*", "x[ab]y*", "plain", "a?[cd]*"])
def test_a_name_that_fits_a_pattern(pattern):
    assert fits(pattern, sample(pattern))


def test_equal_changes_of_many_providers_are_one(write, tmp_path):
    for name in ("a", "b", "c"):
        write(f"old/{name}.yaml")
        write(f"new/{name}.yaml", RENAMED + ("retry: {times: 5}\n" if name == "c" else ""))
    write("new/d.yaml")
    assert diff(tmp_path / "old", tmp_path / "new").stdout.splitlines() == [
        "3 providers: a, b, c",
        "  sampling  body.max_tokens             16 → absent",
        "  sampling  body.max_completion_tokens  absent → 16",
        "",
        "c",
        "  reading  retry.times  2 → 5",
        "",
        "d",
        "  file  provider  absent → present",
    ]


def test_a_dialect_of_a_folder_counts_for_those_that_extend_it(write, tmp_path):
    for side, reads in (("old", "choices[0].text"), ("new", "choices[0].words")):
        write(f"{side}/_dialects/own.yaml", f"response: {{content: '{reads}'}}\n")
        path = write(f"{side}/a.yaml")
        path.write_text(path.read_text().replace("openai-chat", "own"))
    assert diff(tmp_path / "old", tmp_path / "new").stdout == (
        "2 providers: a, dialect own\n  reading  response.content  choices[0].text → choices[0].words\n"
    )


@pytest.fixture
def repository(write, tmp_path):
    path = write("providers.d/mine.yaml")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-C", str(tmp_path)]

    def commit(name):
        for command in (["add", "."], ["commit", "-qm", name], ["tag", name]):
            subprocess.run([*git, *command], check=True, env=ENV)

    subprocess.run([*git, "init", "-q"], check=True, env=ENV)
    commit("one")
    path.write_text(path.read_text() + RENAMED)
    commit("two")
    path.write_text(path.read_text() + "retry: {times: 5}\n")
    return tmp_path


def test_revisions(repository):
    renamed = {("sampling", "body.max_tokens"), ("sampling", "body.max_completion_tokens")}
    both = {*renamed, ("retry.times",)}
    for arguments, expected in (
        (("--git", "one", "two"), renamed),
        (("one", "two"), renamed),
        (("--git", "one"), both),
        (("one",), both),
        (("--git", "two"), {("retry.times",)}),
        (("--git", "one", "two", "providers.d"), renamed),
        (("--git", "one", "providers.d/mine.yaml"), both),
        (("--git", "two", "two"), set()),
    ):
        assert changes(*arguments, cwd=repository).keys() == expected, arguments


def test_a_faulty_file_of_a_revision(repository):
    (repository / "providers.d" / "mine.yaml").write_text("spec: 1\nid: mine\nextends: openai-chta\n")
    done = diff("--git", "one", cwd=repository)
    assert done.returncode == 2
    assert "providers.d/mine.yaml:3:1: extends: unknown dialect" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_bad_input(write, tmp_path, repository):
    good = write("good.yaml")
    for arguments, words in (
        ((good,), "only one side is named"),
        ((good, tmp_path / "none.yaml"), "none.yaml: there is no such file, folder or revision"),
        ((tmp_path / "none.yaml", good), "none.yaml: there is no such file or folder, and no such revision in git"),
        ((good, tmp_path), "one is a folder, the other a file"),
        (("--git", "nosuch"), "nosuch: there is no such file or folder, and no such revision in git"),
        (("--git", "--", "--output=x"), "--output=x: there is no such file or folder, and no such revision in git"),
        (("--git", "one", "two", "nosuch"), "nosuch: there is no such folder"),
        (("--git", "one", "two", "a", "b"), "too many arguments"),
        ((good, write("bad.yaml", "x: 1\n")), "bad.yaml:6:1: x: unknown key 'x'"),
        ((), "Missing argument"),
    ):
        done = diff(*arguments, cwd=repository)
        assert done.returncode == 2, (arguments, done)
        assert words in done.stderr, (arguments, done.stderr)
    assert not (repository / "x").exists()
