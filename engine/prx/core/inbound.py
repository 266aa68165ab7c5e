"""Reads a request that a program sends in one of the dialects: makes of its body the call that any provider can be asked."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from prx.chat import NONE, Call, Message
from prx.errors import CapabilityError
from prx.lang.template import Template, TemplateError
from prx.record import Record
from prx.spec.face import Entrance, Face, ServedCall
from prx.spec.model import KINDS_OF_CALLS, Spec

_FULFILLED = ("top_n",)  # arguments that are kept to where a provider has no place for them, too


class Accepted(Record, often=True):
    """What a body asks for, in canonical form. params: parameters by OpenAI's names; keys unknown to the face by their own. inputs:
    of a call that is no chat, its arguments.
    """

    model: str
    messages: list[Message]
    tools: list[dict[str, Any]]
    tool_choice: Any = None
    stream: bool = False
    params: Mapping[str, Any] = NONE
    inputs: Mapping[str, Any] = NONE


class Found(Record, often=True):
    """Where a request has come in. path: {model, stream}, as the formulas of a face's `request` read it."""

    face: Face
    entrance: Entrance
    path: Mapping[str, Any]


class Routes:
    """The routes of faces, put in order once for many requests: those of one fixed path are looked up by it."""

    def __init__(self, faces: Iterable[Face]) -> None:
        self._fixed: dict[str, list[tuple[Face, Entrance]]] = {}
        self._open: list[tuple[Face, Entrance]] = []
        rows = [(face, entrance) for face in faces for entrance in face.entrances]
        for face, entrance in sorted(rows, key=lambda row: not row[1].header):
            same = self._open if "{model}" in entrance.at else self._fixed.setdefault(entrance.at, [])
            same.append((face, entrance))

    def find(
        self, method: str, path: str, headers: Mapping[str, str] = NONE, query: Mapping[str, str] = NONE
    ) -> Found | None:
        """The first route that fits a request, of a face whose header is there before those that need none; or None.

        path: percent-encoded. headers: by names in lower case
        """
        at = f"{method} {path}"
        for face, entrance in self._fixed.get(at, ()):
            if _is_met(entrance, headers, query):
                return Found(face, entrance, {"model": None, "stream": entrance.stream})
        for face, entrance in self._open:
            fits = _pattern(entrance.at).fullmatch(at)
            if fits and _is_met(entrance, headers, query):
                return Found(face, entrance, {"model": unquote(fits.group("model")), "stream": entrance.stream})
        return None


def _is_met(entrance: Entrance, headers: Mapping[str, str], query: Mapping[str, str]) -> bool:
    """Whether a request has the header and the parameter of the URL that an entrance wants."""
    wanted, _, value = entrance.query.partition("=")
    return (not wanted or query.get(wanted) == value) and (not entrance.header or entrance.header in headers)


@lru_cache(maxsize=256)
def _pattern(at: str) -> re.Pattern[str]:
    before, _, after = at.partition("{model}")
    return re.compile(f"{re.escape(before)}(?P<model>.+){re.escape(after)}")


def accept(face: Face, body: Mapping[str, Any], path: Mapping[str, Any] = NONE) -> Accepted:
    """The call of a body. path: {model} and {stream} of the route. Raises CapabilityError for what has no form here."""
    for name in face.refuses:
        if body.get(name):
            raise CapabilityError(f"{name!r} is not supported here: nothing is kept from one request to the next")
    view = {**body, "path": dict(path)}
    found = {key: _rendered(key, template, view) for key, template in face.request.items()}
    params = {name: value for name, value in body.items() if name not in face.renamed and value is not None}
    for name, template in face.parameters.items():
        value = _rendered(name, template, view)
        params.update({} if value is None else {name: value})
    messages = found.get("messages") or []
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        where = _callers_names("messages", face.request["messages"], view)
        raise CapabilityError(f"{where}: not a list of messages, each of which is an object")
    if face.join:
        messages = _joined(messages, face.join)
    if face.pair_results:
        messages = _paired(messages)
    return Accepted(
        str(found.get("model") or ""),
        messages,
        found.get("tools") or [],
        found.get("tool_choice"),
        bool(found.get("stream")),
        params,
    )


def model_of(face: Face, body: Mapping[str, Any], path: Mapping[str, Any] = NONE) -> str:
    """The name of the model that a body asks for. Raises CapabilityError."""
    return str(_rendered("model", face.request["model"], {**body, "path": dict(path)}) or "")


def accept_call(face: Face, kind: str, body: Mapping[str, Any], path: Mapping[str, Any] = NONE) -> Accepted:
    """The same for a call that is no chat. Raises CapabilityError."""
    served, view, model = face.calls[kind], {**body, "path": dict(path)}, model_of(face, body, path)
    if "body" in KINDS_OF_CALLS[kind][0]:
        chat = body if served.within is None else _rendered("within", served.within, body)
        if not isinstance(chat, dict):
            raise CapabilityError("the body has no chat where this API has one")
        return accept(face, chat, path)._replace(model=model, stream=False)
    templates = (*served.request.values(), face.request["model"])
    read = frozenset(name for template in templates for name in template.reads).union(served.reads, ("stream",))
    found = {name: _rendered(name, template, view) for name, template in served.request.items()}
    found = {name: value for name, value in found.items() if value is not None}
    params = {name: value for name, value in body.items() if name not in read and value is not None}
    params |= {name: value for name, value in found.items() if name not in served.arguments}
    inputs = {name: value for name, value in found.items() if name in served.arguments}
    return Accepted(model, [], [], params=params, inputs=inputs)


def wants_several(face: Face, body: Mapping[str, Any]) -> bool:
    """Whether a body asks for several answers at once. Raises CapabilityError for what says neither."""
    return face.several is not None and bool(_rendered("several", face.several, body))


def _rendered(name: str, template: Template, view: Mapping[str, Any]) -> Any:
    try:
        return template(view)
    except Exception as error:  # a TemplateError; or what jmespath and Python say of values of the wrong type
        reason = (
            str(error).partition("\n")[0]
            if isinstance(error, TemplateError)
            else "has not the form that it has in this API"
        )
        raise CapabilityError(f"{_callers_names(name, template, view)}: {reason}") from None


def _callers_names(name: str, template: Template, view: Mapping[str, Any]) -> str:
    """The keys of a body from which a part of the call is made: its own name may mean nothing to the caller."""
    return ", ".join(key for key in view if key in template.reads and key != "path") or name


def fitting(
    params: Mapping[str, Any], face: Face, spec: Spec, known_there: Container[str] | None
) -> tuple[dict[str, Any], list[str]]:
    """(parameters to send, what the provider does not get) for a provider of another dialect. Raises CapabilityError for a
    parameter that means something and has no form there. known_there: the keys of its dialect's bodies, None for any.
    """
    known = params.keys() - face.hints if known_there is None else known_there
    placed, dropped = spec.request.placed, spec.request.dropped
    formless = [name for name in params if name not in known and name not in placed]
    for name in formless:
        if name not in face.hints:
            raise CapabilityError(f"{name!r} has no form in the dialect {spec.dialect}", provider=spec.id)
    missing = [name for name in params if name in formless or name in dropped]
    return {name: value for name, value in params.items() if name not in formless}, missing


def fitting_call(
    call: Call, served: ServedCall, spec: Spec, known_there: Container[str] | None
) -> tuple[Call, list[str]]:
    """As `fitting`, of a call that is no chat, for a provider that is not asked with the caller's own body. known_there: the parameters
    of its dialect's bodies, None for any, as where it is the caller's own dialect.
    """
    form = spec.calls[served.kind]
    if "body" in form.reads:  # a chat, of which the body has what a chat would have
        return call, []
    placed, reads = form.placed, form.reads
    formless = [name for name in call.inputs if name not in reads and name not in _FULFILLED]
    if known_there is not None and "*" not in placed:
        formless += [name for name in call.params if name not in placed and name not in known_there]
    for name in formless:
        if name not in served.hints:
            raise CapabilityError(f"{name!r} has no form in what {served.kind} takes here", provider=spec.id)
    params = {name: value for name, value in call.params.items() if name not in formless}
    inputs = {name: value for name, value in call.inputs.items() if name not in formless}
    return call._replace(params=params, inputs=inputs), formless


def _joined(messages: Iterable[Message], role: str) -> list[Message]:
    """The messages with neighbouring ones of a role joined, unless both have a content: some APIs have an item for each call."""
    made: list[Message] = []
    for message in messages:
        last = made[-1] if made else {}
        if last.get("role") == message.get("role") == role and not (last.get("content") and message.get("content")):
            made[-1] = _together(last, message)
        else:
            made.append(message)
    return [{"content": None, **message} if message.get("role") == role else message for message in made]


def _together(first: Message, second: Message) -> Message:
    lists = {
        key: [*first[key], *value]
        for key, value in second.items()
        if isinstance(value, list) and isinstance(first.get(key), list)
    }
    return {**first, **{key: value for key, value in second.items() if value is not None}, **lists}


def _paired(messages: Iterable[Message]) -> list[Message]:
    """The messages with an id for each call and result that has none: a result belongs to the first open call of its name."""
    made: list[Message] = []
    open_calls: list[tuple[str, str]] = []  # (id, name of the function)
    number = 0
    for message in messages:
        calls = []
        for call in message.get("tool_calls") or ():
            number += 1
            named = {**call, "id": call.get("id") or f"call_{number}"}
            open_calls.append((named["id"], call.get("function", {}).get("name", "")))
            calls.append(named)
        paired = _with_id(message, open_calls) if message.get("role") == "tool" else message
        made.append({**paired, "tool_calls": calls} if calls else paired)
    return made


def _with_id(result: Message, open_calls: list[tuple[str, str]]) -> Message:
    given, name = result.get("tool_call_id"), result.get("name")
    fits = [call for call in open_calls if (call[0] == given if given else name in (None, call[1]))]
    if fits:
        open_calls.remove(fits[0])
    return {**result, "tool_call_id": given or (fits[0][0] if fits else name or "call_0")}
