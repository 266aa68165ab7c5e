"""Prints the results of a conformance run as they come, in the order of the report: one line of marks for each provider, and
below it why a case has not passed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from prx.cli import output
from prx.conformance import transcript, verdict
from prx.conformance.cases import load

Row = Mapping[str, Any]
_MARKS = {"passed": (".", "green"), "failed": ("F", "red"), "error": ("E", "red"), "limited": ("L", "yellow")}


class Progress:
    """The printer of a run.

    order    {provider: its cases}; results may come in any other order, and are printed in this one
    rows     gives all results of a provider when its line is complete, also those of the run that was resumed
    verbose  how often -v was given
    """

    def __init__(self, order: Mapping[str, Sequence[str]], rows: Callable[[str], Sequence[Row]], verbose: int) -> None:
        self._steps: list[tuple[str, str]] = []
        for provider, cases in order.items():
            self._steps += [(provider, ""), *((provider, case) for case in cases), (provider, "end")]
        self._rows, self._verbose = rows, verbose
        self._known: dict[tuple[str, str], Row] = {}

    def add(self, row: Row | None = None) -> None:
        """Print all that can be printed now that this result is known; None at the beginning."""
        if row is not None:
            self._known[row["provider"], row["case"]] = row
        while self._steps and self._step(*self._steps[0]):
            del self._steps[0]

    def _step(self, provider: str, case: str) -> bool:
        """Print the beginning of a provider's line, one mark, or its end; False where the result is not known yet."""
        if not case:
            output.echo(f"{provider:18}", nl=False)
        elif case == "end":
            click.echo()
            for result in self._rows(provider):
                _explain(result, self._verbose)
        elif row := self._known.get((provider, case)):
            click.echo(_dot(row), nl=False)
            sys.stdout.flush()
        else:
            return False
        return True


def _dot(row: Row) -> str:
    mark, colour = _MARKS.get(row["outcome"], ("-", None))
    return click.style(mark, fg=colour)


def _titled(name: str) -> str:
    """What a case is about, in brackets; "" for one that is not packaged."""
    return next((f" ({case.title})" for case in load() if case.name == name), "")


def _explain(row: Row, verbose: int) -> None:
    """Print why a case has not passed, and with -v its exchanges."""
    partly = row["outcome"] == "passed" and row["why"]
    told = partly or row["outcome"] in (verdict.BROKEN if verbose else verdict.COUNTED)
    if told:
        output.echo(f"  {row['outcome']}: {row['case']}{_titled(row['case'])}: {row['why']}")
    elif verbose > 1:
        output.echo(f"  {row['outcome']}: {row['case']}")
    if verbose > 1 or (verbose and told):
        for line in transcript.lines(row["exchanges"]):
            output.echo(f"    {line}")
