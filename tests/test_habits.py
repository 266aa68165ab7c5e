"""Round trips over every ordered pair of providers with habits, against servers that refuse what the vendors refuse.

One conversation: begun at A, gone on with at B in the midst of a turn, and at A again. Nothing may be refused and no
fallback be needed; the caller's names, texts, results and pictures all arrive, and what a provider wants back returns to it.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pytest
from helpers.strict_providers import MODELS, PROVIDERS, StrictServer
from judges.dialects.common import sign

import prx

PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
LIST, OPEN = "calendar.list/all", "1password.open"
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": LIST,
            "description": "All appointments of a day",
            "parameters": {"type": "object", "properties": {"day": {"type": "string"}}, "required": ["day"]},
        },
    },
    {"type": "function", "function": {"name": OPEN, "description": "Opens the vault"}},  # parameters may be left out
]
# A conversation that began elsewhere: as OpenAI's SDK writes down an answer, and a refusal.
BEFORE = [
    {"role": "system", "content": "system-text"},
    {"role": "developer", "content": "developer-text"},
    {"role": "user", "content": "user-text-1"},
    {"role": "assistant", "content": "elsewhere-text", "annotations": []},
    {"role": "user", "content": "user-text-2"},
    {"role": "assistant", "content": None, "refusal": "refusal-text"},
]
NAMES = [str(provider) for provider in PROVIDERS]
MORE = [str(provider) for provider in MODELS]
BY_NAME = {str(provider): provider for provider in (*PROVIDERS, *MODELS)}
# The further models of a host change with two providers that have nothing in common.
WITH = ("openai/gpt-4o", "anthropic/claude-sonnet-4-5")
PAIRS = [*itertools.permutations(NAMES, 2)]
PAIRS += [pair for name, other in itertools.product(MORE, WITH) for pair in ((name, other), (other, name))]
WAYS = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@pytest.fixture(scope="module")
def served():
    with StrictServer() as server:
        names = {provider.name for provider in PROVIDERS}
        settings = {name: {"api_url": f"{server.url}/{name}/openai/v1", "api_key": "sk-strict"} for name in names}
        with prx.Client(config={"providers": settings}, env={}) as client:
            yield server, client


class Talk:
    """A conversation as the caller keeps it; `told` is each text in it that has to arrive, in its order."""

    def __init__(self, served, *, stream, pictures):
        self.server, self.client = served
        self.stream, self.pictures = stream, pictures
        self.messages, self.told, self.number = (
            [*BEFORE],
            ["user-text-1", "elsewhere-text", "user-text-2", "refusal-text"],
            0,
        )
        self.calls = ()

    def copy(self, *, pictures):
        made = Talk((self.server, self.client), stream=self.stream, pictures=pictures)
        made.messages, made.told, made.number, made.calls = [*self.messages], [*self.told], self.number, self.calls
        return made

    def text(self, what):
        self.number += 1
        self.told.append(f"{what}-{self.number}.")  # with an end: no text is the beginning of another
        return self.told[-1]

    def user(self):
        self.messages.append({"role": "user", "content": self.text("user")})

    def developer(self):
        self.messages.append({"role": "developer", "content": f"developer-{self.number}"})

    def results(self, *, picture=False):
        """Results of the calls; the second has the name of its tool, and a picture."""
        for place, call in enumerate(self.calls):
            message = {"role": "tool", "tool_call_id": call.id, "content": self.text("result")}
            if place == 1:
                message |= {"name": call.name, "content": self._with_picture(message["content"], shown=picture)}
            self.messages.append(message)

    def _with_picture(self, text, *, shown):
        url = {"url": f"data:image/png;base64,{PICTURE}"}
        shown = shown and self.pictures
        return [{"type": "text", "text": text}, *([{"type": "image_url", "image_url": url}] if shown else [])]

    def ask(self, name, *, calls):
        """What is said next: calls beside blank text, or a text."""
        self.number += 1
        days = [f"day-{self.number}-{place}." for place in (1, 2)]
        said = f"the answer-{self.number}. of {name}"
        self.server.thinks = f"the thought-{self.number} of it"
        self.server.says, self.server.calls = (
            ("\n\n", [*((0, {"day": day}) for day in days), (1, {})]) if calls else (said, ())
        )
        reply = self._reply(name)
        if calls:
            assert [call.name for call in reply.tool_calls] == [LIST, LIST, OPEN]
            assert [json.loads(call.arguments) for call in reply.tool_calls] == [{"day": days[0]}, {"day": days[1]}, {}]
        else:
            assert (reply.content, reply.tool_calls) == (said, ())
        self._check_arrived(BY_NAME[name])
        self.told += days if calls else [said]
        self.calls = reply.tool_calls
        self.messages.append(json.loads(json.dumps(reply.message)))  # what can be stored, and no more

    def _reply(self, name):
        asked = {"tools": TOOLS, "retries": 0, "reasoning_effort": "low"}
        if not self.stream:
            reply = self.client.chat(self.messages, name, **asked)
        else:
            with self.client.stream(self.messages, name, **asked) as pieces:
                assert len(list(pieces)) > 1
            reply = pieces.reply
        assert reply.fallbacks == ()
        return reply

    def _check_arrived(self, provider):
        """Each text once and in its order; system messages and pictures may have another place."""
        texts = provider.bodies[-1]
        assert [text for text in self.told if texts.count(text) != 1] == []
        placed = [texts.index(text) for text in self.told]
        assert placed == sorted(placed)
        for text in ("system-text", "developer-text"):
            assert texts.count(text) == 1
        assert texts.count(PICTURE) == json.dumps(self.messages).count(PICTURE)


@pytest.fixture(scope="module")
def begun(served):
    """The part before the provider changes, which is the same whoever comes next."""
    known = {}

    def begin(name, *, stream, pictures):
        if (name, stream, pictures) not in known:
            talk = Talk(served, stream=stream, pictures=pictures)
            talk.user()
            talk.ask(name, calls=True)
            talk.results()
            talk.ask(name, calls=True)  # the same turn, one step on
            talk.results(picture=True)
            talk.ask(name, calls=False)
            talk.user()
            talk.ask(name, calls=True)
            known[name, stream, pictures] = talk
        return known[name, stream, pictures].copy(pictures=pictures)

    return begin


@WAYS
@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_a_conversation_changes_provider(begun, first, second, stream):
    refused = [len(BY_NAME[name].refused) for name in (first, second)]
    talk = begun(first, stream=stream, pictures=BY_NAME[first].sees and BY_NAME[second].sees)
    talk.results()
    talk.ask(second, calls=True)  # goes on with the turn of the first
    talk.results(picture=True)
    talk.user()  # right after the results
    talk.ask(second, calls=False)
    talk.developer()
    talk.user()
    talk.ask(second, calls=True)
    talk.results(picture=True)
    talk.ask(first, calls=False)  # ends the turn of the second
    assert [len(BY_NAME[name].refused) for name in (first, second)] == refused


@pytest.mark.parametrize("effort", [None, "low"])
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": LIST}}], ids=["any", "named"])
@pytest.mark.parametrize("name", [*NAMES, *MORE])
def test_a_forced_tool(served, name, choice, effort):
    """Where a model that thinks cannot be forced it does not think; where none can, nothing is sent."""
    server, client = served
    server.thinks, server.says, server.calls = "hm", "", [(0, {"day": "monday"})]
    asked = {"tools": TOOLS[:1], "tool_choice": choice, "reasoning_effort": effort, "retries": 0}
    before = len(BY_NAME[name].bodies)
    if client.catalog.get(BY_NAME[name].name).spec(BY_NAME[name].model).can("tool_choice"):
        reply = client.chat("Which appointments are there?", name, **asked)
        assert (reply.tool_calls[0].name, reply.fallbacks) == (LIST, ())
    else:
        with pytest.raises(prx.CapabilityError, match="tool_choice"):
            client.chat("Which appointments are there?", name, **asked)
        assert len(BY_NAME[name].bodies) == before


def test_parameters_of_openai_that_are_refused(served):
    server, client = served
    server.says, server.calls = "so", ()
    reply = client.chat("hi", "mistral/magistral-medium-latest", user="ann", logit_bias={"1": 1}, store=True, retries=0)
    assert (reply.content, reply.fallbacks) == ("so", ())


@pytest.mark.parametrize("content", ["so \n", [{"type": "text", "text": "so "}]], ids=["text", "parts"])
def test_an_answer_that_is_to_be_continued(served, content):
    server, client = served
    server.says, server.calls = "so be it", ()
    asked = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": content}]
    assert client.chat(asked, "anthropic/claude-sonnet-4-5", retries=0).fallbacks == ()


# ------------------------------------------------------------------ what the servers refuse, so that the above proves something

ID = "abc123XYZ"
USER = {"role": "user", "content": "hi"}
PNG = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}


def turn(*, content="", name="calendar", arguments="{}", given=ID, **more):
    """A turn with a call."""
    call = {"id": given, "type": "function", "function": {"name": name, "arguments": arguments}}
    return {"role": "assistant", "content": content, "tool_calls": [call], **more}


def told(*, content="sunny", **more):
    return {"role": "tool", "tool_call_id": ID, "content": content, **more}


def said(content="so", **more):
    return {"role": "assistant", "content": content, **more}


def chat(*messages, **more):
    return {"model": "m", "messages": [*messages], **more}


def tool(name="calendar", **more):
    return {"type": "function", "function": {"name": name, **more}}


def blocks(*messages, **more):
    return {"model": "m", "max_tokens": 2048, "messages": [*messages], **more}


def contents(*parts, **more):
    """User and model by turns."""
    roles = itertools.cycle(("user", "model"))
    return {"contents": [{"role": next(roles), "parts": list(part)} for part in parts], **more}


def items(*rows, **more):
    return {"model": "m", "input": [*rows], **more}


THINKING = {"type": "thinking", "thinking": "hm", "signature": sign("hm")}
USE = {"type": "tool_use", "id": ID, "name": "calendar", "input": {}}
RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": ID, "content": "sunny"}]}
TEXT = {"text": "hi"}
FUNCTION = {"functionCall": {"id": ID, "name": "calendar", "args": {}}}
ANSWERED = {"functionResponse": {"id": ID, "name": "calendar", "response": {"result": "sunny"}}}
ITEM = {"type": "function_call", "call_id": ID, "name": "calendar", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": ID, "output": "sunny"}
FAMILIES = {
    "openai": ("openai", "azure-openai"),
    "kimi": ("moonshot", "kimi-coding", "opencode"),
    "deepseek": ("deepseek", "opencode-go"),
}
# What each has said before, under the id of its call or under its text
OWN = {
    "minimax": {ID: turn(content="<think>hm</think>"), "so": said("<think>hm</think>so")},
    **{name: {ID: turn(reasoning_content="hm")} for name in ("zai", "kimi", "deepseek", "xiaomi-mimo")},
    "openrouter": {ID: turn(reasoning_details=[{"type": "reasoning.text", "text": "hm"}])},
    "anthropic": {ID: {"thinking": "hm", "signature": sign("hm")}},
    "gemini": {ID: "signed"},
}
TAKEN = [
    ("openai mistral cerebras groq dashscope xai ollama", chat(USER, turn(), told(), said(), USER, tools=[tool()])),
    ("openai xiaomi-mimo cerebras xai openrouter", chat({"role": "developer", "content": "a"}, USER)),
    (
        "minimax",
        chat(
            {"role": "system", "content": "a"},
            USER,
            turn(content="<think>hm</think>"),
            told(),
            said("<think>hm</think>so"),
            USER,
        ),
    ),
    ("zai kimi deepseek xiaomi-mimo", chat(USER, turn(reasoning_content="hm"), told(), USER, tool_choice="auto")),
    (
        "dashscope kimi deepseek",
        chat(USER, tool_choice="required", enable_thinking=False, thinking={"type": "disabled"}),
    ),
    ("kimi", chat(USER, turn(given="other", reasoning_content=" "), {**told(), "tool_call_id": "other"})),
    (
        "deepseek xiaomi-mimo",
        chat(USER, turn(given="other", reasoning_content=""), {**told(), "tool_call_id": "other"}),
    ),
    ("zai", chat(USER, turn(given="other"), {**told(), "tool_call_id": "other"})),
    ("openrouter", chat(USER, turn(reasoning_details=[{"type": "reasoning.text", "text": "hm"}]), told())),
    ("mistral", chat(USER, said(prefix=True))),
    ("anthropic", blocks(USER, said([THINKING, USE]), RESULT, thinking={"type": "enabled", "budget_tokens": 1024})),
    (
        "anthropic",
        blocks(
            USER,
            said([{**USE, "id": "other"}]),
            {"role": "user", "content": [{**RESULT["content"][0], "tool_use_id": "other"}]},
            thinking={"type": "adaptive"},
        ),
    ),
    ("gemini", contents([TEXT], [FUNCTION | {"thoughtSignature": "signed"}], [ANSWERED])),
    ("cohere", chat(USER, {"role": "assistant", "tool_calls": turn()["tool_calls"]}, told())),
    ("openai-responses", items({"role": "user", "content": "hi"}, ITEM, OUTPUT)),
]
ALL_ROLES = "openai mistral minimax zai kimi deepseek xiaomi-mimo dashscope cerebras groq xai openrouter"
NO_DEVELOPER = "mistral minimax zai kimi deepseek dashscope groq"
USUAL = "minimax zai kimi xiaomi-mimo dashscope groq xai openrouter ollama"
REFUSED = [
    (ALL_ROLES, chat({"role": "critic", "content": "a"}, USER), "unknown variant 'critic'"),
    (NO_DEVELOPER, chat({"role": "developer", "content": "a"}, USER), "unknown variant 'developer'"),
    ("openai mistral cerebras groq", chat(USER, said(reasoning_content="hm"), USER), "assistant"),
    ("openai mistral cerebras groq openrouter", chat(USER, said(thinking_blocks=[]), USER), "thinking_blocks"),
    ("openai mistral cerebras groq openrouter", chat(USER, {**turn(), "tool_calls": [{**turn()["tool_calls"][0], "odd": 1}]}, told()), "odd"),
    ("mistral cerebras groq", chat(USER, said(None, refusal="no"), USER), "refusal"),
    ("mistral cerebras groq", chat(USER, said(annotations=[]), USER), "annotations"),
    ("mistral", chat({**USER, "name": "ann"}), "name"),
    ("groq", chat(USER, turn(), told(name="calendar")), "name"),
    ("mistral", chat(USER, user="ann"), "body.user"),
    ("mistral", chat(USER, logit_bias={}), "body.logit_bias"),
    ("mistral", chat(USER, store=True), "body.store"),
    ("mistral", chat(USER, stream_options={}), "body.stream_options"),
    (ALL_ROLES, chat(USER, tools=[tool("calendar.list/all", parameters={"type": "object"})]), "calendar.list/all"),
    (ALL_ROLES, chat(USER, turn(name="calendar.list/all", reasoning_content="hm"), told()), ""),
    ("openai cerebras mistral", chat(USER, turn(), told(name="calendar.list/all")), "calendar.list/all"),
    ("openai", chat(USER, tools=[tool("a" * 65)]), "aaa"),
    ("kimi", chat(USER, tools=[tool("1password")]), "1password"),
    ("openai", chat(USER, turn(given="a" * 41), {**told(), "tool_call_id": "a" * 41}), "aaa"),
    ("mistral", chat(USER, turn(given="call_12345"), {**told(), "tool_call_id": "call_12345"}), "call_12345"),
    ("openai mistral cerebras", chat(USER, turn(), told(content=[PNG])), "image_url"),
    ("minimax zai kimi xiaomi-mimo dashscope xai", chat(USER, turn(reasoning_content="hm"), told(content=[PNG])), "image_url"),
    ("deepseek", chat({"role": "user", "content": [PNG]}), "image_url"),
    ("mistral", chat({"role": "user", "content": [{"type": "input_audio"}]}), "input_audio"),
    ("openai groq cerebras", chat(USER, said([PNG]), USER), "image_url"),
    ("mistral", chat(USER, said([PNG]), USER), "image_url"),
    ("ollama", chat({"role": "user", "content": [{"type": "file"}]}), "file"),
    (USUAL, chat(USER, turn(arguments="{", content="<think>hm</think>"), told()), "invalid function arguments"),
    (f"{ALL_ROLES} ollama", chat(USER, turn(content="a"), USER), ""),
    (f"{ALL_ROLES} ollama", chat(USER, turn(content="a")), ""),
    (f"{ALL_ROLES} ollama", chat(USER, told(), USER), "not found"),
    ("mistral", chat(USER, turn(), told(), USER), "Unexpected role 'user' after role 'tool'"),
    ("mistral", chat(USER, said(), {"role": "system", "content": "a"}, USER), "Unexpected role 'system'"),
    ("mistral", chat(USER, said()), "Expected last role"),
    ("minimax", chat({"role": "system", "content": "a"}, {"role": "system", "content": "b"}, USER), "message role: system"),
    ("minimax", chat(USER, {"role": "system", "content": "b"}), "message role: system"),
    ("minimax", chat(USER, tools=[tool()]), "parameters is empty"),
    ("minimax", chat(USER, turn(content=""), told()), "is not what was said"),
    ("minimax", chat(USER, said("so"), USER), "is not what was said"),
    ("kimi deepseek", chat(USER, tool_choice="required"), "incompatible with thinking"),
    ("dashscope", chat(USER, tool_choice={"type": "function"}, enable_thinking=True), "incompatible with thinking"),
    ("kimi", chat(USER, thinking={"type": "enabled"}, reasoning_effort="low"), "cannot specify both"),
    ("zai", chat({"role": "system", "content": "a"}), "messages parameter is illegal"),
    ("xai", chat(USER, turn(content=None), told()), "at least one content element"),
    ("kimi deepseek xiaomi-mimo", chat(USER, turn(), told()), "reasoning_content is missing"),
    ("kimi", chat(USER, turn(reasoning_content=""), told()), "reasoning_content is missing"),
    ("zai kimi deepseek xiaomi-mimo", chat(USER, turn(reasoning_content="hmm"), told()), "is not what was said"),
    ("zai", chat(USER, turn(), told()), "is not what was said"),
    ("openrouter", chat(USER, turn(), told()), "is not what was said"),
    ("openrouter", chat(USER, turn(reasoning_details=[{"text": "h"}, {"text": "m"}]), told()), "is not what was said"),
    ("anthropic", blocks(USER, said([{"type": "text", "text": " "}])), "messages.1.content"),
    ("anthropic", blocks(USER, said([USE]), RESULT, thinking={"type": "enabled", "budget_tokens": 1024}), "must start with a thinking"),
    ("anthropic", blocks(USER, said([THINKING, USE]), {"role": "user", "content": [{"type": "text", "text": "a"}, *RESULT["content"]]}), "must come first"),
    ("anthropic", blocks(USER, tools=[{"name": "1 2", "input_schema": {}}]), ""),
    ("anthropic", blocks(USER, tools=[{"name": "a" * 65, "input_schema": {}}]), ""),
    ("anthropic", blocks(USER, said([THINKING, {**USE, "name": "a.b"}]), RESULT), ""),
    ("anthropic", blocks(USER, said([THINKING, {**USE, "id": "a:b"}]), RESULT), ""),
    ("anthropic", blocks(USER, said("so ")), "trailing whitespace"),
    ("anthropic", blocks(USER, said([{"type": "text", "text": "so\n"}])), "trailing whitespace"),
    ("anthropic", blocks(USER, thinking={"type": "adaptive"}, tool_choice={"type": "any"}), "forced"),
    ("anthropic", blocks(USER, said([USE]), RESULT), "cannot be modified"),
    ("gemini", contents([TEXT], [{"functionCall": {"name": "a"}, "text": "b"}]), "contents.1"),
    ("gemini", contents([TEXT], tools=[{"functionDeclarations": [{"name": "list/all"}]}]), ""),
    ("gemini", contents([TEXT], tools=[{"functionDeclarations": [{"name": "1password"}]}]), ""),
    ("gemini", contents([TEXT], [FUNCTION | {"thoughtSignature": "signed"}] * 2, [ANSWERED]), ""),
    ("gemini", contents([TEXT], [TEXT], [TEXT], [FUNCTION]), ""),
    ("gemini", {"contents": [{"role": "model", "parts": [FUNCTION]}, {"role": "user", "parts": [ANSWERED]}]}, "immediately after a user"),
    ("gemini", contents([TEXT], [FUNCTION], [ANSWERED]), "signature is not valid"),
    ("cohere", chat(USER, said([PNG])), "messages.1.content"),
    ("cohere", chat(USER, {"role": "assistant", "tool_calls": turn()["tool_calls"]}, told(content=[PNG])), "messages.2.content"),
    ("cohere", chat(USER, tools=[tool("list-all", parameters={})]), "list-all"),
    ("openai-responses", items(ITEM), "no result"),
    ("openai-responses", items(USER, tools=[{"type": "function", "name": "list/all"}]), ""),
    ("openai-responses", items({**ITEM, "call_id": "a" * 65}, {**OUTPUT, "call_id": "a" * 65}), "call_id"),
]  # fmt: skip


def judged(families):
    """The providers of some families, each as if it had said something before."""
    for family in families.split():
        for name in FAMILIES.get(family, (family,)):
            provider = next(provider for provider in PROVIDERS if provider.name == name)
            yield replace(provider, own=OWN.get(family, {}))


@pytest.mark.parametrize(("families", "body"), TAKEN, ids=[families for families, _ in TAKEN])
def test_what_the_servers_take(families, body):
    assert {str(provider): provider.fault(body) for provider in judged(families)} == {
        str(provider): None for provider in judged(families)
    }


@pytest.mark.parametrize(("families", "body", "text"), REFUSED, ids=[f"{row[0]}: {row[2]}" for row in REFUSED])
def test_what_the_servers_refuse(families, body, text):
    for provider in judged(families):
        fault = provider.fault(body)
        assert fault, provider
        assert text in fault, provider


def test_each_rule_has_a_body_that_it_refuses():
    used = {
        (provider.name, next(rule for rule in provider.rules if rule(body, provider.own)))
        for families, body, _ in REFUSED
        for provider in judged(families)
    }
    assert [
        (provider.name, place)
        for provider in PROVIDERS
        for place, rule in enumerate(provider.rules)
        if (provider.name, rule) not in used
    ] == []


@pytest.mark.parametrize("name", [*NAMES, *MORE])
def test_a_refusal_is_told(served, name):
    """In the vendor's own form, as a bad request with its words; nothing of it is tried again."""
    server, client = served
    provider = BY_NAME[name]
    server.by_name[name] = replace(provider, rules=(lambda *_: "because of the moon",), refused=[])
    try:
        with pytest.raises(prx.BadRequestError, match="because of the moon"):
            client.chat("hi", name, retries=0)
        assert len(server.by_name[name].refused) == 1
    finally:
        server.by_name[name] = provider
