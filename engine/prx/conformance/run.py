"""Runs a case: against a server, with or without recording the exchanges, or from a recording, without network."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from prx.accounts.account import Account
from prx.client import Client
from prx.conformance import cases, cassette
from prx.conformance.cases import Case, Difference
from prx.conformance.evidence import Evidence, digest_of
from prx.conformance.limiter import Limiter
from prx.conformance.listener import Listener
from prx.errors import ConfigError, ProtocolError, sealed
from prx.mask import Mask
from prx.session import Run
from prx.spec.model import Spec
from prx.transport.playback import Playback

if TYPE_CHECKING:
    from prx.transport.blocking import Http

Outcome = Literal["passed", "failed", "unclaimed", "skipped", "unrecorded", "limited", "error", "unasked"]
WRONG_KEY = "sk-this-key-is-wrong"
PLAYED_KEY = "sk-played-back-0000"
# {kind of error: outcome}, for errors that show nothing about the case: the server was busy, or was not reached.
_UNJUDGED: Mapping[str, Outcome] = {
    "rate_limit": "limited", "quota": "limited", "connection": "error", "timeout": "error", "server": "error", "config": "error",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a case.

    outcome    passed · failed · unclaimed (it has not passed, and neither the file nor its evidence claims the capability) ·
               skipped (the file denies what the case needs) · unrecorded · limited (the provider wants fewer
               requests, or money) · error (the provider was not reached, or had an error of its own) · unasked (the budget was used up)
    why        a sentence, "" where it has passed
    failures   the conditions that do not hold
    seen       the view that the conditions were evaluated on, see cases.play
    exchanges  requests and responses, without keys
    came       for each failure what was wanted, and what came
    tokens     as the answer reports them; None where it does not
    runs       (how often it was right, of how many runs) of a case that was run several times
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
    came: tuple[Difference, ...] = ()
    tokens: int | None = None
    runs: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Asked:
    """A provider that cases can be run against.

    client   makes a client for one case, from whether it should have a wrong key
    real     its base URL; recordings have `evidence.base_url` in its place
    retries  of a call that fails and may be asked again, in a live run
    limiter  of the account, in a live run
    """

    provider: str
    client: Callable[[bool], Client]
    evidence: Evidence
    real: str
    retries: int = 0
    limiter: Limiter = field(default_factory=Limiter)


def connect(
    provider: str, url: str, key: str, folders: list[Path], *, is_token: bool = False
) -> Callable[[bool], Client]:
    """A function that makes clients of a provider, from whether the key should be wrong. url: "" for the file's own. The key
    is sent as it is; is_token: it is what the provider's auth.token gives.
    """

    def made(settings: dict[str, str]) -> Client:
        return Client(config={"providers": {provider: settings}}, providers=list(folders), env={})

    @sealed
    def client(wrong: bool) -> Client:
        settings = {"api_key": WRONG_KEY if wrong else key, **({"api_url": url} if url else {})}
        first = made(settings)
        auth = first.accounts.definition(provider).spec().auth
        if not (auth.token or auth.jwt):
            return first
        first.close()
        # With auth_style nothing is exchanged.
        own = {"style": auth.style, "name": auth.name, "template": auth.template}
        form = auth.token.sent if is_token and auth.token and auth.token.sent else own
        return made(settings | {f"auth_{name}": text for name, text in form.items() if text})

    return client


def record(case: Case, asked: Asked, path: Path) -> Result:
    """Run a case against the server, and write the exchanges to `path`, unless there were none."""
    started = time.monotonic()
    client = asked.client(case.key == "wrong")
    account = with_token(client, asked.provider)
    secrets = account.secrets
    model = Mask(secrets).text(asked.evidence.model)  # it may come from the server's list, where a key may occur
    failures: list[str] = []

    def evidence() -> Evidence:
        return replace(asked.evidence, model=model, passed=not failures)

    recorder = _recorder()(
        lambda: account.secrets,
        unrecorded=account.token_url,
        real=asked.real,
        shown=asked.evidence.base_url,
        evidence=evidence,
    )
    fresh = path.with_suffix(".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
    with client, recorder.use_cassette(str(fresh), record_mode="all"):
        spec, seen = _played(case, client, asked.provider, asked.evidence.model)
        failures += cases.failures(case, spec, seen)
    if not fresh.exists():
        return _unanswered(asked, case, "nothing was recorded", seen, started)
    fresh.replace(path)
    recording = cassette.load(path)
    return _judged(
        case, spec, asked.provider, seen, recording.evidence, recording.exchanges, started, Mask(account.secrets)
    )


def with_token(client: Client, provider: str) -> Account:
    """The account of a provider. A token that its calls need is got now, since the exchange is no part of what is recorded."""
    account = client.accounts.get(provider)
    if account.source is not None:
        flow = account.source.for_call().obtain(time.time())
        client._whole(Run(flow, account.network, None, None, lambda _: None))  # noqa: SLF001 - as in _ask_through
    return account


def live(case: Case, asked: Asked) -> Result:
    """Run a case against the server, without recording it."""
    started = time.monotonic()
    client = asked.client(case.key == "wrong")
    account = with_token(client, asked.provider)
    mask = Mask(account.secrets)
    with client:
        listener = Listener(client._http(account.network), mask, asked.limiter, account.token_url)  # noqa: SLF001 - see _ask_through
        _ask_through(client, listener)
        spec, seen = _played(case, client, asked.provider, asked.evidence.model, asked.retries)
    exchanges = json.loads(json.dumps(listener.rows))
    if not exchanges:
        return _unanswered(asked, case, "no complete answer", seen, started)
    evidence = replace(asked.evidence, model=mask.text(asked.evidence.model), digest=digest_of(exchanges))
    return _judged(case, spec, asked.provider, seen, evidence, exchanges, started, mask)


def replay(case: Case, provider: str, path: Path, folders: list[Path]) -> Result:
    """Run a case from a recording. Raises ConfigError for a recording that was edited or lacks a request of the case, and
    ProtocolError where some of its exchanges are left over.
    """
    started = time.monotonic()
    recording = cassette.load(path)
    client = connect(provider, recording.evidence.base_url, PLAYED_KEY, folders)(case.key == "wrong")
    account = client.accounts.get(provider)
    evidence = _completed(recording.evidence, account, path)
    mask = Mask([*account.secrets, *recording.secrets])
    playback = Playback(recording.interactions, mask, str(path))
    with client:
        _ask_through(client, playback)
        spec, seen = _played(case, client, provider, evidence.model)
    if playback.missing is not None:
        raise playback.missing
    if not playback.all_played:
        played = f"{playback.play_count} of {len(playback)}"
        raise ProtocolError(f"{path}: only {played} recorded exchanges were played; record it again", provider=provider)
    return _judged(case, spec, provider, seen, evidence, recording.exchanges, started, mask)


def check_recorder() -> None:
    """Raises ConfigError where vcrpy, which recording needs, is not installed."""
    _recorder()


def _ask_through(client: Client, transport: Playback | Listener) -> None:
    """Give a client another transport than the network. Only conformance does, so it is not a public part of the client."""
    client._playback = cast("Http", transport)  # noqa: SLF001 - as above; it has the same methods as Http


def _completed(evidence: Evidence, account: Account, path: Path) -> Evidence:
    """The evidence, with base_url and model taken from the account where a recording by others does not name them."""
    model = evidence.model or account.definition.spec().models.default
    if not model:
        raise ConfigError(f"{path}: no request in it names a model, and the provider's file has no models.default")
    return replace(evidence, base_url=evidence.base_url or account.target.base_url, model=model)


def _played(case: Case, client: Client, provider: str, model: str, retries: int = 0) -> tuple[Spec, dict[str, Any]]:
    spec = client.accounts.get(provider).definition.spec(model)
    return spec, cases.play(case, client, provider, model, retries)


def _judged(
    case: Case, spec: Spec, provider: str, seen: Mapping[str, Any], evidence: Evidence, exchanges: list[dict[str, Any]], started: float,
    mask: Mask,
) -> Result:  # fmt: skip
    failures = tuple(cases.failures(case, spec, seen))
    error = seen["error"] or {}
    outcome: Outcome = _UNJUDGED.get(error.get("kind", ""), "failed") if failures else "passed"
    came = tuple(_came(cases.difference(row, seen, mask.text), error) for row in failures)
    why = f"{error['kind']}: {error['message']}" if error else "; ".join(map(str, came))
    return Result(
        provider, case.name, outcome, why if failures else "", failures, seen, evidence, tuple(exchanges),
        time.monotonic() - started, came, _tokens(seen),
    )  # fmt: skip


def _came(found: Difference, error: Mapping[str, Any]) -> Difference:
    """A difference; where an error came in place of a reply, with the error as what came."""
    if not error or found.condition.startswith("error."):
        return found
    return found._replace(path="", wanted=found.condition, came=f"{error['kind']}: {error['message']}")


def _tokens(seen: Mapping[str, Any]) -> int | None:
    """The tokens that the answer reports, or None. A call that was refused costs none."""
    usage = (seen["reply"] or (seen["error"] or {}).get("partial") or {}).get("usage")
    if usage is None:
        return 0 if seen["reply"] is None else None
    total: int = usage["total_tokens"]
    return total


def _unanswered(asked: Asked, case: Case, lead: str, seen: Mapping[str, Any], started: float) -> Result:
    why = (seen["error"] or {}).get("message", "nothing was sent")
    return Result(asked.provider, case.name, "error", f"{lead}: {why}", seconds=time.monotonic() - started)


def _recorder() -> Callable[..., Any]:
    """recorder.recorder, which needs vcrpy. Raises ConfigError where that is not installed."""
    try:
        from prx.conformance.recorder import recorder
    except ImportError:
        raise ConfigError("recording needs the package vcrpy: pip install 'prx-engine[conformance]'") from None
    return recorder
