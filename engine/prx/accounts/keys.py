"""Decides which key is sent to which server.

A key of the environment is sent to the origin of the file that names its variable. A key or a header of config.toml is sent
to the api_url in the same table. Without an api_url it is sent to the packaged provider of the table's name, even if
another file has taken that name; and if no packaged provider has the name, to the URL of the file that has it.
"${NAME}" in config.toml is the consent to send that variable there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prx.accounts.config import Route, Settings, expand
from prx.chat import NONE
from prx.errors import ConfigError
from prx.record import Record
from prx.secret import Secret
from prx.spec.catalog import Catalog
from prx.spec.definition import Definition
from prx.spec.resolve import overlays
from prx.text import MissingError, fill, variable_names
from prx.urls import origin

Env = Mapping[str, str]
_BOUND = ("api_key", "headers", "cert_file")  # of a table: what shows a server who is calling


class Asked(Record):
    """The provider of a call, as it was chosen.

    name      as the caller, a route or the default gives it
    settings  its table in the configuration
    route     the route that chose it, or None
    base      the provider or dialect that the table extends; "" where the name itself has a file
    """

    name: str
    settings: Settings
    route: Route | None = None
    base: str = ""

    @property
    def url(self) -> str | None:
        """The api_url of its route or its table, or None."""
        return (self.route.api_url if self.route else None) or self.settings.api_url


class Way(Record):
    """The file and the URL that a call would use. env: the environment."""

    definition: Definition
    base_url: str
    env: Env
    catalog: Catalog

    @property
    def file_url(self) -> str:
        """The base URL in the file, with ${NAME} as it is written."""
        return self.definition.spec().base_url

    def at(self, url: str) -> bool:
        """Whether the call would go to the origin of this URL."""
        try:
            return bool(url) and origin(self.base_url) == origin(fill(url, self.env))
        except (MissingError, ValueError):
            return False

    def at_home(self, *names: str) -> bool:
        """Whether the call would go to the base URL of each packaged provider that has one of these names."""
        if self.definition.packaged and {*names} <= {"", self.definition.entry.path.stem}:
            return True
        return all(self.at(home) for home in self._homes(names).values())

    def missed_home(self, *names: str) -> str:
        """The base URL, or the name, of the first packaged provider of these names that the call would not go to."""
        missed = ((name, home) for name, home in self._homes(names).items() if not self.at(home))
        name, home = next(missed)
        return home or name

    def _homes(self, names: Iterable[str]) -> dict[str, str]:
        homes = self.catalog.homes
        return {name: homes[name.lower()] for name in names if name.lower() in homes}


class Configured(Record):
    """What the configuration sends with a call.

    key     the key, empty for none
    headers the headers of the provider's table
    names   the environment variables, in capitals, that its key and headers contain as ${NAME}
    """

    key: Secret = Secret("")
    headers: Mapping[str, Secret] = NONE
    names: frozenset[str] = frozenset()


def configured(asked: Asked, way: Way) -> Configured:
    """The configuration's key and headers for a call. Raises ConfigError where one would go to another server than it is
    for.
    """
    settings, route = asked.settings, asked.route
    table = of_the_table(asked, way) if settings.api_key is not None or settings.headers else Settings(settings.name)
    key, where = table.api_key, f"{in_table(settings.name)}.api_key"
    if route and route.api_key is not None:
        key, where = _of_the_route(asked, route, way), f"{in_route(route)}: api_key"
    texts = [text for text in (key, *table.headers.values()) if text is not None]
    return Configured(
        key=Secret(expand(key.reveal(), way.env, where).strip()) if key is not None else Secret(""),
        headers=_headers(table, way.env),
        names=frozenset(name.upper() for text in texts for name in variable_names(text.reveal())),
    )


def of_the_table(asked: Asked, way: Way) -> Settings:
    """A provider's table, without the key, headers and certificate that are for another server than the call's. Raises ConfigError."""
    settings, route = asked.settings, asked.route
    names = (settings.name, asked.base)
    if way.at(settings.api_url or way.file_url) and (settings.api_url or way.at_home(*names)):
        return settings
    if route and route.api_url:
        return settings._replace(
            api_key=None, headers=NONE, cert_file=None, key_file=None
        )  # the route's URL is of another server than the table's
    routed = route is not None and route.api_key is not None
    wrong = [key for key in _BOUND if getattr(settings, key) and not (routed and key == "api_key")]
    if wrong:
        consent = f"{in_table(settings.name)}.api_url = {quoted(way.file_url)}"
        raise _wrong_server(f"{in_table(settings.name)}.{wrong[0]}", way, names, consent)
    return settings


def _of_the_route(asked: Asked, route: Route, way: Way) -> Secret | None:
    names = (asked.name, asked.base)
    if asked.url or way.at_home(*names):
        return route.api_key
    raise _wrong_server(f"{in_route(route)}: api_key", way, names, f"api_url = {quoted(way.file_url)} in that route")


def _wrong_server(where: str, way: Way, names: Iterable[str], consent: str) -> ConfigError:
    return ConfigError(
        f"{where} is for {way.missed_home(*names)}, but {way.definition.entry.path} would send it to {way.file_url}",
        provider=way.definition.id,
        hint=f"If you want that, write {consent}.",
    )


def _headers(table: Settings, env: Env) -> dict[str, Secret]:
    """The configured headers. Any of them may hold a key, so all are Secrets."""
    where = f"{in_table(table.name)}.headers"
    return {name.lower(): Secret(expand(text.reveal(), env, f"{where}.{name}")) for name, text in table.headers.items()}


def usable(asked: Asked, way: Way, given: Configured, *, trusted: bool) -> dict[str, str]:
    """{name: value} of the environment variables that a file may use: those that the configuration sends there by name
    and, if the call goes to the file's own origin (trusted), all that the file names.

    Raises ConfigError for one that is the key of a packaged provider at another origin.
    """
    values = {name: way.env[name] for name in _wanted(way, given, trusted=trusted) if way.env.get(name, "").strip()}
    for name in values:
        if name.upper() not in given.names and not may_have(way, name):
            home = claimed(way.catalog, name)[0] or "another provider"
            raise ConfigError(
                f"{way.definition.entry.path} asks for {name}, which belongs to {home}",
                provider=way.definition.id,
                hint=f"If you want that key to be sent to {way.base_url}, write {_consent(asked, way, given, name)}.",
            )
    return values


def _wanted(way: Way, given: Configured, *, trusted: bool) -> set[str]:
    """The environment variables that a file uses: all in its headers and query, and the first one of auth.env that is
    set, if the configuration has no key.
    """
    texts = named(way.definition.raw)
    if not trusted:
        return {name for name in texts if name.upper() in given.names}
    auth = way.definition.spec().auth
    key = next((name for name in auth.env if way.env.get(name, "").strip()), None)
    parts = () if auth.aws4 is None else (auth.aws4.access_id, auth.aws4.secret, auth.aws4.session_token)
    wanted = () if given.key else (key,) if key else parts
    return texts | {name for name in wanted if name}


def _consent(asked: Asked, way: Way, given: Configured, name: str) -> str:
    """The line of config.toml that sends a variable there: as the key, or as a header where there is a key already."""
    if not given.key:
        return in_config(asked, way, "api_key", f'"${{{name}}}"')
    headers = ((way.definition.raw.get("request") or {}).get("headers") or {}).items()
    header = next((key for key, text in headers if isinstance(text, str) and name in variable_names(text)), "x-key")
    return in_config(asked, way, f"headers.{quoted(header)}", f'"${{{name}}}"')


def in_config(asked: Asked, way: Way, key: str, value: str) -> str:
    """A line for a provider's table in config.toml, with the api_url if the table needs one."""
    settings = asked.settings
    line = f"{in_table(settings.name)}.{key} = {value}"
    if asked.url or way.at_home(settings.name, asked.base):
        return line
    return f"{in_table(settings.name)}.api_url = {quoted(way.file_url)} and {line}"


def to_set(asked: Asked, way: Way) -> str:
    """A sentence: what to set so that a key is sent there."""
    auth = way.definition.spec().auth
    names = auth.env
    value = f'"${{{names[0]}}}"' if names else '"…"'
    route = asked.route
    if route and route.api_url and not way.at(asked.settings.api_url or way.file_url):
        return f"Set api_key = {value} in {in_route(route)}."
    allowed = [name for name in names if way.at(way.file_url) and may_have(way, name)]
    allowed += _credential(way) if way.at(way.file_url) and way.definition.packaged else []
    if allowed and auth.aws4 and auth.aws4.access_id and auth.aws4.secret:
        allowed = [*allowed, f"{auth.aws4.access_id} and {auth.aws4.secret}"]
    in_environment = f"{' or '.join(allowed)} in the environment, or " if allowed else ""
    return f"Set {in_environment}{in_config(asked, way, 'api_key', value)} in config.toml."


def _credential(way: Way) -> list[str]:
    """The variables of the file's credential, as choices: one of several, or all parts together."""
    credential = way.definition.spec().auth.credential
    return [" and ".join(credential.values())] if isinstance(credential, Mapping) else list(credential)


def may_have(way: Way, name: str) -> bool:
    """Whether a file may use an environment variable at its own origin without the configuration's consent."""
    homes = () if way.definition.packaged else claimed(way.catalog, name)
    return not homes or any(map(way.at, homes))


def claimed(catalog: Catalog, name: str) -> tuple[str, ...]:
    """The base URLs of the packaged providers that have a variable for their key. Case does not count: Windows has all names in capitals."""
    return tuple(catalog.claims.get(name.upper(), ()))


def named(raw: Mapping[str, Any]) -> set[str]:
    """The environment variables in the headers and query of a file, those of its overlays included."""
    return {name for text in _texts(raw) if isinstance(text, str) for name in variable_names(text)}


def _texts(raw: Mapping[str, Any]) -> Iterator[Any]:
    for block in (raw, *(overlay for _, overlay in overlays(raw))):
        for part in ("headers", "query"):
            yield from ((block.get("request") or {}).get(part) or {}).values()


def filled(text: str, env: Env, provider: str, what: str, instead: str = "") -> str:
    """A text of a provider's file with the values of its variables. what: it in words, and instead: what may be set in place of
    a variable, for the error. Raises ConfigError.
    """
    try:
        return fill(text, env)
    except MissingError as missing:
        raise ConfigError(
            f"{what} needs the environment variable {missing.name}, which is not set",
            provider=provider,
            hint=f"Set it: export {missing.name}=…{instead}",
        ) from None


def in_table(name: str) -> str:
    """The name of a provider's table in config.toml, quoted where TOML requires it."""
    return f"providers.{name}" if re.fullmatch(r"[A-Za-z0-9_-]+", name) else f"providers.{quoted(name)}"


def in_route(route: Route) -> str:
    return f"model_routes with the pattern {quoted(route.pattern)}"


def quoted(text: str) -> str:
    """A text as a TOML string."""
    return json.dumps(text, ensure_ascii=False)
