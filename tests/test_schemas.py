"""JSON Schemas in the form that an API demands: at every depth, without another meaning, or not at all."""

from __future__ import annotations

import json
import time

import pytest
import yaml
from helpers.byte_server import RawServer
from helpers.driver_without_io import definition, play
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import prx
from prx.chat import Call
from prx.core.request import build_body
from prx.core.schemas import UnfitError, everywhere, fitted
from prx.errors import CapabilityError
from prx.spec.loader import Loader
from prx.spec.model import SchemaForm

META = Draft202012Validator(Draft202012Validator.META_SCHEMA)
CLOSED = {"additionalProperties": False}
LIMITS = SchemaForm(
    drop={
        "minimum": "at least {}",
        "maxLength": "at most {} characters",
        "minItems": "at least {} items",
        "pattern": "",
    },
    keep={"minItems": [0, 1]},
)
FORMS = {
    "limits in words": LIMITS,
    "closed objects": SchemaForm(objects=CLOSED),
    "written out": SchemaForm(inline=True),
    "all of it": SchemaForm(
        inline=True, rename={"oneOf": "anyOf", "const": "enum"}, types_in_unions=True, objects={**CLOSED, "x-closed": True},
        drop=LIMITS.drop, keep=LIMITS.keep,
    ),
}  # fmt: skip
each_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)

# Names of properties are keywords as often as not: none of them may be taken for one.
NAMES = st.sampled_from(
    ["a", "b", "minimum", "maxLength", "type", "properties", "$ref", "$defs", "enum", "oneOf", "items"]
)
DATA = st.sampled_from(
    [1, True, "minimum", {"minimum": 1}, {"type": "object", "maxLength": 2}, [{"minItems": 3}], None]
)
LEAVES = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["string", "integer", "array", ["string", "null"]]),
        "minimum": st.integers(-2, 2), "maxLength": st.integers(0, 3), "minItems": st.integers(0, 3), "pattern": st.just("^a"),
        "description": st.text("ab ", max_size=5), "enum": st.lists(DATA, min_size=1, max_size=2), "const": DATA, "default": DATA,
        "examples": st.lists(DATA, max_size=2), "title": st.just("minimum"),
    },
)  # fmt: skip


def with_inner(inner):
    one = st.fixed_dictionaries({}, optional=dict.fromkeys(("items", "not", "if", "then", "else", "contains", "propertyNames", "unevaluatedItems"), inner))  # fmt: skip
    several = st.fixed_dictionaries({}, optional=dict.fromkeys(("anyOf", "oneOf", "allOf", "prefixItems"), st.lists(inner, min_size=1, max_size=2)))  # fmt: skip
    objects = st.fixed_dictionaries({"type": st.just("object"), "properties": st.dictionaries(NAMES, inner, min_size=1, max_size=3)})  # fmt: skip
    refs = st.fixed_dictionaries({"$ref": st.sampled_from(["#/$defs/one", "#/$defs/two~1three", "#/$defs/o%6Ee"])}, optional={"description": st.just("d"), "maxLength": st.just(9)})  # fmt: skip
    return st.tuples(LEAVES, one, several, objects | st.just({})).map(lambda parts: {**parts[0], **parts[1], **parts[2], **parts[3]}) | refs  # fmt: skip


SCHEMAS = st.recursive(LEAVES | st.booleans(), with_inner, max_leaves=12)
FLAT = st.recursive(LEAVES, lambda inner: st.dictionaries(NAMES, inner, min_size=1, max_size=2).map(lambda rows: {"type": "object", "properties": rows}), max_leaves=4)  # fmt: skip
WHOLE = st.tuples(st.dictionaries(NAMES, SCHEMAS, min_size=1, max_size=3), FLAT, FLAT).map(
    lambda parts: {"type": "object", "properties": parts[0], "$defs": {"one": parts[1], "two/three": parts[2]}}
)


@each_form
@given(schema=WHOLE)
def test_in_form_at_every_depth(form, schema):
    before = json.dumps(schema)
    made = fitted(schema, form)
    assert json.dumps(schema) == before, "the caller's own"
    assert fitted(made, form) is made, "in form, so nothing is made of it"
    for inner, path in everywhere(made):
        assert not inner.keys() & form.rename.keys(), path
        assert not {word for word in inner.keys() & form.drop.keys() if inner[word] not in form.keep.get(word, ())}, (
            path
        )
        if form.inline:
            assert not inner.keys() & {"$ref", "$defs"}, path
        if form.objects and (inner.get("type") == "object" or ("type" not in inner and "properties" in inner)):
            assert inner.items() >= form.objects.items(), path
    assert set(made["properties"]) == set(schema["properties"])
    if META.is_valid(schema):
        Draft202012Validator.check_schema(made)


@given(
    schema=WHOLE,
    value=st.recursive(
        DATA, lambda inner: st.dictionaries(NAMES, inner, max_size=3) | st.lists(inner, max_size=2), max_leaves=6
    ),
)
def test_what_is_written_out_means_the_same(schema, value):
    """The judge is jsonschema: a value fits the schema with its references replaced if, and only if, it fits the original."""
    made = fitted(schema, SchemaForm(inline=True))
    if META.is_valid(schema):
        assert Draft202012Validator(made).is_valid(value) == Draft202012Validator(schema).is_valid(value)


@pytest.mark.parametrize(
    ("schema", "form", "wanted"),
    [
        ({"type": "integer", "minimum": 1}, LIMITS, {"type": "integer", "description": "at least 1"}),
        ({"description": "Age", "minimum": 1.5, "maxLength": 2, "pattern": "x"}, LIMITS, {"description": "Age (at least 1.5; at most 2 characters)"}),
        ({"minItems": 1}, LIMITS, {"minItems": 1}),
        ({"minItems": True}, LIMITS, {}),  # which is not 1
        ({"uniqueItems": False}, SchemaForm(drop={"uniqueItems": "no item twice"}), {}),
        ({"uniqueItems": True}, SchemaForm(drop={"uniqueItems": "no item twice"}), {"description": "no item twice"}),
        ({"pattern": r"\d{}"}, SchemaForm(drop={"pattern": "like {}"}), {"description": r"like \d{}"}),
        ({"enum": [{"minimum": 1}], "default": {"minimum": 1}, "const": {"minimum": 1}}, LIMITS, {"enum": [{"minimum": 1}], "default": {"minimum": 1}, "const": {"minimum": 1}}),
        ({"properties": {"minimum": {"minimum": 1}}}, LIMITS, {"properties": {"minimum": {"description": "at least 1"}}}),
        ({"items": [{"minimum": 1}], "dependencies": {"a": ["b"], "c": {"minimum": 2}}}, LIMITS, {"items": [{"description": "at least 1"}], "dependencies": {"a": ["b"], "c": {"description": "at least 2"}}}),
        ({"const": "a"}, SchemaForm(rename={"const": "enum"}), {"enum": ["a"]}),
        ({"const": "a", "enum": ["a", "b"]}, SchemaForm(rename={"const": "enum"}), {"enum": ["a", "b"], "allOf": [{"enum": ["a"]}]}),
        ({"oneOf": [{"const": 1}], "anyOf": [True]}, SchemaForm(rename={"oneOf": "anyOf"}), {"anyOf": [True], "allOf": [{"anyOf": [{"const": 1}]}]}),
        ({"type": "object", "anyOf": [{"required": ["a"]}, {"type": "null"}, {"$ref": "#"}]}, SchemaForm(types_in_unions=True), {"anyOf": [{"required": ["a"], "type": "object"}, {"type": "null"}, {"$ref": "#"}]}),
        ({"type": ["object", "null"]}, SchemaForm(objects=CLOSED), {"type": ["object", "null"], "additionalProperties": False}),
        ({"properties": {"a": {}}, "additionalProperties": True}, SchemaForm(objects=CLOSED), {"properties": {"a": {}}, "additionalProperties": False}),
        ({"type": "object", "additionalProperties": {"not": {}}}, SchemaForm(objects=CLOSED), {"type": "object", "additionalProperties": False}),
        # The reference's own words come first; limits that contradict each other both hold.
        ({"$defs": {"n": {"type": "string", "title": "N"}}, "$ref": "#/$defs/n", "title": "mine"}, SchemaForm(inline=True), {"type": "string", "title": "mine"}),
        ({"$defs": {"n": {"maxLength": 3}}, "$ref": "#/$defs/n", "maxLength": 2}, SchemaForm(inline=True), {"maxLength": 2, "allOf": [{"maxLength": 3}]}),
        ({"$defs": {"n": True, "m": False}, "items": {"$ref": "#/$defs/n"}, "not": {"$ref": "#/$defs/m", "type": "null"}}, SchemaForm(inline=True), {"items": True, "not": {"type": "null", "allOf": [False]}}),
        ({"properties": {"a": {"type": "string"}, "b": {"$ref": "#/properties/a"}}}, SchemaForm(inline=True), {"properties": {"a": {"type": "string"}, "b": {"type": "string"}}}),
        ({"definitions": {"n": {"$anchor": "here", "type": "null"}}, "items": {"$ref": "#here"}}, SchemaForm(inline=True), {"items": {"$anchor": "here", "type": "null"}}),
        ({"$ref": "https://example.org/other"}, SchemaForm(inline=True), {"$ref": "https://example.org/other"}),
        # What leads back to itself stays, with its definition and without the others.
        (
            {"$ref": "#/$defs/n", "$defs": {"n": {"properties": {"of": {"$ref": "#/$defs/n"}, "x": {"$ref": "#/$defs/x"}}}, "x": {"type": "null"}}},
            SchemaForm(inline=True),
            {"$ref": "#/$defs/n", "$defs": {"n": {"properties": {"of": {"$ref": "#/$defs/n"}, "x": {"type": "null"}}}}},
        ),
        (True, FORMS["all of it"], True),
        ("no schema", FORMS["all of it"], "no schema"),
    ],
)  # fmt: skip
def test_what_becomes_of_it(schema, form, wanted):
    assert fitted(schema, form) == wanted


@pytest.mark.parametrize(
    ("schema", "form", "path", "words"),
    [
        ({"properties": {"a": {"items": {"$ref": "#"}}}}, SchemaForm(recursion=False), "properties.a.items", "leads back to itself"),
        ({"$defs": {"x": {"anyOf": [{"$ref": "#/$defs/y"}]}, "y": {"items": {"$ref": "#/$defs/x"}}}}, SchemaForm(recursion=False), "$defs.y.items", "no recursion"),
        ({"properties": {"a": {"$ref": "#/$defs/none"}}}, SchemaForm(inline=True), "properties.a", "no such place"),
        ({"properties": {"a": {"$ref": "#nowhere"}}}, LIMITS, "properties.a", "no such place"),
        ({"properties": {"a": {"$ref": "#/properties"}}, "x": 1}, SchemaForm(), "", ""),
        ({"items": {"$ref": "#/required"}, "required": ["a"]}, LIMITS, "items", "which is not a schema"),
        ({"properties": {"tags": {"type": "object", "additionalProperties": {"type": "string"}}}}, SchemaForm(objects=CLOSED), "properties.tags", "keys of any name"),
        ({"type": "object", "additionalProperties": True}, SchemaForm(objects=CLOSED), "", "keys of any name"),
        ({"items": {"type": "object", "patternProperties": {"^x": {}}}}, SchemaForm(objects=CLOSED), "items", "keys of any name"),
        ({"$defs": {str(n): {"properties": {"a": {"$ref": f"#/$defs/{n + 1}"}, "b": {"$ref": f"#/$defs/{n + 1}"}}} for n in range(40)} | {"40": {}}, "$ref": "#/$defs/0"}, SchemaForm(inline=True), "", "more than 20000 parts"),
        ({"$defs": {str(n): {} for n in range(1001)}, "allOf": [{"$ref": f"#/$defs/{n}"} for n in range(1001)]}, SchemaForm(inline=True), "", "more than 1000 places"),
    ],
)  # fmt: skip
def test_what_would_lose_its_meaning_is_refused(schema, form, path, words):
    if not words:
        assert fitted(schema, form) == schema
        return
    began = time.monotonic()
    with pytest.raises(UnfitError) as caught:
        fitted(schema, form)
    assert (".".join(caught.value.path), words in caught.value.sentence) == (path, True), caught.value.sentence
    assert time.monotonic() - began < 10


# ------------------------------------------------------------------ in a call


def tool(parameters, **more):
    return {"type": "function", "function": {"name": "find.it", "parameters": parameters, **more}}


def answer(schema, **more):
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "found", "schema": schema, **more}}}


LIMITED = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}}
MAP = {"type": "object", "properties": {"tags": {"type": "object", "additionalProperties": {"type": "string"}}}}
LOOP = {"type": "object", "properties": {"next": {"$ref": "#"}}}


def sent(provider, *, tools=(), params=None, model="m"):
    spec = Loader().get(provider).spec(model)
    return build_body(spec, Call(model, ({"role": "user", "content": "hi"},), tuple(tools), params=params or {}))


def test_strict_ones_and_others():
    strict = {"request": {"schemas": {"tools": {"drop": {"minimum": ""}}, "strict": {"objects": CLOSED}}}}
    spec = definition(strict).spec()
    call = Call(
        "m",
        (),
        (
            tool(LIMITED),
            tool(LIMITED, strict=True),
            tool(LIMITED, strict=False),
            {"type": "custom", "custom": {"name": "c"}},
        ),
    )
    plain, held, loose, _ = (row.get("function", {}).get("parameters") for row in build_body(spec, call)["tools"])
    assert plain == loose == {"type": "object", "properties": {"n": {"type": "integer"}}}
    assert held == {**LIMITED, **CLOSED}
    for asked, wanted in ((answer(LIMITED), LIMITED), (answer(LIMITED, strict=True), {**LIMITED, **CLOSED})):
        before = json.dumps(asked)
        body = build_body(spec, Call("m", (), params=asked))
        assert body["response_format"]["json_schema"]["schema"] == wanted
        assert json.dumps(asked) == before, "the caller's own"


@pytest.mark.parametrize("params", [{"response_format": "json"}, {"response_format": {"type": "json_schema"}}, answer(None), answer({}), {"response_format": None}])  # fmt: skip
def test_answers_without_a_schema(params):
    spec = definition({"request": {"schemas": {"answers": {"objects": CLOSED}}}}).spec()
    assert build_body(spec, Call("m", (), params=params)).get("response_format") == params["response_format"]


def test_what_is_no_json_gets_the_usual_sentence():
    played = play(
        {"request": {"schemas": {"tools": {"objects": CLOSED}}}}, {"tools": [tool({"type": "object", "x": {1, 2}})]}
    )
    assert "cannot be written as JSON" in played.error.message
    deep = current = {}
    for _ in range(100_000):
        current["items"] = current = {}
    assert "cannot be written as JSON" in play({"request": {"schemas": {"tools": {"objects": CLOSED}}}}, {"tools": [tool(deep)]}).error.message  # fmt: skip


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ({"params": answer(MAP)}, "the schema of the answer 'found': properties.tags may have keys of any name, and this API wants each of them named; ask for a list of keys and values"),
        ({"tools": [tool(LOOP, strict=True)]}, "the schema of the tool 'find.it': properties.next leads back to itself by '#', and this API takes no recursion; write out as many levels as are needed"),
        ({"tools": [tool({"$ref": "#/$defs/x"}, strict=True)]}, "the schema of the tool 'find.it': its root refers to '#/$defs/x', and the schema has no such place"),
    ],
)  # fmt: skip
def test_the_sentence_of_a_refusal(call, sentence):
    """It names the tool or the answer by the caller's name, and nothing is sent."""
    played = play({"extends": "anthropic"}, call)
    assert played.requests == []
    assert isinstance(played.error, CapabilityError)
    assert str(played.error) == f"played: cannot take {sentence}." or played.error.message == f"cannot take {sentence}"


PROVIDERS = [
    (name, kind)
    for name in ("anthropic", "azure-anthropic", "openai", "openai-responses", "azure", "gemini", "xai", "mistral", "groq", "cerebras", "moonshot", "kimi-coding")
    for kind in ("tools", "answers")
]  # fmt: skip


@pytest.mark.parametrize(("provider", "kind"), PROVIDERS)
@given(schema=WHOLE)
def test_packaged_forms(provider, kind, schema):
    """What a file's forms leave out is nowhere in what they make, and the words they put in its place do not name it."""
    forms = Loader().get(provider).spec("m").request.schemas
    for form in (forms.form(kind, strict=False), forms.form(kind, strict=True)):
        if form is not None:
            made = fitted(schema, form)
            assert fitted(made, form) is made
    for form in filter(None, (forms.tools, forms.answers, forms.strict)):
        assert not [word for word, text in form.drop.items() if word in text]
        assert form.keep.keys() <= form.drop.keys()


def test_what_packaged_providers_are_sent():
    closed = {**LIMITED, **CLOSED}
    schema = sent("anthropic", params=answer(LIMITED))["output_config"]["format"]["schema"]
    assert schema == {"type": "object", "properties": {"n": {"type": "integer", "description": "at least 1"}}, **CLOSED}
    assert sent("anthropic", tools=[tool(LIMITED)])["tools"][0]["input_schema"] == LIMITED
    assert sent("anthropic", tools=[tool(LIMITED, strict=True)])["tools"][0]["input_schema"] == schema
    assert sent("openai", tools=[tool(LIMITED)])["tools"][0]["function"]["parameters"] == LIMITED
    assert sent("openai", tools=[tool(LIMITED, strict=True)])["tools"][0]["function"]["parameters"] == closed
    assert sent("openai", tools=[tool(LIMITED, strict=True)], model="x-codex")["tools"][0]["parameters"] == closed, (
        "in another dialect, too"
    )
    assert sent("groq", params=answer(LIMITED, strict=True))["response_format"]["json_schema"]["schema"] == closed
    ref = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/n", "description": "A"}},
        "$defs": {"n": {"type": "null"}},
    }
    flat = {"type": "object", "properties": {"a": {"type": "null", "description": "A"}}}
    assert sent("gemini", tools=[tool(ref)])["tools"][0]["functionDeclarations"][0]["parametersJsonSchema"] == flat
    for provider, model in (
        ("moonshot", "m"),
        ("zai", "glm-5.3"),
        ("groq", "openai/gpt-oss-120b"),
        ("fireworks", "a/glm-5p3"),
    ):
        assert sent(provider, tools=[tool(ref)], model=model)["tools"][0]["function"]["parameters"] == flat
    for provider in ("zai", "groq", "fireworks", "compatible"):
        assert sent(provider, tools=[tool(ref)])["tools"][0]["function"]["parameters"] == ref
    with pytest.raises(CapabilityError, match=r"properties\.next leads back"):
        sent("xai", tools=[tool(LOOP)])


def test_over_the_wire():
    """The same tools again: made once, and each time the same."""
    with RawServer() as server:
        config = {"providers": {"xai": {"api_url": server.url, "api_key": "k"}}}
        with prx.Client(config=config, env={}) as api:
            given = [tool({"type": "object", "properties": {"s": {"type": "string", "maxLength": 4}}})]
            before = json.dumps(given)
            for _ in range(2):
                api.chat("hi", "xai/m", tools=given, retries=0)
        assert json.dumps(given) == before
        bodies = [request["body"]["tools"][0]["function"] for request in server.requests]
    assert bodies[0] == bodies[1]
    assert bodies[0]["parameters"]["properties"]["s"] == {"type": "string", "description": "at most 4 characters"}


def test_the_page_says_what_happens():
    """The example of docs/write-a-provider.md is a file that works."""
    from prx import resources

    page = (resources.folder("providers.d").parent / "docs" / "write-a-provider.md").read_text()
    example = next(block for block in page.split("```yaml\n") if "tool_names" in block.partition("```")[0]).partition(
        "```"
    )[0]
    spec = definition(yaml.safe_load(example)).spec()
    body = build_body(spec, Call("m", (), (tool(LIMITED),), params=answer(LIMITED)))
    assert body["response_format"]["json_schema"]["schema"]["properties"]["n"] == {
        "type": "integer",
        "description": "at least 1",
    }
    assert body["tools"][0]["function"]["name"].startswith("find_it_")
