"""The faults of a spec that the schema cannot express."""

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

_FEWEST = 10  # letters of which eight make a hash: ten letters give a hundred million hashes
Fault = tuple[Keys, str, int | None]  # (path, sentence, column in an expression)


def faults(spec: Spec, *, whole: bool = True) -> Iterator[Fault]:
    """All faults of a spec. whole: no part was left out of it because of other faults, so a missing key is a fault."""
    if whole:
        yield from _missing(spec)
    for query in queries(spec):
        yield from query.problems()
    yield from spec.request.body.problems
    yield from _too_large_body(spec.request)
    yield from _min_above_max(spec.request)
    yield from _no_parameter(spec.request)
    yield from _impossible_names(spec.request)
    yield from _framing_headers(spec)
    yield from _unfilled(spec)
    yield from _contradictions(spec)
    if spec.auth != model.Auth(spec.auth.name, spec.auth.template, spec.auth.style, spec.auth.env, spec.auth.required):
        from prx.spec import credentials  # imported here: few files have anything for it

        yield from credentials.faults(spec, whole=whole)
    for form in spec.calls.values():
        yield from _of_call(form, whole=whole)


def _of_call(form: model.CallForm, *, whole: bool) -> Iterator[Fault]:
    """The faults of a kind of call that is no chat: missing keys, keys that it does not read, and those of its template."""
    at, (_, answer, row) = ("calls", form.kind), model.KINDS_OF_CALLS[form.kind]
    for key, present in (("endpoint", form.endpoint), ("request", form.request_source)):
        if whole and not present:
            yield (*at, key), "is missing; each kind of call has an endpoint, a request and a response", None
    known = {*answer, *model.OF_ALL_ANSWERS, "tokens", *(["row"] if row else [])}
    for path, given, names in ((at, form.found.sources, known), ((*at, "row"), form.row.sources, {*row})):
        for name in given.keys() - names:
            where = (*at, "response", *path[2:], name)
            yield where, f"{form.kind} does not read this; it reads {', '.join(sorted(names))}", None
    for template in form.templates:
        yield from template.problems
    yield from _strange_places(form)
    if form.request.growth > bounds.MAX_TEMPLATE:
        yield (*at, "request"), f"may repeat parts of a call more than {bounds.MAX_TEMPLATE} times in its result", None


def _strange_places(form: model.CallForm) -> Iterator[Fault]:
    """A fault for each {NAME} in the paths of a call that is no argument of its kind."""
    known = (*model.MODEL_PLACES, *model.KINDS_OF_CALLS[form.kind][0])
    for name in model.PLACE.findall(str(form.endpoint)):
        if name not in known:
            text = f"has no {{{name}}} to put into the path; it has {', '.join(f'{{{each}}}' for each in known)}"
            yield ("calls", form.kind, "endpoint"), text, None


def _missing(spec: Spec) -> Iterator[Fault]:
    if spec.calls and not spec.endpoints.keys() & {"chat", "stream"}:
        return  # a provider that has other calls, and no chat
    for path, present in (
        (("endpoints", "chat"), "chat" in spec.endpoints),
        (("request", "body"), bool(spec.request.body_source)),
        (("response", "content"), bool(spec.response.found.sources.get("content"))),
    ):
        if not present:
            yield path, "is missing; extend a dialect, or write it here", None


def _too_large_body(request: model.Request) -> Iterator[Fault]:
    if request.body.growth > bounds.MAX_TEMPLATE:
        yield (
            ("request", "body"),
            f"may repeat parts of a call more than {bounds.MAX_TEMPLATE} times in its result; select less of it",
            None,
        )


def _min_above_max(request: model.Request) -> Iterator[Fault]:
    for row in request.parameters:
        if row.min is not None and row.max is not None and row.min > row.max:
            where = ("request", "parameters", row.name, "min")
            yield where, f"{row.min} is more than the max, {row.max}: every value would become the max", None


# {name of a row that does nothing, since it is not a parameter: the key of the file that applies instead}
_NO_PARAMETER = {
    "*": "is not a name: a parameter that has no row is sent as it is; write a row for each that differs",
    "model": "is not a parameter; request.body.model decides how it is sent",
    "messages": "are not parameters; request.system, roles, content, strip and the like decide how they are sent",
    "stream": "is not a parameter; capabilities.stream and request.body.stream decide how it is sent",
    "tools": "are not parameters; capabilities.tools and request.body.tools decide how they are sent",
    "tool_choice": "is not a parameter; capabilities.tool_choice and request.body.tool_choice decide how it is sent",
    "extra_body": "is not a parameter; its keys go into the body as they are",
    "extra_headers": "is not a parameter; request.headers adds headers",
    "extra_query": "is not a parameter; request.query adds to the URL",
}


def _no_parameter(request: model.Request) -> Iterator[Fault]:
    for row in request.parameters:
        if row.name in _NO_PARAMETER:
            yield (
                ("request", "parameters", row.name),
                f"this row does nothing: {row.name} {_NO_PARAMETER[row.name]}",
                None,
            )


def _impossible_names(request: model.Request) -> Iterator[Fault]:
    """Faults of request.tool_names and call_ids: forms that no name can have, or in which different names become equal."""
    for key, form in (("tool_names", request.tool_names), ("call_ids", request.call_ids)):
        if form is None:
            continue
        bad = next((name for name in ("characters", "first") if not _compiles(getattr(form, name))), None)
        if bad:
            yield (
                ("request", key, bad),
                f"{getattr(form, bad)!r} is not a class of characters such as a-zA-Z0-9_-",
                None,
            )
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


def _contradictions(spec: Spec) -> Iterator[Fault]:
    if not (spec.can("stream") or spec.can("whole")):
        yield ("capabilities", "whole"), "stream and whole are both false, so that no call could be sent", None
    ways: dict[str, str] = {}
    for row in spec.fallbacks:
        way = "strips" if row.leaves_out is None else "leaves_out"
        for name, left_out in row.names.items():
            if ways.setdefault(name, way) != way:
                text = (
                    f"another row {ways[name].replace('_', ' ')} the same name, so that {name} would mean two fallbacks"
                )
                yield ("fallbacks", row.name, way, left_out), text, None


def _framing_headers(spec: Spec) -> Iterator[Fault]:
    for path in (*(("request", "headers", name) for name in spec.request.headers), ("auth", "name")):
        if (spec.auth.name if path[0] == "auth" else path[-1]).lower() in FRAMING:
            yield path, OWN_HEADER, None


def _unfilled(spec: Spec) -> Iterator[Fault]:
    """A fault for each text with a ${ that would be sent literally."""
    rows: dict[Keys, str] = {("base_url",): spec.base_url}
    rows |= {("request", "headers", name): text for name, text in spec.request.headers.items()}
    rows |= {("request", "query", name): text for name, text in spec.request.query.items()}
    yield from ((path, VARIABLE_FAULT, None) for path, text in rows.items() if has_strange_variable(text))
