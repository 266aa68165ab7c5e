"""Remedies for a refused request: the dialect's own fallbacks, then a few other keys of a provider's file.

A remedy is an overlay of a provider's file. It is kept if the same request is answered with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from prx.core import fault
from prx.errors import Error
from prx.probe.draft import Draft
from prx.probe.findings import Finding, said, text_of
from prx.probe.line import Answer, Ask, Line
from prx.spec.resolve import then

_TRIES = 4
Overlay = Mapping[str, Any]


def _parameter(name: str, row: Overlay) -> Overlay:
    return {"request": {"parameters": {name: row}}}


# (part of a call that an error names, overlay that replaces or removes it)
_OVERLAYS: tuple[tuple[str, Overlay], ...] = (
    ("system", {"request": {"system": "merge_into_first_user"}}),
    ("max_tokens", _parameter("max_tokens", {"rename": "max_completion_tokens"})),
    ("max_tokens", _parameter("max_tokens", {"drop": True})),
    ("temperature", _parameter("temperature", {"drop": True})),
)


class Adapted(NamedTuple):
    """An answer, the draft with which it came, and a finding for each remedy that it needed."""

    answer: Answer
    draft: Draft
    findings: tuple[Finding, ...]


def ask_with_remedies(line: Line, draft: Draft, ask: Ask) -> Adapted:
    """Send a request; where it is refused for a reason that has a remedy, send it again with the remedy."""
    answer = line.ask(draft, ask)
    tried: list[Overlay] = []
    findings: tuple[Finding, ...] = ()
    while answer.error is not None and len(tried) < _TRIES:
        overlay = next((each for each in remedies(line, draft, answer.error) if each not in tried), None)
        if overlay is None:
            break
        tried.append(overlay)
        better = line.ask(draft.over(overlay), ask)
        if better.error is None or overlay not in list(remedies(line, draft, better.error)):
            how = f"refused without it ({said(answer.error)})"
            finding = Finding("form of the request", "no", how, answer.asked, overlay=overlay)
            answer, draft, findings = better, draft.over(overlay), (*findings, finding)
    return Adapted(answer, draft, findings)


def remedies(line: Line, draft: Draft, error: Error) -> Iterator[Overlay]:
    """The overlays that may help against an error, the most likely first."""
    definition = line.definition(draft)
    spec = definition.spec()
    for row in spec.fallbacks:
        changes = then(definition.raw["fallbacks"][row.name])
        if changes and not {"extends", "capabilities"} & changes.keys() and fault.holds(row, error, spec):
            yield changes
    if error.kind in ("bad_request", "server"):
        call = error.view.get("call", {})
        for name, overlay in _OVERLAYS:
            if (call.get(name) or name in call.get("params", {})) and name in text_of(error):
                yield overlay
        if "model" in error.view.get("refused", ()):  # where the path names the model already
            yield {"request": {"body": {"model": None}}}
