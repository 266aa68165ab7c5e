"""Coverage-guided fuzzing of prx by atheris: inputs that nobody thought of, held to tests/helpers/properties.py.

    python tests/fuzz/run.py TARGET|all [--seconds N] [--faults DIR] [--keep]

Needs `pip install -e '.[fuzz]'`. An input that breaks a law, or takes more than 2 s, is written to DIR under a name of
its own; exit 1. `python tests/fuzz/run.py TARGET --play FILE…` plays it once more. --keep: what was found to be worth
keeping replaces the kept corpus.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import click

HERE = Path(__file__).resolve().parent
sys.path[0] = str(HERE.parent)  # the tests import each other by their names

SECONDS = 2.0  # of processor time for one input; anything that grows with the square of it or worse takes longer
MAX_LENGTH = 4096
MAX_KEPT = 100_000  # bytes of a kept corpus, smallest inputs first
NAMES = ("spec", "framing", "decoder", "expression", "toolcalls")


@click.command(help=__doc__)
@click.argument("target", type=click.Choice([*NAMES, "all"]))
@click.option("--seconds", default=15, help="For each target.")
@click.option(
    "--faults", default="fuzz-faults", type=click.Path(path_type=Path), help="Where inputs that break a law go."
)
@click.option("--keep", is_flag=True, help="Make what was found the kept corpus.")
@click.option("--play", multiple=True, type=click.Path(exists=True, path_type=Path), help="Play this input, no more.")
@click.option("--inside", type=click.Path(path_type=Path), hidden=True, help="The folder of a running corpus.")
def main(target: str, seconds: int, faults: Path, *, keep: bool, play: tuple[Path, ...], inside: Path | None) -> None:
    if play:
        sys.exit(_played(target, play))
    if inside:
        _fuzz(target, seconds, faults, inside)
    names = NAMES if target == "all" else (target,)
    sys.exit(max(_supervised(name, seconds, faults, keep=keep) for name in names))


def _played(target: str, paths: tuple[Path, ...]) -> int:
    from fuzz import targets

    for path in paths:
        targets.run(target, path.read_bytes())
        click.echo(f"{path}: nothing is wrong")
    return 0


# ------------------------------------------------------------------ outside: one process a target, since libFuzzer ends its own


def _supervised(name: str, seconds: int, faults: Path, *, keep: bool) -> int:
    """Fuzz one target in a process of its own and say what came of it."""
    from fuzz import targets

    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder)
        _spread(corpus, [*targets.kept(name), *targets.SEEDS[name]()])
        limits = ["--seconds", str(seconds), "--faults", str(faults), "--inside", str(corpus)]
        done = subprocess.run([sys.executable, __file__, name, *limits], capture_output=True, text=True, check=False)
        wrong = _wrong(done)
        click.echo("\n".join([f"{name}: {_figures(done.stderr)}", *wrong]))
        if keep:
            click.echo(_kept(name, corpus))
    return 1 if wrong else 0


def _spread(folder: Path, inputs: list[bytes]) -> None:
    for data in inputs:
        (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


def _figures(log: str) -> str:
    runs = re.findall(r"^Done (\d+) runs? in (\d+)|^stat::number_of_executed_units: (\d+)", log, re.MULTILINE)
    seen = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", log)
    count = next((row[0] or row[2] for row in reversed(runs)), "no")
    coverage, features, inputs = seen[-1] if seen else ("no", "no", "no")
    return f"{count} executions, {coverage} branches, {features} features, {inputs} inputs that differ"


def _wrong(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The faults found, each place once, and whatever ended the fuzzer itself."""
    said = [line for line in done.stderr.splitlines() if line.startswith("FAULT ")]
    if done.returncode and not said:
        said = [f"the fuzzer itself failed: {line}" for line in done.stderr.strip().splitlines()[-1:] or ["no word"]]
    return said


# ------------------------------------------------------------------ what is kept


def _kept(name: str, corpus: Path) -> str:
    """Make the fewest inputs that reach everything the kept corpus. Seeds are made anew at each start, and not kept."""
    from fuzz import targets

    seeds = list(targets.SEEDS[name]())
    reached: set[Step] = set()
    for data in seeds:
        reached |= _steps(name, data)
    kept: list[bytes] = []
    for data in sorted(
        {path.read_bytes() for path in corpus.iterdir()} - set(seeds), key=lambda data: (len(data), data)
    ):
        steps = _steps(name, data)
        if steps - reached and sum(map(len, kept)) + len(data) < MAX_KEPT:
            kept.append(data)
        reached |= steps
    path = targets.keep(name, kept)
    return f"{path}: {len(kept)} inputs, {path.stat().st_size // 1024} KB"


Step = tuple[str, int, int, int]  # a file of prx, from which of its lines to which, and how often, in powers of two


def _steps(name: str, data: bytes) -> set[Step]:
    from fuzz import targets

    steps: Counter[tuple[str, int, int]] = Counter()

    def follow(frame: FrameType, _event: str, _found: object) -> Callable[..., object] | None:
        file, last = frame.f_code.co_filename, 0
        if "/prx/" not in file:
            return None

        def step(inner: FrameType, _event: str, _found: object) -> object:
            nonlocal last
            steps[file, last, inner.f_lineno] += 1
            last = inner.f_lineno
            return step

        return step

    sys.settrace(follow)
    try:
        targets.run(name, data)
    finally:
        sys.settrace(None)
    return {(*step, count.bit_length()) for step, count in steps.items()}


# ------------------------------------------------------------------ inside


def _fuzz(name: str, seconds: int, faults: Path, corpus: Path) -> None:
    """Run libFuzzer; it never returns."""
    import atheris

    with atheris.instrument_imports(include=["prx"]):
        from fuzz import targets

    def one(data: bytes) -> None:
        begun = time.process_time()
        fault = _fault(targets.run, name, data)
        taken = time.process_time() - begun
        if fault or taken > SECONDS:
            _report(name, data, fault or TimeoutError(f"{taken:.1f} s for {len(data)} bytes"), faults)

    faults.mkdir(parents=True, exist_ok=True)
    limits = [f"-max_total_time={seconds}", f"-max_len={MAX_LENGTH}", "-timeout=60"]
    atheris.Setup([__file__, *limits, f"-artifact_prefix={faults}/", str(corpus)], one)
    atheris.Fuzz()


def _fault(run: Callable[[str, bytes], None], name: str, data: bytes) -> Exception | None:
    try:
        run(name, data)
    except Exception as fault:  # whatever it is: only a prx.Error may come out, and the laws let that pass
        return fault
    return None


_reported: set[str] = set()


def _report(name: str, data: bytes, fault: Exception, folder: Path) -> None:
    """Write an input and say what is wrong with it, once for each place where such a thing happens."""
    where = next(
        (frame for frame in reversed(traceback.extract_tb(fault.__traceback__)) if "prx" in frame.filename), None
    )
    place = f"{type(fault).__name__}{f' at {Path(where.filename).name}:{where.lineno}' if where else ''}"
    if place in _reported:
        return
    _reported.add(place)
    path = folder / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}"
    path.write_bytes(data)
    words = f"{str(fault)[:300]!r}" if str(fault) else "no words"
    sys.stderr.write(f"FAULT {place}: {words}; once more: python tests/fuzz/run.py {name} --play {path}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
