"""The engines that tests run on: the real ones that are installed, and one in the process of the test."""

from __future__ import annotations

import importlib.util
import itertools
import pickle

import pytest

from prx.engines.engine import Engine, Lost, guarded

ENGINES = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            importlib.util.find_spec(library) is None, reason=f"pip install '.[{name}]' brings the engine"
        ),
    )
    for name, library in (("ray", "ray"), ("dask", "distributed"))
]


class Here(Engine):
    """Runs tasks in this process, and loses those that it is told to, as often as it is told to."""

    def __init__(self, lost=()):
        self.lost, self.begun, self.stopped, self.names = dict(lost), [], [], itertools.count()

    def _begin(self, function, task):
        name = next(self.names)
        self.begun.append((name, function, task))
        return name

    def _ended(self, running):
        _, function, task = self.begun[running[0]]
        if self.lost and self.lost.get(task, 0):
            self.lost[task] -= 1
            return [(running[0], Lost("it was told to"))]
        return [(running[0], guarded(function, task))]

    def hold(self, make, *arguments):
        self.held = Held(make(*arguments))
        return self.held

    def _stop(self, running):
        self.stopped += running


class Held:
    def __init__(self, held):
        self.held = held

    def ask(self, method, *arguments):
        """As from another process: what goes there and back is pickled."""
        method, arguments = pickle.loads(pickle.dumps((method, arguments)))
        return pickle.loads(pickle.dumps(getattr(self.held, method)(*arguments)))
