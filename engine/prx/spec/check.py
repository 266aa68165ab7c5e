"""All faults of a file at once: YAML, schema, inheritance, expressions, and what only code can see."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prx import variables
from prx.errors import SpecError
from prx.spec import compile as compiling
from prx.spec import resolve, schema
from prx.spec.document import Document, Keys, Problem
from prx.spec.load import read
from prx.words import nearest

if TYPE_CHECKING:
    from prx.spec.catalog import Catalog

_SECRET_LIKE = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)


def check_file(path: Path, catalog: Catalog, chain: tuple[Path, ...] = ()) -> tuple[Document, list[Problem]]:
    """A provider's or dialect's file and its faults, in the order of its lines.

    chain: the files that are being read because one extends the other, the first one first.
    """
    document = read(path)
    problems = list(document.problems)
    if document.value:
        known = {problem.path for problem in problems if problem.path}
        problems += [problem for problem in schema.problems(document) if problem.path not in known]
        problems += _own(document, path, catalog)
    if not problems:
        problems += _compiled(document, path, lambda name: catalog.extended(name, path, (*chain, path)))
    return document, sorted(set(problems), key=lambda problem: (problem.line, problem.column, problem.path))


def _own(document: Document, path: Path, catalog: Catalog) -> Iterator[Problem]:
    value = document.value
    if isinstance(value.get("id"), str) and value["id"] != path.stem:
        yield document.problem(
            ("id",), f"{value['id']!r} is not the file's name; call the file {value['id']}.yaml, or the id {path.stem}"
        )
    for name in variables.names(str(value.get("base_url", ""))):
        if _SECRET_LIKE.search(name):
            yield document.problem(
                ("base_url",), f"${{{name}}} looks like a secret, and URLs are logged; use auth for keys"
            )
    base = value.get("extends")
    if isinstance(base, str) and base != value.get("id"):
        known = [*catalog.dialects(), *catalog.names]
        if base not in known:
            yield document.problem(("extends",), f"unknown dialect or provider {base!r}{nearest(base, known)}")


def _compiled(document: Document, path: Path, find: resolve.Find) -> Iterator[Problem]:
    """What resolving and compiling finds, in the file as it is and in each of its variants."""
    try:
        raw = resolve.resolve(document.value, find, is_dialect=path.parent.name == "_dialects")
    except SpecError as error:
        yield document.problem(("extends",), error.message)
        return
    if path.parent.name != "_dialects" or raw.get("endpoints"):
        yield from _faults(document, (), raw)
    for keys, overlay in _overlays(document.value):
        try:
            yield from _faults(document, keys, resolve.lay_over(raw, overlay, find))
        except SpecError as error:
            yield document.problem((*keys, "extends"), error.message)


def _overlays(value: Mapping[str, Any]) -> Iterator[tuple[Keys, Mapping[str, Any]]]:
    for place, row in enumerate(value.get("overrides") or ()):
        yield ("overrides", place), row
    for name, row in (value.get("fallbacks") or {}).items():
        if row and row.get("then"):
            yield ("fallbacks", name, "then"), row["then"]


def _faults(document: Document, prefix: Keys, raw: Mapping[str, Any]) -> Iterator[Problem]:
    for keys, sentence, column in compiling.faults(compiling.compile_spec(raw)):
        own = (*prefix, *keys)
        if prefix and own not in document.marks:
            continue  # the fault is not in this overlay
        yield document.problem(own, _where(sentence, column), of_value=column is not None)


def _where(sentence: str, column: int | None) -> str:
    return sentence if column is None else f"{sentence} (character {column + 1} of the expression)"
