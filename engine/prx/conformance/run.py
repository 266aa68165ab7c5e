"""Recording a case, and playing it back with no network at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prx.client import Client
from prx.conformance import cases
from prx.conformance.cases import Case
from prx.conformance.evidence import Evidence, evidence_of
from prx.errors import ConfigError, ProtocolError

WRONG_KEY = "sk-this-key-is-wrong"
PLAYED_KEY = "sk-played-back-0000"


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a case: the conditions that do not hold, and what was seen."""

    provider: str
    case: str
    failures: tuple[str, ...]
    seen: Mapping[str, Any]


def record(
    case: Case, provider: str, url: str, key: str, evidence: Evidence, path: Path, folders: list[Path]
) -> Result:
    """Ask the server at `url`, and write what was said to `path`."""
    client = _client(provider, url, WRONG_KEY if case.key == "wrong" else key, folders)
    account = client.accounts.get(provider)
    made = _recorder(account.target.secrets, real=url, shown=evidence.base_url, evidence=evidence)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
    with client, made.use_cassette(str(fresh), record_mode="all"):
        result = _result(case, client, provider, evidence.model)
    if not fresh.exists():
        why = (result.seen["error"] or {}).get("message", "nothing was sent")
        raise ConfigError(f"{case.name}: nothing was recorded, and what was there is kept: {why}", provider=provider)
    fresh.replace(path)
    return result


def replay(case: Case, provider: str, path: Path, folders: list[Path]) -> Result:
    """Play a recording back. Raises ProtocolError where it is not played exactly once, and whole."""
    evidence = evidence_of(path)
    key = WRONG_KEY if case.key == "wrong" else PLAYED_KEY
    client = _client(provider, evidence.base_url, key, folders)
    made = _recorder(client.accounts.get(provider).target.secrets)
    with client, made.use_cassette(str(path), record_mode="none") as cassette:
        result = _result(case, client, provider, evidence.model)
        if not cassette.all_played:
            played = f"{cassette.play_count} of {len(cassette)}"
            raise ProtocolError(
                f"{path}: only {played} recorded exchanges were played; record it anew", provider=provider
            )
    return result


def _recorder(*given: Any, **options: Any) -> Any:
    try:
        from prx.conformance.cassette import recorder
    except ImportError:
        hint = "Install it: pip install 'prx-engine[conformance]'"
        raise ConfigError("recordings need the package vcrpy", hint=hint) from None
    return recorder(*given, **options)


def _client(provider: str, url: str, key: str, folders: list[Path]) -> Client:
    settings = {"api_url": url, "api_key": key}
    return Client(config={"providers": {provider: settings}}, providers=list(folders), env={})


def _result(case: Case, client: Client, provider: str, model: str) -> Result:
    spec = client.accounts.get(provider).definition.spec(model)
    seen = cases.play(case, client, provider, model)
    return Result(provider, case.name, tuple(cases.failures(case, spec, seen)), seen)
