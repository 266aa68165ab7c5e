"""The pages: generated ones are fresh, examples work, links lead somewhere, and nothing speaks of this machine."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
import yaml

import prx
from prx.spec.loader import Loader

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


def blocks(language):
    for page in PAGES:
        text = page.read_text()
        for found in re.finditer(rf"^( *)```{language}\n(.*?)^\1```", text, re.MULTILINE | re.DOTALL):
            indent = found[1]
            yield page.name, "\n".join(line.removeprefix(indent) for line in found[2].splitlines()) + "\n"


def test_generated_pages_are_fresh():
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# The dialect's page builds one file, block by block; test_write_a_dialect.py follows it and checks every state of that file.
FOLLOWED = "write-a-dialect.md"


@pytest.mark.parametrize(("page", "text"), [block for block in blocks("yaml") if block[0] != FOLLOWED])
def test_yaml_examples_are_right(page, text, tmp_path):
    """A whole file as it is; a part of one on top of the smallest file."""
    value = yaml.safe_load(text)
    whole = (
        value
        if "spec" in value
        else {"spec": 1, "id": "mine", "extends": "openai-chat", "base_url": "https://x.example/v1", **value}
    )
    path = tmp_path / f"{whole['id']}.yaml"
    path.write_text(text if "spec" in value else yaml.safe_dump(whole, sort_keys=False))
    assert Loader().check(path)[1] == []


@pytest.mark.parametrize(("page", "text"), list(blocks("toml")))
def test_toml_examples_are_right(page, text):
    prx.Client(config=tomllib.loads(text), env={})


@pytest.mark.parametrize(("page", "text"), list(blocks("python")))
def test_python_examples_compile(page, text):
    compile(text, page, "exec")


@pytest.mark.parametrize(("page", "text"), list(blocks("sh")))
def test_commands_in_the_pages_exist(page, text):
    from prx.cli import prx as group

    for line in text.splitlines():
        found = re.search(r"(?:^|\| |/)prx +([a-z]+)((?: +\S+)*)", line.partition("#")[0])
        if found:
            command = group.get_command(click.Context(group), found[1])
            assert command, line
            options = {name for parameter in command.params for name in parameter.opts}
            assert {word.partition("=")[0] for word in found[2].split() if re.match(r"--?[a-z]", word)} <= options, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_a_page_begins_with_what_its_reader_wants(page):
    title, wish = page.read_text().split("\n\n", 2)[:2]
    assert title.startswith("# ")
    assert re.fullmatch(r"\*You want to [^*]+\.\*", wish)


def test_the_site_has_every_page():
    def pages(nav):
        for entry in nav:
            yield from [entry] if isinstance(entry, str) else pages(*entry.values())

    listed = [*pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])]
    assert sorted(listed) == sorted(page.name for page in (ROOT / "docs").glob("*.md"))
    assert {f"({name})" for name in listed} - {"(index.md)"} <= {
        *re.findall(r"\(\S+?\)", (ROOT / "docs" / "index.md").read_text())
    }


def test_the_readme_has_its_two_commands():
    text = (ROOT / "README.md").read_text()
    assert "python3 -m venv .venv && .venv/bin/pip install -q . && .venv/bin/prx demo" in text
    command = "python3 -m venv .venv && .venv/bin/pip install -q -e '.[test]' && .venv/bin/python -m pytest -q"
    assert command in text
    ci = (ROOT / ".ci" / "run").read_text()
    assert all(part in ci for part in command.split(" && "))


HERE_ONLY = re.compile(
    r"/work/|/root/|\.pyenv|pypi\.org|pythonhosted|registry\.npmjs|\.\./shared|\bissues? #?\d", re.IGNORECASE
)


def test_the_project_speaks_of_itself_alone():
    """No path of a machine, no host of a registry; the folder beside ours is named by .ci/run and nothing else."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    texts = [name for name in listed if Path(name).suffix not in (".svg", ".png") and name != "tests/test_docs.py"]
    for name in texts:
        found = set(HERE_ONLY.findall((ROOT / name).read_text(encoding="utf-8", errors="replace")))
        assert found <= ({"../shared"} if name == ".ci/run" else set()), name
