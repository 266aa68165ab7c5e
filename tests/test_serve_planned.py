"""The short way of calls that are made and read as ever: all is as on the long way, what the provider is asked and what the caller gets."""

from __future__ import annotations

import asyncio
import json
from itertools import product

import pytest
from helpers.byte_server import HANG, RawServer, response
from helpers.served import provider
from helpers.short_ways import (
    ANSWER,
    ASKED,
    BROKEN,
    FAULTS,
    MESSAGE,
    ODD,
    PATHS,
    answered,
    both_ways,
    by_own_file,
    changed,
    given_on,
    opened,
    own_headers,
    post,
    told,
    unnamed,
)

from prx.chat import Reply
from prx.serve import ways

TO_ANTHROPIC = {"face": "openai-chat", "dialect": "anthropic-messages"}
TO_OPENAI = {"face": "anthropic-messages", "dialect": "openai-chat"}
WITHIN = {"dialect": "openai-chat"}
TOOL = {
    "type": "function",
    "function": {"name": "look_up", "parameters": {"type": "object", "properties": {"word": {"type": "string"}}}},
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": '{"word": "four"}'}}
PICTURE = "data:image/png;base64,iVBORw0KGgo="


@pytest.fixture
def short(monkeypatch):
    return given_on(monkeypatch)


def test_the_second_call_of_a_model_takes_the_short_way(tmp_path, short):
    other = {**ASKED, "messages": [{"role": "system", "content": "Be terse."}, {"role": "user", "content": "3+3?"}]}
    with_it, without = both_ways(
        tmp_path, [[ASKED], [other], [{**other, "tools": [TOOL]}]], response(body=MESSAGE), **TO_ANTHROPIC
    )
    assert with_it == without
    assert [type(each) for each in short] == [Reply, Reply]
    assert [each.get("system") for each in with_it[1]] == [None, "Be terse.", "Be terse."]


def test_a_model_called_none_is_not_the_one_that_stands_where_none_is_named(tmp_path, short):
    unnamed, none = ({**ASKED, "model": model} for model in (None, "None"))
    more = '[[model_routes]]\npattern = "None"\ntargets = ["raw/another"]\n[default]\nprovider = "raw"\n'
    with_it, without = both_ways(
        tmp_path, [[unnamed], [none], [unnamed]], response(body=MESSAGE), **TO_ANTHROPIC, more=more
    )
    assert with_it == without
    assert [body["model"] for body in with_it[1]] == ["words", "another", "words"]


WITH_TOOL = {**ASKED, "tools": [TOOL]}  # no form of it is looked at


@pytest.mark.parametrize("name", [*ODD, *BROKEN])
@pytest.mark.parametrize(("asked", "to"), [(ASKED, TO_OPENAI), (WITH_TOOL, WITHIN)], ids=["between", "within"])
def test_an_answer_is_read_as_ever(tmp_path, short, name, asked, to):
    odd = response(body=ODD.get(name) or BROKEN[name])
    scripts = [response(body=ANSWER), odd, response(body=ANSWER)]
    with_it, without = both_ways(tmp_path, [[asked]] * 3, *scripts, **to, more="retries = 0\n")
    assert with_it == without
    assert len(short) == 2, "what was odd in one answer closes no way"
    assert type(short[-1]) is Reply


def event(**value):
    return f"data: {json.dumps(value)}\n\n".encode()


STREAMED = (
    event(choices=[{"index": 0, "delta": {"content": "It is "}}])
    + event(choices=[{"index": 0, "delta": {"content": "four."}, "finish_reason": "stop"}])
    + b"data: [DONE]\n\n"
)


@pytest.mark.parametrize(
    "script",
    [
        response(body=STREAMED),
        response(body=STREAMED[:-20]),
        response(body=STREAMED[:60]),
        response(body=event(error={"message": "broken", "type": "server_error"})),
        [response(body=STREAMED + b" " * 9)[:-9], HANG],
    ],
    ids=["whole", "no mark of the end", "half", "an error", "a connection that stays open after it"],
)
def test_a_stream_in_place_of_an_answer_is_read_as_ever(tmp_path, short, script):
    scripts = [response(body=ANSWER), script, response(body=ANSWER)]
    more = "retries = 0\ntimeout = 20\n"
    with_it, without = both_ways(tmp_path, [[ASKED]] * 2, *scripts, **TO_OPENAI, more=more)
    assert with_it == without
    assert len(short) == 1


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_called_again_or_told_as_ever(tmp_path, short, name):
    scripts = [response(body=ANSWER), *([each] if isinstance(each, str) else each for each in FAULTS[name])]
    with_it, without = both_ways(tmp_path, [[ASKED]] * 2, *scripts, **TO_OPENAI, more="retries = 1\n")
    assert with_it == without
    assert [type(each) for each in short] == [ways.Came]


def about(content, **more):
    return {**ASKED, "messages": [{"role": "user", "content": content}], **more}


REQUESTS = {
    "tools": about("look", tools=[TOOL], tool_choice="required"),
    "a result": {
        **ASKED,
        "tools": [TOOL],
        "messages": [
            {"role": "user", "content": "look"},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "call_1", "content": "4"},
        ],
    },
    "a picture": about([{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": PICTURE}}]),
    "a picture elsewhere": about([{"type": "image_url", "image_url": {"url": "https://a.example/p.png"}}]),
    "a picture of this machine": about([{"type": "image_url", "image_url": {"url": "/etc/hosts"}}]),
    "a form": about("4?", response_format={"type": "json_object"}),
    "a form of no kind": about("4?", response_format=[1]),
    "a schema": about(
        "4?", response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
    ),
    "hints": about("4?", seed=7, user="u", logit_bias={"5": 1}, metadata={"a": "b"}),
    "reasoning": about("4?", reasoning_effort="high"),
    "several": about("4?", n=2),
    "a key without a form": about("4?", modalities=["audio"], audio={"voice": "x"}),
    "a tool of another server": about("4?", tools=[TOOL, {"type": "web_search"}]),
    "one that is demanded": about("4?", tools=[{"type": "web_search"}], tool_choice={"type": "web_search"}),
    "half a character": about("four \ud83d"),
    "nothing": about(""),
    "no message": {**ASKED, "messages": []},
    "what is no message": {**ASKED, "messages": ["hi"]},
    "a number for a text": about(7),
    "no limit": {key: value for key, value in ASKED.items() if key != "max_tokens"},
    "a limit that is no number": about("4?", max_tokens="many"),
    "a key of no API": about("4?", retries=3),
    "null": about("4?", temperature=None, tools=None, stop=None),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_provider_is_asked_as_ever(tmp_path, short, name):
    calls = [[ASKED], [REQUESTS[name]], [REQUESTS[name]]]
    with_it, without = both_ways(tmp_path, calls, response(body=MESSAGE), **TO_ANTHROPIC)
    assert with_it == without
    sent = len(with_it[1]) - 1
    assert len(short) == (0 if name == "a form of no kind" else sent)


@pytest.mark.parametrize("name", REQUESTS)
def test_a_provider_of_the_callers_dialect_is_asked_as_ever(tmp_path, name):
    calls = [[WITH_TOOL], [REQUESTS[name]], [REQUESTS[name]], [REQUESTS[name]]]
    with_it, without = both_ways(tmp_path, calls, response(body=ANSWER), **WITHIN)
    assert with_it == without


@pytest.mark.parametrize("to", [{"dialect": "anthropic-messages"}, TO_OPENAI], ids=["within", "between"])
def test_a_header_that_is_handed_on_within_a_dialect(tmp_path, short, to):
    """It is of the one call; between dialects it is not handed on, and changes nothing."""
    within = "face" not in to
    asked = {**ASKED, "tools": [{"name": "look_up", "input_schema": {"type": "object"}}]}
    calls = [[asked], [asked, (b"anthropic-beta", b"one")], [asked], [asked, (b"anthropic-beta", b"two")]]
    answer = response(body=MESSAGE if within else ANSWER)
    answers, sent = told(tmp_path, calls, answer, **to)
    assert [status for status, *_ in answers] == [200] * 4
    assert [each["headers"].get("anthropic-beta") for each in sent] == (
        [None, "one", None, "two"] if within else [None] * 4
    )
    assert len(short) == (1 if within else 3)


def two_providers(tmp_path, calls, names, *, known):
    """The header anthropic-beta that a provider of the callers' dialect has got. calls: (a model, its headers), with one for a provider
    of another dialect first; names: {model: provider}, as routes.
    """
    asked = {**ASKED, "tools": [{"name": "look_up", "input_schema": {"type": "object"}}]}
    routes = "".join(
        f'[[model_routes]]\npattern = "{model}"\nprovider = "{to}"\nmodel = "m"\n' for model, to in names.items()
    )

    with RawServer(response(body=ANSWER)) as other, RawServer(response(body=MESSAGE)) as own:
        config = tmp_path / "config.toml"
        providers = provider("other", other.url) + provider("own", own.url, "anthropic-messages")
        text = f'[default]\nprovider = "other"\nmodel = "m"\n{providers}{routes}'
        config.write_text(text.replace("${UP_KEY}", "sk"))
        bodies = [[{**asked, "model": model}, *headers] for model, *headers in calls]
        answers = asyncio.run(answered(tmp_path, bodies, "/v1/messages", known=known, config=str(config)))
        assert [status for status, *_ in answers] == [200] * len(calls)
    return [each["headers"].get("anthropic-beta") for each in own.requests]


@pytest.mark.parametrize("known", [True, False])
def test_where_models_look_alike_each_goes_its_own_way(tmp_path, known):
    """null in a body is no model called None, which a provider of the callers' dialect has: it gets their headers."""
    calls = [(None,), ("None",), ("None", (b"anthropic-beta", b"one")), (None,), ("None", (b"anthropic-beta", b"two"))]
    assert two_providers(tmp_path, calls, {"None": "own"}, known=known) == [None, "one", "two"]


def test_what_is_known_of_models_has_no_names_of_any_length(tmp_path):
    """Callers may write any, and some servers take all."""

    async def run(config):
        async with opened(tmp_path, config=config) as app:
            for length, asked, path in product((10, 1_000), (ASKED, WITH_TOOL), PATHS.values()):
                assert (await post(app, {**asked, "model": "raw/" + "x" * length}, path=path))[0] == 200
            return app.ways

    with RawServer(response(body=ANSWER)) as server:
        config = tmp_path / "config.toml"
        config.write_text(provider("raw", server.url).replace("${UP_KEY}", "sk"))
        found = asyncio.run(run(str(config)))
    kept = [*found.elsewhere, *found._planned, *found._unchanged]
    assert kept
    assert all("x" * 201 not in repr(each) for each in kept)


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions"])
def test_a_call_that_has_waited_for_its_turn_goes_as_calls_go_then(tmp_path, short, path):
    """Between the look for its way and its start a changed file may be taken in."""

    async def run(config, server):
        async with opened(tmp_path, config=str(config)) as app:

            async def waited(caller, real=app._wait):
                if len(server.requests) == 3:
                    config.write_text(config.read_text().replace("sk-old", "sk-new"))
                    app.reload()
                return await real(caller)

            app._wait = waited
            return [(await post(app, ASKED, path=path))[0] for _ in range(4)]

    with RawServer(response(body=ANSWER)) as server:
        config = tmp_path / "config.toml"
        config.write_text(provider("raw", server.url).replace("${UP_KEY}", "sk-old"))
        assert asyncio.run(run(config, server)) == [200] * 4
    keys = [each["headers"]["authorization"] for each in server.requests]
    assert keys == ["Bearer sk-old"] * 3 + ["Bearer sk-new"]
    assert len(short) == (2 if path == "/v1/messages" else 1)


NOT_TAKEN = {
    "a stream": [{**ASKED, "stream": True}],
    "a trace": [ASKED, (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")],
    "another model": [{**ASKED, "model": "raw/other"}],
}


@pytest.mark.parametrize("name", NOT_TAKEN)
def test_other_calls_take_the_long_way(tmp_path, short, name):
    answers, _ = told(tmp_path, [[ASKED], NOT_TAKEN[name]], response(body=MESSAGE), **TO_ANTHROPIC)
    assert [status for status, *_ in answers] == [200, 200]
    assert short == []


@pytest.mark.parametrize(
    "more",
    [
        'api_key = {command = ["echo", "sk"]}\n',
        "[serve]\nlog_bodies = true\n",
        '[[model_routes]]\npattern = "raw/words"\ntargets = ["raw/words", "raw/other"]\n',
    ],
    ids=["a key that is got", "bodies in the log", "several targets"],
)
def test_what_has_to_be_looked_at_in_each_call_has_no_short_way(tmp_path, short, more):
    with RawServer(response(body=MESSAGE)) as server:
        config = tmp_path / "config.toml"
        own = f'[providers.raw]\nextends = "anthropic-messages"\napi_url = "{server.url}"\n'
        config.write_text(own + more if more.startswith("api_key") else f'{own}api_key = "sk"\n{more}')
        env = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
        answers = asyncio.run(answered(tmp_path, [[ASKED]] * 3, PATHS["openai-chat"], config=str(config), env=env))
    assert [status for status, *_ in answers] == [200, 200, 200]
    assert short == []


def by_a_route(tmp_path, calls, *scripts, known=True, more="retries = 0\n"):
    """(answers to these calls by a route with one target, what the server was asked, how its target stands then)"""

    async def run(config):
        async with opened(tmp_path, known=known, config=config) as app:
            answers = [await post(app, call, path="/v1/messages") for call in calls]
            balance = app.client.session.balance
            return answers, dict(balance.running), dict(balance._failures), [*balance.resting()]

    with RawServer(*scripts) as server:
        config = tmp_path / "config.toml"
        own = provider("raw", server.url).replace("${UP_KEY}", "sk").replace("retries = 0\n", more)
        config.write_text(f'{own}[[model_routes]]\npattern = "local"\ntargets = ["raw/words"]\n')
        answers, *standing = asyncio.run(run(str(config)))
        return (
            [(status, unnamed(body), own_headers(headers)) for status, body, headers in answers],
            server.requests,
            standing,
        )


BROKEN_THRICE = [response(500, {"error": {"message": "broken"}})] * 3


@pytest.mark.parametrize(
    ("scripts", "resting"),
    [([response(body=ANSWER)], 0), ([response(body=ANSWER), *BROKEN_THRICE, response(body=ANSWER)], 1), ([response(body=ANSWER), *BROKEN_THRICE[:2], response(body=ANSWER)], 0)],
    ids=["answers", "three failures", "two failures"],
)  # fmt: skip
def test_a_target_stands_alone(tmp_path, short, scripts, resting):
    """A route with one target has a short way, and what becomes of its calls counts as ever."""
    calls = [{**ASKED, "model": "local"}] * 5
    with_it, without = (by_a_route(tmp_path, calls, *scripts, known=known) for known in (True, False))
    assert (with_it[0], with_it[2]) == (without[0], without[2])
    assert [each["body"] for each in with_it[1]] == [each["body"] for each in without[1]]
    assert len(short) == 4
    running, failures, rests = with_it[2]
    assert (set(running.values()), set(failures.values()), len(rests)) == ({0}, {0}, resting)


def test_a_call_by_a_route_has_its_targets_deadline(tmp_path, short):
    scripts = [response(body=ANSWER), [response(body=ANSWER)[:-9], HANG]]
    more = "retries = 0\ntimeout = 20\ndeadline = 0.7\n"
    calls = [{**ASKED, "model": "local"}] * 2
    with_it, without = (by_a_route(tmp_path, calls, *scripts, known=known, more=more) for known in (True, False))
    assert [status for status, *_ in with_it[0]] == [status for status, *_ in without[0]] == [200, 504]
    assert with_it[2] == without[2]
    assert [type(each) for each in short] == [ways.Came]


def test_a_provider_that_only_streams_has_no_short_way(tmp_path, short):
    answers, _ = by_own_file(tmp_path, "capabilities: {whole: false}", 3, response(body=STREAMED), path="/v1/messages")
    assert [json.loads(body)["content"][0]["text"] for _, body, _ in answers] == ["It is four."] * 3
    assert short == []


def test_a_fallback_that_was_learned_closes_the_way(tmp_path, short):
    refused = {
        "message": "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        "type": "invalid_request_error", "param": "max_tokens", "code": "unsupported_parameter",
    }  # fmt: skip
    scripts = [response(body=ANSWER), response(400, {"error": refused}), response(body=ANSWER)]
    with_it, without = both_ways(tmp_path, [[ASKED]] * 4, *scripts, **TO_OPENAI)
    assert with_it == without
    assert [type(each) for each in short] == [ways.Came]
    assert ["max_completion_tokens" in body for body in with_it[1]] == [False, False, True, True, True]


def test_an_answer_larger_than_a_file_allows_is_refused_as_ever(tmp_path, short):
    large = changed(ANSWER, "choices", 0, "message", "content", to="four " * 1000)
    scripts = response(body=ANSWER), response(body=large)
    answers, _ = by_own_file(tmp_path, "transport: {max_body: 2000}", 2, *scripts, path="/v1/messages")
    assert [status for status, *_ in answers] == [200, 502]
    assert [type(each) for each in short] == [ways.Came]
