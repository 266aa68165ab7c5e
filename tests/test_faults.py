"""What providers really answer when they refuse, and what each becomes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import data_files
from helpers.driver_without_io import play

FILES = sorted((Path(__file__).parent / "faults").glob("*.yaml"))
CASES = [{**case, "file": file.stem} for file in FILES for case in data_files.read(file)]
MONSTERS = {"DEEP": '{"choices":' + "[" * 100_000, "DIGITS": '{"choices": ' + "9" * 5000 + "}"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['file']}: {case['name']}")
def test_fault(case):
    answer = {name: case[name] for name in ("status", "headers", "json", "text", "events", "received") if name in case}
    if "text" in answer:
        answer["text"] = MONSTERS.get(answer["text"], answer["text"])
    played = play(case.get("spec", {}), {"stream": case.get("stream", False)}, [answer], retries=0, fallbacks=())
    assert played.error is not None, played.reply
    view = played.view()["error"]
    assert {name: view[name] for name in case["error"]} == case["error"], json.dumps(view, indent=1)
    assert (view["partial"] or {}).get("content", "") == case.get("partial", "")
    assert len(played.requests) == 1


NO_ERRORS = [
    {"error": None}, {"error": ""}, {"error": {}}, {"error": []}, {"error": False}, {"error": {"message": ""}}, {"error": {"message": None, "type": None}},
    {"error": {"code": 0, "message": ""}}, {"error": {"code": "0", "message": "success"}}, {"error": {"code": 200, "message": "ok"}}, {"error": {"code": None}},
    {"errors": []}, {"errors": None}, {"code": 0}, {"code": "0"}, {"code": 200}, {"code": "200"}, {"code": "success"}, {"code": 0, "message": "success"},
    {"code": 200, "msg": "OK"}, {"code": 10000, "message": "success", "success": True}, {"success": True, "errors": [], "messages": []}, {"status": "success"},
    {"status": 200}, {"status_code": 200, "message": "ok"}, {"base_resp": {"status_code": 0, "status_msg": ""}}, {"message": ""}, {"detail": None},
]  # fmt: skip


@pytest.mark.parametrize("place", ["whole", "every event", "first event", "last event"])
@pytest.mark.parametrize("said", NO_ERRORS, ids=json.dumps)
def test_a_word_of_success_is_no_error(said, place):
    pieces = [
        {"choices": [{"delta": {"content": "hel"}}]},
        {"choices": [{"delta": {"content": "lo"}, "finish_reason": "stop"}]},
    ]
    events = {
        "every event": [{**piece, **said} for piece in pieces],
        "first event": [said, *pieces],
        "last event": [*pieces, {"choices": [], "usage": {"total_tokens": 3}, **said}],
    }
    whole = {"json": {"choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}], **said}}
    played = play(
        {},
        {"stream": place != "whole"},
        [whole if place == "whole" else {"events": [*events[place], "[DONE]"]}],
        retries=0,
    )
    assert played.error is None
    assert played.reply.content == "hello"


def test_what_is_wrapped_without_end_is_looked_into_for_a_while():
    body: dict = {"error": {"message": "deepest"}}
    for _ in range(30):
        body = {"error": {"message": "failed", "metadata": {"raw": body}}}
    played = play({}, {}, [{"status": 400, "json": body}], retries=0)
    assert played.error.kind == "bad_request"
    assert played.error.message == "failed"


def test_a_key_in_json_in_a_text_is_masked():
    inner = json.dumps({"error": {"message": "bad key sk-played-key"}}).replace("sk-", "\\u0073k-")
    played = play({}, {}, [{"status": 401, "json": {"error": {"message": "failed", "metadata": {"raw": inner}}}}])
    assert "bad key ***" in str(played.error)
    assert "sk-played-key" not in f"{played.error} {vars(played.error)}"


def test_an_error_prints_well():
    played = play({}, {}, [{"status": 404, "json": {"error": {"message": "The model `x` does not exist"}}}])
    assert str(played.error) == "played: 404: The model `x` does not exist"
    assert repr(played.error) == "NotFoundError('404: The model `x` does not exist', retryable=False)"


def test_a_key_that_the_provider_repeats_is_masked():
    for body in ({"text": "bad key sk-played-key"}, {"json": {"error": {"message": "bad key sk-played-key"}}}):
        played = play({}, {}, [{"status": 401, **body}])
        assert "sk-played-key" not in f"{played.error} {played.error!r} {vars(played.error)}"
        assert "bad key ***" in str(played.error)
