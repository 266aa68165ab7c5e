"""A provider's definition, to the store and back.

What many providers of a dialect share (the mappings their fallbacks extend, the trees of all expressions) is kept once,
under its digest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prx.errors import SpecError
from prx.lang.compiled import Expressions
from prx.spec import store
from prx.spec.definition import Definition, Entry, Use
from prx.spec.store import Store

if TYPE_CHECKING:
    from prx.spec.catalog import Catalog

_Row = Sequence[Any]  # a Use: its name, the place of the file it was seen from (-1: none), a digest


class Keeper:
    """Keeps one provider's definition, as long as every file that it was made of is the same."""

    def __init__(self, catalog: Catalog, entry: Entry) -> None:
        self._catalog, self._entry = catalog, entry
        self._stores = (catalog.store_for(entry.path), store.Store(catalog.cache))
        self._name = f"{entry.id}-{store.digest(str(entry.path).encode())[:16]}"

    def get(self, *, trees: bool) -> Definition | None:
        """The definition as it was made before, or None. trees: only with those of all its expressions."""
        first, second = self._stores
        found = self._from(first, trees=trees)
        return found or (self._from(second, trees=trees) if second.folder != first.folder else None)

    def _from(self, kept: Store, *, trees: bool) -> Definition | None:
        try:
            rows, raw, bases, parsed = kept.get(self._name, self._own()) or ((), None, "", "")
            uses = self._uses(rows) if raw and (parsed or not trees) else None
            if not (uses and raw):
                return None
            expressions = self._catalog.expressions
            return Definition(self._entry, raw, _bases(kept, bases, parsed, expressions), uses, expressions)
        except (OSError, SpecError, TypeError, ValueError, LookupError):
            return None

    def put(self, definition: Definition, *, trees: bool) -> None:
        """Keep a definition; trees: with those of all its expressions, so that the next process parses nothing."""
        packaged = all(use.path.is_relative_to(self._catalog.folders[0]) for use in definition.uses)
        kept = self._stores[0 if packaged else 1]  # beside the package's code is only what is of the package
        if kept.folder is None:
            return
        paths = [use.path for use in definition.uses]
        rows = [[use.name, paths.index(use.of) if use.of else -1, store.digest(use.data)] for use in definition.uses]
        parsed = _share(kept, definition.trees()) if trees else ""
        kept.put(self._name, self._own(), [rows, definition.raw, _share(kept, dict(definition.bases)), parsed])

    def _own(self) -> str:
        return store.digest(self._catalog.files.data(self._entry.path))

    def _uses(self, rows: Sequence[_Row]) -> tuple[Use, ...] | None:
        """The files as they are now, or None where one is not what it was. Raises SpecError, OSError."""
        uses: list[Use] = []
        for name, place, digest in rows:
            of = uses[place].path if place >= 0 else None
            path: Path = self._entry.path if name is None else self._catalog.base_entry(name, of).path
            uses.append(Use(name, of, path, self._catalog.files.data(path)))
            if store.digest(uses[-1].data) != digest:
                return None
        return tuple(uses)


def _share(kept: Store, value: Mapping[str, Any]) -> str:
    name = f"shared-{store.digest(store.written(value))[:32]}"
    if kept.get(name, name) is None:
        kept.put(name, name, value)
    return name


def _bases(kept: Store, bases: str, parsed: str, expressions: Expressions) -> Any:
    """The mappings that are shared; trees are given to whoever writes functions. Raises LookupError."""
    found, trees = kept.get(bases, bases), kept.get(parsed, parsed) if parsed else {}
    if found is None or trees is None:
        raise LookupError
    expressions.add_stored(trees)
    return found
