"""What became of the calls of a load, by the fault that was injected; and what of it is a violation."""

from __future__ import annotations

from faults import FAULTS
from watching import say

STALE = "stale"  # a kept connection was closed in the very moment in which the last attempt took it
MOST_STALE = 0.01  # part of the calls


def judge(load, violations):
    violations.must(load.calls > 0, "no call was made")
    stale = sum(counts[STALE] for counts in load.outcomes.values())
    violations.must(stale <= 1 + MOST_STALE * load.calls, f"{stale} of {load.calls} calls got a stale connection")
    good = load.outcomes["none"]["success"]
    violations.must(good > load.calls / 2, f"only {good} of {load.calls} calls succeeded at once")


def table(load):
    """Injected fault -> what became of the calls."""
    for fault in ["none", *FAULTS]:
        counts = load.outcomes[fault]
        found = ", ".join(f"{outcome} {count}" for outcome, count in sorted(counts.items()))
        say(f"{fault:28}{sum(counts.values()):7}  {found or 'not drawn'}")
