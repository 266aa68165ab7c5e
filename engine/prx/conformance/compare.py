"""What is otherwise in a run than in an earlier one, or with one provider than with another, case by case."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, NamedTuple

from prx.conformance import verdict
from prx.conformance.saved import Row, Saved

_NO_VERDICT = ("error", "limited", "unasked", "unrecorded")
_WRONG = ("failed", "unclaimed")
# Names that a server makes up for each answer, as in "no such model (request req_01Hx8f2k)": they are no difference.
_MADE_UP = re.compile(r"\b(?=[\w-]*\d)[\w-]{8,}")


class Change(NamedTuple):
    """A case whose result is otherwise.

    provider  of the later run, or of the earlier one where the later has no such case
    change    newly failing · newly passing · newly claimed · newly denied · no longer claimed · changed · no verdict ·
              only before · only after
    before, after  the results, None where there is none
    """

    provider: str
    case: str
    change: str
    before: Row | None
    after: Row | None

    @property
    def is_regression(self) -> bool:
        """Whether something that was right is wrong now."""
        if self.before is None or self.after is None:
            return False
        outcomes = self.before["outcome"], self.after["outcome"]
        return outcomes[1] in _WRONG and (outcomes[0] == "passed" or outcomes == ("skipped", "failed"))


class Comparison(NamedTuple):
    """The differences between two runs. same: how many cases have the same result. judged: how many of the later have one."""

    before: str
    after: str
    changes: list[Change]
    same: int
    judged: int

    @property
    def regressions(self) -> int:
        return sum(change.is_regression for change in self.changes)

    @property
    def holds(self) -> bool:
        """Whether nothing got worse, and something was judged at all."""
        return self.judged > 0 and not self.regressions

    def sentence(self) -> str:
        """The differences in one line: "worse: 1 newly failing, 2 newly passing, 23 the same"."""
        counts = Counter(change.change for change in self.changes)
        parts = [*(f"{count} {change}" for change, count in sorted(counts.items())), f"{self.same} the same"]
        lead = "worse" if self.regressions else "no worse" if self.judged else "no verdict"
        return f"{lead}: {', '.join(parts)}"


def compared(before: Saved, after: Saved, *, partly: bool = False) -> Comparison:
    """The differences between two runs. partly: the later run asked for less on purpose, so that nothing of the earlier one
    is missing. Where each run has one provider, their names need not be the same.
    """
    between_two = len(before.providers) == len(after.providers) == 1
    old, new = _by_case(before, between_two), _by_case(after, between_two)
    places = [*new, *(() if partly else (place for place in old if place not in new))]
    changes = []
    for place in places:
        row, earlier = new.get(place), old.get(place)
        if change := _change(earlier, row):
            known = row or earlier or {}
            changes.append(Change(known["provider"], known["case"], change, earlier, row))
    judged = sum(row["outcome"] not in (*_NO_VERDICT, "skipped") for row in after.rows)
    return Comparison(before.name, after.name, changes, len(places) - len(changes), judged)


def as_json(found: Comparison) -> dict[str, Any]:
    """A comparison in JSON's types."""
    return {
        "before": found.before,
        "after": found.after,
        "verdict": found.sentence(),
        "regressions": found.regressions,
        "same": found.same,
        "changes": [
            {
                "provider": row.provider,
                "case": row.case,
                "change": row.change,
                "regression": row.is_regression,
                "before": _side(row.before),
                "after": _side(row.after),
            }
            for row in found.changes
        ],
    }


def words_of(row: Row | None) -> str:
    """A result in words: its outcome, how many runs were right, and what came in place of what was wanted."""
    if row is None:
        return "no result"
    runs = row.get("runs")
    counted = f" {runs['right']} of {runs['of']}" if runs else ""
    reason = "" if row["outcome"] == "passed" else "; ".join(_reasons(row))
    return f"{row['outcome']}{counted}{reason and ': ' + reason}"


def _by_case(run: Saved, between_two: bool) -> dict[tuple[str, str], Row]:
    return {("" if between_two else row["provider"], row["case"]): row for row in run.rows}


def _change(before: Row | None, after: Row | None) -> str:
    """What kind of change there is between two results of a case; "" for none."""
    if before is None or after is None:
        return "only after" if before is None else "only before"
    was, now = before["outcome"], after["outcome"]
    if was == now:
        return "changed" if _gist(before) != _gist(after) else ""
    if now in _NO_VERDICT:
        return "" if was in _NO_VERDICT else "no verdict"
    return _BETWEEN.get((was, now)) or _TO.get(now, "changed")


# {(outcome before, outcome after): change}, and {outcome after: change} for all others.
_BETWEEN = {
    ("skipped", "passed"): "newly claimed", ("skipped", "unclaimed"): "no longer denied", ("failed", "unclaimed"): "no longer claimed",
}  # fmt: skip
_TO = {"passed": "newly passing", "failed": "newly failing", "unclaimed": "newly failing", "skipped": "newly denied"}


def _gist(row: Row) -> tuple[Any, ...]:
    """What makes two results with the same outcome differ: what came, and the pass rate."""
    reasons = tuple(_MADE_UP.sub("…", text) for text in _reasons(row)) if row["outcome"] in _WRONG else ()
    runs = row.get("runs")
    return reasons, runs and runs["right"] / runs["of"]


def _reasons(row: Row) -> list[str]:
    return verdict.differences(row) if row.get("came") else [row["why"]] if row["why"] else []


def _side(row: Row | None) -> Row | None:
    return (
        None
        if row is None
        else {name: row.get(name) for name in ("provider", "outcome", "why", "came", "runs", "exchanges")}
    )
