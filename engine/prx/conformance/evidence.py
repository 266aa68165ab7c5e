"""The evidence that a recording gives, and how the capabilities of a provider are known."""

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
# The exceptions of reading a file that is not a recording.
NO_RECORDING = (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, RecursionError)
CAPABILITIES = frozenset(schema.load("provider")["$defs"]["capabilities"]["properties"])
KINDS = ("live", "server", "documented", "emulated", "none")  # the strongest first


@dataclass(frozen=True, slots=True)
class Evidence:
    """The source of a recording.

    kind      live: the provider itself · server: a real server of it on this machine · emulated: prx's emulator
              · corpus: others made it
    what      name and version of the source
    date      YYYY-MM-DD
    base_url  of the recorded requests
    model     the model that was called
    digest    of the exchanges; a recording with another one was edited, and is refused
    passed    whether the case passed when it was recorded; such a recording shows that the provider can do it
    """

    kind: Kind
    what: str
    date: str
    base_url: str
    model: str
    digest: str = ""
    passed: bool = True


def digest_of(interactions: Any) -> str:
    """A short digest of the exchanges of a recording."""
    text = json.dumps(interactions, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def value_of(path: Path) -> Any:
    """The YAML value of a recording's file. Raises ConfigError for one that cannot be read."""
    try:
        return read.value_of(_data(path, MAX_BYTES))
    except NO_RECORDING as error:
        raise no_recording(path, error) from None


def checked(path: Path, value: Any) -> tuple[Evidence, list[dict[str, Any]]]:
    """(evidence, exchanges) of a recording's value. Raises ConfigError for one that was edited, or is not a recording."""
    try:
        evidence, interactions = _evidence(value), value["interactions"]
        digest = digest_of(interactions)
        if not all(is_exchange(row) for row in interactions):
            raise ValueError("an exchange has no request or response as `prx record` writes them")
    except NO_RECORDING as error:
        raise no_recording(path, error) from None
    if evidence.digest != digest:
        raise ConfigError(f"{path}: was edited after it was recorded", hint="Record it again.")
    return evidence, interactions


def _data(path: Path, limit: int) -> bytes:
    data = data_of(path, limit)
    if len(data) > limit:
        raise ValueError(f"more than {limit >> 20} MB")
    return data


def _evidence(value: Any) -> Evidence:
    """The evidence of a recording's value. Raises ValueError, KeyError or TypeError."""
    evidence = Evidence(**value["evidence"])
    texts = [value for name, value in asdict(evidence).items() if name != "passed"]
    sound = all(isinstance(text, str) for text in texts) and isinstance(evidence.passed, bool)
    if evidence.kind not in KINDS or not sound:
        raise ValueError(f"its kind of evidence is unknown; known are: {', '.join(KINDS)}")
    return evidence


def is_exchange(row: Any) -> bool:
    """Whether a value is an exchange that can be played. Raises KeyError or TypeError where it is not a mapping of one."""
    request, response = row["request"], row["response"]
    texts = isinstance(request["method"], str) and isinstance(request["uri"], str)
    tables = isinstance(request["headers"], dict) and isinstance(response["headers"], dict)
    body = "json" in response or isinstance(response["base64" if "base64" in response else "text"], str)
    return texts and tables and body and isinstance(response["status"], int)


def no_recording(path: Path, error: Exception) -> ConfigError:
    """The error of a file that is not a recording."""
    reason = getattr(error, "strerror", None) or error
    return ConfigError(f"{path}: not a recording: {printable(' '.join(str(reason).split())[:200])}")


def evidence_of(path: Path) -> Evidence:
    """The evidence in a recording. Raises ConfigError for one that was edited, or is not a recording."""
    evidence, _ = checked(path, value_of(path))
    return evidence


class Known(NamedTuple):
    """How one rule is known.

    value  of a capability: True, False, or None where the file does not name it; None of any other rule
    kind   one of KINDS
    what   the source: a page, or what was recorded
    date   YYYY-MM-DD
    says   the words of the source; read: the day on which it was read
    """

    value: bool | None
    kind: str
    what: str
    date: str
    says: str = ""
    read: str = ""


def known(spec: Spec, cases: Iterable[Case], recordings: Path) -> dict[str, Known]:
    """{rule: its strongest evidence, of equally strong ones the newest}: of each capability that the file names or a
    recording shows, of each kind of call that a recording shows, and of each other rule that has evidence.

    recordings: the folder of the provider's recordings
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
        shows = case.needs or (case.kind and not case.may_refuse)
        if shows and path.is_file() and (evidence := glance(path)) and evidence.passed:
            if case.kind:
                shown = Known(None, evidence.kind, evidence.what, evidence.date)
                found.setdefault(f"calls.{case.kind}", []).append(shown)
            for name in _shown(case, spec):
                value = spec.capabilities.get(name, True)
                found.setdefault(name, []).append(Known(value, evidence.kind, evidence.what, evidence.date))
    for rows in found.values():
        rows.sort(key=lambda row: row.date, reverse=True)
    return {name: min(rows, key=lambda row: KINDS.index(row.kind)) for name, rows in sorted(found.items())}


def _shown(case: Case, spec: Spec) -> Iterable[str]:
    """The capabilities that a recording of a case proves: all that the case needs, or the only one that the file denies."""
    denied = [name for name in case.needs if not spec.can(name)]
    if not denied:
        return case.needs
    return denied if len(denied) == 1 and denied[0] in case.proves else ()


def kinds(spec: Spec, recordings: Path) -> list[str]:
    """The kinds of evidence for a provider's capabilities, the strongest first."""
    path = next(iter(sorted(recordings.glob("*.yaml"))), None) if recordings.is_dir() else None
    found = {row.kind for row in spec.evidence} | ({head.kind} if path and (head := glance(path)) else set())
    return sorted(found, key=KINDS.index)


def glance(path: Path) -> Evidence | None:
    """The evidence at the head of a recording, without reading the rest; None for a file that is not a recording."""
    try:
        head, _, _ = data_of(path, _HEAD).partition(b"\ninteractions:")
        return _evidence(read.value_of(head))
    except NO_RECORDING:
        return None
