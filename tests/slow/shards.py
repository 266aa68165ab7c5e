"""prx batch --engine ray over two nodes on this machine, and kill -9 of one of them in the middle:

    python tests/slow/shards.py --rows 100000

Each node has its own processes, as Ray's own tests make them. The killed one loses all of its processes at once, as a machine
without power does. No row may be lost or doubled in the table, and the server counts how many were asked twice: at most those
whose calls were under way. Then the same command with --resume: nothing is asked. Exit 1 with a sentence where something fails.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import click
from batch import KEY, Server
from watching import Violations, say

IN_FLIGHT = 32
NOT_HERE = 77
COMMAND = ("-m", "prx", "batch", "in.jsonl", "out", "--engine", "ray", "--resume")


class Nodes:
    """Two nodes of Ray with so many processors each; the first one is that of the program, the second one can be killed."""

    def __init__(self, processors, folder):
        """folder: for their logs and sockets; they are to be neighbours of no other Ray of this machine."""
        os.environ["RAY_TMPDIR"] = folder
        logging.getLogger("ray").setLevel(logging.ERROR)
        from ray.cluster_utils import Cluster

        quiet = {"include_dashboard": False, "num_cpus": processors}
        self._cluster = Cluster(initialize_head=True, head_node_args=quiet)
        self.address = self._cluster.address
        self._second = self._cluster.add_node(num_cpus=processors)
        self._cluster.wait_for_nodes()

    def kill_second(self):
        """Gives how many processes were killed."""
        own = [info.process.pid for infos in self._second.all_processes.values() for info in infos]
        pids = [*own, *(pid for parent in own for pid in _children(parent))]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(pids)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._cluster.shutdown()


def _children(parent):
    """The processes below one."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            words = path.read_text().rpartition(")")[2].split()
            parents.setdefault(int(words[1]), []).append(int(path.parent.name))
    left, found = [parent], []
    while left:
        below = parents.get(left.pop(), [])
        found += below
        left += below
    return found


def prepare(folder, server, rows):
    (folder / "config.toml").write_text(
        f'[default]\nprovider = "compatible"\nmodel = "m"\n[providers.compatible]\napi_url = "{server.url}"\napi_key = "{KEY}"\n'
    )
    lines = (json.dumps({"id": f"q{place}", "prompt": f"row {place}"}) for place in range(rows))
    (folder / "in.jsonl").write_text("".join(f"{line}\n" for line in lines))


def start(folder, address, options):
    command = [sys.executable, *COMMAND, "--address", address, "--config", str(folder / "config.toml"), *options]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)


def wait_for(folder, shards, running):
    """Until so many shards are there."""
    while running.poll() is None and len(list((folder / "out").glob("part-*.parquet"))) < shards:
        time.sleep(0.2)


def judge(violations, folder, rows):
    """Each row once, in its place, with its own answer."""
    from pyarrow import parquet

    table = parquet.read_table(folder / "out", columns=["id", "answer", "answer_error"]).to_pylist()
    violations.must(len(table) == rows, f"{len(table)} rows of {rows}")
    twice = [name for name, count in Counter(row["id"] for row in table).items() if count > 1]
    violations.must(not twice, f"{len(twice)} rows are in the table twice, such as {twice[:1]}")
    wrong = [
        row
        for place, row in enumerate(table)
        if row != {"id": f"q{place}", "answer": f"answer to row {place}", "answer_error": None}
    ]
    violations.must(not wrong, f"{len(wrong)} rows are wrong, the first {wrong[:1]}")
    left = [path.name for path in (folder / "out").iterdir() if path.suffix != ".parquet"]
    violations.must(left == ["_prx-batch.json"], f"left beside the shards: {left}")


def keys_in(folder):
    """Files of Ray's logs and state that have the key in them."""
    found = subprocess.run(["grep", "-rlF", KEY, str(folder)], capture_output=True, text=True, check=False)
    return found.stdout.split()


@click.command(help=__doc__)
@click.option("--rows", default=100_000, show_default=True)
@click.option("--shard-rows", default=1000, show_default=True)
@click.option("--processors", default=1, show_default=True, help="Of each node: so many shards at once there.")
@click.option("--kill-at", default=0.3, show_default=True, help="The share of the shards that are done by then.")
@click.option("--per-minute", default=0, show_default=True, help="What the server allows; 0: all.")
@click.option("--pause", default=0.02, show_default=True, help="Seconds of each call.")
def main(rows, shard_rows, processors, kill_at, per_minute, pause):
    for library in ("ray", "pyarrow"):
        if importlib.util.find_spec(library) is None:
            say(f"{library} is not installed: pip install '.[ray,batch]'")
            raise SystemExit(NOT_HERE)
    violations = Violations()
    shards = -(-rows // shard_rows)
    limits = {"per_minute": per_minute, "burst": per_minute / 60} if per_minute else {}
    with (
        tempfile.TemporaryDirectory() as name,
        tempfile.TemporaryDirectory(prefix="r", ignore_cleanup_errors=True) as logs,
        Server(pause=pause, **limits) as server,
        Nodes(processors, logs) as nodes,
    ):
        folder = Path(name)
        prepare(folder, server, rows)
        options = ["--shard-rows", str(shard_rows), "--in-flight", str(IN_FLIGHT)]
        began = time.monotonic()
        running = start(folder, nodes.address, options)
        wait_for(folder, int(shards * kill_at), running)
        time.sleep((time.monotonic() - began) / int(shards * kill_at))  # into the middle of the shards that come next
        killed_at, before = time.monotonic() - began, server.figures()
        say(f"killed {nodes.kill_second()} processes of a node after {killed_at:.1f} s and {before['asked']} requests")
        _, said = running.communicate()
        took, seen = time.monotonic() - began, server.figures()
        violations.must(running.returncode == 0, f"exit {running.returncode}: {said}")
        say("; ".join(said.strip().splitlines()[-2:]))
        if running.returncode == 0:
            judge(violations, folder, rows)
        violations.must(seen["doubled"] <= processors * IN_FLIGHT, f"{seen['doubled']} rows were answered twice")
        again = start(folder, nodes.address, options)
        again.communicate()
        violations.must(server.figures()["asked"] == seen["asked"], "a run that is done asked again")
        for place in (logs, folder / "out"):
            violations.must(not keys_in(place), f"the key is in {keys_in(place)}")
    say(f"{rows} rows in {took:.1f} s; {seen}")
    raise SystemExit(violations.report())


if __name__ == "__main__":
    main()
