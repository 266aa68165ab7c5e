"""Checks provider files, folders and config.toml together: each sees the names that the others have."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from prx import resources
from prx.accounts import config as configuration
from prx.accounts import routes
from prx.accounts.choose import Accounts
from prx.accounts.toml import read
from prx.errors import ConfigError
from prx.spec.cache import cache_folder
from prx.spec.document import Document, Problem
from prx.spec.files import DIALECTS, SUFFIXES
from prx.spec.loader import Loader

CONFIG = ".toml"


def files_in(given: Sequence[Path]) -> list[Path]:
    """The files that are given, and all provider files in the folders among them."""
    return [file for path in given for file in (_in(path) if path.is_dir() else [path])]


def _in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES and path.is_file())


def check(files: Sequence[Path], folders: Sequence[Path], env: Mapping[str, str]) -> dict[Path, list[Problem]]:
    """{file: its faults}, each file once. folders: those that a call would use; the folders of the files come after them."""
    catalog = Loader([*folders, *_folders_of(files, folders)], cache=cache_folder(env))
    return {path: _faults(path, catalog, env) for path in files}


def _folders_of(files: Sequence[Path], known: Sequence[Path]) -> list[Path]:
    """The folders of providers in which the files are, without those that are known."""
    seen = {folder.resolve() for folder in (resources.folder("providers.d"), *known)}
    found: dict[Path, Path] = {}
    for path in files:
        folder = path.parent.parent if path.parent.name == DIALECTS else path.parent
        if path.suffix in SUFFIXES and folder.resolve() not in seen:
            found.setdefault(folder.resolve(), folder)
    return list(found.values())


def _faults(path: Path, catalog: Loader, env: Mapping[str, str]) -> list[Problem]:
    if path.suffix == CONFIG:
        return _of_config(path, catalog, env)
    document, problems = catalog.check(path)
    return problems or _of_aliases(document, path, catalog)


def _of_aliases(document: Document, path: Path, catalog: Loader) -> list[Problem]:
    """A fault for each alias of a file by which another provider is found."""
    faults = []
    for place, alias in enumerate(document.value.get("aliases") or ()):
        entry = catalog.entry(alias)
        if entry is not None and entry.id != path.stem and path.parent.name != DIALECTS:
            text = f"{alias!r} leads to {entry.path}, not to this file; choose another alias, or take it out"
            faults.append(document.problem(("aliases", place), text, code="alias"))
    return faults


def _of_config(path: Path, catalog: Loader, env: Mapping[str, str]) -> list[Problem]:
    try:
        document = read(path)
    except ConfigError as error:
        return [_unreadable(path, error)]
    found = configuration.problems(document)
    if found:
        return found
    return routes.faults(document, Accounts(configuration.load(path, env), catalog, env))


def _unreadable(path: Path, error: ConfigError) -> Problem:
    """The fault of a file that is not TOML, or cannot be read; the place is at the beginning of the error's message."""
    place = re.match(r":(\d+):(\d+): ", rest := error.message.removeprefix(str(path)))
    line, column = (int(place[1]), int(place[2])) if place else (0, 0)
    text = rest[place.end() :] if place else rest.removeprefix(": ")
    return Problem(str(path), line, column, "", text, "toml")
