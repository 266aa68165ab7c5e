"""Measure prx against the floors under it and the libraries beside it.

    python benchmarks/run.py [WHAT…] [--rounds N] [--targets a,b] [--out results.json]
    python benchmarks/run.py --setup openai,litellm      # environments of the libraries beside it, with pip
    python benchmarks/report.py results.json             # docs/performance.md and its picture

WHAT: see --list; all of it without. In each round every target is asked, in an order that starts with another one each
time; ratios are only taken within a round, so that what else the machine does is in both. A target whose environment is
not there is left out. Nothing here is run in CI: it has no quiet machine.
"""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import folder as provider_files

HERE = Path(__file__).resolve().parent
VENVS = Path.home() / ".cache" / "prx-perf"
FILES = 1000
PATIENCE = 30  # seconds that a target has for one measurement
IN_WORKER = (
    "call", "event", "event-varied", "short", "connections", "latency-chunked", "latency-close", "large-1", "large-4", "large-16",
    "parallel-64", "parallel-256",
)  # fmt: skip
IN_WORKER_ASYNC = ("async-call", "async-event", "async-256")
BUILDS = ("build", "build-rules")
STARTS = {"start-id": "id", "start-alias": "alias", "start-unkept": "id", "start-all": "all"}  # what start.py does


@dataclass(frozen=True)
class Target:
    """A file of targets/, read without importing it: its libraries may not be here."""

    name: str
    venv: str
    imports: str
    packages: tuple[str, ...]
    asynchronous: bool
    builds: bool  # whether it can build a request without sending it

    @classmethod
    def of(cls, path: Path) -> Target:
        text = path.read_text(encoding="utf-8")
        known = dict(re.findall(r'^(VENV|IMPORT) = "(.*)"$', text, re.MULTILINE))
        packages = tuple(re.findall(r'"([^"]+)"', "".join(re.findall(r"^PACKAGES = (.*)$", text, re.MULTILINE))))
        functions = set(re.findall(r"^((?:async )?def \w+)", text, re.MULTILINE))
        return cls(
            path.stem,
            known.get("VENV", ""),
            known.get("IMPORT", "import prx"),
            packages,
            asynchronous="async def connect" in functions,
            builds="def build" in functions,
        )

    def python(self, venvs: Path) -> Path:
        return venvs / f"v-{self.venv}" / "bin" / "python" if self.venv else Path(sys.executable)


@dataclass
class Bench:
    """Where everything is, and what has been found."""

    url: str
    venvs: Path
    folder: Path
    rows: list[dict[str, Any]] = field(default_factory=list)
    given_up: set[tuple[str, str]] = field(default_factory=set)

    def measure(self, what: str, target: Target, round_: int) -> None:
        """One row; a target that once had no time for this is not asked for it again."""
        if (what, target.name) in self.given_up:
            return
        row: dict[str, Any] = {"what": what, "target": target.name, "round": round_}
        try:
            row["value"] = WHAT[what](self, target, what)
        except subprocess.TimeoutExpired:
            row["failed"] = f"not done in {PATIENCE} s"
        except subprocess.CalledProcessError as error:
            row["failed"] = (error.stderr.strip().splitlines() or [f"exit {error.returncode}"])[-1][:200]
        if "failed" in row:
            self.given_up.add((what, target.name))
        self.rows.append(row)
        value = f"{row['value']:12,.1f}" if "value" in row else f"  {row['failed']}"
        click.echo(f"{what:18}{round_:3}  {target.name:18}{value}")


def in_worker(bench: Bench, target: Target, what: str) -> float:
    worker = "worker_async.py" if what in IN_WORKER_ASYNC else "worker.py"
    program = [str(target.python(bench.venvs)), str(HERE / worker), target.name, what, bench.url]
    ended = subprocess.run(program, capture_output=True, text=True, check=True, timeout=PATIENCE, env=quiet())
    return float(json.loads(ended.stdout.splitlines()[-1])["value"])


def quiet() -> dict[str, str]:
    """Our own environment without what a client might take to be for it, and with compiled modules kept, as is usual."""
    return {
        name: value
        for name, value in os.environ.items()
        if not re.search(r"_API_KEY|_BASE|PROXY|^PRX_|^PYTHONDONTWRITE", name, re.IGNORECASE)
    }


def process_milliseconds(program: Sequence[str]) -> float:
    """CPU of a whole process, from its start to its end."""
    with tempfile.TemporaryFile("w+") as said:
        running = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=said, text=True, env=quiet())
        _, status, used = os.wait4(running.pid, 0)  # os.times would count in hundredths of a second
        running.returncode = os.waitstatus_to_exitcode(status)
        if running.returncode:
            said.seek(0)
            raise subprocess.CalledProcessError(running.returncode, program, stderr=said.read())
    return 1000 * (used.ru_utime + used.ru_stime)


def cold(bench: Bench, target: Target, what: str) -> float:
    """Milliseconds of a process that imports, asks once, and ends."""
    return process_milliseconds(
        [str(target.python(bench.venvs)), str(HERE / "worker.py"), target.name, what, bench.url]
    )


def imported(bench: Bench, target: Target, _what: str) -> float:
    """Milliseconds of an import, net of a python that does nothing; the least of five each, for starts are noisy."""
    python = str(target.python(bench.venvs))
    full, bare = (
        min(process_milliseconds([python, "-c", code]) for _ in range(5)) for code in (target.imports, "pass")
    )
    return full - bare


def started(bench: Bench, target: Target, what: str) -> float:
    """Milliseconds that a thousand provider files add to a process, which is not the first one; see start.py."""
    many, one = bench.folder / "many", bench.folder / "one"
    if not bench.folder.exists():
        provider_files.make(FILES, many)
        one.mkdir()
        (one / f"{provider_files.ASKED}.yaml").write_bytes((many / f"{provider_files.ASKED}.yaml").read_bytes())

    def cost(folder: Path) -> float:
        cache = "" if what == "start-unkept" else str(bench.folder / "kept")
        program = [str(target.python(bench.venvs)), str(HERE / "start.py"), STARTS[what], str(folder)]
        return min([process_milliseconds([*program, f"{bench.url}/v1", cache]) for _ in range(8)][1:])

    return cost(many) - cost(one)


WHAT: dict[str, Callable[[Bench, Target, str], float]] = {
    "import": imported,
    "cold": cold,
    **dict.fromkeys((*IN_WORKER, *BUILDS, *IN_WORKER_ASYNC), in_worker),
    **dict.fromkeys(STARTS, started),
}


def fits(what: str, target: Target) -> bool:
    """Whether a target can be measured so. Only prx has provider files."""
    if what in STARTS:
        return target.name == "prx_plain"
    if what in BUILDS:
        return target.builds
    return target.asynchronous is (what in IN_WORKER_ASYNC)


def all_targets() -> dict[str, Target]:
    return {path.stem: Target.of(path) for path in sorted((HERE / "targets").glob("*.py")) if path.stem != "__init__"}


def targets(names: str, venvs: Path) -> Iterator[Target]:
    """Those asked for, or all; those that are not there are told of."""
    known = all_targets()
    wanted = names.split(",") if names else list(known)
    for name in wanted:
        if name not in known:
            raise click.ClickException(f"no target is called {name!r}; there are {', '.join(known)}")
        if known[name].python(venvs).exists():
            yield known[name]
        else:
            click.echo(f"{name}: left out; python benchmarks/run.py --setup {known[name].venv} makes its environment")


def set_up(names: str, venvs: Path) -> None:
    """An environment for each of these libraries, with what pip gives for it."""
    packages = {target.venv: target.packages for target in all_targets().values() if target.venv}
    for name in names.split(","):
        if name not in packages:
            raise click.ClickException(f"nothing is called {name!r}; there are {', '.join(sorted(packages))}")
        place = venvs / f"v-{name}"
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        subprocess.run([place / "bin" / "pip", "install", "-q", *packages[name]], check=True)
        click.echo(f"{name}: {place}")


def versions(target: Target, venvs: Path) -> str:
    """What was measured, by name and version."""
    if not target.packages:
        return importlib.metadata.version("prx-engine") if target.name.startswith("prx") else ""
    name = target.packages[0].partition("[")[0]
    code = f"import importlib.metadata; print(importlib.metadata.version({name!r}))"
    ended = subprocess.run([target.python(venvs), "-c", code], capture_output=True, text=True, check=True)
    return f"{name} {ended.stdout.strip()}"


def about(chosen: Sequence[Target], venvs: Path, rounds: int, *, shared: bool) -> dict[str, Any]:
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        "shared": shared,
        "rounds": rounds,
        "versions": {target.name: versions(target, venvs) for target in chosen},
    }


@click.command(help=__doc__)
@click.argument("what", nargs=-1)
@click.option("--rounds", default=5, show_default=True)
@click.option("--targets", "names", default="", help="Names, with commas; all that are there without.")
@click.option("--out", default="results.json", show_default=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--venvs", default=VENVS, show_default=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--setup", default="", help="Make these environments, and end.")
@click.option("--add", is_flag=True, help="Keep what --out has of other measurements.")
@click.option("--shared", is_flag=True, help="The machine has other work meanwhile: the page says so.")
@click.option("--list", "listed", is_flag=True, help="What can be measured, and of what; and end.")
def main(
    what: tuple[str, ...], rounds: int, names: str, out: Path, venvs: Path, setup: str, *, add: bool, shared: bool, listed: bool
) -> None:  # fmt: skip
    if setup:
        return set_up(setup, venvs)
    if unknown := set(what) - WHAT.keys():
        raise click.ClickException(f"nothing is called {min(unknown)!r}; there are {', '.join(WHAT)}")
    chosen = list(targets(names, venvs))
    if listed:
        return click.echo("\n".join([*WHAT, "", *(target.name for target in chosen)]))
    told = about(chosen, venvs, rounds, shared=shared)
    kept = beside(out, what or tuple(WHAT), told) if add and out.exists() else {"rows": [], "earlier": None}
    server = subprocess.Popen([sys.executable, HERE / "server.py"], stdout=subprocess.PIPE, text=True)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            url = f"http://127.0.0.1:{server.stdout.readline().strip() if server.stdout else ''}"
            bench = Bench(url, venvs, Path(temporary) / "providers")
            measured(bench, what or tuple(WHAT), chosen, rounds)
    finally:
        server.kill()
    made = {"about": told, "rows": kept["rows"] + bench.rows}
    if kept["earlier"]:
        made["earlier"] = kept["earlier"]
    out.write_text(json.dumps(made, indent=1) + "\n")
    return click.echo(f"{len(bench.rows)} rows in {out}")


def beside(out: Path, what: Sequence[str], told: Mapping[str, Any]) -> dict[str, Any]:
    """What stays of a file of results: its rows of what is not measured now. Those of another day, of other versions or of
    another number of rounds stay with their own `about`, as `earlier`.
    """
    was = json.loads(out.read_text())
    rows = [row for row in was["rows"] if row["what"] not in what]
    earlier = was.get("earlier")
    if earlier:
        earlier["rows"] = [row for row in earlier["rows"] if row["what"] not in what]
    if was["about"] == told:
        return {"rows": rows, "earlier": earlier}
    if rows and earlier and earlier["rows"]:
        raise click.ClickException(f"{out} has results of two days already; without --add it is written anew")
    return {"rows": [], "earlier": {"about": was["about"], "rows": rows} if rows else earlier}


def measured(bench: Bench, what: Sequence[str], chosen: Sequence[Target], rounds: int) -> None:
    started = time.monotonic()
    for each in what:
        fitting = [target for target in chosen if fits(each, target)]
        for round_ in range(rounds):
            first = round_ % max(1, len(fitting))
            for target in fitting[first:] + fitting[:first]:
                bench.measure(each, target, round_)
    click.echo(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
