"""What a row of a batch asks for: a text, a mapping in prx's own form, or one in the form of OpenAI's batch files.

    {"id": …, "prompt" or "messages" or "input": …, "model": …, any parameter of the call}
    {"custom_id": …, "method": "POST", "url": "/v1/chat/completions", "body": {…}}

With templates for the prompt a row is a mapping of columns instead. Every fault is a ConfigError with one sentence;
the place is said by whoever knows it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from prx import arguments
from prx.accounts.account import Account
from prx.accounts.choose import ModelRef
from prx.chat import NONE, Call
from prx.core.inbound import Found, Routes, accept, fitting, wants_several
from prx.core.kind_inputs import checked
from prx.errors import CapabilityError, ConfigError
from prx.json_text import compact
from prx.record import Record
from prx.session import Options, Session
from prx.spec.face import Face
from prx.text import nearest

KINDS = ("chat", "embed", "complete")
_CONTENT = {"chat": "messages", "embed": "input", "complete": "prompt"}  # {kind: what it is asked with}
_ASKED = ("prompt", "messages", "input")  # keys of a row that say what is asked
_OF_FORM = ("custom_id", "method", "url", "body")
_SURROGATE = re.compile("[\ud800-\udfff]")
_INPUTS = {"embed": ("dimensions", "input_type"), "complete": ("suffix",)}  # arguments that are no parameters, by kind


class Terms(Record):
    """What holds for all rows of a batch.

    prompt, system  templates; a row is a mapping of columns then
    params          parameters of every call that does not say otherwise
    in_flight       rows that are worked on at once, at most
    retries         further attempts after an error that may pass; refusals for the rate (429) are not counted
    patience        seconds for which a row that is refused for the rate is asked again
    per_minute      the caller's own limits: {"requests": …, "tokens": …}
    has_ids         whether `id` of a row of columns is its id; in a table it is a column as any other
    """

    model: str | ModelRef | None = None
    kind: str = "chat"
    prompt: Template | None = None
    system: Template | None = None
    params: Mapping[str, Any] = NONE
    in_flight: int = 32
    ordered: bool = True
    timeout: float | None = None
    deadline: float | None = None
    retries: int = 5
    patience: float = 3600.0
    per_minute: Mapping[str, float | None] = NONE
    has_ids: bool = True

    def check(self) -> None:
        """Raise ConfigError for what makes no sense."""
        if self.kind not in KINDS:
            raise ConfigError(f"a batch is of {', '.join(KINDS)}, not of {self.kind!r}")
        if not isinstance(self.in_flight, int) or self.in_flight < 1:
            raise ConfigError(f"in_flight must be a whole number above 0, not {self.in_flight!r:.60}")
        if self.system is not None and self.prompt is None:
            raise ConfigError("system is a template that goes with one for the prompt", hint="Give prompt as well.")
        arguments.params(self.params)
        arguments.retries(self.retries)
        for name, seconds in (("timeout", self.timeout), ("deadline", self.deadline), ("patience", self.patience)):
            arguments.seconds(name, seconds)
        for counted, count in self.per_minute.items():
            if count is not None and not (isinstance(count, int | float) and count > 0):
                raise ConfigError(f"{counted} a minute must be a number above 0, not {count!r:.60}")


class Shape(NamedTuple):
    """The form of OpenAI's batch files: the route that a row names, None where prx has a kind of call for it; its body."""

    found: Found | None
    body: Mapping[str, Any]


class Row(NamedTuple):
    """A row that can be asked. given: as it came. schema: what the answer has to fit. size: letters of the prompt."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which is not needed here
    id: Any
    given: Any
    kind: str
    options: Options
    shape: Shape | None = None
    schema: Any = None
    size: int = 0


class Template:
    """A text with {column} in it; {{ and }} are the characters themselves. Raises ConfigError."""

    _PARTS = re.compile(r"(\{\{|\}\}|\{[^{}]*\}|[{}])")

    def __init__(self, text: str, option: str = "prompt") -> None:
        self.text = text
        self._parts: list[tuple[str, str]] = []  # (literal text, name of the column behind it, "" for none)
        for part in filter(None, self._PARTS.split(text)):
            if part in ("{", "}"):
                raise ConfigError(
                    f"{option}: a single {part}", hint="Write {column} for a column, {{ or }} for a brace."
                )
            is_name = part[0] == "{" and part != "{{"
            self._parts.append(
                ("", part[1:-1].strip()) if is_name else (part[:1] if part in ("{{", "}}") else part, "")
            )
        self.names = tuple(dict.fromkeys(name for _, name in self._parts if name))
        if any(not literal and not name for literal, name in self._parts):
            raise ConfigError(f"{option}: {{}} names no column", hint="Write {column}.")

    def check(self, columns: Iterable[str], of: str) -> None:
        """Raise ConfigError for a name that is none of the columns."""
        known = [*columns]
        for name in self.names:
            if name not in known:
                raise ConfigError(
                    f"the template names {{{name}}}, and {of} has no column {name!r}{nearest(name, known)}",
                    hint=f"It has {', '.join(map(str, known[:20])) or 'none'}.",
                )

    def fill(self, columns: Mapping[str, Any]) -> str:
        return "".join(literal or _as_text(columns[name]) for literal, name in self._parts)


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):  # as tables have a number that is missing
        return ""
    return compact(value) if isinstance(value, dict | list) else str(value)


class Reader:
    """Makes Rows. The session's dialects are looked up when a row first needs one."""

    def __init__(self, session: Session, terms: Terms) -> None:
        self._session, self._terms = session, terms
        self._faces: list[Face] = []
        self._routes: Routes | None = None

    def read(self, index: int, given: Any) -> Row:
        """The Row of what was given. Raises ConfigError."""
        if isinstance(given, str):
            return self._plain(index, {"prompt": given})
        if not isinstance(given, Mapping):
            raise ConfigError(f"a row is a JSON object, not {_kind_of(given)}")
        if self._terms.prompt is not None:
            return self._filled(index, given)
        return self._formed(index, given) if "body" in given else self._plain(index, given)

    # -------------------------------------------------------------- columns

    def _filled(self, index: int, given: Mapping[str, Any]) -> Row:
        terms = self._terms
        assert terms.prompt is not None
        for template in filter(None, (terms.prompt, terms.system)):
            template.check(given, "the row")
        asked: Any = terms.prompt.fill(given)
        if not asked.strip():
            raise ConfigError("the prompt is empty")
        identity = given.get("custom_id", given.get("id")) if terms.has_ids else None
        if terms.kind == "chat":
            asked = [{"role": "user", "content": asked}]
            if terms.system is not None:
                asked.insert(0, {"role": "system", "content": terms.system.fill(given)})
        return self._row(index, identity, given, terms.kind, asked, terms.model, {}, terms.params)

    # -------------------------------------------------------------- prx's own form

    def _plain(self, index: int, given: Mapping[str, Any]) -> Row:
        terms = self._terms
        kind = terms.kind
        params = {**terms.params, **given}
        identity = params.pop("custom_id", None)
        identity = params.pop("id", identity)
        present = [name for name in _ASKED if name in given]
        if len(present) != 1:
            raise ConfigError(
                f"has {' and '.join(present)}, of which a row has one" if present else "has no prompt",
                hint='Write {"prompt": "…"} or {"messages": […]}; of a table of other columns, give a template: --prompt.',
            )
        asked = params.pop(present[0])
        if kind != "chat" and present[0] == "messages":
            raise ConfigError(f"has messages, which a call of {kind} does not take", hint="Write prompt or input.")
        model, tools = params.pop("model", terms.model), params.pop("tools", None)
        extra = {"tools": tools, "tool_choice": params.pop("tool_choice", None)}
        return self._row(index, identity, given, kind, asked, model, extra, params)

    # -------------------------------------------------------------- the form of OpenAI's batch files

    def _formed(self, index: int, given: Mapping[str, Any]) -> Row:
        body, url, method = given["body"], given.get("url"), given.get("method", "POST")
        if not isinstance(body, Mapping):
            raise ConfigError(f"body is an object, not {_kind_of(body)}")
        unknown = [name for name in given if name not in _OF_FORM and name != "id"]
        if unknown:
            raise ConfigError(f"{unknown[0]!r} is no key of a row with a body{nearest(unknown[0], _OF_FORM)}")
        found = self._route(str(method).upper(), str(url))
        identity = given.get("custom_id", given.get("id"))
        if found.entrance.use == "chat":
            return self._dialect(index, identity, given, found)
        kind = found.entrance.use
        params = {**self._terms.params, **body}
        asked = params.pop(_CONTENT[kind], None)
        model = params.pop("model", None) or self._terms.model
        row = self._row(index, identity, given, kind, asked, model, {}, params)
        return row._replace(shape=Shape(None, body))

    def _route(self, method: str, url: str) -> Found:
        if self._routes is None:
            self._faces = self._session.current().catalog.faces()
            self._routes = Routes(self._faces)
        found = self._routes.find(method, url)
        if found is None or found.entrance.use not in KINDS:
            raise ConfigError(
                f"method and url {method} {url!r:.100} are nothing that a batch asks",
                hint="Write POST, and /v1/chat/completions or /v1/embeddings, or another route of `prx serve` for chats.",
            )
        return found

    def _dialect(self, index: int, identity: Any, given: Mapping[str, Any], found: Found) -> Row:
        terms, face, body = self._terms, found.face, given["body"]
        try:
            asked = accept(face, body, found.path)
            several = wants_several(face, body)
        except CapabilityError as error:
            raise ConfigError(f"body: {error.message}") from None
        if several:
            raise ConfigError("body asks for several answers, and a row gets one")
        extra = {"tools": asked.tools or None, "tool_choice": asked.tool_choice, "fit": self._fit(face)}
        params = {**terms.params, **asked.params}
        model = asked.model or terms.model
        row = self._row(index, identity, given, "chat", asked.messages, model, extra, params)
        return row._replace(shape=Shape(found, body))

    def _fit(self, face: Face) -> Callable[[Account, Call], Call]:
        """Changes a call for the provider that it goes to: hints that its dialect has no form for are left out."""

        def fit(account: Account, call: Call) -> Call:
            spec = account.definition.spec(call.model)
            if spec.dialect == face.id:
                return call
            there = next((other for other in self._faces if other.id == spec.dialect), None)
            return call._replace(params=fitting(call.params, face, spec, there.keys if there else None)[0])

        return fit

    # -------------------------------------------------------------- what all have

    def _row(
        self, index: int, identity: Any, given: Any, kind: str, asked: Any, model: Any, extra: Mapping[str, Any],
        params: Mapping[str, Any],
    ) -> Row:  # fmt: skip
        """Checks what is asked as the call itself would, so that a fault is known before anything is sent."""
        if isinstance(identity, bool) or not isinstance(identity, str | int | None):
            raise ConfigError(f"the id is a text or a whole number, not {_kind_of(identity)}")
        if isinstance(identity, str) and _SURROGATE.search(identity):
            raise ConfigError("the id has half a character in it (a surrogate), which no file can hold")
        if asked is None:
            raise ConfigError("has no prompt")
        terms, inputs = self._terms, {}
        if kind == "chat":
            arguments.messages(asked)
            arguments.tools(extra.get("tools"))
        else:
            named = {name: params[name] for name in _INPUTS[kind] if name in params}
            params = {name: value for name, value in params.items() if name not in named}
            inputs = checked(kind, {_CONTENT[kind]: asked, **named})
        arguments.extras(arguments.params(params) and params)
        options = Options(
            asked if kind == "chat" else None, arguments.model(model), params=params, inputs=inputs,
            timeout=terms.timeout, deadline=terms.deadline, retries=0, **extra,
        )  # fmt: skip
        return Row(index, identity, given, kind, options, None, _schema(params), sum(map(len, _texts(asked))))


def _schema(params: Mapping[str, Any]) -> Any:
    """The schema that an answer has to fit, or None."""
    form = params.get("response_format")
    named = form.get("json_schema") if isinstance(form, Mapping) and form.get("type") == "json_schema" else None
    return named.get("schema") if isinstance(named, Mapping) else None


def _texts(asked: Any) -> Iterator[str]:
    """The texts of a prompt; data of pictures are none."""
    if isinstance(asked, str):
        yield asked
    elif isinstance(asked, list | tuple):
        for each in asked:
            yield from _texts(each)
    elif isinstance(asked, Mapping):
        yield from _texts(asked.get("content") or asked.get("text") or "")


def _kind_of(value: Any) -> str:
    names = {
        dict: "an object",
        list: "a list",
        str: "a text",
        bool: "true or false",
        int: "a number",
        float: "a number with a point",
    }
    return names.get(type(value), "null" if value is None else f"a {type(value).__name__}")
