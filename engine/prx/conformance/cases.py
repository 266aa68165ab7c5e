"""The cases: a call, the capabilities that it needs, and conditions for its answer."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from jmespath.exceptions import JMESPathError

from prx import resources
from prx.accounts.choose import ModelRef
from prx.chat import plain
from prx.client import Client
from prx.errors import ConfigError, Error
from prx.lang.query import checked, compile_query
from prx.lang.template import holds
from prx.lang.tree import QueryError
from prx.spec import schema
from prx.spec.model import Spec
from prx.spec.read import read_strictly
from prx.text import nearest


@dataclass(frozen=True, slots=True)
class Case:
    """One case.

    ask     the method: "chat", "stream" or "models"
    model   the model to call, "" for the provider's default
    key     "right" or "wrong"
    call    arguments of the method
    hold    JMESPath expressions over {reply, error, deltas, models, model}; all must be true
    needs   capabilities without which the case is skipped
    proves  those of `needs` without which the case cannot pass
    """

    name: str
    title: str
    group: str
    hold: tuple[str, ...]
    needs: tuple[str, ...] = ()
    ask: str = "chat"
    model: str = ""
    key: str = "right"
    call: Mapping[str, Any] = field(default_factory=dict)
    proves: tuple[str, ...] = ()

    @property
    def endpoint(self) -> str:
        """The endpoint that a provider needs for the case."""
        return "models" if self.ask == "models" else "chat"

    def fits(self, spec: Spec) -> bool:
        """Whether the provider, by its file, has the endpoint and the capabilities that the case needs, and takes a key if it needs one."""
        has_key = self.key == "right" or spec.auth.style != "none"
        return has_key and self.endpoint in spec.endpoints and all(spec.can(capability) for capability in self.needs)

    def conditions(self, spec: Spec) -> tuple[str, ...]:
        """The conditions for this provider: those of the case, or of the deviation in the provider's file."""
        return tuple(spec.deviations.get(self.name, self.hold))


GROUPS = ("text", "stream", "tools", "formats", "pictures", "reasoning", "errors", "listing")


@cache
def load() -> list[Case]:
    """Every packaged case, by group."""
    cases = [_case(path) for path in sorted(resources.folder("cases").glob("*.yaml"))]
    return sorted(cases, key=lambda case: (GROUPS.index(case.group), case.name))


def named(names: Sequence[str]) -> list[Case]:
    """The cases with these names; without names, all of them. Raises ConfigError for an unknown name."""
    known = {case.name: case for case in load()}
    for name in names:
        if name not in known:
            raise ConfigError(
                f"no case is called {name!r}{nearest(name, known)}", hint=f"There are {', '.join(known)}."
            )
    return [case for case in known.values() if not names or case.name in names]


def _case(path: Path) -> Case:
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    call = dict(raw.get("call", {}))
    if isinstance(call.get("messages"), dict):
        call["messages"] = call["messages"]["repeat"] * call["messages"]["times"]
    needs = tuple(raw.get("needs", ()))
    lists = {"hold": tuple(raw["hold"]), "needs": needs, "proves": tuple(raw.get("proves", needs))}
    return Case(name=path.stem, **{**raw, "call": call, **lists})


def lint(path: Path) -> list[str]:
    """Every fault of a case's file, each with its place."""
    document = read_strictly(path)
    problems = [*document.problems, *(schema.problems(document, "case") if document.value else ())]
    for place, condition in enumerate(() if problems else document.value["hold"]):
        try:
            checked(condition)
        except QueryError as error:
            problems.append(document.problem(("hold", place), str(error)))
    return [str(problem) for problem in problems]


def play(case: Case, client: Client, provider: str, model: str, retries: int = 0) -> dict[str, Any]:
    """Make the call of a case; gives {reply, error, deltas, models, model} for its conditions. retries: further attempts."""
    view: dict[str, Any] = {"reply": None, "error": None, "deltas": [], "models": None, "model": model}
    options: dict[str, Any] = {"retries": retries, **case.call}
    try:
        if case.ask == "models":
            view["models"] = listed(client, provider, retries)
        elif case.ask == "stream":
            with client.stream(model=ModelRef(provider, case.model or model), **options) as stream:
                view["deltas"] = [plain(delta) for delta in stream]
            view["reply"] = plain(stream.reply)
        else:
            view["reply"] = plain(client.chat(model=ModelRef(provider, case.model or model), **options))
    except Error as error:
        names = ("kind", "status", "message", "retryable", "hint")
        view["error"] = {name: getattr(error, name) for name in names} | {"partial": plain(error.partial)}
    return view


def listed(client: Client, provider: str, retries: int) -> list[str]:
    """The provider's own list of its models. The client does not retry it, so that it is done here. Raises Error."""
    for attempt in range(retries):
        try:
            return client.models(provider)
        except Error as error:
            if not error.retryable:
                raise
            time.sleep(min(_FIRST_PAUSE * 2**attempt, _LONGEST_PAUSE))  # for a Retry-After the limiter waits
    return client.models(provider)


_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 8.0  # seconds


def failures(case: Case, spec: Spec, view: Mapping[str, Any]) -> list[str]:
    """The conditions that do not hold for the view that `play` gave."""
    return [condition for condition in case.conditions(spec) if not _holds(condition, view)]


class Difference(NamedTuple):
    """What a condition wanted, and what came. path: of the value, "" where the condition is more than one comparison."""

    condition: str
    path: str
    wanted: str
    came: str

    def __str__(self) -> str:
        if self.path:
            return f"{self.path}: wanted {self.wanted}, came {self.came}"
        return f"does not hold: {self.condition}" + (f" ({self.came})" if self.came else "")


def difference(condition: str, view: Mapping[str, Any], masked: Callable[[str], str]) -> Difference:
    """What came in place of what a condition wants: "finish_reason: wanted length, came stop". masked: masks the keys in a
    text.
    """
    compared = _COMPARED.fullmatch(condition)
    if compared:
        found = _value(compared["path"], view, masked) or "nothing"
        sign = "" if compared["sign"] == "==" else f"{compared['sign']} "
        wanted = sign + (compared["wanted"] or compared["number"] or "")
        return Difference(condition, compared["path"].replace("reply.", ""), wanted, found)
    paths = list(dict.fromkeys(path.rstrip(".") for path in _PATH.findall(condition)))
    found = "; ".join(f"{path} is {_value(path, view, masked) or 'not there'}" for path in paths)
    return Difference(condition, "", condition, found)


# One comparison with a constant; the left side may be any expression without a comparison, `||` or `&&` of its own.
_COMPARED = re.compile(
    r"(?P<path>[a-z_](?:[^|&!<>='`]|'[^']*')*) (?P<sign>==|!=|[<>]=?) (?:'(?P<wanted>[^']*)'|`(?P<number>[^`]*)`)"
)
_PATH = re.compile(r"\b(?:reply|error|models|model)\b(?:\.[a-z_]+|\[\d+\])*")
_LONGEST = 60  # characters of a value that are shown


def _value(path: str, view: Mapping[str, Any], masked: Callable[[str], str]) -> str | None:
    """A value of the view as JSON, without the quotes of a text, at most _LONGEST characters; None for null."""
    try:
        value = compile_query(path)(view)
    except (JMESPathError, TypeError):
        return None
    # Masked before it is shortened: half a key would not be found.
    text = masked(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return None if value is None else text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _holds(condition: str, view: Mapping[str, Any]) -> bool:
    """Whether a condition holds; False where its evaluation fails, as on a reply that is null."""
    try:
        return holds(compile_query(condition)(view))
    except (JMESPathError, TypeError):  # TypeError: values of different types were compared
        return False
