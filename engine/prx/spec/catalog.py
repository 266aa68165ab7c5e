"""Which providers there are: folders of YAML files, later folders win, one bad file harms nobody else.

A packaged file was checked when it was committed (the tests check every one), so it is only read. A file
from anywhere else is checked in full before it is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from prx import resources
from prx.errors import ConfigError, SpecError
from prx.spec import resolve
from prx.spec.compile import compile_spec
from prx.spec.model import Spec
from prx.spec.resolve import Raw
from prx.words import nearest

DIALECTS = "_dialects"


@dataclass(frozen=True)
class Entry:
    """A file that a folder offers under an id."""

    id: str
    path: Path
    packaged: bool


class Definition:
    """A provider's file with all it extends: gives its Spec, in the variant that a call needs."""

    def __init__(self, entry: Entry, raw: Raw, find: resolve.Find) -> None:
        self.entry = entry
        self.raw = raw
        self._find = find
        self._specs: dict[tuple[str, tuple[str, ...]], Spec] = {}

    @property
    def id(self) -> str:
        return self.entry.id

    def spec(self, model: str = "", fallbacks: tuple[str, ...] = ()) -> Spec:
        """The Spec for a model with these fallbacks in effect, compiled once."""
        key = (model if self.raw.get("overrides") else "", fallbacks)
        if key not in self._specs:
            self._specs[key] = compile_spec(self.variant(model, fallbacks))
        return self._specs[key]

    def variant(self, model: str = "", fallbacks: Sequence[str] = ()) -> Raw:
        """The mapping behind `spec`."""
        raw = resolve.for_model(self.raw, model, self._find)
        rows = raw.get("fallbacks", {})
        for name in fallbacks:
            raw = resolve.lay_over(raw, rows[name].get("then", {}), self._find)
        return raw

    def with_overlay(self, overlay: Mapping[str, Any]) -> Definition:
        """The same provider with some keys of its file replaced (what config.toml says)."""
        return Definition(self.entry, resolve.merge(self.raw, overlay), self._find) if overlay else self


class Catalog:
    """Providers and dialects of some folders. The packaged folder is always the first and weakest."""

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        self.folders = (resources.folder("providers.d"), *folders)
        self._loaded: dict[Path, Definition] = {}

    def get(self, name: str) -> Definition:
        """The provider of that id or alias. Raises ConfigError (unknown) or SpecError (faulty file)."""
        entry = self.entry(name)
        if entry is None:
            raise ConfigError(
                f"unknown provider {name!r}{nearest(name, self.names)}", hint="`prx providers` lists them all."
            )
        return self.load(entry)

    def entry(self, name: str) -> Entry | None:
        """The file behind an id or alias, or None."""
        return self._file(name) or self._file(self._aliases.get(name, ""))

    def entries(self) -> list[Entry]:
        """Every provider, by id; where several folders offer one, the last folder's."""
        return [self._entries[name] for name in sorted(self._entries)]

    @cached_property
    def _entries(self) -> dict[str, Entry]:
        return {entry.id: entry for place in range(len(self.folders)) for entry in self._in_folder(place)}

    @cached_property
    def names(self) -> list[str]:
        return sorted({*self._entries, *self._aliases})

    def load(self, entry: Entry) -> Definition:
        """Read a file and what it extends."""
        if entry.path not in self._loaded:
            self._loaded[entry.path] = Definition(entry, self._resolved(entry, ()), self.dialect_or_provider)
        return self._loaded[entry.path]

    def dialect_or_provider(self, name: str) -> Raw:
        """The resolved mapping that `extends: name` means."""
        return self.extended(name, None, ())

    def base_entry(self, name: str) -> Entry:
        """The file that `extends: name` means. Raises SpecError."""
        entry = self._file(name, within=DIALECTS) or self.entry(name)
        if entry is None:
            raise SpecError(
                f"extends: unknown dialect or provider {name!r}{nearest(name, [*self.dialects(), *self.names])}"
            )
        return entry

    def dialects(self) -> list[str]:
        return sorted({path.stem for folder in self.folders for path in _yaml_files(folder / DIALECTS)})

    @property
    def claims(self) -> dict[str, list[str]]:
        """Environment variables that packaged files name, and the base URLs each may go to."""
        return _claims(self.folders[0])

    @cached_property
    def _aliases(self) -> dict[str, str]:
        return {
            alias: entry.id for entry in self._entries.values() for alias in glance(entry.path).get("aliases") or ()
        }

    def _in_folder(self, place: int) -> Iterator[Entry]:
        for path in _yaml_files(self.folders[place]):
            yield Entry(path.stem, path, packaged=place == 0)

    def _file(self, name: str, below: Path | None = None, within: str = "") -> Entry | None:
        """The strongest file of that name; with `below`, only among folders weaker than that file's."""
        if not name or "/" in name or "\\" in name or name.startswith("."):
            return None
        for place in range(len(self.folders) - 1, -1, -1):
            for suffix in SUFFIXES:
                path = self.folders[place] / within / f"{name}{suffix}"
                if below is not None:
                    below = None if path == below else below
                elif path.is_file():
                    return Entry(name, path, packaged=place == 0)
        return None

    def extended(self, name: str, of: Path | None, chain: tuple[Path, ...]) -> Raw:
        """As `dialect_or_provider`, in the file `of`, on the way through `chain`. A file may extend its own
        name: it means the file of that name in a weaker folder.
        """
        below = of if of and of.stem == name and of.parent.name != DIALECTS else None
        entry = self._file(name, within=DIALECTS) or self._file(name, below) or self._file(self._aliases.get(name, ""))
        place = f"{of}: extends" if of else "extends"
        if entry is None:
            known = [*self.dialects(), *self._entries]
            raise SpecError(
                f"{place}: unknown dialect or provider {name!r}{nearest(name, known)}",
                hint="`prx providers` lists them all.",
            )
        if entry.path in chain:
            raise SpecError(
                f"{place}: {' -> '.join(path.stem for path in (*chain, entry.path))} goes in a circle; take one extends out"
            )
        return self._resolved(entry, chain)

    def _resolved(self, entry: Entry, chain: tuple[Path, ...]) -> Raw:
        raw = (entry.packaged and glance(entry.path)) or self._checked(entry, chain)
        is_dialect = entry.path.parent.name == DIALECTS
        return resolve.resolve(
            raw, lambda name: self.extended(name, entry.path, (*chain, entry.path)), is_dialect=is_dialect
        )

    def _checked(self, entry: Entry, chain: tuple[Path, ...]) -> Raw:
        from prx.spec.check import check_file

        document, problems = check_file(entry.path, self, chain)
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise SpecError(f"{problems[0]}{more}", hint=f"`prx check {entry.path}` shows every fault of the file.")
        return document.value


SUFFIXES = (".yaml", ".yml")


@cache
def _claims(folder: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in _yaml_files(folder):
        row = glance(path)
        for name in key_names(row):
            found.setdefault(name, []).append(row.get("base_url", ""))
    return found


def key_names(raw: Raw) -> list[str]:
    """The environment variables that a file's mapping names for its key."""
    names = (raw.get("auth") or {}).get("env") or []
    return [names] if isinstance(names, str) else list(names)


def read_fast(path: Path) -> Any:
    """The value of a YAML file, by libyaml where it is there. Raises whatever reading and YAML raise."""
    import yaml

    return yaml.load(path.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe loaders


def glance(path: Path) -> Raw:
    """A file's mapping, read fast and without checks; empty where it cannot be read."""
    try:
        raw = read_fast(path)
    except Exception:  # a tag that its constructor stumbles over raises whatever Python raises there
        return {}
    return _tidy(raw) if isinstance(raw, dict) else {}


def _tidy(raw: Raw) -> Raw:
    """Without what is not of its type among the keys that one file's neighbours look at."""
    for key in ("aliases", "former_urls"):
        if not isinstance(raw.get(key, []), list) or not all(isinstance(item, str) for item in raw.get(key, [])):
            del raw[key]
    if not isinstance(raw.get("base_url", ""), str):
        del raw["base_url"]
    return raw


def _yaml_files(folder: Path) -> list[Path]:
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in found if path.suffix in SUFFIXES and not path.name.startswith((".", "_")))
