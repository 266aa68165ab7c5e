"""The spans of `prx serve --otel`, as a program of others receives, keeps and gives them back.

    pip install arize-phoenix && PHOENIX_PORT=6006 phoenix serve     # in an environment of its own: it brings much
    python tests/judges/otel_receiver.py http://127.0.0.1:6006

A call with a retry, a fallback and a tool is made through the service, and Phoenix, which takes OTLP, is asked what it has got.
"""

from __future__ import annotations

import json
import secrets
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from helpers.byte_server import RawServer, response
from helpers.served import CALLER, PROVIDER, Service

CONFIG = """
[serve]
keys = ["${{CALLER_KEY}}"]
[providers.up]
extends = "openai-chat"
api_url = "{url}"
api_key = "${{UP_KEY}}"
"""
CALLS = [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]
ANSWERS = [
    response(503, {"error": {"message": "overloaded"}}),
    response(400, {"error": {"message": "Use 'max_completion_tokens' in place of 'max_tokens'."}}),
    response(
        200,
        {
            "model": "m-2",
            "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
            "choices": [{"index": 0, "message": {"tool_calls": CALLS}, "finish_reason": "tool_calls"}],
        },
    ),
]


def called(receiver: str, trace: str) -> None:
    with tempfile.TemporaryDirectory() as folder, RawServer(*ANSWERS) as server:
        service = Service(
            Path(folder), CONFIG.format(url=server.url), "--otel",
            OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{receiver}/v1/traces", OTEL_METRICS_EXPORTER="none",
        )  # fmt: skip
        try:
            also = {"max_tokens": 5, "tools": [{"type": "function", "function": {"name": "weather", "parameters": {}}}]}
            answer = service.chat("up/m", also=also, traceparent=f"00-{trace}-b7ad6b7169203331-01")
            assert answer.status == 200, answer.text
        finally:
            service.stop()


def received(receiver: str, trace: str) -> list[dict]:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        with urllib.request.urlopen(f"{receiver}/v1/projects/default/spans?limit=1000") as answer:
            rows = [row for row in json.load(answer)["data"] if row["context"]["trace_id"] == trace]
        if len(rows) >= 5:
            return rows
        time.sleep(0.5)
    raise AssertionError(f"of 5 spans there are {len(rows)}")


def main(receiver: str) -> None:
    trace = secrets.token_hex(16)
    called(receiver, trace)
    rows = sorted(received(receiver, trace), key=lambda row: row["start_time"])
    by_name = {row["name"]: row for row in rows}
    outer, call = by_name["POST /v1/chat/completions"], by_name["chat m"]
    requests = [row for row in rows if row["name"] == "POST"]
    assert outer["parent_id"] == "b7ad6b7169203331"
    assert call["parent_id"] == outer["context"]["span_id"]
    assert [row["parent_id"] for row in requests] == [call["context"]["span_id"]] * 3
    assert [row["status_code"] for row in requests] == ["ERROR", "ERROR", "UNSET"]
    assert [event["name"] for event in call["events"]] == ["prx.retry", "prx.fallback", "prx.tool_call"]
    said = json.dumps(rows)
    assert CALLER not in said
    assert PROVIDER not in said
    for row in rows:
        sys.stdout.write(
            f"{row['name']:28} {row['span_kind']:8} {row['status_code']:6} {json.dumps(row['attributes'])}\n"
        )
    sys.stdout.write("5 spans received, as they were sent\n")


if __name__ == "__main__":
    main(sys.argv[1])
