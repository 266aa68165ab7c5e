"""extra_body, extra_headers and extra_query: what a caller adds to a request as it is, as in the OpenAI SDK."""

from __future__ import annotations

import pytest
from helpers.byte_server import RawServer, response

import prx

EXTRA = {
    "extra_body": {"enable_thinking": True, "temperature": 1, "nothing": None},
    "extra_headers": {"X-Trace": "on"},
    "extra_query": {"trace": "on", "n": 2, "deep": True},
}


def client(url, provider="compatible", **settings):
    return prx.Client(config={"providers": {provider: {"api_url": url, "api_key": "sk-own-key", **settings}}}, env={})


def test_they_go_into_the_request_as_they_are():
    with RawServer(response()) as server, client(server.url) as api:
        api.chat("hi", "compatible/m", temperature=0.2, **EXTRA)
    sent = server.requests[0]
    body = sent["body"]
    assert (body["enable_thinking"], body["temperature"], body["nothing"]) == (True, 1, None)
    assert not {"extra_body", "extra_headers", "extra_query"} & body.keys()
    assert sent["headers"]["x-trace"] == "on"
    assert "/chat/completions?trace=on&n=2&deep=true " in sent["line"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"extra_body": {"stream": True}}, "extra_body: 'stream' is set by the call itself"),
        ({"extra_body": {"messages": []}}, "extra_body: 'messages'"),
        ({"extra_body": [1]}, "extra_body must be a mapping"),
        ({"extra_body": {1: 2}}, "extra_body must be a mapping"),
        ({"extra_headers": {"Authorization": "Bearer x"}}, "extra_headers: Authorization carries a key"),
        ({"extra_headers": {"content-length": "3"}}, "prx sets content-length itself"),
        ({"extra_headers": {"x-a": "b\r\nx-c: d"}}, "printable ASCII"),
        ({"extra_headers": {"x a": "b"}}, "printable ASCII"),
        ({"extra_headers": {"x-a": 1}}, "printable ASCII"),
        ({"extra_query": {"a": [1]}}, "extra_query: the value of 'a' must be a text or a number"),
    ],
)
def test_what_cannot_be_added_is_refused_before_anything_is_sent(given, words):
    with RawServer(response()) as server, client(server.url) as api:
        with pytest.raises(prx.ConfigError, match=words.replace("(", r"\(")) as caught:
            api.chat("hi", "compatible/m", **given)
        assert server.requests == []
    assert "sk-own-key" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "given"),
    [
        ({"auth_style": "x-api-key"}, {"extra_headers": {"X-API-Key": "other"}}),
        ({"auth_style": "query", "auth_name": "key"}, {"extra_query": {"key": "other"}}),
    ],
)
def test_the_place_of_the_key_is_not_theirs(settings, given):
    with RawServer(response()) as server, client(server.url, **settings) as api:
        with pytest.raises(prx.ConfigError, match="carries the key"):
            api.chat("hi", "compatible/m", **given)
        assert server.requests == []


MODELS = """
spec: 1
id: mine
extends: openai-chat
base_url: http://127.0.0.1:9/v1
auth: {style: bearer}
overrides:
  - {model: 'claude-*', extends: anthropic-messages, auth: {style: x-api-key}}
  - {model: 'gemini-*', auth: {style: custom, name: x-goog-api-key, template: 'Key {api_key}'}}
  - {model: 'q-*', auth: {style: query, name: key}}
"""
KEYS = {"authorization", "x-api-key", "x-goog-api-key"}


@pytest.mark.parametrize(
    ("model", "path", "headers"),
    [
        ("m", "/chat/completions", {"authorization": "Bearer sk-own-key"}),
        ("claude-1", "/messages", {"x-api-key": "sk-own-key"}),
        ("gemini-1", "/chat/completions", {"x-goog-api-key": "Key sk-own-key"}),
        ("q-1", "/chat/completions?key=sk-own-key", {}),
    ],
)
def test_one_key_in_the_form_that_a_model_wants(tmp_path, model, path, headers):
    (tmp_path / "mine.yaml").write_text(MODELS)
    config = {"providers": {"mine": {"api_key": "sk-own-key"}}}
    with RawServer(response()) as server:
        (tmp_path / "mine.yaml").write_text(MODELS.replace("http://127.0.0.1:9/v1", server.url))
        with prx.Client(config=config, providers=tmp_path, env={}) as api:
            if model == "claude-1":
                with pytest.raises(prx.ProtocolError):  # the answer is of another dialect
                    api.chat("hi", f"mine/{model}", retries=0)
            else:
                api.chat("hi", f"mine/{model}", retries=0)
    sent = server.requests[0]
    assert f"{path} " in sent["line"]
    assert {name: value for name, value in sent["headers"].items() if name in KEYS} == headers


def test_the_form_that_the_configuration_names_holds_for_every_model(tmp_path):
    with RawServer(response()) as server:
        (tmp_path / "mine.yaml").write_text(MODELS.replace("http://127.0.0.1:9/v1", server.url))
        config = {"providers": {"mine": {"api_key": "sk-own-key", "auth_style": "custom", "auth_name": "api-key"}}}
        with prx.Client(config=config, providers=tmp_path, env={}) as api:
            api.chat("hi", "mine/gemini-1", retries=0)
    assert server.requests[0]["headers"]["api-key"] == "sk-own-key"
    assert not KEYS & server.requests[0]["headers"].keys()
