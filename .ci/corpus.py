"""Whether the readings of the corpus differ only where prx says another thing on purpose: python .ci/corpus.py FOLDER REPORT

The corpus has what the vendors' SDKs read. `Usage.completion_tokens` includes the reasoning, whatever the provider counts
it as; the SDKs repeat the provider's number. Where its own sum shows that it counts reasoning beside the answer, the two
differ by just that.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any


def on_purpose(problem: str, usage: dict[str, Any]) -> bool:
    """Whether a difference is that of reasoning counted in, by the provider's own sum."""
    found = re.fullmatch(r"usage\.completion_tokens (\d+) != (\d+)", problem)
    thoughts = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens")
    counts = (usage.get("prompt_tokens"), usage.get("completion_tokens"), thoughts)
    if not found or not all(isinstance(count, int) for count in counts) or sum(counts) != usage.get("total_tokens"):
        return False
    return int(found[1]) == counts[1] + thoughts and int(found[2]) == counts[1]


def main(folder: str, report: str) -> int:
    rows = json.loads(Path(report).read_text())
    bad, meant = [], 0
    for row in rows:
        usage = json.loads((Path(folder) / f"{row['id']}.json").read_text())["expected"].get("usage") or {}
        left = [problem for problem in row["problems"] if not on_purpose(problem, usage)]
        meant += bool(row["problems"]) and not left
        bad += [f"{row['id']} ({row['way']}): {'; '.join(left)}"] if left else []
    sys.stdout.write(
        "\n".join([*bad, f"{meant} readings differ by reasoning that is counted in; {len(bad)} for no reason", ""])
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
