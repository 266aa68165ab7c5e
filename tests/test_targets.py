"""Routes with several targets, in both clients: which is asked next, and which rests."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import ExitStack

import pytest
from helpers.byte_server import DONE, HANG, RawServer, delta, response, stream
from helpers.clock import Clock
from judges.dialects import Emulator

import prx
from prx.accounts.choose import ModelRef
from prx.accounts.config import Route, Target
from prx.accounts.targets import Balance
from prx.transport.watchdog import Watchdog

TARGETS = tuple(Target(name) for name in ("a/x", "b/y", "c/z"))
A, B, C = ModelRef("a", "x"), ModelRef("b", "y"), ModelRef("c", "z")


def config(targets, urls, **route):
    providers = {name: {"extends": "openai-chat", "api_url": url, "retries": 0} for name, url in urls.items()}
    return {"providers": providers, "model_routes": [{"pattern": "fast", "targets": targets, **route}]}


def ask(kind, settings, **options):
    if kind is prx.Client:
        with prx.Client(settings, env={}) as client:
            return client.chat("hi", "fast", **options)

    async def main():
        async with prx.AsyncClient(settings, env={}) as client:
            return await client.chat("hi", "fast", **options)

    return asyncio.run(main())


@pytest.mark.parametrize("kind", [prx.Client, prx.AsyncClient])
def test_the_next_target_answers(kind):
    """One that is not there, one that does not know the model, one that answers."""
    with Emulator({"models": ["other"]}) as second, Emulator({"models": ["words"]}) as third:
        urls = {"dead": "http://127.0.0.1:1/v1", "second": second.url, "third": third.url}
        reply = ask(kind, config(["dead/m", "second/words", "third/words"], urls))
    assert (reply.provider, reply.model) == ("third", "words")


@pytest.mark.parametrize("kind", [prx.Client, prx.AsyncClient])
def test_what_is_the_callers_fault_is_asked_of_nobody_else(kind):
    bad = response(400, {"error": {"message": "no such voice"}})
    with RawServer(bad) as first, RawServer(response()) as second:
        with pytest.raises(prx.BadRequestError, match="no such voice"):
            ask(kind, config(["one/m", "two/m"], {"one": first.url, "two": second.url}))
        assert not second.requests


def test_the_last_error_is_reported_with_all_requests():
    with pytest.raises(prx.ProviderConnectionError, match=r"http://127\.0\.0\.1:2"):
        ask(prx.Client, config(["one/m", "two/m"], {"one": "http://127.0.0.1:1/v1", "two": "http://127.0.0.1:2/v1"}))


def test_after_the_first_output_nobody_else_is_asked():
    cut = stream(delta("hel"), delta("lo"))
    with ExitStack() as stack:
        first, second = stack.enter_context(RawServer(cut)), stack.enter_context(RawServer(response()))
        client = stack.enter_context(
            prx.Client(config(["one/m", "two/m"], {"one": first.url, "two": second.url}), env={})
        )
        pieces = []
        with pytest.raises(prx.TruncatedError), client.stream("hi", "fast") as deltas:
            pieces.extend(each.content for each in deltas)
        assert pieces == ["hel", "lo"]
        assert not second.requests


def test_counts_before_any_output_keep_nobody_from_answering():
    """A first event without output, and then an error: the caller has got nothing yet."""
    usage = delta("")[:-2].replace(b'"delta"', b'"x": 1, "delta"') + b"\n\n"
    fails = stream(usage, b'data: {"error": {"message": "overloaded", "code": 500}}\n\n')
    with RawServer(fails) as first, RawServer(stream(delta("so", "stop"), DONE)) as second:
        settings = config(["one/m", "two/m"], {"one": first.url, "two": second.url})
        with prx.Client(settings, env={}) as client, client.stream("hi", "fast") as deltas:
            assert "".join(each.content or "" for each in deltas) == "so"


# ------------------------------------------------------------------ how long each may take


def with_deadlines(targets, urls, **deadlines):
    settings = config(targets, urls)
    for name, seconds in deadlines.items():
        settings["providers"][name]["deadline"] = seconds
    return settings


@pytest.mark.parametrize("kind", [prx.Client, prx.AsyncClient])
def test_a_targets_own_deadline_ends_its_part_and_the_next_one_is_asked(kind):
    with RawServer([HANG]) as first, RawServer([0.6, response()]) as second:
        urls = {"one": first.url, "two": second.url}
        began = time.monotonic()
        reply = ask(kind, with_deadlines(["one/m", "two/m"], urls, one=0.4))
    assert reply.provider == "two"
    assert time.monotonic() - began < 10, "and not after the 60 s of a silent server"


@pytest.mark.parametrize("kind", [prx.Client, prx.AsyncClient])
def test_a_deadline_of_the_only_target_is_that_of_the_call(kind):
    with RawServer([HANG]) as server, pytest.raises(prx.ProviderTimeoutError, match="deadline"):
        ask(kind, with_deadlines(["one/m"], {"one": server.url}, one=0.3))


@pytest.mark.parametrize("kind", [prx.Client, prx.AsyncClient])
def test_no_part_is_longer_than_the_call(kind):
    with RawServer([HANG]) as first, RawServer([HANG]) as second:
        settings = with_deadlines(["one/m", "two/m"], {"one": first.url, "two": second.url}, one=0.3, two=30)
        began = time.monotonic()
        with pytest.raises(prx.ProviderTimeoutError, match="deadline"):
            ask(kind, settings, deadline=0.8)
    assert time.monotonic() - began < 10


def test_a_stream_is_closed_from_elsewhere_in_any_of_its_parts():
    with RawServer([HANG]) as first, RawServer(stream(delta("hel")), HANG) as second:
        settings = with_deadlines(["one/m", "two/m"], {"one": first.url, "two": second.url}, one=0.3, two=60)
        with prx.Client(settings, env={}) as client:
            deltas = client.stream("hi", "fast")
            closing = threading.Timer(1.0, deltas.close)
            closing.start()
            with pytest.raises(prx.Error):
                list(deltas)
            closing.join()


@pytest.mark.parametrize("seconds", [None, 30.0])
def test_to_stop_a_part_that_is_over_stops_the_one_after_it(seconds):
    """The thread that stops it may have found it a moment before."""
    watchdog = Watchdog()
    over = watchdog.guard(60.0) if seconds else watchdog.unwatched()
    part = watchdog.part_of(over, seconds)
    assert not part.stopped
    over.stop()
    assert part.stopped
    assert watchdog.part_of(part, seconds).stopped


# ------------------------------------------------------------------ which is asked first


def test_order():
    assert Balance().order(Route("fast", targets=TARGETS)) == [A, B, C]


def test_least_busy():
    balance, route = Balance(), Route("fast", targets=TARGETS, policy="least_busy")
    for ref in (A, A, B):
        balance.began(ref)
    assert balance.order(route) == [C, B, A]
    balance.ended(A, None, 0)
    balance.ended(A, None, 0)
    assert balance.order(route)[0] == A


def test_weight():
    route = Route("fast", targets=(Target("a/x", 3), Target("b/y", 1)), policy="weight")
    balance = Balance()
    first = [balance.order(route)[0] for _ in range(2000)]
    assert 1400 < first.count(A) < 1600


def test_a_target_rests_after_three_failures_in_a_row():
    clock = Clock()
    balance, route = Balance(clock), Route("fast", targets=TARGETS, cooldown=30)
    for kind in ("server", "server", None, "server", "bad_request", "timeout", "rate_limit", "connection"):
        assert A in balance.order(route)
        balance.began(A)
        balance.ended(A, kind, route.cooldown)
    assert balance.order(route) == [B, C]
    assert balance.resting() == {A: 30}
    clock.now = 30.5
    assert balance.order(route) == [A, B, C]


def test_what_rests_here_is_told_and_what_rests_elsewhere_is_heard():
    clock, told = Clock(), []
    balance, route = Balance(clock), Route("fast", targets=TARGETS, cooldown=30)
    balance.on_rest = lambda *rest: told.append(rest)
    for _ in range(3):
        balance.began(A)
        balance.ended(A, "server", route.cooldown)
    assert told == [(A, 30)]
    balance.rest(B, 10)
    balance.rest(A, 5)  # heard late: it rests for longer here
    assert (balance.resting(), balance.order(route)) == ({A: 30, B: 10}, [C])
    assert len(told) == 1


def test_where_all_rest_all_are_asked():
    balance, route = Balance(Clock()), Route("fast", targets=TARGETS[:1])
    for _ in range(3):
        balance.began(A)
        balance.ended(A, "server", 30)
    assert balance.order(route) == [A]


def test_a_cancelled_call_counts_no_longer():
    with RawServer([HANG]) as server:
        settings = config(["one/m"], {"one": server.url})

        async def main():
            async with prx.AsyncClient(settings, env={}) as client:
                task = asyncio.ensure_future(client.chat("hi", "fast"))
                await asyncio.sleep(0.2)
                running = dict(client.session.balance.running)
                task.cancel()
                await asyncio.wait([task])
                return running, dict(client.session.balance.running)

        before, after = asyncio.run(main())
    assert (before, after) == ({ModelRef("one", "m"): 1}, {ModelRef("one", "m"): 0})


@pytest.mark.parametrize(
    "row",
    [{"targets": ["a/b"], "provider": "a"}, {"targets": ["nobody"]}, {"targets": []}, {"targets": [{"weight": 2}]}],
)
def test_a_route_that_means_nothing_is_refused(row):
    with pytest.raises(prx.ConfigError):
        prx.Client({"model_routes": [{"pattern": "x", **row}]}, env={})
