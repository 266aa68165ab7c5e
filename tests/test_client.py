"""The client against real servers on loopback: chat, streams, tools, pictures, fallbacks, and what errors advise."""

from __future__ import annotations

import base64
import concurrent.futures
import struct

import pytest
from helpers.byte_server import RawServer, response
from judges.dialects import Emulator

import prx
from prx.accounts.hints import advise

WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + struct.pack(">II", 3, 2) + b"\x08\0\0\0\0"


def client(url, env=None, **config):
    return prx.Client(
        config={"providers": {"compatible": {"api_url": url, "api_key": "sk-right"}}, **config}, env=env or {}
    )


def test_a_conversation_with_tools(emulator):
    api = client(emulator.url)
    messages = [{"role": "user", "content": "What is the weather in Paris and London?"}]
    with api.stream(messages, model="compatible/words", tools=[WEATHER]) as pieces:
        fragments = [call for piece in pieces for call in piece.tool_calls]
    reply = pieces.reply
    assert [(call.name, call.arguments) for call in reply.tool_calls] == [
        ("get_weather", '{"city": "Paris"}'),
        ("get_weather", '{"city": "London"}'),
    ]
    assert reply.finish_reason == "tool_calls"
    assert len(fragments) > 4
    messages += [
        reply.message,
        *({"role": "tool", "tool_call_id": call.id, "content": f"sun {i}"} for i, call in enumerate(reply.tool_calls)),
    ]
    assert api.chat(messages, model="compatible/words", tools=[WEATHER]).content == "The tool says: sun 0 and sun 1."


def test_tool_choice(emulator):
    api = client(emulator.url)
    asked = api.chat("What is the weather in Paris?", model="compatible/words", tools=[WEATHER], tool_choice="none")
    assert asked.tool_calls == ()
    with RawServer() as server:
        api = client(server.url)
        for choice in ("auto", "required", {"type": "function", "function": {"name": "get_weather"}}, {"type": "odd"}):
            api.chat("hi", model="compatible/m", tools=[WEATHER, {"type": "odd"}], tool_choice=choice)
            assert server.requests[-1]["body"]["tool_choice"] == choice
            assert server.requests[-1]["body"]["tools"] == [WEATHER, {"type": "odd"}], "passed on as they are"
        api.chat("hi", model="compatible/m", tools=[], tool_choice="auto")
        assert not {"tools", "tool_choice"} & server.requests[-1]["body"].keys(), "an empty list is never sent"


def test_unknown_things_pass_through():
    with RawServer() as server:
        messages = [{"role": "critic", "content": [{"type": "hologram", "data": 1}], "odd": True}]
        client(server.url).chat(messages, model="compatible/m", odd={"a": None}, temperature=None)
        assert server.requests[0]["body"] == {"model": "m", "messages": messages, "odd": {"a": None}}


def test_pictures(emulator, tmp_path):
    url = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    assert (
        client(emulator.url).chat(f"What is it? [IMAGE:{url}]", model="compatible/words").content
        == "I see a PNG picture of 3 by 2 pixels."
    )
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "a.txt").write_text("no picture")
    (tmp_path / "big.png").write_bytes(PNG + b"x" * 100)
    (tmp_path.parent / "outside.png").write_bytes(PNG)
    asked = "What is it? [IMAGE:{}]"
    closed = client(emulator.url)
    assert closed.chat(asked.format(tmp_path / "a.png"), model="compatible/words").content.startswith(
        "You said: What is it? [IMAGE:/"
    )
    opened = client(emulator.url, images={"folder": str(tmp_path), "urls": True, "max_bytes": 100})
    assert "3 by 2" in opened.chat(asked.format("a.png"), model="compatible/words").content
    assert "3 by 2" in opened.chat(asked.format(tmp_path / "a.png"), model="compatible/words").content
    assert "https://x.example/a" in opened.chat(asked.format("https://x.example/a"), model="compatible/words").content
    assert "[IMAGE:none.png]" in opened.chat(asked.format("none.png"), model="compatible/words").content
    for reference in ("../outside.png", "a.txt", "big.png"):
        assert f"[IMAGE:{reference}]" in opened.chat(asked.format(reference), model="compatible/words").content


def test_reasoning_is_kept_apart(emulator):
    api = client(emulator.url)
    with api.stream("What is 2+2?", model="compatible/words-reasoner") as pieces:
        kinds = ["thought" if piece.reasoning else "text" for piece in pieces if piece.reasoning or piece.content]
    assert kinds == sorted(kinds, reverse=True), "reasoning first"
    assert pieces.reply.content == "2 + 2 = 4."
    assert pieces.reply.reasoning.startswith("The message has")
    assert "reasoning" not in pieces.reply.message


def test_fallbacks_are_remembered_where_they_worked(emulator):
    """Once it is known that a model has only the Responses API, its chat endpoint is not asked again."""
    with RawServer(
        response(404, {"detail": "Not Found"}), response(200, RESPONSES), response(200, RESPONSES), response(500, {})
    ) as server:
        api = client(server.url)
        paths = lambda: [request["line"].split()[1] for request in server.requests]  # noqa: E731
        assert api.chat("hi", model="compatible/m").fallbacks == ("responses",)
        assert api.chat("hi", model="compatible/m").fallbacks == ("responses",)
        assert paths() == ["/v1/chat/completions", "/v1/responses", "/v1/responses"]
        with pytest.raises(prx.ServerError):
            api.chat("hi", model="compatible/m", retries=0)
        with pytest.raises(prx.ServerError):
            api.chat("hi", model="compatible/m", retries=0)
        assert paths()[-1] == "/v1/chat/completions", "forgotten when it failed"
    with client(emulator.url).stream("Say hello.", model="compatible/words-responses") as pieces:
        assert len([piece for piece in pieces if piece.content]) > 5, "streams by way of Responses, too"
    assert pieces.reply.fallbacks == ("responses",)


RESPONSES = {
    "status": "completed",
    "model": "m",
    "output": [{"type": "message", "content": [{"type": "output_text", "text": "hello"}]}],
}


@pytest.mark.parametrize(
    ("refuses", "name", "options"),
    [
        ("system", "merge_system", {}),
        ("stream", "no_stream", {}),
        ("stream_options", "no_stream_options", {}),
        ("max_tokens", "max_completion_tokens", {"max_tokens": 50}),
    ],
)
def test_each_fallback_against_a_server_that_refuses(refuses, name, options):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 2+2?"}]
    with (
        Emulator({"refuses": [refuses]}) as emulator,
        client(emulator.url).stream(messages, model="compatible/words", **options) as pieces,
    ):
        text = "".join(piece.content or "" for piece in pieces)
    assert text == "2 + 2 = 4."
    assert pieces.reply.fallbacks == (name,)


def test_models(emulator, tmp_path):
    api = client(emulator.url)
    assert api.models("compatible") == ["words", "words-reasoner", "words-responses"]
    (tmp_path / "odd.yaml").write_text(
        f"spec: 1\nid: odd\nextends: openai-chat\nbase_url: {emulator.url}\nendpoints: {{models: /v1/models}}\nmodels: {{list: 'data[].object'}}\n"
    )
    (tmp_path / "none.yaml").write_text(
        f"spec: 1\nid: none\nextends: openai-chat\nbase_url: {emulator.url}\ncapabilities: {{models: false}}\n"
    )
    api = prx.Client(config={}, providers=tmp_path, env={})
    assert api.models("odd") == ["model"], "its own path and its own expression; each name once"
    with pytest.raises(prx.CapabilityError, match="has no list"):
        api.models("none")
    for body, wanted in (([{"id": "a"}, {"id": " b "}, {"id": "a"}], ["a", "b"]), ({"models": [{"name": "x"}]}, ["x"])):
        with RawServer(response(200, body)) as server:
            assert client(server.url).models("compatible") == wanted
    with RawServer(response(200, {"odd": 1})) as server, pytest.raises(prx.ProtocolError, match=r"models\.list"):
        client(server.url).models("compatible")


def test_a_default_model_of_the_file(tmp_path, emulator):
    (tmp_path / "mine.yaml").write_text(
        f"spec: 1\nid: mine\nextends: openai-chat\nbase_url: {emulator.url}\nmodels: {{default: words}}\n"
    )
    api = prx.Client(config={"default": {"provider": "mine"}}, providers=tmp_path, env={})
    assert api.chat("What is 2+2?").model == "words"


def test_a_former_address_is_known():
    api = prx.Client(config={"providers": {"compatible": {"api_url": "https://api.synthetic.com"}}}, env={})
    error = advise(prx.NotFoundError("Not Found"), api.accounts.get("compatible"), api.catalog)
    assert "a former address of synthetic" in error.hint


def retired(folder, url):
    (folder / "gone.yaml").write_text(
        f"spec: 1\nid: gone\nextends: openai-chat\nbase_url: {url}\nauth: {{env: GONE_KEY}}\n"
        "retired: {date: '2026-07-30', successor: groq}\n"
    )
    return {"providers": folder, "env": {}}


def test_a_retired_provider_is_not_called(tmp_path):
    """Neither by its name nor by its address; a server that the configuration names in its place is."""
    with RawServer(response(200, {"choices": [{"message": {"content": "hi"}}]})) as server:
        given = retired(tmp_path, server.url)
        for config in ({}, {"providers": {"gone": {"api_url": server.url}}}):
            with pytest.raises(prx.ConfigError, match=r"^gone: was retired on 2026-07-30; use groq\nNothing was sent"):
                prx.Client(config=config, **given).chat("hi", model="gone/m")
        assert server.requests == []
        with RawServer(response(200, {"choices": [{"message": {"content": "hi"}}]})) as other:
            api = prx.Client(config={"providers": {"gone": {"api_url": other.url}}}, **given)
            assert api.chat("hi", model="gone/m").content == "hi"


def test_a_refusal_says_how_old_its_rule_is(tmp_path):
    """By the newest source about it that holds for the model; nothing where none was read."""
    (tmp_path / "old.yaml").write_text(
        "spec: 1\nid: old\nextends: openai-chat\nbase_url: http://127.0.0.1:9\ncapabilities: {tools: false}\nevidence:\n"
        "  - {of: [tools], kind: documented, source: a page, date: '2025-01'}\n"
        "  - {of: [tools, vision], kind: documented, source: another, date: '2026-03-04'}\n"
        "  - {of: [tools], model: 'b*', kind: documented, source: a third, date: '2026-05-06'}\n"
        "overrides: [{model: 'b*', capabilities: {tools: false}}, {model: 'c*', capabilities: {tools: true, audio: false}}]\n"
    )
    api = prx.Client(config={}, providers=tmp_path, env={})
    for model, date in (("a", "2026-03-04"), ("b1", "2026-05-06")):
        with pytest.raises(prx.CapabilityError, match=f"capabilities.tools: false, by a source of {date}\n"):
            api.chat("hi", model=f"old/{model}", tools=[WEATHER])
    sound = {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]}
    with pytest.raises(prx.CapabilityError, match=r"capabilities\.audio: false\n"):
        api.chat([sound], model="old/c")


# ------------------------------------------------------------------ what errors advise


def test_a_wrong_key_says_what_was_sent():
    with Emulator({"key": "sk-other"}) as emulator, pytest.raises(prx.AuthError) as caught:
        client(emulator.url).chat("hi", model="compatible/words")
    assert "header authorization: Bearer ***" in caught.value.hint
    assert 'auth_style = "x-api-key"' in caught.value.hint
    with Emulator({"key": "sk-other"}) as emulator, pytest.raises(prx.AuthError) as caught:
        prx.Client(config={"providers": {"compatible": {"api_url": emulator.url}}}, env={}).chat(
            "hi", model="compatible/words"
        )
    assert "No key was sent" in caught.value.hint


def test_a_wrong_key_names_the_provider_that_the_host_belongs_to():
    api = prx.Client(
        config={"providers": {"compatible": {"api_url": "https://api.groq.com/openai/v1", "api_key": "k"}}}, env={}
    )
    error = advise(prx.AuthError("401"), api.accounts.get("compatible"), api.catalog)
    assert "known as the provider 'groq'" in error.hint


def test_a_refused_system_role_without_the_fallback():
    with Emulator({"refuses": ["system"]}) as emulator, pytest.raises(prx.BadRequestError) as caught:
        client(emulator.url).chat(
            [{"role": "system", "content": "x"}, {"role": "user", "content": "y"}],
            model="compatible/words",
            fallbacks=(),
        )
    assert "merge_into_first_user" in caught.value.hint


def test_a_404_advises_about_the_path():
    with RawServer(response(404, {"detail": "Not Found"})) as server, pytest.raises(prx.NotFoundError) as caught:
        client(server.url.removesuffix("/v1")).chat("hi", model="compatible/m", fallbacks=())
    assert "/v1" in caught.value.hint


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ("", "the prompt is empty"),
        ("  ", "the prompt is empty"),
        ([], "the prompt is empty"),
        (["hi"], "list of messages"),
        (3, "list of messages"),
    ],
)
def test_messages_that_are_none(messages, words):
    with pytest.raises(prx.ConfigError, match=words):
        client("http://localhost:1").chat(messages, model="compatible/m")


def test_other_bad_arguments():
    api = client("http://localhost:1")
    for tools in ({"a": 1}, "tools", ["x"]):
        with pytest.raises(prx.ConfigError, match="tools must be a list of definitions"):
            api.chat("hi", model="compatible/m", tools=tools)
    for value in (object(), float("nan"), {1, 2}):
        with pytest.raises(prx.ConfigError, match="cannot be written as JSON"):
            api.chat("hi", model="compatible/m", odd=value)
    with pytest.raises(prx.ConfigError, match="did you mean 'groq'"):
        api.chat("hi", model="gorq/llama")
    with pytest.raises(prx.ConfigError, match="no provider is named"):
        api.chat("hi")
    with pytest.raises(prx.ConfigError, match="no model is named"):
        prx.Client(config={"default": {"provider": "vllm"}}, env={}).chat("hi")


# ------------------------------------------------------------------ as a library


def test_a_stream_tells_when_it_is_over(emulator):
    pieces = client(emulator.url).stream("Say hello.", model="compatible/words")
    with pytest.raises(prx.ConfigError, match="has not ended yet"):
        _ = pieces.reply
    first = next(pieces)
    assert pieces.partial.content.startswith(first.content), "what has come may be more than what was handed on"
    rest = "".join(piece.content or "" for piece in pieces)
    assert pieces.reply.content == first.content + rest
    assert pieces.partial is pieces.reply
    assert list(pieces) == []


def test_the_request_goes_out_on_enter():
    with RawServer() as server, client(server.url).stream("hi", model="compatible/m"):
        assert len(server.requests) == 1
    with RawServer() as server:
        client(server.url).stream("hi", model="compatible/m")
        assert server.requests == []


def test_threads_share_a_client():
    """Forty conversations at once, each gets its own answer."""
    with Emulator() as emulator, client(emulator.url) as api, concurrent.futures.ThreadPoolExecutor(8) as pool:

        def ask(number):
            if number % 2:
                return api.chat(f"What is {number}+0?", model="compatible/words").content
            with api.stream(f"What is {number}+0?", model="compatible/words") as pieces:
                return "".join(piece.content or "" for piece in pieces)

        assert list(pool.map(ask, range(40))) == [f"{number} + 0 = {number}." for number in range(40)]


def test_replies_print_well():
    with RawServer() as server:
        reply = client(server.url).chat("hi", model="compatible/m")
    assert str(reply) == "hello"
    assert repr(reply) == "Reply(compatible/m, 'hello', finish_reason='stop')"
    assert reply.raw["choices"][0]["message"]["content"] == "hello"
