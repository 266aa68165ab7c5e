"""Collects all faults of a file: YAML, schema, inheritance, expressions, and faults that only code can find."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from prx import urls
from prx.errors import ConfigError, SpecError
from prx.lang.compiled import Expressions
from prx.spec import face, faults, resolve, schema
from prx.spec.compile import compile_spec
from prx.spec.document import Document, Keys, Problem, dotted
from prx.spec.read import read_strictly
from prx.text import fill, has_strange_variable, nearest, variable_names

_SECRET_LIKE = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)


def check_file(
    path: Path,
    take: Callable[[Path], bytes],
    find: resolve.Find,
    base_path: Callable[[str], Path],
    expressions: Expressions,
) -> tuple[Document, list[Problem]]:
    """A provider's or dialect's file and its faults, in the order of its lines.

    take        gives the bytes of a file
    find        gives the resolved mapping that `extends: name` means in this file; raises SpecError
    base_path   gives the path of that file; raises SpecError for an unknown name
    """
    document = read_strictly(path, take)
    problems = list(document.problems)
    if document.value:
        known = {problem.path for problem in problems if problem.path}
        problems += [problem for problem in schema.problems(document) if problem.path not in known]
        problems += _own(document, path, base_path, problems)
    problems += _compiled(document, _without(document.value, problems), path, find, expressions)
    return document, sorted(set(problems), key=lambda problem: (problem.line, problem.column, problem.path))


def _own(
    document: Document, path: Path, base_path: Callable[[str], Path], known: Sequence[Problem]
) -> Iterator[Problem]:
    value = document.value
    if isinstance(value.get("id"), str) and value["id"] != path.stem:
        yield document.problem(
            ("id",),
            f"{value['id']!r} is not the file's name; rename the file to {value['id']}.yaml, or write id: {path.stem}",
            code="id",
        )
    yield from _of_url(document, ("base_url",), value.get("base_url"), known)
    token = value["auth"].get("token") if isinstance(value.get("auth"), dict) else None
    if isinstance(token, dict):
        yield from _of_url(document, ("auth", "token", "url"), token.get("url"), known)
    if value.get("serve") and path.parent.name != "_dialects":
        yield document.problem(
            ("serve",), "belongs in a dialect's file, in a folder _dialects: a provider is not asked"
        )
    yield from _unfounded(document, known)
    base = value.get("extends")
    if isinstance(base, str) and base != value.get("id"):
        try:
            base_path(base)
        except SpecError as error:
            yield document.problem(("extends",), error.message.removeprefix("extends: "), code="extends")


def _of_url(document: Document, keys: Keys, url: Any, known: Sequence[Problem]) -> Iterator[Problem]:
    if not isinstance(url, str):
        return
    # spec/faults.py has the fault of a strange variable; such a text cannot be checked as a URL.
    if not has_strange_variable(url) and not any(problem.path == dotted(keys) for problem in known):
        try:
            filled = fill(url, dict.fromkeys(variable_names(url), "x"))
            # A variable at the beginning may stand for the scheme, too.
            urls.check_url(f"https://{filled}" if url.startswith("${") else filled)
        except ConfigError as error:
            yield document.problem(keys, " ".join(str(error).splitlines()), code="url")
    for name in variable_names(url):
        if _SECRET_LIKE.search(name):
            yield document.problem(
                keys, f"${{{name}}} looks like a secret, and URLs are logged; use auth for keys", code="url"
            )


def _unfounded(document: Document, known: Sequence[Problem]) -> Iterator[Problem]:
    """A fault for each evidence of a rule that the file does not have."""
    if any(problem.path.startswith(("evidence", "overrides")) for problem in known):
        return  # its form is wrong, which is a fault already
    defined = schema.load("provider")["$defs"]
    calls = [f"calls.{kind}" for kind in defined["calls"]["properties"]]  # also one whose row is the dialect's
    capabilities = [*defined["capabilities"]["properties"], *calls]
    for place, row in enumerate(document.value.get("evidence") or ()):
        models = [each for each in document.value.get("overrides") or () if row.get("model") == each["model"]]
        if row.get("model") and not models:
            yield document.problem(
                ("evidence", place, "model"),
                f"no override of this file has the pattern {row['model']!r}",
                code="evidence",
            )
            continue
        for number, name in enumerate(row["of"]):
            if name not in capabilities and not any(_has(each, name) for each in models or [document.value]):
                text = f"{name!r} is no key of {'that override' if models else 'this file'}, and no capability"
                yield document.problem(
                    ("evidence", place, "of", number), text + nearest(name, capabilities), code="evidence"
                )


def _has(value: Any, path: str) -> bool:
    for key in path.split("."):
        if not isinstance(value, dict) or key not in value:
            return False
        value = value[key]
    return True


def _without(value: Any, problems: Sequence[Problem]) -> Any:
    """The value without its faulty parts, so that the rest can be checked further; {} where the rest means nothing."""
    faulty = {problem.path for problem in problems}

    def valid_part(node: Any, keys: Keys) -> Any:
        if isinstance(node, dict):
            return {
                key: valid_part(child, (*keys, key))
                for key, child in node.items()
                if dotted((*keys, key)) not in faulty
            }
        if isinstance(node, list):
            places = [(*keys, place) for place in range(len(node))]
            return [valid_part(child, at) for child, at in zip(node, places, strict=True) if dotted(at) not in faulty]
        return node

    return {} if "" in faulty or {"extends", "id", "spec", "request.body"} & faulty else valid_part(value, ())


def _compiled(
    document: Document, value: Any, path: Path, find: resolve.Find, expressions: Expressions
) -> Iterator[Problem]:
    """The faults that resolving and compiling finds, in the file itself and in each of its variants."""
    whole = value == document.value
    if not value:
        return
    try:
        raw = resolve.resolve(value, find, is_dialect=path.parent.name == "_dialects")
    except SpecError as error:
        yield document.problem(("extends",), error.message, code="extends")
        return
    if path.parent.name != "_dialects" or raw.get("endpoints"):
        yield from _faults(document, (), raw, expressions, whole=whole)
    if value.get("serve") and value["serve"] == document.value["serve"]:
        for path_of, sentence, column in face.faults(value.get("id", ""), value["serve"], expressions):
            yield document.problem(path_of, _where(sentence, column), of_value=column is not None)
    for keys, overlay in resolve.overlays(value):
        try:
            yield from _faults(document, keys, resolve.lay_over(raw, overlay, find), expressions, whole=whole)
        except SpecError as error:
            yield document.problem((*keys, "extends"), error.message, code="extends")


def _faults(
    document: Document, prefix: Keys, raw: Mapping[str, Any], expressions: Expressions, *, whole: bool
) -> Iterator[Problem]:
    for keys, sentence, column in faults.faults(compile_spec(raw, expressions), whole=whole):
        own = (*prefix, *keys)
        if prefix and own not in document.marks:
            continue  # the fault is not in this overlay
        code = "rule" if column is None else "expression"
        yield document.problem(own, _where(sentence, column), of_value=column is not None, code=code)


def _where(sentence: str, column: int | None) -> str:
    return sentence if column is None else f"{sentence} (character {column + 1} of the expression)"
