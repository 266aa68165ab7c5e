"""Every packaged file that has a kind of call makes a request of it that its own expressions understand, and reads an answer."""

from __future__ import annotations

import base64
import email
import json
import re
from urllib.parse import parse_qs, urlsplit

import pytest

from prx import resources
from prx.chat import Call
from prx.core import kind_answers
from prx.core.kind_inputs import checked
from prx.core.kind_requests import build_kind
from prx.secret import Secret
from prx.spec.loader import Loader
from prx.spec.model import KINDS_OF_CALLS
from prx.spec.read import read_quickly
from prx.wire import Head, Target

KEY = "sk-of-a-test-1234"
AUDIO = base64.b64encode(b"sound").decode()
# {kind: its arguments}; every one that a file could place is given
GIVEN = {
    "embed": {"input": ["one text", "another"], "dimensions": 2, "input_type": "query"},
    "rerank": {"query": "what?", "documents": ["a text", "b text"], "top_n": 1},
    "image": {"prompt": "a cat", "n": 1, "size": "64x64"},
    "speech": {"text": "say it", "voice": "eve", "format": "mp3"},
    "transcribe": {"file": ("a.mp3", b"sound"), "language": "en"},
    "moderate": {"input": ["one text", "another"]},
    "count_tokens": {},
    "complete": {"prompt": "begin", "suffix": "end"},
}
# What has to reach the provider, wherever the file puts it.
SAID = {
    "embed": ["one text", "another"], "rerank": ["what?", "a text", "b text"], "image": ["a cat"], "speech": ["say it"],
    "transcribe": ["sound"], "moderate": ["one text", "another"], "count_tokens": ["count these"], "complete": ["begin", "end"],
}  # fmt: skip
FILES = sorted(resources.folder("providers.d").glob("*.yaml"))


LOADER = Loader()
each_file = pytest.mark.parametrize("name", [path.stem for path in FILES])


def spec_of(name):
    return LOADER.get(name).spec("m/odel")


def raw_of(name):
    return read_quickly(resources.folder("providers.d") / f"{name}.yaml")


def target(spec):
    secret = Secret(KEY)
    auth = {spec.auth.name: secret.within(spec.auth.template)} if spec.auth.style != "none" else {}
    base = re.sub(r"^\$\{\w+\}", "https://filled.example", spec.base_url or "https://api.example/v1")
    base = re.sub(r"\$\{\w+\}", "filled", base)
    names = re.findall(r"\$\{(\w+)\}", " ".join([*spec.request.headers.values(), *spec.request.query.values()]))
    return Target(spec.id, base, auth=auth, values={name: Secret("filled") for name in names})


def asked(spec, kind):
    params = {} if kind == "count_tokens" else {"an_own_parameter": "kept"}
    messages = ({"role": "user", "content": "count these"},) if kind == "count_tokens" else ()
    call = Call("m/odel", messages, params=params, inputs=checked(kind, GIVEN[kind]))
    return call, build_kind(kind, spec, call, target(spec))


def content(request):
    """All that a request says, as text: JSON decoded, base64 in it too."""
    media_type = request.headers["content-type"]
    if "json" in media_type:
        body = json.loads(request.body)
        assert isinstance(body, dict)
        assert None not in body.values()
        text = json.dumps(body, ensure_ascii=False)
    elif media_type.startswith("multipart/"):
        form = email.message_from_bytes(b"content-type: " + media_type.encode() + b"\n\n" + request.body)
        parts = {
            part.get_param("name", header="content-disposition"): part.get_payload() for part in form.get_payload()
        }
        text = json.dumps(parts)
    else:
        text = request.body.decode()
    return f"{text} {request.url}".replace(AUDIO, "sound")


@each_file
def test_a_request_of_every_kind(name):
    spec = spec_of(name)
    for kind in spec.calls:
        is_whole(spec, kind)


def is_whole(spec, kind):
    _, request = asked(spec, kind)
    url = urlsplit(request.full_url())
    assert request.method == "POST"
    assert url.scheme in ("http", "https")
    assert url.netloc
    assert "{" not in url.path
    assert "/../" not in url.path
    sent = content(request)
    for words in SAID[kind]:
        assert words in sent
    if kind != "count_tokens":
        assert "kept" in sent, "a parameter that the file does not know has no place"
    keys = [name for name, value in request.headers.items() if KEY in getattr(value, "reveal", lambda: "")()]
    assert KEY not in str(request.headers), "the key is printed"
    if spec.auth.style == "query":
        assert KEY in str(parse_qs(urlsplit(request.full_url()).query)) or spec.auth.name in str(request)
    elif spec.auth.style != "none":
        assert keys == [spec.auth.name.lower()] or spec.auth.name.lower() in {name.lower() for name in request.headers}


# An answer of each form that the files read; a file's expressions find theirs in one of them.
OPENAI = {
    "embed": {
        "data": [{"index": 1, "embedding": [3, 4]}, {"index": 0, "embedding": [1, 2]}],
        "usage": {"prompt_tokens": 3, "total_tokens": 3},
    },
    "rerank": {"results": [{"index": 1, "relevance_score": 0.5}], "usage": {"total_tokens": 3}},
    "image": {"data": [{"b64_json": AUDIO}]},
    "transcribe": {"text": "said", "language": "en"},
    "moderate": {"results": [{"flagged": False}, {"flagged": True}]},
    "count_tokens": {"input_tokens": 7},
    "complete": {"choices": [{"text": "middle", "finish_reason": "stop"}]},
}
SHAPES = {
    "embed": [
        OPENAI["embed"], [[1, 2], [3, 4]], {"embeddings": [[1, 2], [3, 4]]}, {"embeddings": {"float": [[1, 2], [3, 4]]}}, {"embeddings": [{"values": [1, 2]}, {"values": [3, 4]}]},
        {"predictions": [{"embeddings": {"values": [1, 2], "statistics": {"token_count": 1}}}, {"embeddings": {"values": [3, 4], "statistics": {"token_count": 2}}}]},
    ],
    "rerank": [
        OPENAI["rerank"], [{"index": 1, "score": 0.5}], {"data": [{"index": 1, "relevance_score": 0.5}]}, {"rankings": [{"index": 1, "logit": 0.5}]}, {"scores": [0.1, 0.5]},
    ],
    "image": [OPENAI["image"], {"predictions": [{"bytesBase64Encoded": AUDIO, "mimeType": "image/png"}]}, {"candidates": [{"content": {"parts": [{"inlineData": {"data": AUDIO}}]}}]}],
    "transcribe": [OPENAI["transcribe"], {"results": {"channels": [{"alternatives": [{"transcript": "said"}]}]}}, {"candidates": [{"content": {"parts": [{"text": "said"}]}}]}],
    "moderate": [OPENAI["moderate"]],
    "count_tokens": [OPENAI["count_tokens"], {"totalTokens": 7}, {"count": 7}, {"inputTokens": 7}],
    "complete": [OPENAI["complete"], {"content": "middle", "stop_type": "eos"}, {"response": "middle", "done_reason": "stop"}, {"choices": [{"message": {"content": "middle"}, "finish_reason": "stop"}]}],
    "speech": [b"sound", {"audio_data": AUDIO}, {"data": {"audio": b"sound".hex()}}, {"candidates": [{"content": {"parts": [{"inlineData": {"data": AUDIO}}]}}]}],
}  # fmt: skip
READ = {
    "embed": lambda got: got.vectors == ((1.0, 2.0), (3.0, 4.0)),
    "rerank": lambda got: [(row.index, row.score) for row in got.results] == [(1, 0.5)],
    "image": lambda got: [image.data for image in got.images] == [b"sound"],
    "speech": lambda got: got.audio == b"sound",
    "transcribe": lambda got: got.text == "said",
    "moderate": lambda got: got.flagged and len(got.results) == 2,
    "count_tokens": lambda got: got.count == 7,
    "complete": lambda got: (got.content, got.finish_reason) == ("middle", "stop"),
}


def read(spec, kind, answer):
    """What is read of an answer, or None."""
    call, _ = asked(spec, kind)
    media_type = "audio/mpeg" if isinstance(answer, bytes) else "application/json"
    head = Head(200, {"content-type": media_type}, 0.0)
    reader = kind_answers.KINDS[kind].reader(spec, call, target(spec), head, lambda: "id")
    reader.feed(answer if isinstance(answer, bytes) else json.dumps(answer).encode())
    _, error = reader.end()
    return None if error else reader.reply()


@each_file
def test_an_answer_of_every_kind(name):
    spec = spec_of(name)
    for kind in spec.calls:
        found = [got for got in (read(spec, kind, answer) for answer in SHAPES[kind]) if got is not None]
        assert any(READ[kind](got) for got in found), kind


def cited(name):
    """The kinds of call of which a file's evidence speaks."""
    rules = [rule for row in raw_of(name).get("evidence") or () for rule in row["of"]]
    return {rule.split(".")[1] for rule in rules if rule.startswith("calls.")}


@each_file
def test_what_is_cited_of_a_kind_is_there(name):
    assert cited(name) <= {*spec_of(name).calls}


@each_file
def test_a_row_of_a_file_has_its_source(name):
    """A file that describes a call itself says where it was read, or that a real server was asked: its recordings' name is in `source`."""
    raw = raw_of(name)
    rows = {kind for kind, form in (raw.get("calls") or {}).items() if form is not None}
    assert rows <= cited(name) or "recorded" in str(raw["source"]), sorted(rows - cited(name))


def test_every_kind_is_somewhere():
    assert {kind for path in FILES for kind in spec_of(path.stem).calls} == set(KINDS_OF_CALLS)
