"""prx check: what it finds in files together, its three forms of output, its exit codes, and the hook of pre-commit."""

from __future__ import annotations

import json
import os
import re
import shlex
import urllib.parse
from pathlib import Path

import pytest
import yaml
from helpers import commands

from prx.accounts.config import Route
from prx.accounts.routes import taker

ROOT = Path(__file__).parents[1]
FILE = "spec: 1\nid: {id}\nextends: {extends}\nbase_url: http://localhost:1\n"


def prx(*arguments, cwd=None, **env):
    done = commands.run(*arguments, env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **env}, cwd=cwd)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def rows(*arguments):
    return json.loads(prx("check", "--json", *arguments).stdout)


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
        return path

    return write


def test_files_and_a_configuration_see_the_names_of_each_other(write):
    base = write("providers.d/base.yaml", FILE.format(id="base", extends="openai-chat"))
    child = write("more/child.yaml", FILE.format(id="child", extends="base"))
    config = write(
        "config.toml", '[default]\nprovider = "child"\n[[model_routes]]\npattern = "x/*"\nprovider = "base"\n'
    )
    done = prx("check", base.parent, child, config)
    assert done.stdout.splitlines() == [f"{base}: good", f"{child}: good", f"{config}: good"]
    assert done.returncode == 0
    assert [row["code"] for row in rows(config)] == ["unknown-name"] * 2


def test_a_file_is_checked_once(write):
    path = write("a.yaml", FILE.format(id="a", extends="openai-chat"))
    assert prx("check", path, path, path.parent).stdout == f"{path}: good\n"


@pytest.mark.parametrize(
    ("text", "line", "code", "words"),
    [
        ('[[model_routes]]\npattern = "a/*"\nprovider = "gorq"\n', 3, "unknown-name", "did you mean 'groq'?"),
        ('[[model_routes]]\npattern = "a/*"\n', 1, "route-to-nothing", "there is no default"),
        ('[[model_routes]]\npattern = "a"\nprovider = "groq"\nmodel = "x-{nmae}"\n', 4, "route-model", "{nmae} would be sent"),
        (
            '[[model_routes]]\npattern = "a/*"\nprovider = "groq"\n[[model_routes]]\npattern = "a/b*"\nprovider = "groq"\n',
            5, "route-never-used", "route 1, 'a/*', comes first",
        ),
        ('[providers.groq.headers]\nx-a = "${A-B}"\n', 2, "form", "names no variable"),
    ],
)  # fmt: skip
def test_faults_of_a_configuration(write, text, line, code, words):
    (row,) = rows(write("config.toml", text))
    assert (row["line"], row["code"]) == (line, code)
    assert words in f"{row['message']}; {row['hint']}"


def test_a_configuration_without_these_faults(write):
    text = (
        '[default]\nprovider = "groq"\n[[model_routes]]\npattern = "a/b*"\n[[model_routes]]\npattern = "a/*"\nmodel = "x-{name}"\n'
        '[[model_routes]]\npattern = "local"\napi_url = "http://localhost:1"\n'
    )
    assert rows(write("config.toml", text)) == []


@pytest.mark.parametrize(
    ("earlier", "later", "takes"),
    [
        ("*", "a/*", True), ("a*", "ab", True), ("a*", "*", False), ("a*b", "a*c*b", True), ("a?", "a*", False),
        ("a?", "a?", True), ("[ab]", "a", False), ("*x", "a*", False), ("a/*", "b/*", False), ("a*", "a[xy]", True),
    ],
)  # fmt: skip
def test_which_pattern_takes_all_of_another(earlier, later, takes):
    assert (taker((Route(earlier),), Route(later)) == 0) is takes


def test_an_alias_by_which_another_is_found(write):
    path = write("p/a.yaml", FILE.format(id="a", extends="openai-chat") + "aliases: [mine, groq]\n")
    (row,) = rows(path)
    assert (row["line"], row["code"], row["path"]) == (5, "alias", "aliases[1]")
    assert "groq.yaml, not to this file" in row["message"]


def test_the_shape_of_json(write):
    path = write("bad.yaml", FILE.format(id="bad", extends="openai-chta"))
    assert rows(path) == [
        {
            "file": str(path), "line": 3, "column": 1, "path": "extends", "severity": "error", "code": "extends",
            "message": "unknown dialect or provider 'openai-chta'", "hint": "did you mean 'openai-chat'?",
        }
    ]  # fmt: skip


def test_annotations_for_github(write):
    path = write("a, 100%: b/bad.yaml", FILE.format(id="bad", extends="'100%'"))
    done = prx("check", "--github", path)
    found = re.fullmatch(r"::error file=([^:,]+),line=3,col=1::(.*)\n", done.stdout)
    assert found, done.stdout
    assert urllib.parse.unquote(found[1]) == str(path)
    assert found[1].endswith("a%2C 100%25%3A b/bad.yaml")
    assert "'100%25'" in found[2]
    assert done.returncode == 1
    text = '[[model_routes]]\npattern = "*"\nprovider = "groq"\n' * 2
    assert prx("check", "--github", write("config.toml", text)).stdout.startswith("::warning file=")
    good = prx("check", "--github", write("good.yaml", FILE.format(id="good", extends="openai-chat")))
    assert (good.stdout, good.returncode) == ("", 0)


def test_nothing_to_read(tmp_path, write):
    for arguments, words in (
        ((), "there is no provider file or config.toml of yours to check"),
        ((tmp_path,), "there is no .yaml file in this folder"),
        ((tmp_path / "none.yaml",), "none.yaml: cannot be read"),
        ((tmp_path / "none.toml",), "none.toml: cannot be read"),
        (("--providers", tmp_path / "none"), "there is no such folder"),
        (("--json", "--github"), "cannot be used together"),
    ):
        done = prx("check", *arguments)
        assert done.returncode == 2, (arguments, done)
        assert words in done.stderr + done.stdout, (arguments, done)
    good = write("good.yaml", FILE.format(id="good", extends="openai-chat"))
    assert prx("check", tmp_path / "none.yaml", good).returncode == 1


def test_the_hook_of_pre_commit(write, tmp_path):
    """Its pattern chooses the files, and its entry, with their names behind it, tells good from bad ones."""
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert (hook["id"], hook["language"]) == ("prx-check", "python")
    good = write("providers.d/good.yaml", FILE.format(id="good", extends="openai-chat"))
    bad = write("providers.d/_dialects/bad.yml", "spec: 2\nid: bad\n")
    config = write("config.toml", '[default]\nprovider = "good"\n')
    other = write("docker-compose.yaml", "services: {}\n")
    names = [str(path.relative_to(tmp_path)) for path in (good, bad, config, other)]
    chosen = [name for name in names if re.search(hook["files"], name)]
    assert chosen == names[:3]
    program, *arguments = shlex.split(hook["entry"])
    assert program == "prx"
    assert prx(*arguments, *names[:1], names[2], cwd=tmp_path).returncode == 0
    done = prx(*arguments, *chosen, cwd=tmp_path)
    assert done.returncode == 1
    assert f"{names[1]}:1:1: spec" in done.stdout
