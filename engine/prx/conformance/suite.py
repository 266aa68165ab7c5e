"""Runs many cases against many providers.

A case whose capability the provider's file denies is run all the same where there is a recording or the run is live, on
the file with that capability set to true: a capability that the file denies wrongly is a fault as well.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple
from weakref import WeakSet

from prx import resources
from prx.calls import closed_early
from prx.client import Client
from prx.conformance import cases, run
from prx.conformance.cases import Case
from prx.conformance.evidence import Evidence, glance
from prx.conformance.limiter import Limiters
from prx.conformance.run import Asked, Result
from prx.errors import ConfigError, Error
from prx.spec.definition import Definition
from prx.spec.model import Spec

_OF_A_CHAT = ("count_tokens", "complete")  # kinds for which the model of a chat will do
Mode = Literal["replay", "live", "record"]


@dataclass(frozen=True, slots=True)
class Plan:
    """The settings of a run.

    folders     of provider files, besides the packaged one
    recordings  a folder with a folder of recordings for each provider
    config      path of the configuration for live calls, None for the usual one
    model       for live calls; "" for that of the configuration or the provider's file
    models      {kind of a call that is no chat: its model}
    retries     of a live call that fails and may be asked again
    """

    mode: Mode
    cases: Sequence[Case]
    folders: Sequence[Path] = ()
    recordings: Path = Path("cassettes")
    config: str | None = None
    model: str = ""
    retries: int = 0
    models: Mapping[str, str] = field(default_factory=dict)

    def concerns(self, case: Case, spec: Spec) -> bool:
        """Whether a provider has a result of a case: by its file, or since there is a recording to be played."""
        if case.concerns(spec):
            return True
        return self.mode == "replay" and (self.recordings / spec.id / f"{case.name}.yaml").is_file()


class Subject(NamedTuple):
    """Who is asked: a provider, or one model of it where several are asked. name: in the report. plan: with its model."""

    name: str
    definition: Definition
    plan: Plan


def default_recordings(mode: Mode = "replay") -> Path:
    """The folder "cassettes" of the working directory; if it does not exist and mode is not record, the packaged one."""
    here = Path("cassettes")
    return here if mode == "record" or here.is_dir() else resources.folder("cassettes")


def results(plan: Plan, provider: str, spec: Spec) -> Iterator[Result]:
    """The result of each case, as soon as it is there. An Error in a case is a result, too."""
    runner = Runner(plan, provider, spec, Limiters())
    yield from (runner.result(case) for case in plan.cases if plan.concerns(case, spec))


class Runner:
    """Runs the cases of one provider, also several at the same time. name: of the provider in results, "" for its id."""

    def __init__(self, plan: Plan, provider: str, spec: Spec, limiters: Limiters, name: str = "") -> None:
        self.plan, self.provider, self.spec, self.name = plan, provider, spec, name or provider
        self._limiters = limiters
        self._finding = threading.Lock()
        self._lock = threading.Lock()  # of the clients; never held during a call, so that `close` does not wait
        self._asked: Asked | Error | None = None
        self._closed = False
        self._clients: WeakSet[Client] = WeakSet()

    def result(self, case: Case) -> Result:
        """The result of a case; an Error is a result, too."""
        try:
            found = self._result(case)
        except Error as error:
            outcome: run.Outcome = "failed" if self.plan.mode == "replay" else "error"
            found = Result(self.provider, case.name, outcome, error.summary())
        return replace(found, provider=self.name)

    def waits(self) -> bool:
        """Whether the provider has asked for a pause that is not over."""
        return isinstance(self._asked, Asked) and self._asked.limiter.waits()

    def close(self) -> None:
        """End the calls that are running."""
        with self._lock:
            self._closed = True
            clients = list(self._clients)
        for client in clients:
            client.close()

    def _result(self, case: Case) -> Result:
        plan = self.plan
        if case.key == "wrong" and self.spec.auth.style == "none":
            return Result(self.provider, case.name, "skipped", "the provider takes no key")
        if missing := case.missing(self.spec):
            return Result(self.provider, case.name, "skipped", f"the provider has no {missing}")
        path = plan.recordings / self.spec.id / f"{case.name}.yaml"
        spec = self._spec_of_model(path)
        denied = [name for name in case.needs if not spec.can(name)]
        if plan.mode == "replay" and not path.is_file():
            why = f"capabilities.{denied[0]}: false" if denied else "nothing was recorded"
            return Result(self.provider, case.name, "skipped" if denied else "unrecorded", why)
        if denied:
            return self._denied(case, path, denied)
        if plan.mode == "replay":
            result = run.replay(case, self.provider, path, list(plan.folders))
        else:
            result = self._call(case, self._asked_for(case), path)
        unclaimed = _unclaimed(spec, case)
        if unclaimed and _shows_nothing_claimed(result, replayed=plan.mode == "replay"):
            return replace(result, outcome="unclaimed", why=f"the file does not say {unclaimed}: true; {result.why}")
        return result

    def _spec_of_model(self, path: Path) -> Spec:
        """The spec for the model that is called, or that was recorded: the file's overrides may deny more of one model."""
        if self.plan.mode != "replay":
            asked = self._asked_once()
            return asked.client(False).accounts.get(self.provider).definition.spec(asked.evidence.model)
        evidence = glance(path) if path.is_file() else None
        if evidence is None or not evidence.model:
            return self.spec
        with run.connect(self.provider, evidence.base_url, run.PLAYED_KEY, list(self.plan.folders))(False) as client:
            return client.accounts.get(self.provider).definition.spec(evidence.model)

    def _denied(self, case: Case, path: Path, denied: list[str]) -> Result:
        """Run a case whose capability the file denies, on a copy of the file with the capability set to true."""
        with tempfile.TemporaryDirectory(prefix="prx-") as folder:
            flags = ", ".join(f"{name}: true" for name in denied)
            text = f"spec: 1\nid: {self.provider}\nextends: {self.provider}\ncapabilities: {{{flags}}}\n"
            of_models = f"overrides: [{{model: '*', capabilities: {{{flags}}}}}]\n"  # stronger than the file's own
            Path(folder, f"{self.provider}.yaml").write_text(text + of_models, encoding="utf-8")
            folders = [Path(folder), *self.plan.folders]  # the first is the strongest
            if self.plan.mode == "replay":
                result = run.replay(case, self.provider, path, folders)
            else:
                asked = self._asked_once()
                result = self._call(case, replace(asked, client=self._client_maker(asked.real, folders)), path)
        proved = [name for name in denied if name in case.proves]
        if result.outcome == "passed" and proved:
            why = f"the file says capabilities.{proved[0]}: false, but the case passes"
            return replace(result, outcome="failed", why=why)
        verdict = "which this case does not test" if result.outcome == "passed" else "which is right"
        why = f"capabilities.{denied[0]}: false, {verdict}"
        return Result(self.provider, case.name, "skipped", why, evidence=result.evidence, tokens=result.tokens)

    def _call(self, case: Case, asked: Asked, path: Path) -> Result:
        return run.record(case, asked, path) if self.plan.mode == "record" else run.live(case, asked)

    def _asked_for(self, case: Case) -> Asked:
        """The same for a case, with the model that is named for its kind of call. Raises ConfigError where none is."""
        asked, model = self._asked_once(), self.plan.models.get(case.kind, "")
        if case.kind and not model and case.kind not in _OF_A_CHAT and "chat" in self.spec.endpoints:
            raise ConfigError(
                f"no model is named for {case.kind}, and few models chat and do that as well",
                hint=f"Name one with --model-for {case.kind}=MODEL.",
            )
        return replace(asked, evidence=replace(asked.evidence, model=model or asked.evidence.model))

    def _asked_once(self) -> Asked:
        """The provider with the URL, key and model of the user's configuration, found once for all cases. Raises Error."""
        with self._finding:
            if self._asked is None:
                try:
                    self._asked = self._find()
                except Error as error:
                    self._asked = error
        if isinstance(self._asked, Error):
            raise self._asked
        return self._asked

    def _find(self) -> Asked:
        plan, spec = self.plan, self.spec
        with self._kept(Client(config=plan.config, providers=list(plan.folders))) as client:
            account = client.accounts.get(self.provider)
            url = account.target.base_url
            model = plan.model or account.settings.model or spec.models.default
            model = model or cases.listed(client, self.provider, plan.retries)[0]
        evidence = Evidence("live", spec.name, datetime.now(UTC).date().isoformat(), url, model)
        client_maker = self._client_maker(url, list(plan.folders))
        return Asked(self.provider, client_maker, evidence, url, plan.retries, self._limiters.of(url))

    def _client_maker(self, url: str, folders: list[Path]) -> Callable[[bool], Client]:
        wrong_key = run.connect(self.provider, url, run.WRONG_KEY, folders)

        def client(wrong: bool) -> Client:
            return self._kept(wrong_key(True) if wrong else Client(config=self.plan.config, providers=list(folders)))

        return client

    def _kept(self, client: Client) -> Client:
        """The client, which `close` will close. Raises Error where it has been called already."""
        with self._lock:
            self._clients.add(client)
            if self._closed:
                raise closed_early()
        return client


def _shows_nothing_claimed(result: Result, *, replayed: bool) -> bool:
    """Whether a case that the file does not claim has simply not passed: the server answered, if only with an error of its
    own. A recording that passed when it was made is a claim: if it fails now, that is a fault.
    """
    answered = result.outcome == "error" and ((result.seen.get("error") or {}).get("status") or 0) > 0
    was_right = replayed and result.evidence is not None and result.evidence.passed
    return (result.outcome == "failed" or answered) and not was_right


def _unclaimed(spec: Spec, case: Case) -> str:
    """The key of the file that would claim what a case needs, and that the file does not have; or ""."""
    if case.key == "wrong" and not spec.auth.required:
        return "auth.required"  # many servers of one's own take any key
    return next((f"capabilities.{name}" for name in case.needs if not _claimed(spec, name)), "")


def _claimed(spec: Spec, capability: str) -> bool:
    """Whether the provider's file, or the evidence that it cites, claims a capability."""
    return spec.capabilities.get(capability, False) or any(capability in row.of for row in spec.evidence)
