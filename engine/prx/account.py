"""A provider made ready: its file, what the configuration says of it, and a key that goes to it alone.

Law: a key of the environment goes to the origin of the file that names it and nowhere else. With another
URL, the configuration must give the key; "${NAME}" there is the consent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prx import variables
from prx.config import Route, Settings, expand
from prx.errors import ConfigError
from prx.spec.catalog import Definition
from prx.urls import check_url, origin
from prx.wire import Secret, Target

Env = Mapping[str, str]
Claims = Callable[[], Mapping[str, Sequence[str]]]  # asked only for files from outside the package: it reads them all


@dataclass(frozen=True)
class Account:
    """A provider that can be called. `memory`: fallbacks that worked, by model."""

    definition: Definition
    settings: Settings
    target: Target
    memory: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return self.definition.id

    def remember(self, model: str, fallbacks: tuple[str, ...]) -> None:
        """Fallbacks that a call of this model needed; () forgets them."""
        if fallbacks:
            self.memory[model] = fallbacks
        else:
            self.memory.pop(model, None)

    def network(self, env: Env) -> tuple[str, str]:
        """The proxy and the file of certificate authorities, "" for none. Raises ConfigError."""
        name = f"providers.{self.settings.name}"
        ca_file = expand(self.settings.ca_file or "", env, f"{name}.ca_file")
        return expand(self.settings.proxy or "", env, f"{name}.proxy"), _readable(ca_file, f"{name}.ca_file")


def open_account(definition: Definition, settings: Settings, route: Route | None, env: Env, claims: Claims) -> Account:
    """Put file, settings, route and environment together. Raises ConfigError."""
    definition = definition.with_overlay(_overlay(settings))
    spec = definition.spec()
    own_url = _own_url(spec.base_url, env, definition) if not _configured_url(settings, route) else ""
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
    )


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


def _own_url(base_url: str, env: Env, definition: Definition) -> str:
    try:
        return variables.fill(base_url, env)
    except variables.MissingError as missing:
        raise ConfigError(
            f"the base URL needs {missing.name}, which the environment does not have",
            provider=definition.id,
            hint=f"Set it: export {missing.name}=…, or give providers.{definition.id}.api_url.",
        ) from None


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
    if definition.entry.packaged:
        return found
    for name in found:
        homes = claims().get(name, ())
        if homes and not any(_same_origin(base_url, home, env) for home in homes):
            raise ConfigError(
                f"{definition.entry.path} asks for {name}, which belongs to {homes[0] or 'another provider'}",
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
            Path(path).open("rb").close()
    except OSError as error:
        raise ConfigError(f"{where}: {path}: {error.strerror}") from None
    return path
