"""Where the credential of an exchange comes from, and whether it may be sent there: the laws of accounts/keys.py, for auth.token.

A credential goes to the URL of auth.token, and the token that it becomes goes to the base URL. So a file that is not
packaged gets what belongs to a packaged provider only if it has that provider's two addresses, and no host beside.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from prx.accounts import keys
from prx.accounts.keys import Asked, Configured, Way
from prx.core.token import Credential
from prx.errors import ConfigError
from prx.json_text import parsed
from prx.secret import Secret
from prx.spec.catalog import Exchange
from prx.spec.credentials import WHOLE, places, templates
from prx.spec.model import Auth
from prx.text import MissingError, fill, variable_names
from prx.urls import check_url, origin


def credential(asked: Asked, way: Way, given: Configured, *, trusted: bool) -> Credential | None:
    """What is exchanged in a call's place, or None where a key is sent as it is, or there is none.

    given: what the configuration sends; trusted: the call goes to the file's own origin. Raises ConfigError.
    """
    auth = way.definition.spec().auth
    if not (auth.token or auth.jwt):
        return None
    if given.key and asked.settings.auth_style:
        return None  # the table says how its key travels: it is a key, and sent as it is
    if given.key:
        parts = _parts(given.key.reveal(), auth)
        # At an api_url of one's own, a text is a key of the server there; a JSON object can only be a credential.
        if parts is None or not (trusted or parsed(given.key.reveal())):
            return None
        _refuse_elsewhere(asked, way)
    else:
        ready = any(way.env.get(name, "").strip() for name in auth.env)
        parts = None if ready or not trusted else _of_environment(asked, way, auth)
        if parts is None:
            return None
    return Credential(
        _url(way, auth),
        {name: Secret(text) for name, text in parts.items()},
        _values(way, auth, given, trusted=trusted),
    )


def _parts(text: str, auth: Auth) -> dict[str, str] | None:
    """The parts of a credential; None for a text that is no credential, but a key that is sent as it is."""
    value = parsed(text) if text.lstrip().startswith("{") else None
    named = (
        {name: part if isinstance(part, str) else str(part) for name, part in value.items()}
        if isinstance(value, dict)
        else {}
    )
    if isinstance(auth.credential, Mapping):
        return named or None
    whole = any(WHOLE in places(template) for _, template in templates(auth))
    return {WHOLE: text, **named} if whole or named else None


def _of_environment(asked: Asked, way: Way, auth: Auth) -> dict[str, str] | None:
    """The parts of the credential in the environment; None where nothing of it is set. Raises ConfigError for a half of it."""
    rows = auth.credential if isinstance(auth.credential, Mapping) else {name: name for name in auth.credential}
    found = {part: way.env[name].strip() for part, name in rows.items() if way.env.get(name, "").strip()}
    for name in (rows[part] for part in found):
        refuse_theft(way, name)
    if not found:
        return None
    if not isinstance(auth.credential, Mapping):
        name, text = next(iter(found.items()))
        return _parts(text, auth) or _refuse_text(way, name)
    missing = [name for part, name in rows.items() if part not in found]
    if missing:
        raise ConfigError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set; a token is made of"
            f" {' and '.join(rows.values())}",
            provider=way.definition.id,
            hint=f"Set all of them, or {keys.in_config(asked, way, 'api_key', _as_toml(rows))} in config.toml.",
        )
    return found


def _refuse_text(way: Way, name: str) -> NoReturn:
    raise ConfigError(
        f"{name} holds no JSON object, and a token is made of the parts of one",
        provider=way.definition.id,
        hint="Its value has to be the JSON itself, not the path of a file.",
    )


def _as_toml(rows: Mapping[str, str]) -> str:
    """How the configuration says the same: a JSON object of the parts."""
    inner = ", ".join(f'"{part}": "${{{name}}}"' for part, name in rows.items())
    return f"'{{{inner}}}'"


def _values(way: Way, auth: Auth, given: Configured, *, trusted: bool) -> dict[str, Secret]:
    """The environment variables that the templates name, as far as they are set and may be sent there."""
    names = {name for _, text in templates(auth) for name in variable_names(text)}
    found = {name for name in names if way.env.get(name, "").strip()}
    for name in found:
        if name.upper() not in given.names:
            refuse_theft(way, name)
    return {name: Secret(way.env[name].strip()) for name in found if trusted or name.upper() in given.names}


def _url(way: Way, auth: Auth) -> str:
    if auth.token is None:
        return ""
    for name in () if way.definition.packaged else variable_names(auth.token.url):
        if keys.claimed(way.catalog, name):
            raise ConfigError(
                f"{way.definition.entry.path} puts {name}, a key of another provider, into the URL of auth.token",
                provider=way.definition.id,
                hint="Write keys under auth.credential, not into a URL.",
            )
    url = keys.filled(auth.token.url, way.env, way.definition.id, "the URL of its tokens")
    check_url(url, way.definition.id)
    return url


# ------------------------------------------------------------------ who may have it


def refuse_theft(way: Way, name: str) -> None:
    """Raise ConfigError where a file's exchange would have a variable that belongs to a packaged provider with other addresses."""
    if way.definition.packaged or not (homes := keys.claimed(way.catalog, name)):
        return
    exchanges = way.catalog.exchanges.get(name.upper(), ())
    if any(map(way.at, homes)) and any(_same(way, exchange) for exchange in exchanges):
        return
    raise ConfigError(
        f"{way.definition.entry.path} would exchange {name}, which belongs to {homes[0] or 'another provider'},"
        f" at {_own(way).url or 'none but its own server'}",
        provider=way.definition.id,
        hint="Give the file a variable of its own, or the key in its table of config.toml.",
    )


def _refuse_elsewhere(asked: Asked, way: Way) -> None:
    """Raise ConfigError where a configured key, of a packaged provider's name, would be exchanged at another URL than that
    provider's.
    """
    names = {asked.name, asked.settings.name, asked.base} - {""}
    if way.definition.packaged and names <= {way.definition.entry.path.stem, *(way.definition.spec().aliases)}:
        return
    homes = way.catalog.homes_of_exchanges
    for name in names:
        if name.lower() in homes and not _same(way, homes[name.lower()]):
            raise ConfigError(
                f"{keys.in_table(asked.settings.name)}.api_key is for {name}, but {way.definition.entry.path} would exchange it at"
                f" {_own(way).url or 'its own server'}",
                provider=way.definition.id,
                hint="Give the file an id of its own; the key in the table of that id is your consent.",
            )


def _own(way: Way) -> Exchange:
    token = way.definition.spec().auth.token
    return Exchange(token.url, token.hosts) if token else Exchange()


def _same(way: Way, other: Exchange) -> bool:
    """Whether the file's exchange is at the same origin as another one, with no host beside."""
    own = _own(way)
    try:
        same = origin(fill(own.url, way.env)) == origin(fill(other.url, way.env))
    except (MissingError, ValueError):
        same = False
    return same and {*own.hosts} <= {*other.hosts}
