"""The report of a run: as JSON, as JUnit XML, and as a file that grows during the run, so that it can be resumed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from prx.conformance import resumed, transcript, verdict
from prx.conformance.cases import Case
from prx.conformance.evidence import Known, known
from prx.conformance.run import Result
from prx.mask import strict
from prx.spec.definition import Definition
from prx.spec.model import Spec

Row = dict[str, Any]
# Outcomes that a resumed run does not ask for again.
FINAL = ("passed", "failed", "unclaimed", "skipped", "unrecorded")
_NEVER_REPEATED = ("skipped", "unrecorded")


def row_of(result: Result, *, brief: bool = False) -> Row:
    """A result in JSON's types, as reports contain it. brief: with the exchanges of what has not passed alone."""
    is_left_out = brief and result.outcome not in verdict.BROKEN
    return {
        "provider": result.provider,
        "case": result.case,
        "outcome": result.outcome,
        "why": result.why,
        "failures": list(result.failures),
        "evidence": asdict(result.evidence) if result.evidence else None,
        "seconds": round(result.seconds, 3),
        "exchanges": [] if is_left_out else strict(list(result.exchanges)),
        "came": [row._asdict() for row in result.came],
        "tokens": result.tokens,
        "runs": {"right": result.runs[0], "of": result.runs[1]} if result.runs[1] else None,
    }


def provider_of(definition: Definition, spec: Spec, cases: Iterable[Case], recordings: Path) -> Row:
    """A provider as reports contain it, with the evidence of each of its capabilities."""
    flags = known(spec, cases, recordings / spec.id)
    return {
        "id": spec.id,
        "name": spec.name,
        "dialect": spec.dialect,
        "base_url": spec.base_url,
        "docs": spec.docs,
        "file": definition.entry.path.name,
        "flags": {name: _flag(row) for name, row in flags.items()},
    }


def _flag(row: Known) -> Row:
    return {"value": row.value, "known": row.kind, "what": row.what, "date": row.date}


def build(mode: str, cases: Sequence[Case], providers: Sequence[Row], rows: Sequence[Row], version: str) -> Row:
    """The whole report, as the page and --json contain it."""
    return {
        "prx": version,
        "made": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "mode": mode,
        "cases": [
            {"name": case.name, "title": case.title, "group": case.group, "needs": list(case.needs)} for case in cases
        ],
        "providers": list(providers),
        "results": list(rows),
        "counts": counts(rows),
        "verdict": verdict.sentence(rows),
    }


def ordered(rows: Iterable[Row], providers: Sequence[str], cases: Sequence[str]) -> list[Row]:
    """The results in the order of providers and cases, in whatever order they came; those of others at the end."""
    provider_place = {name: place for place, name in enumerate(providers)}
    case_place = {name: place for place, name in enumerate(cases)}

    def place(row: Row) -> tuple[int, int]:
        return provider_place.get(row["provider"], len(providers)), case_place.get(row["case"], len(cases))

    return sorted(rows, key=place)


def counts(rows: Iterable[Row]) -> Row:
    """How many of each outcome, how many passed by each kind of evidence, and how many were asked and count."""
    rows = list(rows)
    by_kind = Counter(row["evidence"]["kind"] for row in rows if row["outcome"] == "passed" and row["evidence"])
    outcomes = Counter(row["outcome"] for row in rows)
    asked = sum(outcomes[name] for name in verdict.ASKED)
    return {"outcomes": dict(outcomes), "passed_by": dict(by_kind), "asked": asked}


def junit(report: Mapping[str, Any]) -> str:
    """The report as JUnit XML: a suite for each provider, a test for each case."""
    root = ET.Element("testsuites", name="prx conformance")
    found: dict[str, list[Row]] = {provider["id"]: [] for provider in report["providers"]}
    for row in report["results"]:
        found.get(row["provider"], []).append(row)
    for provider in report["providers"]:
        rows = found[provider["id"]]
        outcomes = Counter(row["outcome"] for row in rows)
        sizes = {
            "tests": len(rows), "failures": outcomes["failed"], "errors": outcomes["error"] + outcomes["limited"],
            "skipped": outcomes["skipped"] + outcomes["unrecorded"] + outcomes["unclaimed"] + outcomes["unasked"],
            "time": round(sum(row["seconds"] for row in rows), 3),
        }  # fmt: skip
        suite = ET.SubElement(
            root, "testsuite", {"name": provider["id"], **{name: str(size) for name, size in sizes.items()}}
        )
        for row in rows:
            _testcase(suite, row)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


_TAGS = {
    "failed": "failure",
    "error": "error",
    "limited": "error",
    "skipped": "skipped",
    "unclaimed": "skipped",
    "unrecorded": "skipped",
    "unasked": "skipped",
}


def _testcase(suite: ET.Element, row: Row) -> None:
    case = ET.SubElement(
        suite, "testcase", classname=_xml(f"prx.{row['provider']}"), name=_xml(row["case"]), time=str(row["seconds"])
    )
    if row["outcome"] in _TAGS:
        tag = ET.SubElement(case, _TAGS[row["outcome"]], message=_xml(row["why"]))
        shown = row["exchanges"] if row["outcome"] in verdict.BROKEN else ()
        tag.text = _xml("\n".join([*verdict.differences(row), *transcript.lines(shown)]))


def _xml(text: str) -> str:
    """A text for XML: characters that XML does not allow are written by their numbers."""
    return _NO_XML.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


_NO_XML = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class State:
    """The results so far; of several results of one provider and case the last counts.

    path: a file to which each result is added as a line, or None. An incomplete last line, which an interruption leaves, is
    removed when the run is resumed.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._rows: dict[str, dict[str, Row]] = {}  # {provider: {case: its result}}
        for row in resumed.rows(path) if path and path.exists() else ():
            self._rows.setdefault(row["provider"], {})[row["case"]] = row

    @property
    def rows(self) -> list[Row]:
        return [row for provider in self._rows for row in self.of(provider)]

    def of(self, provider: str) -> list[Row]:
        """The results of a provider."""
        return list(self._rows.get(provider, {}).values())

    def has(self, provider: str, case: str, repeat: int = 1) -> bool:
        """Whether a case has an outcome that asking again would not change, of as many runs as are wanted."""
        row = self._rows.get(provider, {}).get(case, {})
        runs = row.get("runs") or {"of": 1}
        return row.get("outcome") in FINAL and (row["outcome"] in _NEVER_REPEATED or runs["of"] == repeat)

    def add(self, row: Row) -> None:
        self._rows.setdefault(row["provider"], {})[row["case"]] = row
        if self.path:
            resumed.add(self.path, row)
