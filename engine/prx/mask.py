"""Masks keys in all output of prx: in texts, in JSON values, and in texts that come in pieces.

A key is found in every spelling, also where it is cut in two: by the events of a stream, or by the parts of an answer.
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
_MARKS = ("type", "kind", "index", "output_index")  # keys by which a stream tells which text a piece continues


# Names of fields in prx's output. They are not masked: a configured header may have an ordinary word for its value.
_OWN = {name for kind in (Reply, Delta, Part, ToolCallDelta, Usage) for name in kind._fields} | {
    "role", "function", "type", "choices", "delta", "data", "error", "code", "provider", "case", "outcome", "why",
    "failures", "evidence", "seconds", "exchanges", "request", "response", "method", "uri", "headers", "json",
    "status", "what", "date", "base_url", "ok", "checks", "verdict", "hint", "asked", "how", "capability",
    "findings", "file", "dialect", "requests", "prx", "made", "mode", "cases", "providers", "results", "counts",
    "came", "wanted", "path", "condition", "tokens", "runs", "right", "of", "outcomes", "passed_by", "changes", "change", "calls",
    "before", "after", "same", "regression", "regressions", "unlimited",
}  # fmt: skip


class Mask:
    """Masks these secrets."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        found = {id(secret.spellings): secret.spellings for secret in secrets if secret}
        self._keys = [spellings for spellings in found.values() if spellings]

    def text(self, text: str) -> str:
        """The text with *** for every key in it."""
        for key in self._keys:
            text = key.replaced(text, MASK)
        return text

    def value(self, value: Any) -> Any:
        """A JSON value with its keys masked. The texts at the same path in all items of a list are searched as one text: the
        events of a stream may cut a key in two.
        """
        if not self._keys:
            return value
        texts: dict[Path, list[str]] = {}
        _gather(value, (), texts)
        return self._laid(value, (), {path: self._pieces(found) for path, found in texts.items()})

    def flow(self) -> Flow:
        """A masker for one text that comes in pieces."""
        return Flow(self)

    def begun(self, text: str) -> int:
        """The place near the end of an unfinished text where a key may begin; the text's length if none may."""
        return min((key.begun(text) for key in self._keys), default=len(text))

    def _pieces(self, texts: list[str]) -> Iterator[str]:
        """The pieces of one text, masked; a key that is cut in two gives one *** in the piece where it begins."""
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
    """Masks a text that comes in pieces. Whatever may be the beginning of a key is held back until more has come."""

    def __init__(self, mask: Mask) -> None:
        self._mask, self._held = mask, ""

    def piece(self, text: str) -> str:
        """Add a piece; gives the text that can be shown now."""
        safe = self._mask.text(self._held + text)
        begun = self._mask.begun(safe)
        self._held = safe[begun:]
        return safe[:begun]

    def rest(self) -> str:
        """The text has ended: gives what was held back."""
        rest, self._held = self._held, ""
        return rest


def strict(value: Any) -> Any:
    """A value that every JSON reader accepts: NaN and infinite numbers are null."""
    if isinstance(value, dict):
        return {name: strict(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _gather(value: Any, path: Path, texts: dict[Path, list[str]]) -> None:
    """Add the texts of a value to `texts`, by path; all items of a list have the same path."""
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
    """A piece of a text, masked. at: where it begins in the whole text; spans: of keys, in the whole text."""
    out, done = "", 0
    for start, end in takewhile(lambda span: span[0] < at + len(text), spans):
        out += text[done : max(start - at, 0)] + MASK * (start >= at)
        done = end - at
    return out + text[done:]
