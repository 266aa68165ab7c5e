"""The verdict on a run: what was asked, what was not, and whether everything that was asked conforms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from prx.conformance.cases import Difference

# The outcomes of cases that were asked and count. One that nobody claims is asked too, but is never missed.
ASKED = ("passed", "failed", "error", "limited")
COUNTED = ("failed", "error", "limited")
BROKEN = ("failed", "error", "limited", "unclaimed")
_NOT_ASKED = ("skipped", "unrecorded", "unasked")
_TROUBLES = {"failed": "failed", "error": "ended in an error", "limited": "held back by the provider"}


def succeeded(rows: Iterable[Mapping[str, Any]]) -> bool:
    """Whether at least one case has passed, and none has failed, had an error, been limited, or been left out to save tokens."""
    outcomes = Counter(row["outcome"] for row in rows)
    return outcomes["passed"] > 0 and not any(outcomes[name] for name in ("failed", "error", "limited", "unasked"))


def sentence(rows: Iterable[Mapping[str, Any]]) -> str:
    """The verdict in one line: "conforms: 24 of 24 asked, 3 not asked"."""
    rows = list(rows)
    outcomes = Counter(row["outcome"] for row in rows)
    parts = [f"{outcomes['passed']} of {sum(outcomes[name] for name in ASKED)} asked"]
    parts += [f"{outcomes[name]} {words}" for name, words in _TROUBLES.items() if outcomes[name]]
    if left := sum(outcomes[name] for name in _NOT_ASKED):
        parts.append(f"{left} not asked")
    if outcomes["unclaimed"]:
        parts.append(f"{outcomes['unclaimed']} not claimed")
    lead = "does not conform" if outcomes["failed"] else "conforms" if succeeded(rows) else "no verdict"
    return f"{lead}: {', '.join(parts)}"


def differences(row: Mapping[str, Any]) -> list[str]:
    """A line for each condition that does not hold: what was wanted, and what came."""
    return [str(Difference(**found)) for found in row.get("came") or ()] or list(row["failures"])
