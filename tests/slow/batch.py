"""prx batch against a server that allows so many requests a minute and fails in every way, and kill -9 in the middle of it:

    python tests/slow/batch.py --rows 10000 --per-minute 6000 --kills 10

First a run that is left alone: no row may be lost or doubled, and it may take 1.1 times what the limit makes of the requests that
were sent. Then one with a server that allows ten times as much, killed at random and gone on with: the same table at the
end, and no row answered twice but those under way at a kill. Exit 1 with a sentence where something fails.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
from watching import Violations, say

SERVER = Path(__file__).parents[1] / "helpers" / "batch_server.py"
KEY = "sk-batch-0123456789"
SLACK = 1.1
START = 6.0  # seconds for a process to begin, and for a call that stalls in the end
IN_FLIGHT = 32


class Counting:
    """A server that counts, as a process of its own: a program that says its URL first, and its figures for each line it reads."""

    def __init__(self, *program):
        self._process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = self._process.stdout.readline().strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait(10)

    def figures(self):
        self._process.stdin.write("?\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


class Server(Counting):
    """The server of the tests. options: as in tests/helpers/batch_server.py."""

    def __init__(self, **options):
        super().__init__(sys.executable, str(SERVER), json.dumps(options))


class Batch:
    """A folder with the questions, and `prx batch` in it."""

    def __init__(self, folder, server, rows, timeout):
        self.folder, self.rows, self.timeout = Path(folder), rows, timeout
        (self.folder / "config.toml").write_text(
            f'[default]\nprovider = "compatible"\nmodel = "m"\n[providers.compatible]\napi_url = "{server.url}"\napi_key = "{KEY}"\n'
        )
        lines = (json.dumps({"id": f"q{place}", "prompt": f"row {place}"}) for place in range(rows))
        (self.folder / "in.jsonl").write_text("".join(f"{line}\n" for line in lines))

    def start(self):
        command = [
            sys.executable,
            "-m",
            "prx",
            "batch",
            "in.jsonl",
            "out.jsonl",
            "--config",
            "config.toml",
            "--resume",
            "--quiet",
        ]
        command += ["--in-flight", str(IN_FLIGHT), "--timeout", str(self.timeout)]
        return subprocess.Popen(command, cwd=self.folder, stderr=subprocess.PIPE, text=True)

    def judge(self, violations, what):
        """Each row once, in its place, with its own answer."""
        found = [json.loads(line) for line in (self.folder / "out.jsonl").read_text().splitlines()]
        violations.must(len(found) == self.rows, f"{what}: {len(found)} rows of {self.rows}")
        wrong = [
            row
            for place, row in enumerate(found)
            if (row["id"], row.get("content")) != (f"q{place}", f"answer to row {place}")
        ]
        violations.must(not wrong, f"{what}: {len(wrong)} rows are wrong, the first {wrong[:1]}")
        violations.must(not list(self.folder.glob("out.jsonl.*")), f"{what}: a journal is left")


def left_alone(violations, rows, per_minute, share, timeout):
    with (
        Server(per_minute=per_minute, share=share, seed=1, burst=per_minute / 60) as server,
        tempfile.TemporaryDirectory() as folder,
    ):
        batch = Batch(folder, server, rows, timeout)
        began = time.monotonic()
        running = batch.start()
        _, said = running.communicate()
        took, seen = time.monotonic() - began, server.figures()
        violations.must(running.returncode == 0, f"exit {running.returncode}: {said}")
        if running.returncode == 0:
            batch.judge(violations, "left alone")
    least = seen["asked"] * 60 / per_minute
    violations.must(took <= SLACK * least + START, f"{took:.1f} s, where the limit makes {least:.1f} s")
    violations.must(seen["doubled"] == 0, f"{seen['doubled']} rows were answered twice")
    say(f"left alone: {took:.1f} s for {seen['asked']} requests, {took / least:.2f} of what the limit makes; {seen}")


def killed(violations, rows, per_minute, share, timeout, kills, seed):
    chance = random.Random(seed)
    with Server(per_minute=10 * per_minute, share=share, seed=2) as server, tempfile.TemporaryDirectory() as folder:
        batch = Batch(folder, server, rows, timeout)
        most, done = rows * 6 / per_minute / max(1, kills), 0
        while done < kills:
            running = batch.start()
            try:
                running.wait(1.0 + chance.random() * most)
                break  # it was done before its time had come
            except subprocess.TimeoutExpired:
                running.kill()
                running.communicate()
                done += 1
        running = batch.start()
        _, said = running.communicate()
        seen = server.figures()
        violations.must(running.returncode == 0, f"exit {running.returncode}: {said}")
        if running.returncode == 0:
            batch.judge(violations, "killed")
    # Of the calls that are under way at a kill, the server may have answered each.
    violations.must(seen["doubled"] <= done * IN_FLIGHT, f"{seen['doubled']} rows were answered twice, at {done} kills")
    violations.must(done > 0 or not kills, "it was never killed")
    say(f"killed {done} times: {seen}")


@click.command(help=__doc__)
@click.option("--rows", default=10_000, show_default=True)
@click.option("--per-minute", default=6_000, show_default=True)
@click.option("--share", default=0.05, show_default=True, help="Of requests that fail.")
@click.option("--kills", default=10, show_default=True)
@click.option("--timeout", default=5.0, show_default=True, help="The client's, for silence.")
@click.option("--seed", default=1, show_default=True)
def main(rows, per_minute, share, kills, timeout, seed):
    violations = Violations()
    left_alone(violations, rows, per_minute, share, timeout)
    killed(violations, rows, per_minute, share, timeout, kills, seed)
    raise SystemExit(violations.report())


if __name__ == "__main__":
    main()
