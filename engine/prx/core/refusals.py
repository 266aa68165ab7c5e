"""Finds the parameter of a call, or the key of its messages and tools, that an error names as refused.

A provider's file lists the possible ones, each with words for it (`leaves_out` and `strips` of its fallbacks). An error
names one if it has its name in quotes, as a field or as a path (errors.refused), or has one of its words in its text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from prx.chat import Call
from prx.core.shape import carries
from prx.errors import Error
from prx.spec.model import Fallback, Parameter, Spec

_PATH = r"[a-z0-9_-]+(?:\.[a-z0-9_-]+|\[\d*\])+"  # in lower case, as an error's text is
_STEP = r"[.\[\]]+"
_NESTED = ("messages", "tools", "input", "contents")  # a path that begins with one of these is not of a parameter


def ways(row: Fallback, spec: Spec, call: Call, error: Error) -> Iterator[str]:
    """The names of a row's fallbacks for this error: the row's own, or one for each parameter or key that the error names."""
    if row.words is None:
        yield row.name
        return
    named = _Named(error, nested=row.leaves_out is None)
    for name, left_out in row.names.items():
        if named.has(_sent_names(left_out, spec), row.words[left_out]) and concerns(row, name, spec, call):
            yield name


def concerns(row: Fallback, name: str, spec: Spec, call: Call) -> bool:
    """Whether a fallback leaves something out of this call that would otherwise be sent."""
    if row.words is None:
        return True
    left_out = row.names[name]
    if row.leaves_out is None:
        return carries(call, spec.request, left_out)
    parameter = _parameter(left_out, spec)
    value = call.params.get(left_out)
    return not parameter.drop and (value is not None or parameter.default is not None)


def _parameter(name: str, spec: Spec) -> Parameter:
    return next((row for row in spec.request.parameters if row.name == name), Parameter(name))


def _sent_names(parameter: str, spec: Spec) -> tuple[str, ...]:
    """The names by which an error may name a parameter: its own, and the one under which it is sent."""
    return tuple(filter(None, (parameter, _parameter(parameter, spec).rename)))


class _Named:
    """The names in an error, normalised, and its text. nested: also names of keys inside messages and tools."""

    def __init__(self, error: Error, *, nested: bool) -> None:
        self._text: str = error.view["text"]
        texts_and_paths = [*error.view["refused"], *re.findall(_PATH, self._text)]
        self._names = {name for text in texts_and_paths for name in _spellings(text, nested=nested)}

    def has(self, names: Iterable[str], words: Iterable[str]) -> bool:
        """Whether the error has one of the names, or one of the words in its text."""
        return any(_plain(each) in self._names for each in (*names, *words)) or any(
            _as_a_word(word).search(self._text) for word in words
        )


def _spellings(text: str, *, nested: bool) -> Iterator[str]:
    """A text as a whole, and if it is a path its last step: messages[1].name names `name`."""
    yield _plain(text)
    steps = [step for step in re.split(_STEP, text.lower()) if step and not step.isdigit()]
    if steps and (nested or len(steps) == 1 or steps[0] not in _NESTED):
        yield _plain(steps[-1])


def _plain(text: str) -> str:
    """A name in lower case without separators: topP, top_p and TOP-P become the same."""
    return re.sub(r"[ _-]", "", text.lower())


@lru_cache(maxsize=512)
def _as_a_word(word: str) -> re.Pattern[str]:
    r"""A pattern for a whole word. Not \b: Python counts Chinese characters as letters, and they stand without spaces."""
    letters = re.escape(word.lower()).replace("_", "[ _-]?")
    return re.compile(rf"(?<![a-z0-9_]){letters}(?![a-z0-9_])")


def texts(found: Any) -> Iterator[str]:
    """The texts that errors.refused has found, also in nested lists; at most 200 characters of each."""
    for value in found if isinstance(found, list | tuple) else (found,):
        if isinstance(value, list):
            yield from texts(value)
        elif isinstance(value, str) and value:
            yield value[:200]
