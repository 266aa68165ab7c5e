"""What is kept on disk between processes: the same as made anew, of nothing that has changed, and nobody else's."""

from __future__ import annotations

import ast
import contextlib
import gc
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from types import GenericAlias

import pytest
from jmespath.exceptions import JMESPathError
from jmespath.parser import Parser

import prx
from prx.core.request import build
from prx.lang.compiled import Expressions
from prx.resources import folder as packaged
from prx.spec import cache as caching
from prx.spec import owned
from prx.spec.loader import Loader

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
    return Loader([cache.parent / "d"], cache=cache)


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
    assert (first.raw, first.bases, first.source_files) == (second.raw, second.bases, second.source_files)
    found = catalog(cache)._on_disk().get(catalog(cache).entry("mine"), trees=True)
    assert found.raw == first.raw


def test_what_is_compiled_does_the_same(cache):
    body = {"choices": [{"message": {"text": "", "content": "hello"}, "finish_reason": "stop"}]}
    made = catalog(cache).get("mine").spec().response.found.run(body)
    again = catalog(cache).get("mine").spec().response.found
    assert again._expressions.are_checked(again.key), "from disk"
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
    kept = caching.Store(tmp_path / "c")
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
        kept = caching.Store(tmp_path / "c")
        kept.put("x", "m", {"a": [1, None, "b"]})
        assert kept.get("x", "m") == {"a": [1, None, "b"]}
        assert kept.get("x", "other") is None
    finally:
        os.umask(before)


def test_a_folder_does_not_grow_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(caching, "_MAX_FILES", 10)
    kept = caching.Store(tmp_path / "c")
    for number in range(40):
        kept.put(f"x{number}", "m", number)
    assert len(list((tmp_path / "c").iterdir())) <= 11
    assert kept.get("x39", "m") == 39


def test_where_it_is():
    assert caching.cache_folder({"PRX_CACHE": ""}) is None
    assert str(caching.cache_folder({"PRX_CACHE": "/a", "HOME": "/h"})) == "/a"
    assert str(caching.cache_folder({"XDG_CACHE_HOME": "/x", "HOME": "/h"})) == "/x/prx"
    assert str(caching.cache_folder({"HOME": "/h"})) == "/h/.cache/prx"
    assert caching.cache_folder({}) is None


@pytest.mark.parametrize("relative", ["x", "./x", "../x", "~/x", "."])
def test_a_relative_base_is_ignored(relative):
    """As the rule of XDG says: it would mean another folder wherever a process starts."""
    assert str(caching.cache_folder({"XDG_CACHE_HOME": relative, "HOME": "/h"})) == "/h/.cache/prx"
    assert caching.cache_folder({"XDG_CACHE_HOME": relative}) is None
    assert caching.cache_folder({"HOME": relative}) is None


def test_nothing_is_kept_beside_a_providers_file(cache):
    catalog(cache).get("mine")
    assert [path.name for path in (cache.parent / "d").iterdir()] == ["mine.yaml"]


# ------------------------------------------------------------------ who else could have written it


@pytest.fixture
def deep(tmp_path):
    """A store some folders down, with something in it."""
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    kept = caching.Store(tmp_path / "a" / "b" / "c" / "prx")
    kept.put("x", "m", 1)
    assert kept.get("x", "m") == 1
    return kept


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o773, 0o757])
@pytest.mark.parametrize("above", [0, 1, 2])
def test_a_way_that_others_may_change_is_not_taken(deep, above, mode):
    """Whoever may rename a folder puts another one in its place: nothing is read below it, and nothing written."""
    folder = deep.folder.parents[above]
    folder.chmod(mode)
    assert deep.get("x", "m") is None
    deep.put("y", "m", 2)
    assert not (deep.folder / "y.kept").exists()
    folder.chmod(0o1777)  # as /tmp is: there, nobody renames what is not his
    assert deep.get("x", "m") == 1


def test_no_folder_is_made_where_others_may_rename_it(tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    for folder in (tmp_path / "open" / "prx", tmp_path / "open" / "cache" / "prx"):
        caching.Store(folder).put("x", "m", 1)
    assert list((tmp_path / "open").iterdir()) == []


def test_links(deep):
    """On the way, a link is as good as the folder that it stands in; the last folder, and a file, is none."""
    a = deep.folder.parents[2]
    (a / "way").symlink_to("b")
    (a / "whole").symlink_to(a / "b" / ".." / "b")
    (a / "round").symlink_to("round")
    for name, found in (("way", 1), ("whole", 1), ("round", None)):
        assert caching.Store(a / name / "c" / "prx").get("x", "m") == found
    (a / "last").symlink_to(deep.folder)
    assert caching.Store(a / "last").get("x", "m") is None
    (deep.folder / "x.kept").rename(deep.folder / "real")
    (deep.folder / "x.kept").symlink_to("real")
    assert deep.get("x", "m") is None


def test_a_link_that_others_could_change_is_not_followed(deep, tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "link").symlink_to(deep.folder.parent)
    there = caching.Store(tmp_path / "open" / "link" / "prx")
    assert there.get("x", "m") == 1
    (tmp_path / "open").chmod(0o777)
    assert there.get("x", "m") is None


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="gives files to somebody else")
@pytest.mark.parametrize("what", ["file", "folder", "above", "far above", "a link", "in a shared place"])
def test_root_takes_nothing_from_a_user(deep, what):
    """Who runs as root with a user's HOME (sudo -E, a container) would else do what that user put there."""
    places = {
        "file": deep.folder / "x.kept",
        "folder": deep.folder,
        "above": deep.folder.parent,
        "far above": deep.folder.parents[2],
    }
    if what == "a link":
        link = deep.folder.parents[1] / "link"
        link.symlink_to(deep.folder.parent)
        os.chown(link, 4001, 4001, follow_symlinks=False)
        deep.folder = link / "prx"
    elif what == "in a shared place":
        deep.folder.parent.chmod(0o1777)
        os.chown(deep.folder, 4001, 4001)
    else:
        os.chown(places[what], 4001, 4001)
    assert deep.get("x", "m") is None


@pytest.mark.parametrize("thing", ["pipe", "folder", "too large"])
def test_what_is_no_ordinary_file_is_not_read(deep, thing, monkeypatch):
    path = deep.folder / "x.kept"
    if thing == "too large":
        monkeypatch.setattr(caching, "_MAX_BYTES", 8)
    else:
        path.unlink()
        path.mkdir() if thing == "folder" else os.mkfifo(path)
    assert deep.get("x", "m") is None


def test_a_system_without_owners(tmp_path, monkeypatch):
    monkeypatch.setattr(owned, "_HAS_OWNERS", False)
    monkeypatch.delattr(os, "geteuid")
    kept = caching.Store(tmp_path / "a" / "prx")
    kept.put("x", "m", [1])
    assert kept.get("x", "m") == [1]
    assert owned.is_ours(tmp_path / "a" / "prx")
    assert not owned.is_ours(tmp_path / "none")


def test_what_json_would_change_is_not_kept(tmp_path):
    kept = caching.Store(tmp_path / "c")
    for place, value in enumerate([{1: 2}, (1, 2), float("nan"), b"x", {"a": (1,)}]):
        kept.put(f"x{place}", "m", value)
        assert kept.get(f"x{place}", "m") is None


# ------------------------------------------------------------------ and of what it was made


@pytest.mark.parametrize("changed", ["spec/resolve.py", "lang/bounds.py", "urls.py"])
def test_another_engine_is_seen_by_what_stands_in_it(tmp_path, changed):
    """Where every file of an installation has the same time, and the change has the same size."""
    root = Path(prx.__file__).parents[2]
    shutil.copytree(root / "engine", tmp_path / "engine", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("schemas", "providers.d"):
        (tmp_path / name).symlink_to(root / name)

    def engine():
        for path in tmp_path.rglob("*.py"):
            os.utime(path, (1, 1))
        code = "from prx.spec import cache; print(cache._engine())"
        env = {**os.environ, "PYTHONPATH": str(tmp_path / "engine"), "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env).stdout

    before = engine()
    assert engine() == before
    path = tmp_path / "engine" / "prx" / changed
    text = path.read_text()
    path.write_text(text + "# 1\n")
    one = engine()
    path.write_text(text + "# 2\n")
    assert len({before, one, engine()}) == 3


def test_functions_go_with_their_files(cache):
    """A file that changes again and again leaves nothing of its earlier versions: no object, and no row of a table."""
    client = prx.Client({}, str(cache.parent / "d"), env={"PRX_CACHE": str(cache)})

    def reload(number):
        (cache.parent / "d" / "mine.yaml").write_text(MINE.replace("message.text", f"message.text_{number}"))
        assert client.reload().problems == ()
        account, call = client.plan("hi", "mine/m")
        spec = account.definition.spec()
        assert "new" in spec.response.found.run({"choices": [{"message": {f"text_{number}": "new"}}]})
        assert build(spec, call, account.target)

    def left():
        """What a process holds: the rows of every table of these modules by its name, and all objects."""
        caches, tables = remembered()
        for each in caches:
            each.cache_clear()  # they have a bound; how full they are says nothing
        Parser.purge()  # jmespath's own, with a bound as well
        gc.collect()
        return tables, len(gc.get_objects())

    left()  # or else the first reloads would share what is held by tests before this one, and the later ones not
    for number in range(20):
        reload(number)
    tables, objects = left()
    for number in range(20, 220):
        reload(number)
    later_tables, later_objects = left()
    assert later_tables == tables
    assert later_objects - objects < 100, "less than one for two reloads"


def remembered():
    """Every bounded cache of prx.lang and prx.spec, and the length of every other container that a module holds."""
    caches, tables = [], {}
    for name, module in list(sys.modules.items()):
        for key, value in vars(module).items() if name.startswith(("prx.lang", "prx.spec")) else ():
            if hasattr(value, "cache_clear"):
                most = value.cache_parameters()["maxsize"]
                assert (most or 0) <= 256, f"{name}.{key} is no small cache"
                assert most or value.cache_info().currsize <= 3, f"{name}.{key} has no bound"
                caches.append(value)
            elif isinstance(value, Collection) and not isinstance(value, (str, type, GenericAlias)):
                tables[name, key] = len(value)
    return caches, tables


# ------------------------------------------------------------------ it is data

RUNNING = {"exec", "eval", "compile", "__import__"}
EVIL = "x') or __import__('os').mkdir('{}') or ('"
HOSTILE = [
    ["field", EVIL], ["function_expression", EVIL, ["current", None]], ["comparator", EVIL, ["literal", EVIL], ["literal", EVIL]],
    ["multi_select_dict", None, ["key_val_pair", EVIL, ["current", None]]], ["index", EVIL], ["index", None], ["slice", [EVIL, 1, 1]],
    ["slice", [1]], ["line", EVIL], ["__init__", None], ["emit", None], [EVIL, None], ["key_val_pair", "x", ["current", None]],
    ["multi_select_dict", None, ["field", EVIL]], ["subexpression", None, ["field", EVIL]], ["field", [EVIL]], ["field", None, ["current", None]],
    ["expref", EVIL, ["current", None]], ["not_expression", None], ["literal"], [], {}, None, 1, EVIL, [["field"], "x"], {"type": "field"},
]  # fmt: skip


def test_what_is_kept_is_json(cache):
    catalog(cache).get("mine")
    modules(cache, "c.catalog.get('compatible').spec().response.found.run")
    found = [*cache.glob("*.kept"), *Path(caching.__file__).parent.glob("__pycache__/*.kept")]
    files = [path.read_bytes().partition(b"\n") for path in found]
    values = [json.loads(data) for head, _, data in files if head.startswith(caching._engine().encode())]
    assert len(values) > 3


def test_nothing_is_read_that_could_be_code():
    """Only modules that take data apart: none that makes objects or code of bytes."""
    for path in sorted(Path(prx.__file__).parent.rglob("*.py")):
        tree = ast.parse(path.read_text())
        names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not names & {"marshal", "pickle", "shelve", "dbm", "code", "codeop"}, path
        run = [
            node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") in RUNNING
        ]
        # One writes functions of trees that are looked at as data; the other, constructors of the fields of its classes.
        assert not run or path.name in ("codegen.py", "record.py"), path


@pytest.mark.parametrize("hostile", HOSTILE, ids=str)
def test_a_tree_from_disk_runs_nothing(cache, hostile):
    """Whatever stands in its place: it is looked at as data, or the expression is parsed again."""
    made = cache.parent / "made"
    text = "odd_name_of_a_test || other"
    expressions = Expressions()
    expressions.add_stored({text: json.dumps(hostile).replace("{}", str(made))})
    with contextlib.suppress(JMESPathError):
        expressions.function((text,))({"odd_name_of_a_test": 1, "x": 2})
    with contextlib.suppress(JMESPathError):
        expressions.finder(text)({"odd_name_of_a_test": 1, "x": 2})
    assert not made.exists()


@pytest.mark.parametrize("damage", ["[" * 100_000, '"', "NaN", '["field"', '["not_expression", null, ' * 500, "\udcff"])
def test_a_tree_that_is_none_is_parsed_again(damage):
    expressions, text = Expressions(), "odd_name_of_another_test"
    expressions.add_stored({text: damage})
    assert expressions.function((text,))({text: 1}) == (1,)
