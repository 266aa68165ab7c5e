"""The helpers that compiled expressions call when they run."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from prx.lang.own import OWN, STANDARD


def call(name: str, arguments: list[Any]) -> Any:
    """Run one of prx's functions or of JMESPath's. Where the arguments do not fit, jmespath's version raises its error."""
    own = OWN.get(name)
    if own is not None and own.takes(arguments):
        return own.run(*arguments)
    standard = STANDARD.get(name)
    if standard is not None and standard.takes(arguments):
        with contextlib.suppress(TypeError):
            return standard.run(*arguments)
    from prx.lang.functions import FUNCTIONS  # imported here: it imports jmespath, which few files need at run time

    return FUNCTIONS.call_function(name, arguments)


def equals(left: Any, right: Any) -> bool:
    """JMESPath's ==: true is not 1, false is not 0."""
    if isinstance(left, bool) != isinstance(right, bool):
        return False
    return bool(left == right)


def comparable(value: Any) -> bool:
    """Whether <, <=, > and >= may compare a value."""
    return isinstance(value, int | float | str) and not isinstance(value, bool)


HELPERS: Mapping[str, Any] = {
    "call": call, "equals": equals, "comparable": comparable, "numbers": (int, float), "nothing": {}.get,
}  # fmt: skip
