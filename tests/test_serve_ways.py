"""The short way of a whole answer: it is taken where nothing has to be changed, and gives what the long way gives."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
import yaml
from helpers.byte_server import HANG, RawServer, response
from helpers.served import provider
from helpers.short_ways import (
    ANSWER,
    ASKED,
    BROKEN,
    FAULTS,
    MESSAGE,
    ODD,
    both_ways,
    by_own_file,
    changed,
    given_on,
    post,
    told,
    unnamed,
)

from prx import resources
from prx.chat import Reply
from prx.errors import ConfigError
from prx.serve import asked, likeness, ways
from prx.serve.app import App


@pytest.fixture
def short(monkeypatch):
    return given_on(monkeypatch)


@pytest.mark.parametrize(("dialect", "answer"), [("openai-chat", ANSWER), ("anthropic-messages", MESSAGE)])
def test_a_call_like_an_earlier_one_takes_the_short_way(tmp_path, short, dialect, answer):
    path = ("choices", 0, "message", "content") if dialect == "openai-chat" else ("content", 0, "text")
    other = changed(answer, *path, to="No: “5” \\ \n 7.")
    calls = [[ASKED], [ASKED], [{**ASKED, "temperature": 0.7, "messages": [{"role": "user", "content": "And 2+3?"}]}]]
    answers, asked = told(
        tmp_path, calls, response(body=answer), response(body=answer), response(body=other), dialect=dialect
    )
    assert [(status, json.loads(body)) for status, body, _ in answers] == [(200, answer), (200, answer), (200, other)]
    assert [type(each) for each in short] == [ways.Plain]
    assert asked[2]["body"] == {**calls[2][0], "model": "words"}
    unequal = {name for name in asked[0]["headers"] if asked[0]["headers"][name] != asked[2]["headers"].get(name)}
    assert unequal <= {"content-length"}
    assert answers[0][2][b"x-prx-provider"] == answers[2][2][b"x-prx-provider"] == b"raw"


def test_forms_are_not_looked_at_where_calls_go_to_another_dialect(tmp_path, short, monkeypatch):
    looked_at = []
    monkeypatch.setattr(asked, "form_of", lambda body: looked_at.append(body["model"]) or likeness.form_of(body))
    calls = [[ASKED]] * 3 + [[{**ASKED, "model": "raw/other"}]]
    answers, _ = told(tmp_path, calls, response(body=MESSAGE), dialect="anthropic-messages", face="openai-chat")
    texts = [json.loads(body)["choices"][0]["message"]["content"] for _, body, _ in answers]
    assert texts == ["It is four."] * 4
    assert looked_at == ["raw/words", "raw/other"]
    assert [type(each) for each in short] == [Reply] * 2, "they have a way of their own"


def test_what_an_answer_is_called_is_its_own(tmp_path, short):
    answers = [changed(ANSWER, "id", to=f"chatcmpl-{number}") for number in range(5)]
    answers += [changed(ANSWER, "id", to=None), changed(ANSWER, "id", to=...), changed(ANSWER, "id", to=7)]
    given, _ = told(tmp_path, [[ASKED]] * len(answers), *(response(body=each) for each in answers))
    assert [json.loads(body)["id"] for _, body, _ in given[:5]] == [f"chatcmpl-{number}" for number in range(5)]
    assert all(json.loads(body)["id"] for _, body, _ in given[5:]), "an answer that has no name gets one"
    assert [type(each) for each in short] == [ways.Plain] * 3 + [ways.Came] * 3


def scripts_of(body):
    return [response(body=ANSWER), response(body=ANSWER), response(body=body), response(body=ANSWER)]


@pytest.mark.parametrize("name", [*ODD, *BROKEN])
def test_an_answer_of_another_form_is_read_as_ever(tmp_path, short, name):
    scripts = scripts_of(ODD.get(name) or BROKEN[name])
    (answers, asked), (wanted, wanted_asked) = (
        told(tmp_path, [[ASKED]] * 4, *scripts, known=known) for known in (True, False)
    )
    assert [(status, unnamed(body)) for status, body, _ in answers] == [
        (status, unnamed(body)) for status, body, _ in wanted
    ]
    assert [each["body"] for each in asked] == [each["body"] for each in wanted_asked]
    if name != "another order":
        assert type(short[0]) is ways.Came, "no such answer was seen before"
    assert type(short[-1]) is ways.Plain, "and the one after it is as the first one"


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_called_again_or_told_as_ever(tmp_path, short, name):
    scripts = [
        response(body=ANSWER),
        response(body=ANSWER),
        *([each] if isinstance(each, str) else each for each in FAULTS[name]),
    ]
    results = []
    for known in (True, False):
        answers, asked = told(tmp_path, [[ASKED]] * 3, *scripts, more="retries = 1\n", known=known)
        results.append([(status, unnamed(body), headers.get(b"x-prx-attempts")) for status, body, headers in answers])
        results[-1].append(len(asked))
    assert results[0] == results[1]
    assert [type(each) for each in short] == [ways.Came]


@pytest.mark.parametrize("half", [0, 20, -20])
def test_an_answer_that_stalls_ends_in_its_own_time(tmp_path, short, half):
    """Not in that of both ways, one after the other."""
    head, _, body = response(body=ANSWER).partition(b"\r\n\r\n")
    stalled = [head + b"\r\n\r\n" + body[:half], HANG]
    whole, times = response(body=ANSWER), []
    for known in (True, False):
        began = time.monotonic()
        answers, asked = told(tmp_path, [[ASKED]] * 3, whole, whole, stalled, more="retries = 0\ntimeout = 1.0\n", known=known)  # fmt: skip
        times.append(
            (time.monotonic() - began, answers[-1][0], json.loads(answers[-1][1])["error"]["kind"], len(asked))
        )
    assert times[0][1:] == times[1][1:] == (504, "timeout", 3)
    assert times[0][0] < times[1][0] + 0.7
    assert [type(each) for each in short] == [ways.Came]


@pytest.mark.parametrize("number", [7.0, False, True, -0.0])
@pytest.mark.parametrize("path", [("usage", "completion_tokens"), ("choices", 0, "index")])
def test_a_number_that_is_put_right_is_put_right_in_every_call(tmp_path, number, path):
    """Python takes it for equal to the one that is written in its place."""
    answer = response(body=changed(ANSWER, *path, to=number))
    with_it, without = both_ways(tmp_path, [[ASKED]] * 4, answer)
    assert [repr(each) for each in with_it] == [repr(each) for each in without]


def test_half_a_count_is_no_count(tmp_path, caplog):
    whole, half = (changed(MESSAGE, "usage", "output_tokens", to=count) for count in (7.0, 7.5))
    caplog.set_level("INFO", "prx.serve")
    told(tmp_path, [[ASKED]] * 4, *(response(body=each) for each in (whole, whole, half)), dialect="anthropic-messages")
    assert [record.facts.get("output_tokens") for record in caplog.records if record.message == "call"] == [
        7,
        7,
        None,
        None,
    ]


def test_an_answer_that_is_a_stream_with_an_error_is_called_again(tmp_path, short):
    """What was left of the first answer is not taken for the second one."""
    broken = response(body=b'data: {"error": {"message": "broken", "type": "server_error"}}\n\n')
    whole = response(body=ANSWER)
    with_it, without = both_ways(tmp_path, [[ASKED]] * 3, whole, whole, broken, whole, more="retries = 1\n")
    assert with_it == without
    assert with_it[0][-1][0] == 200
    assert [type(each) for each in short] == [ways.Came]


async def leave(app, leaves_after=0.1):
    """Ask, and leave a moment later."""
    more, sent = iter([{"type": "http.request", "body": json.dumps(ASKED).encode()}]), []
    given = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "query_string": b"", "headers": given}

    async def receive():
        if (message := next(more, None)) is None:
            await asyncio.sleep(leaves_after)
        return message or {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    return sent


BOTH = pytest.mark.parametrize(
    ("dialect", "whole"), [("openai-chat", ANSWER), ("anthropic-messages", MESSAGE)], ids=["unchanged", "translated"]
)


@BOTH
@pytest.mark.parametrize("how", ["the caller leaves", "the service ends"])
def test_a_call_on_the_short_way_is_ended_at_once(tmp_path, short, how, dialect, whole):
    """Whoever has left is not answered, and the provider sees it; what ends with the service has an error."""

    async def ended(app):
        for _ in range(2):
            await post(app, ASKED)
        if how == "the caller leaves":
            return await leave(app)
        call = asyncio.ensure_future(post(app, ASKED))
        await asyncio.sleep(0.1)
        app.cut_off()
        return await call

    async def run(config):
        app = App(config=config, env={"HOME": str(tmp_path)})
        try:
            return await asyncio.wait_for(ended(app), 5)
        finally:
            await app.client.aclose()

    answer = response(body=whole)
    with RawServer(answer, answer, [answer[:-10], HANG]) as server:
        config = tmp_path / "config.toml"
        config.write_text(provider("raw", server.url, dialect).replace("${UP_KEY}", "sk"))
        got = asyncio.run(run(str(config)))
        assert server.left.wait(5)
    if how == "the caller leaves":
        assert got == []
    else:
        assert got[0] >= 500
    assert len(short) == (dialect != "openai-chat") + (how != "the caller leaves"), "the last one as well"


NOT_TAKEN = {
    "a tool": [{**ASKED, "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]}],
    "a picture": [{**ASKED, "messages": [{"role": "user", "content": [{"type": "text", "text": "what?"}]}]}],
    "a stream": [{**ASKED, "stream": True}],
    "several": [{**ASKED, "n": 2}],
    "a trace": [ASKED, (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")],
    "another word": [{**ASKED, "reasoning_effort": "high"}],
    "another key": [{**ASKED, "seed": 7}],
    "another model": [{**ASKED, "model": "raw/other"}],
}


@pytest.mark.parametrize("name", NOT_TAKEN)
def test_a_body_of_another_form_goes_the_long_way(tmp_path, short, name):
    told(tmp_path, [[ASKED], [ASKED], NOT_TAKEN[name]], response(body=ANSWER))
    assert short == []


@pytest.mark.parametrize("also", ["request: {roles: {user: human}}", "response: {refusal: 'choices[0].message.no'}", ""])  # fmt: skip
def test_a_file_that_changes_anything_has_no_short_way(tmp_path, short, also):
    answer = changed(ANSWER, "choices", 0, "message", "text", to="four")
    answers, _ = by_own_file(tmp_path, also, 3, response(body=answer))
    assert [status for status, *_ in answers] == [200, 200, 200]
    assert bool(short) == (not also)


ALIKE = {
    "a tool without a name": ({"tools": [{"type": "web_search"}]}, {"tools": [{"type": "function"}]}),
    "a model that is a number": ({"model": 5}, {"model": 7}),
}


@pytest.mark.parametrize("name", ALIKE)
def test_what_decides_of_a_call_is_looked_at_in_each(tmp_path, name):
    first, last = ({**ASKED, **more} for more in ALIKE[name])
    default = 'model = "words"\n[default]\nprovider = "raw"\n'
    with_it, without = both_ways(tmp_path, [[first]] * 3 + [[last]], response(body=ANSWER), more=default)
    assert with_it == without


@pytest.mark.parametrize(
    ("path", "item"), [("input", {"type": "item_reference", "id": "a"}), ("tools", {"type": "web_search", "name": "a"})]
)
def test_the_form_of_a_body_has_all_texts_but_those_of_messages(path, item):
    def like(**more):
        return likeness.form_of({"model": "m", path: [{**item, **more}]})

    assert like() != like(type="function")
    assert like(content="one") == like(content="two")
    assert like(content="long " * 100) is not None
    assert like(name="long " * 100) is None


def test_an_error_that_is_known_by_a_number_alone_is_an_error(tmp_path, short):
    scripts = [response(body={**ANSWER, "code": code}) for code in (200, 200, 200, 500, 200)]
    answers, _ = by_own_file(tmp_path, "retry: {times: 0}\nerrors: {detect: 'code != `200`'}", 5, *scripts)
    assert [status for status, *_ in answers] == [200, 200, 200, 500, 200]
    assert [type(each) for each in short] == [ways.Plain, ways.Came, ways.Plain]


def test_a_new_configuration_is_found_anew(tmp_path, short):
    async def run(first, second):
        config = tmp_path / "config.toml"
        config.write_text(provider("raw", first).replace("${UP_KEY}", "sk"))
        app = App(config=str(config), env={"HOME": str(tmp_path)})
        try:
            before = [await post(app, ASKED) for _ in range(3)]
            config.write_text(provider("raw", second).replace("${UP_KEY}", "sk-new"))
            app.reload()
            return [*before, await post(app, ASKED)]
        finally:
            await app.client.aclose()

    with RawServer(response(body=ANSWER)) as first, RawServer(response(body=ANSWER)) as second:
        answers = asyncio.run(run(first.url, second.url))
    assert {status for status, *_ in answers} == {200}
    assert (len(first.requests), len(second.requests)) == (3, 1)
    assert second.requests[0]["headers"]["authorization"] == "Bearer sk-new"
    assert len(short) == 1


def test_a_dialect_of_ones_own_that_writes_each_body_anew_has_no_short_way(tmp_path, short):
    """Its limits hold in each call."""
    own = tmp_path / "files" / "_dialects" / "openai-chat.yaml"
    own.parent.mkdir(parents=True)
    dialect = yaml.safe_load((resources.folder("providers.d") / "_dialects" / own.name).read_text())
    dialect["request"]["body"] = {"merge": [dialect["request"]["body"], {"temperature": "=params.temperature"}]}
    dialect["request"]["parameters"] = {"temperature": {"max": 1}}
    own.write_text(yaml.safe_dump(dialect, sort_keys=False))

    async def run(url):
        (own.parents[1] / "own.yaml").write_text(
            f"spec: 1\nid: own\nname: Own\nextends: openai-chat\nbase_url: {url}\nauth: {{style: none}}\n"
        )
        app = App(config={}, providers=str(own.parents[1]), env={"HOME": str(tmp_path)})
        try:
            for temperature in (0.5, 0.5, 0.5, 5.5):
                await post(app, {**ASKED, "model": "own/words", "temperature": temperature})
        finally:
            await app.client.aclose()

    with RawServer(response(body=ANSWER)) as server:
        asyncio.run(run(server.url))
    assert [each["body"]["temperature"] for each in server.requests] == [0.5, 0.5, 0.5, 1]
    assert short == []


def begin(tmp_path, url, key="sk-old-1234567", more="retries = 0\n", dialect="openai-chat"):
    """(an app that looks at its files when it is told to, its configuration)"""
    config = tmp_path / "config.toml"
    config.write_text(provider("raw", url, dialect).replace("${UP_KEY}", key).replace("retries = 0\n", more))
    return App(config=str(config), watch=False, env={"HOME": str(tmp_path)}), config


async def sent(server, count):
    """Wait until so many requests have come. The server is in a thread of its own, so no event tells of them."""
    async with asyncio.timeout(5):
        while len(server.requests) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def change(app, config, url, before=""):
    config.write_text(before + (provider("raw", url).replace("${UP_KEY}", "sk-new-7654321") if url else ""))
    app.reload()


def test_a_call_that_ends_after_a_reload_shows_no_way_to_later_ones(tmp_path):
    async def run(first, second):
        app, config = begin(tmp_path, first.url)
        try:
            late = asyncio.ensure_future(post(app, ASKED))
            await sent(first, 1)
            change(app, config, second.url)
            await post(app, ASKED)
            await late
            await post(app, ASKED)
        finally:
            await app.client.aclose()

    with RawServer([0.4, response(body=ANSWER)]) as first, RawServer(response(body=ANSWER)) as second:
        asyncio.run(run(first, second))
    assert (len(first.requests), len(second.requests)) == (1, 2)


def test_a_configuration_that_the_service_refuses_counts_for_both_ways(tmp_path):
    """The client has it already, and the long way asks the client."""

    async def run(first, second):
        app, config = begin(tmp_path, first.url)
        try:
            for _ in range(3):
                await post(app, ASKED)
            with pytest.raises(ConfigError):
                change(app, config, second.url, '[serve]\nkeys = ["${NOT_SET}"]\n')
            return [(await post(app, ASKED))[0] for _ in range(3)]
        finally:
            await app.client.aclose()

    with RawServer(response(body=ANSWER)) as first, RawServer(response(body=ANSWER)) as second:
        asyncio.run(run(first, second))
    assert len(first.requests) == 3


async def under_way(app, server):
    """A call of a form that is known, which the server has and has not answered yet."""
    for _ in range(2):
        await post(app, ASKED)
    late = asyncio.ensure_future(post(app, ASKED))
    await sent(server, 3)
    return late


@BOTH
@pytest.mark.parametrize("removed", [False, True])
def test_a_call_that_began_before_a_reload_ends_as_it_began(tmp_path, removed, dialect, whole):
    """By the account that it was sent with, whose key is masked in the provider's words."""
    whole, refused = response(body=whole), response(401, {"error": {"message": "no such key: sk-old-1234567"}})

    async def run(first):
        app, config = begin(tmp_path, first.url, dialect=dialect)
        try:
            late = await under_way(app, first)
            change(app, config, "" if removed else first.url)
            return await late
        finally:
            await app.client.aclose()

    with RawServer(whole, whole, [0.3, refused]) as first:
        status, body, headers = asyncio.run(run(first))
    assert (status, headers[b"x-prx-provider"]) == (401, b"raw")
    assert json.loads(body)["error"]["message"] == "no such key: ***"


def test_a_fallback_that_another_call_has_learned_meanwhile_is_not_taken_for_tried(tmp_path):
    refused = {
        "message": "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        "type": "invalid_request_error", "param": "max_tokens", "code": "unsupported_parameter",
    }  # fmt: skip
    whole, refusal = response(body=ANSWER), response(400, {"error": refused})

    async def run(server):
        app, _ = begin(tmp_path, server.url)
        try:
            late = await under_way(app, server)
            return [await post(app, ASKED), await late]
        finally:
            await app.client.aclose()

    with RawServer(whole, whole, [0.5, refusal], refusal, whole) as server:
        answers = asyncio.run(run(server))
    assert [(status, headers.get(b"x-prx-fallbacks")) for status, _, headers in answers] == [
        (200, b"max_completion_tokens")
    ] * 2


@BOTH
def test_a_client_that_is_closed_ends_its_calls_on_the_short_way(tmp_path, dialect, whole):
    async def run(server):
        app, _ = begin(tmp_path, server.url, dialect=dialect)
        for _ in range(2):
            await post(app, ASKED)
        call = asyncio.ensure_future(post(app, ASKED))
        await sent(server, 3)
        await app.client.aclose()
        return await asyncio.wait_for(call, 5)

    answer = response(body=whole)
    with RawServer(answer, answer, [answer[:-10], HANG]) as server:
        assert asyncio.run(run(server))[0] >= 500


def test_a_form_has_no_text_of_messages_in_it():
    long = {**ASKED, "messages": [{"role": "user", "content": "secret " * 50}]}
    assert "secret" not in repr(likeness.form_of(long))
    assert "secret" not in repr(
        likeness.form(changed(ANSWER, "choices", 0, "message", "content", to="secret " * 50), None)
    )
    assert likeness.form_of({**ASKED, "user": "u" * 1000}) is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"a": 5}, {"a": 6}, True),
        ({"a": 0}, {"a": 5}, False),
        ({"a": 1}, {"a": True}, False),
        ({"a": 5}, {"a": 5.0}, False),
        ({"a": 0.2}, {"a": 0.7}, True),
        ({"a": 0.0}, {"a": 0.7}, False),
        ({"a": "stop"}, {"a": "length"}, False),
        ({"a": "x" * 70}, {"a": "y" * 80}, True),
        ({"a": [1, 5]}, {"a": [1, 6]}, True),
        ({"a": [5]}, {"a": [5, 5]}, False),
        ({"a": None}, {}, False),
        ({"a": None}, {"a": {}}, False),
    ],
)
def test_the_form_of_an_answer(one, other, same):
    assert (likeness.form(one, None) == likeness.form(other, None)) is same
