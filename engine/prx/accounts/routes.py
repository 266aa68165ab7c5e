"""The faults of a configuration that only show beside the provider files: names of nothing, and routes that choose nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from prx.accounts.choose import Accounts
from prx.accounts.config import Config, Route
from prx.spec.document import Document, Problem


def faults(document: Document, accounts: Accounts) -> list[Problem]:
    """The faults of a configuration whose form is good. accounts: those that it would give."""
    unknown = [document.problem(keys, text, code="unknown-name") for keys, text in accounts.unknown_names()]
    return [*unknown, *_of_routes(document, accounts.config)]


def _of_routes(document: Document, config: Config) -> Iterator[Problem]:
    for place, route in enumerate(config.routes):
        where = ("model_routes", place)
        if not (route.targets or route.provider or route.api_url or config.provider):
            text = "no provider is named: the route has none, and there is no default; write provider here, or in [default]"
            yield document.problem(where, text, code="route-to-nothing")
        strange = [
            name for name in re.findall(r"\{(\w*)\}", re.sub(r"\$\{\w*\}", "", route.model or "")) if name != "name"
        ]
        if strange:
            text = f"{{{strange[0]}}} would be sent as it is; {{name}}, the caller's name of the model, is the only place to fill"
            yield document.problem((*where, "model"), text, code="route-model")
        if (earlier := taker(config.routes[:place], route)) is not None:
            text = (
                f"{route.pattern!r} never fits: route {earlier + 1}, {config.routes[earlier].pattern!r}, comes first and"
                " takes all of its names; move this route before it"
            )
            yield document.problem((*where, "pattern"), text, code="route-never-used", severity="warning")


def taker(earlier: Sequence[Route], route: Route) -> int | None:
    """The place of the first of some routes that takes every name that `route` fits; None where none is known to.

    A pattern of letters and * alone takes all that another stands for if it fits the other's own text: each of its letters
    is there as a letter, and its * may stand for the other's signs. Of patterns with ? or [ only equal ones are compared.
    """
    return next(
        (
            place
            for place, other in enumerate(earlier)
            if other.pattern == route.pattern or (not set("?[") & set(other.pattern) and other.fits(route.pattern))
        ),
        None,
    )
