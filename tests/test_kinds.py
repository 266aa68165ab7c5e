"""Calls that are no chats: what is sent, what is read, on both clients, and on the command line."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import sys

import pytest
from click.testing import CliRunner
from helpers.answering import Server

import prx
from prx import resources
from prx.cli import prx as command
from prx.conformance import cases
from prx.doctor import examine
from prx.spec.loader import Loader
from prx.spec.model import KINDS_OF_CALLS, CallForm
from prx.spec.read import read_quickly

USAGE = {"prompt_tokens": 3, "total_tokens": 3}


def packed(*numbers, letter="f", order="<"):
    return base64.b64encode(struct.pack(f"{order}{len(numbers)}{letter}", *numbers)).decode()


@pytest.fixture
def server():
    with Server() as server:
        yield server


def configuration(server):
    return {"providers": {"compatible": {"api_url": server.url, "api_key": "sk-kinds-key-1234", "retries": 0}}}


@pytest.fixture
def client(server, tmp_path):
    with prx.Client(config=configuration(server), providers=[tmp_path], env={"HOME": str(tmp_path)}) as client:
        yield client


def rows(*vectors, first=0):
    data = [{"index": first + place, "embedding": vector} for place, vector in enumerate(vectors)]
    return {"data": data, "model": "m", "usage": USAGE}


# ------------------------------------------------------------------ embeddings


def test_embeddings(server, client):
    server.says(rows([0.5, -1.0], [2.0, 3.0]))
    got = client.embed(["a", "b"], "compatible/m", dimensions=2, user="me")
    assert got.vectors == ((0.5, -1.0), (2.0, 3.0))
    assert (got.model, got.provider, got.usage.prompt_tokens, got.attempts) == ("m", "compatible", 3, 1)
    path, headers, _ = server.asked[0]
    assert path == "/embeddings"
    assert headers["authorization"] == "Bearer sk-kinds-key-1234"
    assert server.body() == {"model": "m", "input": ["a", "b"], "dimensions": 2, "user": "me"}


def test_vectors_are_in_the_order_of_the_inputs(server, client):
    answer = rows([1.0], [2.0], [3.0])
    answer["data"] = [answer["data"][place] for place in (2, 0, 1)]
    server.says(answer)
    assert client.embed(["a", "b", "c"], "compatible/m").vectors == ((1.0,), (2.0,), (3.0,))


@pytest.mark.parametrize(
    ("asked", "letter"),
    [
        ({}, "f"),
        ({"encoding_format": "base64_int8"}, "b"),
        ({"embed_dtype": "float64"}, "d"),
        ({"embed_dtype": "float16"}, "e"),
    ],
)
def test_base64(server, client, asked, letter):
    server.says(rows(packed(1, -2, letter=letter)))
    assert client.embed("a", "compatible/m", **asked).vectors == ((1.0, -2.0),)


@pytest.mark.parametrize("word", ["float16", "float32"])
def test_base64_in_the_other_order_of_bytes(server, client, word):
    server.says(rows(packed(1, -2, letter={"float16": "e", "float32": "f"}[word], order=">")))
    assert client.embed("a", "compatible/m", embed_dtype=word, endianness="big").vectors == ((1.0, -2.0),)


def test_base64_of_halves_of_float32(server, client):
    halves = struct.pack("<2f", 1, -2)
    server.says(rows(base64.b64encode(halves[2:4] + halves[6:8]).decode()))
    assert client.embed("a", "compatible/m", embed_dtype="bfloat16").vectors == ((1.0, -2.0),)


@pytest.mark.parametrize(
    "answer",
    [
        rows([1.0]),  # one vector for two inputs
        rows([1.0], []),
        rows([1.0], ["x"]),
        rows([1.0], [True]),
        rows([1.0], [None]),
        rows([1.0], [float("inf")]),
        rows([1.0], [float("nan")]),
        rows([1.0], [10**400]),
        rows([1.0], packed(float("inf"))),
        rows([1.0], packed(float("nan"))),
        rows([1.0], packed(3e6)),
        rows([1.0], "not base64!"),
        rows(packed(1.0), packed(0.1, 0.7, -0.3, letter="d")),  # float64, which nobody asked for
        {"data": []},
        {"data": [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}]},
    ],
)
def test_what_is_no_embedding_is_an_error(server, client, answer):
    server.says(answer)
    with pytest.raises(prx.ProtocolError):
        client.embed(["a", "b"], "compatible/m")


def test_more_inputs_than_one_request_takes(server, client):
    server.says(lambda body: rows(*([float(text)] for text in body["input"])))
    texts = [str(number) for number in range(4100)]
    got = client.embed(texts, "compatible/m")
    assert [vector[0] for vector in got.vectors] == [float(text) for text in texts]
    assert [len(server.body(place)["input"]) for place in range(3)] == [2048, 2048, 4]
    assert got.usage.prompt_tokens == 9
    assert got.attempts == 3
    assert len(got.raw) == 3


def test_one_request_of_several_fails(server, client):
    server.says(lambda body: rows(*([1.0] for _ in body["input"]))).says({"error": {"message": "slow down"}}, 429)
    with pytest.raises(prx.RateLimitError) as raised:
        client.embed(["a"] * 2049, "compatible/m")
    assert str(raised.value) == "compatible: 429: slow down (request 2 of 2; 2048 of 2049 inputs had been answered)"
    assert raised.value.attempts == 2


def test_more_tokens_than_one_request_takes(server, tmp_path):
    """A text has no more tokens than bytes; a list of numbers has as many as it is long."""
    (tmp_path / "own.yaml").write_text(
        f"spec: 1\nid: own\nextends: openai-chat\nbase_url: {server.url}\ncalls: {{embed: {{most: 3, most_tokens: 4}}}}\n"
    )
    server.says(lambda body: rows(*([1.0] for _ in (body["input"] if body["input"] == ["a", "b", "c"] else "1"))))
    with prx.Client(config={}, providers=[tmp_path], env={"HOME": str(tmp_path)}) as client:
        got = client.embed(["aa", "ää", "abcdef", "a", "b", "c", "d", [1, 2, 3, 4]], "own/m")
    assert [server.body(place)["input"] for place in range(6)] == [
        "aa",
        "ää",
        "abcdef",
        ["a", "b", "c"],
        "d",
        [1, 2, 3, 4],
    ]
    assert (len(got.vectors), got.attempts) == (8, 6)


def test_an_error_is_typed_and_without_the_key(server, client):
    server.says({"error": {"message": "no sk-kinds-key-1234 here", "code": "invalid_api_key"}}, 401)
    with pytest.raises(prx.AuthError) as raised:
        client.embed("a", "compatible/m")
    assert "sk-kinds-key-1234" not in str(raised.value)


def test_an_error_with_status_200(server, client):
    server.says({"error": {"message": "the model does not exist", "code": "model_not_found"}})
    with pytest.raises(prx.NotFoundError):
        client.embed("a", "compatible/m")


def test_retries(server, client):
    server.says({"error": {"message": "busy"}}, 503).says(rows([1.0]))
    assert client.embed("a", "compatible/m", retries=1).attempts == 2


def test_a_refused_parameter_is_left_out(server, client):
    refusal = {"error": {"message": "Unrecognized request argument supplied: seed", "param": "seed"}}
    server.says(refusal, 400).says({"choices": [{"text": "x"}]})
    got = client.complete("a", "compatible/m", seed=1)
    assert got.fallbacks == ("without_seed",)
    assert "seed" not in server.body()


def test_fallbacks_of_chats_are_not_tried(server, client):
    server.says({"error": {"message": "not here"}}, 404)
    with pytest.raises(prx.NotFoundError):
        client.embed("a", "compatible/m")
    assert len(server.asked) == 1


def test_numpy(server, client):
    numpy = pytest.importorskip(
        "numpy", reason="numpy is not installed: it is in the extra `test`, and prx does not need it"
    )
    server.says(rows([1.0, 2.0, 0.1], [3.0, 4.0, -1e-8]))
    vectors = client.embed(["a", "b"], "compatible/m", as_numpy=True).vectors
    assert (type(vectors), vectors.dtype, vectors.shape) == (numpy.ndarray, numpy.float32, (2, 3))
    assert vectors.tolist() == [[1.0, 2.0, float(numpy.float32(0.1))], [3.0, 4.0, float(numpy.float32(-1e-8))]]
    server.answers[:] = [(200, rows([0.5, 0.25]), "application/json")]
    assert client.embed("a", "compatible/m", as_numpy=True).vectors.shape == (1, 2)


def test_without_numpy_one_sentence_says_so(server, client, monkeypatch):
    monkeypatch.setitem(sys.modules, "numpy", None)  # what an import of it finds is that there is none
    with pytest.raises(prx.ConfigError, match="as_numpy=True needs numpy, which is not installed") as raised:
        client.embed("a", "compatible/m", as_numpy=True)
    assert ("pip install numpy" in raised.value.hint, server.asked) == (True, [])


@pytest.mark.parametrize("given", [[], "", 3, [3.5], {"dimensions": 0}])
def test_faulty_arguments(client, given):
    if given == "":
        given = [None]
    with pytest.raises(prx.ConfigError):
        client.embed("a", "compatible/m", **given) if isinstance(given, dict) else client.embed(given, "compatible/m")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda c: c.embed("a", "compatible/m", user={1, 2}), "cannot be written as JSON"),
        (lambda c: c.embed("a \ud800", "compatible/m"), "not valid Unicode, after 'a "),
        (lambda c: c.transcribe(("a.wav", b"x"), "compatible/m", prompt={"x": {1}}), "cannot be written as JSON"),
    ],
)
def test_what_is_no_json(server, client, make, says):
    with pytest.raises(prx.ConfigError, match=says):
        make(client)
    assert server.asked == []


def test_a_kind_that_the_file_does_not_have(server, tmp_path):
    (tmp_path / "few.yaml").write_text(
        f"spec: 1\nid: few\nextends: openai-chat\nbase_url: {server.url}\ncalls: {{embed: null}}\n"
    )
    with prx.Client(config={}, providers=[tmp_path], env={"HOME": str(tmp_path)}) as client:
        with pytest.raises(prx.CapabilityError, match=r"calls\.embed"):
            client.embed("a", "few/m")
    assert server.asked == []


# ------------------------------------------------------------------ the other kinds


def test_rerank(server, client):
    server.says({"results": [{"index": 1, "relevance_score": 0.5}, {"index": 0, "relevance_score": -4}], "model": "m"})
    got = client.rerank("q", ["a", "b"], "compatible/m", top_n=2)
    assert [(row.index, row.score) for row in got.results] == [(1, 0.5), (0, -4.0)]
    assert server.body() == {"model": "m", "query": "q", "documents": ["a", "b"], "top_n": 2}
    server.answers = [(200, {"results": [{"index": 2, "relevance_score": 0.5}]}, "application/json")]
    with pytest.raises(prx.ProtocolError, match="among the 2 documents"):
        client.rerank("q", ["a", "b"], "compatible/m")


def test_of_more_results_than_top_n_the_best_are_given(server, client):
    server.says(
        {"results": [{"index": place, "relevance_score": score} for place, score in enumerate([0.1, 0.9, 0.5])]}
    )
    got = client.rerank("q", ["a", "b", "c"], "compatible/m", top_n=2)
    assert [row.index for row in got.results] == [1, 2]


# {provider: (call, what its server gives, path and body that it gets, what is read)}
OTHERS = {
    "tei": [
        (("embed", ["a", "b"]), [[1, 2], [3, 4]], "/embed", {"inputs": ["a", "b"]}, ((1.0, 2.0), (3.0, 4.0))),
        (("rerank", "q", ["a", "b"]), [{"index": 1, "score": 0.5}], "/rerank", {"query": "q", "texts": ["a", "b"]}, [(1, 0.5)]),
    ],
    "voyage": [
        (("embed", ["a"], {"dimensions": 2, "input_type": "query"}), {"data": [{"index": 0, "embedding": [1, 2]}], "model": "m", "usage": {"total_tokens": 3}},
         "/embeddings", {"model": "m", "input": ["a"], "output_dimension": 2, "input_type": "query"}, ((1.0, 2.0),)),
        (("rerank", "q", ["a"], {"top_n": 1}), {"data": [{"index": 0, "relevance_score": 0.5}], "usage": {"total_tokens": 3}},
         "/rerank", {"model": "m", "query": "q", "documents": ["a"], "top_k": 1}, [(0, 0.5)]),
    ],
    "jina": [
        (("embed", ["a"], {"input_type": "document"}), {"data": [{"index": 0, "embedding": [1, 2]}], "model": "m", "usage": {"total_tokens": 3}},
         "/embeddings", {"model": "m", "input": ["a"], "task": "retrieval.passage"}, ((1.0, 2.0),)),
        (("rerank", "q", ["a"], {"top_n": 1}), {"results": [{"index": 0, "relevance_score": 0.5}], "usage": {"total_tokens": 3}},
         "/rerank", {"model": "m", "query": "q", "documents": ["a"], "top_n": 1}, [(0, 0.5)]),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_providers_without_chat(server, tmp_path, name):
    config = {"providers": {name: {"api_url": server.url, "api_key": "sk-kinds-key-1234", "retries": 0}}}
    with prx.Client(config=config, env={"HOME": str(tmp_path)}) as client:
        for (kind, *given), answer, path, body, read in OTHERS[name]:
            server.answers = [(200, answer, "application/json")]
            further = given.pop() if isinstance(given[-1], dict) else {}
            got = getattr(client, kind)(*given, f"{name}/m", **further)
            assert (got.vectors if kind == "embed" else [(row.index, row.score) for row in got.results]) == read
            assert name == "tei" or got.usage.total_tokens == 3
            assert (server.asked[-1][0], server.body()) == (path, body)
        asked = len(server.asked)
        for chat in (client.chat, client.stream):
            with pytest.raises(
                prx.CapabilityError, match=r"has no chat \(endpoints.chat\); its other calls: embed, rerank"
            ):
                list(chat("hello", f"{name}/m"))
        assert len(server.asked) == asked
        checked = next(check for check in examine(client, name, chat=True).checks if check.name == "chat")
        assert (checked.verdict, checked.text) == ("skip", "the provider has no chat, by its file")
    spec = Loader().get(name).spec()
    assert {case.kind for case in cases.load() if case.fits(spec)} == {*spec.calls}


def test_a_bit_for_each_dimension(server, tmp_path):
    config = {"providers": {"voyage": {"api_url": server.url, "api_key": "sk-kinds-key-1234", "retries": 0}}}
    server.says({"data": [{"index": 0, "embedding": packed(255, 1, letter="B")}], "model": "m"})
    with prx.Client(config=config, env={"HOME": str(tmp_path)}) as client:
        got = client.embed("a", "voyage/m", dimensions=16, output_dtype="ubinary", encoding_format="base64")
        assert got.vectors == ((255.0, 1.0),)
        with pytest.raises(prx.ProtocolError, match="of the asked dimensions"):
            client.embed("a", "voyage/m", dimensions=8, output_dtype="ubinary", encoding_format="base64")


def test_a_file_needs_chat_or_another_call(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("spec: 1\nid: own\nextends: json-http\nbase_url: https://x.example\n")
    assert "endpoints.chat" in CliRunner().invoke(command, ["check", str(path)]).output


def test_images(server, client):
    data = base64.b64encode(b"\x89PNG").decode()
    server.says(
        {
            "data": [
                {"b64_json": data, "revised_prompt": "r"},
                {"url": "https://x/y.png"},
                {"url": f"data:image/gif;base64,{data}"},
            ],
            "output_format": "webp",
        }
    )
    one, two, three = client.image("p", "compatible/m", n=3, size="8x8").images
    assert (one.data, one.revised_prompt, one.media_type) == (b"\x89PNG", "r", "image/webp")
    assert (two.data, two.url) == (None, "https://x/y.png")
    assert (three.data, three.url) == (b"\x89PNG", None)


def test_speech(server, client):
    server.says(b"\xff\xfb\x00", kind="audio/mpeg")
    got = client.speech("hello", "compatible/m", voice="v", format="mp3")
    assert (got.audio, got.media_type) == (b"\xff\xfb\x00", "audio/mpeg")
    assert server.body() == {"model": "m", "input": "hello", "voice": "v", "response_format": "mp3"}
    server.answers = [(200, b"", "audio/mpeg")]
    with pytest.raises(prx.ProtocolError, match="no audio"):
        client.speech("hello", "compatible/m")


def test_transcribe(server, client, tmp_path):
    server.says({"text": "hi", "language": "en", "duration": "1.5", "segments": [{"text": "hi"}]})
    path = tmp_path / "a.wav"
    path.write_bytes(b"RIFF\r\n--")
    got = client.transcribe(path, "compatible/m", language="en", timestamp_granularities=["word", "segment"])
    assert (got.text, got.language, got.duration, len(got.segments)) == ("hi", "en", 1.5, 1)
    _, headers, body = server.asked[0]
    boundary = headers["content-type"].removeprefix("multipart/form-data; boundary=").encode()
    parts = body.split(b"--" + boundary)
    assert parts[-1] == b"--\r\n"
    assert b'name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\nRIFF\r\n--\r\n' in parts[-2]
    assert sum(b'name="timestamp_granularities[]"' in part for part in parts) == 2
    server.answers = [(200, b"1\n00:00 --> 00:01\nhi\n", "text/plain; charset=utf-8")]
    assert client.transcribe(("a.wav", b"x"), "compatible/m").text.startswith("1\n")
    with pytest.raises(prx.ConfigError, match="cannot be read"):
        client.transcribe(tmp_path / "none.wav", "compatible/m")


def test_moderate(server, client):
    server.says({"results": [{"flagged": False}, {"flagged": True}]})
    got = client.moderate(["a", "b"], "compatible/m")
    assert (got.flagged, len(got.results)) == (True, 2)


def test_complete(server, client):
    server.says({"choices": [{"text": " b", "finish_reason": "eos"}], "usage": USAGE})
    got = client.complete("a", "compatible/m", suffix="c")
    assert (got.content, got.finish_reason, got.usage.prompt_tokens) == (" b", "stop", 3)
    assert server.body() == {"model": "m", "prompt": "a", "suffix": "c"}


def test_count_tokens_sends_what_a_chat_would(server, tmp_path):
    (tmp_path / "own.yaml").write_text(f"spec: 1\nid: own\nextends: anthropic-messages\nbase_url: {server.url}\n")
    server.says({"input_tokens": 7})
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "hi"}]
    with prx.Client(config={}, providers=[tmp_path], env={"HOME": str(tmp_path)}) as client:
        assert client.count_tokens(messages, "own/m") == 7
    assert server.asked[0][0] == "/messages/count_tokens"
    assert "max_tokens" not in server.body()
    assert server.body()["system"]


def test_the_asynchronous_client(server, tmp_path):
    server.says(rows([1.0]))

    async def main():
        async with prx.AsyncClient(config=configuration(server), env={"HOME": str(tmp_path)}) as client:
            return await client.embed("a", "compatible/m")

    assert asyncio.run(main()).vectors == ((1.0,),)


SPEAKS = """spec: 1
id: own
extends: json-http
base_url: %s
calls:
  speech: {endpoint: '/speak/{voice}', query: {kind: =format}, request: {text: =text}, response: {audio: audio}}
  transcribe: {endpoint: /hear, encoding: file, request: {file: =file}, response: {text: text}}
  complete:
    endpoint: {match: "suffix && 'fill'", cases: {fill: /fill}, else: =params.where}
    request: {prompt: =prompt, suffix: =suffix}
    response: {text: text}
"""


@pytest.fixture
def own(server, tmp_path):
    (tmp_path / "own.yaml").write_text(SPEAKS % server.url)
    with prx.Client(config={}, providers=[tmp_path], env={"HOME": str(tmp_path)}) as client:
        yield client


def test_arguments_in_the_url(server, own):
    server.says(b"sound", kind="audio/mpeg")
    own.speech("hi", "own/m", voice="a/b?", format="mp3")
    assert (server.asked[0][0], server.body()) == ("/speak/a%2Fb%3F?kind=mp3", {"text": "hi"})
    own.speech("hi", "own/m", voice="v", format="mp3", extra_query={"kind": "wav"})
    assert server.asked[1][0] == "/speak/v?kind=wav"
    for voice in (None, "", "..", 3):
        with pytest.raises(prx.ConfigError, match="voice must be a text that can stand in the URL"):
            own.speech("hi", "own/m", voice=voice)
    with pytest.raises(prx.ConfigError, match="not valid Unicode"):
        own.speech("hi", "own/m", voice="v", format="\ud800")
    assert len(server.asked) == 2


def test_a_file_as_the_body(server, own):
    server.says({"text": "hi"})
    assert own.transcribe(("a.mp3", b"\x00\xff"), "own/m", smart=True, words=["a", 2], none=None).text == "hi"
    path, headers, body = server.asked[0]
    assert path == "/hear?smart=true&words=a&words=2"
    assert (headers["content-type"], body) == ("audio/mpeg", b"\x00\xff")
    with pytest.raises(prx.ConfigError, match="extra_body has no place"):
        own.transcribe(("a.mp3", b"x"), "own/m", extra_body={"a": 1})


def test_a_path_by_what_is_asked(server, own):
    server.says({"text": "b"})
    own.complete("a", "own/m", suffix="c", where="/go-on")
    own.complete("a", "own/m", where="/go-on")
    assert [(path, json.loads(body)) for path, _, body in server.asked] == [
        ("/fill", {"prompt": "a", "suffix": "c"}),
        ("/go-on", {"prompt": "a"}),
    ]
    with pytest.raises(prx.CapabilityError, match=r"calls\.complete\.endpoint gives no path for it, but None"):
        own.complete("a", "own/m")


# ------------------------------------------------------------------ files and the command line


def test_a_chat_makes_nothing_of_the_calls_of_its_file(server, client, monkeypatch):
    def made(*_, **_fields):
        raise AssertionError("a form was made")

    monkeypatch.setattr(CallForm, "__init__", made)
    server.says({"choices": [{"message": {"content": "hi"}}]})
    assert client.chat("hello", "compatible/m").content == "hi"
    with pytest.raises(AssertionError, match="a form was made"):
        client.embed("a", "compatible/m")


def test_every_kind_has_a_form_in_a_packaged_dialect():
    files = (resources.folder("providers.d") / "_dialects").glob("*.yaml")
    assert {kind for path in files for kind in read_quickly(path).get("calls", {})} == set(KINDS_OF_CALLS)


@pytest.mark.parametrize(
    ("calls", "says"),
    [
        ("{embed: {response: {flags: x}}}", "flags"),
        ("{embed: {response: {results: x}}}", "embed does not read this"),
        ("{embed: {request: {a: =documents}}}", "documents"),
        ("{embed: {response: {vectors: 'a['}}}", "calls.embed.response.vectors"),
        ("{embedd: {endpoint: /x}}", "embed"),
        ("{embed: {endpoint: x}}", "calls.embed.endpoint"),
        (
            "{embed: {endpoint: '/x/{voice}'}}",
            "has no {voice} to put into the path; it has {model}, {encoded_model}, {input}",
        ),
        ("{embed: {endpoint: '=documents'}}", "documents"),
        ("{embed: {query: {a: =documents}}}", "documents"),
    ],
)
def test_faults_of_a_file(tmp_path, calls, says):
    path = tmp_path / "own.yaml"
    path.write_text(f"spec: 1\nid: own\nextends: openai-chat\nbase_url: https://x.example\ncalls: {calls}\n")
    done = CliRunner().invoke(command, ["check", str(path)])
    assert done.exit_code == 1
    assert says in done.output


def test_the_command_line(server, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = tmp_path / "config.toml"
    config.write_text(f'[providers.compatible]\napi_url = "{server.url}"\napi_key = "sk-kinds-key-1234"\n')

    def run(*words):
        return CliRunner().invoke(command, [*words, "-m", "compatible/m", "--config", str(config)])

    dry = run("embed", "a", "b", "--dry-run")
    assert '"input":' in dry.output
    assert "sk-kinds-key-1234" not in dry.output
    assert server.asked == []
    server.says(rows([1.0, 2.0]))
    assert "2 numbers: 1, 2" in run("embed", "a").output
    assert json.loads(run("embed", "a", "--json").output)["vectors"] == [[1.0, 2.0]]
    server.answers = [(200, b"sound", "audio/mpeg")]
    run("speak", "hi", "-o", str(tmp_path / "a.mp3"))
    assert (tmp_path / "a.mp3").read_bytes() == b"sound"
    server.answers = [(200, {"text": "hi"}, "application/json")]
    assert run("transcribe", str(tmp_path / "a.mp3")).output.strip() == "hi"
    server.answers = [(200, {"results": [{"index": 0, "score": 1}]}, "application/json")]
    assert run("rerank", "q", "doc").output.strip() == "1\tdoc"
    server.answers = [(200, {"results": [{"flagged": True}]}, "application/json")]
    assert run("moderate", "x").output.strip() == "flagged"
    server.answers = [(200, {"choices": [{"text": "more"}]}, "application/json")]
    assert run("complete", "x").output.strip() == "more"


@pytest.mark.parametrize(
    "words", [["embed"], ["image"], ["speak", "-o", "a.mp3"], ["moderate"], ["complete"], ["count"]]
)
def test_no_text_at_all_is_said(words, tmp_path, monkeypatch):
    """An empty text would be sent, and its answer looks like any other."""
    monkeypatch.setenv("HOME", str(tmp_path))
    done = CliRunner().invoke(command, [*words, "-m", "ollama/m"], input="\n")
    assert done.exit_code == 1
    assert isinstance(done.exception, prx.ConfigError)
    assert done.exception.message == "there is no text"
