"""The HTTP nouns that cross the border between the core and a transport, and the key in its wrapper.

A Secret shows itself only to `reveal()`. Only a transport calls that, at the moment of sending.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from prx import variables
from prx.chat import NONE
from prx.errors import ConfigError
from prx.record import Record
from prx.spellings import Spellings
from prx.words import clean

MASK = "***"
BOM = b"\xef\xbb\xbf"
MAX_DEPTH = 200  # of JSON: no answer needs a tenth of it, and Python's stack ends before 1,000
_SHORTEST = 4  # a key of fewer characters is a placeholder, and masking it would eat ordinary words


class Secret:
    """A key. Prints as ***, compares by value, is rendered into text only by `reveal`.

    `template` is the text around the key, with {api_key} where the key goes.
    """

    __slots__ = ("_spellings", "_template", "_value")

    def __init__(self, value: str, template: str = "{api_key}") -> None:
        self._value = value
        self._template = template
        self._spellings: Spellings | None = None  # made where it is first looked for, which is in an error

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
        """`text` with every spelling of the key replaced: plain, inside JSON, inside a URL, inside a page, in base64."""
        found = self.spellings
        return found.replaced(text, MASK) if found else text

    @property
    def spellings(self) -> Spellings | None:
        """The ways of writing it; None for what is too short to be a key."""
        if self._spellings is None and len(self._value) >= _SHORTEST:
            self._spellings = Spellings(self._value)
        return self._spellings

    @property
    def sendable(self) -> bool:
        """Whether a header can carry it: printable ASCII, no space around it."""
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


class LostSecret(Secret):
    """What a key has become where it went through a pickle. It is never sent: to ask it for its text is an error."""

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
            "a key that went through a pickle is not in it", hint="Make a Client where the call is made, with its key."
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
        return read_json(text.removeprefix("\ufeff"))
    except ValueError:
        return None


# Raw control characters in a text are read: servers that write JSON by hand leave them there. Made once: json.loads
# makes a decoder for each text that is not read by its own rules.
_decode = json.JSONDecoder(strict=False).decode


def read_json(text: str, decode: Callable[[str], Any] = _decode) -> Any:
    """The JSON value of a text. Raises ValueError, also for one so deep that to write it again would fail."""
    try:
        value = decode(text)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if text.count("[") + text.count("{") > MAX_DEPTH and _deep(value):
        raise ValueError("nested too deep")
    return value


def _deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item if isinstance(item, list) else ())
        ]
    return bool(level)


def redact_json(text: str, secrets: Sequence[Secret]) -> tuple[Any, str]:
    """The JSON value of a text (None where it is none) and the text, both without the keys."""
    value = parsed(text)
    safe = redact_value(value, secrets)
    if safe != value:
        return safe, clean(json.dumps(safe, ensure_ascii=False))
    return safe, redact(text, secrets) if value is None else text


class HttpRequest(Record):
    """A request ready to be sent. `url` has no secret in it; one that goes into the query is in `query`."""

    method: str
    url: str
    headers: Mapping[str, str | Secret] = NONE
    body: bytes = b""
    query: Mapping[str, Secret] = NONE
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


class Head(Record):
    """Status and headers of a response. Header names are lower-case; `received` is epoch seconds."""

    status: int
    headers: Mapping[str, str]
    received: float


class Target(Record):
    """Where a provider is and how it knows us.

    base_url   as configured: a base, or the full URL of the chat endpoint
    endpoints  paths that may stand at the end of base_url and are not part of the base
    auth       header or query parameter name -> key in its text; in_query says which of the two
    headers    further headers, from the configuration
    values     environment variables that the spec's headers and query name
    unsaid     what is not sent to it, and must not be shown either: passwords of proxies
    """

    provider: str
    base_url: str
    endpoints: tuple[str, ...] = ()
    auth: Mapping[str, Secret] = NONE
    in_query: bool = False
    headers: Mapping[str, str | Secret] = NONE
    values: Mapping[str, Secret] = NONE
    unsaid: tuple[Secret, ...] = ()

    @property
    def secrets(self) -> list[Secret]:
        extra = [value for value in self.headers.values() if isinstance(value, Secret)]
        return [*self.auth.values(), *extra, *self.values.values(), *self.unsaid]
