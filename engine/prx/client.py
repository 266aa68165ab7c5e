"""The client: what a caller says, made into a call; who is asked; and what is remembered of it."""

from __future__ import annotations

import logging
import os
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from prx import arguments, forks
from prx.accounts import config as configuration
from prx.accounts.account import Account
from prx.accounts.choose import Accounts, ModelRef
from prx.accounts.config import folders
from prx.arguments import Messages
from prx.chat import Call, Reply
from prx.core.exchange import Policy, exchange
from prx.core.fault import refused, safely, without_keys
from prx.core.messages import expand_images
from prx.core.request import build_models
from prx.errors import OPENING, ConfigError, Error, ProtocolError, sealed
from prx.json_text import parsed
from prx.running import Stream, limits
from prx.secret import Secret
from prx.spec.cache import cache_folder
from prx.spec.files import Files, Reload
from prx.spec.loader import Loader

if TYPE_CHECKING:
    from prx.reload import Watch
    from prx.transport.http import Http
    from prx.transport.watchdog import Watchdog

_LIST_SECONDS = 60.0  # the longest time for a list of models where nothing else limits it


class Client:
    """Calls any provider of its catalogue. Safe to share between threads.

    config      path of a config.toml, or a mapping of its shape; None = $PRX_CONFIG, ~/.config/prx/config.toml
    providers   further folder(s) of provider files, searched before all others
    env         mapping to use in place of os.environ
    watch       take changed, new and removed files in, from the next call on
    Raises ConfigError for a configuration with faults.
    """

    @sealed
    def __init__(
        self,
        config: str | Path | Mapping[str, Any] | None = None,
        providers: str | Path | Sequence[str | Path] | None = None,
        env: Mapping[str, str] | None = None,
        *,
        watch: bool = False,
    ) -> None:
        self.env: Mapping[str, str] = os.environ if env is None else env
        self._source = config
        found = folders(providers, self.env)
        with OPENING:
            self._watch = _watch([*Loader(found).folders, *configuration.files(config, self.env)]) if watch else None
            catalog = Loader(found, Files().renewed(found) if watch else None, cache=cache_folder(self.env))
            self._accounts = Accounts(configuration.load(config, self.env), catalog, self.env)
        self._https: dict[tuple[Secret, str], Http] = {}
        self._watchdog: Watchdog | None = None
        self._lock = threading.Lock()
        self._reloading = threading.Lock()
        forks.register(self)

    @property
    def accounts(self) -> Accounts:
        """The providers with the configuration, as they are now: both are replaced together by a reload."""
        return self._accounts

    @property
    def config(self) -> configuration.Config:
        return self._accounts.config

    @property
    def catalog(self) -> Loader:
        return self._accounts.catalog

    @sealed
    def chat(
        self,
        messages: Messages,
        model: str | ModelRef | None = None,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: Any = None,
        timeout: float | None = None,
        deadline: float | None = None,
        retries: int | None = None,
        fallbacks: Sequence[str] | None = None,
        **params: Any,
    ) -> Reply:
        """One whole answer.

        messages    a text, or OpenAI-shaped messages
        model       "provider/model", a routed name, or None for the default
        timeout     seconds without a byte, in every phase
        deadline    seconds for the whole call
        retries     attempts beyond the first
        fallbacks   None = the provider's; () = none; names = only those
        params      OpenAI's names: temperature, max_tokens, stop, response_format, reasoning_effort, …
        Raises Error.
        """
        account, call = self.plan(messages, model, tools=tools, tool_choice=tool_choice, params=params)
        running = self._run(account, call, timeout, deadline, retries, fallbacks)
        for _ in running:
            pass
        return running.reply

    @sealed
    def stream(
        self,
        messages: Messages,
        model: str | ModelRef | None = None,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: Any = None,
        timeout: float | None = None,
        deadline: float | None = None,
        retries: int | None = None,
        fallbacks: Sequence[str] | None = None,
        **params: Any,
    ) -> Stream:
        """The same, in pieces as they arrive: an iterator of Delta, with `reply` after its end."""
        account, call = self.plan(messages, model, tools=tools, tool_choice=tool_choice, params=params, stream=True)
        return self._run(account, call, timeout, deadline, retries, fallbacks)

    @sealed
    def plan(
        self,
        messages: Messages,
        model: str | ModelRef | None = None,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: Any = None,
        params: Mapping[str, Any] | None = None,
        stream: bool = False,
    ) -> tuple[Account, Call]:
        """Who would be asked, and for what. Nothing is sent."""
        given_messages = arguments.messages(messages)
        with OPENING:
            accounts = self._current()
            account, name = accounts.choose(arguments.model(model))
            listed = expand_images(given_messages, _locator(accounts.config.images))
        given, offered = arguments.params(params or {}), arguments.tools(tools)
        return account, Call(
            name, tuple(listed), offered, arguments.plain(tool_choice) if tools else None, given, stream
        )

    @sealed
    def models(self, provider: str | None = None, *, timeout: float | None = 20.0) -> list[str]:
        """The provider's own list of its models. Raises Error."""
        with OPENING:
            accounts = self._current()
            account = accounts.get(provider or accounts.config.provider or "")
        spec, http = account.definition.spec(), self._http(account)
        guard = self._dog().guard(account.settings.deadline or spec.transport.total or _LIST_SECONDS)
        try:
            request, limited = build_models(spec, account.target), limits(spec.transport, timeout)
            head, body = http.fetch(request, limited, guard)
            if not 200 <= head.status < 300:
                raise refused(spec, Call("", ()), account.target, head, body, "status")
        except Error as error:
            error.provider = error.provider or spec.id
            raise _advise(without_keys(error, account.target.secrets), account, accounts.catalog) from None
        finally:
            self._dog().cancel(guard)
        (found,) = safely(spec.models.list.run, parsed(body.decode("utf-8", "replace")), spec)
        if not isinstance(found, list):
            raise ProtocolError("the list of models is not where models.list says", provider=spec.id)
        return list(dict.fromkeys(name.strip() for name in found if isinstance(name, str) and name.strip()))

    @sealed
    def reload(self) -> Reload:
        """Take in the configuration and the provider files as they are now; calls that run go on as they began.

        A broken file changes nothing: its last good version stays, and `problems` says why.
        """
        with self._reloading, OPENING:
            from prx.reload import reload

            old = self._accounts
            catalog, found = reload(old.catalog)
            try:
                config = configuration.load(self._source, self.env)
            except ConfigError as error:
                config, found = old.config, found._replace(problems=(*found.problems, str(error)))
            self._accounts = Accounts(config, catalog, self.env, old)
        return found

    def _current(self) -> Accounts:
        """Who can be asked, after a look at the files where that is wanted and due."""
        if self._watch is not None and self._watch.changed():
            for problem in self.reload().problems:
                logging.getLogger("prx").warning("%s; the last good version stays in use", problem)
        return self._accounts

    def close(self) -> None:
        """Close every connection. A call that another thread is in, or a stream that is being read, ends with an Error."""
        if self._watchdog is not None:
            self._watchdog.stop_all()
        https, self._https = self._https, {}  # without the lock: a signal's handler may close what it has interrupted
        for http in list(https.values()):
            http.close()

    def unlock(self) -> None:
        """For the child of a fork: a lock that another thread of the parent had would never be free again."""
        self._lock, self._reloading = threading.Lock(), threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _run(
        self,
        account: Account,
        call: Call,
        timeout: float | None,
        deadline: float | None,
        retries: int | None,
        fallbacks: Sequence[str] | None,
    ) -> Stream:
        settings = account.settings
        policy = Policy(
            retries=settings.retries if retries is None else arguments.retries(retries),
            fallbacks=arguments.fallbacks(fallbacks),
            remembered=account.memory.get(call.model, ()),
            new_id=_new_id,
            chance=random.random,
        )

        def on_end(result: Reply | Error) -> None:
            if isinstance(result, Reply):
                account.remember(call.model, result.fallbacks)
            else:
                account.remember(call.model, ())
                _advise(result, account, self.catalog)

        timeout = arguments.seconds("timeout", settings.timeout if timeout is None else timeout)
        if deadline is None:
            deadline = settings.deadline or account.definition.spec(call.model).transport.total
        deadline = arguments.seconds("deadline", deadline)
        return Stream(
            exchange(account.definition, call, account.target, policy),
            self._http(account),
            self._dog(),
            timeout=timeout,
            deadline=deadline,
            on_end=on_end,
        )

    def _http(self, account: Account) -> Http:
        """The connections of all accounts with the same settings, made at the first call."""
        http = self._https.get(account.network)
        if http is None:
            with OPENING:
                from prx.transport.http import Http
            with self._lock:
                proxy, ca_file = account.network
                http = self._https.setdefault(account.network, Http(proxy.reveal(), ca_file, self.env))
        return http

    def _dog(self) -> Watchdog:
        if self._watchdog is None:
            from prx.transport.watchdog import Watchdog

            with self._lock:
                self._watchdog = self._watchdog or Watchdog()
        return self._watchdog


def _locator(allowed: configuration.Images) -> Callable[[str], str | None]:
    """What finds the pictures of one call; most calls have none to find."""
    locator: Callable[[str], str | None] | None = None

    def locate(reference: str) -> str | None:
        nonlocal locator
        if locator is None:
            from prx.images import Locator

            locator = Locator(allowed)
        return locator(reference)

    return locate


def _watch(places: Sequence[Path]) -> Watch:
    from prx.reload import Watch

    return Watch(places)


def _advise(error: Error, account: Account, catalog: Loader) -> Error:
    try:
        from prx.accounts import hints

        return hints.advise(error, account, catalog)
    except OSError:  # no file can be opened: the error stands without advice
        return error


def _new_id() -> str:
    return f"call_{os.urandom(12).hex()}"
