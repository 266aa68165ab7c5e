"""The cases: a call, the capabilities that it needs, and conditions for its answer."""

from __future__ import annotations

import io
import json
import math
import operator
import re
import time
import wave
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
from prx.spec.model import KINDS_OF_CALLS, Spec
from prx.spec.read import read_strictly
from prx.text import nearest


@dataclass(frozen=True, slots=True)
class Case:
    """One case.

    ask     the method: "chat", "stream" or "models", or the kind of a call that is no chat
    model   the model to call, "" for the provider's default
    key     "right" or "wrong"
    call    arguments of the method
    again   arguments of a second call of the same kind, which differ from those of the first
    hold    JMESPath expressions over {reply, second, near, error, deltas, models, model}; all must be true
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
    again: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The kind of a call that is no chat, or ""."""
        return self.ask if self.ask in KINDS_OF_CALLS else ""

    @property
    def may_refuse(self) -> bool:
        """Whether a refusal passes it, too."""
        return any("||" in row and "error." in row for row in self.hold)

    def missing(self, spec: Spec) -> str:
        """The key of the file that the provider lacks for the case, or ""."""
        if self.kind:
            return "" if self.kind in spec.calls else f"calls.{self.kind}"
        return "" if self.endpoint in spec.endpoints else f"endpoints.{self.endpoint}"

    def concerns(self, spec: Spec) -> bool:
        """Whether the provider is asked at all: for a call that is no chat only where its own file or its evidence names the kind, since
        a dialect says of each how it is made, and not who has it.
        """
        claimed = self.kind in spec.own_calls or any(f"calls.{self.kind}" in row.of for row in spec.evidence)
        return not self.kind or (self.kind in spec.calls and claimed)

    @property
    def endpoint(self) -> str:
        """The endpoint that a provider needs for the case."""
        return "models" if self.ask == "models" else "chat"

    def fits(self, spec: Spec) -> bool:
        """Whether the provider, by its file, has the endpoint and the capabilities that the case needs, and takes a key if it needs one."""
        has_key = self.key == "right" or spec.auth.style != "none"
        return (
            has_key
            and not self.missing(spec)
            and self.concerns(spec)
            and all(spec.can(capability) for capability in self.needs)
        )

    def conditions(self, spec: Spec) -> tuple[str, ...]:
        """The conditions for this provider: those of the case, or of the deviation in the provider's file."""
        return tuple(spec.deviations.get(self.name, self.hold))


GROUPS = ("text", "stream", "tools", "formats", "pictures", "reasoning", "errors", "listing", "others")


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
    if isinstance(call.get("file"), dict):
        call["file"] = ("hum.wav", hum(call["file"]["hum"]))
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
    """Make the call of a case; gives {reply, second, near, error, deltas, models, model} for its conditions. retries: further
    attempts.
    """
    view: dict[str, Any] = {"reply": None, "error": None, "deltas": [], "models": None, "model": model}
    options: dict[str, Any] = {"retries": retries, **case.call}
    try:
        if case.kind:
            view |= _called(case, client, ModelRef(provider, case.model or model), options)
        elif case.ask == "models":
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


def _called(case: Case, client: Client, model: ModelRef, options: Mapping[str, Any]) -> dict[str, Any]:
    """{reply, second, near} of a case that is no chat. Raises Error."""
    made = [_call(case.kind, client, model, options)]
    if case.again:
        plainly = {name: value for name, value in options.items() if name in case.again or name not in case.call}
        made.append(_call(case.kind, client, model, {**plainly, **case.again}))
    vectors = [vector for each in made for vector in getattr(each, "vectors", ())]
    shown = [_without_bytes(plain(each)) for each in made]
    return {"reply": shown[0], "second": shown[-1] if case.again else None, "near": _near(vectors)}


def _call(kind: str, client: Client, model: ModelRef, given: Mapping[str, Any]) -> Any:
    arguments = {name: value for name, value in given.items() if name in KINDS_OF_CALLS[kind][0] and name != "messages"}
    params = {name: value for name, value in given.items() if name not in arguments and name != "messages"}
    return client.call(kind, model, arguments, params, given.get("messages"))


def _near(vectors: Sequence[Sequence[float]]) -> list[list[float]]:
    """How near each vector is to each, from -1 to 1."""
    lengths = [math.hypot(*vector) or 1.0 for vector in vectors]
    return [
        [
            round(sum(map(operator.mul, one, other)) / (first * second), 6) if len(one) == len(other) else 0.0
            for other, second in zip(vectors, lengths, strict=True)
        ]
        for one, first in zip(vectors, lengths, strict=True)
    ]


def _without_bytes(value: Any) -> Any:
    """A value with {bytes: their number} in place of bytes, of which a report shows none."""
    if isinstance(value, bytes):
        return {"bytes": len(value)}
    if isinstance(value, dict):
        return {name: _without_bytes(item) for name, item in value.items() if name != "raw"}
    return [_without_bytes(item) for item in value] if isinstance(value, list | tuple) else value


def hum(seconds: float) -> bytes:
    """A recording, as WAV, in which nothing is said."""
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setparams((1, 1, 8000, 0, "NONE", ""))
        file.writeframes(bytes(128 + round(40 * math.sin(place / 6)) for place in range(round(seconds * 8000))))
    return data.getvalue()


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
