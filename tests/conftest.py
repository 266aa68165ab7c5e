"""What every test has: no network beyond loopback, none of this machine's settings, our own small server."""

from __future__ import annotations

import gc
import os
import signal
import sys

# Tests start processes by the dozen. Where Python keeps nothing of what it compiles, each would compile the engine anew.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import pytest  # noqa: E402
from helpers.async_as_blocking import AsyncAsBlocking  # noqa: E402
from helpers.served import services  # noqa: E402
from hypothesis import settings  # noqa: E402
from judges.dialects import Emulator  # noqa: E402

import prx  # noqa: E402
from prx.emulator.server import Emulator as OwnEmulator  # noqa: E402

# The same examples on every machine, in every run: a red test is somebody's change and not somebody's luck. What has
# not been thought of is looked for by tests/fuzz. .ci/run takes --hypothesis-profile=settled: 40 of each kind.
settings.register_profile("quick", derandomize=True, deadline=None, max_examples=5)
settings.register_profile("settled", derandomize=True, deadline=None, max_examples=40)
settings.register_profile("search", deadline=None, max_examples=2000)
settings.load_profile("quick")


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: many tests wait, for a clock or a process."""
    return (getattr(os, "process_cpu_count", os.cpu_count)() or 1) + 1


def pytest_collection_finish() -> None:
    """What thousands of collected tests are made of is not looked through again at each collection of garbage.

    And one comes after more objects than usual: what tests leave in circles is theirs to count, with a collection.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


@pytest.fixture(autouse=True, scope="session")
def state(tmp_path_factory):
    """Conversations of the commands that tests run are kept in a folder of the tests, and not with those of whoever runs them."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture
def emulator():
    with Emulator(
        {"models": ["words", "words-reasoner", "words-responses"], "only_at": {"words-responses": "/responses"}}
    ) as running:
        yield running


@pytest.fixture(params=["Client", "AsyncClient"])
def client_class(request, monkeypatch):
    """A test is run with both clients: `prx.Client` is one that asks the asynchronous one, the second time."""
    if request.param == "AsyncClient":
        monkeypatch.setattr(prx, "Client", AsyncAsBlocking)
    yield request.param
    AsyncAsBlocking.close_all()


@pytest.fixture(scope="module")
def upstream():
    """A provider behind services, of one model."""
    with OwnEmulator({"models": ["words"]}) as running:
        yield running


@pytest.fixture
def own(tmp_path):
    """Starts services with configurations of their own."""
    with services(tmp_path) as start:
        yield start


if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # what a shell starts in the background; its children would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
