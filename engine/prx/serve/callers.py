"""Who may call: keys, the models and the rate of each, and what a web page in the user's browser must not reach."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import time
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from urllib.parse import parse_qs

from prx.accounts.config import CallerKey, expand
from prx.secret import Secret

_HEADERS = ("x-api-key", "api-key", "x-goog-api-key")  # besides `authorization: Bearer`
_MINUTE = 60.0


class Caller:
    """One key, and how many requests it may still send: as many as its rate at once, and then as the minute refills."""

    def __init__(self, key: CallerKey, digest: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.name, self.models, self.digest, self.rate = key.name, key.models, digest, key.requests_per_minute
        self._clock = clock
        self._left, self._at = float(key.requests_per_minute or 0), clock()

    def may_ask(self, model: str) -> bool:
        return any(fnmatchcase(model, pattern) for pattern in self.models)

    def may_ask_some(self, provider: str) -> bool:
        """Whether any model of a provider may be asked for."""
        return any(fnmatchcase(provider, pattern.partition("/")[0]) for pattern in self.models)

    def wait(self) -> float:
        """Take one request; gives 0.0, or the seconds until the next one is allowed."""
        if self.rate is None:
            return 0.0
        now = self._clock()
        self._left = min(self.rate, self._left + (now - self._at) * self.rate / _MINUTE)
        self._at = now
        if self._left < 1:
            return (1 - self._left) * _MINUTE / self.rate
        self._left -= 1
        return 0.0


ANYBODY = Caller(CallerKey(), "")


class Callers:
    """All keys of a configuration; none: anybody on this machine may call."""

    def __init__(self, keys: Sequence[CallerKey], env: Mapping[str, str], before: Callers | None = None) -> None:
        """Raises ConfigError for a key whose variable is not set. before: the callers until now, whose rates go on."""
        self.secrets: list[Secret] = []  # the keys of which more is known than a digest
        known = {caller.digest: caller for caller in before.all} if before is not None else {}
        self.all: list[Caller] = [self._caller(key, env, known) for key in keys]

    def _caller(self, key: CallerKey, env: Mapping[str, str], known: Mapping[str, Caller]) -> Caller:
        where = f"serve.keys_by_name.{key.name}.key" if key.name else "serve.keys"
        if key.key is not None:
            self.secrets.append(Secret(expand(key.key.reveal(), env, where)))
        digest = key.sha256 or digest_of(self.secrets[-1].reveal())
        made, earlier = Caller(key, digest), known.get(digest)
        same = earlier is not None and (earlier.name, earlier.models, earlier.rate) == (
            made.name,
            made.models,
            made.rate,
        )
        return earlier if earlier is not None and same else made

    def of(self, headers: Mapping[str, str], query: str) -> Caller | None:
        """The caller whose key a request has, in any of the usual places; None for a wrong or a missing one."""
        if not self.all:
            return ANYBODY
        given = digest_of(key_in(headers, query))
        found = None
        for caller in self.all:  # all of them, so that the time taken says nothing
            if hmac.compare_digest(caller.digest, given):
                found = caller
        return found


def digest_of(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def key_in(headers: Mapping[str, str], query: str) -> str:
    """The key that a request has, "" for none."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token:
        return token.strip()
    for name in _HEADERS:
        if name in headers:
            return headers[name].strip()
    return next(iter(parse_qs(query).get("key", ())), "")


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine reach an address or a name."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_own_name(host: str) -> bool:
    """Whether the Host header of a request is a name that no web page can have: one of loopback, or one without a dot.

    A page on the web reaches a port of this machine by a public name of its own that it makes lead here (DNS rebinding).
    """
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return is_loopback(name) or (":" not in name and "." not in name)
