"""The texts of auth.token and auth.jwt, in which a credential's parts stand as {NAME}, and variables as ${NAME}."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from prx.spec.compile import OWN_HEADER
from prx.spec.document import Keys
from prx.spec.model import Auth, Spec, TokenForm
from prx.text import VARIABLE_FAULT, has_strange_variable, nearest
from prx.wire import FRAMING

WHOLE, SIGNED, FRESH = "api_key", "jwt", "uuid"  # names in templates that are no parts of the credential
PLACE = re.compile(r"(\$?)\$\{([A-Za-z_][A-Za-z0-9_]*)\}|\{([a-z][a-z0-9_]*)\}")
Fault = tuple[Keys, str, None]
_IN_TOKEN, _IN_JWT = ("basic", "headers", "form", "json"), ("claims", "header", "key")  # keys that have templates


def places(text: str) -> list[str]:
    """The names in {} of a template."""
    return [name for _, _, name in PLACE.findall(text) if name]


def texts(value: Any, path: Keys = ()) -> Iterator[tuple[Keys, str]]:
    """(path, text) of every text in a JSON value, but for the names of keys."""
    if isinstance(value, str):
        yield path, value
    inner = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, child in inner:
        yield from texts(child, (*path, key))


def templates(auth: Auth) -> Iterator[tuple[Keys, str]]:
    """(path, template) of every template of auth.token and auth.jwt."""
    for block, record, keys in (("token", auth.token, _IN_TOKEN), ("jwt", auth.jwt, _IN_JWT)):
        for key in keys if record is not None else ():
            yield from texts(getattr(record, key), ("auth", block, key))


def faults(spec: Spec, *, whole: bool) -> Iterator[Fault]:
    """The faults of auth.credential, auth.jwt and auth.token that the schema cannot express. whole: as in spec/faults.py."""
    auth, token = spec.auth, spec.auth.token
    yield from _missing(auth) if whole else ()
    for path, text in templates(auth):
        if has_strange_variable(text):
            yield path, VARIABLE_FAULT, None
        yield from ((path, _unknown(name, auth), None) for name in places(text) if not _is_known(name, auth, path))
    yield from _of_token(token) if token is not None else ()


def _missing(auth: Auth) -> Iterator[Fault]:
    token, jwt = auth.token, auth.jwt
    works = bool(token or jwt)
    for path, holds, sentence in (
        (("credential",), auth.credential or not works, "is missing: variables of what token and sign are made of"),
        (("credential",), works or not auth.credential, "does nothing without token or sign; a key that is sent as it is stands in env"),
        (("jwt",), jwt or auth.sign != "rs256", "is missing: what sign signs"),
        (("sign",), auth.sign == "rs256" or not jwt, "is not rs256, by which jwt is signed" if auth.sign else "is missing: how jwt is signed"),
        (("aws4",), auth.aws4 or auth.sign != "aws4", "is missing: what sign signs for"),
        (("sign",), auth.sign == "aws4" or not auth.aws4, "is not aws4, but there is a block of that name"),
        (("aws4", "service"), not auth.aws4 or auth.aws4.service, "is missing: the service that is signed for"),
        (("aws4", "region"), not auth.aws4 or auth.aws4.region, "is missing: the region that is signed for"),
        (("aws4", "secret"), not auth.aws4 or bool(auth.aws4.secret) == bool(auth.aws4.access_id), "and access_id go together"),
        (("jwt", "key"), not jwt or jwt.key, "is missing: the part that is the private key"),
        (("token", "url"), not token or token.url, "is missing: where the token is got"),
        (("token", "answer", "token"), not token or token.answer.found.sources.get("token"), "is missing: where the token is in the answer"),
    ):  # fmt: skip
        if not holds:
            yield ("auth", *path), sentence, None


def _of_token(token: TokenForm) -> Iterator[Fault]:
    if has_strange_variable(token.url):
        yield ("auth", "token", "url"), VARIABLE_FAULT, None
    body = "form" if token.form is not None else "json" if token.json is not None else ""
    if token.method == "GET" and body:
        yield ("auth", "token", body), "a GET has no body; leave it away, or write method: POST", None
    for name in token.headers:
        if name.lower() in FRAMING:
            yield ("auth", "token", "headers", name), OWN_HEADER, None
    if token.answer.found.sources.get("base_url") and not token.hosts:
        yield ("auth", "token", "answer", "base_url"), "needs auth.token.hosts, which say where the token may go", None


def _known(auth: Auth, path: Keys) -> set[str]:
    own = {*auth.credential} if isinstance(auth.credential, Mapping) else {WHOLE}
    return own | ({FRESH, SIGNED} if auth.sign and path[1] == "token" else {FRESH})


def _is_known(name: str, auth: Auth, path: Keys) -> bool:
    """Whether a template may have a name: of a credential that is one text, the parts are known only when it is there."""
    if not isinstance(auth.credential, Mapping) and name not in (SIGNED, FRESH):
        return True
    return name in _known(auth, path)


def _unknown(name: str, auth: Auth) -> str:
    if name == SIGNED:
        return "there is no {jwt} here: sign makes it, for the templates of auth.token"
    known = [*auth.credential] if isinstance(auth.credential, Mapping) else []
    near = nearest(name, known) or f"; it has {', '.join(known)}"
    return f"auth.credential has no part {name!r}{near}"
