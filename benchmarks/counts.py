"""What prx does for a call, counted: the same on every machine, slow or fast, busy or not.

    python benchmarks/counts.py             # the counts
    python benchmarks/counts.py --check     # exit 1 where one has grown by more than 3 % over counts.json (memory: 15 %)
    python benchmarks/counts.py --update    # the counts of now become the budget of this Python version

Counted are calls of Python functions and of C functions, the most memory held at once, what is left to the garbage
collector, modules imported, files opened, and system calls where strace is there. Versions of Python and of the
libraries below prx count differently: budgets are kept by minor version, with the libraries' versions beside them.
"""

from __future__ import annotations

import gc
import importlib.metadata
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
import conversation

HERE = Path(__file__).resolve().parent
BUDGETS = HERE / "counts.json"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
GROWTH = 0.03
LOOSER = {"peak KB": 0.15}  # it depends on where the blocks of a socket end
LIBRARIES = ("jmespath", "jsonschema", "pyyaml", "requests", "sseclient-py", "urllib3")
FILES = 1000
EVENTS = 1000
TRACED = 10  # calls of each kind that system calls are counted of
MARK = "/nobody-has-this/"
Counts = dict[str, float]


class Patient(socket.socket):
    """A socket that gives what was asked for, or all there is up to the end: how bytes arrive must not be counted."""

    patient = False

    def recv(self, size: int, flags: int = 0) -> bytes:
        return super().recv(size, flags | (socket.MSG_WAITALL if Patient.patient else 0))

    def recv_into(self, buffer: Any, size: int = 0, flags: int = 0) -> int:
        return super().recv_into(buffer, size, flags | (socket.MSG_WAITALL if Patient.patient else 0))


# ------------------------------------------------------------------ what is counted


def chat(ask: Callable[..., Any]) -> None:
    ask("events-50", stream=False)


def stream(ask: Callable[..., Any]) -> None:
    ask(f"events-{EVENTS},body-both", stream=True)


def tools(ask: Callable[..., Any]) -> None:
    ask(f"events-{EVENTS},body-both,tools-1", stream=True)


def large(ask: Callable[..., Any]) -> None:
    ask("events-50", stream=False, large=True)


def large_by_rules(ask: Callable[..., Any]) -> None:
    ask("events-50", stream=False, large=True, provider="mistral")


CALLS = {"chat": chat, "stream": stream, "tools": tools, "large": large, "large by rules": large_by_rules}


def asking(url: str) -> Callable[..., Any]:
    """Calls of one client each plan, so that what is made once is made at the first. large: that of conversation.py."""
    import prx

    clients: dict[tuple[str, str], prx.Client] = {}
    messages, offered = conversation.messages(), conversation.tools()

    def ask(plan: str, *, stream: bool, large: bool = False, provider: str = "compatible") -> None:
        settings = {"providers": {provider: {"api_url": f"{url}/{plan}/v1", "api_key": "sk-none"}}}
        client = clients.get((plan, provider)) or clients.setdefault((plan, provider), prx.Client(settings, env={}))
        model = f"{provider}/m"
        Patient.patient = stream
        if stream:
            with client.stream("hello", model) as deltas:
                assert sum(1 for _ in deltas) >= EVENTS
        else:
            assert client.chat(messages if large else "hello", model, tools=offered if large else None).content

    return ask


def profiled(function: Callable[[], object]) -> Counts:
    """Calls of Python functions (a generator that goes on counts as one) and of C functions."""
    counts = {"call": 0, "c_call": 0}

    def count(_frame: object, event: str, _argument: object) -> None:
        if event in counts:
            counts[event] += 1

    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(None)
    return {"Python calls": counts["call"], "C calls": counts["c_call"]}


def memory(function: Callable[[], object]) -> Counts:
    """The most kilobytes held at once, beyond those at the start; and objects left to the garbage collector."""
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        function()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        gc.enable()
    return {"peak KB": round(peak / 1024, 1), "garbage": gc.collect()}


def counted(url: str) -> dict[str, Counts]:
    """Each kind of call, after some that made what is made once."""
    socket.socket = Patient  # type: ignore[misc]
    ask, found = asking(url), {}
    for name, call in CALLS.items():
        for _ in range(3):
            call(ask)
        found[name] = {**profiled(lambda call=call: call(ask)), **memory(lambda call=call: call(ask))}  # type: ignore[misc]
    return found


# ------------------------------------------------------------------ what a process of its own is needed for

OPENED = """
import sys
opened = []
sys.addaudithook(lambda name, arguments: opened.append(arguments[0]) if name == "open" else None)
before = len(sys.modules)
{code}
import json
print(json.dumps({{"modules": len(sys.modules) - before, "files opened": len(opened)}}))
"""
IMPORT = "import prx"
START = """
import prx
prx.Client({{"providers": {{"made-0500": {{"api_key": "sk-none"}}}}}}, {folder!r}, env={{}}).plan("hello", "made-0500/m")
"""


def opened(code: str) -> Counts:
    """Modules and files of a process, its second time: the first writes the bytecode."""
    program = [sys.executable, "-c", OPENED.format(code=code)]
    writes = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    for _ in range(2):
        ended = subprocess.run(program, capture_output=True, text=True, check=True, env=writes)
    return dict(json.loads(ended.stdout))


def system_calls(url: str) -> Mapping[str, Counts]:
    """System calls of each kind of call: of ten, after ten that made what is made once. Nothing without strace."""
    if not can_trace():
        return {}
    with tempfile.NamedTemporaryFile("r") as said:
        traced_ones = "trace=network,read,write,poll,ppoll,select,epoll_wait,fcntl,ioctl,openat,close"
        program = ["strace", "-f", "-qq", "-o", said.name, "-e", traced_ones, sys.executable, __file__, "--url", url]
        subprocess.run(program, check=True, capture_output=True)
        return dict(between_marks(said))


def can_trace() -> bool:
    """Whether strace is here, and allowed."""
    program = ["strace", "-qq", "-o", "/dev/null", "true"]
    return shutil.which("strace") is not None and subprocess.run(program, check=False).returncode == 0


def between_marks(lines: Iterable[str]) -> Iterator[tuple[str, Counts]]:
    """Of a trace: how many system calls there are to a call between two marks of a kind of call."""
    begun: dict[str, int] = {}
    count = 0
    for line in lines:
        marked = next((name for name in CALLS if f'{MARK}{name}"' in line), None)
        if marked is None:
            count += "resumed>" not in line
        elif marked in begun:
            yield marked, {"system calls": (count - begun[marked]) / TRACED}
        else:
            begun[marked] = count


def mark(name: str) -> None:
    """Leave a line in a trace: a file is looked for that nobody has."""
    with suppress(FileNotFoundError):
        os.close(os.open(MARK + name, os.O_RDONLY))


# ------------------------------------------------------------------ together


@contextmanager
def server() -> Iterator[str]:
    running = subprocess.Popen([sys.executable, HERE / "server.py"], stdout=subprocess.PIPE, text=True)
    try:
        yield f"http://127.0.0.1:{running.stdout.readline().strip() if running.stdout else ''}"
    finally:
        running.kill()
        running.wait()


def calls_alone() -> dict[str, Counts]:
    with server() as url:
        return counted(url)


def everything() -> dict[str, Counts]:
    import folder

    with server() as url, tempfile.TemporaryDirectory() as place:
        folder.make(FILES, Path(place))
        found = {
            "import": opened(IMPORT),
            f"start with {FILES} files": opened(START.format(folder=place)),
            **counted(url),
        }
        for name, counts in system_calls(url).items():
            found[name] |= counts
        return found


def libraries() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


def grown(found: Mapping[str, Counts], budget: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each count that is over its budget, or has none, or is not counted any more."""
    for what, counts in budget["counts"].items():
        for name, was in counts.items():
            now = found.get(what, {}).get(name)
            if now is None and name != "system calls":
                yield f"{what}: {name} is in the budget and is not counted any more"
            elif now is not None and now > was * (1 + LOOSER.get(name, GROWTH)):
                yield f"{what}: {name} was {was:,g}, is {now:,g}"
    for what, counts in found.items():
        yield from (f"{what}: {name} has no budget" for name in counts if name not in budget["counts"].get(what, {}))


def check(found: Mapping[str, Counts], budgets: Mapping[str, Any]) -> int:
    """Say what has grown; the exit code."""
    sentences = list(grown(found, budgets[VERSION]))
    others = {name: was for name, was in budgets[VERSION]["libraries"].items() if libraries().get(name) != was}
    for sentence in sentences:
        click.echo(sentence)
    if sentences and others:
        click.echo("The budget was made with " + ", ".join(f"{name} {was}" for name, was in others.items()))
    if sentences:
        click.echo("If this is meant: python benchmarks/counts.py --update")
    return int(bool(sentences))


def table(found: Mapping[str, Counts]) -> None:
    for what, counts in found.items():
        click.echo(f"{what:24}" + ", ".join(f"{name} {value:,g}" for name, value in counts.items()))
    if not can_trace():
        click.echo("system calls: not counted, for there is no strace here, or it may not look")


@click.command(help=__doc__)
@click.option("--check", "checked", is_flag=True)
@click.option("--update", is_flag=True)
@click.option("--strict", is_flag=True, help="With --check: a Python version without a budget is an error too.")
@click.option(
    "--quick", is_flag=True, help="Only what is counted in this process; with --budgets, for a budget of the same."
)
@click.option("--budgets", default=BUDGETS, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--url", hidden=True)
def main(budgets: Path, url: str | None, *, checked: bool, update: bool, strict: bool, quick: bool) -> None:
    if url is not None:
        return traced(url)
    known = json.loads(budgets.read_text(encoding="utf-8")) if budgets.exists() else {}
    if checked and not update and VERSION not in known:
        click.echo(f"There is no budget for Python {VERSION} yet: python benchmarks/counts.py --update makes one.")
        sys.exit(int(strict))
    found = calls_alone() if quick else everything()
    table(found)
    if update:
        known[VERSION] = {"libraries": libraries(), "counts": found}
        budgets.write_text(json.dumps(dict(sorted(known.items())), indent=2) + "\n", encoding="utf-8")
    if checked:
        sys.exit(check(found, known))
    return None


def traced(url: str) -> None:
    """What strace looks at."""
    socket.socket = Patient  # type: ignore[misc]
    ask = asking(url)
    for name, call in CALLS.items():
        for step in range(2 * TRACED):
            if step == TRACED:
                mark(name)
            call(ask)
        mark(name)


if __name__ == "__main__":
    main()
