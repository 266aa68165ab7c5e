"""What leaves prx goes through here: texts, JSON values, and texts that come in pieces, all without the keys of a call.

A key is known in every spelling, and where it is cut: over the events of a stream, or over the parts of an answer.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from itertools import takewhile
from typing import Any

from prx.chat import Delta, Part, Reply, ToolCallDelta, Usage
from prx.secret import MASK, Secret

Path = tuple[Any, ...]
_MARKS = ("type", "kind", "index", "output_index")  # by which streams say what a piece continues


# Names that stay where the value of a configured header is an ordinary word: a reader looks for them.
_OWN = {name for kind in (Reply, Delta, Part, ToolCallDelta, Usage) for name in kind._fields} | {
    "role", "function", "type", "choices", "delta", "data", "error", "code", "provider", "case", "outcome", "why",
    "failures", "evidence", "seconds", "exchanges", "request", "response", "method", "uri", "headers", "json",
    "status", "what", "date", "base_url", "ok", "checks", "verdict", "hint", "asked", "how", "capability",
    "findings", "file", "dialect", "requests", "prx", "made", "mode", "cases", "providers", "results", "counts",
}  # fmt: skip


class Mask:
    """The keys that are masked."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        found = {id(secret.spellings): secret.spellings for secret in secrets if secret}
        self._keys = [spellings for spellings in found.values() if spellings]

    def text(self, text: str) -> str:
        """The text without the keys."""
        for key in self._keys:
            text = key.replaced(text, MASK)
        return text

    def value(self, value: Any) -> Any:
        """A JSON value without the keys. What stands at one place in all items of a list is read as one text."""
        if not self._keys:
            return value
        texts: dict[Path, list[str]] = {}
        _gather(value, (), texts)
        return self._laid(value, (), {path: self._pieces(found) for path, found in texts.items()})

    def flow(self) -> Flow:
        """For a text that comes in pieces."""
        return Flow(self)

    def begun(self, text: str) -> int:
        """Where, at the end of a text that goes on, a key may have begun; its length where none has."""
        return min((key.begun(text) for key in self._keys), default=len(text))

    def _pieces(self, texts: list[str]) -> Iterator[str]:
        """Pieces of one text without the keys; a key that is cut is masked where it begins."""
        whole = "".join(texts)
        spans = _merged(span for key in self._keys for span in key.spans(whole))
        ends = [end for _, end in spans]
        at = 0
        for text in texts:
            near = (spans[place] for place in range(bisect_right(ends, at), len(spans)))
            yield _cut(text, at, near) if spans else text
            at += len(text)

    def _laid(self, value: Any, path: Path, pieces: Mapping[Path, Iterator[str]]) -> Any:
        if isinstance(value, str):
            return next(pieces[path])
        if isinstance(value, dict):
            below = (*path, *_marks(value))
            return {self._name(name): self._laid(item, (*below, name), pieces) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._laid(item, path, pieces) for item in value]
        return value

    def _name(self, name: Any) -> Any:
        return self.text(name) if isinstance(name, str) and name not in _OWN else name


class Flow:
    """A text in pieces. What may be the beginning of a key is held back until it is clear what it is."""

    def __init__(self, mask: Mask) -> None:
        self._mask, self._held = mask, ""

    def piece(self, text: str) -> str:
        """What can be shown after this piece has come."""
        safe = self._mask.text(self._held + text)
        begun = self._mask.begun(safe)
        self._held = safe[begun:]
        return safe[:begun]

    def rest(self) -> str:
        """What was held back, once nothing more comes."""
        rest, self._held = self._held, ""
        return rest


def strict(value: Any) -> Any:
    """A JSON value without the numbers that JSON does not have: NaN and the infinite ones are null."""
    if isinstance(value, dict):
        return {name: strict(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _gather(value: Any, path: Path, texts: dict[Path, list[str]]) -> None:
    """The texts of a value, by where they stand; the items of a list stand at one place."""
    if isinstance(value, str):
        texts.setdefault(path, []).append(value)
    elif isinstance(value, dict):
        below = (*path, *_marks(value))
        for name, item in value.items():
            _gather(item, (*below, name), texts)
    elif isinstance(value, list | tuple):
        for item in value:
            _gather(item, path, texts)


def _marks(value: Mapping[str, Any]) -> Path:
    return tuple(value[name] for name in _MARKS if isinstance(value.get(name), str | int))


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _cut(text: str, at: int, spans: Iterable[tuple[int, int]]) -> str:
    """A piece that begins at a place of the whole, without what of the spans is in it."""
    out, done = "", 0
    for start, end in takewhile(lambda span: span[0] < at + len(text), spans):
        out += text[done : max(start - at, 0)] + MASK * (start >= at)
        done = end - at
    return out + text[done:]
