"""Prints the differences between two conformance runs: as a table, as JSON, and as a page."""

from __future__ import annotations

from pathlib import Path

from prx.cli import output
from prx.conformance import compare
from prx.conformance.compare import Comparison
from prx.errors import ConfigError


def show(found: Comparison, *, as_json: bool, html: Path | None) -> None:
    """Print a comparison, and write its page. Raises ConfigError where that cannot be written."""
    if html is not None:
        _write(found, html)
    if as_json:
        output.print_json(compare.as_json(found))
        return
    if found.changes:
        rows = [
            (row.provider, row.case, row.change, compare.words_of(row.before), compare.words_of(row.after))
            for row in found.changes
        ]
        output.print_table(["provider", "case", "what changed", found.before, found.after], rows)
    output.echo(found.sentence())


def _write(found: Comparison, path: Path) -> None:
    from prx.conformance import compared_page

    try:
        path.write_text(compared_page.render(found), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
