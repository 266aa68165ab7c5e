"""Reloads of a provider's file that changes each time: python benchmarks/reloads.py [RELOADS]. Tells what grows; exits 1 where something does."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "engine"))

from held import resident

import prx

FILE = """spec: 1
id: mine
extends: openai-chat
base_url: http://127.0.0.1:9/v1
response: {{content: 'choices[0].message.content || field_{n}'}}
"""


def reload(client: prx.Client, path: Path, number: int) -> None:
    path.write_text(FILE.format(n=number))
    os.utime(path, ns=(number * 1_000_000_000, number * 1_000_000_000))
    changes = client.reload()
    assert changes.changed == (str(path),), changes
    client.plan("hi", "mine/m")


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mine.yaml"
        path.write_text(FILE.format(n="first"))
        client = prx.Client({}, folder, env={})
        client.plan("hi", "mine/m")
        seen: list[tuple[int, float]] = []
        started = time.perf_counter()
        for number in range(1, count + 1):
            reload(client, path, number)
            if number in (count // 10, count):
                gc.collect()
                seen.append((len(gc.get_objects()), resident()))
    (objects, memory), (objects_then, memory_then) = seen
    sys.stdout.write(
        f"{count:,} reloads, {(time.perf_counter() - started) / count * 1000:.1f} ms each; from the {count // 10:,}th on:"
        f" {objects_then - objects:+,} objects, {memory_then - memory:+.1f} MB\n"
    )
    if objects_then - objects > count // 100:
        raise SystemExit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
