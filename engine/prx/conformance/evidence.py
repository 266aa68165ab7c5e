"""What a recording is evidence of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

Kind = Literal["live", "server", "emulated"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was recorded.

    kind      live: the provider itself · server: a real server of it on this machine · emulated: our emulator
    what      which, in words, with its version
    date      the day, as year-month-day
    base_url  where the requests of the recording go
    model     the model that was asked
    """

    kind: Kind
    what: str
    date: str
    base_url: str
    model: str


def evidence_of(path: Path) -> Evidence:
    """The evidence in a recording."""
    return Evidence(**yaml.safe_load(path.read_text(encoding="utf-8"))["evidence"])
