"""A folder of provider files, as large as somebody may have: python benchmarks/folder.py COUNT FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

LINES = 60
ASKED = "made-0500"  # the one that start.py asks


def text(number: int) -> str:
    """A provider file of sixty lines that says something of everything."""
    name = f"made-{number:04}"
    lines = [
        "spec: 1",
        f"id: {name}",
        f"name: Made up {number}",
        f"docs: https://{name}.example/docs",
        f"aliases: [{name}-ai]",
        "extends: openai-chat",
        f"base_url: https://api.{name}.example/v1",
        f"auth: {{style: bearer, env: MADE_{number}_KEY}}",
        "capabilities: {vision: false, stream: true}",
        "request:",
        "  system: merge_into_first_user",
        "  parameters:",
        *(f"    made_up_{place}: {{rename: made_{place}}}" for place in range(14)),
        "response:",
        "  finish_reasons:",
        *(f"    made_up_{place}: stop" for place in range(14)),
        "errors:",
        "  rules:",
        *(f"    made_up_{place}: {{when: \"code == 'made_up_{place}'\", kind: server}}" for place in range(8)),
        "retry: {times: 2, wait: 0.5}",
        "transport: {idle: 120}",
        "models:",
        "  default: made-large",
    ]
    lines += [f"# {place}: a remark, for files have them" for place in range(LINES - len(lines))]
    return "\n".join(lines) + "\n"


def make(count: int, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"made-{number:04}.yaml").write_text(text(number), encoding="utf-8")


if __name__ == "__main__":
    make(int(sys.argv[1]), Path(sys.argv[2]))
