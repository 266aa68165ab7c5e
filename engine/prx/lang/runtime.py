"""What the functions that codegen writes call while they run."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from prx.lang.own import OWN, STANDARD


def call(name: str, arguments: list[Any]) -> Any:
    """Run a function of JMESPath, or one of ours; jmespath says what is wrong with arguments that do not fit."""
    ours = OWN.get(name)
    if ours is not None and ours.takes(arguments):
        return ours.run(*arguments)
    standard = STANDARD.get(name)
    if standard is not None and standard.takes(arguments):
        with contextlib.suppress(TypeError):
            return standard.run(*arguments)
    from prx.lang.functions import FUNCTIONS  # late: it needs jmespath, and few files use any other of its functions

    return FUNCTIONS.call_function(name, arguments)


def equals(left: Any, right: Any) -> bool:
    """JMESPath's ==: true is not 1, false is not 0."""
    if isinstance(left, bool) != isinstance(right, bool):
        return False
    return bool(left == right)


def comparable(value: Any) -> bool:
    """Whether a value may stand on a side of < and the like."""
    return isinstance(value, int | float | str) and not isinstance(value, bool)


HELPERS: Mapping[str, Any] = {
    "call": call, "equals": equals, "comparable": comparable, "numbers": (int, float), "nothing": {}.get,
}  # fmt: skip
