"""Limits that a Redis holds, in place of a Holder: for engines, and for several runs, that share nothing else.

What is known of an account is one value, which a process reads, changes and writes in one transaction, with Redis's clock.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from redis import Redis, exceptions

from prx.accounts.config import expand
from prx.batch.lease import ALIVE, SEEN, Divided, turn
from prx.errors import ConfigError
from prx.secret import Secret

_PATIENCE = 5.0  # seconds for an answer
_KEPT = 3600  # seconds for which an account is remembered that nobody asks
_HINT = "It has the form redis://:${PASSWORD}@host:6379/0; a password with other characters than letters and digits is percent-encoded."


def _check(url: str) -> None:
    """Raise ConfigError where this cannot be used: a password must not go to the workers as it is."""
    try:
        given = urlsplit(url)
        password = given.password
    except ValueError:
        raise ConfigError("--limits: is no URL of a Redis", hint=_HINT) from None
    if password and "${" not in password:
        raise ConfigError("--limits: a password in it would be seen in what the engine shows of its tasks", hint=_HINT)


class RedisHeld:
    """As a Holder is asked. run: a name of the run. url: with ${NAME} for what the environment of each process has."""

    def __init__(self, url: str, run: str, per_minute: Mapping[str, float | None]) -> None:
        """Raises ConfigError for a URL that cannot be used."""
        _check(url)
        self._url, self._run, self._per_minute = url, f"prx:batch:{run}", dict(per_minute)
        self._connected: Redis | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_connected": None}

    def ask(self, method: str, *arguments: Any) -> Any:
        """Raises LookupError where Redis does not answer, ConfigError where the URL is none."""
        redis = self._redis()
        try:
            return getattr(self, f"_{method}")(redis, *arguments)
        except (exceptions.RedisError, OSError):  # what it says may have parts of the URL
            raise LookupError("what the tasks share is gone") from None

    def _redis(self) -> Redis:
        if self._connected is None:
            url = Secret(expand(self._url, os.environ, "--limits"))
            try:
                self._connected = Redis.from_url(
                    url.reveal(), socket_timeout=_PATIENCE, socket_connect_timeout=_PATIENCE
                )
            except (ValueError, TypeError):
                raise ConfigError("--limits: is no URL of a Redis", hint=_HINT) from None
        return self._connected

    # -------------------------------------------------------------- as Holder has them

    def _exchange(self, redis: Redis, process: str, told: Mapping[str, Any], figures: Mapping[Any, Any]) -> Any:
        now = _now(redis)
        if figures:
            redis.hset(f"{self._run}:figures", mapping={str(part): json.dumps(each) for part, each in figures.items()})
        redis.zadd(f"{self._run}:processes", {process: now})
        among = redis.zcount(f"{self._run}:processes", now - SEEN, "+inf")
        stopped, looked = redis.hmget(self._run, "stopped", "looked")
        if stopped or float(looked or 0) < now - ALIVE:
            return None
        return {
            "after": turn(int(among)),
            "given": {name: self._one(redis, process, *each) for name, *each in _rows(told)},
        }

    def _one(self, redis: Redis, process: str, key: str, told: Mapping[str, Any]) -> Any:
        found: list[Any] = []

        def change(pipe: Any) -> None:
            now = _now(redis)
            account = Divided(self._per_minute, lambda: now)
            kept = pipe.get(key)
            if kept:
                known = json.loads(kept)
                account.limiter.restore(known["limiter"])
                account.seen = known["seen"]
            found[:] = [account.exchange(process, told)]
            pipe.multi()
            pipe.set(key, json.dumps({"limiter": account.limiter.state(), "seen": account.seen}), ex=_KEPT)

        redis.transaction(change, key)
        return found[0]

    def _figures(self, redis: Redis) -> dict[int, Any]:
        redis.hset(self._run, "looked", _now(redis))
        for name in (self._run, f"{self._run}:figures", f"{self._run}:processes"):
            redis.expire(name, _KEPT)
        kept: Any = redis.hgetall(f"{self._run}:figures")
        return {int(part): json.loads(each) for part, each in kept.items()}

    def _stop(self, redis: Redis) -> None:
        redis.hset(self._run, "stopped", 1)

    def _salt(self, redis: Redis) -> bytes:
        """What names of accounts are made with, the same for all runs of this Redis."""
        redis.set("prx:limits:salt", secrets.token_hex(16), nx=True)
        found: Any = redis.get("prx:limits:salt")
        return bytes(found)


def _rows(told: Mapping[str, Any]) -> list[tuple[str, str, Any]]:
    return [(name, f"prx:limits:{name}", each) for name, each in told.items()]


def _now(redis: Redis) -> float:
    found: Any = redis.time()
    return float(found[0]) + float(found[1]) / 1e6
