"""Exchanges a credential for a token, as `auth.token` and `auth.sign` of a file say: a flow like a call's (core.exchange).

Time and chance come from outside. The credential is in the request of the exchange and nowhere else: in what is shown of
it, and in errors, it is masked.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from math import isfinite
from typing import Any
from urllib.parse import urlencode, urlsplit

from prx.chat import NONE
from prx.core import fault
from prx.core.exchange import READ, Ask, Send
from prx.core.request import USER_AGENT, encoded
from prx.errors import KINDS, AuthError, ConfigError, Error, ProtocolError
from prx.json_text import parsed
from prx.record import Record
from prx.secret import MASK, Secret, redact
from prx.spec.credentials import FRESH, PLACE, SIGNED, WHOLE
from prx.spec.model import Limits, Spec
from prx.text import clean
from prx.wire import Head, HttpRequest

USUAL = ("user-agent", "accept", "accept-encoding", "content-type")  # headers of every exchange
_MAX_ANSWER = 1 << 20
_MAX_MESSAGE = 500
_LONGEST = 60.0  # seconds for an answer: it has no model behind it
_EARLY = 60.0  # seconds before its end at which a token is renewed, or a tenth of its life where that is less
_OPEN = re.compile(r"(^|_)(id|uri|url|email|domain|type|scope|host|region)$")  # names of parts that are no secrets
# Kinds of error by the status of a refused exchange; 4xx and 5xx stand for the rest.
_KINDS = {"429": "rate_limit", "408": "timeout", "404": "not_found", "405": "not_found", "4xx": "auth", "5xx": "server"}


class Credential(Record):
    """What a token is made of.

    url     of the exchange, "" where the credential only signs
    parts   {name: its text}; `api_key` is all of it
    values  {environment variable: its value} of those that the file's templates name
    """

    url: str
    parts: Mapping[str, Secret]
    values: Mapping[str, Secret] = NONE

    @property
    def secrets(self) -> list[Secret]:
        """What must not be shown: all parts but those whose names say that they are no secrets."""
        return [text for name, text in self.parts.items() if not _OPEN.search(name)] + [*self.values.values()]


class Token(Record):
    """A token. until: the time at which it ends, early: the time from which another one is got; base_url: "" for the file's."""

    value: Secret
    until: float
    early: float
    base_url: str = ""


class SecretBytes(bytes):
    """A body that has a credential in it: it prints masked."""

    def __repr__(self) -> str:
        return f"b'{MASK}'"

    __str__ = __repr__


# ------------------------------------------------------------------ templates


class _Filling:
    """Fills templates with the parts of a credential, or with masks."""

    def __init__(self, credential: Credential, provider: str, *, masked: bool = False) -> None:
        self._credential, self._provider, self._masked = credential, provider, masked
        self.further: dict[str, str] = {}

    def text(self, template: str) -> str:
        return PLACE.sub(self._value, template)

    def value(self, node: Any) -> Any:
        """A JSON value with its texts filled."""
        if isinstance(node, str):
            return self.text(node)
        if isinstance(node, Mapping):
            return {key: self.value(child) for key, child in node.items()}
        return [*map(self.value, node)] if isinstance(node, list | tuple) else node

    def header(self, template: str) -> str | Secret:
        filled = self.text(template)
        return Secret(filled) if filled != template and not self._masked else filled

    def _value(self, found: re.Match[str]) -> str:
        escape, variable, part = found.groups()
        if escape:
            return f"${{{variable}}}"
        if part in self.further:
            return self.further[part]
        known = self._credential.parts if part else self._credential.values
        secret = known.get(part or variable)
        if secret is None:
            raise self._missing(part, variable)
        return MASK if self._masked and not (part and _OPEN.search(part)) else secret.reveal()

    def _missing(self, part: str | None, variable: str) -> ConfigError:
        if part:
            has = ", ".join(sorted(self._credential.parts.keys() - {WHOLE})) or "no parts, being a text alone"
            message = f"the credential has no part {part!r}, which the provider's file asks for; it has {has}"
            return ConfigError(message, provider=self._provider, hint="Is it a JSON object, and the right one?")
        return ConfigError(
            f"the exchange of the key needs the environment variable {variable}, which is not set",
            provider=self._provider,
            hint=f"Set it: export {variable}=…",
        )


# ------------------------------------------------------------------ the request


def exchange_request(spec: Spec, credential: Credential, new_id: Callable[[], str], jwt: str = "") -> HttpRequest:
    """The request that exchanges a credential. jwt: what the credential has signed."""
    filling = _Filling(credential, spec.id)
    filling.further = {FRESH: new_id(), SIGNED: jwt}
    return _request(spec, credential, filling)


def shown_request(spec: Spec, credential: Credential) -> HttpRequest:
    """The same request with every secret masked."""
    filling = _Filling(credential, spec.id, masked=True)
    filling.further = {FRESH: "…", SIGNED: MASK}
    return _request(spec, credential, filling)


def _request(spec: Spec, credential: Credential, filling: _Filling) -> HttpRequest:
    form = spec.auth.token
    assert form is not None
    headers: dict[str, str | Secret] = {
        "user-agent": USER_AGENT,
        "accept": "application/json",
        "accept-encoding": "identity",
    }
    body = b""
    if form.form is not None:
        headers["content-type"] = "application/x-www-form-urlencoded"
        body = urlencode(filling.value(form.form), safe="*").encode()
    elif form.json is not None:
        headers["content-type"] = "application/json"
        body = encoded(filling.value(form.json))
    if form.basic:
        login = base64.b64encode(filling.text(form.basic).encode()).decode()
        headers["authorization"] = Secret(login, f"Basic {{{WHOLE}}}")
    headers.update({name.lower(): filling.header(text) for name, text in form.headers.items()})
    return HttpRequest(form.method, credential.url, headers, SecretBytes(body))


# ------------------------------------------------------------------ the flow

Got = Generator[Ask, Any, Token]


def obtain(spec: Spec, credential: Credential, now: float, new_id: Callable[[], str], network: Any = None) -> Got:
    """The flow of one exchange. now: the time, in seconds since 1970; new_id: makes ids as UUIDs are; network: as in Send."""
    auth, jwt = spec.auth, ""
    if auth.sign and auth.jwt is not None:
        jwt = _signed(spec, credential, now)
        if auth.token is None:
            return _lasting(Secret(jwt), now, auth.jwt.lasts)
    secrets = [Secret(jwt), *credential.secrets]
    request = exchange_request(spec, credential, new_id, jwt)
    try:
        head: Head = yield Send(request, _limits(spec), network=network)
        body = yield from _body()
    except Error as error:
        error.message = f"{_at(credential)}: {error.message}"
        raise fault.without_keys(error, secrets).with_traceback(None) from None
    return _token(spec, credential, _Answer(head, body, secrets), now)


def _limits(spec: Spec) -> Limits:
    limits = spec.transport
    return limits._replace(first_byte=min(limits.first_byte, _LONGEST), idle=min(limits.idle, _LONGEST))


def _signed(spec: Spec, credential: Credential, now: float) -> str:
    from prx.core import jwt  # imported here: few providers need it

    form, filling = spec.auth.jwt, _Filling(credential, spec.id)
    assert form is not None
    claims = {"iat": int(now), "exp": int(now + form.lasts), **filling.value(form.claims)}
    return jwt.signed(filling.value(form.header), claims, filling.text(form.key), provider=spec.id)


def _body() -> Generator[Ask, bytes, bytes]:
    body = b""
    while len(body) <= _MAX_ANSWER and (data := (yield READ)):
        body += data
    return body


def _at(credential: Credential) -> str:
    return f"the exchange of the key at {credential.url}"


class _Answer:
    """The answer of an exchange. found: what the file finds in its JSON."""

    def __init__(self, head: Head, body: bytes, secrets: Sequence[Secret]) -> None:
        self.head, self.secrets = head, secrets
        self.text = clean(body.decode("utf-8", "replace"))
        self.value = parsed(self.text) if len(body) <= _MAX_ANSWER else None

    def says(self, message: Any) -> str:
        """The message that was found, or the beginning of the body, without secrets."""
        words = message if isinstance(message, str) and message.strip() else fault.excerpt(self.text, self.head)
        return " ".join(redact(words, self.secrets).split())[:_MAX_MESSAGE]

    @property
    def keys(self) -> str:
        """The names of the keys of the answer."""
        names = ", ".join(sorted(self.value)[:20]) if isinstance(self.value, dict) else ""
        return redact(names, self.secrets)[:_MAX_MESSAGE] or "none"


def _token(spec: Spec, credential: Credential, answer: _Answer, now: float) -> Token:
    form = spec.auth.token
    assert form is not None
    found = fault.safely(form.answer.found.run, answer.value, spec) if answer.value is not None else (None,) * 5
    value, expires_in, expires_at, base_url, message = found
    if not 200 <= answer.head.status < 300:
        raise _refused(spec, credential, answer, message)
    if not isinstance(value, str) or not value.strip():
        raise _without_token(spec, credential, answer, message)
    token = Secret(value.strip())
    if not token.sendable:
        raise _broken(spec, credential, "answered with a token that no header can carry")
    scale = 1000.0 if form.answer.unit == "ms" else 1.0
    life = _number(expires_in, scale)
    if life is None:
        end = _number(expires_at, scale) if _number(expires_at, scale) is not None else _date(expires_at)
        life = form.lasts if end is None else end - _their_time(answer.head)
    return _lasting(token, now, life, _allowed(spec, credential, base_url))


def _lasting(value: Secret, now: float, life: float, base_url: str = "") -> Token:
    life = max(0.0, life)
    return Token(value, now + life, now + life - min(_EARLY, life / 10), base_url)


def _number(value: Any, scale: float) -> float | None:
    try:
        number = float(value) / scale if not isinstance(value, bool) else None
    except (TypeError, ValueError, OverflowError):
        return None
    return number if number is not None and isfinite(number) else None


def _date(value: Any) -> float | None:
    """The time of a date as in ISO 8601, which is in UTC where it does not say."""
    try:
        when = datetime.fromisoformat(value)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def _their_time(head: Head) -> float:
    """The time by the server's clock, with which the end of its tokens is written; by ours where it does not say."""
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(head.headers["date"]).timestamp()
    except (KeyError, TypeError, ValueError, OverflowError):
        return head.received


def _allowed(spec: Spec, credential: Credential, base_url: Any) -> str:
    """The base URL of an answer. Raises ProtocolError for one at a host to which the file does not send its token."""
    if not isinstance(base_url, str) or not base_url:
        return ""
    form = spec.auth.token
    assert form is not None
    try:
        parts = urlsplit(base_url)
        host = (parts.hostname or "").lower()
        plain = parts.scheme == "https" and parts.port in (None, 443) and not parts.username
    except ValueError:
        host, plain = "", False
    if plain and host and any(fnmatchcase(host, pattern) for pattern in form.hosts):
        return base_url
    named = clean(redact(base_url, credential.secrets))[:200]
    raise _broken(spec, credential, f"names the base URL {named!r}, which is at none of auth.token.hosts")


# ------------------------------------------------------------------ errors


def _refused(spec: Spec, credential: Credential, answer: _Answer, message: Any) -> Error:
    status = answer.head.status
    if 300 <= status < 400:
        where = redact(answer.head.headers.get("location", "nowhere"), answer.secrets)[:200]
        return _broken(spec, credential, f"redirects to {where}, which prx does not follow", status)
    kind = _KINDS.get(str(status)) or _KINDS.get(f"{status // 100}xx", "protocol")
    error = KINDS[kind](
        f"{_at(credential)} was refused: {answer.says(message)}",
        status=status,
        provider=spec.id,
        hint=_HINTS.get(kind, ""),
    )
    error.retry_after = fault.retry_after(answer.head)
    return error


_HINTS = {
    "auth": "The provider was not called. Is the credential right, and still in force?",
    "not_found": "Is the URL of auth.token right?",
}


def _without_token(spec: Spec, credential: Credential, answer: _Answer, message: Any) -> Error:
    if answer.value is None:
        return _broken(spec, credential, _no_json(answer))
    if isinstance(message, str) and message.strip():
        said = f"{_at(credential)} was refused: {answer.says(message)}"
        return AuthError(said, status=answer.head.status, provider=spec.id, hint=_HINTS["auth"])
    return _broken(
        spec, credential, f"gave no token where auth.token.answer.token looks for it; the answer's keys: {answer.keys}"
    )


def _no_json(answer: _Answer) -> str:
    said = answer.says(None)
    return said if said.startswith("answered") else f"answered with no JSON: {said[:200]}"


def _broken(spec: Spec, credential: Credential, what: str, status: int | None = None) -> ProtocolError:
    return ProtocolError(f"{_at(credential)}: it {what}", provider=spec.id, status=status)
