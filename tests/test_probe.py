"""prx probe: what it writes is a good file, and true; what it could not learn is not in it."""

from __future__ import annotations

import base64
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time

import pytest
import yaml
from helpers import commands
from helpers.byte_server import RawServer, response
from judges import dialects
from judges.dialects import Emulator

from prx.client import Client
from prx.conformance import cases
from prx.emulator import server
from prx.errors import AuthError, BadRequestError, ConfigError, Error, ProtocolError, RateLimitError, ServerError
from prx.probe import Order, probe
from prx.probe.doors import doors
from prx.probe.draft import Draft, lay
from prx.probe.findings import refuses, told
from prx.probe.line import Ask, Line
from prx.probe.names import for_chats, for_embeddings
from prx.spec.loader import Loader

KEY = "sk-the-right-key-1"
CATALOG = Loader()
CASES = cases.load()


class Made:
    """A report, its file read back, and the conformance cases that it fails."""

    def __init__(self, folder, url, key=KEY, **order):
        order = {"key_env": "MINE_KEY" if key else "", "pause": 0, "date": "2026-01-01", **order}
        self.report = probe(Order(url, "mine", key, **order), CATALOG)
        self.folder, self.key = folder, key
        path = folder / "mine.yaml"
        path.write_text(self.report.text)
        assert CATALOG.check(path)[1] == []
        self.raw = yaml.safe_load(self.report.text)
        self.can = self.raw.get("capabilities", {})
        self.found = {finding.name: finding for finding in self.report.findings}

    def failures(self):
        failed = {}
        for wrong in (False, True):
            config = {"providers": {"mine": {"api_key": "sk-wrong" if wrong else self.key}}} if self.key else {}
            with Client(config=config, providers=self.folder, env={}) as client:
                definition = client.accounts.get("mine").definition
                spec = definition.spec(definition.spec().models.default)
                for case in CASES:
                    if case.fits(spec) and (case.key == "wrong") == wrong:
                        seen = cases.play(case, client, "mine", spec.models.default)
                        failed[case.name] = cases.failures(case, spec, seen)
        assert {"chat", "unknown_model"} <= failed.keys()
        return {name: row for name, row in failed.items() if row}


@pytest.fixture
def meddle(monkeypatch):
    """An emulator with a say before it: a function of the body that gives (status, answer), or None to let it pass."""

    def put(before):
        usual = server._Handler._post

        def post(self, *where):
            request = json.loads(self.body)
            answered = before(request)
            self.body = json.dumps(request).encode()
            return self._json(*answered) if answered else usual(self, *where)

        monkeypatch.setattr(server._Handler, "_post", post)

    return put


def refusal(message, status=400):
    return status, {"error": {"message": message, "type": "invalid_request_error"}}


# ------------------------------------------------------------------ what speaks Chat Completions


def test_the_usual_server(tmp_path):
    with Emulator({"key": KEY, "auth": "authorization"}) as emulator:
        made = Made(tmp_path, emulator.url.removesuffix("/v1"))
        assert made.raw["extends"] == "openai-chat"
        assert made.raw["base_url"] == emulator.url
        assert made.raw["auth"] == {"style": "bearer", "env": "MINE_KEY", "required": True}
        assert made.raw["models"] == {"default": "words"}
        yes = ("models", "stream", "tools", "parallel_tools", "vision", "reasoning", "responses")
        assert {name for name, can in made.can.items() if can} == set(yes)
        assert "deviations" not in made.raw
        assert made.failures() == {}
    assert made.report.requests <= 25
    assert KEY not in json.dumps(made.report.plain())


def test_every_line_says_what_showed_it(tmp_path):
    with Emulator({"key": KEY}) as emulator:
        lines = Made(tmp_path, emulator.url).report.text.splitlines()
    flags = [line for line in lines if line.strip().endswith("(2026-01-01)")]
    assert len([line for line in flags if ": true  # " in line or ": false  # " in line]) >= 8
    tools = next(line for line in lines if line.startswith("  tools:"))
    assert tools == (
        '  tools: true  # POST /v1/chat/completions with tools: called get_weather({"city": "Paris"}) and '
        'get_weather({"city": "London"}) (2026-01-01)'
    )
    assert "# Not learned:" in lines
    assert "# - audio: not asked" in lines


def test_what_only_looks_like_an_answer_is_none(tmp_path):
    """This emulator gives JSON without a look at the schema, and calls nothing because it has to."""
    with Emulator() as emulator:
        made = Made(tmp_path, emulator.url, "")
    assert made.can["json_schema"] is False
    assert "ignored twice" in made.found["json schema"].how
    assert made.can["tool_choice"] is False


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "/v1/chat/completions", "/proxy", "/proxy/v1"])
def test_any_part_of_the_address_will_do(tmp_path, path):
    with Emulator() as emulator:
        made = Made(tmp_path, emulator.url.removesuffix("/v1") + path, "")
        assert made.raw["extends"] == "openai-chat"
        assert made.raw["auth"] == {"style": "none"}
        assert made.failures() == {}


@pytest.mark.parametrize(
    ("header", "auth"),
    [
        ("authorization", {"style": "bearer"}),
        ("x-api-key", {"style": "x-api-key"}),
        ("api-key", {"style": "custom", "name": "api-key"}),
        ("x-goog-api-key", {"style": "custom", "name": "x-goog-api-key"}),
    ],
)
def test_the_key_travels_as_the_server_wants_it(tmp_path, header, auth):
    with Emulator({"key": KEY, "auth": header}) as emulator:
        made = Made(tmp_path, emulator.url.removesuffix("/v1"))
        assert made.raw["auth"] == {**auth, "env": "MINE_KEY", "required": True}
        assert made.failures() == {}


@pytest.mark.parametrize(
    ("habits", "expected"),
    [
        ({"refuses": ["system"]}, {"system": "merge_into_first_user"}),
        ({"refuses": ["max_tokens"]}, {"parameters": {"max_tokens": {"rename": "max_completion_tokens"}}}),
        ({"refuses": ["stream_options"], "usage": "last_choice"}, {"body": {"stream_options": None}}),
        ({"reasoning": "think_tags", "refuses": ["system", "max_tokens"], "usage": "last_choice"},
         {"system": "merge_into_first_user", "parameters": {"max_tokens": {"rename": "max_completion_tokens"}}}),
    ],
)  # fmt: skip
def test_what_is_refused_is_said_in_other_words(tmp_path, habits, expected):
    with Emulator({"key": KEY, **habits}) as emulator:
        made = Made(tmp_path, emulator.url)
        assert made.raw["request"] == expected
        assert "refused without it (400: " in made.report.text.partition("request:")[2].partition("models:")[0]
        assert made.can["stream"]
        assert made.can["tools"]
        assert made.failures() == {}


def test_a_stream_that_counts_nothing_is_said_to(tmp_path):
    with Emulator({"refuses": ["stream_options"]}) as emulator:
        made = Made(tmp_path, emulator.url, "")
        assert made.raw["deviations"]["stream_usage"] == ["!(reply.usage.total_tokens > `0`)"]
        assert made.failures() == {}


def test_streaming_refused(tmp_path):
    with Emulator({"refuses": ["stream"]}) as emulator:
        made = Made(tmp_path, emulator.url, "")
        assert made.can["stream"] is False
        assert made.can["tools"] is True
        assert made.found["stream tools"].verdict == "open"
        assert made.failures() == {}


@pytest.mark.parametrize(
    ("style", "place"),
    [
        ("reasoning_content", "choices[0].message.reasoning_content"),
        ("reasoning", "choices[0].message.reasoning"),
        ("parts", "choices[0].message.content[?type == 'thinking']"),
        ("think_tags", "<think> </think>"),
    ],
)
def test_where_the_reasoning_is(tmp_path, style, place):
    with Emulator({"reasoning": style}) as emulator:
        made = Made(tmp_path, emulator.url, "")
        assert made.can["reasoning"] is True
        assert f"in {place}" in made.found["reasoning"].how
        assert made.failures() == {}


@pytest.mark.parametrize(
    "habits",
    [{"usage": "every_chunk"}, {"tool_index": False}, {"tool_arguments": "object"}, {"done": False}, {"keep_alive": True}, {"error": "flat"},
     {"error": "text"}, {"error": "detail"}],
    ids=str,
)  # fmt: skip
def test_other_habits_change_nothing(tmp_path, habits):
    with Emulator({"key": KEY, **habits}) as emulator:
        made = Made(tmp_path, emulator.url)
        assert made.can["tools"]
        assert made.failures() == {}


# ------------------------------------------------------------------ the other dialects


@pytest.mark.parametrize(
    ("dialect", "base"),
    [
        ("anthropic-messages", "/v1"),
        ("gemini", "/v1beta"),
        ("cohere-v2", ""),
        ("ollama", ""),
        ("openai-responses", "/v1"),
    ],
)
def test_every_dialect_is_found_with_no_hint(tmp_path, dialect, base):
    own = {**CATALOG.dialect_or_provider(dialect)["auth"]}
    header = {"bearer": "authorization", "x-api-key": "x-api-key"}.get(own.get("style"), own.get("name"))
    with Emulator({"key": KEY, "auth": header, "speaks": [dialect], "lists": dialect}) as emulator:
        root = emulator.url.removesuffix("/v1")
        made = Made(tmp_path, root, model="words")
        assert (made.raw["extends"], made.raw["base_url"]) == (dialect, root + base)
        assert made.raw["auth"]["style"] == own["style"]
        assert all(made.can[name] for name in ("stream", "tools", "parallel_tools", "vision", "reasoning"))
        assert made.failures() == {}


def test_a_dialect_of_ones_own_is_asked_as_well(tmp_path, monkeypatch):
    (tmp_path / "_dialects").mkdir()
    (tmp_path / "_dialects" / "odd.yaml").write_text(
        "spec: 1\nid: odd\nextends: openai-chat\nendpoints: {chat: /odd, models: null}\n"
    )
    (tmp_path / "_dialects" / "bad.yaml").write_text("spec: 1\nid: bad\nextends: nothing\n")
    monkeypatch.setattr(dialects, "_POST", ((r"/v1/odd", "openai-chat"),))
    with Emulator() as emulator:
        order = Order(emulator.url, "mine", model="words", pause=0, folders=(str(tmp_path),))
        report = probe(order, Loader([tmp_path]))
    assert report.dialect == "odd"
    assert "models: the dialect has no list" in "\n".join(report.open)


def test_a_model_that_is_only_on_another_path(tmp_path):
    with Emulator(
        {"models": ["words"], "only_at": {"words": "/responses"}, "speaks": ["openai-chat", "openai-responses"]}
    ) as emulator:
        made = Made(tmp_path, emulator.url, "")
        assert made.raw["extends"] == "openai-responses"
        assert made.failures() == {}


def test_where_a_dialect_is_at_home_it_is_asked_for_first():
    def first(url):
        return doors(CATALOG, url)[0][:2]

    assert first("http://h") == ("openai-chat", "http://h/v1")
    assert first("http://h/v1beta") == ("gemini", "http://h/v1beta")
    assert first("http://h/x/v1/messages") == ("anthropic-messages", "http://h/x/v1")
    assert first("http://h/v1beta/models/m:generateContent?a=b") == ("gemini", "http://h/v1beta?a=b")
    assert {door.dialect for door in doors(CATALOG, "http://h")} == set(CATALOG.dialects()) - {"json-http"}
    assert all((door.base_url + door.endpoint).startswith("http://h/v1/x") for door in doors(CATALOG, "http://h/v1/x"))


# ------------------------------------------------------------------ no is no only where it was said


@pytest.mark.parametrize(
    "message", ["tools is not supported by this model", "body.tools: not permitted", "Unknown parameter: 'tools'"]
)
def test_tools_refused(tmp_path, meddle, message):
    meddle(lambda body: refusal(message) if body.get("tools") else None)
    with Emulator() as emulator:
        made = Made(tmp_path, emulator.url, "")
        assert made.can["tools"] is False
        assert not made.can.keys() & {"tool_choice", "parallel_tools"}
        assert made.failures() == {}


def test_tools_ignored(tmp_path, meddle):
    meddle(lambda body: body.pop("tools", None) and None)
    with Emulator() as emulator:
        made = Made(tmp_path, emulator.url, "")
        assert made.can["tools"] is False
        assert "ignored twice" in made.found["tools"].how


@pytest.mark.parametrize(
    "answer",
    [
        refusal("Bad request"),
        refusal("boom", 500),
        refusal("slow down", 429),
        refusal("no credits", 402),
        refusal("tools", 403),
    ],
)
def test_what_refuses_nothing_by_name_leaves_it_open(tmp_path, meddle, answer, monkeypatch):
    monkeypatch.setattr(time, "sleep", [].append)
    meddle(lambda body: answer if body.get("tools") else None)
    with Emulator() as emulator:
        made = Made(tmp_path, emulator.url, "")
    assert "tools" not in made.can
    assert made.can["stream"] is True
    assert any(line.startswith("tools: ") for line in made.report.open)


@pytest.mark.parametrize(
    ("capability", "wants", "message"),
    [
        ("vision", lambda body: "image_url" in json.dumps(body), "tiny is not a multimodal model"),
        ("json_schema", lambda body: "response_format" in body, "response_format json_schema is not supported"),
        (
            "reasoning",
            lambda body: "reasoning_effort" in body,
            "Unrecognized request argument supplied: reasoning_effort",
        ),
        (
            "tool_choice",
            lambda body: body.get("tool_choice", "none") != "none",
            "tool_choice=required is not implemented",
        ),
        ("stream", lambda body: body.get("stream"), "stream is not available"),
    ],
)
def test_each_feature_refused_by_its_name(tmp_path, meddle, capability, wants, message):
    meddle(lambda body: refusal(message) if wants(body) else None)
    with Emulator() as emulator:
        made = Made(tmp_path, emulator.url, "")
        assert made.can[capability] is False
        assert made.can["tools"] is True
        assert made.failures() == {}


def test_of_several_models_a_no_holds_for_the_one_asked(tmp_path, meddle):
    meddle(lambda body: refusal("no vision here: not supported") if "image_url" in json.dumps(body) else None)
    with Emulator({"models": ["big", "words-[mini]"]}) as emulator:
        made = Made(tmp_path, emulator.url, "")
        assert made.raw["models"]["default"] == "words-[mini]"
        (row,) = made.raw["overrides"]
        assert row["model"] == "words-[[]mini]"
        assert row["capabilities"]["vision"] is False
        assert "vision" not in made.can
        with Client(config={}, providers=tmp_path, env={}) as client:
            definition = client.accounts.get("mine").definition
        assert not definition.spec("words-[mini]").can("vision")
        assert definition.spec("big").can("vision")
        assert made.failures() == {}


def test_a_call_that_comes_as_text_is_neither(tmp_path, meddle):
    message = {"role": "assistant", "content": '<tool_call>{"name": "get_weather"}</tool_call>'}
    answer = 200, {"choices": [{"message": message, "finish_reason": "stop"}]}
    meddle(lambda body: answer if body.get("tools") else None)
    with Emulator() as emulator:
        made = Made(tmp_path, emulator.url, "")
    assert "tools" not in made.can
    assert "came as text" in made.found["tools"].how


def test_a_refused_temperature_is_left_out(tmp_path, meddle):
    meddle(lambda body: refusal("temperature does not support 0 with this model") if "temperature" in body else None)
    with Emulator() as emulator:
        made = Made(tmp_path, emulator.url, "")
        assert made.raw["request"]["parameters"] == {"temperature": {"drop": True}}
        assert made.failures() == {}


def test_a_limit_that_is_ignored_under_one_name(tmp_path, meddle):
    meddle(lambda body: body.pop("max_tokens", None) and None)
    with Emulator() as emulator:
        made = Made(tmp_path, emulator.url, "")
        assert made.raw["request"]["parameters"] == {"max_tokens": {"rename": "max_completion_tokens"}}
        assert made.failures() == {}


# ------------------------------------------------------------------ what the server does otherwise than a case wants


def test_a_limit_that_nobody_keeps(tmp_path, meddle):
    meddle(lambda body: [body.pop(name, None) for name in ("max_tokens", "max_completion_tokens")] and None)
    with Emulator() as emulator:
        made = Made(tmp_path, emulator.url, "")
        assert set(made.raw["deviations"]) == {"max_tokens", "stream_stop"}
        assert made.failures() == {}
    assert made.found["limit"].how.startswith("with a limit of 5 tokens, the answer ended with 'stop' after ")
    assert not any(line.startswith("limit") for line in made.report.open)


def test_one_call_at_a_time(tmp_path, meddle):
    def before(body):
        for message in body.get("messages", ()):
            if isinstance(message["content"], str):
                message["content"] = message["content"].replace(" and London", "")

    meddle(before)
    with Emulator() as emulator:
        made = Made(tmp_path, emulator.url, "")
        assert made.can["tools"] is True
        assert set(made.raw["deviations"]) == {"tools", "stream_tools"}
        assert made.failures() == {}
    assert "length(tool_calls): wanted 2, came 1" in made.report.text


def test_functions_are_called_although_that_is_forbidden(tmp_path, meddle):
    meddle(lambda body: body.pop("tool_choice", None) and None)
    with Emulator() as emulator:
        made = Made(tmp_path, emulator.url, "")
        assert "tool_none" in made.raw["deviations"]
        assert made.failures() == {}


def test_a_limit_and_the_tokens_together(tmp_path, monkeypatch, meddle):
    """Two findings about one case leave both conditions out of it."""
    usual = server._Handler._json

    def uncounted(self, status, value):
        usual(self, status, {name: part for name, part in value.items() if name != "usage"})

    monkeypatch.setattr(server._Handler, "_json", uncounted)
    meddle(lambda body: [body.pop(name, None) for name in ("max_tokens", "max_completion_tokens")] and None)
    with Emulator() as emulator:
        made = Made(tmp_path, emulator.url, "")
        assert made.failures() == {}


def test_an_unknown_model_is_an_error_of_the_servers_each_time(tmp_path, meddle):
    meddle(lambda body: (500, {"detail": "oh no"}) if body["model"] != "words" else None)
    with Emulator() as emulator:
        made = Made(tmp_path, emulator.url, "", model="words")
        assert made.raw["deviations"] == {"unknown_model": ["error.kind == 'server' && error.status == `500`"]}
        assert made.failures() == {}


def test_what_was_ignored_first_is_said_beside_the_error(tmp_path, meddle):
    def before(body):
        detail = [{"loc": ["body", "tool_choice"], "msg": "Input should be 'auto'"}]
        choice = body.pop("tool_choice", None)
        body.pop("tools", None)
        return (422, {"detail": detail}) if choice else None

    meddle(before)
    with Emulator() as emulator:
        made = Made(tmp_path, emulator.url, "")
    assert made.found["tools"].how.endswith("; then 422: tool_choice: Input should be 'auto'")
    assert made.found["tools"].how.startswith("says ")


def test_a_stream_that_comes_as_one_body_is_none(tmp_path, meddle):
    meddle(lambda body: body.pop("stream", None) and None)
    with Emulator() as emulator:
        made = Made(tmp_path, emulator.url, "")
        assert made.can["stream"] is False
        assert made.failures() == {}


@pytest.mark.parametrize(
    ("message", "kind", "expected"),
    [
        ("image input is not supported", ServerError, True),
        ("this is not a multimodal model", BadRequestError, True),
        ("image dimensions are not supported: at least 28x28", BadRequestError, False),
        ("tools are not supported", BadRequestError, False),
        ("image", BadRequestError, False),
        ("image input is not supported on your plan", RateLimitError, False),
        ("image input is not allowed for this key", AuthError, False),
    ],
)
def test_an_error_that_speaks_of_the_feature(message, kind, expected):
    assert refuses(kind(message), ("image", "multimodal")) is expected


# ------------------------------------------------------------------ wrong keys and unknown models


def test_what_errors_are_like_here(tmp_path, monkeypatch):
    usual = server._Handler._check_key

    def check(self):
        if "sk-wrong" in str(self.headers) or "sk-this-key-is-wrong" in str(self.headers):
            self.persona = {**self.persona, "odd": True}
            return
        usual(self)

    monkeypatch.setattr(server._Handler, "_check_key", check)
    monkeypatch.setattr(server._Handler, "_names", lambda _self: ["words", "no-such-model"])
    with Emulator({"key": KEY}) as emulator:
        made = Made(tmp_path, emulator.url)
        assert made.raw["deviations"] == {"wrong_key": ["reply.content"], "unknown_model": ["reply.content"]}
        assert made.failures() == {}


def test_an_unknown_model_by_another_status(tmp_path, meddle):
    meddle(lambda body: refusal("no route") if body["model"] != "words" else None)
    with Emulator() as emulator:
        made = Made(tmp_path, emulator.url, "", model="words")
        assert made.raw["deviations"] == {"unknown_model": ["error.kind == 'bad_request' && error.status == `400`"]}
        assert made.failures() == {}


# ------------------------------------------------------------------ embeddings


def is_embedding(body):
    """Whether a body is that of the request for an embedding; the Responses API has the key `input` too."""
    return body.get("input") == "hello"


def models_asked(emulator):
    """The models that were asked for an embedding."""
    return [asked.model for asked in emulator.heard if getattr(asked, "kind", "") == "embed"]


def test_embeddings_of_the_demo(tmp_path):
    with server.Emulator() as emulator:
        made = Made(tmp_path, emulator.url, "")
        assert made.raw["calls"] == {"embed": {}}
        assert (
            "  embed: {}  # POST /v1/embeddings: words gave a vector of 64 numbers (2026-01-01)"
            in made.report.text.splitlines()
        )
        assert models_asked(emulator) == ["words"]
        assert made.failures() == {}
        assert len(models_asked(emulator)) > 1, "conformance asks for the kind that the file names"


def test_a_model_named_for_embeddings_is_asked_and_never_for_a_chat(tmp_path):
    with server.Emulator({"models": ["e5-small", "bge-reranker-base", "acme-7b"]}) as emulator:
        made = Made(tmp_path, emulator.url, "")
        assert models_asked(emulator) == ["e5-small"]
        assert {asked.model for asked in emulator.heard if getattr(asked, "kind", "") != "embed"} >= {"acme-7b"}
    assert made.raw["models"] == {"default": "acme-7b"}
    assert made.found["embeddings"].how == "e5-small gave a vector of 64 numbers"


def test_three_models_are_asked_at_most(tmp_path, meddle):
    asked = []

    def before(body):
        if not is_embedding(body):
            return None
        asked.append(body["model"])
        return refusal("this model is not loaded")

    meddle(before)
    with server.Emulator({"models": ["words", "a-embed", "b-embed", "c-embed", "d-embed"]}) as emulator:
        made = Made(tmp_path, emulator.url, "", model="words")
    assert asked == ["a-embed", "b-embed", "c-embed"]
    assert "calls" not in made.raw
    assert [line for line in made.report.open if line.startswith("embeddings")] == [
        "embeddings: POST /v1/embeddings: none from a-embed, b-embed, c-embed: 400: this model is not loaded"
    ]


def test_the_second_model_may_have_what_the_first_has_not(tmp_path, meddle):
    meddle(lambda body: refusal("not loaded") if is_embedding(body) and body["model"] == "bge-m3" else None)
    with server.Emulator({"models": ["words", "bge-m3", "all-MiniLM-L6-v2"]}) as emulator:
        made = Made(tmp_path, emulator.url, "")
    assert made.raw["calls"] == {"embed": {}}
    assert made.found["embeddings"].how.startswith("all-MiniLM-L6-v2 gave")


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_server_without_embeddings_costs_one_request_and_one_line(tmp_path, meddle, status):
    asked, said = [], []

    def before(body):
        if not is_embedding(body):
            return None
        asked.append(body["model"])
        return refusal("Not Found", status)

    meddle(before)
    with server.Emulator({"models": ["words", "a-embed", "b-embed"]}) as emulator:
        made = Made(tmp_path, emulator.url, "", say=said.append)
    assert asked == ["a-embed"]
    assert "calls" not in made.raw
    (line,) = [finding for finding in said if finding.name == "embeddings"]
    assert (line.verdict, line.how) == ("no", f"refused: {status}: Not Found")


def test_a_server_that_answers_everything_with_a_chat(tmp_path, meddle):
    chat = {"model": "words", "choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}]}
    meddle(lambda body: (200, chat) if is_embedding(body) else None)
    with server.Emulator() as emulator:
        made = Made(tmp_path, emulator.url, "")
    assert "calls" not in made.raw
    assert "the answer has no vectors for 1 inputs" in made.found["embeddings"].how
    assert any(line.startswith("embeddings: POST /v1/embeddings: none from words: ") for line in made.report.open)


@pytest.mark.parametrize(
    ("vector", "words"),
    [
        (["a", "b"], "a vector is not a list of numbers"),
        ([], "a vector is not a list of numbers"),
        ([0.5], "a vector of 1 number came, which is no embedding"),
        ([0, 0, 0], "a vector of 3 zeros came, which is no embedding"),
    ],
)
def test_an_answer_that_is_no_embedding_is_told(tmp_path, meddle, vector, words):
    meddle(lambda body: (200, {"data": [{"index": 0, "embedding": vector}]}) if is_embedding(body) else None)
    with server.Emulator() as emulator:
        made = Made(tmp_path, emulator.url, "")
    assert "calls" not in made.raw
    assert made.found["embeddings"].verdict == "open"
    assert words in made.found["embeddings"].how


@pytest.mark.parametrize(("models", "verdict"), [(["words"], "no"), (["words", "others"], "open")])
def test_embeddings_refused_by_name(tmp_path, meddle, models, verdict):
    """Another model may have what the one that was asked refuses."""
    meddle(lambda body: refusal("embeddings are not supported") if is_embedding(body) else None)
    with server.Emulator({"models": models}) as emulator:
        made = Made(tmp_path, emulator.url, "")
    assert made.found["embeddings"].verdict == verdict
    assert "400: embeddings are not supported" in made.found["embeddings"].how
    assert "calls" not in made.raw


def test_a_dialect_without_embeddings_is_not_asked_for_them(tmp_path):
    with Emulator({"speaks": ["anthropic-messages"], "lists": "anthropic-messages"}) as emulator:
        made = Made(tmp_path, emulator.url.removesuffix("/v1"), "", model="words")
    assert made.raw["extends"] == "anthropic-messages"
    assert made.found["embeddings"].how == "not asked, since the dialect has none"


def test_a_path_that_is_a_formula_is_not_told_as_one(tmp_path):
    (tmp_path / "_dialects").mkdir()
    (tmp_path / "_dialects" / "odd.yaml").write_text(
        "spec: 1\nid: odd\nextends: openai-chat\nendpoints: {models: /models}\n"
        "calls: {embed: {endpoint: {match: input_type, cases: {query: /queries}, else: /embeddings}}}\n"
    )
    with server.Emulator({"models": ["words"]}) as emulator:
        line = Line("", tmp_path, (str(tmp_path),), {}, limit=1, pause=0, say=print, model="words")
        answer = line.ask(Draft.of("mine", "odd", emulator.url, {"style": "none"}), Ask({"input": "hello"}, "embed"))
        line.close()
    assert (answer.asked, answer.error) == ("POST /v1/…", None)
    assert len(answer.vectors[0]) == 64


@pytest.mark.parametrize(
    ("name", "embeds"),
    [
        ("text-embedding-3-small", True), ("nomic-embed-text:latest", True), ("intfloat/multilingual-e5-large", True), ("BAAI/bge-m3", True),
        ("gte-Qwen2-1.5B-instruct", True), ("all-minilm", True), ("sentence-transformers/all-mpnet-base-v2", True),
        ("bge-reranker-v2-m3", False), ("cross-encoder/ms-marco-MiniLM-L6-v2", False), ("llama-3.1-8b-instruct", False), ("gpt-4.1-mini", False),
        ("constellation", False), ("gemma-3n-e4b", False), ("*embed*", False),
    ],
)  # fmt: skip
def test_names_of_embedding_models(name, embeds):
    assert for_embeddings(["words", name]) == ([name] if embeds else [])


def test_models_for_chats():
    """What is named like an embedding model is asked for a chat only after the others, and a pattern last."""
    listed = ["*", "e5-small", "text-embedding-3", "big", "big-mini"]
    assert for_chats(listed) == ["big-mini", "big", "e5-small", "*"]


# ------------------------------------------------------------------ other addresses, and names


@pytest.mark.parametrize("refuses_model", [False, True])
def test_an_address_that_is_the_endpoint_itself(tmp_path, monkeypatch, meddle, refuses_model):
    usual = server._Handler.do_POST

    def post(self):
        is_there = self.path == "/gateway/talk/invocations"
        self.path = "/v1/chat/completions" if is_there else "/v1/nothing"
        usual(self)

    def before(body):
        if refuses_model and "model" in body:
            return 400, {"detail": "The parameter 'model' is not permitted here"}
        body["model"] = "words"
        return None

    monkeypatch.setattr(server._Handler, "do_POST", post)
    meddle(before)
    with Emulator() as emulator:
        made = Made(tmp_path, emulator.url.removesuffix("/v1") + "/gateway/talk/invocations", "", model="words")
        assert made.raw["endpoints"]["chat"] == "/invocations"
        assert made.raw["base_url"].endswith("/gateway/talk")
        assert made.raw.get("request") == ({"body": {"model": None}} if refuses_model else None)
        assert made.failures() == {}


def test_a_pattern_is_no_name_of_a_model(tmp_path, monkeypatch):
    monkeypatch.setattr(server._Handler, "_names", lambda _self: ["words-*", "*", "words"])
    with Emulator() as emulator:
        assert Made(tmp_path, emulator.url, "").raw["models"] == {"default": "words"}
    monkeypatch.setattr(server._Handler, "_names", lambda _self: ["words-*"])
    told = []
    with Emulator() as emulator:
        Made(tmp_path, emulator.url, "", say=told.append)
    assert "a pattern of models: --model NAME names one" in next(each for each in told if each.name == "dialect").how


@pytest.mark.parametrize(
    ("status", "words"), [(404, "Provider 'default' not found"), (400, "no route"), (500, "Internal Server Error")]
)
def test_a_server_without_a_list_has_to_be_told_a_model(tmp_path, meddle, status, words):
    meddle(lambda _body: (status, {"detail": words}))
    with Emulator({"models": []}) as emulator, pytest.raises(ConfigError) as caught:
        Made(tmp_path, emulator.url.removesuffix("/v1"), "")
    assert words in caught.value.message
    assert "POST /v1/chat/completions" in caught.value.message
    assert (
        caught.value.hint
        == "It lists no models, so the name 'default' was tried. Name a model that it has: --model NAME."
    )


# ------------------------------------------------------------------ where there is nothing


@pytest.mark.parametrize("key", ["sk-not-this-one", ""])
def test_a_refused_key_is_an_error_and_no_file(tmp_path, key):
    with (
        Emulator({"key": KEY}) as emulator,
        pytest.raises(AuthError, match=r"in every place of a request|requires a key") as caught,
    ):
        Made(tmp_path, emulator.url, key)
    assert "--key-env" in caught.value.hint or key


def test_a_server_that_is_busy_all_the_time(tmp_path, monkeypatch):
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    with RawServer(response(429, {"error": {"message": "slow down"}}, "retry-after: 7")) as raw:
        with pytest.raises(RateLimitError, match="nothing was learned"):
            Made(tmp_path, raw.url, "", limit=12)
    assert len(raw.requests) <= 12
    assert {7.0} <= set(slept) <= {0, 7.0}


def test_a_server_that_asks_for_an_hour_is_not_waited_for(tmp_path):
    with RawServer(response(429, {"error": {"message": "slow down"}}, "retry-after: 3600")) as raw:
        started = time.monotonic()
        with pytest.raises(RateLimitError):
            Made(tmp_path, raw.url, "", limit=6)
        assert time.monotonic() - started < 5


def test_nobody_at_the_port(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Error) as caught:
        Made(tmp_path, f"http://127.0.0.1:{port}", "")
    assert caught.value.kind == "connection"


def test_a_redirect_is_not_followed(tmp_path):
    with RawServer(response()) as other:
        with (
            RawServer(response(301, b"", f"location: {other.url}")) as raw,
            pytest.raises(ProtocolError, match="redirects to") as caught,
        ):
            Made(tmp_path, raw.url.removesuffix("/v1"))
        assert other.requests == []
        assert len(raw.requests) <= 4
        assert "does not follow redirects" in caught.value.hint


@pytest.mark.parametrize("status", [200, 404])
def test_a_web_page(tmp_path, status):
    with RawServer(response(status, b"<!doctype html><title>Welcome</title>")) as raw:
        with pytest.raises(ProtocolError, match="no dialect was understood"):
            Made(tmp_path, raw.url, "")
        assert len(raw.requests) <= 40


def test_no_more_requests_than_allowed(tmp_path):
    with Emulator() as emulator:
        made = Made(tmp_path, emulator.url, "", limit=4)
        assert made.report.requests == 4
        assert made.failures() == {}
    assert any("the limit of 4 requests was reached" in line for line in made.report.open)
    assert "tools" not in made.can


# ------------------------------------------------------------------ what a server says gets nowhere


def test_words_of_a_server_stay_in_their_comment(tmp_path, meddle):
    evil = "tools not supported\nbase_url: http://evil.example\r\n\u2028auth: {}\x85x: 1 \x1b[31m" + "y" * 500
    meddle(lambda body: refusal(evil) if body.get("tools") else None)
    with Emulator() as emulator:
        made = Made(tmp_path, emulator.url, "")
        assert made.raw["base_url"] == emulator.url
    assert made.can["tools"] is False
    assert "\x1b" not in made.report.text
    assert max(map(len, made.report.text.splitlines())) < 300
    assert len(told("x" * 500)) < 200


def test_a_key_that_is_a_common_word_spoils_no_file(tmp_path):
    with Emulator({"key": "words"}) as emulator:
        made = Made(tmp_path, emulator.url, "words")
        assert made.raw["models"]["default"] == "words"


def test_a_key_that_is_told_back_is_masked(tmp_path, meddle):
    meddle(lambda body: refusal(f"tools not supported for {KEY}") if body.get("tools") else None)
    with Emulator({"key": KEY}) as emulator:
        made = Made(tmp_path, emulator.url)
    assert KEY not in json.dumps(made.report.plain())
    assert "tools not supported for ***" in made.report.text


SPELLED = {
    "plain": KEY,
    "in capitals": KEY.upper(),
    "in base64": base64.b64encode(f"user:{KEY}".encode()).decode(),
    "in JSON": "".join(f"\\u{ord(char):04x}" for char in KEY),
    "before a line break": f"{KEY}\nbase_url: http://127.0.0.1:9/",
    "before an escape": f"{KEY}\x1b]0;x\x07",
}


@pytest.mark.parametrize("said", SPELLED.values(), ids=SPELLED)
def test_a_key_in_an_answer_is_masked(tmp_path, meddle, said):
    """Wherever it stands: in text that is cut when it is repeated, in calls, reasons and names of models."""
    text = f"{'x' * (30 - len(said) // 2)}{said}"
    call = {"id": said, "type": "function", "function": {"name": f"get_weather{said}", "arguments": f'"{said}"'}}
    message = {"content": f"get_weather {text}", "reasoning_content": text, "tool_calls": [call]}
    body = {"id": said, "model": said, "choices": [{"message": message, "finish_reason": said}]}
    meddle(lambda _: (200, body))
    with Emulator({"key": KEY, "models": [f"m-{said}", "words"]}) as emulator:
        made = Made(tmp_path, emulator.url)
    everything = f"{made.report.text} {made.report.plain()}"
    for part in (KEY, said[:12], said):
        assert part not in everything, everything
    assert made.raw["models"] == {"default": "words"}
    assert made.raw["base_url"] == emulator.url
    assert "\x1b" not in made.report.text


def test_a_variable_of_another_provider_is_not_named(tmp_path):
    with Emulator({"key": KEY}) as emulator:
        made = Made(tmp_path, emulator.url, key_env="GROQ_API_KEY")
    assert "env" not in made.raw["auth"]
    assert "GROQ_API_KEY belongs to https://api.groq.com" in made.report.text


def test_nulls_are_kept():
    assert lay({"a": {"b": 1, "c": 2}}, {"a": {"b": None}}) == {"a": {"b": None, "c": 2}}


@pytest.mark.parametrize(("given", "pause"), [({}, 0.2), ({"pause": 0.01}, 0.01)])
def test_there_is_a_pause_between_two_requests(tmp_path, monkeypatch, given, pause):
    pauses = []
    monkeypatch.setattr("prx.probe.line.time.sleep", pauses.append)
    with Emulator() as emulator:
        report = probe(Order(emulator.url, "mine", limit=6, **given), CATALOG)
    assert set(pauses) == {0, pause}, "and the server's own, of nothing"
    assert pauses.count(pause) >= report.requests - 1 > 2


# ------------------------------------------------------------------ the command


def prx(*arguments, env=None, **options):
    clean = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **(env or {})}
    done = commands.run("probe", *arguments, env=clean, **options)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_the_command_writes_a_file(tmp_path):
    out = tmp_path / "mine.yaml"
    with Emulator({"key": KEY}) as emulator:
        ask = (emulator.url, "--key-env", "MINE", "--yes", "--pause", "0", "--out", out)
        done = prx(*ask, env={"MINE": KEY})
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
        assert "up to 40 requests with max_tokens 2048 or less to 127.0.0.1:" in done.stderr
        assert "with the key from $MINE" in done.stderr
        assert "Not learned:\n  audio: not asked" in done.stderr
        assert CATALOG.check(out)[1] == []
        assert KEY not in out.read_text() + done.stderr
        again = prx(*ask, env={"MINE": KEY})
        assert again.returncode == 1
        assert "exists already" in again.stderr
        out.write_text("")
        assert prx(*ask, "--force", "--json", env={"MINE": KEY}).returncode == 0
        assert out.read_text().startswith("spec: 1\nid: mine\n")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


def test_the_file_on_standard_output_and_as_json(tmp_path):
    with Emulator() as emulator:
        printed = prx(emulator.url, "--yes", "--pause", "0")
        told_as_json = json.loads(prx(emulator.url, "--yes", "--pause", "0", "--json", "--id", "other").stdout)
    assert yaml.safe_load(printed.stdout)["id"].startswith("local-")
    assert told_as_json["id"] == "other"
    assert told_as_json["dialect"] == "openai-chat"
    assert {"name", "verdict", "asked", "how"} <= told_as_json["findings"][0].keys()
    assert yaml.safe_load(told_as_json["file"])["id"] == "other"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "add --yes"),
        (("--yes", "--key-env", "NOT_SET"), 1, "the environment variable NOT_SET is not set"),
        (("--yes", "--id", "Bad Name"), 2, "cannot be the id of a provider"),
        (("--yes", "--out", "/nonexistent/x.yaml"), 1, "no such folder"),
        (("--yes", "--out", "x.txt"), 2, "must end in .yaml"),
        (("--yes", "--out", "x.yaml", "--id", "y"), 2, "must be its id: y.yaml"),
    ],
)
def test_what_is_refused_before_anything_is_sent(arguments, code, words, tmp_path):
    with RawServer() as raw:
        done = prx(raw.url, *arguments, cwd=tmp_path)
        assert (done.returncode, raw.connections) == (code, 0)
    assert words in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("answer", "code"), [(b"n\n", 130), (b"y\n", 0)])
def test_a_terminal_is_asked_first(answer, code):
    with Emulator() as emulator:
        ours, theirs = pty.openpty()
        os.write(ours, answer)
        done = subprocess.run(
            [sys.executable, "-m", "prx", "probe", emulator.url, "--pause", "0"],
            stdin=theirs, capture_output=True, text=True, timeout=60, check=False, env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
        )  # fmt: skip
        os.close(ours)
        os.close(theirs)
        assert "go on? [y/N]" in done.stderr
        assert done.returncode == code
        assert bool(emulator.heard) is (code == 0)


def test_an_interruption_writes_nothing(tmp_path):
    out = tmp_path / "mine.yaml"
    with Emulator({"delay": 0.05}) as emulator:
        command = [sys.executable, "-m", "prx", "probe", emulator.url, "--yes", "--out", str(out)]
        running = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
        )
        while not emulator.heard:
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        errors = running.communicate(timeout=20)[1]
    assert running.returncode == 130, errors
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []
