"""The types of HTTP that the core and a transport exchange: a request, the head of a response, a provider's address."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlencode

from prx.chat import NONE
from prx.errors import OverflowedError
from prx.record import Record
from prx.secret import Secret

FRAMING = {"content-length", "transfer-encoding"}  # with a wrong one a server would take the rest for a second request
SIGNATURE = "AWS4-HMAC-SHA256 {api_key}"  # in the header authorization; how Signer signs
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def header_fault(name: str, value: str) -> bool:
    """Whether a header cannot be sent: its name is not one, or its value has other characters than printable ASCII."""
    return not (_HEADER_NAME.fullmatch(name) and value.isascii() and (value.isprintable() or not value))


class HttpRequest(Record, often=True):
    """A request ready to be sent.

    url     without secrets
    query   secret parameters, which are added to the URL when the request is sent
    stream  the response is expected to be a stream
    """

    method: str
    url: str
    headers: Mapping[str, str | Secret] = NONE
    body: bytes = b""
    query: Mapping[str, Secret] = NONE
    stream: bool = False

    def full_url(self, *, reveal: bool = False) -> str:
        """The URL with its secret query parameters, masked unless `reveal`."""
        if not self.query:
            return self.url
        pairs = {name: value.reveal() if reveal else str(value) for name, value in self.query.items()}
        return self.url + ("&" if "?" in self.url else "?") + urlencode(pairs, safe="*")


class Head(Record, often=True):
    """Status and headers of a response. Header names are lower-case; `received` is epoch seconds."""

    status: int
    headers: Mapping[str, str]
    received: float


class Signer(Record):
    """What requests are signed with: a key of three parts, and what the signature is for. token: empty where the key has none."""

    access_id: Secret
    secret: Secret
    token: Secret
    service: str
    region: str

    @property
    def secrets(self) -> tuple[Secret, ...]:
        return (self.secret, self.token, self.access_id)


class Target(Record):
    """The address of a provider, and the credentials for it.

    base_url   as configured: a base, or the full URL of the chat endpoint
    endpoints  paths that may stand at the end of base_url and are not part of the base
    auth       {name of a header or a query parameter: its value, which has the key in it}
    in_query   auth is a query parameter, not a header
    headers    further headers, from the configuration
    values     environment variables that the spec's headers and query name
    unsent     secrets that are not sent to the provider but must not be shown either: passwords of proxies
    signer     what requests are signed with, or None; `auth` has a stand-in for the signature then
    """

    provider: str
    base_url: str
    endpoints: tuple[str, ...] = ()
    auth: Mapping[str, Secret] = NONE
    in_query: bool = False
    headers: Mapping[str, str | Secret] = NONE
    values: Mapping[str, Secret] = NONE
    unsent: tuple[Secret, ...] = ()
    signer: Signer | None = None

    @property
    def secrets(self) -> list[Secret]:
        extra = [value for value in self.headers.values() if isinstance(value, Secret)]
        parts = self.signer.secrets if self.signer is not None else ()
        return [*self.auth.values(), *extra, *self.values.values(), *self.unsent, *parts]


def too_large(limit: int) -> OverflowedError:
    """The error of an answer of more bytes than `transport.max_body` allows."""
    return OverflowedError(f"the answer has more than {limit} bytes; transport.max_body sets the limit")
