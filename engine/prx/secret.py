"""Secret: a key that cannot be printed by accident; and functions that mask keys in texts.

Only `reveal()` gives the key. Transports call it when they send a request.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prx.errors import ConfigError
from prx.json_text import parsed
from prx.spellings import Spellings
from prx.text import clean, fill, variable_names

MASK = "***"
_SHORTEST = 4  # a shorter key is a placeholder, and masking it would mask ordinary words


class Secret:
    """A key. Prints as ***, compares by value, is rendered into text only by `reveal`.

    `template` is the text around the key, with {api_key} where the key goes.
    """

    __slots__ = ("_spellings", "_template", "_value")

    def __init__(self, value: str, template: str = "{api_key}") -> None:
        self._value = value
        self._template = template
        self._spellings: Spellings | None = None  # made at first use: most calls have no text to mask

    @staticmethod
    def filled(text: str, values: Mapping[str, Secret]) -> str | Secret:
        """A text with the ${NAME}s in it replaced: a Secret where there are any. Raises MissingError."""
        filled = fill(text, {name: value.reveal() for name, value in values.items()})
        return Secret(filled) if variable_names(text) else filled

    @property
    def template(self) -> str:
        return self._template

    def within(self, template: str) -> Secret:
        """The same key inside another text."""
        return self if template == self._template else Secret(self._value, template)

    def reveal(self) -> str:
        return self._template.replace("{api_key}", self._value)

    def redact(self, text: str) -> str:
        """`text` with *** for the key, in every spelling: as it is, escaped in JSON, a URL or HTML, or in base64."""
        spellings = self.spellings
        return spellings.replaced(text, MASK) if spellings else text

    @property
    def spellings(self) -> Spellings | None:
        """The spellings of the key; None for one that is too short to be masked."""
        if self._spellings is None and len(self._value) >= _SHORTEST:
            self._spellings = Spellings(self._value)
        return self._spellings

    @property
    def sendable(self) -> bool:
        """Whether a header can carry the key: printable ASCII without spaces at its ends."""
        value = self._value
        return value.isascii() and value.isprintable() and value == value.strip()

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and not isinstance(other, LostSecret) and self.reveal() == other.reveal()

    def __hash__(self) -> int:
        return hash(self.reveal())

    def __str__(self) -> str:
        return self._template.replace("{api_key}", MASK)

    def __repr__(self) -> str:
        return f"Secret({self!s})"

    def __copy__(self) -> Secret:
        return self  # it never changes

    def __deepcopy__(self, _memo: object) -> Secret:
        return self

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return (LostSecret, ())  # a pickled key is a key in a file


class AwaitedSecret(Secret):
    """Stands where a call will have a key or a signature that is got when the call is made: it prints as one, and is never sent."""

    __slots__ = ()

    def __init__(self, template: str = "{api_key}") -> None:
        super().__init__("", template)

    def within(self, template: str) -> Secret:
        return AwaitedSecret(template)

    def reveal(self) -> str:
        raise ConfigError("this key is got when a call is made; it is not known yet")

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AwaitedSecret) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


class LostSecret(Secret):
    """A key after pickling, which does not store it. `reveal` raises ConfigError, so it is never sent."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(MASK, MASK)

    def within(self, template: str) -> Secret:
        return self

    @property
    def sendable(self) -> bool:
        return bool(self.reveal())

    def reveal(self) -> str:
        raise ConfigError(
            "a key is not kept in a pickle, so it cannot be sent",
            hint="Make a Client where the call is made, with its key.",
        )

    def redact(self, text: str) -> str:
        return text

    @property
    def spellings(self) -> None:
        return None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LostSecret)

    def __hash__(self) -> int:
        return hash(MASK)


def revealed(value: str | Secret) -> str:
    """A value as it is sent."""
    return value.reveal() if isinstance(value, Secret) else value


def redact(text: str, secrets: Iterable[Secret]) -> str:
    for secret in secrets:
        text = secret.redact(text)
    return text


def redact_value(value: Any, secrets: Sequence[Secret]) -> Any:
    """A JSON value with the keys in its texts masked: also keys that were escaped in the JSON text."""
    if isinstance(value, str):
        return redact(value, secrets)
    if isinstance(value, list):
        return [redact_value(item, secrets) for item in value]
    if isinstance(value, dict):
        return {redact(name, secrets): redact_value(item, secrets) for name, item in value.items()}
    return value


def redact_json(text: str, secrets: Sequence[Secret]) -> tuple[Any, str]:
    """(JSON value of a text, None where it is not JSON; the text), both with their keys masked."""
    value = parsed(text)
    safe = redact_value(value, secrets)
    if safe != value:
        return safe, clean(json.dumps(safe, ensure_ascii=False))
    return safe, redact(text, secrets) if value is None else text
