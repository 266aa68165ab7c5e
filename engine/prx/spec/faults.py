"""The faults of a spec that the schema cannot express."""

from __future__ import annotations

from collections.abc import Iterator

from prx.lang import bounds
from prx.spec import model
from prx.spec.compile import FRAMING, OWN_HEADER, queries
from prx.spec.document import Keys
from prx.spec.model import Spec

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
    yield from _framing_headers(spec)


def _missing(spec: Spec) -> Iterator[Fault]:
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


def _framing_headers(spec: Spec) -> Iterator[Fault]:
    for path in (*(("request", "headers", name) for name in spec.request.headers), ("auth", "name")):
        if (spec.auth.name if path[0] == "auth" else path[-1]).lower() in FRAMING:
            yield path, OWN_HEADER, None
