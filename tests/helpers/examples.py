"""How many examples a property is tried with, where it is not as many as usual."""

from __future__ import annotations

from hypothesis import settings

SETTLED = 40  # of the profile that .ci/run takes


def settled(count: int) -> settings:
    """So many with the settled profile, and in proportion with another."""
    return settings(max_examples=max(1, count * settings().max_examples // SETTLED))
