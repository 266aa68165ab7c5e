"""Asks rows: each waits for its turn at its account's gate, is asked again where that may help, and comes to one result.

What is asked again: an error that may pass (as prx.Error says), and an answer that cannot be read; `retries` times, after
pauses that double. A refusal for the rate is not counted: the row waits as long as the provider asks, or for such a pause,
until `patience` is over.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

from prx.accounts.account import Account
from prx.accounts.choose import Accounts
from prx.accounts.targets import ref_of
from prx.batch.gate import Gate
from prx.batch.limiter import Cost, Limiter, limiter_of
from prx.batch.results import UNFIT, BatchResult, Failure, Schemas, failure
from prx.batch.rows import Reader, Row, Terms
from prx.chat import Usage
from prx.core.exchange import Ask, Send
from prx.core.watched import watched
from prx.errors import Error
from prx.session import Run, Session

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_LONGEST_REFUSED = 5.0  # seconds before a refused row tries again, where the provider names no time
_LETTERS = 4.0  # a token, before any answer has said how many tokens its prompt had
_WORDS = 256.0  # tokens of an answer, before there was any
_LEARNS = 0.05  # weight of each answer in what is known of both


class Asynchronous(Protocol):
    """An AsyncClient, which cannot be imported here: it imports this."""

    @property
    def session(self) -> Session: ...
    async def finish(self, run: Run) -> Any:
        """What a call gives."""


class Door(NamedTuple):
    """Where calls of a model go in: the gate of its account, and the provider's dialect."""

    gate: Gate
    dialect: str


class Figures:
    """What a batch has come to so far."""

    def __init__(self) -> None:
        self.requests = self.rows = self.refused = 0
        self.prompt_tokens = self.completion_tokens = 0
        self.errors: Counter[str] = Counter()

    def add(self, result: BatchResult) -> None:
        self.rows += 1
        if result.error is not None:
            self.errors[result.error.kind] += 1
        usage = getattr(result.reply, "usage", None)
        if usage is not None:
            self.prompt_tokens += usage.prompt_tokens or 0
            self.completion_tokens += usage.completion_tokens or 0


class Guess:
    """How many tokens a call needs, from the answers so far."""

    def __init__(self) -> None:
        self._per_letter, self._answer = 1 / _LETTERS, _WORDS

    def cost(self, row: Row) -> dict[str, float]:
        params = row.options.params
        most = params.get("max_completion_tokens") or params.get("max_tokens")
        read = row.size * self._per_letter
        answer = min(self._answer, most) if isinstance(most, int) else self._answer
        answer = answer if row.kind != "embed" else 0.0
        return {"requests": 1.0, "tokens": read + answer, "input tokens": read, "output tokens": answer}

    def learn(self, row: Row, usage: Usage) -> dict[str, float]:
        """What an answer says of it; gives what was used."""
        read, answer = float(usage.prompt_tokens or 0), float(usage.completion_tokens or 0)
        if row.size and read:
            self._per_letter += _LEARNS * (read / row.size - self._per_letter)
        self._answer += _LEARNS * (answer - self._answer)
        return {"tokens": read + answer, "input tokens": read, "output tokens": answer}


class Pool:
    """Asks the rows of one batch, on one event loop.

    on_begin  told of each row before its first request
    on_end    told of each result when it is there, before the next row is begun
    limiters  gives the Limiter of an account and a model
    """

    def __init__(
        self,
        client: Asynchronous,
        terms: Terms,
        on_begin: Callable[[Row], None] | None = None,
        on_end: Callable[[Row, BatchResult], None] | None = None,
        limiters: Callable[[Account, str], Limiter] = limiter_of,
    ) -> None:
        self.terms, self._client, self._on_begin, self._on_end = terms, client, on_begin, on_end
        self.reader = Reader(client.session, terms)
        self.figures = Figures()
        self.schemas = Schemas()
        self._guess = Guess()
        self._limiters = limiters
        self._doors: dict[Any, Door] = {}

    def door(self, model: Any) -> Door:
        """Where calls of this model go in. Raises ConfigError or SpecError."""
        found = self._doors.get(model)
        if found is None:
            accounts = self._client.session.current()
            account, name = accounts.choose(targets_of(accounts, model)[0])
            limiter = self._limiters(account, name)
            limiter.allow(self.terms.per_minute)
            found = self._doors[model] = Door(Gate(limiter), account.definition.spec(name).dialect or account.id)
        return found

    async def result(self, index: int, given: Any) -> BatchResult:
        """As `ask`, of a row as it was given: one with a fault fails."""
        try:
            row = self.reader.read(index, given)
        except Error as error:
            result = BatchResult(index, _id_of(given), given, None, failure(error, 0))
            self.figures.add(result)
            return result
        return await self.ask(row)

    async def ask(self, row: Row) -> BatchResult:
        """What comes of a row; no Error is raised."""
        if self._on_begin is not None:
            self._on_begin(row)
        sent, tries, refused_at, refusals = [0], 0, 0.0, 0
        while True:
            try:
                result = self._judged(row, await self._answer(row, sent), sent[0])
                break
            except Error as error:
                if error.kind == "rate_limit":
                    refused_at, refusals = refused_at or time.monotonic(), refusals + 1
                    self.figures.refused += 1
                    seconds = self._wait_refused(error, time.monotonic() - refused_at, refusals)
                else:
                    tries += 1
                    seconds = self._wait_failed(error, tries)
                if seconds is None:
                    result = BatchResult(row.index, row.id, row.given, error.partial, failure(error, sent[0]))
                    break
            await asyncio.sleep(seconds)
        self.figures.add(result)
        if self._on_end is not None:
            self._on_end(row, result)
        return result

    def _wait_refused(self, error: Error, so_far: float, refusals: int) -> float | None:
        """Seconds before a refused row is asked again; None where its patience is over."""
        pause = min(_FIRST_PAUSE * 2 ** min(refusals - 1, 10), _LONGEST_REFUSED) * (0.5 + random.random() / 2)  # noqa: S311
        seconds = pause if error.retry_after is None else error.retry_after
        return seconds if so_far + seconds <= self.terms.patience else None

    def _wait_failed(self, error: Error, tries: int) -> float | None:
        """Seconds before a row that failed is asked again; None where that does not help."""
        if tries > self.terms.retries or not (error.retryable or error.kind == "protocol"):
            return None
        pause = min(_FIRST_PAUSE * 2 ** min(tries - 1, 10), _LONGEST_PAUSE) * (0.5 + random.random() / 2)  # noqa: S311
        seconds = max(pause, error.retry_after or 0.0)
        return seconds if seconds <= self.terms.patience else None

    async def _answer(self, row: Row, sent: list[int]) -> Any:
        """One attempt, which may be several requests where fallbacks are tried. Raises Error."""
        gate = self.door(row.options.model).gate
        cost = self._guess.cost(row)
        await gate.enter(cost)
        used = None
        try:
            reply = await self._client.finish(self._begun(row, gate.limiter, cost, sent))
            usage = getattr(reply, "usage", None)
            used = None if usage is None else self._guess.learn(row, usage)
            return reply
        finally:
            gate.leave(cost, used)

    def _begun(self, row: Row, limiter: Limiter, cost: Cost, sent: list[int]) -> Run:
        session = self._client.session
        kind, options = row.kind, row.options
        run = session.begin_chat(options, stream=False) if kind == "chat" else session.begin_kind(kind, options)
        before = partial(self._before, limiter, cost, sent, sent[0])
        return run._replace(flow=watched(run.flow, before, partial(_heard, limiter)))

    def _before(self, limiter: Limiter, cost: Cost, sent: list[int], earlier: int, ask: Ask) -> Ask:
        """Tell the limiter of each request of a call beyond its first. earlier: requests of the row before this call."""
        if type(ask) is Send:
            if sent[0] > earlier:
                limiter.more(cost)
            sent[0] += 1
            self.figures.requests += 1
        return ask

    def _judged(self, row: Row, reply: Any, attempts: int) -> BatchResult:
        unfit = self.schemas.fault(row.schema, reply) if row.schema is not None else ""
        error = Failure(UNFIT, unfit, None, attempts) if unfit else None
        return BatchResult(row.index, row.id, row.given, reply, error)


def targets_of(accounts: Accounts, model: Any) -> list[Any]:
    """The models that calls of this one may go to: those of its route, or itself."""
    route = accounts.route_with_targets(model)
    return [model] if route is None else [ref_of(target) for target in route.targets]


def _id_of(given: Any) -> Any:
    identity = given.get("custom_id", given.get("id")) if isinstance(given, dict) else None
    return identity if isinstance(identity, str | int) else None


def _heard(limiter: Limiter, ask: Ask, answer: Any) -> None:
    if type(ask) is Send:
        limiter.heard(answer)
