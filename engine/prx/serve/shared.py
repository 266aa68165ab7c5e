"""What several processes have in common, in Redis: rates of callers, calls that run, and targets that rest.

Redis helps and is never needed. Whoever asks it waits for a quarter of a second at most, and where it fails each process has limits
of its own until it is back; meanwhile no call asks it, only a task in the background does. Its clock is the one that counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Coroutine, Sequence
from hashlib import sha256
from typing import Any
from urllib.parse import quote

from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Redis

from prx.accounts.choose import ModelRef
from prx.errors import ConfigError
from prx.secret import Secret
from prx.serve.callers import Caller

_PATIENCE = 0.25  # seconds that a call may be held up
_ROUND = 1.0  # seconds between two rounds of the task in the background
_CONNECTIONS = 16
_LEASE = 30  # seconds after which the call of a process that is gone counts no more
_HINT = "It has the form redis://:${PASSWORD}@host:6379/0; a password with other characters than letters and digits is percent-encoded."
_LOG = logging.getLogger("prx.serve")

_NOW = "local t = redis.call('TIME'); local now = t[1] + t[2] / 1000000; "
# A bucket of requests that refills within a minute, as callers.Caller has one. Gives the seconds to wait; 0: take one.
_TAKE = (
    _NOW
    + """
local rate = tonumber(ARGV[1])
local row = redis.call('HMGET', KEYS[1], 'left', 'at')
local left = math.min(rate, (tonumber(row[1]) or rate) + math.max(0, now - (tonumber(row[2]) or now)) * rate / 60)
local wait = 0
if left < 1 then wait = (1 - left) * 60 / rate else left = left - 1 end
redis.call('HSET', KEYS[1], 'left', string.format('%.9f', left), 'at', string.format('%.6f', now))
redis.call('EXPIRE', KEYS[1], 120)
return string.format('%.6f', wait)
"""
)
# A place among the calls that run: each has the moment at which it counts no more unless it is renewed.
_ENTER = (
    _NOW
    + """
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[3])
redis.call('EXPIRE', KEYS[1], 2 * ARGV[2])
return 1
"""
)
_RENEW = (
    _NOW
    + """
for place = 2, #ARGV do redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[place]) end
redis.call('EXPIRE', KEYS[1], 2 * ARGV[1])
"""
)
_REST = (
    _NOW
    + """
redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], 100000)
"""
)
_RESTING = (
    _NOW
    + """
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local rows = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for place = 2, #rows, 2 do rows[place] = string.format('%.3f', rows[place] - now) end
return rows
"""
)
_CALLS, _RESTS = "prx:calls", "prx:resting"


class Shared:
    """A connection to Redis, of one event loop.

    is_up   whether it answered when it was last asked
    """

    def __init__(
        self, url: Secret, changed: Callable[[bool], None], rests: Callable[[ModelRef, float], None]
    ) -> None:  # fmt: skip
        """changed: told whether Redis answers. rests: told of a target that rests for so many seconds. Raises ConfigError."""
        self.url, self._changed, self._rests = url, changed, rests
        self.is_up = True
        self._redis = _connected(url)
        self._held: set[str] = set()  # calls that run here
        self._tasks: set[asyncio.Task[Any]] = set()
        self._rounds: asyncio.Task[None] | None = None

    @property
    def place(self) -> str:
        """Where it is, without user and password."""
        given = self._redis.connection_pool.connection_kwargs
        return given.get("path") or f"{given.get('host', 'localhost')}:{given.get('port', 6379)}"

    @property
    def secrets(self) -> list[Secret]:
        """What must not be shown: the URL, and the password in it, also as it is without percent-encoding."""
        password = self._redis.connection_pool.connection_kwargs.get("password") or ""
        return [self.url, Secret(password), Secret(quote(password, safe=""))]

    # -------------------------------------------------------------- asked by calls

    async def wait(self, caller: Caller) -> float | None:
        """Take one of a caller's requests: as Caller.wait; None where Redis does not answer."""
        name = f"prx:rate:{sha256(caller.digest.encode()).hexdigest()[:32]}"
        found = await self._asked(_TAKE, name, caller.rate)
        return None if found is None else float(found)

    async def enter(self, most: int) -> tuple[bool | None, str]:
        """(whether one more call may run, None where Redis does not answer; its name, to leave with)."""
        name = secrets.token_hex(8)
        found = await self._asked(_ENTER, _CALLS, most, _LEASE, name)
        if found != 0:
            self._held.add(name)
        return None if found is None else bool(found), name

    def leave(self, name: str) -> None:
        self._held.discard(name)
        self._later(self._left, name)

    def rest(self, ref: ModelRef, seconds: float) -> None:
        """A target has begun to rest here."""
        self._later(self._asked, _REST, _RESTS, seconds, f"{ref.provider}/{ref.model}")

    async def _left(self, name: str) -> None:
        if self.is_up:
            await self._tried(lambda: self._redis.zrem(_CALLS, name))

    async def _asked(self, script: str, key: str, *arguments: Any) -> Any:
        """The answer of a script; None where Redis does not answer, at once where it did not before."""
        return await self._tried(lambda: self._eval(script, key, *arguments)) if self.is_up else None

    # -------------------------------------------------------------- in the background

    def start(self) -> None:
        """Begin the rounds, once there is an event loop."""
        with contextlib.suppress(RuntimeError):
            self._rounds = self._rounds or asyncio.get_running_loop().create_task(self._go_round())

    def end(self) -> None:
        """It is used no more, but for calls that run."""
        self._later(self.aclose)

    async def _go_round(self) -> None:
        """Look whether Redis is there, say that this process's calls still run, and hear of targets that rest."""
        while True:
            _, fault = await self._attempt(self._look)
            self._note(fault)
            await asyncio.sleep(_ROUND)

    async def _look(self) -> bool:
        if self._held:
            await self._eval(_RENEW, _CALLS, _LEASE, *self._held)
        rows: Sequence[bytes] = await self._eval(_RESTING, _RESTS)
        for ref, seconds in zip(rows[::2], rows[1::2], strict=True):
            provider, _, model = ref.decode(errors="replace").partition("/")
            self._rests(ModelRef(provider, model), float(seconds))
        return True

    def _eval(self, script: str, key: str, *arguments: Any) -> Any:
        return self._redis.eval(script, 1, key, *arguments)

    async def aclose(self) -> None:
        if self._rounds is not None:
            self._rounds.cancel()
        for name in [*self._held]:
            self.leave(name)
        if others := self._tasks - {asyncio.current_task()}:
            await asyncio.wait(others)
        with contextlib.suppress(OSError, exceptions.RedisError):
            await self._redis.aclose()

    def _later(self, work: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> None:
        """Do it beside what runs now; not at all where no event loop runs, as at the end of a process."""
        with contextlib.suppress(RuntimeError):
            loop = asyncio.get_running_loop()
            task = loop.create_task(work(*arguments))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    # -------------------------------------------------------------- whether it is there

    async def _tried(self, work: Callable[[], Any]) -> Any:
        """The result, None where Redis fails: then nobody asks until the task in the background has found it there again."""
        found, fault = await self._attempt(work)
        if fault:
            self._note(fault)
        return found

    def _note(self, fault: str) -> None:
        """Remember whether Redis answers; the log has one line for each time that this changes."""
        if bool(fault) == self.is_up:
            back = f"Redis at {self.place} answers, and what is shared holds again"
            _LOG.warning("%s", f"{fault}; each process has its own limits until it answers" if fault else back)
        self.is_up = not fault
        self._changed(self.is_up)

    async def fault(self) -> str:
        """What is wrong, "" for nothing: for a look before a deploy."""
        _, fault = await self._attempt(self._look)
        await self.aclose()
        return fault

    async def _attempt(self, work: Callable[[], Any]) -> tuple[Any, str]:
        """(the result, a sentence about what was wrong). What the library says is not shown: it may have parts of the URL."""
        try:
            async with asyncio.timeout(_PATIENCE):
                return await work(), ""
        except Exception as error:  # whatever it is, a call does without Redis then
            reason = next(said for kinds, said in _FAULTS if isinstance(error, kinds))
            return None, f"Redis at {self.place} {reason}"


_FAULTS: tuple[tuple[Any, str], ...] = (
    ((exceptions.AuthenticationError, exceptions.AuthorizationError), "refuses the user or the password"),
    ((TimeoutError, exceptions.TimeoutError), f"does not answer within {_PATIENCE} seconds"),
    (exceptions.NoPermissionError, "does not let this user do what is needed"),
    (exceptions.OutOfMemoryError, "has no memory left"),
    (exceptions.ReadOnlyError, "is a replica, which can only be read"),
    ((exceptions.ConnectionError, OSError), "cannot be reached"),
    (Exception, "refuses what it is asked"),
)


def _connected(url: Secret) -> Redis:
    try:
        pool = BlockingConnectionPool.from_url(url.reveal(), max_connections=_CONNECTIONS, timeout=_PATIENCE)
        pool.connection_class(**pool.connection_kwargs)  # it connects later; an option that does not exist fails here
    except (ValueError, TypeError):
        raise ConfigError("serve.redis: is no URL of a Redis", hint=_HINT) from None
    return Redis.from_pool(pool)
