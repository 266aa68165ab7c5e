"""Asking a case: of a server, with what is said recorded, or of a recording, with no network at all."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from prx.client import Client
from prx.conformance import cases
from prx.conformance.cases import Case
from prx.conformance.evidence import Evidence, recorded
from prx.errors import ConfigError, ProtocolError, sealed
from prx.mask import Mask
from prx.spec.model import Spec

Outcome = Literal["passed", "failed", "skipped", "unrecorded", "limited", "error"]
WRONG_KEY = "sk-this-key-is-wrong"
PLAYED_KEY = "sk-played-back-0000"
# What says nothing of what a provider can do: it would not be asked, or could not be reached.
_UNJUDGED: Mapping[str, Outcome] = {
    "rate_limit": "limited", "quota": "limited", "connection": "error", "timeout": "error", "server": "error", "config": "error",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a case.

    outcome    passed · failed · skipped (the file denies what it needs) · unrecorded · limited (the provider wants
               fewer requests, or money) · error (not reached, not well)
    why        in a sentence, where it did not pass
    failures   the conditions that do not hold
    seen       what the conditions looked at
    exchanges  requests and responses, without keys
    """

    provider: str
    case: str
    outcome: Outcome = "passed"
    why: str = ""
    failures: tuple[str, ...] = ()
    seen: Mapping[str, Any] = field(default_factory=dict)
    evidence: Evidence | None = None
    exchanges: tuple[Mapping[str, Any], ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A provider that can be asked.

    client  makes a client of its own for a case; wrong: with a key that nobody has
    real    where it is; `evidence.base_url` is how that is written in recordings
    """

    provider: str
    client: Callable[[bool], Client]
    evidence: Evidence
    real: str


def connect(provider: str, url: str, key: str, folders: list[Path]) -> Callable[[bool], Client]:
    """Makes clients of a provider at an address, with that key or with a wrong one."""

    @sealed
    def client(wrong: bool) -> Client:
        settings = {"api_url": url, "api_key": WRONG_KEY if wrong else key}
        return Client(config={"providers": {provider: settings}}, providers=list(folders), env={})

    return client


def record(case: Case, asked: Asked, path: Path) -> Result:
    """Ask, and write what was said to `path`; what was there before is kept where nothing was said."""
    started = time.monotonic()
    client = asked.client(case.key == "wrong")
    secrets = client.accounts.get(asked.provider).target.secrets
    model = Mask(secrets).text(asked.evidence.model)  # of the server's own list, it may be
    made = _recorder(
        secrets, real=asked.real, shown=asked.evidence.base_url, evidence=replace(asked.evidence, model=model)
    )
    fresh = path.with_suffix(".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
    with client, made.use_cassette(str(fresh), record_mode="all"):
        spec, seen = _played(case, client, asked.provider, asked.evidence.model)
    if not fresh.exists():
        why = (seen["error"] or {}).get("message", "nothing was sent")
        return Result(
            asked.provider, case.name, "error", f"nothing was recorded: {why}", seconds=time.monotonic() - started
        )
    fresh.replace(path)
    evidence, exchanges = recorded(path)
    return _judged(case, spec, asked.provider, seen, evidence, exchanges, time.monotonic() - started)


def live(case: Case, asked: Asked) -> Result:
    """Ask, and keep nothing but the result."""
    with tempfile.TemporaryDirectory(prefix="prx-") as folder:
        return record(case, asked, Path(folder) / f"{case.name}.yaml")


def replay(case: Case, provider: str, path: Path, folders: list[Path]) -> Result:
    """Play a recording back. Raises ConfigError for one that was edited, ProtocolError where it is not played
    exactly once, and whole.
    """
    started = time.monotonic()
    evidence, exchanges = recorded(path)
    client = connect(provider, evidence.base_url, PLAYED_KEY, folders)(case.key == "wrong")
    made = _recorder(client.accounts.get(provider).target.secrets)
    with client, made.use_cassette(str(path), record_mode="none") as cassette:
        spec, seen = _played(case, client, provider, evidence.model)
        if not cassette.all_played:
            played = f"{cassette.play_count} of {len(cassette)}"
            raise ProtocolError(
                f"{path}: only {played} recorded exchanges were played; record it anew", provider=provider
            )
    return _judged(case, spec, provider, seen, evidence, exchanges, time.monotonic() - started)


def _played(case: Case, client: Client, provider: str, model: str) -> tuple[Spec, dict[str, Any]]:
    spec = client.accounts.get(provider).definition.spec(model)
    return spec, cases.play(case, client, provider, model)


def _judged(
    case: Case, spec: Spec, provider: str, seen: Mapping[str, Any], evidence: Evidence, exchanges: list[dict[str, Any]], seconds: float
) -> Result:  # fmt: skip
    failures = tuple(cases.failures(case, spec, seen))
    error = seen["error"] or {}
    outcome: Outcome = _UNJUDGED.get(error.get("kind", ""), "failed") if failures else "passed"
    said = f"{error['kind']}: {error['message']}" if error else f"does not hold: {'; '.join(failures)}"
    why = said if failures else ""
    return Result(provider, case.name, outcome, why, failures, seen, evidence, tuple(exchanges), seconds)


def _recorder(*given: Any, **options: Any) -> Any:
    try:
        from prx.conformance.cassette import recorder
    except ImportError:
        hint = "Install it: pip install 'prx-engine[conformance]'"
        raise ConfigError("recordings need the package vcrpy", hint=hint) from None
    return recorder(*given, **options)
