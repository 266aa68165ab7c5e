"""Calls as spans and metrics of OpenTelemetry, by the names of its conventions for generative AI.

    client = prx.Client(on_event=prx.otel.Telemetry())

It is a hook like any other, and uses what the program has set up with OpenTelemetry's SDK; `exporting` sets that up for
`prx serve`. A span of a call has a span of each of its requests below it; fallbacks, retries and tools are its events. No
prompt and no answer is in it unless that is asked for, and no key ever.

The conventions: https://github.com/open-telemetry/semantic-conventions-genai (as of 2026), and those for HTTP.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from opentelemetry import context as contexts
from opentelemetry import metrics, propagate, trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from prx import events
from prx.errors import ConfigError
from prx.otel_content import contents

CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_CAPTURES = ("true", "1", "span_only", "span_and_event")
SCHEMA = "https://opentelemetry.io/schemas/1.44.0"
# The conventions' name of an operation; a kind of call that they have none for goes by its own.
_OPERATIONS = {"chat": "chat", "embed": "embeddings", "complete": "text_completion"}
_NUMBERS = {  # a parameter of a call: its attribute, and the attribute's type
    "temperature": ("gen_ai.request.temperature", float), "top_p": ("gen_ai.request.top_p", float),
    "top_k": ("gen_ai.request.top_k", float), "max_tokens": ("gen_ai.request.max_tokens", int),
    "max_completion_tokens": ("gen_ai.request.max_tokens", int), "seed": ("gen_ai.request.seed", int),
    "n": ("gen_ai.request.choice.count", int), "frequency_penalty": ("gen_ai.request.frequency_penalty", float),
    "presence_penalty": ("gen_ai.request.presence_penalty", float),
}  # fmt: skip
_USAGE = {
    "prompt_tokens": "gen_ai.usage.input_tokens", "completion_tokens": "gen_ai.usage.output_tokens",
    "cached_tokens": "gen_ai.usage.cache_read.input_tokens", "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
}  # fmt: skip
_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS = tuple(4**power for power in range(14))
_LAST_SECONDS = 3.0  # for what has not been sent when a service ends
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
_TRACE = TraceContextTextMapPropagator()


class _Call:
    """A call that runs: its span, that of its last request, and what its metrics are to say."""

    def __init__(self, began: events.Began) -> None:
        self.began = began
        self.at = time.time_ns()
        self.parent = contexts.get_current()
        self.span: trace.Span | None = None
        self.request: trace.Span | None = None
        self.facts: dict[str, Any] = {}  # attributes that span and metrics share


class Telemetry:
    """A hook that makes spans and metrics of calls.

    capture_content   prompts and answers, too, with keys masked; None: as the environment variable
                      OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT says
    propagate         send the trace's context to providers, as the headers traceparent and tracestate
    tracer_provider, meter_provider   of the SDK; without them, those that the program has set for all
    """

    def __init__(
        self,
        *,
        capture_content: bool | None = None,
        propagate: bool = True,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        asked = os.environ.get(CAPTURE, "").strip().lower() in _CAPTURES
        self.wants_content = asked if capture_content is None else capture_content
        self.close: Callable[[], None] = lambda: None  # hands on what has not been sent yet
        self._propagate = propagate
        self._tracer = trace.get_tracer("prx", "0.1", tracer_provider, SCHEMA)
        meter = metrics.get_meter("prx", "0.1", meter_provider, SCHEMA)
        self._duration = meter.create_histogram(
            "gen_ai.client.operation.duration", "s", "Time that a call takes",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )  # fmt: skip
        self._first = meter.create_histogram(
            "gen_ai.client.operation.time_to_first_chunk", "s", "Time to the first piece of a stream",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )  # fmt: skip
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage", "{token}", "Tokens of a call", explicit_bucket_boundaries_advisory=_TOKENS
        )
        self._tool_time = meter.create_histogram(
            "gen_ai.execute_tool.duration", "s", "Time that a tool runs", explicit_bucket_boundaries_advisory=_SECONDS
        )
        self._calls: dict[int, _Call] = {}
        self._tools: dict[int, tuple[trace.Span, Any]] = {}

    def __call__(self, event: Any) -> Mapping[str, str] | None:
        alone = _ALONE.get(type(event))
        if alone is not None:
            alone(self, event)
            return None
        call = self._calls.get(event.call)
        look = _EVENTS.get(type(event))
        return look(self, call, event) if call is not None and look is not None else None

    # -------------------------------------------------------------- a tool

    def _tool_started(self, event: events.ToolStarted) -> None:
        """Begin the span of a tool; what the tool itself makes spans of stands below it."""
        named = {**_facts(event), **({"gen_ai.tool.call.id": event.id} if event.id else {})}
        span = self._tracer.start_span(f"execute_tool {event.name}", None, trace.SpanKind.INTERNAL, named)
        self._tools[event.call] = span, contexts.attach(trace.set_span_in_context(span))

    def _tool_returned(self, event: events.ToolReturned) -> None:
        if event.call not in self._tools:  # it began before this hook was there
            return
        span, token = self._tools.pop(event.call)
        contexts.detach(token)
        facts = _facts(event)
        if event.error:
            facts["error.type"] = event.error
            _fail(span, event.error)
        span.end()
        self._tool_time.record(event.seconds, facts, trace.set_span_in_context(span))

    # -------------------------------------------------------------- a call

    def _began(self, event: events.Began) -> None:
        self._calls[event.call] = _Call(event)

    def _begin(self, call: _Call, known: Mapping[str, Any]) -> trace.Span:
        """Begin the span of a call: with its first request, as a sampler looks at what is only known then."""
        began = call.began
        operation = _OPERATIONS.get(began.kind, began.kind)
        model = known.get("gen_ai.request.model") or began.model
        call.facts = {"gen_ai.operation.name": operation, "gen_ai.request.model": model, **known}
        numbers = {
            attribute: kind(began.numbers[name])
            for name, (attribute, kind) in _NUMBERS.items()
            if name in began.numbers and (name, began.numbers[name]) != ("n", 1)
        }
        call.span = self._tracer.start_span(
            f"{operation} {model}".strip(), call.parent, trace.SpanKind.CLIENT,
            {**{name: value for name, value in call.facts.items() if value}, **numbers}, start_time=call.at,
        )  # fmt: skip
        return call.span

    def _sent(self, call: _Call, event: events.Sent) -> Mapping[str, str] | None:
        address = _address(event.url)
        known = {"gen_ai.provider.name": event.telemetry_name, "gen_ai.request.model": event.model, **address}
        if call.span is None:
            span = self._begin(call, {**known, **({"gen_ai.request.stream": True} if event.stream else {})})
            call.facts.pop("gen_ai.request.stream", None)
        else:
            self._end_request(call)
            call.facts |= known
            span = call.span
            span.set_attributes(known)
        here = trace.set_span_in_context(span, call.parent)
        call.request = self._tracer.start_span(
            event.method, here, trace.SpanKind.CLIENT,
            {
                "http.request.method": event.method, "url.full": event.url, "prx.dialect": event.dialect, **address,
                **({"http.request.resend_count": event.attempt - 1} if event.attempt > 1 else {}),
                **({"prx.fallbacks": event.fallbacks} if event.fallbacks else {}),
            },
        )  # fmt: skip
        headers: dict[str, str] = {}
        if self._propagate:
            # The propagator of traces alone: baggage is the program's own, and no provider's business.
            _TRACE.inject(headers, trace.set_span_in_context(call.request, here))
        return headers

    def _responded(self, call: _Call, event: events.Responded) -> None:
        if call.request is not None:
            call.request.set_attribute("http.response.status_code", event.status)
            if event.request_id:
                call.request.set_attribute("prx.request_id", event.request_id)
            if event.status >= 400:
                _fail(call.request, str(event.status))

    def _failed(self, call: _Call, event: events.Retried | events.FellBack) -> None:
        """A request has failed, and another one follows."""
        words = event.content if self.wants_content else None
        self._end_request(call, event.error, event.status, words)
        if call.span is None:
            return
        facts: dict[str, Any] = {"error.type": event.error}
        if event.status:
            facts["http.response.status_code"] = event.status
        if isinstance(event, events.Retried):
            call.span.add_event("prx.retry", {**facts, "prx.wait": event.wait})
        else:
            kind = "target" if event.target else "fallback"
            call.span.add_event("prx.fallback", {**facts, f"prx.{kind}": event.to})

    def _first_output(self, call: _Call, event: events.FirstOutput) -> None:
        if call.span is not None:
            call.span.set_attribute("gen_ai.response.time_to_first_chunk", event.seconds)

    def _tool_named(self, call: _Call, event: events.ToolNamed) -> None:
        if call.span is not None:
            facts = {"gen_ai.tool.name": event.name, "gen_ai.tool.call.id": event.id}
            call.span.add_event("prx.tool_call", {name: value for name, value in facts.items() if value})

    def _ended(self, call: _Call, event: events.Ended) -> None:
        del self._calls[event.call]
        span = call.span or self._begin(call, {"gen_ai.provider.name": event.provider})
        closed = event.error == events.CLOSED
        self._end_request(call, "" if closed else event.error, event.status)
        if event.model and not event.error:
            call.facts["gen_ai.response.model"] = event.model
        usage = event.usage
        counts = {name: getattr(usage, field) for field, name in _USAGE.items()} if usage is not None else {}
        span.set_attributes(
            {
                **{name: count for name, count in counts.items() if count is not None},
                **({"gen_ai.response.model": event.model} if event.model and not event.error else {}),
                **({"gen_ai.response.finish_reasons": (event.finish_reason,)} if event.finish_reason else {}),
                **({"prx.fallbacks": event.fallbacks} if event.fallbacks else {}),
                **({"prx.closed": True} if closed else {}), "prx.attempts": event.attempts,
            }
        )  # fmt: skip
        words = None
        if self.wants_content:
            stated, words = contents(call.began.content or {}, event.content, event.finish_reason, event.hide)
            span.set_attributes(stated)
        if event.error and not closed:
            _fail(span, event.error, event.status, words)
        span.end()
        self._measure(call, event, "" if closed else event.error, counts, trace.set_span_in_context(span, call.parent))

    def _measure(
        self, call: _Call, event: events.Ended, error: str, counts: Mapping[str, int | None], here: contexts.Context
    ) -> None:
        facts = {name: value for name, value in call.facts.items() if value}
        self._duration.record(event.seconds, {**facts, **({"error.type": error} if error else {})}, here)
        if event.first_output is not None:
            self._first.record(event.first_output, facts, here)
        for kind in ("input", "output"):
            count = counts.get(f"gen_ai.usage.{kind}_tokens")
            if count is not None:
                self._tokens.record(count, {**facts, "gen_ai.token.type": kind}, here)

    @staticmethod
    def _end_request(call: _Call, error: str = "", status: int | None = None, words: str | None = None) -> None:
        if call.request is not None:
            if error:
                _fail(call.request, str(status) if status and status >= 400 else error, words=words)
            call.request.end()
            call.request = None

    # -------------------------------------------------------------- a service

    @contextmanager
    def serving(
        self, method: str, scheme: str, path: str, headers: Mapping[str, str]
    ) -> Iterator[Callable[[int, str], None]]:
        """The span of a request that a service answers, below the caller's own where its headers name one. Gives what is to be
        called with the status of the answer, 0 for none, and the route.
        """
        method = method if method in _METHODS else "_OTHER"
        name = "HTTP" if method == "_OTHER" else method
        span = self._tracer.start_span(
            name, propagate.extract(headers), trace.SpanKind.SERVER,
            {"http.request.method": method, "url.path": path[:200], "url.scheme": scheme},
        )  # fmt: skip

        def answered(status: int, route: str) -> None:
            if route:
                span.update_name(f"{name} {route}")
                span.set_attribute("http.route", route)
            if status:
                span.set_attribute("http.response.status_code", status)
            if status >= 500:
                _fail(span, str(status))

        token = contexts.attach(trace.set_span_in_context(span))
        try:
            yield answered
        finally:
            contexts.detach(token)
            span.end()


# Those that are of no call that runs.
_ALONE: dict[type, Callable[[Telemetry, Any], None]] = {
    events.Began: Telemetry._began, events.ToolStarted: Telemetry._tool_started,  # noqa: SLF001
    events.ToolReturned: Telemetry._tool_returned,  # noqa: SLF001 - of the class above
}  # fmt: skip
_EVENTS: dict[type, Callable[[Telemetry, _Call, Any], Any]] = {
    events.Sent: Telemetry._sent, events.Responded: Telemetry._responded, events.Retried: Telemetry._failed,  # noqa: SLF001
    events.FellBack: Telemetry._failed, events.FirstOutput: Telemetry._first_output,  # noqa: SLF001
    events.ToolNamed: Telemetry._tool_named, events.Ended: Telemetry._ended,  # noqa: SLF001 - of the class above
}  # fmt: skip


def _facts(event: events.ToolStarted | events.ToolReturned) -> dict[str, Any]:
    """What span and metric of a tool share."""
    return {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": event.name, "gen_ai.tool.type": "function"}


def _fail(span: trace.Span, error: str, status: int | None = None, words: str | None = None) -> None:
    """The span is one of a failure. words: of the provider, where they may be shown."""
    span.set_attribute("error.type", error)
    said = words or (f"{error}, HTTP {status}" if status else None)
    span.set_status(trace.Status(trace.StatusCode.ERROR, said))


def _address(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    return {"server.address": parts.hostname, "server.port": port} if parts.hostname and port else {}


def exporting() -> Telemetry:
    """A Telemetry that sends spans and metrics by OTLP over HTTP, to where OpenTelemetry's own variables say, such as
    OTEL_EXPORTER_OTLP_ENDPOINT. Raises ConfigError where the SDK is not installed.
    """
    os.environ.setdefault("OTEL_SERVICE_NAME", "prx")
    try:
        tracing, traced = import_module("opentelemetry.sdk.trace"), import_module("opentelemetry.sdk.trace.export")
        metering, measured = (
            import_module("opentelemetry.sdk.metrics"),
            import_module("opentelemetry.sdk.metrics.export"),
        )
        spans = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter").OTLPSpanExporter()
        values = import_module("opentelemetry.exporter.otlp.proto.http.metric_exporter").OTLPMetricExporter()
    except ImportError:
        raise ConfigError(
            "OpenTelemetry's SDK or its exporter is missing", hint="pip install 'prx-engine[otel]' brings both."
        ) from None
    # Their own end at the end of the process would try for as long as any other export.
    tracers = tracing.TracerProvider(shutdown_on_exit=False)
    if _wanted("TRACES"):
        tracers.add_span_processor(traced.BatchSpanProcessor(spans))
    readers = [measured.PeriodicExportingMetricReader(values)] if _wanted("METRICS") else []
    meters = metering.MeterProvider(readers, shutdown_on_exit=False)
    telemetry = Telemetry(tracer_provider=tracers, meter_provider=meters)

    def close() -> None:
        """Send what is left; where nobody takes it, not for longer than a few seconds."""
        ends = [threading.Thread(target=each.shutdown, daemon=True) for each in (tracers, meters)]
        until = time.monotonic() + _LAST_SECONDS
        for end in ends:
            end.start()
        for end in ends:
            end.join(max(0.0, until - time.monotonic()))

    telemetry.close = close
    return telemetry


def _wanted(signal: str) -> bool:
    """Whether OpenTelemetry's variable for traces or metrics does not say that none are to be sent."""
    return os.environ.get(f"OTEL_{signal}_EXPORTER", "").strip().lower() != "none"


__all__ = ("CAPTURE", "Telemetry", "exporting")
