"""What every test has: no network beyond loopback, none of this machine's settings, our own small server."""

from __future__ import annotations

import signal

import pytest
from hypothesis import settings

from prx.emulator.server import Emulator

# The same examples on every machine, in every run: a red test is somebody's change and not somebody's luck. What has
# not been thought of is looked for by tests/fuzz. 40 of each kind take half a minute in all.
settings.register_profile("settled", derandomize=True, deadline=None, max_examples=40)
settings.register_profile("search", deadline=None, max_examples=2000)  # --hypothesis-profile=search
settings.load_profile("settled")


@pytest.fixture
def emulator():
    with Emulator(
        {"models": ["words", "words-reasoner", "words-responses"], "only_responses": ["words-responses"]}
    ) as running:
        yield running


if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # what a shell starts in the background; its children would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
