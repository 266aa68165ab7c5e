"""Why a request is as it is: the rule behind each difference from the plain call, with the file and the line that has it.

The plain call is the call as it was made, in the form of the most common API: its path, its header for the key, and a body
of the model, the messages and the parameters as they were given. What a rule changes is found by leaving it out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from prx.accounts.account import Account
from prx.accounts.key_entries import KeySources
from prx.accounts.keys import in_table, named
from prx.accounts.toml import read
from prx.chat import Call
from prx.compare.flat import flat
from prx.core.request import build, build_body
from prx.errors import CapabilityError, Error
from prx.record import Record
from prx.spec.compile import compile_spec
from prx.spec.credentials import templates
from prx.spec.definition import Definition
from prx.spec.document import Document, Keys, dotted
from prx.spec.model import MESSAGE_CHANGES, Auth, Limits, Retry, Spec
from prx.spec.origins import Origins, Place
from prx.text import variable_names
from prx.wire import HttpRequest

_PATH, _HEADER, _TEMPLATE = "/chat/completions", "authorization", "Bearer {api_key}"  # of the plain call
_SHAPES = (
    *MESSAGE_CHANGES,
    "tool_names",
    "call_ids",
    "schemas",
)  # keys of `request` that change messages, tools, schemas
_LONGEST = 60
_NOT_SET = "not-set"  # in place of a key; it is masked as one
_DEFAULT = "default of prx"
_NOTHING = object()
# {key of auth: its key in a provider's table of config.toml}
_AUTH = {"style": "auth_style", "name": "auth_name", "template": "auth_template"}
# (name, block of the file, key of the block, key of config.toml)
_LIMITS = (
    ("timeout, connect", "transport", "connect", "timeout"), ("timeout, first byte", "transport", "first_byte", "timeout"),
    ("timeout, idle", "transport", "idle", "timeout"), ("deadline", "transport", "total", "deadline"),
    ("retries", "retry", "times", "retries"), ("first pause", "retry", "wait", ""), ("longest pause", "retry", "max_wait", ""),
)  # fmt: skip


class Reason(Record):
    """One line of an explanation.

    what   what is so: a difference, a limit, a capability that the provider lacks
    rule   path of the key behind it, "" where there is none
    place  its line; None where no file has it
    """

    what: str
    rule: str = ""
    place: Place | None = None


class Explanation(Record):
    """A call, explained. request: None where it is refused, which `refused` says then."""

    provider: str
    model: str
    request: HttpRequest | None
    refused: tuple[Reason, ...]
    differences: tuple[Reason, ...]
    lacks: tuple[Reason, ...]
    fallbacks: tuple[Reason, ...]
    limits: tuple[Reason, ...]
    key: tuple[Reason, ...]


def explain(account: Account, call: Call, config: str, env: Mapping[str, str]) -> Explanation:
    """The explanation of a call. config: path of config.toml, "" for none. Raises ConfigError for a call that cannot be built."""
    return _Explainer(account, call, config, env).explanation()


class _Explainer:
    def __init__(self, account: Account, call: Call, config: str, env: Mapping[str, str]) -> None:
        self.account, self.env = account, env
        self.definition = account.definition
        self.spec: Spec = self.definition.spec(call.model)
        self.raw = self.definition.variant(call.model)
        self.origins = Origins(self.definition, call.model)
        self.config: Document | None = (
            read(Path(config)) if Path(config).is_file() else None  # a pipe has been read to its end by now
        )
        swapped = not self.spec.can("stream" if call.stream else "whole")
        self.call = call._replace(stream=not call.stream) if swapped else call
        self.swapped = "whole" if call.stream and swapped else "stream" if swapped else ""

    def explanation(self) -> Explanation:
        request, refused = self._built()
        differences = [*self._address(), *self._auth(), *self._fixed(), *self._shape()] if request else []
        return Explanation(
            provider=self.account.id,
            model=self.call.model,
            request=request,
            refused=refused,
            differences=tuple(differences),
            lacks=tuple(
                self._reason(f"{name}: false", "capabilities", name)
                for name, able in self.spec.capabilities.items()
                if not able
            ),
            fallbacks=tuple(self._fallbacks()),
            limits=tuple(self._limits()),
            key=tuple(self._key()),
        )

    def _built(self) -> tuple[HttpRequest | None, tuple[Reason, ...]]:
        try:
            return build(self.spec, self.call, self.account.target), ()
        except CapabilityError as error:
            named = next((name for name in self.spec.unable if f"capabilities.{name}:" in error.message), "")
            return None, (self._reason(error.message, "capabilities", named) if named else Reason(error.message),)

    def _reason(self, what: str, *keys: str | int) -> Reason:
        return Reason(what, dotted(keys), self.origins.of(*keys))

    def _configured(self, key: str) -> Reason | None:
        """The rule and the place of a key of the provider's table in config.toml; None where the table does not have it."""
        name = self.account.settings.name
        if key and getattr(self.account.settings, key, None) is not None:
            return Reason("", f"{in_table(name)}.{key}", self._in_config("providers", name, key))
        return None

    def _in_config(self, *keys: str | int) -> Place | None:
        mark = self.config.marks.get(keys) if self.config else None
        return Place(self.config.file, mark[0]) if self.config and mark else None

    # -------------------------------------------------------------- differences

    def _address(self) -> Iterator[Reason]:
        route = self.account.route
        if route and route.api_url:
            yield Reason(f"server {self.account.target.base_url}", "model_routes.api_url", self._of_route("api_url"))
        elif configured := self._configured("api_url"):
            yield configured._replace(what=f"server {self.account.target.base_url}")
        else:
            yield self._reason(f"server {self.account.target.base_url}", "base_url")
        if route:
            yield Reason(
                f"model {self.call.model}", f"model_routes, pattern {route.pattern}", self._of_route("pattern")
            )
        name = "stream" if self.call.stream and "stream" in self.spec.endpoints else "chat"
        if (path := self.spec.endpoints[name]) != _PATH:
            yield self._reason(f"path {path}", "endpoints", name)
        if self.swapped:
            asked = "a whole answer" if self.swapped == "whole" else "a stream"
            yield self._reason(
                f"{asked} is asked for", "capabilities", "stream" if self.swapped == "whole" else "whole"
            )

    def _of_route(self, key: str) -> Place | None:
        rows = self.config.value.get("model_routes", ()) if self.config else ()
        route = self.account.route
        place = next((at for at, row in enumerate(rows) if route and row["pattern"] == route.pattern), None)
        return None if place is None else self._in_config("model_routes", place, key)

    def _auth(self) -> Iterator[Reason]:
        auth = self.spec.auth
        if not self.account.target.auth or (auth.style, auth.name, auth.template) == ("bearer", _HEADER, _TEMPLATE):
            return
        what = f"{'parameter' if auth.style == 'query' else 'header'} {auth.name}: {auth.template.replace('{api_key}', '***')}"
        keys = [key for key in ("name", "template", "style") if key in self.raw.get("auth", {})] or ["style"]
        configured = next((found for key in keys if (found := self._configured(_AUTH[key]))), None)
        yield configured._replace(what=what) if configured else self._reason(what, "auth", keys[0])

    def _fixed(self) -> Iterator[Reason]:
        """Headers and parameters of the URL that the file or the configuration adds."""
        for name, value in self.account.target.headers.items():
            rule = f"{in_table(self.account.settings.name)}.headers.{name}"
            yield Reason(
                f"header {name}: {value}", rule, self._in_config("providers", self.account.settings.name, "headers")
            )
        for kind, key in (("header", "headers"), ("parameter", "query")):
            for name, text in getattr(self.spec.request, key).items():
                if kind == "parameter" or name.lower() not in self.account.target.headers:
                    yield self._reason(
                        f"{kind} {name}: {'***' if variable_names(text) else text}", "request", key, name
                    )

    def _shape(self) -> Iterator[Reason]:
        """What rules of parameters and messages change, and what the body's template does."""
        body = flat(build_body(self.spec, self.call))
        explained: set[str] = set()
        for keys in self._candidates():
            without = self._without(keys)
            moved = [path for path in {**without, **body} if without.get(path, _NOTHING) != body.get(path, _NOTHING)]
            if moved:
                explained |= {
                    path.partition(".")[0].partition("[")[0] for path in moved if not path.startswith("messages")
                }
                yield self._reason(_effect(without, body, moved), *keys)
        yield from self._of_template(explained)

    def _candidates(self) -> Iterator[Keys]:
        """The paths of all rules that may change this call."""
        request = self.raw.get("request", {})
        for name, row in request.get("parameters", {}).items():
            if row and (name in self.call.params or "default" in row):
                yield from (("request", "parameters", name, key) for key in row)
        for key in _SHAPES:
            value = request.get(key)
            if isinstance(value, Mapping) and key not in ("tool_names", "call_ids"):
                yield from (("request", key, name) for name in value)
            elif value is not None:
                yield ("request", key)

    def _without(self, keys: Keys) -> dict[str, Any]:
        """The body of the call if a rule were not there, flat; empty where there would be none."""
        try:
            return flat(build_body(compile_spec(_left_out(self.raw, keys), self.definition.expressions), self.call))
        except (Error, KeyError, TypeError):  # the others need this rule
            return {}

    def _of_template(self, explained: set[str]) -> Iterator[Reason]:
        call = self.call
        given: dict[str, Any] = {"model": call.model, "messages": list(call.messages), **call.params, **call.extra.body}
        given |= {"tools": list(call.tools)} if call.tools else {}
        given |= {"tool_choice": call.tool_choice} if call.tool_choice is not None else {}
        given |= {"stream": True} if call.stream else {}
        body, template = build_body(self.spec, call), self.raw.get("request", {}).get("body", {})
        shown = [name for name in {**given, **body} if given.get(name, _NOTHING) != body.get(name, _NOTHING)]
        for name in shown:
            if name in explained or template.get(name) == f"={name}":
                continue
            was, now = name in given, name in body
            what = (
                f"{name}: in another form"
                if was and now
                else f"{name}: added, {_short(body[name])}"
                if now
                else f"{name}: not sent by this name"
            )
            yield self._reason(what, "request", "body", *([name] if name in template else []))

    # -------------------------------------------------------------- what would follow

    def _fallbacks(self) -> Iterator[Reason]:
        for row in self.spec.fallbacks:
            if row.enabled and (not row.needs or self.spec.can(row.needs)):
                what = f"without what the error names: {', '.join(row.words)}" if row.words is not None else row.name
                yield self._reason(what if len(what) <= _LONGEST else f"{what[:_LONGEST]}…", "fallbacks", row.name)

    def _limits(self) -> Iterator[Reason]:
        for what, block, key, setting in _LIMITS:
            record: Limits | Retry = getattr(self.spec, block)
            configured = self._configured(setting)
            value = getattr(self.account.settings, setting) if configured else getattr(record, key)
            text = f"{what}: {'none' if value is None else value}{'' if (block == 'retry' and key == 'times') or value is None else ' s'}"
            reason = configured._replace(what=text) if configured else self._reason(text, block, key)
            yield reason if reason.place or configured else reason._replace(rule=_DEFAULT)

    def _key(self) -> Iterator[Reason]:
        route, source = self.account.route, self.account.source
        if source is not None and not isinstance(source.made_of, KeySources):
            exchange = source.shown()
            yield self._reason(
                f"a token, by {exchange}" if exchange else "a token that is signed",
                "auth",
                "token" if exchange else "sign",
            )
        if not self.account.target.auth:
            yield self._reason("no key is sent", "auth")
        elif route and route.api_key is not None:
            yield Reason("the key of the route", "model_routes.api_key", self._of_route("api_key"))
        elif self.account.settings.api_key is not None and (configured := self._configured("api_key")):
            if isinstance(self.account.settings.api_key, KeySources):
                yield configured._replace(what=f"got from {source.shown() if source else ''}")
                return
            names = variable_names(self.account.settings.api_key.reveal())
            yield configured._replace(what=f"the variable {names[0]}" if names else "written in config.toml")
        elif source is not None:
            names = [*_variables(self.spec.auth)]
            found = [name for name in names if self.env.get(name, "").strip()]
            yield self._reason(f"its credential: {', '.join(found or names)}", "auth", "credential")
        else:
            name = next((name for name in self.spec.auth.env if self.env.get(name, "").strip()), "")
            what = f"the variable {name}" if name else f"the variable {self.spec.auth.env[0]}, which is not set"
            yield self._reason(what, "auth", "env")


def stand_ins(definition: Definition) -> dict[str, str]:
    """A stand-in for each variable that a provider may need, so that its call can be explained where they are not set."""
    spec = definition.spec()
    token = spec.auth.token
    in_url = {name: name for name in variable_names(spec.base_url + (token.url if token else ""))}
    in_templates = [name for _, text in templates(spec.auth) for name in variable_names(text)]
    key = spec.auth.env[:1] or _variables(spec.auth)
    return in_url | dict.fromkeys([*key, *named(definition.raw), *in_templates], _NOT_SET)


def _variables(auth: Auth) -> Iterable[str]:
    """The environment variables of a credential."""
    return auth.credential.values() if isinstance(auth.credential, Mapping) else auth.credential


def _left_out(raw: Mapping[str, Any], keys: Keys) -> dict[str, Any]:
    """A copy of a mapping without the value at a path."""
    key, *rest = keys
    if not rest:
        return {name: value for name, value in raw.items() if name != key}
    return {name: _left_out(value, tuple(rest)) if name == key else value for name, value in raw.items()}


def _effect(before: Mapping[str, Any], after: Mapping[str, Any], moved: list[str]) -> str:
    """What a rule does to a body: a value that moves, one that changes, one that comes or goes."""
    gone, new = ([path for path in moved if path not in side] for side in (after, before))
    if len(gone) == len(new) == 1 and before[gone[0]] == after[new[0]]:
        return f"{gone[0]} → {new[0]}"
    path, more = moved[0], f", and {len(moved) - 1} more" if len(moved) > 1 else ""
    if path in gone:
        return f"{path} left out{more}"
    was = f"{_short(before[path])} → " if path in before else "added, "
    return f"{path}: {was}{_short(after[path])}{more}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
