"""Three public suites as judges of the compiler, the framer and the decoder.

    python tests/judges/suites.py FOLDER

FOLDER holds jmespath/*.json (groups of {given, cases}), wpt_eventsource/cases.json (event streams and their events) and
json_parsing/cases.json (texts that are JSON, nearly JSON, or not). One line of figures a suite; exit 1 on any mismatch.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import jmespath

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the tests import each other by their names

from helpers import properties  # noqa: E402

from prx.lang import query  # noqa: E402


class Suite:
    """Counts what it is shown and tells each mismatch."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seen = self.wrong = 0
        self.notes: dict[str, int] = {}

    def judge(self, what: str, *, right: bool, note: str = "") -> None:
        self.seen += 1
        self.notes[note] = self.notes.get(note, 0) + bool(note)
        if not right:
            self.wrong += 1
            click.echo(f"{self.name}: {what}")

    def __str__(self) -> str:
        notes = "".join(f", {count} {note}" for note, count in self.notes.items() if note)
        return f"{self.name}: {self.seen} judged, {self.wrong} wrong{notes}"


# ------------------------------------------------------------------ jmespath: the same results, the same refusals


def expressions(folder: Path) -> Suite:
    suite = Suite("jmespath")
    for path in sorted(folder.glob("*.json")):
        for group in json.loads(path.read_text()):
            for case in group["cases"]:
                text, value = case["expression"], group["given"]
                wanted, found = found_by(jmespath.search, text, value), found_by(ours, text, value)
                note = "refused by both" if wanted == found == "refused" else ""
                suite.judge(f"{path.stem}: {text} gives {found}, not {wanted}", right=found == wanted, note=note)
                if "result" in case:
                    right = found == json.dumps(case["result"], sort_keys=True)
                    suite.judge(f"{path.stem}: {text} gives {found}, and the suite says {case['result']}", right=right)
    return suite


def ours(text: str, value: Any) -> Any:
    return query.compile_query(text)(value)


def found_by(search: Any, text: str, value: Any) -> str:
    try:
        return json.dumps(search(text, value), sort_keys=True)
    except (query.QueryError, ValueError):  # jmespath's errors are ValueErrors; a slice's step of 0 is Python's own
        return "refused"


# ------------------------------------------------------------------ event streams: the same events at every cut


def events(folder: Path) -> Suite:
    suite = Suite("wpt_eventsource")
    for case in json.loads((folder / "cases.json").read_text())["cases"]:
        if case.get("content_type", "text/event-stream").startswith(
            "text/event-stream"
        ):  # any other is no stream there
            data = base64.b64decode(case["stream_base64"])
            wanted = [(each["event"], each["data"]) for each in case["events"]]
            for parts in cuts(data):
                found = [(frame.name or "message", frame.data) for frame in properties.frames("sse", parts)[0]]
                suite.judge(f"{case['name']} in {len(parts)} pieces gives {found}, not {wanted}", right=found == wanted)
    return suite


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """Whole, in two at every place, and byte by byte."""
    yield [data]
    yield from ([data[:place], data[place:]] for place in range(1, len(data)))
    yield properties.singles(data)


# ------------------------------------------------------------------ JSON: an answer or a typed error, never anything else

_GIANTS = {
    "n_structure_100000_opening_arrays.json": b"[" * 100_000,
    "n_structure_open_array_object.json": b'[{"":' * 50_000 + b"\n",
}
_PLACES = (
    b"%s",
    b'{"choices":[{"message":{"content":%s},"finish_reason":"stop"}]}',
    b"data: %s\n\n",
    b"event: error\ndata: %s\n\n",
)


def texts(folder: Path) -> Suite:
    """Each text as a body, as a part of one, and as an event, for each dialect, whole and cut."""
    suite = Suite("json_parsing")
    for case in json.loads((folder / "cases.json").read_text())["cases"]:
        data = _GIANTS[case["name"]] if "base64" not in case else base64.b64decode(case["base64"])
        for place in _PLACES:
            for dialect in properties.DIALECT_NAMES:
                for stream in (False, True):
                    whole = place % data
                    fault = fault_of(dialect, whole, stream=stream)
                    suite.judge(f"{case['name']} in {place!r}, {dialect}: {fault}", right=not fault)
    return suite


def fault_of(dialect: str, data: bytes, *, stream: bool) -> str:
    """What is wrong with how a text is read, or ""."""
    middle = len(data) // 2
    try:
        properties.read_alike(dialect, data, [data[:middle], data[middle:]], stream=stream)
    except Exception as fault:  # whatever it is, it is not a prx.Error that came out as one
        return f"{type(fault).__name__}: {fault}"[:300]
    return ""


@click.command(help=__doc__)
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
def main(folder: Path) -> None:
    suites = [expressions(folder / "jmespath"), events(folder / "wpt_eventsource"), texts(folder / "json_parsing")]
    click.echo("\n".join(map(str, suites)))
    sys.exit(1 if any(suite.wrong or not suite.seen for suite in suites) else 0)


if __name__ == "__main__":
    main()
