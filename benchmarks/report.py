"""What run.py found, as docs/performance.md and docs/performance.svg: python benchmarks/report.py results.json."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import chart
import click

DOCS = Path(__file__).resolve().parents[1] / "docs"
FLOOR, FLOOR_ASYNC = "floor_socket", "floor_aiohttp"
NAMES = {
    "floor_socket": "socket and json",
    "floor_httpclient": "http.client",
    "floor_urllib3": "urllib3",
    "floor_requests": "requests",
    "floor_aiohttp": "{} and json",
    "floor_asyncio": "asyncio streams and json",
    "naive": "requests, sseclient-py, jmespath",
    "prx_plain": "prx",
    "prx_deadline": "prx with a deadline",
    "prx_async": "prx AsyncClient",
}  # {}: name and version; so are all others called


class What(NamedTuple):
    """One measurement, in words. ratio: whether it is compared with `floor`, or stands for itself."""

    title: str
    unit: str
    says: str
    ratio: bool = True
    floor: str = FLOOR


WHATS = {
    "import": What("Import", "ms", "CPU of an import, net of a Python that does nothing.", ratio=False),
    "cold": What("First answer", "ms", "CPU of a whole process: start, import, one answer, end."),
    "call": What("A call", "µs", "CPU of one call on a connection that is kept."),
    "event": What("An event", "µs", "CPU of one event, in a stream of 5,000 that comes as fast as it is read; the events differ in their text only."),
    "event-varied": What("A varied event", "µs", "The same where events differ in more: a time that goes on, and a padding of another length in each."),
    "short": What("A short stream", "µs", "CPU of a stream of 50 events on a connection that is kept, from its request to its end."),
    "connections": What("Connections", "", "Connections that 41 streams need, one after the other.", ratio=False),
    "latency-chunked": What("Latency", "µs", "From the server's clock in a delta to the caller's, the median of 200 deltas. On a busy machine mostly its scheduler's time.", ratio=False),
    "latency-close": What("Latency, close", "µs", "The same in a body that ends with its connection.", ratio=False),
    "large-1": What("1 MB event", "ms", "CPU of one event of a megabyte, sent in 4,096 pieces."),
    "large-4": What("4 MB event", "ms", "CPU of one event of four megabytes, sent in 4,096 pieces."),
    "large-16": What("16 MB event", "ms", "CPU of one event of sixteen megabytes, sent in 4,096 pieces."),
    "parallel-64": What("64 streams", "ms", "CPU of 64 streams at once, in threads, 20 events each; no delta is lost."),
    "parallel-256": What("256 streams", "ms", "CPU of 256 streams at once, in threads, 20 events each; no delta is lost."),
    "async-call": What("An asynchronous call", "µs", "CPU of one call on a connection that is kept, on an event loop.", floor=FLOOR_ASYNC),
    "async-event": What("An asynchronous event", "µs", "CPU of one event, in a stream of 5,000 that comes as fast as it is read, on an event loop.", floor=FLOOR_ASYNC),
    "async-256": What("256 asynchronous streams", "µs", "CPU of one delta where 256 streams run at once on one event loop, 20 events each, a tenth of a second apart. Deltas lost: 0; a target that loses one has no figure.", floor=FLOOR_ASYNC),
    "build": What("A large call, built", "µs", "CPU to make the request of a call with 200 messages, with calls of tools and their results among them, and 40 tools, from what a caller hands over to the bytes of the body; the first line is json.dumps of the same. Nothing is sent."),
    "build-rules": What("A large call, built by rules", "µs", "The same for a provider whose file has rules about the messages and schemas (mistral): other ids of calls, keys that are taken out, a message put between two."),
    "start-id": What("1,000 files, by id", "ms", "CPU that 1,000 provider files of 60 lines add to a process that asks one of them by its id, beyond what that one file costs. Another process has asked before. It is the difference of two starts: some milliseconds either way are noise.", ratio=False),
    "start-alias": What("1,000 files, by alias", "ms", "The same by an alias, which could be in any of them.", ratio=False),
    "start-unkept": What("1,000 files, by id, nothing kept", "ms", "As by id, where nothing may be kept on disk for the next process.", ratio=False),
    "start-all": What("1,000 files, all", "ms", "As by id, and every one of them is checked and made ready.", ratio=False),
}  # fmt: skip


class Found(NamedTuple):
    """Of one target: the median, and the median, least and greatest of its ratios to the floor, where there are any."""

    median: float
    ratio: float | None = None
    least: float | None = None
    most: float | None = None


def found(rows: Sequence[Mapping[str, Any]], what: str) -> dict[str, Found | str]:
    """By target, in the order of NAMES and then by name; a text is why there is nothing."""
    mine = [row for row in rows if row["what"] == what]
    order = [*NAMES, *sorted({row["target"] for row in mine} - NAMES.keys())]
    floor = {row["round"]: row["value"] for row in mine if row["target"] == WHATS[what].floor and "value" in row}
    return {name: of_target([row for row in mine if row["target"] == name], floor) for name in order if any(row["target"] == name for row in mine)}  # fmt: skip


def of_target(rows: Sequence[Mapping[str, Any]], floor: Mapping[int, float]) -> Found | str:
    failed = next((row["failed"] for row in rows if "failed" in row), None)
    if failed:
        return str(failed)
    ratios = [row["value"] / floor[row["round"]] for row in rows if floor.get(row["round"])]
    median = statistics.median(row["value"] for row in rows)
    return Found(median, statistics.median(ratios), min(ratios), max(ratios)) if ratios else Found(median)


def name_of(target: str, versions: Mapping[str, str]) -> str:
    return NAMES.get(target, "{}").format(versions.get(target) or target)


SHARED = (
    "The machine was shared with other work meanwhile. So look at the ratios: the times themselves differ from hour to hour,",
    "in a wide spread something else was at work, and a latency is mostly the time of a busy machine's scheduler. The seconds of",
    "*not done in 30 s* are a clock's, not CPU: with the machine to itself a library may well be done in them.",
    "",
)


def of(results: Mapping[str, Any], what: str) -> Mapping[str, Any] | None:
    """The run that has measured this: the present one, or the earlier one that it was added to."""
    runs = (results, results.get("earlier") or {"rows": ()})
    return next((run for run in runs if any(row["what"] == what for row in run["rows"])), None)


def when(run: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """Of when a table is, where it is of an earlier run."""
    about = run["about"]
    return "" if run is results else f" Measured earlier, on {about['date']}, {about['rounds']} rounds."


def page(results: Mapping[str, Any]) -> str:
    about = results["about"]
    measured = [(what, run) for what in WHATS if (run := of(results, what)) is not None]
    lines = [
        "# What it costs",
        "",
        "*You want to know what prx costs, beside other libraries.*",
        "",
        "Generated by `benchmarks/report.py`; how to do it again is in `benchmarks/README.md`.",
        "",
        f"Python {about['python']}, {about['machine']}, {about['date']}, {about['rounds']} rounds; prx {about['versions'].get('prx_plain', '')}.",
        "CPU is the client's own, user and system. In each round every target is asked, in an order that starts with another",
        "one. A ratio is to the first line, taken within a round, and the median of the rounds is given; its spread is the least",
        "and the greatest of the rounds. A library is compared with those of its own table only: the first line of the",
        "asynchronous ones is aiohttp.",
        "",
        *(SHARED if about.get("shared") else ()),
        "![Ratio to the floor](performance.svg)",
        "",
    ]
    for what, run in measured:
        lines += [
            f"## {WHATS[what].title}",
            "",
            WHATS[what].says + when(run, results),
            "",
            *table(what, found(run["rows"], what), run["about"]["versions"]),
        ]
    return "\n".join(lines)


def table(what: str, values: Mapping[str, Found | str], versions: Mapping[str, str]) -> list[str]:
    words = WHATS[what]
    unit = f" {words.unit}" if words.unit else ""
    with_ratio = words.ratio and words.floor in values
    lines = ["| | median | ratio | spread |", "|---|--:|--:|--:|"] if with_ratio else ["| | median |", "|---|--:|"]
    for target, value in values.items():
        cells = [value] if isinstance(value, str) else [f"{number(value.median)}{unit}"]
        if with_ratio:
            cells += spread(value)
        lines.append(f"| {name_of(target, versions)} | {' | '.join(cells)} |")
    return [*lines, ""]


def spread(value: Found | str) -> list[str]:
    if isinstance(value, str) or value.ratio is None or value.least is None or value.most is None:
        return ["", ""]
    return [f"{number(value.ratio)}", f"{number(value.least)} to {number(value.most)}"]


def number(value: float) -> str:
    """Three digits that mean something."""
    digits = 0 if abs(value) >= 100 or value == int(value) else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"


def picture(results: Mapping[str, Any]) -> str:
    panels = []
    for what, words in WHATS.items():
        if (run := of(results, what)) is None:
            continue
        values, versions = found(run["rows"], what), run["about"]["versions"]
        bars = [
            chart.Bar(
                name_of(target, versions), value.ratio, value.least or 0, value.most or 0, ours=target.startswith("prx")
            )
            for target, value in values.items()
            if isinstance(value, Found) and value.ratio and words.ratio and target != words.floor
        ]
        if bars:
            panels.append(chart.Panel(words.title, bars))
    return chart.draw(
        "CPU as a multiple of a bare socket's, or of aiohttp's where asynchronous (less is better)", panels
    )


@click.command(help=__doc__)
@click.argument("results", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--into", default=DOCS, type=click.Path(file_okay=False, path_type=Path))
def main(results: Path, into: Path) -> None:
    read = json.loads(results.read_text(encoding="utf-8"))
    (into / "performance.md").write_text(page(read), encoding="utf-8")
    (into / "performance.svg").write_text(picture(read), encoding="utf-8")
    click.echo(f"{into / 'performance.md'}, {into / 'performance.svg'}")


if __name__ == "__main__":
    main()
