"""Sends all requests of a probe to the server, counts them, and pauses between them.

Each goes through an ordinary Client with an ordinary provider file, to one host, with one key. There are
no retries and no fallbacks, so that a question costs one request. If the server asks for fewer requests, its Retry-After
is obeyed up to a limit; after that the question is given up.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import yaml

from prx.accounts.choose import ModelRef
from prx.chat import Delta, Reply
from prx.client import Client
from prx.conformance.run import WRONG_KEY
from prx.core.request import endpoint_url
from prx.errors import Error
from prx.mask import Mask
from prx.probe.draft import Draft
from prx.secret import Secret
from prx.spec.definition import Definition
from prx.spec.model import Spec

TIMEOUT, DEADLINE = 60.0, 180.0  # seconds without a byte, and for one answer
_VARIABLE = "PRX_PROBE_KEY"  # the environment variable of the key in the client's configuration
_WAITS = 2  # how often a request is repeated while the server is busy
_LONGEST_WAIT = 30.0  # seconds
_BUSY = (503, 529)
_SHORT_KEY = 8  # characters; a shorter key (such as "none", for a local server) may occur in names of models
_PLAIN = ("messages", "input", "temperature", "max_tokens")

How = Literal["chat", "stream", "models", "embed"]
Key = Literal["right", "wrong", "none"]


class SpentError(Exception):
    """No more requests may be sent: the limit is reached, or the server stays busy."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request.

    call   arguments of Client.chat, Client.stream or Client.embed
    model  "" for that of the probe
    holds  a word for what is special in the request and not visible from the names of its parameters
    """

    call: Mapping[str, Any] = field(default_factory=dict)
    how: How = "chat"
    key: Key = "right"
    model: str = ""
    holds: str = ""

    @property
    def special(self) -> str:
        """The special parts of this request, as evidence lists them; "" for a plain chat."""
        named = [name for name in self.call if name not in _PLAIN]
        return ", ".join([*(["stream"] if self.how == "stream" else []), *named, *([self.holds] if self.holds else [])])


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request.

    asked    the request, as evidence names it: method, path and special parts; "" where it was not sent
    names    the listed models, for a request of models
    vectors  for a request of an embedding
    spec     that the request and the answer went through
    """

    asked: str
    reply: Reply | None = None
    error: Error | None = None
    deltas: tuple[Delta, ...] = ()
    names: tuple[str, ...] = ()
    vectors: tuple[tuple[float, ...], ...] = ()
    spec: Spec | None = None


@dataclass
class Line:
    """The connection of a probe to the server. In answers the key is masked, since parts of them are written to the file.

    folder   where the files of drafts are written
    folders  further folders of providers for the clients
    limit    the most requests
    pause    seconds between two requests
    say      called with a sentence while the server is busy
    spent    requests sent so far
    """

    key: str
    folder: Path
    folders: tuple[str, ...]
    env: Mapping[str, str]
    limit: int
    pause: float
    say: Callable[[str], None]
    model: str = ""
    spent: int = 0
    _clients: dict[str, Client] = field(default_factory=dict)

    def ask(self, draft: Draft, ask: Ask) -> Answer:
        """Send a request; while the server is busy, wait and send it again. Raises SpentError."""
        for turn in range(_WAITS + 1):
            answer = self._once(draft, ask)
            seconds = _wait(answer.error, turn)
            if seconds is None or turn == _WAITS:
                break
            self.say(f"{answer.asked}: the server is busy; waiting {seconds:.0f} s")
            time.sleep(seconds)
        return answer

    @property
    def mask(self) -> Mask:
        return Mask([Secret(self.key)])

    def definition(self, draft: Draft) -> Definition:
        """The definition of a draft's file."""
        return self._client(draft, "right").accounts.get(draft.id).definition

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def _once(self, draft: Draft, ask: Ask) -> Answer:
        if self.spent >= self.limit:
            raise SpentError(f"not asked: the limit of {self.limit} requests was reached")
        if self.spent:
            time.sleep(self.pause)
        self.spent += 1
        client = self._client(draft, ask.key)
        model = ask.model or self.model
        asked = _request(client, draft, ask, model)
        try:
            return self._masked(_sent(client, draft, ask, asked, model))
        except Error as error:
            unsent = error.kind == "capability"  # the dialect cannot express the call, so nothing was sent
            self.spent -= unsent
            return Answer("" if unsent else asked, error=error)

    def _masked(self, answer: Answer) -> Answer:
        """The answer with the key masked. A model whose name contains the key is left out: masked, it could not be called."""
        is_short = len(self.key) < _SHORT_KEY
        names = tuple(name for name in answer.names if is_short or self.mask.text(name) == name)
        return replace(answer, names=names, reply=answer.reply and _safe(answer.reply, self.mask))

    def _client(self, draft: Draft, key: Key) -> Client:
        """A separate client for each draft and key, so that none uses what another has remembered."""
        name = json.dumps([draft.base_url, draft.raw, key], sort_keys=True)
        if name not in self._clients:
            folder = self.folder / str(len(self._clients))
            folder.mkdir()
            raw = draft.raw if key != "none" else draft.with_auth({"style": "none"}).raw
            (folder / f"{draft.id}.yaml").write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
            value = {"right": self.key, "wrong": WRONG_KEY, "none": ""}[key]
            settings = {"api_url": draft.base_url, "api_key": f"${{{_VARIABLE}}}"}
            given = settings if value else {"api_url": draft.base_url}
            self._clients[name] = Client(
                config={"providers": {draft.id: given}},
                providers=[folder, *self.folders],
                env={**self.env, _VARIABLE: value},
            )
        return self._clients[name]


def _request(client: Client, draft: Draft, ask: Ask, model: str) -> str:
    """Method, path and special parts of a request, as evidence names it."""
    url = endpoint_url(draft.base_url, _path(client.accounts.get(draft.id).definition, ask, model))
    line = f"{'GET' if ask.how == 'models' else 'POST'} {urlsplit(url).path}"
    return f"{line} with {ask.special}" if ask.special else line


def _path(definition: Definition, ask: Ask, model: str) -> str:
    form = definition.spec(model).calls.get(ask.how)
    if form is not None:
        is_constant = isinstance(form.endpoint, str) and form.endpoint.startswith("/")
        return form.endpoint if is_constant else "/…"  # of a formula, the path is known within the call alone
    endpoints = definition.spec().endpoints
    return endpoints.get(ask.how) or endpoints["chat"]


def _sent(client: Client, draft: Draft, ask: Ask, asked: str, model: str) -> Answer:
    limits: dict[str, Any] = {"timeout": TIMEOUT, "deadline": DEADLINE, "retries": 0, "fallbacks": ()}
    spec = client.accounts.get(draft.id).definition.spec(model)
    if ask.how == "models":
        return Answer(asked, names=tuple(client.models(draft.id, timeout=TIMEOUT)))
    if ask.how == "embed":
        embeddings = client.embed(model=ModelRef(draft.id, model), **limits, **ask.call)
        return Answer(asked, vectors=embeddings.vectors, spec=spec)
    if ask.how == "stream":
        with client.stream(model=ModelRef(draft.id, model), **limits, **ask.call) as stream:
            deltas = tuple(stream)
        return Answer(asked, stream.reply, deltas=deltas, spec=spec)
    return Answer(asked, client.chat(model=ModelRef(draft.id, model), **limits, **ask.call), spec=spec)


def _safe(reply: Reply, mask: Mask) -> Reply:
    """The reply with the key masked. It has to be masked here: findings shorten texts, and half a key would not be found
    later.
    """
    calls = tuple(call._replace(arguments=mask.text(call.arguments)) for call in reply.tool_calls)
    reasoning = reply.reasoning and mask.text(reply.reasoning)
    return reply._replace(content=mask.text(reply.content), reasoning=reasoning, tool_calls=calls)


def _wait(error: Error | None, turn: int) -> float | None:
    """Seconds to wait before the same request is sent again; None where it should not be repeated."""
    if error is None or (error.kind != "rate_limit" and (error.status not in _BUSY or error.retry_after is None)):
        return None
    seconds = error.retry_after if error.retry_after is not None else 2.0 ** (turn + 1)
    return seconds if seconds <= _LONGEST_WAIT else None
