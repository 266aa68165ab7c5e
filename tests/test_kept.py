"""What is kept on disk between processes: the same as made anew, of nothing that has changed, and nobody else's."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest

import prx
from prx.lang import program
from prx.resources import folder as packaged
from prx.spec import store
from prx.spec.catalog import Catalog
from prx.spec.keeper import Keeper

MINE = """\
spec: 1
id: mine
name: Mine
aliases: [own]
extends: openai-chat
base_url: http://localhost:1/v1
request: {parameters: {seed: {rename: s}}}
response: {content: "choices[0].message.text || choices[0].message.content"}
"""


@pytest.fixture
def cache(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "mine.yaml").write_text(MINE)
    return tmp_path / "cache"


def catalog(cache):
    return Catalog([cache.parent / "d"], cache=cache)


def modules(cache, what, *wanted):
    """Which of some modules a process imports that asks a client for something."""
    code = (
        f"import sys, prx; c = prx.Client({{}}, {str(cache.parent / 'd')!r}, env={{'PRX_CACHE': {str(cache)!r}}}); {what};"
        f"print(*[name for name in {wanted!r} if name in sys.modules])"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize("name", ["mine", "own"])
def test_the_second_process_parses_nothing(cache, name):
    asked = f"c.plan('hi', '{name}/m')[0].definition.spec().response.found.run"
    assert modules(cache, asked, "yaml", "jmespath") == ["yaml", "jmespath"]
    assert modules(cache, asked, "yaml", "jmespath") == []


def test_it_is_the_same_as_made_anew(cache):
    first, second = catalog(cache).get("mine"), catalog(cache).get("mine")
    assert first is not second
    assert (first.raw, first.bases, first.uses) == (second.raw, second.bases, second.uses)
    found = Keeper(catalog(cache), catalog(cache).entry("mine")).get(programs=True)
    assert found.raw == first.raw


def test_what_is_compiled_does_the_same(cache, monkeypatch):
    body = {"choices": [{"message": {"text": "", "content": "hello"}, "finish_reason": "stop"}]}
    made = catalog(cache).get("mine").spec().response.found.run(body)
    monkeypatch.setattr(program, "_kept", {})
    monkeypatch.setattr(program, "_packed", {})
    again = catalog(cache).get("mine").spec().response.found
    assert program.known(again.key), "from disk"
    assert again.run(body) == made
    assert "hello" in made


@pytest.mark.parametrize("change", ["file", "base", "shadow"])
def test_nothing_that_has_changed_is_used(cache, change):
    own = cache.parent / "d" / "_dialects" / "openai-chat.yaml"
    dialect = (packaged("providers.d") / "_dialects" / "openai-chat.yaml").read_text()
    if change == "base":
        own.parent.mkdir()
        own.write_text(dialect)
    assert catalog(cache).get("mine").spec().endpoints["chat"] == "/chat/completions"
    if change == "file":
        (cache.parent / "d" / "mine.yaml").write_text(f"{MINE}endpoints: {{chat: /other}}\n")
    else:
        own.parent.mkdir(exist_ok=True)
        own.write_text(dialect.replace("/chat/completions", "/other"))
    assert catalog(cache).get("mine").spec().endpoints["chat"] == "/other"


def test_a_broken_file_is_told_again(cache):
    (cache.parent / "d" / "mine.yaml").write_text(f"{MINE}nonsense: 1\n")
    for _ in range(2):
        with pytest.raises(prx.SpecError, match="unknown key 'nonsense'"):
            catalog(cache).get("mine")


def test_an_index_notices(cache):
    assert catalog(cache).entry("own").id == "mine"
    (cache.parent / "d" / "mine.yaml").write_text(MINE.replace("own", "other-name"))
    assert catalog(cache).entry("own") is None
    assert catalog(cache).entry("other-name").id == "mine"
    (cache.parent / "d" / "mine.yaml").unlink()
    assert catalog(cache).entry("other-name") is None


@pytest.mark.parametrize("damage", [b"", b"x", b"\x00" * 100, None])
def test_a_damaged_store_is_no_store(cache, damage):
    catalog(cache).get("mine")
    for path in cache.glob("*.kept"):
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2] + data[len(data) // 2 + 1 :] if damage is None else damage)
    assert catalog(cache).get("mine").spec().request.parameters[0].rename == "s"


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_what_others_may_write_is_not_read(tmp_path, mode):
    kept = store.Store(tmp_path / "c")
    kept.put("x", "m", 1)
    assert kept.get("x", "m") == 1
    assert stat.S_IMODE((tmp_path / "c").stat().st_mode) == 0o700
    (tmp_path / "c" / "x.kept").chmod(mode)
    assert kept.get("x", "m") is None
    (tmp_path / "c" / "x.kept").chmod(0o600)
    (tmp_path / "c").chmod(mode | 0o100)
    assert kept.get("x", "m") is None


def test_a_generous_umask_changes_nothing(tmp_path):
    before = os.umask(0)
    try:
        kept = store.Store(tmp_path / "c")
        kept.put("x", "m", {"a": [1, None, "b"]})
        assert kept.get("x", "m") == {"a": [1, None, "b"]}
        assert kept.get("x", "other") is None
    finally:
        os.umask(before)


def test_a_folder_does_not_grow_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "_MOST", 10)
    kept = store.Store(tmp_path / "c")
    for number in range(40):
        kept.put(f"x{number}", "m", number)
    assert len(list((tmp_path / "c").iterdir())) <= 11
    assert kept.get("x39", "m") == 39


def test_where_it_is():
    assert store.folder({"PRX_CACHE": ""}) is None
    assert str(store.folder({"PRX_CACHE": "/a", "HOME": "/h"})) == "/a"
    assert str(store.folder({"XDG_CACHE_HOME": "/x", "HOME": "/h"})) == "/x/prx"
    assert str(store.folder({"HOME": "/h"})) == "/h/.cache/prx"
    assert store.folder({}) is None


def test_nothing_is_kept_beside_a_providers_file(cache):
    catalog(cache).get("mine")
    assert [path.name for path in (cache.parent / "d").iterdir()] == ["mine.yaml"]
