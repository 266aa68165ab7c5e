"""Calls as spans and metrics of OpenTelemetry: what they say, and that they say it in the conventions' names."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from helpers.byte_server import DONE, HANG, RawServer, delta, response, stream
from helpers.served import Service
from helpers.told import FILE, KEY
from opentelemetry import context, trace
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import prx
from prx import otel
from prx.spec.loader import Loader

CONVENTIONS = yaml.safe_load((Path(__file__).parent / "otel_conventions.yaml").read_text())
BUSY = response(503, {"error": {"message": f"busy, {KEY}"}}, "x-request-id: r-1")
REFUSED = response(400, {"error": {"message": "no max_tokens"}})
USAGE = {
    "prompt_tokens": 11,
    "completion_tokens": 7,
    "total_tokens": 18,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
CALLS = [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}]
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]
ANSWER = response(
    200,
    {
        "model": "m-2",
        "usage": USAGE,
        "choices": [
            {"index": 0, "message": {"content": "looking", "tool_calls": CALLS}, "finish_reason": "tool_calls"}
        ],
    },
)


class Watch:
    """A telemetry whose spans and metrics are kept."""

    def __init__(self, **options):
        self.spans_kept, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.spans_kept))
        self.telemetry = otel.Telemetry(
            tracer_provider=self.provider, meter_provider=MeterProvider([self.reader]), **options
        )

    @property
    def spans(self):
        return sorted(self.spans_kept.get_finished_spans(), key=lambda span: span.start_time)

    @property
    def metrics(self):
        """{name: [(attributes, count, sum)]}."""
        data = self.reader.get_metrics_data()
        found = {}
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    rows = [(dict(point.attributes), point.count, point.sum) for point in metric.data.data_points]
                    found[metric.name] = rows
        return found

    @property
    def text(self):
        return "\n".join(span.to_json() for span in self.spans) + repr(self.metrics)


def ask(kind, folder, url, hook, *, streamed=False, pieces=None, config=None, model="seen/m", **options):
    (folder / "seen.yaml").write_text(FILE.format(url=url))
    settings = config or {"providers": {"seen": {"api_key": KEY}}}
    client = kind(settings, folder, env={}, on_event=hook)
    messages = options.pop("messages", "secret-words")

    async def main():
        async with client:
            if not streamed:
                return await client.chat(messages, model, **options)
            async with client.stream(messages, model, **options) as deltas:
                place = 0
                async for _ in deltas:
                    place += 1
                    if place == pieces:
                        return None
                return None

    if kind is prx.AsyncClient:
        return asyncio.run(main())
    with client:
        if not streamed:
            return client.chat(messages, model, **options)
        with client.stream(messages, model, **options) as deltas:
            for place, _ in enumerate(deltas, 1):
                if place == pieces:
                    break
    return None


both = pytest.mark.parametrize("kind", [prx.Client, prx.AsyncClient])


# ------------------------------------------------------------------ spans


@both
def test_a_call_with_a_retry_a_fallback_and_a_tool(kind, tmp_path):
    watch = Watch()
    with RawServer(BUSY, REFUSED, ANSWER) as server:
        ask(kind, tmp_path, server.url, watch.telemetry, tools=TOOLS, max_tokens=5, temperature=0.5, n=1)
    call, *requests = watch.spans
    assert (call.name, call.kind, call.parent, call.status.status_code) == (
        "chat m",
        SpanKind.CLIENT,
        None,
        StatusCode.UNSET,
    )
    assert dict(call.attributes) == {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "seen", "gen_ai.request.model": "m",
        "gen_ai.request.max_tokens": 5, "gen_ai.request.temperature": 0.5, "gen_ai.response.model": "m-2",
        "gen_ai.response.finish_reasons": ("tool_calls",), "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 7, "gen_ai.usage.cache_read.input_tokens": 4, "gen_ai.usage.reasoning.output_tokens": 2, "server.address": "127.0.0.1",
        "server.port": server.port, "prx.attempts": 3, "prx.fallbacks": ("shorter",),
    }  # fmt: skip
    retry, fallback, tool = call.events
    assert (retry.name, retry.attributes["error.type"], retry.attributes["http.response.status_code"]) == (
        "prx.retry",
        "server",
        503,
    )
    assert retry.attributes["prx.wait"] > 0
    assert (fallback.name, dict(fallback.attributes)) == (
        "prx.fallback", {"error.type": "bad_request", "http.response.status_code": 400, "prx.fallback": "shorter"},
    )  # fmt: skip
    assert (tool.name, dict(tool.attributes)) == (
        "prx.tool_call",
        {"gen_ai.tool.name": "weather", "gen_ai.tool.call.id": "c1"},
    )
    assert [span.name for span in requests] == ["POST"] * 3
    assert all(span.parent.span_id == call.context.span_id for span in requests)
    assert [span.attributes["http.response.status_code"] for span in requests] == [503, 400, 200]
    assert [span.attributes.get("error.type") for span in requests] == ["503", "400", None]
    assert [span.attributes.get("http.request.resend_count") for span in requests] == [None, 1, 2]
    assert [span.attributes.get("prx.fallbacks") for span in requests] == [None, None, ("shorter",)]
    assert {span.attributes["url.full"] for span in requests} == {f"{server.url}/chat/completions"}
    assert requests[0].end_time <= requests[1].start_time <= requests[1].end_time <= requests[2].start_time
    assert call.start_time <= requests[0].start_time
    assert call.end_time >= requests[2].end_time


@both
def test_a_stream(kind, tmp_path):
    watch = Watch()
    with RawServer(stream(delta("a"), 0.05, delta("b", "stop"), DONE)) as server:
        ask(kind, tmp_path, server.url, watch.telemetry, streamed=True)
    call, _ = watch.spans
    assert call.attributes["gen_ai.request.stream"] is True
    first = call.attributes["gen_ai.response.time_to_first_chunk"]
    assert 0 < first < (call.end_time - call.start_time) / 1e9 - 0.03
    ((facts, count, total),) = watch.metrics["gen_ai.client.operation.time_to_first_chunk"]
    assert (count, total) == (1, first)
    assert "gen_ai.request.stream" not in facts


@both
def test_a_stream_that_is_left_is_no_error(kind, tmp_path):
    watch = Watch()
    with RawServer(stream(delta("a"), HANG)) as server:
        ask(kind, tmp_path, server.url, watch.telemetry, streamed=True, pieces=1)
    call, request = watch.spans
    assert (call.status.status_code, call.attributes["prx.closed"]) == (StatusCode.UNSET, True)
    assert request.status.status_code is StatusCode.UNSET


@both
def test_an_error(kind, tmp_path):
    watch = Watch()
    with RawServer(response(401, {"error": {"message": f"wrong key {KEY}"}})) as server, pytest.raises(prx.AuthError):
        ask(kind, tmp_path, server.url, watch.telemetry)
    call, request = watch.spans
    assert (call.status.status_code, call.status.description) == (StatusCode.ERROR, "auth, HTTP 401")
    assert (call.attributes["error.type"], request.attributes["error.type"]) == ("auth", "401")
    ((facts, count, _),) = watch.metrics["gen_ai.client.operation.duration"]
    assert (facts["error.type"], count) == ("auth", 1)


def test_nobody_is_there(tmp_path):
    watch = Watch()
    with pytest.raises(prx.ProviderConnectionError):
        ask(prx.Client, tmp_path, "http://127.0.0.1:1/v1", watch.telemetry, retries=0)
    call, request = watch.spans
    assert (call.attributes["error.type"], request.attributes["error.type"]) == ("connection", "connection")


def test_nothing_is_sent(tmp_path):
    watch = Watch()
    with pytest.raises(prx.ConfigError):
        ask(prx.Client, tmp_path, "http://127.0.0.1:1/v1", watch.telemetry, stop=object())
    (call,) = watch.spans
    assert (call.attributes["error.type"], call.attributes["prx.attempts"]) == ("config", 0)


def test_the_next_target(tmp_path):
    watch = Watch()
    with RawServer(BUSY) as first, RawServer(response()) as second:
        providers = {
            name: {"extends": "openai-chat", "api_url": url, "retries": 0, "api_key": KEY}
            for name, url in (("one", first.url), ("two", second.url))
        }
        config = {"providers": providers, "model_routes": [{"pattern": "fast", "targets": ["one/m", "two/n"]}]}
        ask(prx.Client, tmp_path, first.url, watch.telemetry, config=config, model="fast")
    call, *requests = watch.spans
    (fallback,) = call.events
    assert (fallback.attributes["prx.target"], fallback.attributes["error.type"]) == ("two/n", "server")
    assert (call.attributes["gen_ai.provider.name"], call.attributes["server.port"]) == ("two", second.port)
    assert [span.attributes["server.port"] for span in requests] == [first.port, second.port]


def test_the_conventions_name_of_a_provider(tmp_path):
    """Where the file says one; without, its id. A file that extends another has its own."""
    (tmp_path / "named.yaml").write_text("spec: 1\nid: named\nextends: seen\ntelemetry_name: other.name\n")
    (tmp_path / "below.yaml").write_text("spec: 1\nid: below\nextends: named\n")
    found = []
    for name in ("seen", "named", "below"):
        watch = Watch()
        with RawServer() as server:
            ask(prx.Client, tmp_path, server.url, watch.telemetry, model=f"{name}/m", config={})
        (facts, *_), *_ = watch.metrics["gen_ai.client.operation.duration"]
        assert facts["gen_ai.provider.name"] == watch.spans[0].attributes["gen_ai.provider.name"]
        found.append(facts["gen_ai.provider.name"])
    assert found == ["seen", "other.name", "below"]


def test_packaged_providers_have_the_names_that_the_conventions_list():
    names = {entry.id: Loader().load(entry).spec().telemetry_name or entry.id for entry in Loader().entries()}
    listed = {*CONVENTIONS["providers"]}
    said = {name for name in names.values() if name in listed}
    assert listed - said == {"gcp.gen_ai", "azure.ai.inference"}  # the first is for a Google endpoint that is not known
    assert {name for identity, name in names.items() if name != identity} <= listed


def test_other_kinds(tmp_path):
    watch = Watch()
    vectors = {"model": "e", "data": [{"index": 0, "embedding": [0.5]}], "usage": {"prompt_tokens": 2}}
    with RawServer(response(200, vectors)) as server:
        (tmp_path / "seen.yaml").write_text(FILE.format(url=server.url))
        with prx.Client({}, tmp_path, env={}, on_event=watch.telemetry) as client:
            client.embed("hi", "seen/e")
    call = watch.spans[0]
    assert (call.name, call.attributes["gen_ai.operation.name"]) == ("embeddings e", "embeddings")
    assert call.attributes["gen_ai.usage.input_tokens"] == 2


@both
def test_a_tool_that_is_run(kind, tmp_path):
    """With what it makes spans of itself below it, in both clients and also where it runs in a thread."""
    watch = Watch()
    tracer = watch.provider.get_tracer("program")

    def weather(city: str) -> str:
        with tracer.start_as_current_span("looked up"):
            raise LookupError(city)

    with RawServer(ANSWER, response()) as server, tracer.start_as_current_span("mine") as mine:
        (tmp_path / "seen.yaml").write_text(FILE.format(url=server.url))
        client = kind({}, tmp_path, env={}, on_event=watch.telemetry)
        if kind is prx.Client:
            client.run_tools("hi", "seen/m", tools=[prx.tool(weather)])
        else:

            async def main():
                async with client:
                    await client.run_tools("hi", "seen/m", tools=[prx.tool(weather)])

            asyncio.run(main())
    named = {span.name: span for span in watch.spans}
    tool, inner = named["execute_tool weather"], named["looked up"]
    assert (tool.kind, tool.parent.span_id) == (SpanKind.INTERNAL, mine.get_span_context().span_id)
    assert dict(tool.attributes) == {
        "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "weather", "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": "c1", "error.type": "LookupError",
    }  # fmt: skip
    assert inner.parent.span_id == tool.context.span_id
    assert [span.name for span in watch.spans if span.parent and span.parent.span_id == mine.get_span_context().span_id] == [
        "chat m", "execute_tool weather", "chat m",
    ]  # fmt: skip
    ((facts, count, _),) = watch.metrics["gen_ai.execute_tool.duration"]
    assert (facts["error.type"], count) == ("LookupError", 1)


# ------------------------------------------------------------------ the trace's context


@both
def test_the_context_comes_from_the_program_and_goes_to_the_provider(kind, tmp_path):
    watch = Watch()
    tracer = watch.provider.get_tracer("program")
    with RawServer(BUSY, response()) as server, tracer.start_as_current_span("mine") as mine:
        ask(kind, tmp_path, server.url, watch.telemetry)
    call = next(span for span in watch.spans if span.name == "chat m")
    requests = [span for span in watch.spans if span.name == "POST"]
    assert call.parent.span_id == mine.get_span_context().span_id
    for sent, span in zip(server.requests, requests, strict=True):
        trace_id, span_id = f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"
        assert sent["headers"]["traceparent"] == f"00-{trace_id}-{span_id}-{span.context.trace_flags:02x}"
    assert mine.get_span_context().trace_id == call.context.trace_id


def test_the_context_is_kept_from_providers_where_that_is_wanted_and_baggage_always(tmp_path):
    from opentelemetry import baggage

    token = context.attach(baggage.set_baggage("user", "secret-words"))
    try:
        with RawServer() as server:
            ask(prx.Client, tmp_path, server.url, Watch().telemetry)
            ask(prx.Client, tmp_path, server.url, Watch(propagate=False).telemetry)
    finally:
        context.detach(token)
    first, second = [request["headers"] for request in server.requests]
    assert "traceparent" in first
    assert not {"traceparent", "baggage"} & second.keys()
    assert "baggage" not in first


def test_without_an_sdk_nothing_is_sent_and_nothing_breaks(tmp_path):
    telemetry = otel.Telemetry(tracer_provider=trace.NoOpTracerProvider())
    with RawServer() as server:
        assert ask(prx.Client, tmp_path, server.url, telemetry).content == "hello"
    assert "traceparent" not in server.requests[0]["headers"]


# ------------------------------------------------------------------ metrics


def test_metrics(tmp_path):
    watch = Watch()
    with RawServer(BUSY, ANSWER) as server:
        ask(prx.Client, tmp_path, server.url, watch.telemetry)
    shared = {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "seen", "gen_ai.request.model": "m",
        "gen_ai.response.model": "m-2", "server.address": "127.0.0.1", "server.port": server.port,
    }  # fmt: skip
    ((facts, count, seconds),) = watch.metrics["gen_ai.client.operation.duration"]
    assert (facts, count) == (shared, 1)
    assert 0 < seconds < 10
    tokens = {
        facts["gen_ai.token.type"]: (facts, total) for facts, _, total in watch.metrics["gen_ai.client.token.usage"]
    }
    assert tokens == {
        "input": (shared | {"gen_ai.token.type": "input"}, 11), "output": (shared | {"gen_ai.token.type": "output"}, 7),
    }  # fmt: skip


# ------------------------------------------------------------------ what is said, and what is not

CONVERSATION = [
    {"role": "system", "content": f"be brief, {KEY}"},
    {"role": "user", "content": [{"type": "text", "text": "weather?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
    {"role": "assistant", "tool_calls": CALLS},
    {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
]  # fmt: skip


def test_content_where_it_is_asked_for(tmp_path):
    watch = Watch(capture_content=True)
    with RawServer(ANSWER) as server:
        ask(prx.Client, tmp_path, server.url, watch.telemetry, messages=CONVERSATION, tools=TOOLS)
    said = {name: json.loads(watch.spans[0].attributes[name]) for name in CONVENTIONS["content"]}
    assert said == {
        "gen_ai.system_instructions": [{"type": "text", "content": "be brief, ***"}],
        "gen_ai.input.messages": [
            {"role": "user", "parts": [{"type": "text", "content": "weather?"}, {"type": "image_url"}]},
            {"role": "assistant", "parts": [{"type": "tool_call", "id": "c1", "name": "weather", "arguments": {"city": "Oslo"}}]},
            {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "sunny"}]},
        ],
        "gen_ai.output.messages": [
            {
                "role": "assistant", "finish_reason": "tool_call",
                "parts": [
                    {"type": "text", "content": "looking"},
                    {"type": "tool_call", "id": "c1", "name": "weather", "arguments": {"city": "Oslo"}},
                ],
            }
        ],
        "gen_ai.tool.definitions": [{"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}],
    }  # fmt: skip
    assert KEY not in watch.text


@pytest.mark.parametrize(
    ("variable", "wanted"), [("true", True), ("SPAN_ONLY", True), ("false", False), ("event_only", False), ("", False)]
)
def test_the_variable_of_the_conventions_asks_for_it(variable, wanted, monkeypatch):
    monkeypatch.setenv(otel.CAPTURE, variable)
    assert otel.Telemetry().wants_content is wanted
    assert otel.Telemetry(capture_content=False).wants_content is False


@both
@pytest.mark.parametrize("capture", [False, True])
def test_no_key_is_in_any_span_and_no_word_unless_asked(kind, capture, tmp_path):
    watch = Watch(capture_content=capture)
    said = response(500, {"error": {"message": f"you said secret-words with {KEY}"}}, f"x-request-id: {KEY}")
    with RawServer(said) as server, pytest.raises(prx.ServerError):
        ask(kind, tmp_path, f"{server.url}/{KEY}", watch.telemetry)
    assert len(watch.spans) == 4
    assert KEY not in watch.text
    assert ("secret-words" in watch.text) is capture
    if capture:
        assert watch.spans[0].status.description == "you said secret-words with ***"


# ------------------------------------------------------------------ the conventions


def test_all_names_and_types_are_those_of_the_conventions(tmp_path):
    """Of every attribute that any span or metric of these calls has; tests/otel_conventions.yaml says where it is from."""
    watch = Watch(capture_content=True)
    with RawServer(BUSY, REFUSED, ANSWER) as server:
        numbers = {
            "temperature": 1,
            "top_p": 1,
            "top_k": 3,
            "max_tokens": 5,
            "seed": 3,
            "frequency_penalty": 0,
            "presence_penalty": 0,
        }
        ask(prx.Client, tmp_path, server.url, watch.telemetry, messages=CONVERSATION, tools=TOOLS, n=2, **numbers)
    with RawServer(stream(delta("a"), delta("b", "stop"), DONE)) as server:
        ask(prx.Client, tmp_path, server.url, watch.telemetry, streamed=True)
    kinds = {"string": str, "int": int, "double": float, "boolean": bool, "string[]": tuple}
    known = CONVENTIONS["attributes"]
    seen = set()
    for span in watch.spans:
        rows = [span.attributes, *(event.attributes for event in span.events)]
        for name, value in ((name, value) for row in rows for name, value in row.items()):
            if not name.startswith("prx."):
                assert type(value) is kinds[known[name]], name
                seen.add(name)
    assert known.keys() - seen == {
        "url.path",
        "url.scheme",
        "http.route",
        "gen_ai.tool.type",
    }  # of a service and of tools
    for kind in ("chat m", "POST"):
        span = next(span for span in watch.spans if span.name == kind)
        assert {*CONVENTIONS["required"][kind]} <= span.attributes.keys()
    assert watch.metrics.keys() == CONVENTIONS["metrics"].keys()
    for name, rows in watch.metrics.items():
        for facts, *_ in rows:
            assert (
                {*CONVENTIONS["metrics"][name]["required"]}
                <= facts.keys()
                <= {*CONVENTIONS["metrics"][name]["attributes"]}
            )
    units = {metric.name: metric.unit for metric in _metrics(watch.reader)}
    assert units == {name: row["unit"] for name, row in CONVENTIONS["metrics"].items()}


def _metrics(reader):
    return [
        metric
        for resource in reader.get_metrics_data().resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    ]


# ------------------------------------------------------------------ the service, and a receiver of OTLP


class Receiver:
    """Takes what is exported by OTLP over HTTP, read by OpenTelemetry's own types of the protocol."""

    def __enter__(self):
        self.spans, self.metrics, self.resources = [], [], []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    import gzip

                    body = gzip.decompress(body)
                receiver.take(self.path, body)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def take(self, path, body):
        if path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resources.append({row.key: row.value.string_value for row in resource.resource.attributes})
                self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        elif path == "/v1/metrics":
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                self.metrics += [metric.name for scope in resource.scope_metrics for metric in scope.metrics]


CONFIG = """
[serve]
keys = ["${{CALLER_KEY}}"]
{more}
[providers.up]
extends = "openai-chat"
api_url = "{url}"
api_key = "${{UP_KEY}}"
"""
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("more", "arguments"), [("", ("--otel",)), ("otel = true", ()), ("otel = true", ("--workers", "2"))]
)
def test_a_service_exports_its_requests_and_calls_below_the_callers_span(more, arguments, tmp_path):
    with Receiver() as receiver, RawServer(response(503), stream(delta("hello", "stop"), DONE)) as server:
        service = Service(
            tmp_path, CONFIG.format(url=server.url, more=more), *arguments, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url
        )
        try:
            answer = service.chat("up/m", stream=True, traceparent=f"00-{TRACE}-{PARENT}-01")
            assert answer.status == 200
            assert service.get("/v1/nothing-here").status == 404
        finally:
            service.stop()
        sent = [request["headers"] for request in server.requests]
        log = service.log.read_text()
    named = {span.name: span for span in receiver.spans if span.trace_id.hex() == TRACE}
    requests = [span for span in receiver.spans if span.name == "POST" and span.trace_id.hex() == TRACE]
    outer, call = named["POST /v1/chat/completions"], named["chat m"]
    assert outer.parent_span_id.hex() == PARENT
    assert (outer.kind, call.kind) == (SpanKind.SERVER.value + 1, SpanKind.CLIENT.value + 1)
    assert call.parent_span_id == outer.span_id
    assert {span.parent_span_id for span in requests} == {call.span_id}
    assert [headers["traceparent"] for headers in sent] == [f"00-{TRACE}-{span.span_id.hex()}-01" for span in requests]
    facts = {row.key: row.value for row in outer.attributes}
    assert (facts["http.response.status_code"].int_value, facts["http.route"].string_value) == (
        200,
        "/v1/chat/completions",
    )
    assert any(span.name == "GET" for span in receiver.spans)  # of the path that is not there
    assert {resource["service.name"] for resource in receiver.resources} == {"prx"}
    assert {"gen_ai.client.operation.duration", "gen_ai.client.operation.time_to_first_chunk"} <= {*receiver.metrics}
    assert "Traceback" not in log


def test_a_receiver_that_is_not_there_holds_up_no_call_and_the_end_for_seconds_only(tmp_path):
    with RawServer(response()) as server:
        service = Service(
            tmp_path,
            CONFIG.format(url=server.url, more="otel = true"),
            OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1",
        )
        try:
            began = time.monotonic()
            assert service.chat("up/m").status == 200
            assert time.monotonic() - began < 3
            began = time.monotonic()
        finally:
            service.stop()
    assert service.process.returncode == 0
    assert time.monotonic() - began < 8
    assert "Traceback" not in service.log.read_text()


def test_a_telemetry_of_the_program_in_an_app_of_its_own(tmp_path):
    pytest.importorskip("uvicorn")
    from prx.serve import App

    watch = Watch()

    async def main(url):
        client = prx.AsyncClient({"providers": {"up": {"extends": "openai-chat", "api_url": url}}}, env={})
        app = App(client, otel=watch.telemetry)
        body = json.dumps({"model": "up/m", "messages": [{"role": "user", "content": "hi"}]}).encode()
        sent, coming = [], [{"type": "http.request", "body": body, "more_body": False}]

        async def receive():
            if coming:
                return coming.pop()
            await asyncio.sleep(10)
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/chat/completions",
            "query_string": b"",
            "headers": headers,
        }
        await app(scope, receive, send)
        await client.aclose()
        return sent

    with RawServer() as server:
        sent = asyncio.run(main(server.url))
    assert sent[0]["status"] == 200
    outer, call, request = watch.spans
    assert (outer.name, call.name, request.name) == ("POST /v1/chat/completions", "chat m", "POST")
    assert (call.parent.span_id, request.parent.span_id) == (outer.context.span_id, call.context.span_id)


# ------------------------------------------------------------------ the page


def test_the_tree_in_the_page_is_what_its_script_draws():
    """But for times, the port and the length of the pause."""
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "docs/spans.py"], cwd=root, capture_output=True, text=True, check=True)
    page = (root / "docs" / "observability.md").read_text()
    (tree,) = re.findall(r"```text\n(chat model .*?)\n```", page, re.DOTALL)

    def without_numbers(text):
        return re.sub(
            r"\d+(?= ms| to )|(?<=127\.0\.0\.1:)\d+|(?<=server\.port = )\d+|(?<=prx\.wait = )[\d.]+", "", text.strip()
        )

    assert without_numbers(tree) == without_numbers(done.stdout)
