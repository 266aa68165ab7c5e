"""prx serve under load and attack, as a process: several workers, slow and many callers, TLS, logs, and Redis."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
from pathlib import Path

import pytest
from helpers.byte_server import HANG, RawServer, delta, stream
from helpers.served import Service, begun, provider, until

from prx.emulator.server import Emulator


@pytest.fixture(scope="module")
def upstream():
    with Emulator({"models": ["words"]}) as running:
        yield running


@pytest.fixture
def own(tmp_path):
    """Starts services with configurations of their own."""
    started = []

    def start(config, *arguments, **env):
        folder = tmp_path / str(len(started))
        folder.mkdir()
        started.append(Service(folder, config, *arguments, **env))
        return started[-1]

    yield start
    for running in started:
        running.stop()
        assert "Traceback" not in running.log.read_text()


# ------------------------------------------------------------------ several workers


def workers_of(service):
    """The processes that serve, by what /proc says: children of the first one that run Python's spawn_main."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == service.process.pid and b"spawn_main" in (path / "cmdline").read_bytes():
                found.append(int(path.name))
    return found


def counted(text, name):
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if re.match(rf"{name}(\{{| )", line))


def metric(service, name):
    return counted(service.get("/metrics").text, name)


DURATIONS = "gen_ai_server_request_duration_seconds_count"


def test_metrics_are_those_of_all_workers_also_of_one_that_was_replaced(own, upstream):
    running = own(provider("up", upstream.url), "--workers", "2")
    for _ in range(20):
        assert running.chat("up/words").status == 200
    assert until(lambda: metric(running, DURATIONS) == 20)
    first, _ = workers_of(running)
    os.kill(first, signal.SIGKILL)
    assert until(lambda: len(workers_of(running)) == 2 and first not in workers_of(running))
    assert {metric(running, DURATIONS) for _ in range(10)} == {20}
    assert running.chat("up/words").status == 200
    assert until(lambda: metric(running, DURATIONS) == 21)
    text = running.get("/metrics").text
    assert text.count("\nprx_reload_problems ") == text.count("\nprx_calls_running ") == 1
    assert "pid=" not in text


def test_calls_of_a_worker_that_died_run_no_more(own):
    with RawServer([*stream(delta("hel"), HANG)]) as server:
        running = own(provider("slow", server.url), "--workers", "2")
        with contextlib.ExitStack() as open_calls:
            for _ in range(6):
                open_calls.enter_context(begun(running, "slow/words"))
            assert {metric(running, "prx_calls_running") for _ in range(6)} == {6}
            for pid in workers_of(running):
                os.kill(pid, signal.SIGKILL)
            assert until(lambda: calm(running) == 0)
            assert len(workers_of(running)) == 2


def calm(service):
    with contextlib.suppress(OSError, http.client.HTTPException):
        return metric(service, "prx_calls_running")
    return None


def test_faults_of_a_reload_are_not_counted_once_a_worker(own, upstream):
    text = provider("up", upstream.url)
    running = own(text, "--workers", "3")
    running.file.write_text("[nonsense")
    running.process.send_signal(signal.SIGHUP)
    assert until(lambda: metric(running, "prx_reload_problems") == 1)
    assert {metric(running, "prx_reload_problems") for _ in range(12)} == {1}
    running.file.write_text(text)
    assert until(lambda: metric(running, "prx_reload_problems") == 0)
    assert {metric(running, "prx_reload_problems") for _ in range(12)} == {0}
