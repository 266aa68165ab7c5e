"""How far a batch is: a bar on a terminal, a line now and then elsewhere; on standard error."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from prx.cli import output
from prx.errors import ConfigError

if TYPE_CHECKING:
    from prx.batch.pool import Figures

_LINE_SECONDS = 10.0  # between two lines
_BAR_SECONDS = 0.2  # between two changes of the bar
_RECENT = 30.0  # seconds over which the rate is taken


def counted(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


class Progress:
    """rows: of the whole batch; done: in earlier runs."""

    def __init__(self, rows: int, done: int, *, quiet: bool) -> None:
        self._rows, self._done = rows, done
        self._quiet = quiet
        self._began = time.monotonic()
        self._told = self._began
        self._marks = [(self._began, 0)]  # (when, how many rows)
        self._bar: Any
        self._task: Any
        self._bar, self._task = (None, None) if quiet or not sys.stderr.isatty() else _bar(rows, done)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, figures: Figures, also: str = "") -> None:
        """Show the figures, where it is time to."""
        now = time.monotonic()
        if self._quiet or now - self._told < (_BAR_SECONDS if self._bar is not None else _LINE_SECONDS):
            return
        self._told = now
        done, text = self._done + figures.rows, also + self._text(figures, now)
        if self._bar is not None:
            self._bar.update(self._task, completed=done, figures=text)
        else:
            output.note(f"{done:,} of {self._rows:,}  {text}")

    def _text(self, figures: Figures, now: float) -> str:
        self._marks.append((now, figures.rows))
        while len(self._marks) > 2 and self._marks[1][0] < now - _RECENT:
            del self._marks[0]
        when, rows = self._marks[0]
        rate = (figures.rows - rows) / (now - when) if now > when else 0.0
        left = self._rows - self._done - figures.rows
        parts = [f"{rate:,.1f} rows/s", f"{sum(figures.errors.values()):,} failed"]
        parts += [f"{figures.refused:,} asked again for the rate"] if figures.refused else []
        parts += [f"{figures.prompt_tokens:,} + {figures.completion_tokens:,} tokens"]
        parts += [f"{_clock(left / rate)} left"] if rate and left else []
        return ", ".join(parts)


def _bar(rows: int, done: int) -> tuple[Any, Any]:
    """(a bar of rich, its task); (None, None) where rich is not there."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar
    except ImportError:
        return None, None
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[figures]}"))
    bar = Bar(*columns, console=Console(stderr=True), refresh_per_second=4)
    return bar, bar.add_task("", total=rows, completed=done, figures="")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def is_over(batch: Any, out: Path, asked: Mapping[str, Any]) -> bool:
    """Whether --resume has nothing to go on with; that is said then. batch: a Job or a Sharded."""
    over = asked["resume"] and not asked["dry_run"] and batch.is_done()
    if over:
        output.note(f"{out} is there, and no run is under way: nothing to go on with")
    return bool(over)


def tell(out: Path, rows: int, failed: Counter[str]) -> None:
    """The last sentence of a run. Raises ConfigError where rows have failed."""
    count = sum(failed.values())
    if not count:
        output.note(f"{out}: {counted(rows, 'row')}")
        return
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in failed.most_common())
    sys.stdout.flush()
    raise ConfigError(f"{out}: {count:,} of {counted(rows, 'row')} failed ({kinds}); their rows say why")
