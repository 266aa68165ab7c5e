"""Any input of a person or a program: a call is built or refused in so many words, and so is a file or a setting."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from helpers import any_json, properties
from hypothesis import example, given
from hypothesis import strategies as st

import prx
from prx.core.request import build
from prx.urls import check_url

# What a caller may hand over that JSON has no word for.
STRANGE = st.sampled_from([b"bytes", {1, 2}, (), object, 1j, {1: 2}, {None: 1}, ("a", "b"), range(3)])
ANYTHING = any_json.JSON | STRANGE
PARTS = st.sampled_from(
    [
        {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "http://localhost/a.png"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"}},
        {"type": "refusal", "refusal": "no"},
    ]
)
CALLED = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}]
MESSAGES = st.one_of(
    st.builds(lambda role, text: {"role": role, "content": text}, st.sampled_from(["system", "developer", "user", "assistant"]), any_json.TEXTS),
    st.builds(lambda parts: {"role": "user", "content": parts}, st.lists(PARTS, min_size=1, max_size=3)),
    st.just({"role": "assistant", "content": None, "tool_calls": CALLED, "reasoning_content": "hm"}),
    st.just({"role": "assistant", "content": "", "function_call": {"name": "f", "arguments": "{}"}}),
    st.builds(lambda text: {"role": "tool", "tool_call_id": "c", "content": text}, any_json.TEXTS),
    st.just({"role": "assistant", "content": "a", "thinking_blocks": [{"type": "thinking", "thinking": "a", "signature": "b"}]}),
)  # fmt: skip
TALKS = st.lists(MESSAGES, min_size=1, max_size=5)
TOOLS = st.sampled_from([[properties.TOOL], [properties.FREE], [properties.TOOL, {"type": "web_search"}]])
CHOICES = st.sampled_from(["auto", "none", "required", {"type": "function", "function": {"name": "f"}}])
PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.floats(0, 2),
        "max_tokens": st.integers(1, 9),
        "stop": st.sampled_from(["a", ["a", "b"]]),
        "reasoning_effort": st.sampled_from(["none", "low", "high"]),
        "response_format": st.sampled_from(
            [{"type": "json_object"}, {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}, "strict": True}}]
        ),
        "parallel_tool_calls": st.booleans(),
    },
)  # fmt: skip
KEY = "sk-callers-own-key"  # not the one that may stand in a text here


@pytest.fixture(scope="module", params=properties.DIALECT_NAMES)
def client(request):
    spoken = {"a": {"extends": request.param, "api_url": "http://localhost:1/v1", "api_key": KEY}}
    with prx.Client(config={"providers": spoken}, env={}) as made:
        yield made


def asked(client, model: Any = "a/m", **given: Any) -> dict[str, Any] | prx.Error:
    """What would be sent, or why nothing is."""
    try:
        account, call = client.plan(given.pop("messages"), model, **given)
        return json.loads(build(account.definition.spec(call.model), call, account.target).body)
    except prx.Error as error:
        properties.sound_error(error, KEY)
        return error


# ------------------------------------------------------------------ calls


@given(messages=TALKS, tools=st.none() | TOOLS, choice=st.none() | CHOICES, params=PARAMS, stream=st.booleans())
def test_what_a_caller_may_say(client, messages, tools, choice, params, stream):
    """Right calls are built. The exceptions are told: a dialect without a word for it, a text that is no Unicode."""
    made = asked(client, messages=messages, tools=tools, tool_choice=choice, params=params, stream=stream)
    assert isinstance(made, dict) or made.kind in ("capability", "config"), made


@given(data=st.data())
def test_anything_in_a_call(client, data):
    """Any part of a right call swapped for anything, also for what is no JSON."""
    right = {
        "messages": data.draw(TALKS),
        "tools": data.draw(TOOLS),
        "tool_choice": data.draw(CHOICES),
        "params": data.draw(PARAMS),
    }
    grafted = data.draw(any_json.grafted(right, ANYTHING))
    if isinstance(grafted, dict) and isinstance(grafted.get("params"), dict | None):
        asked(client, **{"messages": "hi", **{name: grafted[name] for name in right if name in grafted}})


@given(messages=ANYTHING, tools=ANYTHING, choice=ANYTHING)
def test_anything_as_a_call(client, messages, tools, choice):
    asked(client, messages=messages, tools=tools, tool_choice=choice)


@given(name=st.dictionaries(any_json.NAMES, ANYTHING, max_size=2))
def test_anything_as_a_parameter(client, name):
    asked(client, messages="hi", params=name)


@given(model=st.builds("a/{}".format, any_json.TEXTS) | any_json.TEXTS | ANYTHING)
def test_anything_as_a_model(client, model):
    asked(client, model, messages="hi")


@pytest.mark.parametrize("limit", ["timeout", "deadline", "retries", "fallbacks"])
@given(value=ANYTHING)
def test_anything_as_a_limit(limit, value):
    with prx.Client(config={"providers": {"compatible": {"api_url": "http://localhost:1"}}}, env={}) as made:
        with suppress(prx.Error):
            made.stream("hi", "compatible/m", **{limit: value}).close()


# ------------------------------------------------------------------ what people write

URLS = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["http://", "https://", "", "ftp://", "http:", "//", "HTTP://", "http://[", "http://a@"]),
    st.sampled_from(["localhost", "a.example", "[::1]", "[", "é.example", "a b", "%zz", ""]) | any_json.TEXTS,
    st.sampled_from(["", ":1", ":0", ":99999", ":x", "/v1", "/v1?a=b&c", "#a", "]", "?"]),
    st.just("") | any_json.TEXTS,
)


@given(url=URLS | any_json.TEXTS)
def test_any_text_as_a_url(url):
    """It is refused, or a request can be built for it; the key is not in it."""
    with suppress(prx.Error):
        check_url(url)
    with suppress(prx.Error):
        settings = {"compatible": {"api_url": url, "api_key": KEY}}
        with prx.Client(config={"providers": settings}, env={}) as made:
            account, call = made.plan("hi", "compatible/m")
            request = build(account.definition.spec(), call, account.target)
            assert KEY not in request.full_url()


CONFIG = {
    "default": {"provider": "a", "model": "m"},
    "providers": {"a": {"api_url": "http://localhost/v1", "api_key": "k", "headers": {"x": "y"}, "timeout": 1.0, "retries": 1}},
    "model_routes": [{"pattern": "b/*", "provider": "a", "model": "{name}"}],
    "images": {"urls": True, "max_bytes": 1},
}  # fmt: skip


@given(config=any_json.grafted(CONFIG, ANYTHING) | st.dictionaries(st.text(max_size=5), ANYTHING, max_size=3))
@example({"providers": {"a": {1: 2}}})
def test_any_mapping_as_a_configuration(config):
    if isinstance(config, dict):
        with suppress(prx.Error), prx.Client(config=config, env={}) as made:
            made.plan("hi")


WORDS = [
    "spec",
    "id",
    "extends",
    "base_url",
    "auth",
    "request",
    "body",
    "response",
    "content",
    "=",
    "a",
    "1",
    "null",
    "[",
    "]",
    "{",
    "}",
    "- ",
    ": ",
]
LINES = st.lists(
    st.sampled_from(
        [*WORDS, "\n", "  ", "#", "'", '"', "|", ">", "&a", "*a", "<<", "!!str", "---", "? ", "\t", "é", "\x00"]
    ),
    max_size=20,
)
TEXTS = LINES.map("".join) | st.text(max_size=40)


@given(text=TEXTS)
@example("{}")
@example("[" * 3000)
def test_any_text_as_yaml(text):
    properties.yaml_text(text)


def changed(paths):
    """The text of one of these files with a few of its lines changed."""
    texts = [path.read_text() for path in paths]
    edits = st.lists(st.tuples(st.integers(0, 200), TEXTS | st.just(None)), max_size=3)
    return st.builds(_edited, st.sampled_from(texts), edits)


def _edited(text: str, edits: list[tuple[int, str | None]]) -> bytes:
    lines = text.splitlines()
    for place, words in edits:
        at = place % len(lines)
        lines[at] = "" if words is None else lines[at][: place % (len(lines[at]) + 1)] + words
    return "\n".join(lines).encode("utf-8", "surrogatepass")


@given(text=changed(sorted(properties.SPECS.glob("valid/*.yaml"))) | TEXTS.map(str.encode))
@example(b"{}")
def test_any_text_as_a_providers_file(text):
    properties.provider_file(text)


@given(text=changed(sorted(properties.CASES.glob("*.yaml"))) | TEXTS.map(str.encode))
@example(b"{}")
def test_any_text_as_a_case(text):
    properties.case_file(text)


TOML = st.lists(
    st.sampled_from(["[", "]", "[[", "]]", "=", '"', "'", '"""', "\n", "a", "providers", "default", "model_routes", ".", "1", "true", "2020-01-01", ",", "{", "}", "#", " "]),
    max_size=20,
).map("".join)  # fmt: skip


@given(text=TOML | TEXTS)
@example("a=" + "[" * 2000 + "]" * 2000)
@example("a=" + "9" * 5000)
def test_any_text_as_a_configuration(text):
    properties.config_file(text.encode("utf-8", "surrogatepass"))
