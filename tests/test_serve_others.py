"""prx serve, asked for what is no chat: handed on within a dialect, written anew between dialects, and said in one sentence where neither is possible."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import struct

import pytest
from helpers.answering import Server
from helpers.byte_server import DONE, FIN, RawServer, response, stream
from helpers.served import CALLER, Service, provider

from prx.core import forms
from prx.core.inbound import Routes
from prx.spec.loader import Loader
from prx.spec.model import KINDS_OF_CALLS

# {name of a provider in the configuration: what it builds on}; most have another form of embeddings than the caller's.
PROVIDERS = {
    "same": "openai-chat", "claude": "anthropic-messages", "responses": "openai-responses", "gem": "gemini", "olla": "ollama",
    "coh": "cohere-v2", "voy": "voyage", "jin": "jina", "hug": "tei",
}  # fmt: skip
OPENAI, GEMINI, USED = (
    "/v1/embeddings",
    "/v1beta/models/{model}:batchEmbedContents",
    {"prompt_tokens": 3, "total_tokens": 3},
)


@pytest.fixture(scope="module")
def upstream():
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture(scope="module")
def running(tmp_path_factory, upstream):
    rows = (
        f'[providers.{name}]\nextends = "{base}"\napi_url = "{upstream.url}"\napi_key = "${{UP_KEY}}"\nretries = 0\nmodel = "m"\n'
        for name, base in PROVIDERS.items()
    )
    route = '[[model_routes]]\npattern = "either"\ntargets = ["claude/m", "same/m"]\n'
    service = Service(tmp_path_factory.mktemp("others"), "".join(rows) + route)
    yield service
    service.stop()
    said = service.log.read_text()
    assert "Traceback" not in said, said


@pytest.fixture
def service(running, upstream):
    upstream.answers.clear()
    upstream.asked.clear()
    return running


def asked(service, path, model, body):
    """(status, headers, JSON of the answer)."""
    answer = service.post(path.replace("{model}", model), body if "{model}" in path else {"model": model, **body})
    return answer.status, answer.headers, json.loads(answer.text)


# ------------------------------------------------------------------ within a dialect

# {route: (provider, what else the body has, the answer)}
SAME = {
    "/v1/embeddings": ("same", {"input": ["a"], "odd": [1]}, {"data": [{"index": 0, "embedding": [0.5]}]}),
    "/v1/completions": ("same", {"prompt": "a", "odd": [1]}, {"choices": [{"text": "b"}]}),
    "/v1/rerank": ("same", {"query": "q", "documents": ["a"]}, {"results": [{"index": 0, "relevance_score": 0.5}]}),
    "/v1/images/generations": ("same", {"prompt": "a cat", "n": 1}, {"data": [{"b64_json": "AQI="}]}),
    "/v1/moderations": ("same", {"input": "a"}, {"results": [{"flagged": False}]}),
    "/v1/messages/count_tokens": ("claude", {"messages": []}, {"input_tokens": 3}),
    "/v1/responses/input_tokens": ("responses", {"input": "a"}, {"input_tokens": 3}),
    "/v2/embed": ("coh", {"texts": ["a"], "embedding_types": ["int8"]}, {"embeddings": {"int8": [[5]]}}),
    "/v2/rerank": ("coh", {"query": "q", "documents": ["a"]}, {"results": [{"index": 0, "relevance_score": 0.5}]}),
    "/api/embed": ("olla", {"input": "a", "truncate": True}, {"embeddings": [[0.5]]}),
    "/v1beta/models/{model}:predict": (
        "gem",
        {"instances": [{"prompt": "a"}]},
        {"predictions": [{"bytesBase64Encoded": "AQI="}]},
    ),
    "/api/generate": ("olla", {"prompt": "a", "stream": False}, {"response": "b"}),
}
ELSEWHERE = {"/v1/audio/speech", "/v1/audio/transcriptions"}  # further down


def test_every_route_is_tried():
    faces = Loader().faces()
    rows = [(face, row) for face in faces for row in face.entrances if row.use in KINDS_OF_CALLS]
    handed_on = {row.at.partition(" ")[2] for face, row in rows if face.calls[row.use].as_it_comes}
    assert handed_on == {*SAME} | ELSEWHERE
    assert {face.id for face, row in rows if not face.calls[row.use].as_it_comes} == {"gemini"}


@pytest.mark.parametrize("path", SAME)
def test_within_a_dialect_all_is_handed_on(service, upstream, path):
    """The provider gets the body with its own name of the model, and the caller its answer."""
    name, body, answer = SAME[path]
    upstream.says({**answer, "more": 1})
    status, headers, found = asked(service, path, f"{name}/m", body)
    assert (status, found, headers["x-prx-provider"]) == (200, {**answer, "more": 1}, name)
    assert upstream.body() == (body if "{model}" in path else {"model": "m", **body})
    entrance = Routes(Loader().faces()).find("POST", path).entrance
    calls = Loader().dialect_or_provider(PROVIDERS[name])["calls"]
    assert upstream.asked[-1][0] == (entrance.endpoint or calls[entrance.use]["endpoint"]).replace("{model}", "m")


def test_an_error_with_status_200_is_an_error(service, upstream):
    upstream.says({"error": {"message": "no such model", "code": "model_not_found"}})
    assert asked(service, OPENAI, "same/m", {"input": "a"})[0] == 404


def test_the_next_target_is_asked_where_one_has_no_such_call(service, upstream):
    upstream.says({"data": [{"index": 0, "embedding": [0.5]}]})
    status, headers, _ = asked(service, OPENAI, "either", {"input": "a"})
    assert (status, headers["x-prx-provider"]) == (200, "same")


# ------------------------------------------------------------------ between dialects

# {provider: (what it is asked, what it answers)}, for the texts a and b in 2 dimensions
VECTORS = [[0.5, -1.0], [2.0, 3.0]]
EMBED = {
    "coh": ({"model": "m", "texts": ["a", "b"], "output_dimension": 2, "input_type": "search_document", "embedding_types": ["float"]},
            {"embeddings": {"float": VECTORS}, "meta": {"billed_units": {"input_tokens": 3}}}),
    "gem": ({"requests": [{"model": "models/m", "content": {"parts": [{"text": text}]}, "outputDimensionality": 2} for text in "ab"]},
            {"embeddings": [{"values": vector} for vector in VECTORS]}),
    "olla": ({"model": "m", "input": ["a", "b"], "dimensions": 2}, {"model": "m", "embeddings": VECTORS, "prompt_eval_count": 3}),
    "voy": ({"model": "m", "input": ["a", "b"], "output_dimension": 2},
            {"data": [{"index": 1, "embedding": VECTORS[1]}, {"index": 0, "embedding": VECTORS[0]}], "usage": {"total_tokens": 3}}),
    "jin": ({"model": "m", "input": ["a", "b"], "dimensions": 2},
            {"data": [{"index": place, "embedding": vector} for place, vector in enumerate(VECTORS)], "usage": USED}),
    "hug": ({"inputs": ["a", "b"], "dimensions": 2}, VECTORS),
}  # fmt: skip


@pytest.mark.parametrize("form", [None, "base64"])
@pytest.mark.parametrize("name", EMBED)
def test_embeddings_of_every_shape(service, upstream, name, form):
    wanted, answer = EMBED[name]
    upstream.says(answer)
    body = {"input": ["a", "b"], "dimensions": 2, "user": "me"} | ({"encoding_format": form} if form else {})
    status, headers, found = asked(service, OPENAI, f"{name}/m", body)
    assert (status, headers["x-prx-dropped"]) == (200, "user"), found
    assert upstream.body() == wanted
    vectors = [row["embedding"] for row in found["data"]]
    if form:
        vectors = [[*struct.unpack("<2f", base64.b64decode(vector))] for vector in vectors]
    assert vectors == VECTORS
    assert [row["index"] for row in found["data"]] == [0, 1]
    assert found.get("usage") in (None, USED)
    assert (found.get("usage") is None) == (name in ("gem", "hug"))


@pytest.mark.parametrize(
    ("path", "body", "vectors"),
    [
        ("/v2/embed", {"texts": ["a", "b"], "output_dimension": 2}, "embeddings.float"),
        ("/api/embed", {"input": ["a", "b"], "dimensions": 2}, "embeddings"),
        (GEMINI, {"requests": [{"model": "models/x", "content": {"parts": [{"text": text}]}, "outputDimensionality": 2} for text in "ab"]}, "embeddings"),
    ],
)  # fmt: skip
def test_embeddings_for_callers_of_every_shape(service, upstream, path, body, vectors):
    upstream.says({"data": [{"index": place, "embedding": vector} for place, vector in enumerate(VECTORS)]})
    status, _, found = asked(service, path, "same/m", body)
    assert status == 200
    assert upstream.body() == {"model": "m", "input": ["a", "b"], "dimensions": 2}
    for key in vectors.split("."):
        found = found[key]
    assert [row["values"] if isinstance(row, dict) else row for row in found] == VECTORS


def test_one_embedding_of_gemini_has_a_shape_of_its_own(service, upstream):
    upstream.says({"embeddings": [{"values": [0.5]}]})
    body = {"content": {"parts": [{"text": "a"}]}, "taskType": "RETRIEVAL_QUERY"}
    status, _, found = asked(service, "/v1beta/models/{model}:embedContent", "gem/m", body)
    assert (status, found) == (200, {"embedding": {"values": [0.5]}})
    assert upstream.body() == {
        "requests": [{"model": "models/m", "content": {"parts": [{"text": "a"}]}, "taskType": "RETRIEVAL_QUERY"}]
    }


@pytest.mark.parametrize(
    ("name", "wanted", "answer"),
    [
        ("coh", {"model": "m", "query": "q", "documents": ["a", "b"], "top_n": 1}, {"results": [{"index": 1, "relevance_score": 0.5}]}),
        ("voy", {"model": "m", "query": "q", "documents": ["a", "b"], "top_k": 1}, {"data": [{"index": 1, "relevance_score": 0.5}]}),
        ("hug", {"query": "q", "texts": ["a", "b"]}, [{"index": 1, "score": 0.5}, {"index": 0, "score": 0.1}]),
    ],
)  # fmt: skip
def test_rankings(service, upstream, name, wanted, answer):
    upstream.says(answer)
    body = {"query": "q", "documents": ["a", "b"], "top_n": 1, "return_documents": True}
    status, _, found = asked(service, "/v1/rerank", f"{name}/m", body)
    assert (status, upstream.body()) == (200, wanted)
    assert found["results"] == [{"index": 1, "relevance_score": 0.5, "document": {"text": "b"}}]
    if name != "coh":
        assert asked(service, "/v2/rerank", f"{name}/m", {"query": "q", "documents": ["a", "b"], "top_n": 1})[2][
            "results"
        ] == [{"index": 1, "relevance_score": 0.5}]


def test_counts_between_dialects(service, upstream):
    chat = {"messages": [{"role": "user", "content": "hi"}], "system": "Be brief.", "max_tokens": 5}
    upstream.says({"totalTokens": 7})
    assert asked(service, "/v1/messages/count_tokens", "gem/m", chat)[::2] == (200, {"input_tokens": 7})
    sent = upstream.body()["generateContentRequest"]
    assert (sent["model"], sent["contents"][0]["parts"]) == ("models/m", [{"text": "hi"}])
    upstream.answers[:] = [(200, {"input_tokens": 9}, "application/json")]
    body = {"generateContentRequest": {"model": "models/x", "contents": [{"role": "user", "parts": [{"text": "hi"}]}]}}
    assert asked(service, "/v1beta/models/{model}:countTokens", "claude/m", body)[::2] == (200, {"totalTokens": 9})
    assert upstream.body()["model"] == "m"
    assert upstream.body()["messages"][0]["role"] == "user"
    assert asked(service, "/v1/responses/input_tokens", "claude/m", {"input": "hi"})[2]["input_tokens"] == 9


def test_completions_between_dialects(service, upstream):
    upstream.says({"response": "b", "done_reason": "stop", "prompt_eval_count": 2, "eval_count": 1})
    status, _, found = asked(service, "/v1/completions", "olla/m", {"prompt": "a", "max_tokens": 5, "stop": "x"})
    assert (status, found["choices"][0]["text"], found["usage"]["completion_tokens"]) == (200, "b", 1)
    assert upstream.body()["options"] == {"num_predict": 5, "stop": ["x"]}
    upstream.answers[:] = [(200, {"choices": [{"text": "b", "finish_reason": "length"}]}, "application/json")]
    status, _, found = asked(service, "/api/generate", "same/m", {"prompt": "a", "options": {"num_predict": 5}})
    assert (status, found["response"], found["done"], found["done_reason"]) == (200, "b", True, "length")
    assert upstream.body() == {"model": "m", "prompt": "a", "max_tokens": 5}


@pytest.mark.parametrize(
    ("path", "model", "body", "status", "says"),
    [
        (OPENAI, "claude/m", {"input": "a"}, 404, "neither its dialect nor its file has a form for it"),
        ("/v1/moderations", "gem/m", {"input": "a"}, 404, "neither its dialect nor its file"),
        (OPENAI, "coh/m", {"input": "a", "odd": 1}, 400, "'odd' has no form"),
        ("/v2/embed", "same/m", {"texts": ["a"], "embedding_types": ["int8"]}, 400, "embedding_types"),
        ("/v1/completions", "olla/m", {"prompt": "a", "stream": True}, 400, "'stream' has no form"),
        ("/v1/completions", "olla/m", {"prompt": "a", "n": 2}, 400, "'n' has no form"),
        (OPENAI, "coh/m", {"inputs": "a"}, 400, "input is missing"),
        (OPENAI, "coh/m", {"input": [5.5]}, 400, "input must be a text"),
        (OPENAI, "coh/m", {"input": "a", "dimensions": "many"}, 400, "dimensions must be a whole number"),
        (OPENAI, "coh/m", {"input": "a", "extra_headers": {}}, 400, "'extra_headers' is not a key of this API"),
        ("/v1/messages/count_tokens", "gem/m", {"messages": [5]}, 400, "the prompt is empty"),
    ],
)
def test_what_cannot_be_is_one_clear_error(service, upstream, path, model, body, status, says):
    got, _, found = asked(service, path, model, body)
    assert (got, says in str(found)) == (status, True), found
    assert upstream.asked == []


# ------------------------------------------------------------------ sound


def raw(service, path, data, media_type="application/json", **headers):
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=20)) as connection:
        connection.request(
            "POST", path, data, {"content-type": media_type, "authorization": f"Bearer {CALLER}", **headers}
        )
        answer = connection.getresponse()
        answer.data = answer.read()
        return answer


def test_speech_is_handed_on_with_its_type(service, upstream):
    upstream.says(bytes(range(256)) * 2000, kind="audio/mpeg")
    body = {"model": "same/m", "input": "hello", "voice": "v", "response_format": "mp3", "speed": 2}
    answer = raw(service, "/v1/audio/speech", json.dumps(body))
    assert (answer.status, answer.headers["content-type"], answer.headers["x-prx-provider"]) == (
        200,
        "audio/mpeg",
        "same",
    )
    assert answer.data == bytes(range(256)) * 2000
    assert upstream.body() == {**body, "model": "m"}


def test_a_form_is_handed_on(service, upstream):
    upstream.says({"text": "hello", "odd": 1})
    sound = bytes(range(256)) * 50 + b"\r\n--x"
    fields = {
        "model": "same/m", "file": {"name": "a.wav", "media_type": "audio/wav", "data": base64.b64encode(sound).decode()},
        "timestamp_granularities": ["word", "segment"], "temperature": "0.5",
    }  # fmt: skip
    media_type, data = forms.written(fields)
    answer = raw(service, "/v1/audio/transcriptions", data, media_type)
    assert (answer.status, json.loads(answer.data)) == (200, {"text": "hello", "odd": 1})
    path, headers, sent = upstream.asked[-1]
    sent_type = next(value for name, value in headers.items() if name.lower() == "content-type")
    assert path == "/audio/transcriptions"
    assert forms.read(sent_type, sent) == {**fields, "model": "m"}


def test_subtitles_are_handed_on_as_text(service, upstream):
    upstream.says(b"1\n00:00 --> 00:01\nhello\n", kind="application/x-subrip")
    file = {"name": "a.wav", "media_type": "audio/wav", "data": "AAAA"}
    media_type, data = forms.written({"model": "same/m", "file": file, "response_format": "srt"})
    answer = raw(service, "/v1/audio/transcriptions", data, media_type)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/x-subrip")
    assert answer.data == b"1\n00:00 --> 00:01\nhello\n"


@pytest.mark.parametrize(
    ("media_type", "data", "status", "says"),
    [
        ("multipart/form-data", b"", 400, "names no boundary"),
        ("multipart/form-data; boundary=x", b"--y\r\n", 400, "as its boundary says"),
        ("multipart/form-data; boundary=x", b"--x\r\nno head--x--", 400, "as its boundary says"),
        ("multipart/form-data; boundary=x", b"--x\r\nno head\r\n--x--", 400, "has no head"),
        ("multipart/form-data; boundary=x", b"--x\r\na: b\r\n\r\nc\r\n--x--", 400, "has no name"),
        ("multipart/form-data; boundary=x", b'--x\r\ncontent-disposition: form-data; name="a"\r\n\r\n\xff\r\n--x--', 400, "is no text"),
        ("multipart/form-data; boundary=x", b"--x\r\n" + b'c: form-data; name="a"\r\n\r\nb\r\n--x\r\n' * 200 + b"--x--", 400, "more than 100 parts"),
        ("multipart/form-data; boundary=x", b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\nstrange/m\r\n--x--', 404, "strange/m"),
        ("text/plain", b"{}", 415, "must be JSON"),
    ],
)  # fmt: skip
def test_what_is_no_form(service, media_type, data, status, says):
    answer = raw(service, "/v1/audio/transcriptions", data, media_type)
    text = answer.data.decode()
    assert (answer.status, says in text) == (status, True), text


def test_a_web_page_cannot_send_a_form(service, upstream):
    """A browser sends one to any address without asking first, as it does not do with JSON."""
    media_type, data = forms.written({"model": "same/m", "file": {"name": "a", "media_type": "audio/wav", "data": ""}})
    answer = raw(service, "/v1/audio/transcriptions", data, media_type, origin="https://page.example")
    assert (answer.status, upstream.asked) == (403, [])
    answer = raw(service, OPENAI, data, media_type)
    assert answer.status == 415  # no call with a file


# ------------------------------------------------------------------ in pieces

SOUND = b"HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\ncontent-length: 1000\r\n\r\n" + b"x" * 500
SAID = b'data: {"choices":[{"text":"a"}],"odd":1}\n\n'


def test_a_stream_is_handed_on_as_it_comes(own):
    with RawServer(
        [*stream(SAID, SAID, DONE)],
        [*stream(SAID, end=False), FIN],
        [response(429, {"error": {"message": "slow down"}})],
    ) as server:
        running = own(provider("up", server.url))
        body = {"model": "up/words", "prompt": "a", "stream": True}
        answer = running.post("/v1/completions", body)
        assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
        assert answer.text.encode() == SAID + SAID + DONE
        assert server.requests[0]["body"] == {**body, "model": "words"}
        answer = running.post("/v1/completions", body)  # broken off: the error is the last event
        assert (answer.status, answer.text.encode()[: len(SAID)]) == (200, SAID)
        assert json.loads(answer.text.splitlines()[-2].removeprefix("data: "))["error"]["kind"] == "truncated"
        answer = running.post("/v1/completions", body)
        assert (answer.status, "slow down" in answer.text) == (429, True)


def test_sound_that_breaks_off_has_no_end(own):
    """Nothing in it could say so: the connection ends before the end of the body, and no program takes it for the whole."""
    with RawServer([SOUND, FIN]) as server:
        running = own(provider("up", server.url))
        with pytest.raises(http.client.IncompleteRead) as broken:
            raw(running, "/v1/audio/speech", json.dumps({"model": "up/words", "input": "a", "voice": "v"}))
        assert broken.value.partial == b"x" * 500


def test_a_route_that_only_hands_on(own, tmp_path):
    """A dialect of one's own may have routes for what is no kind of call."""
    folder = tmp_path / "files" / "_dialects"
    folder.mkdir(parents=True)
    serve = {
        "routes": [{"at": "POST /mine/sort", "for": "pass", "endpoint": "/sort"}],
        "request": {"model": "=model", "messages": "=messages"}, "reply": {"text": "=reply.content"}, "errors": {"body": {"problem": "=error.message"}},
    }  # fmt: skip
    (folder / "mine.yaml").write_text(
        json.dumps({"spec": 1, "id": "mine", "name": "Mine", "extends": "json-http", "serve": serve})
    )
    with RawServer(response(200, {"sorted": [1, 2]})) as server:
        config = provider("up", server.url, "mine") + provider("other", server.url)
        running = own(config, "--providers", str(folder.parent))
        answer = running.post("/mine/sort", {"model": "up/words", "items": [2, 1]})
        assert (answer.status, json.loads(answer.text)) == (200, {"sorted": [1, 2]})
        assert server.requests[0]["line"] == "POST /v1/sort HTTP/1.1"
        assert server.requests[0]["body"] == {"model": "words", "items": [2, 1]}
        answer = running.post("/mine/sort", {"model": "other/words", "items": [2, 1]})
        assert (answer.status, "no such call" in answer.text) == (404, True)
