"""Finds the definition of a provider by its name: stored by an earlier process, or read, checked and resolved.

A packaged file was checked when it was committed (the tests check every one), so it is only read. A file from anywhere
else is checked in full before it is used. A faulty file does not affect other providers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prx.errors import ConfigError, SpecError
from prx.lang.compiled import Expressions
from prx.spec import resolve
from prx.spec.cache import DefinitionCache
from prx.spec.catalog import Catalog, extends_in
from prx.spec.definition import Definition, Entry, Resolved, SourceFile
from prx.spec.document import Document, Problem, printable
from prx.spec.files import DIALECTS, Files
from prx.spec.resolve import Raw
from prx.text import nearest

if TYPE_CHECKING:
    from prx.spec.face import Face


class Loader(Catalog):
    """A catalogue that also loads its providers, each file once."""

    def __init__(self, folders: Sequence[Path] = (), files: Files | None = None, *, cache: Path | None = None) -> None:
        super().__init__(folders, files, cache=cache)
        self.expressions = Expressions()
        self._definitions: dict[Path, Definition] = {}
        self._resolved: dict[Path, Resolved] = {}

    def get(self, name: str) -> Definition:
        """The provider with this id or alias. Raises ConfigError (unknown) or SpecError (faulty file)."""
        entry = self.entry(name)
        if entry is None:
            raise ConfigError(
                f"unknown provider {name!r}{nearest(name, self.names)}", hint="`prx providers` lists them all."
            )
        return self.load(entry, keep=True)

    def load(self, entry: Entry, *, keep: bool = False) -> Definition:
        """The definition of a file and all that it extends. Raises SpecError. keep: store it for the next process."""
        if entry.path not in self._definitions:
            self._definitions[entry.path] = self._stored_or_made(entry, trees=keep)
        return self._definitions[entry.path]

    def derived(self, name: str, base: str) -> Definition:
        """A provider that has no file of its own, made of a provider or a dialect. Raises SpecError."""
        base_definition = self.load(self.base_entry(base), keep=True)
        entry = base_definition.entry._replace(id=name)
        return base_definition.with_raw(entry, {**base_definition.raw, "id": name, "name": name})

    def faces(self) -> list[Face]:
        """How each dialect is served that says so, in the order of their names. Raises SpecError."""
        from prx.spec.face import compile_face  # imported here: a call needs no face

        raws = {name: self.dialect_or_provider(name) for name in self.dialects()}
        return [compile_face(name, raw["serve"], self.expressions) for name, raw in raws.items() if raw.get("serve")]

    def loaded(self) -> list[Definition]:
        """Every definition that has been loaded."""
        return list(self._definitions.values())

    def adopt(self, definition: Definition) -> None:
        """Use the definition of an earlier catalogue for its file."""
        self._definitions[definition.entry.path] = definition

    def is_current(self, definition: Definition) -> bool:
        """Whether this catalogue would make the same definition as an earlier one has made."""
        try:
            return all(
                (file.name is None or self.base_path(file.name, file.of) == file.path)
                and self.files.data(file.path) == file.data
                for file in definition.source_files
            )
        except (OSError, SpecError):
            return False

    def check(self, path: Path, chain: tuple[Path, ...] = ()) -> tuple[Document, list[Problem]]:
        """A provider's or dialect's file and its faults, in the order of its lines.

        chain: the files that lead here because one extends the other, the first one first.
        """
        from prx.spec.check import check_file  # imported here: it imports yaml, and most calls check no file

        def find(name: str) -> Raw:
            return self.extended(name, path, (*chain, path)).raw

        return check_file(path, self.files.data, find, self.base_path, self.expressions)

    def dialect_or_provider(self, name: str) -> Raw:
        """The resolved mapping that `extends: name` means."""
        return self.extended(name, None, ()).raw

    def extended(self, name: str, of: Path | None, chain: tuple[Path, ...]) -> Resolved:
        """The resolved file that `extends: name` means in the file `of`. chain: as in `check`. Raises SpecError."""
        entry = self.base_entry(name, of)
        if entry.path in chain:
            names = " -> ".join(path.stem for path in (*chain, entry.path))
            raise SpecError(f"{extends_in(of)}: {names} leads back to itself; remove one extends")
        resolved = self._resolve(entry, chain)
        own, *others = resolved.source_files
        return resolved._replace(source_files=(own._replace(name=name, of=of), *others))

    def definition(self, entry: Entry, resolved: Resolved) -> Definition:
        """The definition of a resolved mapping, with all that its variants extend. Raises SpecError."""
        bases = self._reachable(resolved.raw)
        files = (*resolved.source_files, *(file for base in bases.values() for file in base.source_files))
        raws = {name: base.raw for name, base in bases.items()}
        return Definition(entry, resolved.raw, raws, files, self.expressions)

    def _stored_or_made(self, entry: Entry, *, trees: bool) -> Definition:
        on_disk = self._on_disk()
        definition = on_disk.get(entry, trees=trees)
        if definition is not None:
            return definition
        definition = self.definition(entry, self._resolve(entry, ()))
        if trees or not entry.packaged:
            on_disk.put(definition, trees=trees)
        if trees:
            self._store_bases(definition)
        return definition

    def _store_bases(self, definition: Definition) -> None:
        """Store the packaged files that a file extends as well: other files extend them, too."""
        for path in {file.path for file in definition.source_files if file.name and file.packaged}:
            base = self.entry_at(path)
            if self._on_disk().get(base, trees=True) is None and self._resolve(base, ()).raw.get("endpoints"):
                self.load(base, keep=True)

    def _on_disk(self) -> DefinitionCache:
        return DefinitionCache(self.cache, self.files, self.base_path, self.expressions)

    def _resolve(self, entry: Entry, chain: tuple[Path, ...]) -> Resolved:
        if entry.path not in self._resolved:
            # Only packaged files: `load` has looked for the stored definition of any other file.
            stored = self._on_disk().get(entry, trees=False) if entry.packaged else None
            self._resolved[entry.path] = (
                Resolved(stored.raw, stored.source_files) if stored else self._with_bases(entry, chain)
            )
        return self._resolved[entry.path]

    def _with_bases(self, entry: Entry, chain: tuple[Path, ...]) -> Resolved:
        raw = self._read(entry, chain)
        base = self.extended(raw["extends"], entry.path, (*chain, entry.path)) if raw.get("extends") else Resolved({})
        whole = resolve.resolve(raw, lambda _: base.raw, is_dialect=entry.path.parent.name == DIALECTS)
        own = SourceFile(None, None, entry.path, self.files.data(entry.path))
        return Resolved(whole, (own, *base.source_files))

    def _read(self, entry: Entry, chain: tuple[Path, ...]) -> Raw:
        from prx.spec.read import read_quickly  # imported here: it imports yaml

        return (entry.packaged and read_quickly(entry.path, self.files.data)) or self._read_checked(entry, chain)

    def _read_checked(self, entry: Entry, chain: tuple[Path, ...]) -> Raw:
        document, problems = self.check(entry.path, chain)
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise SpecError(
                f"{problems[0]}{more}", hint=f"`prx check {printable(str(entry.path))}` shows every fault of the file."
            )
        return document.value

    def _reachable(self, raw: Raw) -> dict[str, Resolved]:
        """{name: resolved file} of all that overrides and fallbacks of a mapping extend, and theirs in turn."""
        bases: dict[str, Resolved] = {}
        remaining = resolve.overlay_names(raw)
        while remaining:
            name = remaining.pop()
            if name not in bases:
                bases[name] = self.extended(name, None, ())
                remaining += resolve.overlay_names(bases[name].raw)
        return bases
