"""The catalogue of providers: folders of YAML files. Of two files with the same name the one in the later folder counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from prx import resources
from prx.errors import SpecError
from prx.record import Record
from prx.spec.cache import store_of
from prx.spec.definition import Entry
from prx.spec.files import DIALECTS, SUFFIXES, Files
from prx.spec.index import index
from prx.spec.resolve import Raw
from prx.text import nearest

_MOST_REMEMBERED = 4096


class Exchange(Record):
    """Where a file sends its credential, "" for nowhere, and the further hosts to which it sends the token."""

    url: str = ""
    hosts: tuple[str, ...] = ()


class Catalog:
    """The names of providers and dialects in some folders. The packaged folder is always the first and weakest.

    cache: where results of files outside the package are stored, None for nowhere
    """

    def __init__(self, folders: Sequence[Path] = (), files: Files | None = None, *, cache: Path | None = None) -> None:
        self.folders = (resources.folder("providers.d"), *folders)
        self.files = files or Files()
        self.cache = cache
        self._entry_of: dict[tuple[str, Path | None, str], Entry | None] = {}

    def entry(self, name: str) -> Entry | None:
        """The file behind an id or alias, or None."""
        return self._file(name) or self._file(self._aliases.get(name, ""))

    def entry_at(self, path: Path) -> Entry:
        """The entry of a file in one of the folders."""
        return Entry(path.stem, path, packaged=path.is_relative_to(self.folders[0]))

    def entries(self) -> list[Entry]:
        """Every provider, sorted by id; where several folders have one, that of the last folder."""
        return [self._entries[name] for name in sorted(self._entries)]

    @cached_property
    def _entries(self) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        for place in range(len(self.folders)):
            for entry in self._in_folder(place):
                entries.pop(entry.id, None)  # so that it moves to the end: of two equal aliases the last one counts
                entries[entry.id] = entry
        return entries

    @cached_property
    def names(self) -> list[str]:
        """Every id and alias."""
        return sorted({*self._entries, *self._aliases})

    def base_entry(self, name: str, of: Path | None = None) -> Entry:
        """The file that `extends: name` means, in the file `of`. Raises SpecError.

        A file may extend its own name: it means the file of that name in a weaker folder.
        """
        below = of if of and of.stem == name and of.parent.name != DIALECTS else None
        entry = self._file(name, within=DIALECTS) or self._file(name, below) or self._file(self._aliases.get(name, ""))
        if entry is None:
            known = [*self.dialects(), *self._entries]
            raise SpecError(
                f"{extends_in(of)}: unknown dialect or provider {name!r}{nearest(name, known)}",
                hint="`prx providers` lists them all.",
            )
        return entry

    def base_path(self, name: str, of: Path | None = None) -> Path:
        """The path of the file that `extends: name` means, in the file `of`. Raises SpecError."""
        return self.base_entry(name, of).path

    def dialects(self) -> list[str]:
        return sorted({path.stem for folder in self.folders for path in self.files.listed(folder / DIALECTS)})

    def offers(self, path: Path) -> bool:
        """Whether the catalogue has a provider, or for a dialect's file a dialect, of this file's name."""
        dialect = path.parent.name == DIALECTS
        return (self._file(path.stem, within=DIALECTS) if dialect else self.entry(path.stem)) is not None

    # ------------------------------------------------------------ keys of files, read without loading them

    def glance(self, entry: Entry) -> Raw:
        """{aliases, former_urls, base_url, auth} of a file, as far as it has them, unchecked; {} if it cannot be read."""
        return self._index.get(entry.path, {})

    @cached_property
    def claims(self) -> Mapping[str, Sequence[str]]:
        """{environment variable in capitals: base URLs of the packaged files that name it for their key or credential}."""
        claims: dict[str, list[str]] = {}
        for _, raw in self._packaged():
            for name in (*key_names(raw), *credential_names(raw)):
                claims.setdefault(name.upper(), []).append(raw.get("base_url", ""))
        return claims

    @cached_property
    def exchanges(self) -> Mapping[str, Sequence[Exchange]]:
        """{environment variable in capitals: the exchanges of the packaged files that name it for their credential}."""
        found: dict[str, list[Exchange]] = {}
        for _, raw in self._packaged():
            for name in credential_names(raw):
                found.setdefault(name.upper(), []).append(exchange_of(raw))
        return found

    @cached_property
    def homes_of_exchanges(self) -> Mapping[str, Exchange]:
        """{id or alias of a packaged provider: its exchange}."""
        rows = [(path.stem, raw) for path, raw in self._packaged()]
        aliases = {alias: exchange_of(raw) for _, raw in rows for alias in raw.get("aliases") or ()}
        return aliases | {name: exchange_of(raw) for name, raw in rows}

    @cached_property
    def homes(self) -> Mapping[str, str]:
        """{id or alias of a packaged provider or dialect: its base URL, "" if it has none}."""
        rows = [(path.stem, raw) for path, raw in self._packaged()]
        dialects = {path.stem: "" for path in self.files.listed(self.folders[0] / DIALECTS)}
        aliases = {alias: raw.get("base_url", "") for _, raw in rows for alias in raw.get("aliases") or ()}
        return dialects | aliases | {name: raw.get("base_url", "") for name, raw in rows}

    def _packaged(self) -> list[tuple[Path, Raw]]:
        """(path, mapping as `glance`) of every packaged file. Raises SpecError where one cannot be read: without it, a key
        could be sent to the wrong provider.
        """
        paths = self.files.listed(self.folders[0])
        if not paths:
            raise SpecError(
                f"{self.folders[0]}: cannot be listed, so prx does not know which key belongs to which provider"
            )
        return [(path, self._index_of_packaged.get(path) or self._read_packaged(path)) for path in paths]

    def _read_packaged(self, path: Path) -> Raw:
        from prx.spec.read import packaged_mapping  # imported here: it imports yaml, and usually the index has the file

        try:
            return packaged_mapping(self.files.data(path))
        except OSError as error:
            raise SpecError(
                f"{path}: cannot be read: {error.strerror}; so prx does not know which key belongs to which provider"
            ) from None

    @cached_property
    def _index(self) -> dict[Path, Raw]:
        rows = dict(self._index_of_packaged)
        for folder in self.folders[1:]:
            rows |= index(folder, self.files, store_of(self.cache, packaged=folder.is_relative_to(self.folders[0])))
        return rows

    @cached_property
    def _index_of_packaged(self) -> dict[Path, Raw]:
        """The packaged folder's part of the index, separately: every call needs it for its keys, and no other folder."""
        return index(self.folders[0], self.files, store_of(self.cache, packaged=True))

    @cached_property
    def _aliases(self) -> dict[str, str]:
        rows = ((entry.id, self._index.get(entry.path, {})) for entry in self._entries.values())
        return {alias: name for name, raw in rows for alias in raw.get("aliases") or ()}

    # ------------------------------------------------------------ the search

    def _in_folder(self, place: int) -> Iterator[Entry]:
        for path in sorted(
            self.files.listed(self.folders[place]), key=lambda path: SUFFIXES.index(path.suffix), reverse=True
        ):
            yield Entry(path.stem, path, packaged=place == 0)  # .yaml comes after .yml and replaces it, as in `_search`

    def _file(self, name: str, below: Path | None = None, within: str = "") -> Entry | None:
        """The strongest file of that name; with `below`, only among folders weaker than that file's."""
        key = (name, below, within)
        if key not in self._entry_of:
            if len(self._entry_of) > _MOST_REMEMBERED:
                self._entry_of.clear()  # a server's clients may ask for any number of names
            return self._entry_of.setdefault(key, self._search(name, below, within))
        return self._entry_of[key]

    def _search(self, name: str, below: Path | None, within: str) -> Entry | None:
        if not name or "/" in name or "\\" in name or name[0] in "._":
            return None
        for place in range(len(self.folders) - 1, -1, -1):
            for suffix in SUFFIXES:
                path = self.folders[place] / within / f"{name}{suffix}"
                if below is not None:  # skip every file up to and with `below`
                    below = None if path == below else below
                elif self.files.has(path):
                    return Entry(name, path, packaged=place == 0)
        return None


def key_names(raw: Raw) -> list[str]:
    """The environment variables that a file's mapping names for its key, and for the parts of a key that signs."""
    auth = raw.get("auth") or {}
    names, aws4 = auth.get("env") or [], auth.get("aws4") or {}
    parts = [aws4[part] for part in ("access_id", "secret", "session_token") if aws4.get(part)]
    return [*([names] if isinstance(names, str) else names), *parts]


def credential_names(raw: Raw) -> list[str]:
    """The environment variables that a file's mapping names for its credential."""
    names = (raw.get("auth") or {}).get("credential") or []
    rows = [names] if isinstance(names, str) else names.values() if isinstance(names, Mapping) else names
    return [name for name in rows if isinstance(name, str)]


def has_key(raw: Raw, env: Mapping[str, str]) -> bool:
    """Whether the environment has a file's key, or all of its credential."""
    credential = credential_names(raw)
    enough = all if isinstance((raw.get("auth") or {}).get("credential"), Mapping) else any
    return any(env.get(name) for name in key_names(raw)) or (
        bool(credential) and enough(env.get(name) for name in credential)
    )


def exchange_of(raw: Raw) -> Exchange:
    """The exchange that a file's mapping describes."""
    token = (raw.get("auth") or {}).get("token") or {}
    return Exchange(token.get("url") or "", tuple(token.get("hosts") or ()))


def extends_in(of: Path | None) -> str:
    """The beginning of a message about `extends` in the file `of`."""
    return f"{of}: extends" if of else "extends"
