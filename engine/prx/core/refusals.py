"""What a refusal is about: which parameter of a call, or which key of its messages and tools, the error names.

A file lists them, each with words for it (`leaves_out` and `strips` of its fallbacks). One is named where the error
says it in quotes, as a field or as a path (errors.refused), or where one of its words stands in the error's text.
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

_PATH = r"[a-z0-9_-]+(?:\.[a-z0-9_-]+|\[\d*\])+"  # in small letters, as an error's text is
_STEP = r"[.\[\]]+"
_NESTED = ("messages", "tools", "input", "contents")  # where a path that begins so leads to no parameter of the call


def ways(row: Fallback, spec: Spec, call: Call, error: Error) -> Iterator[str]:
    """The names of the fallbacks that a row is for this error: its own, or one for each thing that the error names."""
    if row.words is None:
        yield row.name
        return
    seen = _Named(error, nested=row.leaves_out is None)
    for name, what in row.names.items():
        if seen.has(_on_the_wire(what, spec), row.words[what]) and concerns(row, name, spec, call):
            yield name


def concerns(row: Fallback, name: str, spec: Spec, call: Call) -> bool:
    """Whether a fallback takes something away from this call that would be sent without it."""
    if row.words is None:
        return True
    what = row.names[name]
    if row.leaves_out is None:
        return carries(call, spec.request, what)
    rows = _parameter(what, spec)
    value = call.params.get(what)
    return not rows.drop and (value is not None or rows.default is not None)


def _parameter(name: str, spec: Spec) -> Parameter:
    return next((row for row in spec.request.parameters if row.name == name), Parameter(name))


def _on_the_wire(what: str, spec: Spec) -> tuple[str, ...]:
    return tuple(filter(None, (what, _parameter(what, spec).rename)))


class _Named:
    """The names in an error, in their plainest spelling, and its text. nested: also those of things within messages and tools."""

    def __init__(self, error: Error, *, nested: bool) -> None:
        self._text: str = error.view["text"]
        found = [*error.view["refused"], *re.findall(_PATH, self._text)]
        self._names = {name for text in found for name in _spellings(text, nested=nested)}

    def has(self, names: Iterable[str], words: Iterable[str]) -> bool:
        """Whether one of the names, or of the words for it, is named."""
        return any(_plain(each) in self._names for each in (*names, *words)) or any(
            _as_a_word(word).search(self._text) for word in words
        )


def _spellings(text: str, *, nested: bool) -> Iterator[str]:
    """A text as a whole, and the last step of it where it is a path: messages[1].name is about a name."""
    yield _plain(text)
    steps = [step for step in re.split(_STEP, text.lower()) if step and not step.isdigit()]
    if steps and (nested or len(steps) == 1 or steps[0] not in _NESTED):
        yield _plain(steps[-1])


def _plain(text: str) -> str:
    """A name without what APIs write in different ways: topP, top_p and TOP-P are one."""
    return re.sub(r"[ _-]", "", text.lower())


@lru_cache(maxsize=512)
def _as_a_word(word: str) -> re.Pattern[str]:
    """A word of a file where it stands by itself. Python's own idea of a word has Chinese letters in it, which need no space."""
    letters = re.escape(word.lower()).replace("_", "[ _-]?")
    return re.compile(rf"(?<![a-z0-9_]){letters}(?![a-z0-9_])")


def texts(found: Any) -> Iterator[str]:
    """The texts in what errors.refused has found, however they lie in lists."""
    for value in found if isinstance(found, list | tuple) else (found,):
        if isinstance(value, list):
            yield from texts(value)
        elif isinstance(value, str) and value:
            yield value[:200]
