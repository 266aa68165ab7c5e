"""${NAME} in a text: a value of the environment. $${ is a literal ${."""

from __future__ import annotations

import re
from collections.abc import Mapping

_VARIABLE = r"(\$?)\$\{([A-Za-z_][A-Za-z0-9_]*)\}"  # few texts have one, and to compile it takes longer than to look


class MissingError(Exception):
    """A text names a variable that has no value."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def names(text: str) -> list[str]:
    """The variables that a text asks for."""
    return [name for escape, name in re.findall(_VARIABLE, text) if not escape] if "${" in text else []


def fill(text: str, values: Mapping[str, str]) -> str:
    """The text with its variables' values. Raises MissingError."""
    if "${" not in text:
        return text

    def value(found: re.Match[str]) -> str:
        escape, name = found.groups()
        if escape:
            return f"${{{name}}}"
        if name not in values:
            raise MissingError(name)
        return values[name]

    return re.sub(_VARIABLE, value, text).replace("$${", "${")
