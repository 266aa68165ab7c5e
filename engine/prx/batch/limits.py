"""Reads what the headers of an answer say about limits: how many requests or tokens, how many are left, until when.

Vendors agree on the words (ratelimit, limit, remaining, reset, requests, tokens), not on their order nor on what stands
before them. So a name is taken apart into its words, and no vendor is known here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from prx.wire import Head

MINUTE = 60.0
_WHAT = ("limit", "remaining", "reset")
_COUNTED = {"req": "requests", "request": "requests", "requests": "requests", "token": "tokens", "tokens": "tokens"}
_PARTS = ("input", "output")  # tokens that some count apart
_WINDOWS = {"second": 1.0, "minute": MINUTE, "hour": 3600.0, "day": 86400.0, "month": 30 * 86400.0}
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_EPOCH, _EPOCH_MS = 1e9, 1e11  # a reset of so many seconds is a date; of so many again, one in milliseconds


class Said(NamedTuple):
    """What a header's name says: one of _WHAT, what is counted, and the window in seconds, None where none is named."""

    what: str
    counted: str
    window: float | None


class Limit(NamedTuple):
    """A limit, None for what is not said. reset: seconds until all of it is there again. window: its length in seconds."""

    limit: float | None = None
    remaining: float | None = None
    reset: float | None = None
    window: float | None = None

    @property
    def per_second(self) -> float | None:
        """The rate of a limit for a minute or less; None for one that is not said, or is for a longer time.

        Where the name has no window it is a minute, as everywhere where none is named, unless the reset is further away.
        """
        window = self.window or (MINUTE if self.reset is None or self.reset <= MINUTE else None)
        return self.limit / window if self.limit and window is not None and window <= MINUTE else None


@lru_cache(maxsize=1024)
def said_by(name: str) -> Said | None:
    """What the name of a header says, in lower case; None where it is about something else."""
    words = name.replace("rate-limit", "ratelimit").split("-")
    if "ratelimit" not in words:
        return None
    words = words[words.index("ratelimit") + 1 :]
    what = [word for word in _WHAT if word in words]
    if len(what) != 1:
        return None
    counted = next((_COUNTED[word] for word in words if word in _COUNTED), "requests")
    part = next((f"{word} " for word in _PARTS if word in words), "")
    return Said(what[0], part + counted, next((_WINDOWS[word] for word in words if word in _WINDOWS), None))


def read(head: Head) -> Mapping[str, Limit]:
    """{what is counted: its Limit} of the headers of an answer."""
    found: dict[str, Limit] = {}
    for name, text in head.headers.items():
        said = said_by(name)
        if said is None:
            continue
        value = seconds(text, head.received) if said.what == "reset" else number(text)
        if value is not None:
            row = found.get(said.counted, Limit())
            found[said.counted] = row._replace(**{said.what: value}, window=said.window or row.window)
    return found


def number(text: str) -> float | None:
    """The number that a value begins with: some add a policy behind it."""
    found = _NUMBER.match(text.strip())
    return float(found[0]) if found else None


def seconds(text: str, now: float) -> float | None:
    """Seconds from now, from a number, a duration such as 6m0s, a date, or epoch seconds or milliseconds."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        value = float(text)
        if value >= _EPOCH:
            value = (value / 1000 if value >= _EPOCH_MS else value) - now
        return max(0.0, value)
    pieces = _DURATION.findall(text)
    if pieces and "".join(map("".join, pieces)) == text:
        return sum(float(count) * _SECONDS[unit] for count, unit in pieces)
    try:
        return max(0.0, datetime.fromisoformat(text).timestamp() - now)
    except ValueError:
        return None
