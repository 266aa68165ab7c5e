"""Finds the account for the name of a model.

1. The first route whose pattern fits. 2. The provider before the first slash, if the text there names one; the rest is
the model. 3. The default provider, with the whole name as the model. Model names in the configuration itself are neither
split nor routed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping

from prx import forks
from prx.accounts.account import Account, open_account
from prx.accounts.config import Config, Route, Settings
from prx.accounts.keys import Asked
from prx.errors import ConfigError, sealed
from prx.record import Record
from prx.spec.definition import Definition
from prx.spec.document import Keys
from prx.spec.loader import Loader
from prx.text import nearest

_GENERIC = "compatible"  # the packaged provider that a provider without a file extends


class ModelRef(Record):
    """A provider and one of its models, given separately by the caller: not split at a slash, and not routed."""

    provider: str
    model: str


class Accounts:
    """Opens each account once. Safe to share between threads.

    before: accounts of an earlier configuration; one that would be the same is taken over, with its memory of fallbacks.
    """

    def __init__(self, config: Config, catalog: Loader, env: Mapping[str, str], before: Accounts | None = None) -> None:
        self.config, self.catalog, self._env = config, catalog, env
        self.opened: dict[tuple[str, Route | None], Account] = {}
        self._lock = threading.Lock()
        self._before = before.kept(self) if before else {}
        forks.register(self)

    def kept(self, later: Accounts) -> dict[tuple[str, Route | None], Account]:
        """The accounts opened here, as far as `later` knows their providers and routes, too."""
        with self._lock:
            return {
                (name, route): account
                for (name, route), account in (self._before | self.opened).items()
                if (route is None or route in later.config.routes) and later.knows(name)
            }

    def unlock(self) -> None:
        """In the child of a fork: the thread that may hold the lock does not exist here, so there has to be a new one."""
        self._lock = threading.Lock()

    @sealed
    def choose(self, model: str | ModelRef | None) -> tuple[Account, str]:
        """(account, the model's name as its provider knows it). Raises ConfigError or SpecError."""
        config = self.config
        if model is None:
            return self._default()
        if isinstance(model, ModelRef):
            return self.get(model.provider), model.model
        for route in config.routes:
            if route.fits(model):
                return self.get(route.provider or self._provider_of(route), route), route.wire_name(model)
        first, slash, rest = model.partition("/")
        if slash and rest and self.knows(first):
            return self.get(first), rest
        if config.provider:
            return self.get(config.provider), model
        raise ConfigError(
            f"unknown provider {first!r}{nearest(first, self.names)}"
            if slash
            else f"no provider is named for the model {model!r}",
            hint="Write provider/model, or set [default] provider in config.toml; `prx providers` lists the providers.",
        )

    def route_with_targets(self, model: object) -> Route | None:
        """The route that a model's name takes, if it has several targets."""
        route = next((row for row in self.config.routes if isinstance(model, str) and row.fits(model)), None)
        return route if route is not None and route.targets else None

    @sealed
    def get(self, name: str, route: Route | None = None) -> Account:
        """The account of a provider, by id, alias or name in the configuration. Raises ConfigError or SpecError."""
        if not name:
            raise ConfigError(
                "no provider is named", hint='Write provider/model, or set [default] provider = "…" in config.toml.'
            )
        with self._lock:
            if (name, route) not in self.opened:
                definition, settings, base = self._definition(name)
                if route and route.api_url and not route.provider:
                    settings = Settings(settings.name)  # another host: the provider's key and headers must not go there
                account = open_account(definition, Asked(name, settings, route, base), self._env, self.catalog)
                earlier = self._before.get((name, route))
                self.opened[name, route] = earlier if earlier and earlier.same(account) else account
            return self.opened[name, route]

    def _provider_of(self, route: Route) -> str:
        """The provider of a route that names none: with an api_url the generic one, else the default provider."""
        return _GENERIC if route.api_url else self.config.provider or ""

    @property
    def names(self) -> list[str]:
        return [*self.catalog.names, *self.config.providers]

    def knows(self, name: str) -> bool:
        return name in self.config.providers or self.catalog.entry(name) is not None

    def _default(self) -> tuple[Account, str]:
        account = self.get(self.config.provider or "")
        model = self.config.model or account.settings.model or account.definition.spec().models.default
        if not model:
            where = f"[default] model, or providers.{account.settings.name or account.id}.model"
            raise ConfigError(
                "no model is named",
                provider=account.id,
                hint=f"Set {where}; `prx models {account.id}` lists the models.",
            )
        return account, model

    def definition(self, name: str) -> Definition:
        """The definition of a provider's name; no key is needed for it. Raises ConfigError or SpecError."""
        definition, *_ = self._definition(name)
        return definition

    def unknown_names(self) -> Iterator[tuple[Keys, str]]:
        """(path, sentence) of each unknown provider that the configuration names: as default, in a route or one of its targets,
        in `extends`, or as a provider of its own that has no address.
        """
        routes: list[tuple[Keys, str | None]] = [
            (("model_routes", place, "provider"), row.provider) for place, row in enumerate(self.config.routes)
        ]
        routes += [
            (("model_routes", place, "targets", number), target.model.partition("/")[0])
            for place, row in enumerate(self.config.routes)
            for number, target in enumerate(row.targets)
        ]
        tables: list[tuple[Keys, str | None]] = [
            (("providers", name, "extends"), row.extends) for name, row in self.config.providers.items()
        ]
        for where, name in ((("default", "provider"), self.config.provider), *routes, *tables):
            dialect = where[-1] == "extends" and name in self.catalog.dialects()
            if name and not dialect and not self.knows(name):
                yield where, f"no provider is called {name!r}{nearest(name, self.names)}"
        for name, own in self.config.providers.items():
            if not (own.extends or own.api_url or self.catalog.entry(name)):
                near = nearest(name, self.catalog.names) or "; a provider of your own needs api_url"
                yield ("providers", name), f"no provider is called {name!r}{near}"

    def _definition(self, name: str) -> tuple[Definition, Settings, str]:
        """(definition, settings, base) for a provider's name. base: what the settings extend, "" where the name itself has
        a file.
        """
        settings = self.config.providers.get(name)
        if settings is None:
            definition = self.catalog.get(name)
            # The table may be written under an alias, and the call may use the id, or the other way round.
            of_alias = (
                row for other, row in self.config.providers.items() if not row.extends and self._is(other, definition)
            )
            return definition, next(of_alias, Settings(definition.id)), ""
        if settings.extends or self.catalog.entry(name) is None:
            base = settings.extends or _GENERIC
            return self.catalog.derived(name, base), settings, base
        return self.catalog.get(name), settings, ""

    def _is(self, name: str, definition: Definition) -> bool:
        entry = self.catalog.entry(name)
        return entry is not None and entry.path == definition.entry.path
