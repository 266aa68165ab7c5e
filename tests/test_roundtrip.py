"""One conversation through every dialect, whole and streamed, over real HTTP; and one that changes dialect on the way.

The server speaks the dialects of tests/judges, which refuse whatever the APIs would, and keeps what it understood: nothing may be lost either way.
"""

from __future__ import annotations

import itertools
import json
import struct
import urllib.error
import urllib.request
from base64 import b64encode

import pytest
from judges.dialects import Emulator
from judges.dialects.common import sign
from judges.dialects.meaning import understood
from judges.dialects.reads.parts import signature

import prx
from prx.spec.loader import Loader

# dialect: where its API is, and what of a Usage it has no place for
DIALECTS = {
    "openai-chat": ("/v1", ()),
    "openai-responses": ("/v1", ()),
    "anthropic-messages": ("/v1", ()),
    "gemini": ("/v1beta", ()),
    "cohere-v2": ("", ("reasoning_tokens",)),
    "ollama": ("", ("cached_tokens", "reasoning_tokens")),
}
PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + struct.pack(">II", 3, 2) + b"\x08\0\0\0\0"
PICTURE = f"data:image/png;base64,{b64encode(PNG).decode()}"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
SYSTEM = {"role": "system", "content": "Answer in a few words."}
RESULTS = ("sunny, 21 degrees", '{"sky": "rain", "degrees": 9}')
# What the user says in turn; None hands over the results of the calls
SAID = [
    f"What is this? [IMAGE:{PICTURE}]",
    "What is the weather in Paris and London?",
    None,
    "And what is it in Rome and Oslo?",
    None,
    "Say hello.",
]
EFFORTS = [None, "high"]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """An emulator, and a client that reaches it by every dialect."""
    folder = tmp_path_factory.mktemp("providers")
    for dialect in DIALECTS:
        (folder / f"by-{dialect}.yaml").write_text(
            f"spec: 1\nid: by-{dialect}\nname: By {dialect}\nextends: {dialect}\n"
        )
    with Emulator({"key": "sk-right-key"}) as emulator:
        root = emulator.url.removesuffix("/v1")
        config = {
            "providers": {
                f"by-{dialect}": {"api_url": root + path, "api_key": "sk-right-key"}
                for dialect, (path, _) in DIALECTS.items()
            }
        }
        with prx.Client(config=config, providers=folder, env={}) as client:
            yield emulator, client


def ask(client, dialect, messages, effort, *, stream=False, **more):
    asked = {"tools": [WEATHER], "retries": 0, **({"reasoning_effort": effort} if effort else {}), **more}
    if not stream:
        return client.chat(messages, f"by-{dialect}/words", **asked)
    with client.stream(messages, f"by-{dialect}/words", **asked) as pieces:
        deltas = list(pieces)
    joined = "".join(delta.content or "" for delta in deltas)
    assert joined == pieces.reply.content
    assert "".join(delta.reasoning or "" for delta in deltas) == (pieces.reply.reasoning or "")
    assert pieces.reply.streamed
    assert len(deltas) > 1
    return pieces.reply


def converse(client, ways, effort):
    """The conversation, each turn by its own way: (dialect, stream). Gives the replies."""
    messages, replies = [SYSTEM], []
    for said, (dialect, stream) in zip(SAID, ways, strict=True):
        if said is None:
            messages += [
                {"role": "tool", "tool_call_id": call.id, "content": text}
                for call, text in zip(replies[-1].tool_calls, RESULTS, strict=True)
            ]
        else:
            messages.append({"role": "user", "content": said})
        replies.append(ask(client, dialect, messages, effort, stream=stream))
        messages.append(json.loads(json.dumps(replies[-1].message)))  # what can be stored, and no more
    return replies


def plain(reply, without=()):
    """A reply without what may differ: ids, the model's name, and counts that an API does not give."""
    return {
        "content": reply.content,
        "reasoning": reply.reasoning,
        "calls": [(call.name, json.loads(call.arguments)) for call in reply.tool_calls],
        "finish_reason": reply.finish_reason,
        "usage": {name: count for name, count in reply.usage._asdict().items() if name not in without},
        "source": reply.content_source,
        "refusal": reply.refusal,
    }


@pytest.fixture(scope="module")
def expected(served):
    """The conversation as Chat Completions has it, by effort: replies, and what was understood at the end."""
    emulator, client = served
    found = {}
    for effort in EFFORTS:
        replies = converse(client, [("openai-chat", False)] * len(SAID), effort)
        found[effort] = (replies, understood(emulator.heard[-1]))
    return found


def test_the_conversation_is_what_it_should_be(expected):
    replies, heard = expected["high"]
    assert replies[0].content == "I see a PNG picture of 3 by 2 pixels."
    assert [call.arguments for call in replies[1].tool_calls] == ['{"city": "Paris"}', '{"city": "London"}']
    assert replies[2].content == 'The tool says: sunny, 21 degrees and {"sky": "rain", "degrees": 9}.'
    assert [call.arguments for call in replies[3].tool_calls] == ['{"city": "Rome"}', '{"city": "Oslo"}']
    assert all(reply.reasoning and reply.usage.reasoning_tokens for reply in replies)
    assert all(reply.usage.cached_tokens for reply in replies)
    assert [message["role"] for message in heard] == [
        "system", "user", "assistant", *(["user", "assistant", "tool", "tool", "assistant"] * 2), "user",
    ]  # fmt: skip
    assert heard[1]["pictures"]
    assert not any(reply.reasoning for reply in expected[None][0])


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_dialect_is_the_one_that_is_meant(served, dialect):
    _, client = served
    spec = client.catalog.get(f"by-{dialect}").spec()
    assert spec.dialect == dialect
    assert {*DIALECTS} == {*Loader().dialects()} - {
        "json-http",
        "bedrock-converse",
    }  # test_converse_by_hand.py has the last


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_says_the_same(served, expected, dialect, effort, stream):
    emulator, client = served
    without = DIALECTS[dialect][1]
    replies = converse(client, [(dialect, stream)] * len(SAID), effort)
    wanted, heard = expected[effort]
    assert [plain(reply, without) for reply in replies] == [plain(reply, without) for reply in wanted]
    assert understood(emulator.heard[-1]) == heard


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(DIALECTS, 2)))
def test_a_conversation_changes_dialect(served, expected, first, second, effort, stream):
    """Calls are made by one and their results read by the other, then the other way round."""
    emulator, client = served
    ways = [first, first, second, second, first, second]
    replies = converse(client, [(dialect, stream) for dialect in ways], effort)
    wanted, heard = expected[effort]
    assert [reply.content for reply in replies] == [reply.content for reply in wanted]
    assert understood(emulator.heard[-1]) == heard


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_parameters(served, dialect, stream):
    _, client = served
    asked = [SYSTEM, {"role": "user", "content": "one two three four"}]

    def reply(**more):
        return ask(client, dialect, asked, None, stream=stream, **more)

    assert plain(reply(max_tokens=3)) | {"usage": 0} == {
        "content": "You said: one", "reasoning": None, "calls": [], "finish_reason": "length", "usage": 0,
        "source": "content", "refusal": None,
    }  # fmt: skip
    if dialect != "openai-responses":  # which has no such parameter
        assert (reply(stop=[" three"]).content, reply(stop=" three").finish_reason) == ("You said: one two", "stop")
    assert reply(reasoning_effort="low", temperature=1).reasoning
    assert reply(reasoning_effort="none").reasoning is None


@pytest.mark.parametrize("dialect", DIALECTS)
def test_tool_choice(served, dialect):
    _, client = served
    asked = "What is the weather in Paris?"
    assert ask(client, dialect, asked, None, tool_choice="none").tool_calls == ()
    named = {"type": "function", "function": {"name": "get_weather"}}
    for choice in ("auto", "required", named)[: 1 if dialect == "ollama" else 3]:  # which knows no such choice
        assert len(ask(client, dialect, asked, None, tool_choice=choice).tool_calls) == 1


@pytest.mark.parametrize("dialect", DIALECTS)
def test_errors(served, tmp_path, dialect):
    emulator, client = served
    with pytest.raises(prx.NotFoundError, match="words-2"):
        client.chat("hi", f"by-{dialect}/words-2", retries=0)
    name = f"by-{dialect}"
    settings = {"api_url": emulator.url.removesuffix("/v1") + DIALECTS[dialect][0], "api_key": "sk-wrong-key"}
    (tmp_path / f"{name}.yaml").write_text(f"spec: 1\nid: {name}\nname: Mine\nextends: {dialect}\n")
    with prx.Client(config={"providers": {name: settings}}, providers=tmp_path, env={}) as other:
        for stream in (False, True):
            with pytest.raises(prx.AuthError) as caught:
                ask(other, dialect, "hi", None, stream=stream)
            assert caught.value.status == (400 if dialect == "gemini" else 401)
        with pytest.raises(prx.AuthError):
            other.models(name)


@pytest.mark.parametrize(
    ("dialect", "lists"),
    [(dialect, "openai-chat") for dialect in DIALECTS if dialect != "cohere-v2"]
    + [("anthropic-messages", "anthropic-messages"), ("cohere-v2", "cohere-v2")],
)
def test_models(tmp_path, dialect, lists):
    (tmp_path / "mine.yaml").write_text(f"spec: 1\nid: mine\nname: Mine\nextends: {dialect}\n")
    with Emulator({"models": ["one", "two"], "lists": lists}) as emulator:
        settings = {"api_url": emulator.url.removesuffix("/v1") + DIALECTS[dialect][0], "api_key": "sk-any-key"}
        with prx.Client(config={"providers": {"mine": settings}}, providers=tmp_path, env={}) as client:
            assert client.models("mine") == ["one", "two"]


def test_calls_without_an_id(tmp_path):
    """Two at once, of one function: nothing but their order tells them apart."""
    (tmp_path / "mine.yaml").write_text("spec: 1\nid: mine\nname: Mine\nextends: gemini\n")
    with Emulator({"call_ids": False}) as emulator:
        settings = {"api_url": emulator.url.removesuffix("/v1") + "/v1beta", "api_key": "sk-any-key"}
        with prx.Client(config={"providers": {"mine": settings}}, providers=tmp_path, env={}) as client:
            asked = {"role": "user", "content": SAID[1]}
            with client.stream([asked], "mine/words", tools=[WEATHER]) as pieces:
                assert [len(delta.tool_calls) for delta in pieces if delta.tool_calls] == [1, 1]
            for reply in (pieces.reply, client.chat([asked], "mine/words", tools=[WEATHER])):
                cities = [json.loads(call.arguments)["city"] for call in reply.tool_calls]
                assert cities == ["Paris", "London"]
                results = [
                    {"role": "tool", "tool_call_id": call.id, "content": city}
                    for call, city in zip(reply.tool_calls, cities, strict=True)
                ]
                told = client.chat([asked, reply.message, *results], "mine/words", tools=[WEATHER])
                assert told.content == "The tool says: Paris and London."


# ------------------------------------------------------------------ what the server refuses, so that the above proves something

ASKED = {"role": "user", "content": "What is the weather in Paris?"}
USE = {"type": "tool_use", "id": "t1", "name": "get_weather", "input": {"city": "Paris"}}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": "sunny"}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": sign("hm")}
CALL = {"id": "t1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
TOLD = {"role": "tool", "tool_call_id": "t1", "content": "sunny"}
USER = {"role": "user", "parts": [{"text": "What is the weather in Paris?"}]}
FUNCTION = {"functionCall": {"name": "get_weather", "args": {"city": "Paris"}}}
SIGNED = {**FUNCTION, "thoughtSignature": signature("get_weather", {"city": "Paris"})}
ANSWER = {"role": "user", "parts": [{"functionResponse": {"name": "get_weather", "response": {"result": "sunny"}}}]}
THINKING = {"thinking": {"type": "enabled", "budget_tokens": 1024}}


def chat(*messages, **more):
    return "/v1/chat/completions", {"model": "words", "messages": [*messages], **more}


def blocks(*messages, **more):
    return "/v1/messages", {"model": "words", "max_tokens": 2048, "messages": [*messages], **more}


def parts(*contents, **more):
    return "/v1beta/models/words:generateContent", {"contents": [*contents], **more}


def thoughtful(*contents):
    return parts(*contents, generationConfig={"thinkingConfig": {"includeThoughts": True, "thinkingLevel": "low"}})


def segments(*messages, **more):
    return "/v2/chat", {"model": "words", "messages": [*messages], **more}


def lines(*messages, **more):
    return "/api/chat", {"model": "words", "stream": False, "messages": [*messages], **more}


def said(*content):
    return {"role": "assistant", "content": [*content]}


def given(*content):
    return {"role": "user", "content": [*content]}


def model(*content):
    return {"role": "model", "parts": [*content]}


def post(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"authorization": "Bearer sk-right-key"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


TAKEN = [
    chat(ASKED, {"role": "assistant", "content": None, "tool_calls": [CALL]}, TOLD),
    blocks(ASKED, said(THOUGHT, USE), given(RESULT), **THINKING),
    blocks(ASKED, said(USE), given(RESULT)),
    blocks(ASKED, said(USE), given(RESULT), said({"type": "text", "text": "sunny"}), ASKED, **THINKING),
    thoughtful(USER, model(SIGNED), ANSWER),
    parts(USER, model(FUNCTION), ANSWER),
    thoughtful(USER, model(FUNCTION), ANSWER, model({"text": "sunny"}), USER),
    segments(ASKED, {"role": "assistant", "tool_plan": "I will ask.", "tool_calls": [CALL]}, TOLD),
    lines(
        ASKED,
        {"role": "assistant", "tool_calls": [{"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}]},
        {"role": "tool", "tool_name": "get_weather", "content": "sunny"},
    ),
]
REFUSED = [
    (chat(ASKED, {"role": "assistant", "content": "a", "odd": 1}), "messages.1.odd"),
    (chat(ASKED, {"role": "assistant", "tool_calls": [{**CALL, "odd": 1}]}, TOLD), "messages.1.tool_calls.0.odd"),
    (chat({"role": "user", "content": [{"type": "image", "url": "x"}]}), "messages.0.content.0.type"),
    (chat(ASKED, {"role": "assistant", "tool_calls": [CALL]}), "no result"),
    (chat(ASKED, TOLD), "no call waits"),
    (chat(), "not an empty one"),
    (("/v1/responses", {"model": "words", "input": [said({"type": "input_text", "text": "a"})]}), "input.0.content.0.type"),
    (blocks(ASKED, said(USE), given(RESULT), **THINKING), "must start with a thinking block"),
    (blocks(ASKED, said(THOUGHT | {"thinking": "hmm"}, USE), given(RESULT), **THINKING), "Invalid `signature`"),
    (blocks(ASKED, said({"type": "thinking", "thinking": "hm"}, USE), given(RESULT)), "signature: missing"),
    (blocks(ASKED, said(USE), given(ASKED | {"type": "text"})), "content.0.role"),
    (blocks(ASKED, said({"type": "text", "text": ""})), "messages.1.content.0.text"),
    (blocks(ASKED, said(USE), given({"type": "text", "text": "a"}, RESULT)), "must come first"),
    (blocks(ASKED, tools=[WEATHER]), "tools.0"),
    (blocks(ASKED, odd=1), "body.odd"),
    (blocks({"role": "system", "content": "a"}, ASKED), "messages.0.role"),
    (blocks(ASKED, max_tokens=1024, **THINKING), "must be greater"),
    (blocks(ASKED, temperature=0, **THINKING), "temperature"),
    (blocks(ASKED, tool_choice={"type": "any"}, **THINKING), "a tool is forced"),
    (("/v1/messages", {"model": "words", "messages": [ASKED]}), "max_tokens: missing"),
    (thoughtful(USER, model(FUNCTION), ANSWER), "missing a thought_signature"),
    (thoughtful(USER, model(SIGNED | {"thoughtSignature": "b2Rk"}), ANSWER), "not valid"),
    (parts(USER, model({"text": "a", "functionCall": {"name": "f"}})), "contents.1.parts.0"),
    (parts(USER, model(FUNCTION), ANSWER | {"parts": [{"functionResponse": {"name": "other", "response": {}}}]}), "does not belong"),
    (parts({"role": "assistant", "parts": [{"text": "a"}]}), "contents.0.role"),
    (segments(ASKED, {"role": "assistant", "content": []}), "not an empty one"),
    (segments(ASKED, {"role": "assistant", "thinking_blocks": []}), "messages.1.thinking_blocks"),
    (segments(ASKED, temperature="warm"), "body.temperature"),
    (lines({"role": "user", "content": [{"type": "text", "text": "a"}]}), "messages.0.content"),
    (lines(ASKED, {"role": "assistant", "tool_calls": [CALL]}), "type: not permitted"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body"), TAKEN, ids=lambda value: value if isinstance(value, str) else "")
def test_what_the_server_takes(served, path, body):
    status, answer = post(served[0].url.removesuffix("/v1") + path, body)
    assert status == 200, answer
    assert "sunny" in answer or "Paris" in answer


@pytest.mark.parametrize(("asked", "text"), REFUSED, ids=[f"{asked[0]} {text}" for asked, text in REFUSED])
def test_what_the_server_refuses(served, asked, text):
    path, body = asked
    status, answer = post(served[0].url.removesuffix("/v1") + path, body)
    assert (status, text in answer) == (400, True), answer
