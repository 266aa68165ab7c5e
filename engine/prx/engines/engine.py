"""What every engine does in the same way: how tasks are drawn, run again where their worker died, and told of."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, NamedTuple, Protocol, Self

from prx.errors import ConfigError, Error

MOST_RUNS = 4  # of one task: after so many, each ended by the death of its worker, the task itself may be the reason
_REACHED_SECONDS = 5.0  # within which an address is there or not
_HOST = re.compile(r"(?:\w+://)?\[?([^\[\]/]+?)\]?:(\d+)")
_QUEUED = 2  # tasks handed over for each that can run at once, so that no worker waits for its next one


class Fault(NamedTuple):
    """Why a task has no value.

    kind  that of prx.Error which it raised; "lost": its worker died each time; "bug": it raised something else
    """

    kind: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class Outcome(NamedTuple):
    """What came of a task. error: None where there is a value. runs: how often it was handed over, more than once where a
    worker died.
    """

    task: Any
    value: Any = None
    error: Fault | None = None
    runs: int = 1


class Lost(NamedTuple):
    """A run that ended with its worker. why: in the engine's words."""

    why: str


class Held(Protocol):
    """One object that all tasks may call, wherever they run. It can be part of a task."""

    def ask(self, method: str, *arguments: Any) -> Any:
        """Call a method of the object, and wait for what it gives. Raises LookupError where the object is gone."""


class Engine:
    """Runs tasks. Made by `open_engine`, closed by `close` or as a context manager.

    A class of its own for each engine says how a run is begun (`_begin`), waited for (`_ended`) and stopped (`_stop`).
    """

    name = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def map(
        self, function: Callable[[Any], Any], tasks: Iterable[Any], at_once: int | None = None
    ) -> Generator[Outcome, None, None]:
        """What comes of function(task) for each task, in the order in which they end.

        at_once  tasks that are handed over at the same time, at most; None: twice as many as can run. A further one is
                 drawn when there is room for it. Closing the iterator stops those that run.
        """
        left = iter(tasks)
        running: dict[Any, tuple[Any, int]] = {}  # {run: (its task, which run of the task it is)}
        more = True
        try:
            while more or running:
                room = (at_once or _QUEUED * self.slots()) - len(running)
                more = more and self._draw(function, left, running, room)
                for run, value in self._ended([*running]) if running else ():
                    task, count = running.pop(run)
                    if not isinstance(value, Lost):
                        found, fault = value
                        yield Outcome(task, found, fault, count)
                    elif count < MOST_RUNS:
                        running[self._begin(function, task)] = task, count + 1
                    else:
                        why = f"its worker died {count} times, the last time: {value.why}"
                        yield Outcome(task, None, Fault("lost", why), count)
        finally:
            self._stop([*running])

    def _draw(self, function: Any, left: Iterator[Any], running: dict[Any, tuple[Any, int]], room: int) -> bool:
        """Begin as many tasks as there is room for; gives whether there may be more."""
        for _ in range(room):
            try:
                task = next(left)
            except StopIteration:
                return False
            running[self._begin(function, task)] = task, 1
        return True

    # -------------------------------------------------------------- what each engine has in its own way

    def slots(self) -> int:
        """How many tasks can run at once, now."""
        return 1

    def hold(self, make: Callable[..., Any], *arguments: Any) -> Held:
        """Make an object that all tasks may call, until the engine is closed. make and arguments: pickled, as tasks are."""
        raise ConfigError(f"{self.name or 'this engine'} can hold nothing for its tasks")

    def close(self) -> None:
        """End it, where it was started here; leave it, where it ran before."""

    def _begin(self, function: Any, task: Any) -> Any:
        """Hand a task over; gives what tells this run from all others, and can be the key of a dict."""
        raise AssertionError(self)

    def _ended(self, running: list[Any]) -> list[tuple[Any, Any]]:
        """Wait until one of these or more have ended: (run, Lost or what `guarded` gave) of each."""
        raise AssertionError(self)

    def _stop(self, running: list[Any]) -> None:
        """End these runs; nobody waits for them any more."""


def check_reachable(address: str) -> None:
    """Raise OSError where nobody listens at an address with a host and a port: the libraries try for minutes."""
    found = _HOST.fullmatch(address)
    if found is not None:
        socket.create_connection((found[1], int(found[2])), timeout=_REACHED_SECONDS).close()


def guarded(function: Callable[[Any], Any], task: Any) -> tuple[Any, Fault | None]:
    """(value, error) of a task, on its worker: an exception of any class, with its frames, stays there."""
    try:
        return function(task), None
    except Error as error:
        return None, Fault(error.kind, error.message, error.hint)
    except Exception as error:  # what a task raises ends the task, and neither its worker nor the other tasks
        return None, Fault("bug", f"{type(error).__name__}{_where(error)}", "Please report it.")


def _where(error: BaseException) -> str:
    """The last line of code of an exception. Its text may have anything in it, a key as well, and is not said."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return f" at {frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}" if frame is not None else ""
