"""The HTTP nouns that cross the border between the core and a transport, and the key in its wrapper.

A Secret shows itself only to `reveal()`. Only a transport calls that, at the moment of sending.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from prx import variables

MASK = "***"
_SHORTEST = 4  # a key of fewer characters is a placeholder, and masking it would eat ordinary words


class Secret:
    """A key. Prints as ***, compares by value, is rendered into text only by `reveal`.

    `template` is the text around the key, with {api_key} where the key goes.
    """

    __slots__ = ("_template", "_value")

    def __init__(self, value: str, template: str = "{api_key}") -> None:
        self._value = value
        self._template = template

    @staticmethod
    def filled(text: str, values: Mapping[str, Secret]) -> str | Secret:
        """A text with the ${NAME}s in it replaced: a Secret where there are any. Raises variables.MissingError."""
        filled = variables.fill(text, {name: value.reveal() for name, value in values.items()})
        return Secret(filled) if variables.names(text) else filled

    def within(self, template: str) -> Secret:
        """The same key inside another text."""
        return Secret(self._value, template)

    def reveal(self) -> str:
        return self._template.replace("{api_key}", self._value)

    def redact(self, text: str) -> str:
        """`text` with every spelling of the key replaced: plain, inside JSON, inside a URL."""
        escaped = json.dumps(self._value)[1:-1]
        for spelling in {self._value, escaped, escaped.replace("/", "\\/"), quote(self._value, safe="")}:
            if len(spelling) >= _SHORTEST:
                text = text.replace(spelling, MASK)
        return text

    @property
    def sendable(self) -> bool:
        """Whether a header can carry it: printable ASCII, no space around it."""
        value = self._value
        return value.isascii() and value.isprintable() and value == value.strip()

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.reveal() == other.reveal()

    def __hash__(self) -> int:
        return hash(self.reveal())

    def __str__(self) -> str:
        return self._template.replace("{api_key}", MASK)

    def __repr__(self) -> str:
        return f"Secret({self!s})"

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return (Secret, (MASK,))  # a pickled key is a key in a file


def redact(text: str, secrets: Iterable[Secret]) -> str:
    for secret in secrets:
        text = secret.redact(text)
    return text


def redact_value(value: Any, secrets: Sequence[Secret]) -> Any:
    """A JSON value with the keys in its texts replaced: however the sender escaped them, they are plain here."""
    if isinstance(value, str):
        return redact(value, secrets)
    if isinstance(value, list):
        return [redact_value(item, secrets) for item in value]
    if isinstance(value, dict):
        return {redact(name, secrets): redact_value(item, secrets) for name, item in value.items()}
    return value


def parsed(text: str) -> Any:
    """The JSON value of a text, or None. Deep nesting and endless numbers are no JSON either."""
    try:
        return json.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        return None


def redact_json(text: str, secrets: Sequence[Secret]) -> tuple[Any, str]:
    """The JSON value of a text (None where it is none) and the text, both without the keys."""
    value = parsed(text)
    safe = redact_value(value, secrets)
    if safe != value:
        return safe, json.dumps(safe, ensure_ascii=False)
    return safe, redact(text, secrets) if value is None else text


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request ready to be sent. `url` has no secret in it; one that goes into the query is in `query`."""

    method: str
    url: str
    headers: Mapping[str, str | Secret] = field(default_factory=dict)
    body: bytes = b""
    query: Mapping[str, Secret] = field(default_factory=dict)
    stream: bool = False

    def secrets(self) -> list[Secret]:
        values = [*self.headers.values(), *self.query.values()]
        return [value for value in values if isinstance(value, Secret)]

    def full_url(self, *, reveal: bool = False) -> str:
        """The URL with its secret query parameters, masked unless `reveal`."""
        if not self.query:
            return self.url
        pairs = {name: value.reveal() if reveal else str(value) for name, value in self.query.items()}
        return self.url + ("&" if "?" in self.url else "?") + urlencode(pairs, safe="*")


class Head(NamedTuple):
    """Status and headers of a response. Header names are lower-case; `received` is epoch seconds."""

    status: int
    headers: Mapping[str, str]
    received: float


@dataclass(frozen=True, slots=True)
class Target:
    """Where a provider is and how it knows us.

    base_url   as configured: a base, or the full URL of the chat endpoint
    endpoints  paths that may stand at the end of base_url and are not part of the base
    auth       header or query parameter name -> key in its text; in_query says which of the two
    headers    further headers, from the configuration
    values     environment variables that the spec's headers and query name
    """

    provider: str
    base_url: str
    endpoints: tuple[str, ...] = ()
    auth: Mapping[str, Secret] = field(default_factory=dict)
    in_query: bool = False
    headers: Mapping[str, str | Secret] = field(default_factory=dict)
    values: Mapping[str, Secret] = field(default_factory=dict)

    @property
    def secrets(self) -> list[Secret]:
        extra = [value for value in self.headers.values() if isinstance(value, Secret)]
        return [*self.auth.values(), *extra, *self.values.values()]
