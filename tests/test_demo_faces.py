"""The demo speaks the faces of the dialects' files: prx, asking by the other half of each, gets the same answers from all."""

from __future__ import annotations

import json
import math
import operator
import re
import struct
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from helpers import commands, data_files

import prx
from prx.conformance import cases
from prx.emulator.faces import HABITS, Faces
from prx.emulator.server import Emulator
from prx.errors import ConfigError
from prx.spec.loader import Loader

KEY = "sk-right-key"
FACES = [face.id for face in Loader().faces()]
BASE = {"gemini": "/v1beta", "cohere-v2": "", "ollama": ""}
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}  # fmt: skip
PERSONAS = sorted((Path(__file__).parent / "emulated").glob("*.yaml"))


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A function: the client that asks the demo by a dialect, with a key."""
    folder = tmp_path_factory.mktemp("providers")
    for dialect in FACES:
        text = f"spec: 1\nid: by-{dialect}\nname: By {dialect}\nextends: {dialect}\ncapabilities: {{vision: true}}\n"
        kinds = [kind for face, kind in OTHERS if (face, kind) not in OF_A_MODEL and face == dialect]
        text += f"calls: {{{', '.join(f'{kind}: {{}}' for kind in kinds)}}}\n"
        (folder / f"by-{dialect}.yaml").write_text(text)
    with Emulator({"key": KEY, "models": ["words", "words-reasoner", "imagen"]}) as emulator:
        root = emulator.url.removesuffix("/v1")

        def client(key=KEY):
            providers = {f"by-{name}": {"api_url": root + BASE.get(name, "/v1"), "api_key": key} for name in FACES}
            return prx.Client(config={"providers": providers}, providers=folder, env={})

        yield client, root


def test_every_dialect_has_a_face_but_one_that_no_program_is_pointed_at():
    assert {*FACES} == {*Loader().dialects()} - {"json-http", "bedrock-converse"}


def said(client, dialect, messages, *, stream, **asked):
    name = f"by-{dialect}/words"
    if not stream:
        return client.chat(messages, name, retries=0, **asked)
    with client.stream(messages, name, retries=0, **asked) as pieces:
        assert len([*pieces]) > 1
    return pieces.reply


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("dialect", FACES)
def test_a_conversation(demo, dialect, stream):
    with demo[0]() as client:
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 2+2?"}]
        reply = said(client, dialect, messages, stream=stream, reasoning_effort="low")
        assert (reply.content, reply.finish_reason) == ("2 + 2 = 4.", "stop")
        assert reply.reasoning == "The message has 3 words. I look for a sum, a picture, or a greeting in it."
        assert reply.usage.prompt_tokens == 11
        messages += [reply.message, {"role": "user", "content": "What is the weather in Paris and London?"}]
        reply = said(client, dialect, messages, stream=stream, tools=[WEATHER])
        assert [json.loads(call.arguments) for call in reply.tool_calls] == [{"city": "Paris"}, {"city": "London"}]
        assert (reply.content, reply.reasoning, reply.finish_reason) == ("", None, "tool_calls")
        results = zip(reply.tool_calls, ("sunny", '{"sky": "rain"}'), strict=True)
        messages += [
            reply.message,
            *({"role": "tool", "tool_call_id": call.id, "content": text} for call, text in results),
        ]
        reply = said(client, dialect, messages, stream=stream, tools=[WEATHER])
        assert reply.content == 'The tool says: sunny and {"sky": "rain"}.'
        reply = said(client, dialect, "one two three four", stream=stream, max_tokens=3)
        assert (reply.content, reply.finish_reason) == ("You said: one", "length")


@pytest.mark.parametrize("dialect", FACES)
def test_the_cases_of_conformance_hold_at_the_demo(demo, dialect):
    asked = []
    for key in (KEY, "sk-wrong-key"):
        with demo[0](key) as client:
            spec = client.catalog.get(f"by-{dialect}").spec("words")
            for case in cases.load():
                if case.fits(spec) and (case.key == "wrong") == (key != KEY) and case.name != "overlong":
                    seen = cases.play(case, client, f"by-{dialect}", "words")
                    assert cases.failures(case, spec, seen) == [], case.name
                    asked.append(case.name)
    assert {"chat", "stream", "wrong_key", "unknown_model"} <= {*asked}
    others = {kind for face, kind in OTHERS if face == dialect and (face, kind) not in OF_A_MODEL}
    assert others == {case.kind for case in cases.load() if case.name in asked and case.kind}
    assert len(asked) > 12


@pytest.mark.parametrize("dialect", FACES)
def test_errors_are_the_dialects_own(demo, dialect):
    with demo[0]() as client, pytest.raises(prx.NotFoundError, match="`words-2` does not exist"):
        client.chat("hi", f"by-{dialect}/words-2", retries=0)
    with demo[0]("sk-wrong") as client, pytest.raises(prx.AuthError, match="Invalid API key"):
        client.chat("hi", f"by-{dialect}/words", retries=0)


def asked(url, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"authorization": f"Bearer {KEY}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers["content-type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["content-type"], error.read().decode()


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/v1/models", 200, '"id": "words-reasoner"'),
        ("/v1/models/words", 200, '"id": "words"'),
        ("/v1/models/strange", 404, '"code": "model_not_found"'),
        ("/api/paas/v4/models", 200, '"id": "words"'),
        ("/api/version", 200, '"version"'),
        ("/v1/models?endpoint=chat", 200, '"endpoints": ["chat"]'),
        ("/v1beta/models", 200, '"name": "models/words"'),
        ("/nothing" * 5000, 404, "Unknown request URL: GET /nothing"),
        ("", 404, "Unknown request URL: GET "),
    ],
)
def test_what_is_told_of_models(demo, path, status, text):
    found, _, body = asked(demo[1] + path)
    assert (found, text in body) == (status, True), body


OTHERS = [
    ("anthropic-messages", "count_tokens"), ("cohere-v2", "embed"), ("cohere-v2", "rerank"), ("gemini", "embed"), ("gemini", "image"), ("gemini", "count_tokens"),
    ("ollama", "embed"), ("ollama", "complete"), ("openai-chat", "embed"), ("openai-chat", "rerank"), ("openai-chat", "image"),
    ("openai-chat", "speech"), ("openai-chat", "transcribe"), ("openai-chat", "moderate"), ("openai-chat", "complete"),
    ("openai-responses", "count_tokens"),
]  # fmt: skip


# Calls that go to the path of a face with models of some names alone.
OF_A_MODEL = {("gemini", "image"): "imagen"}


def test_every_other_call_of_a_face_is_tried():
    assert sorted(OTHERS) == sorted((face.id, kind) for face in Loader().faces() for kind in face.calls)


def embed(client, model):
    found = client.embed(
        ["The cat sat on the mat.", "A cat sat on a mat", "Interest rates fell"], model, input_type="query"
    )
    near, far = (sum(map(operator.mul, found.vectors[0], other)) for other in found.vectors[1:])
    assert near > far + 0.2
    assert [round(math.hypot(*vector), 5) for vector in found.vectors] == [1, 1, 1]
    assert found == client.embed(["The cat sat on the mat.", "A cat sat on a mat", "Interest rates fell"], model)
    assert len(client.embed("cat", model, dimensions=16).vectors[0]) == 16


def rerank(client, model):
    found = client.rerank("cats on mats", ["Interest rates", "mats for cats", "dogs"], model, top_n=2)
    assert found.results[0].index == 1
    assert len(found.results) == 2


def image(client, model):
    found = client.image("a cat", model, n=2, size="8x16")
    assert [struct.unpack(">II", each.data[16:24]) for each in found.images] == [(8, 16), (8, 16)]


def speech(client, model):
    found = client.speech("Say hello.", model)
    assert (found.media_type, found.audio[:4]) == ("audio/wav", b"RIFF")
    assert len(client.speech("Say hello to everybody.", model).audio) > len(found.audio)


def transcribe(client, model):
    assert (
        client.transcribe(("a.wav", client.speech("a" * 50, model).audio), model).text == "A recording of 3.0 seconds."
    )
    assert client.transcribe(("a.mp3", b"no sound"), model).text == "A recording of 8 bytes."


def moderate(client, model):
    found = client.moderate(["I will kill him", "I like him"], model)
    assert [row["flagged"] for row in found.results] == [True, False]
    assert found.flagged


def count_tokens(client, model):
    counts = [client.count_tokens(text, model) for text in ("one", "one two", "one two three")]
    assert counts == sorted({*counts})
    assert counts[0] > 0
    assert client.count_tokens("one", model, tools=[WEATHER]) > counts[0]


def complete(client, model):
    assert client.complete("What is 2 + 2?", model).content == "2 + 2 = 4."
    assert client.complete("one two three four", model, max_tokens=3).finish_reason == "length"
    assert "'first'" in client.complete("first", model, suffix="last").content


@pytest.mark.parametrize(("dialect", "kind"), OTHERS)
def test_calls_that_are_no_chats(demo, dialect, kind):
    with demo[0]() as client:
        globals()[kind](client, f"by-{dialect}/{OF_A_MODEL.get((dialect, kind), 'words')}")


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("/v1/embeddings", {"model": "words"}, "input is missing"),
        ("/v1/embeddings", {"model": "words", "input": "a", "dimensions": 5000}, "dimensions may be 4096 at most"),
        ("/v1/images/generations", {"model": "words", "prompt": "a", "size": "9999x1"}, "size is a text such as 64x64"),
        ("/v1/moderations", {"model": "words", "input": 5}, "input must be a text"),
        ("/v1/audio/transcriptions", {"model": "words", "file": "no"}, "file must be"),
        ("/v1/rerank", {"model": "strange", "query": "a", "documents": ["b"]}, "`strange` does not exist"),
    ],
)
def test_what_such_a_call_may_not_say(demo, path, body, says):
    status, _, text = asked(demo[1] + path, body)
    assert (status // 100, says in text) == (4, True), text


def test_the_framing_is_the_routes(demo):
    body = {"contents": [{"role": "user", "parts": [{"text": "Say hello."}]}]}
    url = f"{demo[1]}/v1beta/models/words:streamGenerateContent"
    status, kind, text = asked(url, body)
    assert (status, kind) == (200, "application/json")
    assert len(json.loads(text)) > 5
    status, kind, text = asked(f"{url}?alt=sse", body)
    assert kind.startswith("text/event-stream")
    assert text.startswith("data: {")


def test_a_stream_has_its_usage_where_it_is_asked_for(demo):
    body = {"model": "words", "stream": True, "messages": [{"role": "user", "content": "Say hello."}]}
    url = f"{demo[1]}/v1/chat/completions"
    assert "usage" not in asked(url, body)[2]
    assert '"total_tokens"' in asked(url, {**body, "stream_options": {"include_usage": True}})[2]


def test_what_cannot_be_read_is_refused(demo):
    for body in ({"model": "words", "messages": "hi" * 3}, {"model": "words", "messages": []}, {"model": "words"}):
        status, _, text = asked(f"{demo[1]}/v1/chat/completions", body)
        assert (status, json.loads(text)["error"]["type"]) == (400, "invalid_request_error")
    status, _, text = asked(f"{demo[1]}/v1/responses", {"model": "words", "input": "hi", "previous_response_id": "r"})
    assert (status, "'previous_response_id' is not supported here" in text) == (400, True)


# ------------------------------------------------------------------ personas


@pytest.mark.parametrize("path", PERSONAS, ids=lambda path: path.stem)
def test_a_persona_is_one_of_a_face(path):
    habits = data_files.read(path)
    assert habits.keys() <= HABITS
    changed = {*habits.get("serve", {})}
    dialect = Loader().get(path.stem).raw["dialect"]
    # One that speaks no dialect with a face takes on the habits of another.
    assert changed <= ({dialect} if dialect in FACES else {*FACES})
    assert Faces(habits)


def answered(persona, stream, **more):
    with Emulator({"models": ["words-reasoner"], **persona}) as emulator:
        body = {"model": "words-reasoner", "stream": stream, "messages": [{"role": "user", "content": "What is 2+2?"}]}
        return asked(f"{emulator.url}/chat/completions", body | more)


@pytest.mark.parametrize(
    ("name", "whole", "streamed"),
    [
        ("minimax", r'"content": "<think>\\nThe message .*it\.\\n</think>\\n\\n2 \+ 2 = 4\."', r'"content":"<think>\\n".*"</think>|\\n</think>\\n\\n"'),
        ("mistral", r'"content": \[\{"type": "thinking", "thinking": \[\{"type": "text", "text": "The message', r'"content":\[\{"type":"thinking"'),
        ("openrouter", r'"reasoning": "The message', r'^: keep-alive\n\ndata.*"reasoning":"The".*"usage"'),
        ("ollama", r'"reasoning": "The message', r'"reasoning":"The"'),
    ],
)  # fmt: skip
def test_a_persona_changes_what_is_written(name, whole, streamed):
    persona = {**data_files.read(Path(__file__).parent / "emulated" / f"{name}.yaml"), "models": ["words-reasoner"]}
    assert re.search(whole, answered(persona, False)[2])
    assert re.search(streamed, answered(persona, True)[2], re.DOTALL)
    assert not re.search(whole, answered({}, False)[2])
    assert not re.search(streamed, answered({}, True)[2], re.DOTALL)


def test_a_persona_refuses_what_it_names():
    persona = {"refuses": {"max_tokens": "no max_tokens, use max_completion_tokens"}}
    assert answered(persona, False)[0] == 200
    status, _, text = answered(persona, False, max_tokens=5)
    assert (status, "no max_tokens, use" in text) == (400, True)


@pytest.mark.parametrize(
    ("over", "told"),
    [
        ({"nobody": {}}, "serve: there is no dialect 'nobody'"),
        ({"openai-chat": {"reply": {"a": "=strange"}}}, r"serve.openai-chat: .*strange"),
        ({"openai-chat": {"routes": 5}}, "serve.openai-chat: not of the form"),
        ({"openai-chat": 5}, "serve.openai-chat: not of the form"),
    ],
)
def test_habits_that_no_face_can_have(over, told):
    with pytest.raises(ConfigError, match=told):
        Faces({"serve": over})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("reasoning: think_tags\n", "'reasoning' is no habit"),
        ("[]\n", ""),
        ("[1]\n", "not a mapping of habits"),
        ("serve: {nobody: {}}\n", "there is no dialect 'nobody'"),
    ],
)
def test_a_persona_with_a_fault_is_told(tmp_path, text, told):
    path = tmp_path / "persona.yaml"
    path.write_text(text)
    done = commands.run("record", "compatible", "--emulated", path, "--case", "chat", "--to", tmp_path)
    assert (done.returncode == 0) is (told == "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr
