"""Limits that several processes share: what a Holder gives and a Leased makes of it; no socket, and a clock that the tests turn."""

from __future__ import annotations

import asyncio
import pickle
import shutil
import time
from collections import Counter

import pytest
from helpers.clock import Clock
from helpers.engine_here import Held
from helpers.redis_server import RedisServer

import prx
from prx.batch import lease
from prx.batch.lease import Exchange, Holder, Leased, StoppedError
from prx.batch.lease_redis import RedisHeld
from prx.wire import Head

NOW = 1_800_000_000.0
KEY = "sk-lease-0123456789"
ONE = {"requests": 1.0}
NOTHING = {"after": lease._ROUND, "given": {}}


@pytest.fixture
def clock():
    return Clock(100.0)


class Process:
    """A process that has so many calls at once, each of which takes a while, at a server that answers or refuses."""

    def __init__(self, name, holder, clock, server, calls=32, cost=None):
        self.name, self.holder, self.clock, self.server = name, holder, clock, server
        self.limiter = Leased(lambda: None, clock)
        self.calls, self.cost, self.running, self.sent = calls, cost or ONE, [], 0

    def exchange(self, **more):
        told = pickle.loads(pickle.dumps({"a": self.limiter.tell(**more)}))
        self.limiter.take(self.holder.exchange(self.name, told, {})["given"]["a"])

    def step(self):
        for ends in [each for each in self.running if each <= self.clock.now]:
            self.running.remove(ends)
            self.limiter.heard(self.server())
            self.limiter.leave(self.cost)
        while len(self.running) < self.calls and self.limiter.enter(self.cost) == 0:
            self.sent += 1
            self.running.append(self.clock.now + 0.1)


def good():
    return Head(200, {}, NOW)


def run(clock, processes, seconds):
    """Time goes on in steps of 10 ms; the processes exchange one after the other, each ten times a second."""
    for step in range(round(seconds * 100)):
        for place, each in enumerate(processes):
            if step % 10 == (7 * place) % 10:
                each.exchange()
            each.step()
        clock.now += 0.01
    return sum(each.sent for each in processes)


def test_the_callers_limit_holds_for_all_processes_together(clock):
    holder = Holder({"requests": 6000, "tokens": None}, clock)
    sent = run(clock, [Process(str(place), holder, clock, good) for place in range(3)], 20)
    assert 0.95 * 2000 <= sent <= 2000 + 50 + 1


def test_what_one_process_does_not_use_the_others_have(clock):
    holder = Holder({"requests": 6000}, clock)
    small, large = (Process(str(calls), holder, clock, good, calls=calls) for calls in (1, 64))
    assert run(clock, [small, large], 20) >= 0.95 * 2000
    assert small.sent == pytest.approx(200, rel=0.1)


def test_each_of_two_processes_has_its_part(clock):
    holder = Holder({"requests": 6000}, clock)
    both = [Process(name, holder, clock, good, calls=64) for name in "ab"]
    run(clock, both, 20)
    assert min(each.sent for each in both) >= 2000 / 3


def test_tokens_are_counted_as_requests_are(clock):
    holder = Holder({"tokens": 60_000}, clock)
    both = [Process(name, holder, clock, good, cost={"requests": 1.0, "tokens": 100.0}) for name in "ab"]
    assert 0.9 * 200 <= run(clock, both, 20) <= 200 + 5 + 2


def test_where_there_is_no_limit_nobody_waits(clock):
    holder = Holder({}, clock)
    one = Process("a", holder, clock, good, calls=10)
    run(clock, [one], 0.5)
    one.sent = 0
    assert run(clock, [one], 10) == pytest.approx(10 * 10 / 0.1, rel=0.1)


def test_a_limit_in_the_headers_of_one_process_holds_for_all(clock):
    holder = Holder({}, clock)

    def limited():
        return Head(200, {"x-ratelimit-limit-requests": "3000", "x-request-id": "1"}, NOW)

    told = Process("told", holder, clock, limited)
    other = Process("other", holder, clock, good)
    run(clock, [told, other], 2)
    told.sent = other.sent = 0
    assert run(clock, [told, other], 20) == pytest.approx(1000, rel=0.05)


def test_what_is_granted_is_learned_by_all(clock):
    """A server that says nothing of its limit and refuses what is beyond it."""
    level, at = [10.0], [clock.now]

    def server():
        level[0], at[0] = min(10.0, level[0] + (clock.now - at[0]) * 50), clock.now
        if level[0] < 1:
            return Head(429, {}, NOW)
        level[0] -= 1
        granted.append(clock.now)
        return good()

    granted = []
    holder = Holder({}, clock)
    both = [Process(name, holder, clock, server) for name in "ab"]
    run(clock, both, 10)
    granted.clear()
    for each in both:
        each.sent = 0
    sent = run(clock, both, 30)
    assert len(granted) >= 0.95 * 50 * 30
    assert sent - len(granted) <= 0.15 * sent


def test_a_refusal_of_all_pauses_every_process(clock):
    holder = Holder({}, clock)
    refused = Process("a", holder, clock, lambda: Head(429, {"retry-after": "30"}, NOW))
    other = Process("b", holder, clock, good)
    run(clock, [refused, other], 1)
    other.sent = refused.sent = 0
    run(clock, [other], 20)
    assert other.sent <= 2


def test_what_is_left_at_the_end_goes_back(clock):
    holder = Holder({"requests": 60}, clock)
    first = Process("a", holder, clock, good)
    clock.now += 10
    first.exchange()
    level = holder._accounts["a"].limiter.buckets["requests"].level
    assert first.limiter._left >= 1
    first.exchange(ends=True)
    assert holder._accounts["a"].limiter.buckets["requests"].level == pytest.approx(level + 1)


def test_who_wants_much_gets_no_more_than_a_part(clock):
    holder = Holder({"requests": 6000}, clock)
    told = {"heard": [], "used": {}, "wanted": 1000, "cost": ONE}
    holder.exchange("a", {"x": told}, {}), holder.exchange("b", {"x": told}, {})
    clock.now += 1
    given = [holder.exchange(name, {"x": told}, {})["given"]["x"]["given"] for name in "ab"]
    assert given == [10, 5]


def test_of_many_processes_each_comes_less_often(clock):
    holder = Holder({}, clock)
    found = [holder.exchange(str(place), {}, {})["after"] for place in range(100)]
    assert (found[0], found[-1]) == (lease._ROUND, pytest.approx(0.4))
    clock.now += 10
    assert holder.exchange("0", {}, {})["after"] == lease._ROUND


def test_a_run_ends_when_it_is_told_to_and_where_its_program_is_gone(clock):
    holder = Holder({}, clock)
    assert holder.exchange("a", {}, {3: {"rows": 5}}) == NOTHING
    clock.now += 50
    assert holder.figures() == {3: {"rows": 5}}
    assert holder.figures() == {}
    clock.now += 50
    assert holder.exchange("a", {}, {}) == NOTHING
    clock.now += 20
    assert holder.exchange("a", {}, {}) is None
    holder.figures()
    assert holder.exchange("a", {}, {}) == NOTHING
    holder.stop()
    assert holder.exchange("a", {}, {}) is None


class Away:
    """What holds the limits, where it cannot be asked so many times."""

    def __init__(self, times):
        self.times, self.asked, self.found = iter(range(times)), 0, Held(Holder({}))

    def ask(self, *given):
        self.asked += 1
        if next(self.times, None) is not None:
            raise LookupError
        return self.found.ask(*given)


def exchanged(holder, seconds=1.0):
    async def main():
        exchange = Exchange(holder, "a", b"salt", dict)
        await asyncio.wait_for(exchange.run(), seconds)

    asyncio.run(main())


def test_a_holder_that_is_away_for_a_moment_is_asked_again(monkeypatch):
    monkeypatch.setattr(lease, "_ROUND", 0.03)
    away = Away(lease._TRIES - 1)
    with pytest.raises(TimeoutError):
        exchanged(away, 0.5)
    assert away.asked > lease._TRIES


def test_a_holder_that_is_gone_ends_the_work(monkeypatch):
    monkeypatch.setattr(lease, "_ROUND", 0.03)
    with pytest.raises(prx.ConfigError, match="what holds the limits for all workers has gone"):
        exchanged(Away(1000), 5)
    holder = Holder({})
    holder.stop()
    with pytest.raises(StoppedError):
        exchanged(Held(holder), 5)


def test_names_of_accounts_tell_nothing_of_their_keys():
    def named(key, salt):
        async def main():
            config = {"providers": {"compatible": {"api_url": "http://127.0.0.1:9/v1", "api_key": key}}}
            session = prx.Client(config=config, env={}).session
            account, model = session.current().choose("compatible/m")
            exchange = Exchange(Held(Holder({})), "a", salt, dict)
            assert exchange.limiter_of(account, model) is exchange.limiter_of(account, model)
            await exchange.end()
            return [*exchange._limiters], exchange._holder.held

        (name,), holder = asyncio.run(main())
        assert KEY.encode() not in pickle.dumps([name, holder._processes])
        return name

    assert named(KEY, b"1") == named(KEY, b"1")
    assert len({named(KEY, b"1"), named(KEY, b"2"), named(f"{KEY}-other", b"1")}) == 3


# ------------------------------------------------------------------ Redis


@pytest.fixture
def redis(tmp_path):
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    server = RedisServer(tmp_path)
    yield server
    server.stop()


WANTS = {"heard": [], "used": {}, "wanted": 1000, "cost": ONE}


def test_a_redis_divides_the_limits_of_several_runs(redis):
    runs = [RedisHeld(redis.url, name, {"requests": 6000}) for name in "ab"]
    salts = {run.ask("salt") for run in runs}
    assert len(salts) == 1
    for run in runs:
        run.ask("figures")
    given, began = Counter(), time.monotonic()
    while time.monotonic() < began + 2:
        for name, run in zip("ab", runs, strict=True):
            given[name] += pickle.loads(pickle.dumps(run)).ask("exchange", name, {"x": WANTS}, {})["given"]["x"][
                "given"
            ]
    took = time.monotonic() - began
    assert 0.85 * 100 * took <= given.total() <= 100 * took + 20 + 2
    assert min(given.values()) >= given.total() / 3


def test_a_redis_knows_what_was_learned(redis):
    run = RedisHeld(redis.url, "a", {})
    run.ask("figures")
    assert run.ask("exchange", "p", {"x": WANTS}, {3: {"rows": 5}})["given"]["x"] == {"given": None, "pause": 0.0}
    heard = [[200, 30, {"x-ratelimit-limit-requests": "600"}, NOW]]
    run.ask("exchange", "p", {"x": {**WANTS, "heard": heard}}, {})
    time.sleep(0.3)
    other = RedisHeld(redis.url, "b", {})
    assert other.ask("figures") == {}
    assert other.ask("exchange", "q", {"x": WANTS}, {})["given"]["x"]["given"] in (1, 2)
    assert run.ask("figures") == {3: {"rows": 5}}
    run.ask("stop")
    assert run.ask("exchange", "p", {"x": WANTS}, {}) is None
    assert other.ask("exchange", "q", {}, {}) == {"after": lease._ROUND, "given": {}}


def test_a_run_whose_program_is_gone_ends_at_redis_too(redis, monkeypatch):
    monkeypatch.setattr("prx.batch.lease_redis.ALIVE", 0.1)
    run = RedisHeld(redis.url, "a", {})
    assert run.ask("exchange", "p", {}, {}) is None
    run.ask("figures")
    assert run.ask("exchange", "p", {}, {}) is not None
    time.sleep(0.2)
    assert run.ask("exchange", "p", {}, {}) is None


def test_a_redis_that_is_not_there_is_gone(redis, monkeypatch):
    monkeypatch.setenv("REDIS_HOST", "127.0.0.1")
    run = RedisHeld(redis.url.replace("127.0.0.1", "${REDIS_HOST}"), "a", {})
    run.ask("figures")
    redis.stop()
    with pytest.raises(LookupError, match="what the tasks share is gone"):
        run.ask("figures")
    monkeypatch.delenv("REDIS_HOST")
    with pytest.raises(prx.ConfigError, match="--limits: the environment variable REDIS_HOST is not set"):
        pickle.loads(pickle.dumps(run)).ask("figures")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://:plain-password@h:6379", "a password in it would be seen"),
        ("redis://[", "is no URL of a Redis"),
        ("http://h", "is no URL of a Redis"),
    ],
)
def test_a_url_that_cannot_be_used(url, said):
    with pytest.raises(prx.ConfigError, match=said) as caught:
        RedisHeld(url, "a", {}).ask("figures")
    assert "plain-password" not in str(caught.value)
