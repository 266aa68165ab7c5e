"""Conformance of calls that are no chats: who is asked, with which model, what fails, and what a recording keeps."""

from __future__ import annotations

import base64
import json

import pytest
from helpers import commands
from helpers.answering import Server

from prx.conformance import cases, suite
from prx.conformance.cassette import readable_response
from prx.emulator.server import Emulator
from prx.spec.loader import Loader

BY_NAME = {case.name: case for case in cases.load()}


@pytest.fixture
def server():
    with Server() as server:
        yield server


@pytest.fixture
def file(tmp_path):
    """A function that writes a provider's file, and its configuration, and runs a command of prx in the folder."""

    def write(url, calls, more=""):
        (tmp_path / "mine.yaml").write_text(
            f"spec: 1\nid: mine\nextends: openai-chat\nbase_url: {url}\ncalls: {json.dumps(calls)}\n{more}"
        )
        (tmp_path / "c.toml").write_text('[providers.mine]\napi_key = "none"\nmodel = "words"\n')

        def conformance(*arguments):
            done = commands.run(
                "conformance", "mine.yaml", "--config", "c.toml", "--json", *arguments, cwd=tmp_path, timeout=120
            )
            assert "Traceback" not in done.stderr, done
            return done.returncode, {row["case"]: row for row in json.loads(done.stdout)["results"]}

        return conformance

    return write


def names(kind):
    return {case.name for case in BY_NAME.values() if case.kind == kind}


def test_every_kind_has_a_case():
    assert {case.kind for case in BY_NAME.values()} - {""} == {
        "embed", "rerank", "image", "speech", "transcribe", "moderate", "count_tokens", "complete",
    }  # fmt: skip


def test_only_who_names_a_kind_is_asked_for_it():
    """A dialect says of each kind how it is made, and not who has it."""
    spec = {name: Loader().get(name).spec() for name in ("compatible", "voyage", "anthropic")}
    asked = {
        name: {case.name for case in BY_NAME.values() if case.kind and case.concerns(each)}
        for name, each in spec.items()
    }
    assert asked["voyage"] == names("embed") | names("rerank")
    assert asked["compatible"] == set()
    assert BY_NAME["chat"].missing(spec["voyage"]) == "endpoints.chat"
    assert BY_NAME["embed"].missing(spec["anthropic"]) == "calls.embed"


def test_a_server_that_has_all_passes_live(file, tmp_path):
    kinds = {case.kind: {} for case in BY_NAME.values() if case.kind and case.kind != "count_tokens"}
    with Emulator({"models": ["words", "others"], "key": "none"}) as emulator:
        conformance = file(emulator.url, kinds)
        arguments = [word for kind in kinds for word in ("--model-for", f"{kind}=others")]
        only = [word for case in BY_NAME.values() if case.kind for word in ("--case", case.name)]
        code, rows = conformance("--live", *arguments, *only)
        assert (code, {row["outcome"] for row in rows.values()}) == (0, {"passed"}), rows
        assert {*rows} == {case.name for case in BY_NAME.values() if case.kind in kinds}
        assert {asked.model for asked in emulator.heard} == {"others"}
        code, rows = conformance("--record", "--cassettes", "kept", *arguments, *only)
        assert (code, {row["outcome"] for row in rows.values()}) == (0, {"passed"}), rows
    code, rows = conformance("--cassettes", "kept", *only)
    assert (code, {row["outcome"] for row in rows.values()}) == (0, {"passed"}), rows
    assert "base64: " in (tmp_path / "kept" / "mine" / "speech.yaml").read_text()


def test_the_model_of_a_chat_is_not_asked_for_vectors(file):
    with Emulator({"models": ["words"], "key": "none"}) as emulator:
        conformance = file(emulator.url, {"embed": {}, "complete": {}})
        code, rows = conformance("--live", "--case", "embed", "--case", "complete")
        assert (code, rows["complete"]["outcome"], rows["embed"]["outcome"]) == (1, "passed", "error")
        assert "no model is named for embed" in rows["embed"]["why"]
        assert len(emulator.heard) == 1


def vectors(order):
    """What answers with a vector for each text, in an order that is wrong for several."""

    def answer(body):
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        made = [[float(place == ord(text[0]) % 5) for place in range(5)] for text in texts]
        return {"data": [{"embedding": vector} for vector in order(made)]}

    return answer


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (vectors(lambda made: made), "passed"),
        (vectors(lambda made: made[::-1]), "failed"),
        (vectors(lambda made: made[:1] * len(made)), "failed"),
        (vectors(lambda made: made[:-1]), "failed"),
        ({"data": []}, "failed"),
    ],
)
def test_vectors_that_do_not_belong_to_their_texts(file, server, answer, outcome):
    server.says(answer)
    _, rows = file(server.url, {"embed": {}})("--live", "--case", "embed", "--model-for", "embed=m")
    assert rows["embed"]["outcome"] == outcome, rows["embed"]


@pytest.mark.parametrize(
    ("case", "answer", "outcome"),
    [
        ("embed_dimensions", {"data": [{"embedding": [0.5] * 64}]}, "passed"),
        ("embed_dimensions", {"data": [{"embedding": [0.5] * 65}]}, "failed"),
        ("rerank", {"results": [{"index": 1, "relevance_score": 2}, {"index": 0, "relevance_score": 1}, {"index": 2, "relevance_score": 0}]}, "passed"),
        ("rerank", {"results": [{"index": 0, "relevance_score": 2}, {"index": 1, "relevance_score": 1}, {"index": 2, "relevance_score": 0}]}, "failed"),
        ("image", {"data": [{"url": "https://x.example/a.png"}]}, "passed"),
        ("image", {"data": []}, "failed"),
        ("speech", {"audio": base64.b64encode(b"x" * 200).decode()}, "failed"),  # of no media type
        ("transcribe", {"text": "hm"}, "passed"),
        ("transcribe", {"words": []}, "failed"),
        ("moderate", {"results": [{"flagged": False}, {"flagged": False}]}, "failed"),
        ("complete", {"choices": [{"text": "five", "finish_reason": "stop"}]}, "passed"),
        ("complete", {"choices": [{"text": "", "finish_reason": "stop"}]}, "failed"),
    ],
)  # fmt: skip
def test_what_an_answer_must_have(file, server, case, answer, outcome):
    server.says(answer)
    kind = BY_NAME[case].kind
    _, rows = file(server.url, {kind: {}})("--live", "--case", case, "--model-for", f"{kind}=m")
    assert rows[case]["outcome"] == outcome, rows[case]


def test_a_refusal_of_dimensions_is_no_fault(file, server):
    server.says({"error": {"message": "dimensions are not possible"}}, 400)
    _, rows = file(server.url, {"embed": {}})("--live", "--case", "embed_dimensions", "--model-for", "embed=m")
    assert rows["embed_dimensions"]["outcome"] == "passed", rows


def test_which_model_is_for_what_is_said_well(file, tmp_path):
    file("http://127.0.0.1:1", {})
    for text in ("embed", "embed=", "talk=m"):
        done = commands.run("conformance", "mine.yaml", "--live", "--model-for", text, cwd=tmp_path, timeout=60)
        assert (done.returncode, "--model-for is KIND=MODEL" in done.stderr) == (2, True), done


def test_bytes_are_kept_as_they_are():
    assert readable_response(200, {}, b"\x89PNG\xff")["base64"] == "iVBOR/8="
    assert readable_response(200, {}, b"text")["text"] == "text"


def test_a_recording_makes_a_provider_one_that_is_asked():
    plan = suite.Plan("replay", (), recordings=suite.default_recordings())
    spec = Loader().get("compatible").spec()
    assert not BY_NAME["embed"].concerns(spec)
    assert plan.concerns(BY_NAME["embed"], spec)
    assert not plan.concerns(BY_NAME["count_tokens"], spec)
