"""The cases: what is asked, which capability it needs, and what must hold of the answer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

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
    """One thing asked.

    ask     chat, stream or models
    model   "" for the provider's own, else a name to ask for
    key     "right" or "wrong"
    hold    JMESPath over {reply, error, deltas, models, model}: all must be true
    proves  whether it can hold only where what it needs is there
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
    proves: bool = True

    def fits(self, spec: Spec) -> bool:
        """Whether the provider can do what the case needs, as far as its file says."""
        keyed = self.key == "right" or spec.auth.style != "none"
        return keyed and all(spec.can(capability) for capability in self.needs)

    def conditions(self, spec: Spec) -> tuple[str, ...]:
        """What must hold here: the case's own, or the deviation that the file admits to."""
        return tuple(spec.deviations.get(self.name, self.hold))


GROUPS = ("text", "stream", "tools", "formats", "pictures", "reasoning", "errors", "listing")


@cache
def load() -> list[Case]:
    """Every packaged case, by group."""
    cases = [_case(path) for path in sorted(resources.folder("cases").glob("*.yaml"))]
    return sorted(cases, key=lambda case: (GROUPS.index(case.group), case.name))


def named(names: Sequence[str]) -> list[Case]:
    """The cases of these names, or all of them for no name. Raises ConfigError for one that there is not."""
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
    return Case(
        name=path.stem, **{**raw, "call": call, "hold": tuple(raw["hold"]), "needs": tuple(raw.get("needs", ()))}
    )


def lint(path: Path) -> list[str]:
    """Every fault of a case's file, each with its place."""
    document = read_strictly(path)
    found = [*document.problems, *(schema.problems(document, "case") if document.value else ())]
    for place, condition in enumerate(() if found else document.value["hold"]):
        try:
            checked(condition)
        except QueryError as error:
            found.append(document.problem(("hold", place), str(error)))
    return [str(problem) for problem in found]


def play(case: Case, client: Client, provider: str, model: str) -> dict[str, Any]:
    """Ask what the case asks; the view that its conditions are about."""
    seen: dict[str, Any] = {"reply": None, "error": None, "deltas": [], "models": None, "model": model}
    options: dict[str, Any] = {"retries": 0, **case.call}
    try:
        if case.ask == "models":
            seen["models"] = client.models(provider)
        elif case.ask == "stream":
            with client.stream(model=ModelRef(provider, case.model or model), **options) as stream:
                seen["deltas"] = [plain(delta) for delta in stream]
            seen["reply"] = plain(stream.reply)
        else:
            seen["reply"] = plain(client.chat(model=ModelRef(provider, case.model or model), **options))
    except Error as error:
        names = ("kind", "status", "message", "retryable", "hint")
        seen["error"] = {name: getattr(error, name) for name in names} | {"partial": plain(error.partial)}
    return seen


def failures(case: Case, spec: Spec, seen: Mapping[str, Any]) -> list[str]:
    """The conditions that do not hold."""
    return [condition for condition in case.conditions(spec) if not _holds(condition, seen)]


def came(condition: str, seen: Mapping[str, Any], masked: Callable[[str], str]) -> str:
    """What came in place of what a condition wants: "finish_reason: wanted length, came stop". masked: a text without keys."""
    compared = _COMPARED.fullmatch(condition)
    if compared and (found := _value(compared["path"], seen, masked)) is not None:
        sign = "" if compared["sign"] == "==" else f"{compared['sign']} "
        return f"{compared['path'].removeprefix('reply.')}: wanted {sign}{compared['wanted'] or compared['number']}, came {found}"
    paths = list(dict.fromkeys(path.rstrip(".") for path in _PATH.findall(condition)))
    found = "; ".join(f"{path} is {_value(path, seen, masked) or 'not there'}" for path in paths)
    return f"does not hold: {condition}" + (f" ({found})" if found else "")


_COMPARED = re.compile(
    r"(?P<path>[a-z_]+(?:\.[a-z_]+|\[\d+\])*) (?P<sign>==|!=|[<>]=?) (?:'(?P<wanted>[^']*)'|`(?P<number>[^`]*)`)"
)
_PATH = re.compile(r"\b(?:reply|error|models|model)\b(?:\.[a-z_]+|\[\d+\])*")
_LONGEST = 60  # characters of a value that are shown


def _value(path: str, seen: Mapping[str, Any], masked: Callable[[str], str]) -> str | None:
    """A value of the view, as JSON without the quotes of a text, and not too long; None where nothing is there."""
    try:
        value = compile_query(path)(seen)
    except (JMESPathError, TypeError):
        return None
    text = masked(
        value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    )  # before half a key is cut
    return None if value is None else text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _holds(condition: str, seen: Mapping[str, Any]) -> bool:
    """Whether a condition holds; one that stumbles over what is not there does not."""
    try:
        return holds(compile_query(condition)(seen))
    except (JMESPathError, TypeError):  # TypeError: what does not compare
        return False
