"""The page at `/`, for people who look. It is one file that loads nothing but /status, whose figures it shows.

Without a key it is the same file: it has no figures in it, and asks for a key, which the browser keeps as long as its tab is
open and sends as a header.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

_POLICY = (
    "default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@cache
def page() -> bytes:
    return (Path(__file__).parent / "files" / "page.html").read_bytes()


@cache
def headers() -> dict[str, str]:
    """Those of the page: its policy lets its own script and style through, by their digests, and nothing else."""
    digests = {}
    for tag in ("script", "style"):
        inline = re.findall(rb"<%b>(.*?)</%b>" % (tag.encode(), tag.encode()), page(), re.DOTALL)
        hashes = (base64.b64encode(hashlib.sha256(text).digest()).decode() for text in inline)
        digests[tag] = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return {
        "content-type": "text/html; charset=utf-8",
        "content-security-policy": _POLICY.format(**digests),
        "cache-control": "no-store",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }
