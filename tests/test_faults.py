"""What providers really answer when they refuse, and what each becomes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from playing import play

CASES = yaml.safe_load((Path(__file__).parent / "faults" / "chat.yaml").read_text())
MONSTERS = {"DEEP": '{"choices":' + "[" * 100_000, "DIGITS": '{"choices": ' + "9" * 5000 + "}"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
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


def test_an_error_prints_well():
    played = play({}, {}, [{"status": 404, "json": {"error": {"message": "The model `x` does not exist"}}}])
    assert str(played.error) == "played: 404: The model `x` does not exist"
    assert repr(played.error) == "NotFoundError('404: The model `x` does not exist', retryable=False)"


def test_a_key_that_the_provider_repeats_is_masked():
    for body in ({"text": "bad key sk-played-key"}, {"json": {"error": {"message": "bad key sk-played-key"}}}):
        played = play({}, {}, [{"status": 401, **body}])
        assert "sk-played-key" not in f"{played.error} {played.error!r} {vars(played.error)}"
        assert "bad key ***" in str(played.error)
