"""The file: what was learned, every line with the request that showed it, and below it what was not learned."""

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


# What differs from model to model: where a server has several, a no holds for the one that was asked.
OF_A_MODEL = ("tools", "tool_choice", "parallel_tools", "vision", "audio", "json_schema", "reasoning")


def content(draft: Mapping[str, Any], findings: list[Finding]) -> dict[str, Any]:
    """The mapping of the file: the draft and what the findings change, in the schema's order."""
    value: Mapping[str, Any] = draft
    for finding in findings:
        value = lay(value, finding.overlay)
    return {key: value[key] for key in schema.load("provider")["properties"] if key in value}


def flagged(findings: list[Finding], model: str, count: int) -> list[Finding]:
    """The findings, each flag as an overlay: of the provider, or of the model where there are several (count)."""
    return [_flagged(finding, model if count > 1 else "") for finding in findings]


def _flagged(finding: Finding, model: str) -> Finding:
    if not finding.capability or finding.verdict == "open":
        return finding
    flag: dict[str, Any] = {"capabilities": {finding.capability: finding.verdict == "yes"}}
    if model and finding.verdict == "no" and finding.capability in OF_A_MODEL:
        flag = {"overrides": {escape(model): flag}}
    return replace(finding, overlay=lay(finding.overlay, flag))


def notes(findings: list[Finding]) -> dict[Keys, str]:
    """The evidence of each line, by its keys."""
    return {keys: finding.note for finding in findings for keys in _leaves(finding.overlay)}


def text(value: Mapping[str, Any], evidence: Mapping[Keys, str], rest: list[str], date: str) -> str:
    """The file's text. rest: lines below it, as comments."""
    lines = [*_lines(value, evidence, date, ()), *(f"# {line}" if line else "#" for line in rest)]
    return "\n".join(lines) + "\n"


def open_questions(findings: list[Finding]) -> list[str]:
    """What was not learned, and why, one line each."""
    return [f"{finding.name}: {finding.note}" for finding in findings if finding.verdict == "open"]


def uncounted(findings: list[Finding]) -> list[Finding]:
    """Deviations of the cases that count tokens, where a server counts none."""
    silent = {each.name: each for each in findings if each.verdict == "no" and each.name in _COUNTS}
    rows = []
    for name, finding in silent.items():
        for case in (case for case in cases.load() if case.ask == _COUNTS[name]):
            kept = [condition for condition in case.hold if "usage" not in condition or "||" in condition]
            if len(kept) < len(case.hold):
                overlay = {"deviations": {case.name: kept or ["!(reply.usage.total_tokens > `0`)"]}}
                rows.append(Finding(name, "no", finding.how, finding.asked, overlay=overlay))
    return rows


_COUNTS = {"usage": "chat", "stream usage": "stream"}  # questions and the cases they speak for


def _leaves(overlay: Mapping[str, Any], above: Keys = ()) -> Iterator[Keys]:
    for key, value in overlay.items():
        if isinstance(value, Mapping):
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
    """What holds for one model: a list in the file, kept by the pattern here."""
    yield "overrides:"
    for model, row in rows.items():
        yield f"  - model: {_flow(model)}  # the one that was asked; there are others"
        yield from _lines(row, evidence, date, ("overrides", model))


def _flow(value: Any) -> str:
    dumped: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=100_000)
    return dumped.strip().removesuffix("...").strip()
