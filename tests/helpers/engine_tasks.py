"""Tasks for the engines: what workers import has to stand in a module that they can import as well."""

from __future__ import annotations

import os
import time
from pathlib import Path

import prx


def square(number):
    return number * number


def dies_at_first(mark):
    """Ends its process, unless it has done so before: the mark, a path, says so."""
    path = Path(mark)
    if not path.exists():
        path.write_text("begun")
        os._exit(1)
    return "done"


def dies(_task):
    os._exit(1)


def fails(how):
    if how == "config":
        raise prx.ConfigError("the sentence", hint="The hint.")
    raise ValueError("sk-in-no-sentence")


def waits(mark):
    Path(mark).write_text("begun")
    time.sleep(60)
    Path(mark).write_text("done")


class Counter:
    def __init__(self, number):
        self.number = number

    def add(self, more):
        self.number += more
        return self.number


def adds(task):
    held, more = task
    return held.ask("add", more)


def asks_but_dies_at_first(mark, settings, task):
    """As a task of prx conformance, but that the first of all ends its process. mark: a path, which says that this was."""
    from prx.conformance import spread

    if not mark.exists():
        mark.write_text("begun")
        os._exit(1)
    return spread.ask(settings, task)
