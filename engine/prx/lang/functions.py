"""What JMESPath lacks and a spec needs. Pure, closed, and at ease with null.

Each gives null for null, so that a formula about a part that is not there is simply not there.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from jmespath.functions import Functions
from jmespath.functions import signature as _signature

from prx.wire import read_json

F = TypeVar("F", bound=Callable[..., Any])
_ANY: dict[str, list[str]] = {"types": []}
_TEXT = {"types": ["string", "null"]}
_TEXTS = {"types": [], "variadic": True}  # jmespath looks only at the first of them


def signature(*types: dict[str, Any]) -> Callable[[F], F]:
    """Jmespath's decorator, with types."""
    decorate: Callable[[F], F] = _signature(*types)
    return decorate


class SpecFunctions(Functions):  # type: ignore[misc]
    """JMESPath's own functions and ours."""

    @signature(_TEXT)
    def _func_parse_json(self, text: str | None) -> Any:
        """The value of a JSON text; the text itself where it is no JSON."""
        try:
            return None if text is None else read_json(text)
        except ValueError:
            return text

    @signature(_ANY)
    def _func_to_json(self, value: Any) -> str | None:
        """JSON text of a value; a text stays as it is."""
        return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    @signature(_ANY)
    def _func_as_list(self, value: Any) -> list[Any] | None:
        """A list as it is, anything else as a list of one."""
        return value if value is None or isinstance(value, list) else [value]

    @signature(_TEXT)
    def _func_lower(self, text: str | None) -> str | None:
        return None if text is None else text.lower()

    @signature(_TEXT, _TEXTS)
    def _func_says(self, text: str | None, *phrases: str) -> bool:
        """Whether the text has one of the phrases in it, upper or lower case."""
        low = (text or "").lower()
        return any(isinstance(phrase, str) and phrase.lower() in low for phrase in phrases)

    @signature({"types": [], "variadic": True})
    def _func_total(self, *counts: Any) -> int | float | None:
        """The sum of those that are numbers; null where none is."""
        numbers = [count for count in counts if isinstance(count, int | float) and not isinstance(count, bool)]
        return sum(numbers) if numbers else None

    @signature(_TEXT)
    def _func_slug(self, text: str | None) -> str | None:
        """A name in letters, digits, - and _; of one that has others, a name that no other one has."""
        if text is None or re.fullmatch(r"[A-Za-z0-9_-]+", text):
            return text
        mark = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        return f"{re.sub(r'[^A-Za-z0-9_-]', '_', text)[:40]}_{mark}"

    @signature(_TEXT, {"types": ["string"]})
    def _func_without_prefix(self, text: str | None, prefix: str) -> str | None:
        return None if text is None else text.removeprefix(prefix)

    @signature(_TEXT, _TEXTS)
    def _func_like(self, text: str | None, *patterns: str) -> bool:
        """Whether the text fits one of the patterns, as file names do: * for anything, [0-5] for one of those."""
        return any(isinstance(pattern, str) and fnmatchcase(text or "", pattern) for pattern in patterns)

    @signature(_ANY)
    def _func_compact(self, value: Any) -> Any:
        """A list without its nulls, an object without its null values; null where nothing is left."""
        if isinstance(value, dict):
            value = {key: item for key, item in value.items() if item is not None}
        elif isinstance(value, list):
            value = [item for item in value if item is not None]
        return value or None


FUNCTIONS = SpecFunctions()
OWN = sorted(name[6:] for name in vars(SpecFunctions) if name.startswith("_func_"))
