"""Writes the file: what was learned, each line with the request that showed it, and at the end what was not learned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from glob import escape
from typing import Any

import yaml

from prx.conformance import cases
from prx.probe.draft import lay
from prx.probe.findings import Finding
from prx.spec import schema

Keys = tuple[str, ...]


# Capabilities that differ between models: where a server has several models, a no counts for the tested one only.
OF_A_MODEL = ("tools", "tool_choice", "parallel_tools", "vision", "audio", "json_schema", "reasoning")


def content(draft: Mapping[str, Any], findings: list[Finding]) -> dict[str, Any]:
    """The mapping of the file: the draft with the findings' overlays, in the order of the schema."""
    value: Mapping[str, Any] = draft
    for finding in findings:
        value = lay(value, finding.overlay)
    return {key: value[key] for key in schema.load("provider")["properties"] if key in value}


def flagged(findings: list[Finding], model: str, count: int) -> list[Finding]:
    """The findings, with their capabilities in their overlays. count: how many models the server has; of several, a missing
    capability is written as an override of the tested model.
    """
    return [_flagged(finding, model if count > 1 else "") for finding in findings]


def _flagged(finding: Finding, model: str) -> Finding:
    if not finding.capability or finding.verdict == "open":
        return finding
    flag: dict[str, Any] = {"capabilities": {finding.capability: finding.verdict == "yes"}}
    if model and finding.verdict == "no" and finding.capability in OF_A_MODEL:
        flag = {"overrides": {escape(model): flag}}
    return replace(finding, overlay=lay(finding.overlay, flag))


def notes(findings: list[Finding]) -> dict[Keys, str]:
    """{path of a key: evidence that stands beside its line}."""
    return {keys: finding.note for finding in findings for keys in _leaves(finding.overlay)}


def text(value: Mapping[str, Any], evidence: Mapping[Keys, str], rest: list[str], date: str) -> str:
    """The text of the file. rest: further lines, which become comments at its end."""
    lines = [*_lines(value, evidence, date, ()), *(f"# {line}" if line else "#" for line in rest)]
    return "\n".join(lines) + "\n"


def open_questions(findings: list[Finding]) -> list[str]:
    """One line for each subject that was not learned, with the reason."""
    return [f"{finding.name}: {finding.note}" for finding in findings if finding.verdict == "open"]


def uncounted(findings: list[Finding]) -> list[Finding]:
    """Findings with deviations for the conformance cases that check usage, where the server reports none."""
    without_usage = {each.name: each for each in findings if each.verdict == "no" and each.name in _COUNTS}
    deviating: dict[str, list[str]] = {}
    for each in findings:
        deviating |= each.overlay.get("deviations", {})
    rows = []
    for name, finding in without_usage.items():
        for case in (case for case in cases.load() if case.ask == _COUNTS[name]):
            hold = deviating.get(case.name, case.hold)
            kept = [condition for condition in hold if "usage" not in condition or "||" in condition]
            if len(kept) < len(hold):
                overlay = {"deviations": {case.name: kept or ["!(reply.usage.total_tokens > `0`)"]}}
                rows.append(Finding(name, "no", finding.how, finding.asked, overlay=overlay))
    return rows


_COUNTS = {"usage": "chat", "stream usage": "stream"}  # {question: method of the cases that it is about}


def _leaves(overlay: Mapping[str, Any], above: Keys = ()) -> Iterator[Keys]:
    for key, value in overlay.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, (*above, key))
        else:
            yield (*above, key)


def _lines(value: Mapping[str, Any], evidence: Mapping[Keys, str], date: str, above: Keys) -> Iterator[str]:
    indent = "  " * len(above)
    for key, item in value.items():
        keys = (*above, key)
        if keys == ("overrides",):
            yield from _overrides(item, evidence, date)
        elif isinstance(item, Mapping) and item:
            yield f"{indent}{_flow(key)}:"
            yield from _lines(item, evidence, date, keys)
        else:
            note = f"  # {evidence[keys]} ({date})" if keys in evidence else ""
            yield f"{indent}{_flow(key)}: {_flow(item)}{note}"


def _overrides(rows: Mapping[str, Any], evidence: Mapping[Keys, str], date: str) -> Iterator[str]:
    """The lines of `overrides`: in the file a list, here a mapping by the model's pattern."""
    yield "overrides:"
    for model, row in rows.items():
        yield f"  - model: {_flow(model)}  # the model that was probed; the server has others"
        yield from _lines(row, evidence, date, ("overrides", model))


def _flow(value: Any) -> str:
    dumped: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=100_000)
    return dumped.strip().removesuffix("...").strip()
