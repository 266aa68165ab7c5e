"""What helps where a server refuses a way of saying something: the dialect's own fallbacks, then some words of the vocabulary.

A remedy is a piece of a provider's file. It is kept where the same question gets through with it.
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


# What the call has said, and what may be said in its place.
_WAYS: tuple[tuple[str, Overlay], ...] = (
    ("system", {"request": {"system": "merge_into_first_user"}}),
    ("max_tokens", _parameter("max_tokens", {"rename": "max_completion_tokens"})),
    ("max_tokens", _parameter("max_tokens", {"drop": True})),
    ("temperature", _parameter("temperature", {"drop": True})),
)


class Coaxed(NamedTuple):
    """An answer, the draft that got it, and the remedies that it took."""

    answer: Answer
    draft: Draft
    findings: tuple[Finding, ...]


def coax(line: Line, draft: Draft, ask: Ask) -> Coaxed:
    """Ask, and ask in other ways where the way of asking is what is refused."""
    answer = line.ask(draft, ask)
    tried: list[Overlay] = []
    found: tuple[Finding, ...] = ()
    while answer.error is not None and len(tried) < _TRIES:
        overlay = next((each for each in remedies(line, draft, answer.error) if each not in tried), None)
        if overlay is None:
            break
        tried.append(overlay)
        better = line.ask(draft.over(overlay), ask)
        if better.error is None or overlay not in list(remedies(line, draft, better.error)):
            how = f"refused otherwise ({said(answer.error)})"
            finding = Finding("way of asking", "no", how, answer.asked, overlay=overlay)
            answer, draft, found = better, draft.over(overlay), (*found, finding)
    return Coaxed(answer, draft, found)


def remedies(line: Line, draft: Draft, error: Error) -> Iterator[Overlay]:
    """What may help against an error, the likeliest first."""
    definition = line.definition(draft)
    spec = definition.spec()
    for row in spec.fallbacks:
        changes = then(definition.raw["fallbacks"][row.name])
        if changes and not {"extends", "capabilities"} & changes.keys() and fault.holds(row, error, spec):
            yield changes
    if error.kind in ("bad_request", "server"):
        call = error.view.get("call", {})
        for name, overlay in _WAYS:
            if (call.get(name) or name in call.get("params", {})) and name in text_of(error):
                yield overlay
