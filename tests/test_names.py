"""Names of tools and ids of calls: each in the form that an API takes, and the caller's own on the way back."""

from __future__ import annotations

import itertools
import json
import re

import pytest
from helpers.async_as_blocking import AsyncAsBlocking
from helpers.byte_server import RawServer, response
from helpers.driver_without_io import definition, play
from hypothesis import given
from hypothesis import strategies as st
from judges.dialects import Emulator

import prx
from prx.chat import Call
from prx.core.names import fitted
from prx.core.request import build_body
from prx.spec.loader import Loader
from prx.spec.model import NameForm

NAME = "calendar.list/all"  # what no API but one takes
FORMS = {
    "most": NameForm(characters="a-zA-Z0-9_-", max=64),
    "a letter first": NameForm(characters="a-zA-Z0-9_.:-", first="a-zA-Z_", max=64),
    "no underscore": NameForm(characters="a-z0-9", first="a-z", max=40),
    "exactly nine": NameForm(characters="a-zA-Z0-9", min=9, max=9),
    "any, not too long": NameForm(max=40),
    "long": NameForm(characters="a-z0-9_", min=20),
    "no room for words": NameForm(characters="a-z0-9", first="a-z", max=15),
}
each_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
texts = st.text(max_size=120) | st.text("abc_.-/ :é1", max_size=70)
DIALECTS = [
    name for name in Loader().dialects() if name not in ("json-http", "bedrock-converse")
]  # those of judges/dialects
each_dialect = pytest.mark.parametrize("dialect", DIALECTS)


# ------------------------------------------------------------------ the form


@each_form
@given(name=texts)
def test_what_comes_out_is_in_form(form, name):
    made = fitted(name, form)
    assert form.fits(made), made
    assert fitted(made, form) == made
    assert made == name or not form.fits(name)
    assert fitted(name, NameForm(**{key: getattr(form, key) for key in form._fields})) == made


@each_form
@given(names=st.sets(texts, max_size=40))
def test_no_two_names_become_one(form, names):
    assert len({fitted(name, form) for name in names}) == len(names)


def test_a_changed_name_can_be_read():
    assert re.fullmatch("calendar_list_all_[0-9a-z]{8}", fitted(NAME, FORMS["most"]))
    assert re.fullmatch("_2nd:try_[0-9a-z]{8}", fitted("2nd:try", FORMS["a letter first"]))
    assert re.fullmatch("calendarlistall[0-9a-z]{8}", fitted(NAME, FORMS["no underscore"]))
    assert re.fullmatch("[0-9a-z]{9}", fitted("call_1", FORMS["exactly nine"]))
    assert fitted("x" * 41, FORMS["any, not too long"]).startswith("x" * 31 + "_")


def test_a_name_of_half_a_character_has_a_form_too():
    assert FORMS["most"].fits(fitted("a\ud800", FORMS["most"]))


# ------------------------------------------------------------------ on the way out


def tool(name, kind="function"):
    return {"type": kind, kind: {"name": name, **({"parameters": {"type": "object"}} if kind == "function" else {})}}


def texts_in(value):
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from texts_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts_in(item)
    elif isinstance(value, str):
        yield value


def history(name, given="call:1"):
    call = {"id": given, "type": "function", "function": {"name": name, "arguments": "{}"}}
    return [
        {"role": "user", "content": "w?", "name": "a user's own.name"},
        {"role": "assistant", "content": "x", "tool_calls": [call], "parts": [{"type": "tool_call", "id": given}, {"type": "text", "text": "x"}]},
        {"role": "tool", "tool_call_id": given, "name": name, "content": "4"},
    ]  # fmt: skip


@each_dialect
@pytest.mark.parametrize("choice", ["auto", {"type": "function", "function": {"name": NAME}}])
def test_every_use_of_a_name_changes_alike(dialect, choice):
    spec = definition({"extends": dialect}).spec()
    if dialect == "ollama":
        choice = "auto"  # it knows no choice
    given = Call("m", tuple(history(NAME)), (tool(NAME),), choice)
    before = json.dumps([given.messages, given.tools, given.tool_choice])
    body = build_body(spec, given)
    assert json.dumps([given.messages, given.tools, given.tool_choice]) == before, "the caller's own"
    told = fitted(NAME, spec.request.tool_names) if spec.request.tool_names else NAME
    uses = [text for text in texts_in(body) if text in (told, NAME)]
    assert set(uses) == {told}
    plain = build_body(spec, Call("m", tuple(history("plain")), (tool("plain"),), _renamed(choice)))
    assert len(uses) == len([text for text in texts_in(plain) if text == "plain"])
    given_id = fitted("call:1", spec.request.call_ids) if spec.request.call_ids else "call:1"
    ids = [text for text in texts_in(body) if text.startswith("call") and not text.startswith("calendar")]
    assert set(ids) <= {given_id, "call_id"}


def _renamed(choice):
    return choice if isinstance(choice, str) else {"type": "function", "function": {"name": "plain"}}


def test_the_other_kinds_of_tools_and_choices():
    spec = definition({}).spec()
    told = fitted(NAME, spec.request.tool_names)
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [tool(NAME), {"type": "custom", "custom": {"name": NAME}}]}}  # fmt: skip
    body = build_body(spec, Call("m", (), (tool(NAME, "custom"), {"type": "mcp", "name": NAME}), allowed))
    assert body["tools"] == [{"type": "custom", "custom": {"name": told}}, {"type": "mcp", "name": NAME}]
    assert [each[each["type"]]["name"] for each in body["tool_choice"]["allowed_tools"]["tools"]] == [told, told]
    for flat in ({"type": "function", "name": NAME}, {"type": "tool", "name": NAME}):
        assert build_body(spec, Call("m", (), (tool(NAME),), flat))["tool_choice"]["name"] == told


def test_the_form_from_before_there_were_tools():
    spec = definition({}).spec()
    told = fitted(NAME, spec.request.tool_names)
    messages = (
        {"role": "assistant", "content": None, "function_call": {"name": NAME, "arguments": "{}"}},
        {"role": "function", "name": NAME, "content": "4"},
    )
    params = {"functions": [{"name": NAME}], "function_call": {"name": NAME}, "temperature": 1}
    body = build_body(spec, Call("m", messages, params=params))
    assert body["messages"] == [
        {"role": "assistant", "content": None, "function_call": {"name": told, "arguments": "{}"}},
        {"role": "function", "name": told, "content": "4"},
    ]
    assert (body["functions"], body["function_call"], body["temperature"]) == ([{"name": told}], {"name": told}, 1)


def test_calls_that_fit_go_out_as_they_came():
    spec = definition({"request": {"call_ids": {"characters": "a-z0-9", "max": 9}}}).spec()
    given = history("plain", "abcdef123")
    body = build_body(spec, Call("m", tuple(given), (tool("plain"),)))
    assert [{**sent, "parts": 0} for sent in body["messages"]] == [{**message, "parts": 0} for message in given]
    assert body["tools"] == [tool("plain")]


@pytest.mark.parametrize("odd", [None, 5, {}, ["x"], ""])
def test_what_is_no_name_is_left_for_the_api(odd):
    spec = definition({"request": {"call_ids": {"characters": "a-z", "min": 9, "max": 9}}}).spec()
    given = history("plain", odd)
    sent = build_body(spec, Call("m", tuple(given), (tool("plain"),)))["messages"]
    assert sent[1]["tool_calls"][0]["id"] == sent[2]["tool_call_id"]
    if odd != "":
        assert sent[2]["tool_call_id"] == odd
    build_body(spec, Call("m", ({"role": "assistant", "tool_calls": [None, 1], "function_call": 7, "parts": 3},)))


# ------------------------------------------------------------------ on the way back

ARGUMENTS = '{"city": "Paris"}'


def whole(dialect, name):
    """An answer with one call, as each API gives it."""
    arguments = json.loads(ARGUMENTS)
    return {
        "openai-chat": {"choices": [{"message": {"content": None, "tool_calls": [{"id": "c1", "type": "function", "function": {"name": name, "arguments": ARGUMENTS}}]}, "finish_reason": "tool_calls"}]},
        "openai-responses": {"status": "completed", "output": [{"type": "function_call", "id": "fc1", "call_id": "c1", "name": name, "arguments": ARGUMENTS}]},
        "anthropic-messages": {"content": [{"type": "tool_use", "id": "c1", "name": name, "input": arguments}], "stop_reason": "tool_use"},
        "gemini": {"candidates": [{"content": {"parts": [{"functionCall": {"id": "c1", "name": name, "args": arguments}}]}, "finishReason": "STOP"}]},
        "cohere-v2": {"message": {"tool_calls": [{"id": "c1", "type": "function", "function": {"name": name, "arguments": ARGUMENTS}}]}, "finish_reason": "TOOL_CALL"},
        "ollama": {"message": {"content": "", "tool_calls": [{"id": "c1", "function": {"name": name, "arguments": arguments}}]}, "done": True, "done_reason": "stop"},
    }[dialect]  # fmt: skip


def streamed(dialect, name):
    """The same as events; the dialects that say arguments in pieces do so."""
    first, second = ARGUMENTS[:7], ARGUMENTS[7:]
    events = {
        "openai-chat": [
            {"choices": [{"delta": {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": name, "arguments": first}}]}}]},
            {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": second}}]}, "finish_reason": "tool_calls"}]},
        ],
        "openai-responses": [
            {"type": "response.output_item.added", "output_index": 0, "item": {"type": "function_call", "id": "fc1", "call_id": "c1", "name": name, "arguments": ""}},
            {"type": "response.function_call_arguments.delta", "output_index": 0, "item_id": "fc1", "delta": first},
            {"type": "response.function_call_arguments.delta", "output_index": 0, "item_id": "fc1", "delta": second},
            {"type": "response.output_item.done", "output_index": 0, "item": {"type": "function_call", "id": "fc1", "call_id": "c1", "name": name, "arguments": ARGUMENTS}},
            {"type": "response.completed", "response": whole("openai-responses", name)},
        ],
        "anthropic-messages": [
            {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "c1", "name": name, "input": {}}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": first}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": second}},
            {"type": "message_delta", "delta": {"stop_reason": "tool_use"}},
            {"type": "message_stop"},
        ],
        "gemini": [whole("gemini", name)],
        "cohere-v2": [
            {"type": "tool-call-start", "index": 0, "delta": {"message": {"tool_calls": {"id": "c1", "type": "function", "function": {"name": name, "arguments": ""}}}}},
            {"type": "tool-call-delta", "index": 0, "delta": {"message": {"tool_calls": {"function": {"arguments": ARGUMENTS}}}}},
            {"type": "message-end", "delta": {"finish_reason": "TOOL_CALL"}},
        ],
    }  # fmt: skip
    if dialect == "ollama":
        return {"text": f"{json.dumps(whole(dialect, name))}\n"}
    return {"events": events[dialect]}


def told_by(dialect, *names):
    form = definition({"extends": dialect}).spec().request.tool_names
    return [fitted(name, form) if form else name for name in names]


def check_reply(played, name):
    reply = played.reply
    assert [(call.id, call.name, call.arguments) for call in reply.tool_calls] == [("c1", name, ARGUMENTS)]
    assert reply.message["tool_calls"][0]["function"]["name"] == name
    assert [part.call.name for part in reply.parts if part.call] == [name]
    deltas = [delta for each in played.deltas for delta in each.tool_calls]
    if not reply.streamed:
        assert deltas == [], "of a whole answer nothing is handed on before its end"
        return
    assert "".join(delta.name or "" for delta in deltas) == name
    assert "".join(delta.arguments or "" for delta in deltas) == ARGUMENTS
    assert next(delta for delta in deltas if delta.name).name == name, "never a piece of another name"


@each_dialect
@pytest.mark.parametrize("name", [NAME, "plain"])
def test_the_callers_name_comes_back(dialect, name):
    (told,) = told_by(dialect, name)
    call = {"tools": [tool(name), tool("other")]}
    check_reply(play({"extends": dialect}, call, [{"json": whole(dialect, told)}]), name)
    size = len(json.dumps(streamed(dialect, told)))
    for pieces in (0, 1, 2, 3, 7, 50, size // 2):
        check_reply(play({"extends": dialect}, {**call, "stream": True}, [streamed(dialect, told)], pieces), name)


@each_dialect
def test_a_name_that_nobody_offered_stays_as_it_came(dialect):
    (odd,) = told_by(dialect, "odd.one/out")
    for stream, answer in ((False, {"json": whole(dialect, odd)}), (True, streamed(dialect, odd))):
        check_reply(play({"extends": dialect}, {"tools": [tool(NAME)], "stream": stream}, [answer]), odd)


def piece(**function):
    return {"choices": [{"delta": {"tool_calls": [{"index": 0, "id": "c1", "function": function}]}}]}


END = {"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}


def played_in_pieces(names, *events):
    call = {"tools": [tool(name) for name in names], "stream": True}
    return play({}, call, [{"events": [*events, END]}])


def test_a_name_in_pieces():
    """However it is cut: the own name comes whole, and once."""
    (told,) = told_by("openai-chat", NAME)
    for first, second in itertools.combinations(range(1, len(told)), 2):
        cut = [piece(name=told[:first]), piece(name=told[first:second]), piece(name=told[second:])]
        check_reply(played_in_pieces([NAME], *cut, piece(arguments=ARGUMENTS)), NAME)
        check_reply(played_in_pieces([NAME, "other"], *cut, piece(arguments=ARGUMENTS)), NAME)


def test_a_name_that_grows_and_one_that_is_said_with_each_piece():
    (told,) = told_by("openai-chat", NAME)
    grows = [piece(name=told[:5]), piece(name=told[:9]), piece(name=told), piece(name=told, arguments=ARGUMENTS)]
    check_reply(played_in_pieces([NAME], *grows), NAME)
    check_reply(played_in_pieces([NAME], piece(name=told, arguments=ARGUMENTS[:4]), piece(name=told, arguments=ARGUMENTS[4:])), NAME)  # fmt: skip


def test_the_beginning_of_a_changed_name_is_another_name():
    """A tool may be called what another one's changed name begins with: the arguments decide, or the end."""
    (told,) = told_by("openai-chat", NAME)
    for name in ("calendar_list_all", told[:-1], "calendar"):
        check_reply(played_in_pieces([NAME, name], piece(name=name), piece(arguments=ARGUMENTS)), name)
        played = played_in_pieces([NAME, name], piece(name=name))
        assert [(call.name, call.arguments) for call in played.reply.tool_calls] == [(name, "{}")]
        assert "".join(delta.name or "" for each in played.deltas for delta in each.tool_calls) == name


def test_a_changed_name_that_another_name_begins_with():
    (told,) = told_by("openai-chat", NAME)
    longer = f"{told}_too"
    for name, sent in ((NAME, told), (longer, longer)):
        check_reply(played_in_pieces([NAME, longer], piece(name=sent[:20]), piece(name=sent[20:]), piece(arguments=ARGUMENTS)), name)  # fmt: skip


def test_two_calls_of_changed_names():
    names = [NAME, "mail.send now", "plain"]
    sent = told_by("openai-chat", *names)
    calls = [{"index": at, "id": f"c{at}", "function": {"name": name, "arguments": ARGUMENTS}} for at, name in enumerate(sent)]  # fmt: skip
    played = play({}, {"tools": [tool(name) for name in names], "stream": True}, [{"events": [{"choices": [{"delta": {"tool_calls": calls}}]}, END]}])  # fmt: skip
    assert [call.name for call in played.reply.tool_calls] == names


def test_the_older_form_gives_own_names_back():
    (told,) = told_by("openai-chat", NAME)
    message = {"content": None, "function_call": {"name": told, "arguments": ARGUMENTS}}
    answer = {"json": {"choices": [{"message": message, "finish_reason": "function_call"}]}}
    assert play({}, {"tools": [tool(NAME)]}, [answer]).reply.tool_calls[0].name == NAME


def test_errors_say_the_callers_name():
    (told,) = told_by("openai-chat", NAME)
    refused = {"status": 400, "json": {"error": {"message": f"Invalid schema for function '{told}': no"}}}
    error = play({}, {"tools": [tool(NAME)]}, [refused], retries=0).error
    assert error.message == f"Invalid schema for function '{NAME}': no"
    half = played_in_pieces([NAME], piece(name=told, arguments='{"a')).error
    assert repr(NAME) in half.message
    assert told not in half.message
    assert half.partial.tool_calls[0].name == NAME


# ------------------------------------------------------------------ over the wire


@pytest.mark.parametrize("client", [prx.Client, AsyncAsBlocking], ids=["blocking", "asynchronous"])
@each_dialect
def test_a_conversation_with_names_that_no_api_takes(tmp_path, dialect, client):
    """The emulator refuses a name or an id that is not in its API's form."""
    where = {"gemini": "/v1beta", "cohere-v2": "", "ollama": ""}.get(dialect, "/v1")
    (tmp_path / "mine.yaml").write_text(f"spec: 1\nid: mine\nname: Mine\nextends: {dialect}\n")
    weather = {"type": "function", "function": {"name": "weather.of/a city", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}  # fmt: skip
    with Emulator({}) as emulator:
        config = {"providers": {"mine": {"api_url": emulator.url.removesuffix("/v1") + where, "api_key": "sk-any-key"}}}
        with client(config=config, providers=tmp_path, env={}) as api:
            asked = [{"role": "user", "content": "What is the weather in Paris?"}]
            reply = api.chat(asked, "mine/words", tools=[weather], retries=0)
            with api.stream(asked, "mine/words", tools=[weather], retries=0) as pieces:
                deltas = [call for delta in pieces for call in delta.tool_calls]
            assert "".join(call.name or "" for call in deltas) == "weather.of/a city"
            for made in (reply, pieces.reply):
                assert [call.name for call in made.tool_calls] == ["weather.of/a city"]
                message = json.loads(
                    json.dumps(made.message).replace(made.tool_calls[0].id, "an id: of/another API" * 5)
                )
                result = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "sunny"}
                told = api.chat([*asked, message, result], "mine/words", tools=[weather], retries=0)
                assert told.content == "The tool says: sunny."


def test_ids_of_another_provider():
    """What one provider called its call goes to another in that one's form, and its own ids come back untouched."""
    with RawServer(response(body=whole("openai-chat", "plain"))) as server:
        config = {"providers": {"mistral": {"api_url": server.url, "api_key": "k"}}}
        with prx.Client(config=config, env={}) as api:
            reply = api.chat(history("plain", "toolu_01/x"), "mistral/m", tools=[tool("plain")], retries=0)
        sent = server.requests[0]["body"]["messages"]
    assert re.fullmatch("[a-zA-Z0-9]{9}", sent[1]["tool_calls"][0]["id"])
    assert sent[1]["tool_calls"][0]["id"] == sent[2]["tool_call_id"]
    assert reply.tool_calls[0].id == "c1"
