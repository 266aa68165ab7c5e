"""JMESPath's functions and prx's own (lang/own.py), in the form that the jmespath package requires."""

from __future__ import annotations

from collections.abc import Callable
from types import NoneType
from typing import Any

from jmespath.functions import Functions

from prx.lang import own

_NAMES = {str: "string", NoneType: "null"}


def _method(function: own.Own) -> Callable[..., Any]:
    def method(_self: Any, *arguments: Any) -> Any:
        return function.run(*arguments)

    wanted: list[dict[str, Any]] = [{"types": [_NAMES[each] for each in types]} for types in function.wanted]
    if function.more:
        wanted[-1]["variadic"] = True
    method.signature = tuple(wanted)  # type: ignore[attr-defined]
    return method


SpecFunctions: Any = type(
    "SpecFunctions", (Functions,), {f"_func_{name}": _method(each) for name, each in own.OWN.items()}
)
FUNCTIONS = SpecFunctions()
OWN = sorted(own.OWN)
