"""The differences of two versions of providers, by the requests that they build and the keys by which they read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from prx.accounts.keys import named
from prx.chat import Call
from prx.compare.calls import calls
from prx.compare.flat import flat
from prx.compare.sides import Side
from prx.core.request import build
from prx.errors import Error
from prx.record import Record
from prx.secret import Secret, revealed
from prx.spec.definition import Definition
from prx.spec.resolve import fits
from prx.text import fill, variable_names
from prx.wire import HttpRequest, Target

READINGS = ("response", "stream", "errors", "fallbacks", "retry", "transport", "models", "capabilities", "retired")
_KEYS = ("env", "required")  # of auth: where the key comes from; how it is sent is seen in the requests
ABSENT = object()
PROVIDER = "provider"  # path of whether a side has a provider at all
_MODEL = "model"
_SENT = "request"  # path of whether a request is sent, or for what it is refused
_READING = ""  # in place of a call's name: a change of how answers are read
_KEY = Secret("***")  # in place of a key: no key is read at all


class Change(Record):
    """One difference. before, after: ABSENT for a value that this side does not have."""

    path: str
    before: Any
    after: Any


class Group(Record):
    """Changes that the same providers have.

    subjects  (provider, pattern of its models, "" for all) of each
    rows      (change, names of the calls that have it, () for a change of reading)
    """

    subjects: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Change, tuple[str, ...]], ...]


def compare(before: Side, after: Side) -> list[Group]:
    """The differences of two sides, those of the most providers first."""
    subjects: dict[tuple[str, tuple[str, ...]], tuple[Change, list[tuple[str, str]]]] = {}
    for name in sorted({*before.definitions, *after.definitions}):
        for pattern, rows in _of_provider(before.definitions.get(name), after.definitions.get(name)):
            for change, of_calls in rows:
                key = (json.dumps([change.path, _text(change.before), _text(change.after)]), of_calls)
                subjects.setdefault(key, (change, []))[1].append((name, pattern))
    groups: dict[tuple[tuple[str, str], ...], list[tuple[Change, tuple[str, ...]]]] = {}
    for (_, of_calls), (change, having) in subjects.items():
        groups.setdefault(tuple(having), []).append((change, of_calls))
    return sorted((Group(having, tuple(rows)) for having, rows in groups.items()), key=lambda each: -len(each.subjects))


def _text(value: Any) -> str:
    return "absent" if value is ABSENT else json.dumps(value, sort_keys=True, default=str)


Row = tuple[Change, tuple[str, ...]]


def _of_provider(old: Definition | None, new: Definition | None) -> Iterator[tuple[str, list[Row]]]:
    """(pattern of models, changes) of a provider; of a pattern only those that not all of its models have."""
    if old is None or new is None:
        states = ("absent", "present") if old is None else ("present", "absent")
        yield "", [(Change(PROVIDER, *states), ())]
        return
    if old.raw == new.raw and old.bases == new.bases:
        return
    common = _rows(old, new, _MODEL)
    yield "", common
    known = {_row_key(row) for row in common}
    for pattern in dict.fromkeys([*_patterns(old), *_patterns(new)]):
        rows = [row for row in _rows(old, new, sample(pattern)) if _row_key(row) not in known]
        yield pattern, rows


def _row_key(row: Row) -> tuple[str, str, str, tuple[str, ...]]:
    return row[0].path, _text(row[0].before), _text(row[0].after), row[1]


def _patterns(definition: Definition) -> Iterator[str]:
    for row in definition.raw.get("overrides") or ():
        yield from [row["model"]] if isinstance(row["model"], str) else row["model"]


def sample(pattern: str) -> str:
    """A model's name that fits a pattern."""
    plain = pattern.replace("*", "").replace("?", "x")
    name = "".join(part[:1] + part.partition("]")[2] if place else part for place, part in enumerate(plain.split("[")))
    return name if name and fits(pattern, name) else pattern.replace("*", "x")


def _rows(old: Definition, new: Definition, model: str) -> list[Row]:
    """The changes for a model, each with the calls that have it."""
    found: dict[tuple[str, str, str], tuple[Change, list[str]]] = {}
    before, after = _views(old, model), _views(new, model)
    for call in before:
        for change in _changes(before[call], after[call]):
            key = (change.path, _text(change.before), _text(change.after))
            found.setdefault(key, (change, []))[1].append(call)
    return [(change, tuple(name for name in names if name != _READING)) for change, names in found.values()]


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    decided = (
        [_SENT] if before.get(_SENT) != after.get(_SENT) else [*before, *after]
    )  # what is not sent has no other key
    for path in dict.fromkeys(decided):
        old, new = before.get(path, ABSENT), after.get(path, ABSENT)
        if _text(old) != _text(new):
            yield Change(path, old, new)


def _views(definition: Definition, model: str) -> dict[str, dict[str, Any]]:
    """{name of a call: its request, flat}, and the keys by which answers are read."""
    raw = definition.variant(model)
    reading = {key: raw[key] for key in READINGS if key in raw}
    auth = {key: raw["auth"][key] for key in _KEYS if key in raw.get("auth", {})}
    views = {name: _request(definition, call, raw) for name, call in calls(model)}
    return views | {_READING: flat(reading | ({"auth": auth} if auth else {}))}


def _request(definition: Definition, call: Call, raw: Mapping[str, Any]) -> dict[str, Any]:
    """The request of a call, flat, or what it is refused for: then it is not sent, and has no other key."""
    spec = definition.spec(call.model)
    if not spec.can("stream" if call.stream else "whole"):
        call = call._replace(stream=not call.stream)  # as core.exchange asks for it
    try:
        return _flat_request(build(spec, call, target(definition, raw)))
    except Error as error:
        return {_SENT: f"refused: {error.message}"}


def target(definition: Definition, raw: Mapping[str, Any]) -> Target:
    """An address with a stand-in for the key and for every variable."""
    spec = definition.spec()
    names = {*variable_names(spec.base_url), *named(raw), *named(definition.raw)}
    values = {name: f"${{{name}}}" for name in names}
    base_url = fill(spec.base_url, {name: name for name in names}) or "https://api.example"
    auth = {} if spec.auth.style == "none" else {spec.auth.name: _KEY.within(spec.auth.template)}
    return Target(
        provider=definition.id,
        base_url=base_url if "://" in base_url else f"https://{base_url}",
        auth=auth,
        in_query=spec.auth.style == "query",
        values={name: Secret(text) for name, text in values.items()},
    )


def _flat_request(request: HttpRequest) -> dict[str, Any]:
    url = urlsplit(request.url)
    query: Iterable[tuple[str, str]] = [
        *parse_qsl(url.query, keep_blank_values=True),
        *((name, value.reveal()) for name, value in request.query.items()),
    ]
    # The stand-ins of `target` are all that can be in a Secret here.
    headers = {name: revealed(value) for name, value in request.headers.items()}
    return {
        _SENT: "sent",
        "url": f"{url.scheme}://{url.netloc}{url.path}",
        **{f"query.{name}": value for name, value in query},
        **{f"headers.{name}": value for name, value in headers.items()},
        **flat(json.loads(request.body), ("body",)),
    }
