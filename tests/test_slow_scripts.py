"""The slow tests in short, so that they cannot rot: python tests/slow/load.py and its neighbours are the whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SLOW = Path(__file__).parent / "slow"
SHORT = {
    "load.py": ("--seconds", "2", "--threads", "16", "--timeout", "1.5"),
    "batch.py": ("--rows", "300", "--per-minute", "6000", "--kills", "2", "--timeout", "1.5"),
    "many.py": ("--rows", "3000"),
    "shards.py": ("--rows", "600", "--shard-rows", "60"),
    "kill.py": ("--count", "20", "--rounds", "2"),
    "reload.py": ("--count", "20", "--files", "5", "--threads", "4", "--rounds", "1"),
    "gateway_load.py": ("--seconds", "4", "--callers", "8", "--rate", "40"),
    "gateway_restart.py": ("--seconds", "3", "--callers", "8", "--rate", "40"),
}
NOT_HERE = 77  # the exit code of a script that needs what is not installed


def run(name, *options):
    return subprocess.run([sys.executable, SLOW / name, *options], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", SHORT)
def test_it_holds(name):
    ended = run(name, *SHORT[name])
    if ended.returncode == NOT_HERE:
        pytest.skip(ended.stdout)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout + ended.stderr
    assert ended.stdout.endswith("ok\n")


# An engine that is broken on purpose, and what each script must say of it.
BROKEN = {
    "load.py": (
        """
from prx.core.decode import Decoder
whole, last = Decoder.reply, [None]
def crossed(self):
    mine, last[0] = last[0] or whole(self), whole(self)
    return mine
Decoder.reply = crossed
""",
        ["--seconds", "1", "--threads", "4", "--timeout", "1"],
        "request id",
    ),
    "batch.py": (
        """
import batch
whole = batch.Batch.judge
def doubled(self, violations, what):
    out = self.folder / "out.jsonl"
    lines = out.read_text().splitlines(True)
    out.write_text("".join([*lines[:-1], lines[0]]))
    whole(self, violations, what)
batch.Batch.judge = doubled
""",
        ["--rows", "60", "--kills", "0", "--timeout", "1"],
        "1 rows are wrong",
    ),
    "many.py": (
        """
import many
whole = many.judge
def lost(violations, folder, rows):
    out = folder / "out.jsonl"
    out.write_text("".join(out.read_text().splitlines(True)[:-1]))
    whole(violations, folder, rows)
many.judge = lost
""",
        ["--rows", "3000"],
        "2,999 rows of 3,000",
    ),
    "shards.py": (
        """
import shards
whole = shards.judge
def doubled(violations, folder, rows):
    (folder / "out" / "part-00001.parquet").write_bytes((folder / "out" / "part-00000.parquet").read_bytes())
    whole(violations, folder, rows)
shards.judge = doubled
""",
        ["--rows", "100", "--shard-rows", "20"],
        "20 rows are in the table twice",
    ),
    "kill.py": (
        """
import prx
prx.Error.partial = property(lambda self: None, lambda self, reply: None)
""",
        ["--count", "5", "--rounds", "1"],
        "the partial text is lost",
    ),
    "reload.py": (
        """
import prx
from prx.reload import reload
prx.Client.reload = lambda self: reload(self.catalog)[1]
""",
        ["--count", "60", "--files", "2", "--threads", "2", "--rounds", "1"],
        "had been taken in",
    ),
    "gateway_load.py": (
        f"""
import gateway
gateway.COMMAND = [{sys.executable!r}, "-c", '''
from prx.core.decode import Decoder
whole, last = Decoder.reply, [None]
def crossed(self):
    mine, last[0] = last[0] or whole(self), whole(self)
    return mine
Decoder.reply = crossed
from prx.cli import main
main()
''']
""",
        ["--seconds", "2", "--callers", "4"],
        "words of other calls",
    ),
    "gateway_restart.py": (
        f"""
import gateway
gateway.COMMAND = [{sys.executable!r}, "-c", '''
from prx.serve import process
process.Server.handle_exit = lambda self, *given: setattr(self, "force_exit", True) or setattr(self, "should_exit", True)
from prx.cli import main
main()
''']
""",
        ["--seconds", "2", "--rate", "100"],
        "",  # what a caller sees of it depends on where its call was
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_engine_is_caught(name):
    patch, options, said = BROKEN[name]
    program = f"import sys\nsys.path.insert(0, {str(SLOW)!r})\n{patch}\nimport {name[:-3]} as script\nscript.main({options!r})\n"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    if ended.returncode == NOT_HERE:
        pytest.skip(ended.stdout)
    assert (ended.returncode, ended.stderr) == (1, ""), ended.stdout
    assert [line for line in ended.stdout.splitlines() if line.startswith("VIOLATION") and said in line], ended.stdout
