"""Spec files: the folder is the verdict, and for a faulty one the sentences are the interface."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from helpers import commands, properties

import prx
from prx import resources
from prx.errors import SpecError
from prx.spec import schema
from prx.spec.loader import Loader
from prx.spec.read import _parsed, _parsed_by_libyaml, parse_strictly, read_quickly

HERE = Path(__file__).parent / "specs"
PACKAGED = sorted(resources.folder("providers.d").rglob("*.yaml"))


@pytest.mark.parametrize("path", sorted((HERE / "valid").glob("*.yaml")), ids=lambda path: path.stem)
def test_valid(path):
    assert Loader([HERE / "valid"]).check(path)[1] == []


@pytest.mark.parametrize("path", sorted((HERE / "invalid").glob("*.yaml")), ids=lambda path: path.stem)
def test_invalid(path):
    """Every fault at once, each with line and column, in sentences that are pinned here."""
    problems = Loader().check(path)[1]
    said = "".join(f"{problem}\n".replace(f"{path}:", "") for problem in problems)
    assert said == path.with_suffix(".txt").read_text()


def test_what_is_refused_before_it_is_read(tmp_path):
    for name, data, words in (
        ("big", b"spec: 1\n" + b"# x\n" * 100_000, "larger than 256 KB"),
        ("latin", b"spec: 1\nname: caf\xe9\n", "not UTF-8"),
        ("control", b"spec: 1\nname: a\x01b\n", "control character #x01"),
        ("deep", b"a: " + b"[" * 3000, "nested too deep"),
        ("bomb", b"a: &a [x,x]\nb: &b [*a,*a]\n", "alias *a"),
        ("many", b"a: [" + b"1," * 30_000 + b"1]", "too many nodes"),
        ("digits", b"spec: " + b"9" * 5000, "too many digits"),
    ):
        path = tmp_path / f"{name}.yaml"
        path.write_bytes(data)
        problems = Loader().check(path)[1]
        assert any(words in str(problem) for problem in problems), (name, problems)
    assert "cannot be read" in str(Loader().check(tmp_path / "none.yaml")[1][0])


def test_a_circle_of_files(tmp_path):
    (tmp_path / "one.yaml").write_text("spec: 1\nid: one\nextends: two\n")
    (tmp_path / "two.yaml").write_text("spec: 1\nid: two\nextends: one\n")
    with pytest.raises(SpecError, match="leads back to itself"):
        Loader([tmp_path]).get("one")


@pytest.mark.parametrize("path", PACKAGED, ids=lambda path: path.stem)
def test_packaged_files_are_tidy(path):
    """Checked in full here, since they are only glanced at when prx runs; keys in the schema's order."""
    document, problems = Loader().check(path)
    assert problems == []
    assert read_quickly(path) == document.value, "the fast reading and the strict one differ"
    order = list(schema.load("provider")["properties"])
    keys = list(document.value)
    assert keys == sorted(keys, key=order.index)
    assert document.text.startswith("# yaml-language-server: $schema="), "no line for editors"
    if path.parent.name != "_dialects":
        evidence = [line for line in document.text.splitlines() if line.startswith("  - {of: [")]
        assert len(document.text.splitlines()) - len(evidence) <= 40
    elif path.stem != "json-http":
        parts = re.split(r"\n(?:calls|serve):\n", document.text)
        assert all(len(part.splitlines()) < 200 for part in parts)


def test_no_two_providers_share_a_name():
    entries = Loader().entries()
    names = [name for entry in entries for name in (entry.id, *(read_quickly(entry.path).get("aliases") or ()))]
    assert len(names) == len(set(names))


def test_what_people_see_of_a_file():
    """name, docs and source are shown by `prx providers` and `prx show`."""
    value = yaml.safe_load(commands.run("show", "groq", "--resolved").stdout)
    raw = read_quickly(resources.folder("providers.d") / "groq.yaml")
    assert {key: value[key] for key in ("name", "docs", "source")} == {
        key: raw[key] for key in ("name", "docs", "source")
    }
    assert value["endpoints"]["chat"] == "/chat/completions"
    rows = json.loads(commands.run("providers", "--json").stdout)
    row = next(row for row in rows if row["id"] == "groq")
    assert (row["name"], row["dialect"], row["base_url"]) == ("Groq", "openai-chat", "https://api.groq.com/openai/v1")


def test_schema_is_documented():
    """Every key has a title, a description and an example, and every example is valid."""
    from jsonschema import Draft202012Validator
    from referencing import Registry

    for name in ("provider", "config"):
        whole = schema.load(name)
        Draft202012Validator.check_schema(whole)

        def walk(node, path, whole=whole):
            for key, child in node.get("properties", {}).items():
                target = whole["$defs"][child["$ref"].rpartition("/")[2]] if "$ref" in child else {}
                described = {**target, **child}
                assert {"title", "description"} <= described.keys(), f"{path}.{key}"
                if "examples" in described:
                    sub = {**described, "$defs": whole["$defs"]}
                    for example in described["examples"]:
                        errors = list(Draft202012Validator(sub, registry=Registry()).iter_errors(example))
                        assert errors == [], (path, key, errors)
                elif "properties" not in described and "$ref" not in child:
                    raise AssertionError(f"{path}.{key} has no example")
                walk(described if "$ref" not in child else {}, f"{path}.{key}")

        walk(whole, name)
        for definition, node in whole["$defs"].items():
            walk(node, definition)


def test_schema_has_no_bare_choice():
    """oneOf and anyOf only say that nothing fits; tags with if/then say what does not."""
    assert not {'"oneOf"', '"anyOf"'} & {
        word for name in ("provider", "config") for word in json.dumps(schema.load(name)).split()
    }
    assert "oneOf" not in json.dumps(schema.load("provider"))
    assert "anyOf" not in json.dumps(schema.load("provider"))


def test_one_bad_file_harms_no_other(tmp_path):
    (tmp_path / "bad.yaml").write_text("spec: 1\nid: bad\nbase_ulr: x\n")
    (tmp_path / "worse.yaml").write_text("spec: [\n")
    (tmp_path / "good.yaml").write_text(
        "spec: 1\nid: good\nextends: openai-chat\nbase_url: http://localhost:1/v1\naliases: [fine]\n"
    )
    client = prx.Client(config={}, providers=tmp_path, env={})
    assert client.accounts.get("fine").id == "good"
    with pytest.raises(SpecError, match=r"bad.yaml:3:1: base_ulr: unknown key 'base_ulr'; did you mean 'base_url'\?"):
        client.chat("hi", model="bad/m")


# Where libyaml's parser takes more than PyYAML's, or gives another place to what is left out.
APART = ["a:\tb", "? a", "?", "{a: b? c}", "{a: , b}", "[a: ]", "[? ]", "a: |#", "a: >-#\n  b", "a:\rb: 1", "---\na: 1", "%A\n--- {a: 1}", "a:", "-"]  # fmt: skip


@pytest.mark.parametrize("text", [f"spec: 1\n{text}\n" for text in APART] + APART)
def test_both_parsers_read_alike(text):
    properties.yaml_text(text)


def test_most_files_are_read_by_the_quick_parser():
    """And come out as they do by the other, with the place of every value."""
    quick = {path: _parsed_by_libyaml(path.read_text(), "f.yaml") for path in PACKAGED}
    assert sum(document is not None for document in quick.values()) > 0.9 * len(PACKAGED)
    for path, document in quick.items():
        assert document is None or document == _parsed(path.read_text(), "f.yaml"), path


def test_problem_positions_survive_tabs_and_umlauts():
    document = parse_strictly('spec: 1\nname: "äöü"\nid: "a" \nauth: {style: "bäd"}\n', "f.yaml")
    (problem,) = [problem for problem in schema.problems(document) if "style" in problem.path]
    assert (problem.line, problem.column) == (4, 8)


@pytest.mark.parametrize("line",
    [
        "id: null", "errors: {rules: {r: {when: a, kind: null}}}", "overrides: [null]", "auth: {env: [null]}", "response: {content: [null]}",
        "request: {body: {x: {merge: 5}}}", "request: {body: {x: {match: a, cases: 5}}}", "request: {parameters: {a: 5}}",
        "fallbacks: {a: 5}", "stream: {replay: {a: {from: x}}}", "response: {content: ['a', 5]}", "request: {headers: {a: 5}}",
    ],
)  # fmt: skip
def test_no_odd_value_is_more_than_a_fault(tmp_path, line):
    keys = {
        "spec": "spec: 1",
        "id": "id: odd",
        "extends": "extends: openai-chat",
        "base_url": "base_url: http://localhost:1/v1",
    }
    keys[line.partition(":")[0]] = line
    (tmp_path / "odd.yaml").write_text("\n".join(keys.values()) + "\n")
    _, problems = Loader().check(tmp_path / "odd.yaml")
    assert problems
    assert all(problem.line for problem in problems)


def test_nulls_take_keys_away(tmp_path):
    (tmp_path / "less.yaml").write_text(
        "spec: 1\nid: less\nextends: openai-chat\nbase_url: http://localhost:1/v1\nfallbacks: null\n"
        "errors: {rules: {overflow: null}}\nresponse: {think_tags: null}\n"
    )
    _, problems = Loader().check(tmp_path / "less.yaml")
    assert problems == []


def test_alternatives_may_be_long_together(tmp_path):
    paths = [f"a{number}.{'b' * 70}" for number in range(11)]
    (tmp_path / "long.yaml").write_text(
        f"spec: 1\nid: long\nextends: openai-chat\nbase_url: http://localhost:1/v1\nresponse: {{content: [{', '.join(paths)}]}}\n"
    )
    spec = Loader([tmp_path]).get("long").spec()
    assert "hello" in spec.response.found.run({"a10": {"b" * 70: "hello"}})


def test_every_fault_at_once(tmp_path):
    (tmp_path / "b.yaml").write_text(
        "spec: 1\nid: b\nextends: openai-chat\nbase_url: http://u:pw@localhost:99999/v1\nresponse: {content: 'choices[0'}\n"
        "fallbacks: {x: {when: 'foo(', then: {response: {modl: x}}}}\nerrors: {rules: {y: {when: a, kind: nope}}}\n"
    )
    _, problems = Loader().check(tmp_path / "b.yaml")
    assert [problem.path for problem in problems] == [
        "base_url", "response.content", "fallbacks.x.when", "fallbacks.x.then.response.modl", "errors.rules.y.kind",
    ]  # fmt: skip
    assert "pw" not in str(problems[0])
