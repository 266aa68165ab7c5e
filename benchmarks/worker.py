"""One target, one measurement, one process: python benchmarks/worker.py TARGET WHAT URL. Prints {"value": …} as JSON.

Only this process's own CPU time (user and system) is counted: the server's is not, and a busy machine hardly changes it.
"""

from __future__ import annotations

import importlib
import json
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parent)

TEXT = "Say something that can be measured."
Chat = Callable[[str], str]
Stream = Callable[[str], Iterator[str]]


class Asking:
    """A target, connected to what the server shall do: asking("events-50")."""

    def __init__(self, target: Any, url: str) -> None:
        self.target, self.url = target, url

    def __call__(self, plan: str) -> tuple[Chat, Stream]:
        return self.target.connect(f"{self.url}/{plan}/v1")

    def connections(self) -> int:
        with urllib.request.urlopen(f"{self.url}/connections", timeout=10) as response:
            return int(response.read())


def seconds(function: Callable[[], object]) -> float:
    """CPU seconds of this process that a call takes."""
    started = time.process_time()
    function()
    return time.process_time() - started


def whole(stream: Stream, events: int) -> None:
    """Read a stream; every delta must have come."""
    must(sum(1 for _ in stream(TEXT)), events)


def must(found: Any, wanted: Any) -> None:
    if found != wanted:
        raise SystemExit(f"got {found}, not {wanted}")


def call(asking: Asking) -> float:
    """Microseconds of a call on a connection that is kept."""
    chat, _ = asking("events-50")
    for _ in range(20):
        must(chat(TEXT), " benchmark" * 50)
    return seconds(lambda: [chat(TEXT) for _ in range(300)]) / 300 * 1e6


def event(more: str = "") -> Callable[[Asking], float]:
    """Microseconds of an event, in a stream of 5,000."""

    def measured(asking: Asking) -> float:
        _, stream = asking(f"events-5000{more}")
        whole(stream, 5000)
        return seconds(lambda: whole(stream, 5000)) / 5000 * 1e6

    return measured


def short(asking: Asking) -> float:
    """Microseconds of a stream of 50 events on a connection that is kept, its head and its end included."""
    _, stream = asking("events-50")
    whole(stream, 50)
    return seconds(lambda: [whole(stream, 50) for _ in range(50)]) / 50 * 1e6


def connections(asking: Asking) -> float:
    """Connections for 41 streams, one after the other."""
    _, stream = asking("events-5")
    before = asking.connections()
    for _ in range(41):
        whole(stream, 5)
    return asking.connections() - before - 1


def latency(body: str) -> Callable[[Asking], float]:
    """Microseconds from the server's clock in a delta to the caller's, the median of 200."""

    def measured(asking: Asking) -> float:
        _, stream = asking(f"events-200,pause-2000,clock-1,body-{body}")
        whole(stream, 200)
        taken = sorted((time.monotonic_ns() - int(text)) / 1000 for text in stream(TEXT))
        return taken[100]

    return measured


def large(megabytes: int) -> Callable[[Asking], float]:
    """Milliseconds for one event of so many megabytes, sent in 4,096 pieces."""

    def measured(asking: Asking) -> float:
        _, stream = asking(f"events-1,size-{megabytes << 20},pieces-4096")
        whole(asking("events-5")[1], 5)
        return seconds(lambda: must(sum(map(len, stream(TEXT))), megabytes << 20)) * 1000

    return measured


def parallel(number: int) -> Callable[[Asking], float]:
    """Milliseconds for so many streams at once, each 20 events, a tenth of a second apart."""

    def measured(asking: Asking) -> float:
        _, stream = asking("events-20,pause-100000")
        whole(asking("events-5")[1], 5)
        counts: list[int] = []
        threads = [threading.Thread(target=lambda: counts.append(sum(1 for _ in stream(TEXT)))) for _ in range(number)]

        def together() -> None:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        taken = seconds(together) * 1000
        must(f"{counts.count(20)} whole streams", f"{number} whole streams")
        return taken

    return measured


def built(provider: str) -> Callable[[Asking], float]:
    """Microseconds to build the request of conversation.py, from what a caller hands over to the bytes of the body."""

    def measured(asking: Asking) -> float:
        import conversation  # imported here: the process of a first answer is measured whole

        build = asking.target.build(conversation.messages(), conversation.tools(), provider)
        must(len(json.loads(build())["tools"]), conversation.TOOLS)
        return seconds(lambda: [build() for _ in range(200)]) / 200 * 1e6

    return measured


def first(asking: Asking) -> float:
    """The first answer. Who started this process measures it whole."""
    must(asking("events-50")[0](TEXT), " benchmark" * 50)
    return 0.0


MEASURED: dict[str, Callable[[Asking], float]] = {
    "cold": first,
    "call": call,
    "event": event(),
    "event-varied": event(",vary-1"),
    "short": short,
    "connections": connections,
    "latency-chunked": latency("chunked"),
    "latency-close": latency("close"),
    "large-1": large(1),
    "large-4": large(4),
    "large-16": large(16),
    "parallel-64": parallel(64),
    "parallel-256": parallel(256),
    "build": built("compatible"),
    "build-rules": built("mistral"),
}


def main(target: str, what: str, url: str) -> None:
    value = MEASURED[what](Asking(importlib.import_module(f"targets.{target}"), url))
    sys.stdout.write(json.dumps({"value": value}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
