"""Which key goes where.

A key of the environment goes to the origin of the file that names it. A key or a header of config.toml goes to the api_url
that stands beside it; without one, to the home of the packaged provider under whose name it stands, whichever file has taken
that name; and under a name that no packaged provider has, to wherever the file of that name is. "${NAME}" in config.toml is
the consent to send that variable there.
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


class Asked(Record):
    """Who is asked.

    name      as the caller, a route or the default says it
    settings  the table of the configuration that speaks of it
    route     the route that led here
    base      what the table builds on, where it builds on anything but the file of its name
    """

    name: str
    settings: Settings
    route: Route | None = None
    base: str = ""

    @property
    def url(self) -> str | None:
        """The api_url that the configuration has for it."""
        return (self.route.api_url if self.route else None) or self.settings.api_url


class Way(Record):
    """Where a call would go: by which file, to which URL."""

    definition: Definition
    base_url: str
    env: Env
    catalog: Catalog

    @property
    def file_url(self) -> str:
        """The base URL that the file has, with its variables as they are written."""
        return self.definition.spec().base_url

    def at(self, url: str) -> bool:
        """Whether it goes to the origin of this URL."""
        try:
            return bool(url) and origin(self.base_url) == origin(fill(url, self.env))
        except (MissingError, ValueError):
            return False

    def at_home(self, *names: str) -> bool:
        """Whether it goes to every packaged provider that has one of these names."""
        if self.definition.packaged and {*names} <= {"", self.definition.entry.path.stem}:
            return True
        return all(self.at(home) for home in self._homes(names).values())

    def home(self, *names: str) -> str:
        """The packaged provider that it misses, for an error."""
        missed = [(name, home) for name, home in self._homes(names).items() if not self.at(home)]
        return missed[0][1] or missed[0][0]

    def _homes(self, names: Iterable[str]) -> dict[str, str]:
        homes = self.catalog.homes
        return {name: homes[name.lower()] for name in names if name.lower() in homes}


class Said(Record):
    """What the configuration has to send there.

    key     the key, empty for none
    headers the headers of the provider's table
    names   the environment variables that it sends there by name, in capitals
    """

    key: Secret = Secret("")
    headers: Mapping[str, Secret] = NONE
    names: frozenset[str] = frozenset()


def said(asked: Asked, way: Way) -> Said:
    """The configuration's key and headers, as far as they may go there. Raises ConfigError for one that would go astray."""
    settings, route = asked.settings, asked.route
    table = _of_the_table(asked, way) if settings.api_key is not None or settings.headers else Settings(settings.name)
    key, where = table.api_key, f"{in_table(settings.name)}.api_key"
    if route and route.api_key is not None:
        key, where = _of_the_route(asked, route, way), f"{_in_route(route)}: api_key"
    texts = [text for text in (key, *table.headers.values()) if text is not None]
    return Said(
        key=Secret(expand(key.reveal(), way.env, where).strip()) if key is not None else Secret(""),
        headers=_headers(table, way.env),
        names=frozenset(name.upper() for text in texts for name in variable_names(text.reveal())),
    )


def _of_the_table(asked: Asked, way: Way) -> Settings:
    """A provider's table, without what may not go where the call goes."""
    settings, route = asked.settings, asked.route
    names = (settings.name, asked.base)
    if way.at(settings.api_url or way.file_url) and (settings.api_url or way.at_home(*names)):
        return settings
    if route and route.api_url:
        return settings._replace(api_key=None, headers=NONE)  # another server than the table speaks of
    routed = route is not None and route.api_key is not None
    wrong = [key for key in ("api_key", "headers") if getattr(settings, key) and not (routed and key == "api_key")]
    if wrong:
        consent = f"{in_table(settings.name)}.api_url = {quoted(way.file_url)}"
        raise _astray(f"{in_table(settings.name)}.{wrong[0]}", way, names, consent)
    return settings


def _of_the_route(asked: Asked, route: Route, way: Way) -> Secret | None:
    names = (asked.name, asked.base)
    if asked.url or way.at_home(*names):
        return route.api_key
    raise _astray(f"{_in_route(route)}: api_key", way, names, f"api_url = {quoted(way.file_url)} in that route")


def _astray(where: str, way: Way, names: Iterable[str], consent: str) -> ConfigError:
    return ConfigError(
        f"{where} is for {way.home(*names)}, and {way.definition.entry.path} would have it sent to {way.file_url}",
        provider=way.definition.id,
        hint=f"If you want that, say so: {consent}.",
    )


def _headers(table: Settings, env: Env) -> dict[str, Secret]:
    """The configured headers. Each may be a key, so each is kept as one."""
    where = f"{in_table(table.name)}.headers"
    return {name.lower(): Secret(expand(text.reveal(), env, f"{where}.{name}")) for name, text in table.headers.items()}


def usable(asked: Asked, way: Way, given: Said, *, trusted: bool) -> dict[str, str]:
    """The variables that the file may have. Raises ConfigError for one that is a packaged provider's at another origin.

    Those are what the configuration sends there by name and, at the file's own origin, all that it asks for.
    """
    found = {name: way.env[name] for name in _wanted(way, given, trusted=trusted) if way.env.get(name, "").strip()}
    for name in found:
        if name.upper() not in given.names and not may_have(way, name):
            home = claimed(way.catalog, name)[0] or "another provider"
            raise ConfigError(
                f"{way.definition.entry.path} asks for {name}, which belongs to {home}",
                provider=way.definition.id,
                hint=f"If you want that key to go to {way.base_url}, say so: {_consent(asked, way, given, name)}.",
            )
    return found


def _wanted(way: Way, given: Said, *, trusted: bool) -> set[str]:
    texts = named(way.definition.raw)
    if not trusted:
        return {name for name in texts if name.upper() in given.names}
    names = () if given.key else way.definition.spec().auth.env
    key = next((name for name in names if way.env.get(name, "").strip()), None)
    return texts | {key} if key else texts


def _consent(asked: Asked, way: Way, given: Said, name: str) -> str:
    """What to write into config.toml so that a variable goes there: as the key, or beside the key as a header."""
    if not given.key:
        return in_config(asked, way, "api_key", f'"${{{name}}}"')
    headers = ((way.definition.raw.get("request") or {}).get("headers") or {}).items()
    header = next((key for key, text in headers if isinstance(text, str) and name in variable_names(text)), "x-key")
    return in_config(asked, way, f"headers.{quoted(header)}", f'"${{{name}}}"')


def in_config(asked: Asked, way: Way, key: str, value: str) -> str:
    """A line for a provider's table, with the api_url that it needs beside it."""
    settings = asked.settings
    line = f"{in_table(settings.name)}.{key} = {value}"
    if asked.url or way.at_home(settings.name, asked.base):
        return line
    return f"{in_table(settings.name)}.api_url = {quoted(way.file_url)} and {line}"


def to_set(asked: Asked, way: Way) -> str:
    """What to set so that a key goes there."""
    names = way.definition.spec().auth.env
    value = f'"${{{names[0]}}}"' if names else '"…"'
    route = asked.route
    if route and route.api_url and not way.at(asked.settings.api_url or way.file_url):
        return f"Set api_key = {value} in {_in_route(route)}."
    free = [name for name in names if way.at(way.file_url) and may_have(way, name)]
    also = f"{' or '.join(free)} in the environment, or " if free else ""
    return f"Set {also}{in_config(asked, way, 'api_key', value)} in config.toml."


def may_have(way: Way, name: str) -> bool:
    """Whether a file may have a variable of the environment unasked, at its own origin."""
    homes = () if way.definition.packaged else claimed(way.catalog, name)
    return not homes or any(map(way.at, homes))


def claimed(catalog: Catalog, name: str) -> tuple[str, ...]:
    """The base URLs of the packaged providers whose key a variable is. Some systems know names in capitals alone."""
    return tuple(catalog.claims.get(name.upper(), ()))


def named(raw: Mapping[str, Any]) -> set[str]:
    """Variables in the headers and query of a file, its variants included."""
    return {name for text in _texts(raw) if isinstance(text, str) for name in variable_names(text)}


def _texts(raw: Mapping[str, Any]) -> Iterator[Any]:
    for block in (raw, *(overlay for _, overlay in overlays(raw))):
        for part in ("headers", "query"):
            yield from ((block.get("request") or {}).get(part) or {}).values()


def in_table(name: str) -> str:
    """The table of a provider as config.toml writes it."""
    return f"providers.{name}" if re.fullmatch(r"[A-Za-z0-9_-]+", name) else f"providers.{quoted(name)}"


def _in_route(route: Route) -> str:
    return f"model_routes with the pattern {quoted(route.pattern)}"


def quoted(text: str) -> str:
    """A text as TOML has it."""
    return json.dumps(text, ensure_ascii=False)
