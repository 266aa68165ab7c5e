"""Draws the spans of one real call as a tree: a request that fails and is sent again, one that is refused and changed, and an
answer that calls a tool. The tree in observability.md is what it prints.

    python docs/spans.py
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import prx
from prx.otel import Telemetry

FILE = """
spec: 1
id: example
extends: openai-chat
base_url: http://127.0.0.1:{port}/v1
retry: {{times: 1, wait: 0.2}}
"""
CALL = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}
ANSWERS = [
    (503, {"error": {"message": "overloaded"}}),
    (400, {"error": {"message": "Use 'max_completion_tokens' in place of 'max_tokens'."}}),
    (
        200,
        {
            "model": "model-2026-05",
            "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
            "choices": [{"index": 0, "message": {"tool_calls": [CALL]}, "finish_reason": "tool_calls"}],
        },
    ),
]
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}


class Handler(BaseHTTPRequestHandler):
    """Gives the answers, one after the other."""

    left: ClassVar = list(ANSWERS)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        status, body = self.left.pop(0)
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nothing: its lines would stand in the tree."""


def spans() -> list[ReadableSpan]:
    """The spans of the call."""
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    Handler.left = list(ANSWERS)
    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "example.yaml").write_text(FILE.format(port=server.server_address[1]), encoding="utf-8")
        with prx.Client({}, folder, env={}, on_event=Telemetry(tracer_provider=provider)) as client:
            client.chat("What is the weather in Oslo?", "example/model", tools=[TOOL], max_tokens=50)
    server.shutdown()
    server.server_close()
    return sorted(kept.get_finished_spans(), key=lambda span: span.start_time or 0)


def drawn(found: Iterable[ReadableSpan]) -> str:
    """The spans as a tree; times are milliseconds since the first one began."""
    rows = list(found)
    return "\n".join(_lines(rows, None, rows[0].start_time or 0, ""))


def _lines(rows: list[ReadableSpan], parent: int | None, zero: int, indent: str) -> Iterator[str]:
    for span in rows:
        if (span.parent.span_id if span.parent else None) != parent:
            continue
        begins, ends = ((at or zero) - zero for at in (span.start_time, span.end_time))
        yield f"{indent}{span.name}  {begins / 1e6:.0f} to {ends / 1e6:.0f} ms"
        yield from (f"{indent}│ {line}" for line in _facts(span.attributes or {}))
        for event in span.events:
            yield f"{indent}├ at {(event.timestamp - zero) / 1e6:.0f} ms: {event.name}  {_short(event.attributes or {})}"
        yield from _lines(rows, span.context.span_id if span.context else 0, zero, f"{indent}    ")


def _facts(attributes: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"{name} = {_value(value)}" for name, value in sorted(attributes.items()))


def _short(attributes: Mapping[str, Any]) -> str:
    return ", ".join(_facts(attributes))


def _value(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else ", ".join(value) if isinstance(value, tuple) else str(value)


if __name__ == "__main__":
    sys.stdout.write(drawn(spans()) + "\n")
