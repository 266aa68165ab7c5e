"""A run as data, as JUnit XML, and kept while it goes on, so that an interrupted one can be taken up again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args
from xml.etree import ElementTree as ET

from prx.conformance.cases import Case
from prx.conformance.evidence import Known, known
from prx.conformance.run import Outcome, Result
from prx.errors import ConfigError
from prx.spec.definition import Definition
from prx.spec.model import Spec

Row = dict[str, Any]
FINAL = ("passed", "failed", "skipped", "unrecorded")  # what a run that is taken up again need not ask anew


def row_of(result: Result) -> Row:
    """A result in JSON's types, as reports have it."""
    return {
        "provider": result.provider,
        "case": result.case,
        "outcome": result.outcome,
        "why": result.why,
        "failures": list(result.failures),
        "evidence": asdict(result.evidence) if result.evidence else None,
        "seconds": round(result.seconds, 3),
        "exchanges": list(result.exchanges),
    }


def provider_of(definition: Definition, spec: Spec, cases: Iterable[Case], recordings: Path) -> Row:
    """A provider as reports have it, with how each of its flags is known."""
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
    """The whole report, as the page and --json have it."""
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
    }


def counts(rows: Iterable[Row]) -> dict[str, dict[str, int]]:
    """How many of each outcome, and how many passed by each kind of evidence."""
    rows = list(rows)
    by_kind = Counter(row["evidence"]["kind"] for row in rows if row["outcome"] == "passed" and row["evidence"])
    return {"outcomes": dict(Counter(row["outcome"] for row in rows)), "passed_by": dict(by_kind)}


def succeeded(rows: Iterable[Row]) -> bool:
    """Nothing failed, nothing went wrong, and something was judged."""
    found = Counter(row["outcome"] for row in rows)
    return found["passed"] > 0 and not (found["failed"] or found["error"] or found["limited"])


def junit(report: Mapping[str, Any]) -> str:
    """The report as JUnit XML: a suite a provider, a test a case."""
    root = ET.Element("testsuites", name="prx conformance")
    for provider in report["providers"]:
        rows = [row for row in report["results"] if row["provider"] == provider["id"]]
        found = Counter(row["outcome"] for row in rows)
        sizes = {
            "tests": len(rows), "failures": found["failed"], "errors": found["error"] + found["limited"],
            "skipped": found["skipped"] + found["unrecorded"], "time": round(sum(row["seconds"] for row in rows), 3),
        }  # fmt: skip
        suite = ET.SubElement(
            root, "testsuite", {"name": provider["id"], **{name: str(size) for name, size in sizes.items()}}
        )
        for row in rows:
            _testcase(suite, row)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


_TAGS = {"failed": "failure", "error": "error", "limited": "error", "skipped": "skipped", "unrecorded": "skipped"}


def _testcase(suite: ET.Element, row: Row) -> None:
    case = ET.SubElement(
        suite, "testcase", classname=f"prx.{row['provider']}", name=row["case"], time=str(row["seconds"])
    )
    if row["outcome"] in _TAGS:
        tag = ET.SubElement(case, _TAGS[row["outcome"]], message=_xml(row["why"]))
        tag.text = _xml("\n".join(row["failures"]))


def _xml(text: str) -> str:
    """A text without the characters that XML cannot carry at all."""
    return "".join(
        character
        for character in text
        if character in "\t\n"
        or " " <= character <= "\ud7ff"
        or (character > "\udfff" and character not in "\ufffe\uffff")
    )


_TYPES = {
    "provider": str,
    "case": str,
    "outcome": str,
    "why": str,
    "failures": list,
    "seconds": int | float,
    "exchanges": list,
}


def _is_row(row: Any) -> bool:
    """Whether a line of a file is a result as `row_of` makes one."""
    if not isinstance(row, dict) or not all(isinstance(row.get(name), kind) for name, kind in _TYPES.items()):
        return False
    evidence = row.get("evidence")
    texts = all(isinstance(text, str) for text in row["failures"]) and all(
        isinstance(each, dict) for each in row["exchanges"]
    )
    known = row["outcome"] in get_args(Outcome) and not isinstance(row["seconds"], bool)
    return (
        texts and known and (evidence is None or (isinstance(evidence, dict) and isinstance(evidence.get("kind"), str)))
    )


class State:
    """Results so far, by provider and case; the last of each counts. In a file, a line is added for each: what an
    interruption leaves of a line is dropped when the run is taken up. Without a path, in memory alone.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._rows: dict[tuple[str, str], Row] = {}
        for row in self._read() if path and path.exists() else ():
            self._rows[row["provider"], row["case"]] = row

    @property
    def rows(self) -> list[Row]:
        return list(self._rows.values())

    def has(self, provider: str, case: str) -> bool:
        """Whether a case was done, in a way that asking again would not change."""
        return self._rows.get((provider, case), {}).get("outcome") in FINAL

    def add(self, row: Row) -> None:
        self._rows.pop((row["provider"], row["case"]), None)
        self._rows[row["provider"], row["case"]] = row
        if self.path:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    def _read(self) -> list[Row]:
        """The rows of the file, which is left with whole lines only. Raises ConfigError for a file of something else."""
        assert self.path is not None
        try:
            whole, _, torn = self.path.read_text(encoding="utf-8").rpartition("\n")
            rows = [json.loads(line) for line in whole.splitlines()]
            odd = next(
                (number for number, row in enumerate(rows, 1) if not _is_row(row)), 1 if torn and not rows else 0
            )
            if odd:
                raise ValueError(f"line {odd} is no result")  # noqa: TRY301 - one sentence for all that is wrong with it
            if torn:
                self.path.write_text(f"{whole}\n", encoding="utf-8")
        except (OSError, ValueError) as error:
            raise ConfigError(f"{self.path}: no run that could be taken up: {error}") from None
        return rows
