"""What headers say of limits, and what a Limiter makes of it: no socket, and a clock that the tests turn."""

from __future__ import annotations

import math

import pytest
from helpers.clock import Clock

from prx.batch import limits
from prx.batch.limiter import Limiter
from prx.wire import Head

NOW = 1_800_000_000.0
ONE = {"requests": 1.0}


def head(status=200, **headers):
    return Head(status, {name.replace("_", "-"): text for name, text in headers.items()}, NOW)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("x-ratelimit-limit-requests", ("limit", "requests", None)),
        ("x-ratelimit-remaining-tokens", ("remaining", "tokens", None)),
        ("vendor-ratelimit-input-tokens-reset", ("reset", "input tokens", None)),
        ("x-ratelimit-limit-req-minute", ("limit", "requests", 60.0)),
        ("x-ratelimit-remaining-requests-day", ("remaining", "requests", 86400.0)),
        ("x-rate-limit-limit", ("limit", "requests", None)),
        ("ratelimit-remaining", ("remaining", "requests", None)),
        ("retry-after", None),
        ("x-ratelimit-policy", None),
    ],
)
def test_names_of_headers(name, said):
    assert limits.said_by(name) == said


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("12", 12), ("0.5", 0.5), ("6m0s", 360), ("2m59.56s", 179.56), ("20ms", 0.02), ("1h", 3600), ("2027-01-15T08:00:30Z", 30),
     (f"{NOW + 9:.0f}", 9), (f"{(NOW + 9) * 1000:.0f}", 9), ("soon", None), ("", None)],
)  # fmt: skip
def test_times_of_resets(text, seconds):
    assert limits.seconds(text, NOW) == (None if seconds is None else pytest.approx(seconds))


@pytest.fixture
def clock():
    return Clock(100.0)


def begun(limiter, clock, seconds, status=200, **headers):
    """How many requests begin within so many seconds, where each is answered at once; and refused ones are not repeated."""
    until, count = clock.now + seconds, 0
    while clock.now < until:
        wait = limiter.enter(ONE)
        if wait:
            clock.now += min(max(wait, 0.001), 0.25)
            continue
        count += 1
        limiter.heard(head(status, **headers))
        limiter.leave(ONE)
        clock.now += 0.001
    return count


def test_the_callers_limit_holds(clock):
    limiter = Limiter(clock)
    limiter.allow({"requests": 600.0, "tokens": None})
    assert begun(limiter, clock, 10) == pytest.approx(100, abs=4)


def test_the_limit_in_the_headers_holds_and_not_one_for_a_day(clock):
    limiter = Limiter(clock)
    told = {
        "x-ratelimit-limit-requests": "1200",
        "x-ratelimit-remaining-requests": "900",
        "x-ratelimit-reset-requests": "15s",
    }
    assert begun(limiter, clock, 10, **told) == pytest.approx(200, abs=8)
    limiter = Limiter(clock)
    told = {"x-ratelimit-limit-requests-day": "1200", "x-ratelimit-remaining-requests-day": "900"}
    assert begun(limiter, clock, 1, **told) > 500
    told["x-ratelimit-remaining-requests-day"] = "0"
    told["x-ratelimit-reset-requests-day"] = "50s"
    assert begun(limiter, clock, 45, **told) == 1


def test_tokens_are_limited_by_what_was_used(clock):
    limiter = Limiter(clock)
    limiter.allow({"tokens": 6000.0})
    cost, count, until = {"requests": 1.0, "tokens": 5.0}, 0, clock.now + 20
    while clock.now < until:
        if wait := limiter.enter(cost):
            clock.now += min(wait, 0.25)
            continue
        count += 1
        limiter.heard(head())
        limiter.leave(cost, {"tokens": 50.0})
    assert count == pytest.approx(40, abs=3)


def test_where_all_are_refused_nobody_asks_until_the_time_that_is_named(clock):
    limiter = Limiter(clock)
    count = begun(limiter, clock, 25, status=429, **{"retry-after": "30"})
    assert count == 5
    clock.now += 5
    assert limiter.enter(ONE) == 0
    assert limiter.enter(ONE) > 0  # one, to see
    limiter.heard(head())
    assert limiter.enter(ONE) == 0


def test_pauses_double_where_no_time_is_named(clock):
    limiter = Limiter(clock)
    assert begun(limiter, clock, 60, status=429) <= 5 + 20


def test_a_few_refusals_change_nothing(clock):
    limiter = Limiter(clock)
    for place in range(2000):
        assert limiter.enter(ONE) == 0
        limiter.heard(head(429 if place % 40 == 0 else 200))
        limiter.leave(ONE)
        clock.now += 0.005
    assert limiter.buckets["requests"].rate == math.inf


def test_the_rate_becomes_what_is_granted(clock):
    """A server that allows 100 a second and says nothing."""
    limiter, level, at, granted = Limiter(clock), 10.0, clock.now, []
    until = clock.now + 60
    while clock.now < until:
        if wait := limiter.enter(ONE):
            clock.now += min(max(wait, 0.001), 0.25)
            continue
        level, at = min(10.0, level + (clock.now - at) * 100), clock.now
        allowed = level >= 1
        level -= allowed
        granted += [clock.now] * allowed
        limiter.heard(head(200 if allowed else 429))
        limiter.leave(ONE)
        clock.now += 0.001
    assert len([when for when in granted if when > until - 30]) > 0.9 * 100 * 30


def test_calls_at_once_grow_and_are_cut(clock):
    limiter = Limiter(clock)
    for _ in range(100):
        while limiter.enter(ONE) == 0:
            pass
        for _ in range(limiter.running):
            limiter.heard(head())
            limiter.leave(ONE)
        clock.now += 0.1
        if limiter.most > 100:
            break
    assert limiter.most > 100
    before = limiter.most
    for _ in range(30):
        clock.now += 0.1
        limiter.heard(None)
    assert limiter.most < before
