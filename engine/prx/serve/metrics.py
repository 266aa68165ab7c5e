"""What /metrics says: the names of OpenTelemetry's GenAI conventions, as Prometheus writes them.

Where several processes share a port, each counts in files of a folder that all of them have; whoever is asked adds them up. The
library does it wherever PROMETHEUS_MULTIPROC_DIR names a folder when it is imported.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

FOLDER = "PROMETHEUS_MULTIPROC_DIR"

_LABELS = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "error_type")
_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_PIECE = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_TOKENS = tuple(4**power for power in range(14))
_OTHER = "other"


class Metrics:
    """Counts of a process and those that share its folder. Labels are names that are served and "other", never a caller's own text."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._served: frozenset[str] = frozenset()
        self._duration = Histogram(
            "gen_ai_server_request_duration_seconds", "Time of a call", _LABELS, registry=registry, buckets=_SECONDS
        )
        self._first = Histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "Time to the first output",
            _LABELS[:3],
            registry=registry,
            buckets=_SECONDS,
        )
        self._token = Histogram(
            "gen_ai_server_time_per_output_token_seconds", "Time of a token after the first", _LABELS[:3], registry=registry,
            buckets=_PIECE,
        )  # fmt: skip
        self._usage = Histogram(
            "gen_ai_client_token_usage",
            "Tokens of a call",
            (*_LABELS[:3], "gen_ai_token_type"),
            registry=registry,
            buckets=_TOKENS,
        )
        self._running = Gauge("prx_calls_running", "Calls that run", registry=registry, multiprocess_mode="livesum")
        self._runs = 0
        self._is_shared = bool(os.environ.get(FOLDER))
        self._refused = Counter(
            "prx_requests_refused", "Requests refused before a provider was asked", ("error_type",), registry=registry
        )
        # All processes read the same files: the one that is asked has just read them.
        self._problems = Gauge(
            "prx_reload_problems", "Faults of the last reload", registry=registry, multiprocess_mode="livemostrecent"
        )

        self._redis: Gauge | None = None
        self._rows: dict[tuple[Histogram, tuple[str, ...]], Histogram] = {}

    def serves(self, names: Iterable[str]) -> None:
        self._served = frozenset(names)

    def called(
        self, operation: str, provider: str, model: str, kind: str, took: float, first: float | None, usage: Any
    ) -> None:  # fmt: skip
        """A call is over. kind: of its error, or "". first: seconds to its first output."""
        labels = (operation, provider, model if model in self._served else _OTHER)
        self._row(self._duration, *labels, kind).observe(took)
        if first is not None:
            self._row(self._first, *labels).observe(first)
        if usage is None:
            return
        for token_type, count in (("input", usage.prompt_tokens), ("output", usage.completion_tokens)):
            if count is not None:
                self._row(self._usage, *labels, token_type).observe(count)
        if first is not None and usage.completion_tokens and usage.completion_tokens > 1:
            self._row(self._token, *labels).observe((took - first) / (usage.completion_tokens - 1))

    def _row(self, histogram: Histogram, *labels: str) -> Histogram:
        """The histogram of these labels. The library checks the labels and takes a lock each time it is asked for one."""
        row = self._rows.get((histogram, labels))
        if row is None:
            row = self._rows[histogram, labels] = histogram.labels(*labels)
        return row

    def redis_is(self, up: bool) -> None:
        """Whether this process gets answers from Redis. Without one there is no such metric."""
        if self._redis is None:
            self._redis = Gauge(
                "prx_redis_up", "Whether Redis answers", registry=self._registry, multiprocess_mode="livemin"
            )
        self._redis.set(up)

    def runs(self, count: int) -> None:
        """So many calls run in this process."""
        self._runs = count
        if self._is_shared:  # another process may be the one that is asked
            self._running.set(count)

    def refused(self, kind: str) -> None:
        self._refused.labels(kind).inc()

    def samples(self) -> Iterator[Any]:
        """All that is counted, as /metrics has it: values with a name, labels and value."""
        for family in self._counted().collect():
            yield from family.samples

    def _counted(self) -> CollectorRegistry:
        """Of all processes, where several share a folder."""
        if not self._is_shared:
            self._running.set(self._runs)
            return self._registry
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return registry

    def text(self, problems: int) -> bytes:
        self._problems.set(problems)
        text: bytes = generate_latest(self._counted())
        return text
