"""Hints for errors whose cause only the configuration and the catalogue show."""

from __future__ import annotations

from urllib.parse import urlsplit

from prx import urls
from prx.accounts import keys
from prx.accounts.account import Account
from prx.errors import Error
from prx.spec.catalog import Catalog


def advise(error: Error, account: Account, catalog: Catalog) -> Error:
    """The error, with a hint if it has none and there is one for its kind."""
    hint_for = _HINTS.get(error.kind)
    if hint_for is not None and not error.hint:
        error.hint = hint_for(error, account, catalog)
    return error


def _auth(_error: Error, account: Account, catalog: Catalog) -> str:
    target, auth = account.target, account.definition.spec().auth
    if not target.auth:
        way = keys.Way(account.definition, target.base_url, {}, catalog)
        asked = keys.Asked(account.settings.name, account.settings, account.route)
        return f"No key was sent. {keys.to_set(asked, way)}" + _owner(account, catalog)
    source = account.source
    if source is not None and source.exchanges:
        where = f"got at {account.token_url}" if account.token_url else "signed with its credential"
        return f"The token that was {where} was refused. May its credential call this model?" + _owner(account, catalog)
    (name, value), *_ = target.auth.items()
    place = f"the query parameter {name}" if target.in_query else f"the header {name}: {value}"
    table, other = keys.in_table(account.settings.name), "x-api-key" if auth.style == "bearer" else "bearer"
    got = f", got from {source.shown()}," if source is not None else ""
    return (
        f"The key{got} was sent in {place}. If the key is right, the provider may require another style "
        f'({table}.auth_style = "{other}") or further headers ({table}.headers).' + _owner(account, catalog)
    )


def _owner(account: Account, catalog: Catalog) -> str:
    """A sentence with the packaged provider that has this host, if the account is of another provider; else ""."""
    host = urls.host(account.target.base_url)
    if host in ("", "localhost", "::1") or host.startswith("127."):
        return ""
    for entry in catalog.entries():
        if entry.id != account.id and urls.host(str(catalog.glance(entry).get("base_url", ""))) == host:
            return f" {host} is known as the provider {entry.id!r}; try {entry.id}/MODEL."
    return ""


def _not_found(error: Error, account: Account, catalog: Catalog) -> str:
    url = account.target.base_url.rstrip("/")
    former = [
        entry.id
        for entry in catalog.entries()
        if url in (old.rstrip("/") for old in catalog.glance(entry).get("former_urls") or ())
    ]
    if former:
        return f"{url} is a former address of {former[0]}; `prx show {former[0]}` shows the present one."
    if "model" in error.message.lower():
        return f"`prx models {account.id}` lists the models that it has."
    has_no_path = not urlsplit(url).path
    return (
        f'Is the path right? Many servers have their API below /v1: api_url = "{url}/v1"'
        if has_no_path
        else f"Is the path of {url} right?"
    )


def _bad_request(error: Error, _account: Account, _catalog: Catalog) -> str:
    text = error.message.lower()
    if "system" in text and "role" in text:
        return "The provider refuses the role system. Write into its file: request: {system: merge_into_first_user}."
    return ""


_HINTS = {"auth": _auth, "not_found": _not_found, "bad_request": _bad_request}
