"""What every test has: no network beyond loopback, none of this machine's settings, our own small server."""

from __future__ import annotations

import pytest

from prx.emulator.server import Emulator


@pytest.fixture
def emulator():
    with Emulator(
        {"models": ["words", "words-reasoner", "words-responses"], "only_responses": ["words-responses"]}
    ) as running:
        yield running
