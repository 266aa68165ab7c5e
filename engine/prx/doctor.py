"""Checks what may keep a provider from working: URL, key, list of models, the configured model, chat, stream, system role.

Each check is one line with a verdict. Only providers that are configured or named are called, each at its own URL with its
own key.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from prx.accounts.account import Account
from prx.accounts.choose import ModelRef
from prx.client import Client
from prx.core.request import endpoint_url
from prx.errors import CapabilityError, Error, NotFoundError
from prx.spec.catalog import has_key
from prx.spec.definition import Entry
from prx.spec.document import printable
from prx.spec.model import Spec
from prx.text import nearest

Verdict = Literal["ok", "warn", "fail", "skip"]


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check."""

    name: str
    verdict: Verdict
    text: str
    hint: str = ""


@dataclass(slots=True)
class Examination:
    """All checks of one provider."""

    provider: str
    checks: list[Check] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        return any(check.verdict == "fail" for check in self.checks)

    def add(self, name: str, verdict: Verdict, text: str, hint: str = "") -> None:
        self.checks.append(Check(name, verdict, text, hint))

    def lines(self) -> list[str]:
        """The checks as lines for people."""
        lines = [self.provider]
        for check in self.checks:
            lines.append(f"  {check.verdict:5}{check.name:9}{printable(check.text)}")
            lines += [f"{'':16}{line}" for line in check.hint.splitlines()]
        return lines

    def plain(self) -> dict[str, Any]:
        """The checks in JSON's types."""
        rows = [
            {"name": check.name, "verdict": check.verdict, "text": check.text, "hint": check.hint}
            for check in self.checks
        ]
        return {"provider": self.provider, "ok": not self.failed, "checks": rows}


def configured(client: Client) -> list[str]:
    """The providers that the configuration names (tables, default, routes), the user's own files, and those whose key is in
    the environment.
    """
    config = client.config
    named = [*config.providers, config.provider, *(route.provider for route in config.routes if not route.api_url)]
    entries = client.catalog.entries()
    keyed = [entry.id for entry in entries if not entry.packaged or _has_key(client, entry)]
    return list(dict.fromkeys(name for name in (*named, *keyed) if name))


def _has_key(client: Client, entry: Entry) -> bool:
    raw = client.catalog.glance(entry)
    return not raw.get("retired") and has_key(raw, client.env)


def examine(client: Client, name: str, *, chat: bool) -> Examination:
    """Check one provider. chat: also by chats, which cost a few tokens."""
    examination = Examination(name)
    try:
        account = client.accounts.get(name)
    except Error as error:
        examination.add("settings", "fail", error.summary(), error.hint)
        return examination
    spec = account.definition.spec()
    url = endpoint_url(account.target.base_url, spec.endpoints.get("chat", ""), account.target.endpoints)
    examination.add("url", "ok", url)
    examination.add("key", "ok", _key(account))
    if account.source is not None and (way := account.source.shown()):
        examination.add("token" if account.token_url else "from", "ok", way)
    model = _model(client, name, account)
    _rules(examination, account.definition.spec(model), model)
    known = _models(client, name, examination)
    _configured_model(examination, model, known)
    if chat:
        _chat(client, name, model or next(iter(known), ""), examination)
    return examination


def _key(account: Account) -> str:
    style = account.definition.spec().auth.style
    if not account.target.auth:
        return f"{style}; no key is set, so none is sent"
    (parameter, value), *_ = account.target.auth.items()
    return f"{style}; {'query parameter' if account.target.in_query else 'header'} {parameter}: {value}"


def _rules(examination: Examination, spec: Spec, model: str) -> None:
    """List the capabilities that the file denies and the parameters that it drops, with the dates of their evidence."""
    refused = [(f"no {name}", name) for name, can in spec.capabilities.items() if not can]
    left_out = [
        (f"{parameter.name} left out", f"request.parameters.{parameter.name}")
        for parameter in spec.request.parameters
        if parameter.drop
    ]
    dates = [(clause, spec.dated(rule, model)) for clause, rule in (*refused, *left_out)]
    clauses = [f"{clause} ({date})" if date else clause for clause, date in dates]
    if clauses:
        examination.add("rules", "ok", ", ".join(clauses))


def _model(client: Client, name: str, account: Account) -> str:
    config = client.config
    own = account.settings.model or account.definition.spec().models.default
    return (config.model or own) if config.provider in (name, account.id) else own


def _models(client: Client, name: str, examination: Examination) -> list[str]:
    started = time.monotonic()
    try:
        known = client.models(name)
    except CapabilityError as error:
        examination.add("models", "skip", error.message)
        return []
    except NotFoundError as error:  # many servers have no list, and work without one
        examination.add("models", "warn", f"the server has no list of its models: {error.summary()}", _NO_LIST)
        return []
    except Error as error:
        examination.add("models", "fail", f"{error.kind}: {error.summary()}", error.hint)
        return []
    milliseconds = (time.monotonic() - started) * 1000
    examination.add("models", "ok", f"{len(known)} model{'s' * (len(known) != 1)} in {milliseconds:.0f} ms")
    return known


_NO_LIST = "If it never has one, write capabilities: {models: false} into the provider's file."


def _configured_model(examination: Examination, model: str, known: list[str]) -> None:
    if not model:
        examination.add(
            "model",
            "warn",
            "none is configured",
            "Set [default] model or providers.NAME.model, or name one in each call.",
        )
    elif known and model not in known:
        examination.add("model", "warn", f"{model} is not in the provider's list{nearest(model, known)}")
    elif known:
        examination.add("model", "ok", f"{model} is in the provider's list")


def _chat(client: Client, name: str, model: str, examination: Examination) -> None:
    """Check a chat, a stream, and a chat with a system message, each with few tokens."""
    if "chat" not in client.accounts.get(name).definition.spec(model).endpoints:
        examination.add("chat", "skip", "the provider has no chat, by its file")
        return
    if not model:
        examination.add("chat", "skip", "no model is known to call")
        return
    hello = [{"role": "user", "content": "Say hello."}]
    asks: tuple[tuple[str, Callable[[], str]], ...] = (
        ("chat", lambda: _asked(client, hello, name, model)),
        ("stream", lambda: _streamed(client, hello, name, model)),
        ("system", lambda: _asked(client, [{"role": "system", "content": "Be brief."}, *hello], name, model)),
    )
    for label, ask in asks:
        try:
            examination.add(label, "ok", ask())
        except Error as error:
            examination.add(label, "fail", f"{error.kind}: {error.summary()}", error.hint)
            if label == "chat":
                return


_SMALL: dict[str, Any] = {"max_tokens": 16, "timeout": 60.0, "retries": 0}


def _asked(client: Client, messages: list[dict[str, Any]], name: str, model: str) -> str:
    reply = client.chat(messages, ModelRef(name, model), **_SMALL)
    return f"{reply.model} answered{_with(reply.fallbacks)}"


def _streamed(client: Client, messages: list[dict[str, Any]], name: str, model: str) -> str:
    with client.stream(messages, ModelRef(name, model), **_SMALL) as stream:
        count = sum(1 for delta in stream if delta.content or delta.reasoning)
    return (
        f"{count} piece{'s' * (count != 1)}{_with(stream.reply.fallbacks)}"
        if stream.reply.streamed
        else f"answered in one piece{_with(stream.reply.fallbacks)}"
    )


def _with(fallbacks: tuple[str, ...]) -> str:
    return f", with the fallback{'s' * (len(fallbacks) > 1)} {', '.join(fallbacks)}" if fallbacks else ""
