"""Runs many cases against many providers.

A case whose capability the provider's file denies is run all the same where there is a recording or the run is live, on
the file with that capability set to true: a capability that the file denies wrongly is a fault as well.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from prx import resources
from prx.client import Client
from prx.conformance import run
from prx.conformance.cases import Case
from prx.conformance.evidence import Evidence
from prx.conformance.run import Asked, Result
from prx.errors import Error
from prx.spec.model import Spec

Mode = Literal["replay", "live", "record"]


@dataclass(frozen=True, slots=True)
class Plan:
    """The settings of a run.

    folders     of provider files, besides the packaged one
    recordings  a folder with a folder of recordings for each provider
    config      path of the configuration for live calls, None for the usual one
    model       for live calls; "" for that of the configuration or the provider's file
    """

    mode: Mode
    cases: Sequence[Case]
    folders: Sequence[Path] = ()
    recordings: Path = Path("cassettes")
    config: str | None = None
    model: str = ""


def default_recordings(mode: Mode = "replay") -> Path:
    """The folder "cassettes" of the working directory; if it does not exist and mode is not record, the packaged one."""
    here = Path("cassettes")
    return here if mode == "record" or here.is_dir() else resources.folder("cassettes")


def results(plan: Plan, provider: str, spec: Spec) -> Iterator[Result]:
    """The result of each case, as soon as it is there. An Error in a case is a result, too."""
    asked = _asked(plan, provider, spec) if plan.mode != "replay" else None
    for case in plan.cases:
        try:
            yield _result(plan, provider, spec, case, asked)
        except Error as error:
            yield Result(provider, case.name, "failed" if plan.mode == "replay" else "error", error.summary())


def _result(plan: Plan, provider: str, spec: Spec, case: Case, asked: Asked | None) -> Result:
    denied = [name for name in case.needs if not spec.can(name)]
    if case.key == "wrong" and spec.auth.style == "none":
        return Result(provider, case.name, "skipped", "the provider takes no key")
    path = plan.recordings / spec.id / f"{case.name}.yaml"
    if asked is None and not path.is_file():
        why = f"capabilities.{denied[0]}: false" if denied else "nothing was recorded"
        return Result(provider, case.name, "skipped" if denied else "unrecorded", why)
    if denied:
        return _denied(plan, provider, case, asked, path, denied)
    if asked is None:
        return run.replay(case, provider, path, list(plan.folders))
    result = run.record(case, asked, path) if plan.mode == "record" else run.live(case, asked)
    unclaimed = _unclaimed(spec, case)
    if result.outcome == "failed" and unclaimed:
        return replace(result, outcome="unclaimed", why=f"the file does not say {unclaimed}: true; {result.why}")
    return result


def _unclaimed(spec: Spec, case: Case) -> str:
    """The key of the file that would claim what a case needs, and that the file does not have; or ""."""
    if case.key == "wrong" and not spec.auth.required:
        return "auth.required"  # many servers of one's own take any key
    return next((f"capabilities.{name}" for name in case.needs if not _claimed(spec, name)), "")


def _claimed(spec: Spec, capability: str) -> bool:
    """Whether the provider's file, or the evidence that it cites, claims a capability."""
    return spec.capabilities.get(capability, False) or any(capability in row.of for row in spec.evidence)


def _denied(plan: Plan, provider: str, case: Case, asked: Asked | None, path: Path, denied: list[str]) -> Result:
    """Run a case whose capability the file denies, on a copy of the file with the capability set to true."""
    with tempfile.TemporaryDirectory(prefix="prx-") as folder:
        flags = ", ".join(f"{name}: true" for name in denied)
        Path(folder, f"{provider}.yaml").write_text(
            f"spec: 1\nid: {provider}\nextends: {provider}\ncapabilities: {{{flags}}}\n", encoding="utf-8"
        )
        folders = [Path(folder), *plan.folders]  # the first is the strongest
        if asked is None:
            result = run.replay(case, provider, path, folders)
        else:
            enabled = replace(asked, client=_clients(replace(plan, folders=folders), provider, asked.real))
            result = run.record(case, enabled, path) if plan.mode == "record" else run.live(case, enabled)
    if result.outcome == "passed" and case.proves:
        why = f"the file says capabilities.{denied[0]}: false, but the case passes"
        return replace(result, outcome="failed", why=why)
    verdict = "which this case does not test" if result.outcome == "passed" else "which is right"
    why = f"capabilities.{denied[0]}: false, {verdict}"
    return Result(provider, case.name, "skipped", why, evidence=result.evidence)


def _asked(plan: Plan, provider: str, spec: Spec) -> Asked:
    """The provider with the URL, key and model of the user's configuration. Raises Error."""
    with Client(config=plan.config, providers=list(plan.folders)) as client:
        account = client.accounts.get(provider)
        url = account.target.base_url
        model = plan.model or account.settings.model or spec.models.default or client.models(provider)[0]
    now = datetime.now(UTC).date().isoformat()
    evidence = Evidence("live", spec.name, now, url, model)
    return Asked(provider, _clients(plan, provider, url), evidence, url)


def _clients(plan: Plan, provider: str, url: str) -> Callable[[bool], Client]:
    wrong_key = run.connect(provider, url, run.WRONG_KEY, list(plan.folders))

    def client(wrong: bool) -> Client:
        return wrong_key(True) if wrong else Client(config=plan.config, providers=list(plan.folders))

    return client
