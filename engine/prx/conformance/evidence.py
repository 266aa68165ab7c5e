"""What a recording is evidence of, and what is known of a provider's capabilities."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

from prx.conformance.cases import Case
from prx.errors import ConfigError
from prx.spec.catalog import read_fast
from prx.spec.model import Spec

Kind = Literal["live", "server", "emulated", "corpus"]
KINDS = ("live", "server", "documented", "emulated", "none")  # the strongest first


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was recorded.

    kind      live: the provider itself · server: a real server of it on this machine · emulated: our emulator
    what      which, in words, with its version
    date      the day, as year-month-day
    base_url  where the requests of the recording go
    model     the model that was asked
    digest    of the exchanges: a recording that was edited is none
    """

    kind: Kind
    what: str
    date: str
    base_url: str
    model: str
    digest: str = ""


def digest_of(interactions: Any) -> str:
    """A short digest of the exchanges of a recording."""
    text = json.dumps(interactions, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def recorded(path: Path) -> tuple[Evidence, list[dict[str, Any]]]:
    """The evidence in a recording, and its exchanges. Raises ConfigError for one that was edited or is none."""
    try:
        value = read_fast(path)
        evidence, interactions = Evidence(**value["evidence"]), value["interactions"]
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: no recording: {' '.join(str(error).split())[:200]}") from None
    if evidence.digest != digest_of(interactions):
        raise ConfigError(f"{path}: was edited after it was recorded", hint="Record it anew.")
    return evidence, interactions


def evidence_of(path: Path) -> Evidence:
    """The evidence in a recording. Raises ConfigError for one that was edited or is none."""
    return recorded(path)[0]


class Known(NamedTuple):
    """What is known of one capability.

    value  True, False, or None where the file says nothing
    kind   one of KINDS
    """

    value: bool | None
    kind: str
    what: str
    date: str


def known(spec: Spec, cases: Iterable[Case], recordings: Path) -> dict[str, Known]:
    """What is known of each capability that the file speaks of or a recording shows: the strongest evidence.

    recordings: the provider's own folder of them.
    """
    found: dict[str, list[Known]] = {name: [Known(value, "none", "", "")] for name, value in spec.capabilities.items()}
    for row in spec.evidence:
        for name in row.of:
            value = spec.capabilities.get(name, True)
            found.setdefault(name, []).append(Known(value, row.kind, row.source, row.date))
    for case in cases:
        path = recordings / f"{case.name}.yaml"
        if case.needs and path.is_file() and case.fits(spec):
            evidence = glance(path)
            for name in case.needs:
                value = spec.capabilities.get(name, True)
                found.setdefault(name, []).append(Known(value, evidence.kind, evidence.what, evidence.date))
    return {name: min(rows, key=lambda row: KINDS.index(row.kind)) for name, rows in sorted(found.items())}


def kinds(spec: Spec, recordings: Path) -> list[str]:
    """The kinds of evidence that there is of a provider, the strongest first."""
    path = next(iter(sorted(recordings.glob("*.yaml"))), None) if recordings.is_dir() else None
    found = {row.kind for row in spec.evidence} | ({glance(path).kind} if path else set())
    return sorted(found, key=KINDS.index)


def glance(path: Path) -> Evidence:
    """The evidence at the head of a recording, without reading the rest of it."""
    lines = []
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.startswith("interactions:"):
                break
            lines.append(line)
    value: Mapping[str, Any] = yaml.safe_load("".join(lines))["evidence"]
    return Evidence(**value)
