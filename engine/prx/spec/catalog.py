"""Which providers there are: folders of YAML files, later folders win, one bad file harms nobody else.

A packaged file was checked when it was committed (the tests check every one), so it is only read. A file
from anywhere else is checked in full before it is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from prx import resources
from prx.errors import ConfigError, SpecError
from prx.lang.compiled import Expressions
from prx.spec import glance as glancing
from prx.spec import resolve, store
from prx.spec.definition import Definition, Entry, Resolved, Use
from prx.spec.document import printable
from prx.spec.files import DIALECTS, SUFFIXES, Files
from prx.spec.keeper import Keeper
from prx.spec.resolve import Raw
from prx.text import nearest

_MOST_FOUND = 4096


class Catalog:
    """Providers and dialects of some folders. The packaged folder is always the first and weakest.

    cache: where results of files outside the package are kept, None for nowhere
    """

    def __init__(self, folders: Sequence[Path] = (), files: Files | None = None, *, cache: Path | None = None) -> None:
        self.folders = (resources.folder("providers.d"), *folders)
        self.files = files or Files()
        self.cache = cache
        self.expressions = Expressions()
        self._definitions: dict[Path, Definition] = {}
        self._resolved: dict[Path, Resolved] = {}
        self._found: dict[tuple[str, Path | None, str], Entry | None] = {}

    def get(self, name: str) -> Definition:
        """The provider of that id or alias. Raises ConfigError (unknown) or SpecError (faulty file)."""
        entry = self.entry(name)
        if entry is None:
            raise ConfigError(
                f"unknown provider {name!r}{nearest(name, self.names)}", hint="`prx providers` lists them all."
            )
        return self.load(entry, keep=True)

    def entry(self, name: str) -> Entry | None:
        """The file behind an id or alias, or None."""
        return self._file(name) or self._file(self._aliases.get(name, ""))

    def entry_at(self, path: Path) -> Entry:
        """The entry that a file of one of the folders makes."""
        return Entry(path.stem, path, packaged=path.is_relative_to(self.folders[0]))

    def entries(self) -> list[Entry]:
        """Every provider, by id; where several folders offer one, the last folder's."""
        return [self._entries[name] for name in sorted(self._entries)]

    @cached_property
    def _entries(self) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        for place in range(len(self.folders)):
            for entry in self._in_folder(place):
                found.pop(entry.id, None)  # it stands where its folder does: of two aliases the stronger folder's wins
                found[entry.id] = entry
        return found

    @cached_property
    def names(self) -> list[str]:
        return sorted({*self._entries, *self._aliases})

    def load(self, entry: Entry, *, keep: bool = False) -> Definition:
        """Read a file and all that it may need. Raises SpecError. keep: have it on disk for the next process."""
        if entry.path not in self._definitions:
            self._definitions[entry.path] = self._kept(entry, trees=keep)
        return self._definitions[entry.path]

    def _kept(self, entry: Entry, *, trees: bool) -> Definition:
        keeper = Keeper(self, entry)
        known = keeper.get(trees=trees)
        if known is not None:
            return known
        made = self.definition(entry, self._made(entry, ()))
        if trees or not entry.packaged:
            keeper.put(made, trees=trees)
        if trees:
            self._keep_bases(made)
        return made

    def _keep_bases(self, definition: Definition) -> None:
        """Have the packaged files that a file extends at hand for others that extend them."""
        for path in {use.path for use in definition.uses if use.name and use.path.is_relative_to(self.folders[0])}:
            base = self.entry_at(path)
            if Keeper(self, base).get(trees=True) is None and self._made(base, ()).raw.get("endpoints"):
                self.load(base, keep=True)

    def definition(self, entry: Entry, made: Resolved) -> Definition:
        """A resolved mapping with all that its variants extend. Raises SpecError."""
        bases = self._reachable(made.raw)
        uses = (*made.uses, *(use for base in bases.values() for use in base.uses))
        return Definition(entry, made.raw, {name: base.raw for name, base in bases.items()}, uses, self.expressions)

    def derived(self, name: str, base: str) -> Definition:
        """A provider that has no file, on a provider or a dialect. Raises SpecError."""
        below = self.load(self.base_entry(base), keep=True)
        raw = {**below.raw, "id": name, "name": name}
        return Definition(below.entry._replace(id=name), raw, below.bases, below.uses, below.expressions)

    def loaded(self) -> list[Definition]:
        return list(self._definitions.values())

    def adopt(self, definition: Definition) -> None:
        """Have a provider as an earlier catalogue had it."""
        self._definitions[definition.entry.path] = definition

    def still(self, definition: Definition) -> bool:
        """Whether an earlier catalogue's definition is what this one would make of the files."""
        try:
            return all(
                self._place(use) == use.path and self.files.data(use.path) == use.data for use in definition.uses
            )
        except (OSError, SpecError):
            return False

    def dialect_or_provider(self, name: str) -> Raw:
        """The resolved mapping that `extends: name` means."""
        return self.extended(name, None, ()).raw

    def base_entry(self, name: str, of: Path | None = None) -> Entry:
        """The file that `extends: name` means, in the file `of`. Raises SpecError.

        A file may extend its own name: it means the file of that name in a weaker folder.
        """
        below = of if of and of.stem == name and of.parent.name != DIALECTS else None
        entry = self._file(name, within=DIALECTS) or self._file(name, below) or self._file(self._aliases.get(name, ""))
        if entry is None:
            known = [*self.dialects(), *self._entries]
            raise SpecError(
                f"{_where(of)}: unknown dialect or provider {name!r}{nearest(name, known)}",
                hint="`prx providers` lists them all.",
            )
        return entry

    def dialects(self) -> list[str]:
        return sorted({path.stem for folder in self.folders for path in self.files.listed(folder / DIALECTS)})

    def glance(self, entry: Entry) -> Raw:
        """What a file says of itself, read without checks; empty where it cannot be read."""
        return self._index.get(entry.path, {})

    @cached_property
    def _index(self) -> dict[Path, Raw]:
        found = dict(self._index_of_packaged)
        for folder in self.folders[1:]:
            found |= self._index_of(folder)
        return found

    @cached_property
    def _index_of_packaged(self) -> dict[Path, Raw]:
        """By itself: whose key is whose is asked for each call, and needs no other file."""
        return self._index_of(self.folders[0])

    def _index_of(self, folder: Path) -> dict[Path, Raw]:
        from prx.spec.index import index

        return index(folder, self.files, self.store_for(folder))

    def store_for(self, path: Path) -> store.Store:
        """Where results of a file, or of a folder, are kept."""
        packaged = path.is_relative_to(self.folders[0])
        return store.of_the_package(self.cache) if packaged else store.Store(self.cache)

    @cached_property
    def claims(self) -> Mapping[str, Sequence[str]]:
        """Environment variables that packaged files name, in capitals, and the base URLs each may go to."""
        found: dict[str, list[str]] = {}
        for _, raw in self._packaged():
            for name in glancing.key_names(raw):
                found.setdefault(name.upper(), []).append(raw.get("base_url", ""))
        return found

    @cached_property
    def homes(self) -> Mapping[str, str]:
        """Names of packaged providers and dialects, and the base URL of each; "" for one that has none."""
        rows = [(path.stem, raw) for path, raw in self._packaged()]
        dialects = {path.stem: "" for path in self.files.listed(self.folders[0] / DIALECTS)}
        aliases = {alias: raw.get("base_url", "") for _, raw in rows for alias in raw.get("aliases") or ()}
        return dialects | aliases | {name: raw.get("base_url", "") for name, raw in rows}

    def _packaged(self) -> list[tuple[Path, Raw]]:
        """What packaged files say of themselves. Raises SpecError where one cannot be read."""
        found = self.files.listed(self.folders[0])
        if not found:
            raise SpecError(f"{self.folders[0]}: cannot be listed, so nobody can say whose key is whose")
        return [(path, self._index_of_packaged.get(path) or self._said(path)) for path in found]

    def _said(self, path: Path) -> Raw:
        try:
            return glancing.mapping(self.files.data(path))
        except OSError as error:
            raise SpecError(f"{path}: cannot be read: {error.strerror}; so nobody can say whose key is whose") from None

    def offers(self, path: Path) -> bool:
        """Whether another file answers to the name of this one."""
        dialect = path.parent.name == DIALECTS
        return (self._file(path.stem, within=DIALECTS) if dialect else self.entry(path.stem)) is not None

    @cached_property
    def _aliases(self) -> dict[str, str]:
        rows = ((entry.id, self._index.get(entry.path, {})) for entry in self._entries.values())
        return {alias: name for name, raw in rows for alias in raw.get("aliases") or ()}

    def _in_folder(self, place: int) -> Iterator[Entry]:
        for path in sorted(
            self.files.listed(self.folders[place]), key=lambda path: SUFFIXES.index(path.suffix), reverse=True
        ):
            yield Entry(path.stem, path, packaged=place == 0)  # of two suffixes the last, which `_file` finds first

    def _file(self, name: str, below: Path | None = None, within: str = "") -> Entry | None:
        """The strongest file of that name; with `below`, only among folders weaker than that file's."""
        key = (name, below, within)
        if key not in self._found:
            if len(self._found) > _MOST_FOUND:
                self._found.clear()  # callers may be asked for any number of names
            return self._found.setdefault(key, self._find(name, below, within))
        return self._found[key]

    def _find(self, name: str, below: Path | None, within: str) -> Entry | None:
        if not name or "/" in name or "\\" in name or name[0] in "._":
            return None
        for place in range(len(self.folders) - 1, -1, -1):
            for suffix in SUFFIXES:
                path = self.folders[place] / within / f"{name}{suffix}"
                if below is not None:
                    below = None if path == below else below
                elif self.files.has(path):
                    return Entry(name, path, packaged=place == 0)
        return None

    def extended(self, name: str, of: Path | None, chain: tuple[Path, ...]) -> Resolved:
        """As `dialect_or_provider`, in the file `of`, on the way through `chain`. Raises SpecError."""
        entry = self.base_entry(name, of)
        if entry.path in chain:
            way = " -> ".join(path.stem for path in (*chain, entry.path))
            raise SpecError(f"{_where(of)}: {way} goes in a circle; take one extends out")
        made = self._made(entry, chain)
        first, *rest = made.uses
        return made._replace(uses=(first._replace(name=name, of=of), *rest))

    def _made(self, entry: Entry, chain: tuple[Path, ...]) -> Resolved:
        if entry.path not in self._resolved and entry.packaged and (known := Keeper(self, entry).get(trees=False)):
            self._resolved[entry.path] = Resolved(known.raw, known.uses)
        if entry.path not in self._resolved:
            raw = (entry.packaged and glancing.glance(entry.path, self.files.data)) or self._checked(entry, chain)
            chain = (*chain, entry.path)
            base = self.extended(raw["extends"], entry.path, chain) if raw.get("extends") else Resolved({})
            whole = resolve.resolve(raw, lambda _: base.raw, is_dialect=entry.path.parent.name == DIALECTS)
            uses = (Use(None, None, entry.path, self.files.data(entry.path)), *base.uses)
            self._resolved[entry.path] = Resolved(whole, uses)
        return self._resolved[entry.path]

    def _reachable(self, raw: Raw) -> dict[str, Resolved]:
        """What the overrides and fallbacks of a mapping extend, and theirs in turn, by name."""
        found: dict[str, Resolved] = {}
        open_names = resolve.overlay_names(raw)
        while open_names:
            name = open_names.pop()
            if name not in found:
                found[name] = self.extended(name, None, ())
                open_names += resolve.overlay_names(found[name].raw)
        return found

    def _place(self, use: Use) -> Path:
        """Where a file that was used would be found now. Raises SpecError."""
        return use.path if use.name is None else self.base_entry(use.name, use.of).path

    def _checked(self, entry: Entry, chain: tuple[Path, ...]) -> Raw:
        from prx.spec.check import check_file

        document, problems = check_file(entry.path, self, chain)
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise SpecError(
                f"{problems[0]}{more}", hint=f"`prx check {printable(str(entry.path))}` shows every fault of the file."
            )
        return document.value


def _where(of: Path | None) -> str:
    return f"{of}: extends" if of else "extends"
