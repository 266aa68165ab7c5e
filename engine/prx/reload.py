"""The files as they are now, for a client that goes on: what is good is taken, what is broken stays as it was."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from prx.errors import SpecError
from prx.spec.definition import Definition
from prx.spec.files import Reload, Stamp, survey
from prx.spec.loader import Loader

_LOOK_SECONDS = 0.2  # at most so often are the folders looked at
_SETTLE_TIMEOUT = 2.0  # seconds for which a file that never settles holds up the others
_SETTLED_SECONDS = 0.1  # a file that has just been written to may not be whole yet


def reload(old: Loader) -> tuple[Loader, Reload]:
    """A catalogue of the same folders as they are now. `old` is not changed."""
    files = old.files.renewed(old.folders[1:])
    changed = files.changed(old.files)
    # Tried by a loader of their own, which is dropped: what it made of a broken file must not be taken over.
    broken = _broken(Loader(old.folders[1:], files), changed)
    broken |= {path: f"{path}: cannot be read" for path in old.files.gone(files) if files.has(path)}
    for path in broken:
        if (before := old.files.known(path)) is not None:
            files.put_back(path, before)
        elif old.offers(path):
            files.leave_out(path)  # what has that name goes on
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
    """Have in `new` what callers use: as it was where nothing changed, or where what changed broke it."""
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
    """Tells when a file, or one in a folder, has changed. It has no thread: it looks when it is asked."""

    def __init__(self, places: Iterable[Path]) -> None:
        self._places = tuple(places)
        self._seen = self._survey()
        self._away: set[Path] = set()
        self._since = time.monotonic()  # when all was last as it is seen
        self._next = time.monotonic() + _LOOK_SECONDS

    def changed(self) -> bool:
        """Whether something has changed since the last time that the answer was yes, and is whole by now."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + _LOOK_SECONDS
        try:
            stamps = self._survey()
        except OSError:
            return False  # not now
        away, self._away = self._away, {path for path in self._seen if path not in stamps}
        if not self._away <= away:
            return False  # a file that is replaced may be away for a moment: one that is gone is so at two looks
        if stamps == self._seen:
            self._since = now
            return False
        if now - self._since < _SETTLE_TIMEOUT and not _settled(stamps, self._seen):
            return False
        self._seen, self._away, self._since = stamps, set(), now
        return True

    def _survey(self) -> dict[Path, Stamp]:
        return survey(self._places)


def _settled(stamps: dict[Path, Stamp], seen: dict[Path, Stamp]) -> bool:
    """Whether the newest of the changes is old enough for its writer to be done."""
    newest = max((stamp[0] for path, stamp in stamps.items() if seen.get(path) != stamp), default=0)
    return abs(time.time() - newest / 1e9) >= _SETTLED_SECONDS
