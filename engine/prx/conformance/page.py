"""The report as one HTML page that loads no other file.

The data of the grid is plain JSON in the page. The data that only an opened cell shows is compressed, in blocks of
similar exchanges (one case, providers by dialect), so that tens of thousands of them stay a small file.
Bodies are stored as text: a browser that parsed them would round long numbers and reorder keys.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prx.conformance.transcript import body

OUTCOMES = ("passed", "failed", "error", "limited", "unclaimed", "skipped", "unrecorded", "unasked")
KINDS = ("live", "server", "emulated", "corpus", "none")
BLOCK = 64


def render(report: Mapping[str, Any]) -> str:
    """The page of a report, as HTML."""
    before, _, after = (Path(__file__).parent / "files" / "page.html").read_text(encoding="utf-8").partition("@data@")
    for tag in ("script", "style"):  # the page's Content-Security-Policy allows its own inline blocks by their digests
        inline = re.findall(rf"<{tag}>(.*?)</{tag}>", before + after, re.DOTALL)
        digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in inline)
        before = before.replace(f"@{tag}@", " ".join(f"'sha256-{digest}'" for digest in digests))
    text = _json(_data(report))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return before + text + after


def _data(report: Mapping[str, Any]) -> dict[str, Any]:
    groups = [case["group"] for case in report["cases"]]
    cases = sorted(report["cases"], key=lambda case: groups.index(case["group"]))
    providers = sorted(report["providers"], key=lambda provider: (provider["dialect"], provider["id"]))
    results = {(result["provider"], result["case"]): result for result in report["results"]}
    rows = [[results.get((provider["id"], case["name"]), {}) for case in cases] for provider in providers]
    reasons = {text: place for place, text in enumerate({cell.get("why", ""): None for row in rows for cell in row})}
    fields = ("id", "name", "dialect", "base_url", "docs", "file")
    return {
        **{name: report[name] for name in ("prx", "made", "mode")},
        "outcomes": OUTCOMES, "kinds": KINDS, "block": BLOCK, "cases": cases, "reasons": list(reasons),
        "providers": [
            {**{name: provider[name] for name in fields}, "codes": "".join(map(_code, row)),
             "whys": [reasons[cell.get("why", "")] for cell in row]}
            for provider, row in zip(providers, rows, strict=True)
        ],
        "flags": _packed([provider["flags"] for provider in providers]),
        "details": [_packed([_detail(cell) for cell in column]) for column in zip(*rows, strict=True)],
    }  # fmt: skip


def _code(result: Mapping[str, Any]) -> str:
    kind = (result.get("evidence") or {"kind": "none"})["kind"]
    return f"{OUTCOMES.index(result['outcome'])}{KINDS.index(kind)}" if result else "--"


def _detail(result: Mapping[str, Any]) -> dict[str, Any]:
    exchanges = [{side: _message(row[side]) for side in ("request", "response")} for row in result.get("exchanges", ())]
    facts = {name: result.get(name) for name in ("failures", "evidence", "seconds", "came", "runs", "tokens")}
    return {**facts, "exchanges": exchanges}


def _message(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**{name: value for name, value in row.items() if name not in ("json", "text", "base64")}, "body": body(row)}


def _packed(values: Sequence[Any]) -> list[str]:
    blocks = (_json(values[start : start + BLOCK]).encode() for start in range(0, len(values), BLOCK))
    return [base64.b64encode(zlib.compress(block)).decode() for block in blocks]


def _json(value: Any) -> str:  # ASCII: line separators and halves of surrogate pairs are escaped
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
