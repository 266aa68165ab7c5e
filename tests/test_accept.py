"""The small judge before jsonschema: it lets nothing pass that jsonschema would not, and nearly all that is right."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
from helpers import any_json, data_files
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from prx import resources
from prx.spec import accept, schema
from prx.spec.read import read_quickly

FILES = sorted(resources.folder("providers.d").rglob("*.yaml"))
SPECS = [schema._without_nulls(read_quickly(path)) for path in FILES]
CONFIGS = [{}, {"default": {"provider": "a", "model": "b"}}, {"providers": {"a": {"api_url": "http://x", "api_key": "k", "timeout": 3, "headers": {"x": "y"}}}}, {"model_routes": [{"pattern": "a/*", "provider": "b"}], "images": {"urls": True}}]  # fmt: skip
CASES = [data_files.read(path) for path in sorted(resources.folder("cases").glob("*.yaml"))]
RIGHT = {"provider": SPECS, "config": CONFIGS, "case": CASES}


def judge(name, value):
    return Draft202012Validator(schema.load(name)).is_valid(value)


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_passes(name):
    """Where nothing is wrong, jsonschema is not asked."""
    for value in RIGHT[name]:
        assert accept.accepts(schema.load(name), value)


@pytest.mark.parametrize("name", RIGHT)
@given(data=st.data())
def test_what_passes_is_right(name, data):
    """A right value with one of its parts swapped for anything: never accepted where jsonschema refuses it."""
    value = data.draw(any_json.grafted(copy.deepcopy(data.draw(st.sampled_from(RIGHT[name])))))
    if accept.accepts(schema.load(name), value):
        assert judge(name, value)


WORDS = {
    "type": [("string", "a", 1), ("integer", 1, True), ("number", 1.5, "x"), (["string", "null"], None, 1), ("boolean", True, 1), ("object", {}, []), ("array", [], {})],
    "enum": [(["a", 1], "a", True)], "const": [(1, 1, True)], "pattern": [("^a+(?![\\s\\S])", "aa", "ab")],
    "minLength": [(1, "a", "")], "maxLength": [(1, "a", "ab")], "minItems": [(1, [1], [])], "maxItems": [(1, [1], [1, 2])],
    "minProperties": [(1, {"a": 1}, {})], "maxProperties": [(1, {"a": 1}, {"a": 1, "b": 2})],
    "minimum": [(1, 1, 0)], "maximum": [(1, 1, 2)], "exclusiveMinimum": [(0, 1, 0)], "uniqueItems": [(True, ["a", "b"], ["a", "a"])],
    "required": [(["a"], {"a": 1}, {"b": 1})], "properties": [({"a": {"type": "string"}}, {"a": "x"}, {"a": 1})],
    "additionalProperties": [(False, {}, {"a": 1}), ({"type": "string"}, {"a": "x"}, {"a": 1})], "propertyNames": [({"pattern": "^a"}, {"ab": 1}, {"b": 1})],
    "items": [({"type": "string"}, ["a"], [1])], "not": [({"enum": ["a"]}, "b", "a")], "allOf": [([{"type": "string"}], "a", 1)],
}  # fmt: skip


@pytest.mark.parametrize("word", WORDS)
def test_every_word(word):
    for said, right, wrong in WORDS[word]:
        rule = {word: said}
        assert accept.accepts(rule, right), (word, right)
        assert not accept.accepts(rule, wrong), (word, wrong)
        assert (Draft202012Validator(rule).is_valid(right), Draft202012Validator(rule).is_valid(wrong)) == (True, False)


def test_conditions_and_references():
    rule = {
        "$defs": {"word": {"type": "string"}},
        "if": {"required": ["a"]},
        "then": {"properties": {"a": {"$ref": "#/$defs/word"}}},
    }
    for value, right in (({"a": "x"}, True), ({"a": 1}, False), ({"b": 1}, True)):
        assert accept.accepts(rule, value) is right
        assert Draft202012Validator(rule).is_valid(value) is right


@pytest.mark.parametrize(
    "rule", [{"not": {}}, {"format": "uri"}, {"type": "integer"}, {"uniqueItems": True}, {"if": {}, "else": {}}]
)
def test_what_is_in_doubt_is_for_jsonschema(rule):
    doubtful = {"type": 1.0, "uniqueItems": [1, 2]}.get(next(iter(rule)), "x")
    assert not accept.accepts(rule, doubtful)


def test_every_word_of_the_schemas_is_known():
    said = {word for name in RIGHT for word in words(schema.load(name))}
    assert said - accept._SILENT == accept._RULES.keys() & said
    assert accept._RULES.keys() - {"const"} <= WORDS.keys() | {"if", "$ref"}


def words(node, *, names=False):
    """Every keyword of a schema."""
    for key, child in node.items() if isinstance(node, dict) else ():
        if not names:
            yield key
        if key not in ("examples", "default", "enum", "const", "required") or names:
            yield from words(child, names=not names and key in ("properties", "$defs"))
    for child in node if isinstance(node, list) else ():
        yield from words(child)


def test_jsonschema_is_not_imported_for_what_is_right(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("spec: 1\nid: mine\nname: Mine\nextends: openai-chat\nbase_url: http://localhost:1/v1\n")
    code = f"import sys, prx; prx.Client({{}}, {str(tmp_path)!r}, env={{}}).plan('hi', 'mine/m'); print('jsonschema' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
