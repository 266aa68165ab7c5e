"""A provider made ready: its file, what the configuration says of it, and a key that goes to it alone.

Law: a key of the environment goes to the origin of the file that names it and nowhere else. With another
URL, the configuration must give the key; "${NAME}" there is the consent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from prx import resources, variables
from prx.config import Route, Settings, expand
from prx.errors import ConfigError
from prx.record import Record
from prx.spec.definition import Definition
from prx.spec.files import data_of
from prx.urls import check_url, origin
from prx.wire import Secret, Target

Env = Mapping[str, str]
Claims = Callable[[], Mapping[str, Sequence[str]]]  # asked only for files from outside the package: it reads them all


class Account(Record):
    """A provider that can be called.

    network   its proxy and its file of certificate authorities, "" for none
    memory    fallbacks that worked, by model
    """

    definition: Definition
    settings: Settings
    target: Target
    network: tuple[str, str]
    memory: dict[str, tuple[str, ...]]

    @property
    def id(self) -> str:
        return self.definition.id

    def remember(self, model: str, fallbacks: tuple[str, ...]) -> None:
        """Fallbacks that a call of this model needed; () forgets them."""
        if fallbacks:
            self.memory[model] = fallbacks
        else:
            self.memory.pop(model, None)

    def same(self, other: Account) -> bool:
        """Whether both are made of the same files, settings and keys."""
        mine, theirs = self.definition, other.definition
        return (mine.uses, mine.raw, self.settings, self.target, self.network) == (
            theirs.uses,
            theirs.raw,
            other.settings,
            other.target,
            other.network,
        )


def open_account(definition: Definition, settings: Settings, route: Route | None, env: Env, claims: Claims) -> Account:
    """Put file, settings, route and environment together. Raises ConfigError."""
    definition = definition.with_overlay(_overlay(settings))
    spec = definition.spec()
    own_url = _own_url(spec.base_url, env, definition, claims) if not _configured_url(settings, route) else ""
    base_url = own_url or _configured(settings, route, "api_url", env)
    if not base_url:
        raise ConfigError(
            f"providers.{settings.name or definition.id}.api_url is missing",
            provider=definition.id,
            hint='For example api_url = "http://localhost:8000/v1"',
        )
    check_url(base_url, definition.id)
    trusted = bool(own_url) or _same_origin(base_url, spec.base_url, env)
    usable = _usable(definition, trusted, env, claims, base_url)
    key = _key(definition, settings, route, env, usable)
    in_query = spec.auth.style == "query"
    auth = {spec.auth.name: Secret(key, spec.auth.template)} if key and spec.auth.style != "none" else {}
    return Account(
        definition,
        settings,
        Target(
            provider=definition.id,
            base_url=base_url,
            endpoints=tuple(
                path.partition("?")[0] for name, path in spec.endpoints.items() if name in ("chat", "stream")
            ),
            auth=auth,
            in_query=in_query,
            headers=_headers(settings, env),
            values={name: Secret(usable[name]) for name in _named(definition.raw) if name in usable},
        ),
        _network(settings, env),
        {},
    )


def _network(settings: Settings, env: Env) -> tuple[str, str]:
    name = f"providers.{settings.name}"
    ca_file = expand(settings.ca_file or "", env, f"{name}.ca_file")
    return expand(settings.proxy or "", env, f"{name}.proxy"), _readable(ca_file, f"{name}.ca_file")


def _overlay(settings: Settings) -> dict[str, Any]:
    """What the settings change in the file."""
    auth: dict[str, Any] = {}
    if settings.auth_style:
        auth = {"style": settings.auth_style, "name": settings.auth_name, "template": settings.auth_template}
    elif settings.auth_template:
        auth = {"template": settings.auth_template}
    return {"auth": auth} if auth else {}


def _configured_url(settings: Settings, route: Route | None) -> str | None:
    return (route.api_url if route else None) or settings.api_url


def _configured(settings: Settings, route: Route | None, key: str, env: Env) -> str:
    """A text of the route, else of the provider's settings, with its variables; "" where there is none."""
    for place, value in (
        ("model_routes", getattr(route, key, None)),
        (f"providers.{settings.name}", getattr(settings, key)),
    ):
        if value is not None:
            return expand(value.reveal() if isinstance(value, Secret) else value, env, f"{place}.{key}").strip()
    return ""


def _own_url(base_url: str, env: Env, definition: Definition, claims: Claims) -> str:
    _refuse_key_in_url(base_url, definition, claims)
    try:
        return variables.fill(base_url, env)
    except variables.MissingError as missing:
        raise ConfigError(
            f"the base URL needs {missing.name}, which the environment does not have",
            provider=definition.id,
            hint=f"Set it: export {missing.name}=…, or give providers.{definition.id}.api_url.",
        ) from None


def _refuse_key_in_url(base_url: str, definition: Definition, claims: Claims) -> None:
    """A URL is logged, and its host is looked up: no place for what a packaged file knows as a key."""
    for name in () if _packaged(definition) else variables.names(base_url):
        if name in claims():
            raise ConfigError(
                f"{definition.entry.path} puts {name} into its URL, and that is the key of {_home(claims()[name])}",
                provider=definition.id,
                hint="A key belongs into auth.",
            )


def _packaged(definition: Definition) -> bool:
    """Whether nothing of it comes from outside the package: a dialect of one's own could name any variable."""
    folder = resources.folder("providers.d")
    return definition.entry.packaged and all(use.path.is_relative_to(folder) for use in definition.uses)


def _home(homes: Sequence[str]) -> str:
    return homes[0] or "another provider"


def _same_origin(url: str, base_url: str, env: Env) -> bool:
    try:
        return bool(base_url) and origin(url) == origin(variables.fill(base_url, env))
    except (variables.MissingError, ValueError):
        return False


def _usable(definition: Definition, trusted: bool, env: Env, claims: Claims, base_url: str) -> dict[str, str]:
    """The variables that this provider may have: those it names, at its own origin, claimed by no packaged one elsewhere."""
    if not trusted:
        return {}
    key = next((name for name in definition.spec().auth.env if env.get(name, "").strip()), None)
    wanted = {*([key] if key else ()), *_named(definition.raw)}
    found = {name: env[name] for name in wanted if env.get(name, "").strip()}
    for name in () if _packaged(definition) else found:
        homes = claims().get(name, ())
        if homes and not any(_same_origin(base_url, home, env) for home in homes):
            raise ConfigError(
                f"{definition.entry.path} asks for {name}, which belongs to {_home(homes)}",
                provider=definition.id,
                hint=f'If you want that key to go to {base_url}, say so: providers.{definition.id}.api_key = "${{{name}}}".',
            )
    return found


def _named(raw: Mapping[str, Any]) -> set[str]:
    """Variables in the headers and query of a file, its variants included."""
    fallbacks = (row.get("then") or {} for row in (raw.get("fallbacks") or {}).values() if row)
    blocks = [raw, *(raw.get("overrides") or ()), *fallbacks]
    texts = [
        text
        for block in blocks
        for part in ("headers", "query")
        for text in ((block.get("request") or {}).get(part) or {}).values()
    ]
    return {name for text in texts if isinstance(text, str) for name in variables.names(text)}


def _key(definition: Definition, settings: Settings, route: Route | None, env: Env, usable: Mapping[str, str]) -> str:
    auth = definition.spec().auth
    key = _configured(settings, route, "api_key", env) or next(
        (usable[name].strip() for name in auth.env if name in usable), ""
    )
    if not key and auth.required and auth.style != "none":
        name = auth.env[0] if auth.env else "NAME"
        raise ConfigError(
            "no API key",
            provider=definition.id,
            hint=f'Set {" or ".join(auth.env) or "it"} in the environment, or providers.{definition.id}.api_key = "${{{name}}}" in config.toml'
            + (" (with an api_url of your own, the second)." if _configured_url(settings, route) else "."),
        )
    return key


def _headers(settings: Settings, env: Env) -> dict[str, str | Secret]:
    """The configured headers. Each may be a key, so each is kept as one."""
    where = f"providers.{settings.name}.headers"
    return {
        name.lower(): Secret(expand(text.reveal(), env, f"{where}.{name}")) for name, text in settings.headers.items()
    }


def _readable(path: str, where: str) -> str:
    """A file that can be read, or none at all. Raises ConfigError."""
    try:
        if path:
            data_of(Path(path))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{where}: {path}: {getattr(error, 'strerror', None) or error}") from None
    return path
