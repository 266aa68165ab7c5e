"""The differences between two runs as one HTML page that loads no other file and runs no script, in the style of the report."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path

from prx.conformance import compare, transcript
from prx.conformance.compare import Change, Comparison
from prx.conformance.saved import Row

_FILES = Path(__file__).parent / "files"


def render(found: Comparison) -> str:
    """The page of a comparison, as HTML."""
    (style,) = re.findall(r"<style>(.*?)</style>", (_FILES / "page.html").read_text(encoding="utf-8"), re.DOTALL)
    text = (_FILES / "compared.html").read_text(encoding="utf-8").replace("@style@", style)
    digests = [_digest(block) for block in re.findall(r"<style>(.*?)</style>", text, re.DOTALL)]
    parts = {
        "digests": " ".join(digests),
        "verdict": escape(found.sentence()),
        "before": escape(found.before),
        "after": escape(found.after),
        "rows": "".join(map(_row, found.changes)) or '<tr><td colspan="5">Nothing is otherwise.</td></tr>',
    }
    # In one pass: what a provider has said may look like a placeholder.
    page = re.sub(f"@({'|'.join(parts)})@", lambda place: parts[place[1]], text)
    return page.encode("utf-8", "replace").decode()


def _digest(block: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()}'"


def _row(change: Change) -> str:
    name = f"<td>{escape(change.provider)}</td><th scope='row'>{escape(change.case.replace('_', ' '))}</th>"
    worse = " class='worse'" if change.is_regression else ""
    return (
        f"<tr{worse}>{name}<td>{change.change}</td><td>{_side(change.before)}</td><td>{_side(change.after)}</td></tr>\n"
    )


def _side(row: Row | None) -> str:
    if row is None:
        return "no result"
    kind = (row["evidence"] or {"kind": "none"})["kind"]
    mark = f"<i class='mark {row['outcome']} {kind}' aria-hidden='true'></i>"
    return f"<div class='side'>{mark}<span>{escape(compare.words_of(row))}</span></div>{''.join(_exchanges(row))}"


def _exchanges(row: Row) -> Iterator[str]:
    if row["exchanges"]:
        text = escape("\n".join(transcript.lines(row["exchanges"])))
        yield f"<details><summary>The exchange</summary><pre>{text}</pre></details>"
