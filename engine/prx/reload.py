"""Reloads provider files in a running client: changed files are used, and of a faulty one its last good version."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from prx.errors import SpecError
from prx.spec.definition import Definition
from prx.spec.files import Reload, Stamp, survey
from prx.spec.loader import Loader

_LOOK_SECONDS = 0.2  # the folders are looked at no more often than this
_PAUSE_PER_LOOK = 100  # a pause is as many times as long as the look before it
_LONGEST_PAUSE = 5.0  # seconds; a look may be slow once, as in a process that was stopped meanwhile
_SETTLE_TIMEOUT = 2.0  # seconds for which a file that keeps changing delays the reload of all others
_SETTLED_SECONDS = 0.1  # a file that was written to less than this ago may be incomplete


def reload(old: Loader) -> tuple[Loader, Reload]:
    """A catalogue of the same folders with their present files. `old` is not changed."""
    files = old.files.renewed(old.folders[1:])
    changed = files.changed(old.files)
    # Tested with a separate loader: a loader keeps what it has read, and must not keep faulty files.
    broken = _broken(Loader(old.folders[1:], files), changed)
    broken |= {path: f"{path}: cannot be read" for path in old.files.gone(files) if files.has(path)}
    for path in broken:
        if (before := old.files.known(path)) is not None:
            files.put_back(path, before)
        elif old.offers(path):
            files.leave_out(path)  # a faulty new file must not hide the provider that has had this name
    new = Loader(old.folders[1:], files, cache=old.cache)
    later = _carry_over(old, new)
    good = [path for path in changed if path not in broken]
    return new, Reload(
        added=tuple(str(path) for path in good if old.files.known(path) is None),
        changed=tuple(str(path) for path in good if old.files.known(path) is not None),
        removed=tuple(map(str, old.files.gone(files))),
        problems=(*broken.values(), *later),
    )


def _broken(catalog: Loader, paths: Iterable[Path]) -> dict[Path, str]:
    problems: dict[Path, str] = {}
    for path in paths:
        try:
            catalog.load(catalog.entry_at(path))
        except SpecError as error:
            problems[path] = error.message
    return problems


def _carry_over(old: Loader, new: Loader) -> list[str]:
    """Put the definitions that callers use into `new`: the old one where nothing has changed or the change is faulty."""
    problems = []
    for definition in old.loaded():
        if new.is_current(definition):
            new.adopt(definition)
        elif new.files.has(definition.entry.path):
            problems += _load_again(new, definition)
    return problems


def _load_again(new: Loader, definition: Definition) -> list[str]:
    try:
        new.load(definition.entry)
    except SpecError as error:
        new.adopt(definition)
        return [error.message]
    return []


class Watch:
    """Tells whether files, or files in folders, have changed. It has no thread: it looks when `changed` is called."""

    def __init__(self, places: Iterable[Path]) -> None:
        self._places = tuple(places)
        self._seen = self._survey()
        self._away: set[str] = set()
        self._since = time.monotonic()  # when the files last were as in _seen
        self._next = time.monotonic() + _LOOK_SECONDS

    def changed(self) -> bool:
        """Whether files have changed since this last gave True, and are no longer being written to."""
        now = time.monotonic()
        if now < self._next:
            return False
        try:
            stamps = self._survey()
        except OSError:
            return False  # too many files are open; the next look will tell
        finally:
            looked = time.monotonic()
            # The time is the caller's: of a service, that of all its streams. So the slower a look, the rarer it is.
            self._next = looked + max(_LOOK_SECONDS, min((looked - now) * _PAUSE_PER_LOOK, _LONGEST_PAUSE))
        away, self._away = self._away, {path for path in self._seen if path not in stamps}
        if not self._away <= away:
            return False  # a file that is being replaced is missing for a moment; a removed one is missing at two looks
        if stamps == self._seen:
            self._since = now
            return False
        if now - self._since < _SETTLE_TIMEOUT and not _settled(stamps, self._seen):
            return False
        self._seen, self._away, self._since = stamps, set(), now
        return True

    def _survey(self) -> dict[str, Stamp]:
        return survey(self._places)


def _settled(stamps: dict[str, Stamp], seen: dict[str, Stamp]) -> bool:
    """Whether the newest of the changes is old enough for its writer to be done."""
    newest = max((stamp[0] for path, stamp in stamps.items() if seen.get(path) != stamp), default=0)
    return abs(time.time() - newest / 1e9) >= _SETTLED_SECONDS
