"""What a recording is evidence of, and what is known of a provider's capabilities."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

from prx.conformance.cases import Case
from prx.errors import ConfigError
from prx.spec import read, schema
from prx.spec.document import printable
from prx.spec.files import data_of
from prx.spec.model import Spec

Kind = Literal["live", "server", "emulated", "corpus"]
MAX_BYTES = 32 << 20
_HEAD = 16 << 10
# What reading something else raises.
NO_RECORDING = (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, RecursionError)
CAPABILITIES = frozenset(schema.load("provider")["$defs"]["capabilities"]["properties"])
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


def value_of(path: Path) -> Any:
    """What stands in a recording's file. Raises ConfigError for one that cannot be read."""
    try:
        return read.value_of(_data(path, MAX_BYTES))
    except NO_RECORDING as error:
        raise no_recording(path, error) from None


def checked(path: Path, value: Any) -> tuple[Evidence, list[dict[str, Any]]]:
    """The evidence in a recording's value, and its exchanges. Raises ConfigError for one that was edited or is none."""
    try:
        evidence, interactions = _evidence(value), value["interactions"]
        digest = digest_of(interactions)
        if not all(is_exchange(row) for row in interactions):
            raise ValueError("an exchange has a request and a response, as `prx record` writes them")
    except NO_RECORDING as error:
        raise no_recording(path, error) from None
    if evidence.digest != digest:
        raise ConfigError(f"{path}: was edited after it was recorded", hint="Record it anew.")
    return evidence, interactions


def _data(path: Path, limit: int) -> bytes:
    data = data_of(path, limit)
    if len(data) > limit:
        raise ValueError(f"more than {limit >> 20} MB")
    return data


def _evidence(value: Any) -> Evidence:
    """The evidence of a recording's value. Raises ValueError, KeyError or TypeError."""
    evidence = Evidence(**value["evidence"])
    if evidence.kind not in KINDS or not all(isinstance(text, str) for text in asdict(evidence).values()):
        raise ValueError(f"its kind of evidence is unknown; known are: {', '.join(KINDS)}")
    return evidence


def is_exchange(row: Any) -> bool:
    """Whether something can be played. Raises KeyError or TypeError."""
    request, response = row["request"], row["response"]
    texts = isinstance(request["method"], str) and isinstance(request["uri"], str)
    tables = isinstance(request["headers"], dict) and isinstance(response["headers"], dict)
    body = "json" in response or isinstance(response["text"], str)
    return texts and tables and body and isinstance(response["status"], int)


def no_recording(path: Path, error: Exception) -> ConfigError:
    """What is said of a file that something else stands in."""
    said = getattr(error, "strerror", None) or error
    return ConfigError(f"{path}: no recording: {printable(' '.join(str(said).split())[:200])}")


def evidence_of(path: Path) -> Evidence:
    """The evidence in a recording. Raises ConfigError for one that was edited or is none."""
    return checked(path, value_of(path))[0]


class Known(NamedTuple):
    """What is known of one rule.

    value  of a capability: True, False, or None where the file says nothing; None of any other rule
    kind   one of KINDS
    says   the words of what was read, and `read` its day
    """

    value: bool | None
    kind: str
    what: str
    date: str
    says: str = ""
    read: str = ""


def known(spec: Spec, cases: Iterable[Case], recordings: Path) -> dict[str, Known]:
    """What is known of each capability that the file speaks of or a recording shows, and of each other rule that
    something was read about: the strongest evidence, and of equally strong the newest.

    recordings: the provider's own folder of them.
    """
    found: dict[str, list[Known]] = {name: [Known(value, "none", "", "")] for name, value in spec.capabilities.items()}
    for row in spec.evidence:
        for name in row.of:
            value = spec.capabilities.get(name, True) if name in CAPABILITIES and row.model == "*" else None
            of_model = ", ".join([row.model] if isinstance(row.model, str) else row.model)
            rule = name if of_model == "*" else f"{name} of {of_model}"
            found.setdefault(rule, []).append(Known(value, row.kind, row.source, row.date, row.says, row.read))
    for case in cases:
        path = recordings / f"{case.name}.yaml"
        if case.needs and path.is_file() and (evidence := glance(path)):
            for name in _shown(case, spec):
                value = spec.capabilities.get(name, True)
                found.setdefault(name, []).append(Known(value, evidence.kind, evidence.what, evidence.date))
    for rows in found.values():
        rows.sort(key=lambda row: row.date, reverse=True)
    return {name: min(rows, key=lambda row: KINDS.index(row.kind)) for name, rows in sorted(found.items())}


def _shown(case: Case, spec: Spec) -> Iterable[str]:
    """The capabilities of which a recording of a case says something: of one that is missing, if it is the only one."""
    denied = [name for name in case.needs if not spec.can(name)]
    if not denied:
        return case.needs
    return denied if len(denied) == 1 and case.proves else ()


def kinds(spec: Spec, recordings: Path) -> list[str]:
    """The kinds of evidence that there is of a provider, the strongest first."""
    path = next(iter(sorted(recordings.glob("*.yaml"))), None) if recordings.is_dir() else None
    found = {row.kind for row in spec.evidence} | ({head.kind} if path and (head := glance(path)) else set())
    return sorted(found, key=KINDS.index)


def glance(path: Path) -> Evidence | None:
    """The evidence at the head of a recording, without reading the rest of it; None where it is none."""
    try:
        head, _, _ = data_of(path, _HEAD).partition(b"\ninteractions:")
        return _evidence(read.value_of(head))
    except NO_RECORDING:
        return None
