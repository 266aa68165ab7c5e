"""The line to a server: every request goes through here, is counted, and keeps its distance from the one before.

What is asked goes through an ordinary Client with an ordinary provider file, to one host, with one key; there are
no retries and no fallbacks, so that one question is one request. Where the server wants fewer requests it gets
fewer: its Retry-After is kept, within bounds, and then the question is given up.
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
_VARIABLE = "PRX_PROBE_KEY"  # what the key is called in the configuration that the client is given
_WAITS = 2  # how often a question waits for a busy server
_LONGEST_WAIT = 30.0
_BUSY = (503, 529)
_WORD = 8  # characters: a shorter key may be part of the name of a model
_PLAIN = ("messages", "temperature", "max_tokens")

How = Literal["chat", "stream", "models"]
Key = Literal["right", "wrong", "none"]


class SpentError(Exception):
    """No more requests: those that were allowed have been sent, or the server wants fewer of them."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request in a client's words. holds: what is in it that its parameters do not show."""

    call: Mapping[str, Any] = field(default_factory=dict)
    how: How = "chat"
    key: Key = "right"
    model: str = ""
    holds: str = ""

    @property
    def special(self) -> str:
        """What this request has that a plain one has not."""
        named = [name for name in self.call if name not in _PLAIN]
        return ", ".join([*(["stream"] if self.how == "stream" else []), *named, *([self.holds] if self.holds else [])])


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of it. asked: the request, in words; spec: of the file it went through."""

    asked: str
    reply: Reply | None = None
    error: Error | None = None
    deltas: tuple[Delta, ...] = ()
    names: tuple[str, ...] = ()
    spec: Spec | None = None


@dataclass
class Line:
    """See the module. folder: for drafts; folders: further ones of the client; say: takes a sentence about waiting.

    What comes through it is without the key: it may end in a file.
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
        """Send a request; again, after a while, where the server was busy. Raises SpentError."""
        for turn in range(_WAITS + 1):
            answer = self._once(draft, ask)
            seconds = _wait(answer.error, turn)
            if seconds is None or turn == _WAITS:
                break
            self.say(f"{answer.asked}: the server is busy; waits {seconds:.0f} s")
            time.sleep(seconds)
        return answer

    @property
    def mask(self) -> Mask:
        return Mask([Secret(self.key)])

    def definition(self, draft: Draft) -> Definition:
        """The draft, resolved and ready to be compiled."""
        return self._client(draft, "right").accounts.get(draft.id).definition

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def _once(self, draft: Draft, ask: Ask) -> Answer:
        if self.spent >= self.limit:
            raise SpentError(f"all of the {self.limit} requests were spent before it was asked")
        if self.spent:
            time.sleep(self.pause)
        self.spent += 1
        client = self._client(draft, ask.key)
        asked = _request(client, draft, ask)
        try:
            return self._masked(_sent(client, draft, ask, asked, ask.model or self.model))
        except Error as error:
            unsent = error.kind == "capability"  # the dialect has no word for it
            self.spent -= unsent
            return Answer("" if unsent else asked, error=error)

    def _masked(self, answer: Answer) -> Answer:
        """Without the key. A model whose name has it is none, but where the key is a word as local servers want one."""
        word = len(self.key) < _WORD
        names = tuple(name for name in answer.names if word or self.mask.text(name) == name)
        return replace(answer, names=names, reply=answer.reply and _safe(answer.reply, self.mask))

    def _client(self, draft: Draft, key: Key) -> Client:
        """A client of its own for each draft and key: nothing is remembered from one to the other."""
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


def _request(client: Client, draft: Draft, ask: Ask) -> str:
    """Method, path and what is special, as evidence names them."""
    endpoints = client.accounts.get(draft.id).definition.spec().endpoints
    path = endpoints.get(ask.how) or endpoints["chat"]
    url = endpoint_url(draft.base_url, path)
    line = f"{'GET' if ask.how == 'models' else 'POST'} {urlsplit(url).path}"
    return f"{line} with {ask.special}" if ask.special else line


def _sent(client: Client, draft: Draft, ask: Ask, asked: str, model: str) -> Answer:
    limits: dict[str, Any] = {"timeout": TIMEOUT, "deadline": DEADLINE, "retries": 0, "fallbacks": ()}
    spec = client.accounts.get(draft.id).definition.spec(model)
    if ask.how == "models":
        return Answer(asked, names=tuple(client.models(draft.id, timeout=TIMEOUT)))
    if ask.how == "stream":
        with client.stream(model=ModelRef(draft.id, model), **limits, **ask.call) as stream:
            deltas = tuple(stream)
        return Answer(asked, stream.reply, deltas=deltas, spec=spec)
    return Answer(asked, client.chat(model=ModelRef(draft.id, model), **limits, **ask.call), spec=spec)


def _safe(reply: Reply, mask: Mask) -> Reply:
    """Without the key in what a finding repeats the beginning of: of half a key, nobody knows later what it is."""
    calls = tuple(call._replace(arguments=mask.text(call.arguments)) for call in reply.tool_calls)
    reasoning = reply.reasoning and mask.text(reply.reasoning)
    return reply._replace(content=mask.text(reply.content), reasoning=reasoning, tool_calls=calls)


def _wait(error: Error | None, turn: int) -> float | None:
    """Seconds before the same request is sent again; None where it should not be."""
    if error is None or (error.kind != "rate_limit" and (error.status not in _BUSY or error.retry_after is None)):
        return None
    seconds = error.retry_after if error.retry_after is not None else 2.0 ** (turn + 1)
    return seconds if seconds <= _LONGEST_WAIT else None
