"""What is wrong with a compiled spec: the faults that only code can see."""

from __future__ import annotations

import re
from collections.abc import Iterator

from prx.lang import bounds
from prx.spec import model
from prx.spec.compile import OWN_HEADER, queries
from prx.spec.document import Keys
from prx.spec.model import Spec
from prx.text import VARIABLE_FAULT, has_strange_variable
from prx.wire import FRAMING

_FEWEST = 10  # of this many letters, eight tell a hundred million names apart
Fault = tuple[Keys, str, int | None]


def faults(spec: Spec, *, whole: bool = True) -> Iterator[Fault]:
    """Everything wrong with a compiled spec, by compiling all of it. whole: nothing was left out of it before."""
    if whole:
        yield from _missing(spec)
    for query in queries(spec):
        yield from query.problems()
    yield from spec.request.body.problems
    yield from _overgrown(spec.request)
    yield from _crossed(spec.request)
    yield from _never_given(spec.request)
    yield from _unnameable(spec.request)
    yield from _framing(spec)
    yield from _unfilled(spec)
    yield from _of_two_minds(spec)


def _missing(spec: Spec) -> Iterator[Fault]:
    for path, present in (
        (("endpoints", "chat"), "chat" in spec.endpoints),
        (("request", "body"), bool(spec.request.body_source)),
        (("response", "content"), bool(spec.response.found.sources.get("content"))),
    ):
        if not present:
            yield path, "is missing; extend a dialect, or write it here", None


def _overgrown(request: model.Request) -> Iterator[Fault]:
    if request.body.growth > bounds.MAX_TEMPLATE:
        yield (
            ("request", "body"),
            f"may repeat what a call says more than {bounds.MAX_TEMPLATE} times in its result; select less of it",
            None,
        )


def _crossed(request: model.Request) -> Iterator[Fault]:
    for row in request.parameters:
        if row.min is not None and row.max is not None and row.min > row.max:
            where = ("request", "parameters", row.name, "min")
            yield where, f"{row.min} is more than the max, {row.max}: every value would become that", None


# What a call says otherwise than by a parameter, and where a file says what becomes of it.
_NO_PARAMETER = {
    "*": "is no name: a parameter that has no row is sent as it is; write a row for each that differs",
    "model": "is no parameter; request.body.model says how it is sent",
    "messages": "are no parameter; request.system, roles, content, strip and the like say what becomes of them",
    "stream": "is no parameter; capabilities.stream and request.body.stream say how it is sent",
    "tools": "are no parameter; capabilities.tools and request.body.tools say how they are sent",
    "tool_choice": "is no parameter; capabilities.tool_choice and request.body.tool_choice say how it is sent",
    "extra_body": "is no parameter; its keys go into the body as they are",
    "extra_headers": "is no parameter; request.headers adds headers",
    "extra_query": "is no parameter; request.query adds to the URL",
}


def _never_given(request: model.Request) -> Iterator[Fault]:
    for row in request.parameters:
        if row.name in _NO_PARAMETER:
            yield (
                ("request", "parameters", row.name),
                f"this row does nothing: {row.name} {_NO_PARAMETER[row.name]}",
                None,
            )


def _unnameable(request: model.Request) -> Iterator[Fault]:
    """Forms that no name can have, or that would not tell names apart."""
    for key, form in (("tool_names", request.tool_names), ("call_ids", request.call_ids)):
        if form is None:
            continue
        bad = next((name for name in ("characters", "first") if not _compiles(getattr(form, name))), None)
        if bad:
            yield ("request", key, bad), f"{getattr(form, bad)!r} is no class of characters, such as a-zA-Z0-9_-", None
        elif form.max is not None and form.min > form.max:
            yield ("request", key, "min"), f"{form.min} is more than the max, {form.max}: no name would fit", None
        elif len(form.letters) < _FEWEST:
            yield (
                ("request", key, "characters"),
                f"has fewer than {_FEWEST} of a-z and 0-9, of which new names are made",
                None,
            )
        elif not form.starts:
            yield ("request", key, "first"), "has none of a-z, 0-9 and _, with which new names begin", None


def _compiles(characters: str) -> bool:
    try:
        re.compile(f"[{characters}]") if characters else None
    except re.error:
        return False
    return True


def _of_two_minds(spec: Spec) -> Iterator[Fault]:
    if not (spec.can("stream") or spec.can("whole")):
        yield ("capabilities", "whole"), "stream and whole are both false: there is no way left to ask", None
    ways: dict[str, str] = {}
    for row in spec.fallbacks:
        way = "strips" if row.leaves_out is None else "leaves_out"
        for name, left_out in row.names.items():
            if ways.setdefault(name, way) != way:
                text = f"another row {ways[name].replace('_', ' ')} what has this name: {name} would mean two things"
                yield ("fallbacks", row.name, way, left_out), text, None


def _framing(spec: Spec) -> Iterator[Fault]:
    for path in (*(("request", "headers", name) for name in spec.request.headers), ("auth", "name")):
        if (spec.auth.name if path[0] == "auth" else path[-1]).lower() in FRAMING:
            yield path, OWN_HEADER, None


def _unfilled(spec: Spec) -> Iterator[Fault]:
    """Texts with a ${ that would go out as it stands."""
    rows: dict[Keys, str] = {("base_url",): spec.base_url}
    rows |= {("request", "headers", name): text for name, text in spec.request.headers.items()}
    rows |= {("request", "query", name): text for name, text in spec.request.query.items()}
    yield from ((path, VARIABLE_FAULT, None) for path, text in rows.items() if has_strange_variable(text))
