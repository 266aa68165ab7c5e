"""The judge of the gateway's readings, with two faults of its own taken out: through.py FOLDER_OF_THE_JUDGES [its arguments].

It compares a content that is an object as if it were a text, and reads the details of a usage that are a list as a mapping;
both end the whole run. What it looks for stays as it is.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

shared = Path(sys.argv.pop(1)).resolve()
sys.path[:0] = [str(shared / "gateway"), str(shared / "corpus")]

import run as corpus  # noqa: E402
import through  # noqa: E402

judge = through.judge


def without_space(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value) if value else ""
    return re.sub(r"\s+", "", text)


def judged(face: str, item: dict, root: str, model: str) -> list[str]:
    counts = item["expected"].get("usage") or {}
    if face == "messages" and isinstance(counts.get("prompt_tokens_details"), list):
        item = {**item, "expected": {**item["expected"], "usage": {**counts, "prompt_tokens_details": None}}}
    return judge(face, item, root, model)


corpus.loose = without_space
through.judge = judged
sys.exit(through.main())
