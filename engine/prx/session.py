"""The state and the decisions of a client: account, call and limits of each call, and the memory of fallbacks.

It does no I/O on the network. `begin_chat` and `begin_models` give a Run; a driver (client.py, aclient.py) does its I/O.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

from prx import arguments, forks
from prx.accounts import config as configuration
from prx.accounts.account import Account
from prx.accounts.choose import Accounts, ModelRef
from prx.accounts.config import Route
from prx.accounts.hints import advise
from prx.chat import NONE, Call, Reply
from prx.core import kinds
from prx.core.exchange import Flow, Policy, Send, exchange
from prx.core.messages import expand_images
from prx.errors import OPENING, ConfigError, Error
from prx.images import Locator
from prx.record import Record
from prx.secret import Secret
from prx.spec.cache import cache_folder
from prx.spec.files import Files, Reload
from prx.spec.loader import Loader
from prx.spec.model import Limits
from prx.wire import Target

if TYPE_CHECKING:
    from prx.events import Hook
    from prx.hooks import Hooks
    from prx.reload import Watch

# (URL of a proxy, which may have a password, "" for none; path of a PEM file of authorities, "" for the usual ones; paths of
# the client certificate and of its key, () for none)
Network = tuple[Secret, str, tuple[str, ...]]
# Modules that only some calls need, imported when a client is made, so that `import prx` stays cheap and no call imports:
# in a call too many files may be open, and an interrupt in an import leaves half a module or a held lock.
_LATE = ("email.utils", "sseclient", "prx.core.framing", "prx.core.repeats", "prx.accounts.targets", "prx.core.targets")
# Hooks of every client that is made from now on. A command fills it for -v: some make their clients deep within.
EVERYWHERE: list[Hook] = []
_LIST_SECONDS = 60.0  # the longest time for a list of models where nothing else limits it


class Options(Record, often=True):
    """The arguments of a call, unchecked; see Calls.chat."""

    messages: Any = None
    model: str | ModelRef | None = None
    tools: Sequence[Mapping[str, Any]] | None = None
    tool_choice: Any = None
    timeout: float | None = None
    deadline: float | None = None
    retries: int | None = None
    fallbacks: Sequence[str] | None = None
    params: Mapping[str, Any] = NONE
    # Of a service, which checks all that its callers send: changes the call for the account that it goes to.
    fit: Callable[[Account, Call], Call] | None = None
    # Of a service, where the first request has gone already: its account, the model's name, and its route if that has a target. What
    # was changed or learned since then is of no account for this call.
    gone: tuple[Account, str, Route | None] | None = None
    inputs: Mapping[str, Any] = NONE  # arguments of a call that is no chat
    repair: bool | int = False


class Run(Record, often=True):
    """A call that is ready to be made.

    flow       the generator that yields what a driver has to do; see core.exchange
    network    proxy and certificate authorities of its connections
    timeout    seconds without a byte, in every phase; None = the spec's limits
    deadline   seconds for the whole call, or None
    on_end     to be called once, with the result or the Error
    """

    flow: Flow
    network: Network
    timeout: float | None
    deadline: float | None
    on_end: Callable[[Any], None]

    def limits(self, limits: Limits) -> Limits:
        """The spec's limits, or one timeout for every phase."""
        timeout = self.timeout
        return limits if timeout is None else limits._replace(connect=timeout, first_byte=timeout, idle=timeout)


class Session:
    """Configuration, catalogue and accounts. Safe to share between threads. See Calls for the arguments."""

    def __init__(
        self,
        config: str | Path | Mapping[str, Any] | None,
        providers: str | Path | Sequence[str | Path] | None,
        env: Mapping[str, str] | None,
        *,
        watch: bool = False,
        on_event: Hook | Sequence[Hook] | None = None,
    ) -> None:
        self.hooks = _hooks(on_event) if on_event is not None or EVERYWHERE else None
        self.env: Mapping[str, str] = os.environ if env is None else env
        self._source = config
        folders = configuration.folders(providers, self.env)
        with OPENING:
            for name in _LATE:
                import_module(name)
            self._watch = _watch([*Loader(folders).folders, *configuration.files(config, self.env)]) if watch else None
            catalog = Loader(folders, Files().renewed(folders) if watch else None, cache=cache_folder(self.env))
            self.accounts = Accounts(configuration.load(config, self.env), catalog, self.env)
        self._reloading = threading.Lock()
        self.balance = import_module("prx.accounts.targets").Balance()
        self.problems: tuple[str, ...] = ()  # of the last reload
        forks.register(self)

    def unlock(self) -> None:
        """In the child of a fork: a lock that another thread of the parent holds would never be released."""
        self._reloading = threading.Lock()

    @property
    def config(self) -> configuration.Config:
        """The configuration, as it is now."""
        return self.accounts.config

    @property
    def catalog(self) -> Loader:
        """The provider files, as they are now."""
        return self.accounts.catalog

    # -------------------------------------------------------------- a call

    def plan(self, options: Options, *, stream: bool) -> tuple[Account, Call]:
        """(account, call) of these options. Raises ConfigError or SpecError."""
        if options.fit is not None:
            return self._fitted(options, stream=stream)
        messages = arguments.messages(options.messages)
        with OPENING:
            accounts = self.current()
            account, name = accounts.choose(arguments.model(options.model))
            listed = expand_images(messages, Locator(accounts.config.images))
        params, tools = arguments.params(options.params), arguments.tools(options.tools)
        choice = arguments.plain(options.tool_choice) if options.tools else None
        return account, Call(name, tuple(listed), tools, choice, params, stream, arguments.extras(options.params))

    def _fitted(self, options: Options, *, stream: bool) -> tuple[Account, Call]:
        """The same for a service, whose options are JSON's values and checked. A path of a picture stays: who calls a service has no say
        in which files of its machine are read.
        """
        assert options.fit is not None
        with OPENING:
            account, name = options.gone[:2] if options.gone else self.current().choose(arguments.model(options.model))
        tools: tuple[Any, ...] = tuple(options.tools or ())
        call = Call(
            name, tuple(options.messages or ()), tools, options.tool_choice if tools else None, options.params, stream
        )
        return account, options.fit(account, call)

    def begin_chat(self, options: Options, *, stream: bool) -> Run:
        """The Run of a chat, whole or streamed. Raises ConfigError, or SpecError for a provider's file with faults."""
        form = options.params.get("response_format")
        kind = kinds.CHAT
        if options.repair or type(form) not in AS_SENT:
            kind, options = _typed(form, options)
        return self._planned(kind, partial(self.plan, stream=stream), options)

    def _planned(self, kind: kinds.CallKind, plan: Callable[[Options], tuple[Account, Call]], options: Options) -> Run:
        """The Run of what is planned; where a route has several targets, of one after the other."""
        if options.gone is not None:
            route = options.gone[2]
        else:
            route = self.current().route_with_targets(options.model) if self.accounts.config.balanced else None
        if route is not None:
            run = self._in_turn(route, options, lambda to_ref: self._run(kind, *plan(to_ref), to_ref))
        else:
            run = self._run(kind, *plan(options), options)
        return run if self.hooks is None else self._told(run, kind, options)

    def _told(self, run: Run, kind: kinds.CallKind, options: Options) -> Run:
        """The Run, of which the hooks are told what happens in it."""
        assert self.hooks is not None
        asked = options.model
        model = f"{asked.provider}/{asked.model}" if isinstance(asked, ModelRef) else asked or ""
        stated = {"messages": options.messages, "tools": options.tools, "inputs": options.inputs}
        return run._replace(flow=self.hooks.told(run.flow, kind.name, model, options.params, stated))

    def _in_turn(self, route: Route, options: Options, begin: Callable[[Options], Run]) -> Run:
        """The Run for a route with several targets. begin: makes that of one target, whose limits are its own."""
        from prx.accounts.targets import FALLS  # both were imported when the client was made, see _LATE
        from prx.core.targets import Attempt, first_answer

        def attempt(ref: ModelRef) -> Attempt:
            run = begin(options._replace(model=ref))
            self.balance.began(ref)

            def ended(result: Any) -> None:
                run.on_end(result)
                self.balance.ended(ref, result.kind if isinstance(result, Error) else None, route.cooldown)

            def adapt(send: Send) -> Send:
                return send._replace(
                    limits=run.limits(send.limits), network=run.network, target=f"{ref.provider}/{ref.model}"
                )

            return Attempt(run.flow, adapt, ended, run.deadline)

        flow = first_answer(map(attempt, self.balance.order(route)), lambda error: error.kind in FALLS)
        return Run(flow, (Secret(""), "", ()), None, arguments.seconds("deadline", options.deadline), lambda _: None)

    def begin_passed(self, options: Options) -> Run:
        """The Run for a body that is passed on as it is: `options.fit` gives it. Raises ConfigError or SpecError."""
        return self._planned(kinds.PASSED, partial(self.plan, stream=False), options)

    def plan_kind(self, kind: str, options: Options) -> tuple[Account, Call]:
        """(account, call) of a call that is no chat. Raises ConfigError or SpecError."""
        with OPENING:
            from prx.core.kind_inputs import checked

            accounts = self.current()
            account, name = accounts.choose(arguments.model(options.model))
        messages = arguments.messages(options.messages) if options.messages is not None else ()
        if messages and not options.fit:  # who calls a service has no say in which files of its machine are read
            messages = expand_images(messages, Locator(accounts.config.images))
        tools, params = arguments.tools(options.tools), arguments.params(options.params)
        inputs = options.inputs if options.fit else checked(kind, options.inputs)
        extra = arguments.extras(options.params)
        call = Call(name, tuple(messages), tools, None, params, False, extra, None, inputs)
        return account, options.fit(account, call) if options.fit else call

    def begin_kind(self, kind: str, options: Options) -> Run:
        """The Run of a call that is no chat; where `options.fit` gives the body as it came, it and its answer are passed on. Raises
        ConfigError or SpecError.
        """
        with OPENING:
            from prx.core import kind_answers  # imported by the first call of this kind: most programs only chat
        return self._planned(kind_answers.KINDS[kind], partial(self.plan_kind, kind), options)

    def begin_models(self, options: Options) -> Run:
        """The Run for a provider's list of models; `options.model` names the provider. Raises ConfigError or SpecError."""
        with OPENING:
            accounts = self.current()
            name = options.model or accounts.config.provider or ""
            account = accounts.get(name.provider if isinstance(name, ModelRef) else name)
        run = self._run(kinds.MODELS, account, Call("", ()), options)
        run = run if run.deadline is not None else run._replace(deadline=_LIST_SECONDS)
        return run if self.hooks is None else self._told(run, kinds.MODELS, options)

    def _run(self, kind: kinds.CallKind, account: Account, call: Call, options: Options) -> Run:
        settings = account.settings
        if call.given is not None and call.given.endpoint:
            kind = kinds.PASSED
        retries = settings.retries if options.retries is None else arguments.retries(options.retries)
        remembers = kind.fallbacks == "all" and options.gone is None
        remembered = account.memory.get(call.model, ()) if remembers else ()
        policy = Policy(
            retries, arguments.fallbacks(options.fallbacks), remembered, _new_id, random.random, now=time.time
        )
        timeout = settings.timeout if options.timeout is None else options.timeout
        deadline = options.deadline
        if deadline is None:
            deadline = settings.deadline or account.definition.spec(call.model).transport.total
        return Run(
            self._flow(kind, account, call, policy),
            account.network,
            arguments.seconds("timeout", timeout),
            arguments.seconds("deadline", deadline),
            partial(self._ended, kind, account, call.model),
        )

    @staticmethod
    def _flow(kind: kinds.CallKind, account: Account, call: Call, policy: Policy) -> Flow:
        """The flow of a call; of an account whose key has to be got, with the flow that gets it before."""

        def begin(target: Target, policy: Policy) -> Flow:
            flow: Flow = (kind.flow or exchange)(account.definition, call, target, policy, kind)
            return flow

        if account.source is None:
            return begin(account.target, policy)
        with OPENING:
            from prx.core.keyed import with_key  # imported here: few providers need it

        return with_key(account.source.for_call(), begin, time.time, account.definition.spec(call.model), policy)

    def _ended(self, kind: kinds.CallKind, account: Account, model: str, result: Any) -> None:
        """The call has ended: remember the fallbacks that worked, forget those that did not, and add a hint to an error.

        Of a call that is no chat none are remembered: they are few, and differ from those of chats.
        """
        if isinstance(result, Error):
            if kind.fallbacks == "all":
                account.forget(model, result.fallbacks)
            with contextlib.suppress(OSError):  # too many files are open: the error has no hint then
                advise(result, account, self.accounts.catalog)
        elif kind.fallbacks == "all" and isinstance(result, Reply):
            account.remember(model, result.fallbacks)

    def tell(self, hook: Hook) -> None:
        """Tell another hook of the calls from now on, before those that are told already."""
        earlier = self.hooks.given if self.hooks is not None else ()
        with OPENING:
            from prx.hooks import hooks
        self.hooks = hooks((hook, *earlier))

    # -------------------------------------------------------------- state

    def current(self) -> Accounts:
        """The accounts; with `watch`, after a reload if files have changed."""
        if self._watch is not None and self._watch.changed():
            for problem in self.reload().problems:
                logging.getLogger("prx").warning("%s; the last good version stays in use", problem)
        return self.accounts

    def reload(self) -> Reload:
        """Read the configuration and the provider files again; see Calls.reload."""
        with self._reloading, OPENING:
            from prx.reload import reload

            old = self.accounts
            catalog, changes = reload(old.catalog)
            try:
                config = configuration.load(self._source, self.env)
            except ConfigError as error:
                config, changes = old.config, changes._replace(problems=(*changes.problems, str(error)))
            self.accounts = Accounts(config, catalog, self.env, old)
        self.problems = changes.problems
        return changes


def _hooks(on_event: Hook | Sequence[Hook] | None) -> Hooks | None:
    with OPENING:
        from prx.hooks import hooks  # most programs have none
    return hooks(on_event, EVERYWHERE)


AS_SENT = (dict, NoneType, str)  # types of response_format that most calls have, and that are sent as they are


def _typed(form: Any, options: Options) -> tuple[kinds.CallKind, Options]:
    """(the kind of call, its options) for a response_format that is a class. Raises ConfigError."""
    if form is None or isinstance(form, str | Mapping):
        if options.repair:
            raise ConfigError("repair is of use only where response_format is a class: prx checks the answer then")
        return kinds.CHAT, options
    with OPENING:
        from prx.typed.answer import answer_form, kind_of  # most programs name no class
    wanted = answer_form(form, options.repair)
    return kind_of(wanted), options._replace(params={**options.params, "response_format": wanted.sent})


def _watch(places: Sequence[Path]) -> Watch:
    from prx.reload import Watch

    return Watch(places)


def _new_id() -> str:
    return f"call_{os.urandom(12).hex()}"
