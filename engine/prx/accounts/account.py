"""An account: a provider's file, combined with its settings in the configuration and the keys that may be sent to it."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from prx.accounts import keys
from prx.accounts.config import Route, Settings, expand
from prx.accounts.key_entries import KeySources
from prx.accounts.keys import Asked, Way
from prx.errors import OPENING, ConfigError, sealed
from prx.record import Record
from prx.secret import AwaitedSecret, Secret
from prx.spec.catalog import Catalog
from prx.spec.definition import Definition
from prx.spec.files import data_of
from prx.text import variable_names
from prx.urls import check_url
from prx.wire import SIGNATURE, Signer, Target

if TYPE_CHECKING:
    from prx.accounts.key_sources import KeySource
    from prx.accounts.tokens import TokenSource
    from prx.core.token import Credential

Env = Mapping[str, str]
_STANDS_IN = "key"  # for a key that is not known yet: too short to be masked, and never sent


class Account(Record):
    """A provider that can be called.

    network   as in session.Network
    memory    fallbacks that worked, by model
    route     the route of the configuration that chose it, or None
    source    gives the target of a call, where its key has to be got; `target` only shows it then
    """

    definition: Definition
    settings: Settings
    target: Target
    network: tuple[Secret, str, tuple[str, ...]]
    memory: dict[str, tuple[str, ...]]
    route: Route | None = None
    source: TokenSource | KeySource | None = None

    @property
    def secrets(self) -> list[Secret]:
        """All that must not be shown of its calls."""
        return [*self.target.secrets, *(self.source.secrets if self.source else [])]

    @property
    def keys(self) -> list[Secret]:
        """Its keys alone, as far as they are known: configured headers and variables may be ordinary words."""
        signer = self.target.signer
        return [
            *self.target.auth.values(),
            *(signer.secrets if signer else ()),
            *(self.source.keys if self.source else []),
        ]

    @property
    def token_url(self) -> str:
        """Where its tokens are got, "" where it needs none."""
        return self.source.token_url if self.source else ""

    @property
    def id(self) -> str:
        return self.definition.id

    def remember(self, model: str, fallbacks: tuple[str, ...]) -> None:
        """Keep the fallbacks that an answer of this model needed, for its next call, and forget those that it did not need.

        Those that leave out a parameter or a key are not forgotten: this call may not have had it.
        """
        if not fallbacks and model not in self.memory:
            return
        rows = self.definition.spec(model).fallback_rows
        kept = [name for name in self.memory.get(model, ()) if name in fallbacks or (name in rows and rows[name].words)]
        self._remember(model, (*kept, *(name for name in fallbacks if name not in kept)))

    def forget(self, model: str, fallbacks: tuple[str, ...]) -> None:
        """Forget the fallbacks that were applied in a call of this model that failed."""
        self._remember(model, tuple(name for name in self.memory.get(model, ()) if name not in fallbacks))

    def _remember(self, model: str, fallbacks: tuple[str, ...]) -> None:
        if fallbacks:
            self.memory[model] = fallbacks
        else:
            self.memory.pop(model, None)

    def same(self, other: Account) -> bool:
        """Whether both are made of the same files, settings and keys."""
        return self._made_of() == other._made_of()

    def _made_of(self) -> tuple[Any, ...]:
        source = self.source and self.source.made_of
        return self.definition.source_files, self.definition.raw, self.settings, self.target, self.network, source


@sealed
def open_account(definition: Definition, asked: Asked, env: Env, catalog: Catalog) -> Account:
    """The account of a provider, from its file, settings, route and environment. Raises ConfigError."""
    found = _key_sources(asked)
    if found is None:
        return _opened(definition, asked, env, catalog)
    sources, where = found
    with OPENING:
        from prx.accounts.key_sources import KeySource  # imported here: few have such a key

    def open_with(key: Secret, literal: bool) -> Account:
        text = key.reveal()
        return _opened(definition, _with_text(asked, text.replace("${", "$${") if literal else text), env, catalog)

    shown = _opened(definition, _with_text(asked, _STANDS_IN), env, catalog)
    auth = {name: AwaitedSecret(value.template) for name, value in shown.target.auth.items()}
    source = KeySource(sources, where, env, open_with)
    return shown._replace(
        target=shown.target._replace(auth=auth), settings=asked.settings, source=source, route=asked.route
    )


def _key_sources(asked: Asked) -> tuple[KeySources, str] | None:
    """Where the key of a call is got, and the place in the configuration that says so; None where it is a text."""
    route, table = asked.route, asked.settings
    if route is not None and route.api_key is not None:
        return (route.api_key, f"{keys.in_route(route)}: api_key") if isinstance(route.api_key, KeySources) else None
    return (table.api_key, f"{keys.in_table(table.name)}.api_key") if isinstance(table.api_key, KeySources) else None


def _with_text(asked: Asked, text: str) -> Asked:
    """The same with this text for its key."""
    route, key = asked.route, Secret(text)
    if route is not None and route.api_key is not None:
        return asked._replace(route=route._replace(api_key=key))
    return asked._replace(settings=asked.settings._replace(api_key=key))


def _opened(definition: Definition, asked: Asked, env: Env, catalog: Catalog) -> Account:
    definition = _for_every_model(definition.with_overlay(_overlay(asked.settings)), asked.settings)
    spec, table = definition.spec(), keys.in_table(asked.settings.name)
    base_url = _configured_url(asked, env) if asked.url else _own_url(spec.base_url, env, definition, catalog, table)
    if not base_url:
        raise ConfigError(
            f"{table}.api_url is missing",
            provider=definition.id,
            hint=f'For example {table}.api_url = "http://localhost:8000/v1"',
        )
    check_url(base_url, definition.id)
    way = Way(definition, base_url, env, catalog)
    if spec.retired and (not asked.url or way.at(spec.base_url)):
        raise ConfigError(f"was {spec.retired}", provider=definition.id, hint="Nothing was sent.")
    trusted = not asked.url or way.at(spec.base_url)
    credential = _credential(asked, way, trusted=trusted) if spec.auth.token or spec.auth.jwt else None
    if credential is not None:
        return _with_source(asked, way, credential, trusted=trusted)
    target = _target(asked, way, trusted=trusted)
    return Account(definition, asked.settings, target, _network(asked, way), {}, asked.route)


def _credential(asked: Asked, way: Way, *, trusted: bool) -> Credential | None:
    with OPENING:
        from prx.accounts import credentials  # imported here, as those below: few providers exchange their key

    return credentials.credential(asked, way, keys.configured(asked, way), trusted=trusted)


def _with_source(asked: Asked, way: Way, credential: Credential, *, trusted: bool) -> Account:
    """The account of a provider whose key is a token, which has to be got."""
    with OPENING:
        from prx.accounts.tokens import TokenSource

    token = way.definition.spec().auth.token
    if token is not None and not asked.settings.auth_style:
        way = way._replace(definition=way.definition.with_overlay(_travelling(token.sent)))
    target = _target(asked, way, trusted=trusted, exchanged=True)
    target = target._replace(unsent=(*target.unsent, *credential.secrets))
    network = _network(asked, way)
    source = TokenSource(way.definition.spec(), credential, target, network)
    return Account(way.definition, asked.settings, target, network, {}, asked.route, source)


def _travelling(form: Mapping[str, str]) -> dict[str, Any]:
    """The keys of the provider's file that say how a token travels, where it differs from a key."""
    return {"auth": {key: form.get(key) for key in ("style", "name", "template")}} if form else {}


def _target(asked: Asked, way: Way, *, trusted: bool, exchanged: bool = False) -> Target:
    """The target of an account. exchanged: its key is a token, which has to be got."""
    spec = way.definition.spec()
    configured = keys.configured(asked, way)
    usable = keys.usable(asked, way, configured, trusted=trusted)
    if exchanged:
        return _as_target(asked, way, usable, configured, {spec.auth.name: AwaitedSecret(spec.auth.template)})
    key = configured.key.reveal() or next((usable[name].strip() for name in spec.auth.env if name in usable), "")
    signer = _signer(way, key, usable) if spec.auth.aws4 and not asked.settings.auth_style else None
    if not key and not signer and spec.auth.required and spec.auth.style != "none":
        raise ConfigError("no API key", provider=way.definition.id, hint=keys.to_set(asked, way))
    if signer is not None:
        signed = _as_target(asked, way, usable, configured, {"authorization": AwaitedSecret(SIGNATURE)})
        return signed._replace(signer=signer, in_query=False)
    auth = {spec.auth.name: Secret(key, spec.auth.template)} if key and spec.auth.style != "none" else {}
    return _as_target(asked, way, usable, configured, auth)


def _signer(way: Way, key: str, usable: Mapping[str, str]) -> Signer | None:
    """What requests are signed with; None for a key that is sent."""
    with OPENING:
        from prx.accounts import signing

    for text in signing.scope(way):
        _refuse_key_in_url(text, way.definition, way.catalog)
    return signing.signer(way, key, usable)


def _as_target(
    asked: Asked, way: Way, usable: Mapping[str, str], configured: keys.Configured, auth: Mapping[str, Secret]
) -> Target:
    spec = way.definition.spec()
    return Target(
        provider=way.definition.id,
        base_url=way.base_url,
        endpoints=tuple(path.partition("?")[0] for name, path in spec.endpoints.items() if name in ("chat", "stream")),
        auth=auth,
        in_query=spec.auth.style == "query",
        headers=configured.headers,
        unsent=_passwords(asked.settings, way.env),
        values={name: Secret(usable[name]) for name in keys.named(way.definition.raw) if name in usable},
    )


def _network(asked: Asked, way: Way) -> tuple[Secret, str, tuple[str, ...]]:
    settings = keys.of_the_table(asked, way) if asked.settings.cert_file else asked.settings
    name, env = keys.in_table(settings.name), way.env
    ca_file, cert_file, key_file = (
        expand(getattr(settings, key) or "", env, f"{name}.{key}") for key in ("ca_file", "cert_file", "key_file")
    )
    cert = tuple(filter(None, (cert_file, key_file)))
    if cert:
        from prx.transport import certificates  # imported here: few accounts have one

        certificates.check(cert, name)
    return Secret(_proxy(settings, env)), _readable(ca_file, f"{name}.ca_file"), cert


def _proxy(settings: Settings, env: Env) -> str:
    text = settings.proxy.reveal() if settings.proxy else ""
    return expand(text, env, f"{keys.in_table(settings.name)}.proxy")


def _passwords(settings: Settings, env: Env) -> tuple[Secret, ...]:
    """The passwords of every proxy that a call may go through, to be masked: a proxy may repeat them in an error, and a
    library may repeat the proxy's URL. The longest comes first, so that no part of one is left unmasked.
    """
    proxies = [_proxy(settings, env), *(env[name] for name in env if name.lower().endswith("_proxy"))]
    return tuple(map(Secret, sorted({text for url in proxies for text in _logins(url)}, key=len, reverse=True)))


def _logins(url: str) -> Iterator[str]:
    """User and password of a URL in every form that a message may have: as written, unquoted, as base64 in a header, and
    up to the first or the last @, since parsers of URLs differ.
    """
    rest = url.partition("//")[2] or url
    for login in {rest.partition("@")[0], rest.rpartition("@")[0]} if "@" in rest else ():
        yield base64.b64encode(unquote(login).encode()).decode()
        for text in (login, login.partition(":")[2]):
            yield from (text, unquote(text), text.rstrip("\\"))


def _overlay(settings: Settings) -> dict[str, Any]:
    """The keys of the provider's file that its settings replace."""
    auth: dict[str, Any] = {}
    if settings.auth_style:
        auth = {"style": settings.auth_style, "name": settings.auth_name, "template": settings.auth_template}
    elif settings.auth_template:
        auth = {"template": settings.auth_template}
    return {"auth": auth} if auth else {}


def _for_every_model(definition: Definition, settings: Settings) -> Definition:
    """The definition without `auth` in its overrides, where the configuration sets how the key is sent."""
    rows = definition.raw.get("overrides")
    if not rows or not (settings.auth_style or settings.auth_template):
        return definition
    return definition.with_overlay({"overrides": [{k: v for k, v in row.items() if k != "auth"} for row in rows]})


def _configured_url(asked: Asked, env: Env) -> str:
    """The configuration's api_url with the values of its variables."""
    of_route = asked.route is not None and bool(asked.route.api_url)
    where = "model_routes" if of_route else keys.in_table(asked.settings.name)
    return expand(asked.url or "", env, f"{where}.api_url").strip()


def _own_url(base_url: str, env: Env, definition: Definition, catalog: Catalog, table: str) -> str:
    _refuse_key_in_url(base_url, definition, catalog)
    return keys.filled(base_url, env, definition.id, "the base URL", f", or give {table}.api_url.")


def _refuse_key_in_url(base_url: str, definition: Definition, catalog: Catalog) -> None:
    """Raise ConfigError where a URL has a variable that is a packaged provider's key: URLs are logged, and hosts are sent
    to name servers.
    """
    for name in () if definition.packaged else variable_names(base_url):
        if homes := keys.claimed(catalog, name):
            raise ConfigError(
                f"{definition.entry.path} puts {name} into its URL, but {name} is the key of"
                f" {homes[0] or 'another provider'}",
                provider=definition.id,
                hint="Write keys under auth, not into a URL.",
            )


def _readable(path: str, where: str) -> str:
    """The path, checked. Raises ConfigError for a file that cannot be read; "" is not checked."""
    try:
        if path:
            data_of(Path(path))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{where}: {path}: {getattr(error, 'strerror', None) or error}") from None
    return path
