"""Finds the dialect and the base URL of a server: tries every dialect at the usual paths until a chat is answered.

A door is a dialect at a base URL. The dialects are those of the catalogue, the most used ones first; their usual paths
come from their providers' files. An answer that is a web page, a redirect or "no such path" means that there is no door.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from prx.core.request import endpoint_pattern, endpoint_url
from prx.errors import ConfigError, Error, ProtocolError
from prx.probe.draft import Draft
from prx.probe.findings import Finding, said
from prx.probe.line import Answer, Ask, Line, SpentError
from prx.probe.names import for_chats
from prx.probe.remedies import ask_with_remedies
from prx.spec.loader import Loader

BASES = ("/v1", "", "/api/v1", "/v1beta")  # paths that are tried for every dialect
_COMMON = 2  # a path that at least so many providers of a dialect have is tried with every server
_REDIRECTS = 3  # after so many redirects, and no other answer, the search ends
_MAX_FAILURES = 12  # after a chat was understood and refused, the search ends with so many further failures
_NO_PATH = (404, 405, 410, 501)  # statuses of a path that a server does not have
_MODELS = 3  # so many models are tried if the server does not know them
NO_MODEL = "default"  # the model to call where the user names none and the server has no list
LIMIT = 400  # max_tokens of a question
HELLO: dict[str, Any] = {"messages": "Say hello.", "temperature": 0, "max_tokens": LIMIT}

# Styles of sending a key that are tried after those of the dialects.
_STYLES: tuple[dict[str, Any], ...] = (
    {"style": "bearer"},
    {"style": "x-api-key"},
    {"style": "custom", "name": "api-key"},
    {"style": "custom", "name": "authorization"},
    {"style": "query", "name": "key"},
)

# What an answer shows: a chat was answered · the key was refused · the server has no capacity · the request was understood
# and refused · the model is unknown · there is no such path or dialect · the server was not reached.
Sense = Literal["answered", "key_refused", "busy", "understood", "unknown_model", "absent", "unreachable"]


class Door(NamedTuple):
    """A dialect, and a base URL where a server may have it. endpoint: the path of a chat, "" for the dialect's own."""

    dialect: str
    base_url: str
    endpoint: str = ""


@dataclass
class Found:
    """The result of the search.

    draft     the file with which the chat was answered
    answer    to that chat
    names     the answer with the list of models, or None where the dialect has no list
    findings  what had to be changed in the requests
    """

    draft: Draft
    answer: Answer
    model: str
    names: Answer | None
    findings: list[Finding]


# ------------------------------------------------------------------ where to look


def doors(catalog: Loader, url: str) -> list[Door]:
    """Every dialect at every path worth trying, the most likely first: where the URL ends in an endpoint of a dialect, that
    dialect; then the URL as it is, with the dialect's endpoints below it and as an endpoint itself; then the usual paths,
    those of all dialects in turn.
    """
    own_paths = _usual_paths(catalog)
    tried_paths = {
        dialect: list(dict.fromkeys([*paths[:1], *BASES, *paths[1:]])) for dialect, paths in own_paths.items()
    }
    parts = urlsplit(url)
    given = parts.path.rstrip("/")
    before = [(dialect, base, "") for dialect in tried_paths for base in _before_endpoint(catalog, dialect, given)]
    rows = list(before)
    if rows:
        _, given, _ = rows[0]
    by_ending = sorted(
        own_paths, key=lambda dialect: not any(path and given.endswith(path) for path in own_paths[dialect])
    )
    rows += [(dialect, given, "") for dialect in by_ending] if given else []
    parent, slash, last = given.rpartition("/")
    if parent and not before:  # a path of one step is rather the API's than an endpoint's
        rows += [(dialect, parent, slash + last) for dialect in by_ending]
    for rank in range(max(map(len, tried_paths.values()), default=0)):
        ranked = ((dialect, paths) for dialect, paths in tried_paths.items() if rank < len(paths))
        rows += [(dialect, stem + paths[rank], "") for dialect, paths in ranked for stem in _stems(given, paths)]
    found = [
        Door(dialect, urlunsplit((parts.scheme, parts.netloc, path, parts.query, "")), end)
        for dialect, path, end in rows
    ]
    return list(dict.fromkeys(found))


def _usual_paths(catalog: Loader) -> dict[str, list[str]]:
    """{dialect: paths of its providers' base URLs}; the most used dialect comes first; of its paths those of BASES, then
    the most common.
    """
    counts: dict[str, Counter[str]] = {name: Counter() for name in catalog.dialects() if _endpoints(catalog, name)}
    for entry in catalog.entries():
        raw = catalog.load(entry).raw if entry.packaged else {}
        if "chat" in raw.get("endpoints", {}):
            path = urlsplit(raw.get("base_url", "")).path
            counts.setdefault(raw["dialect"], Counter()).update([path])
    order = sorted(counts, key=lambda name: -counts[name].total())
    return {name: list(_common(counts[name])) for name in order}


def _common(paths: Counter[str]) -> Iterator[str]:
    plain_first = sorted(paths.most_common(), key=lambda row: row[0] not in BASES)
    for place, (path, count) in enumerate(plain_first):
        if "$" not in path and (place == 0 or count >= _COMMON):
            yield path


def _endpoints(catalog: Loader, dialect: str) -> Mapping[str, str]:
    try:
        endpoints: Mapping[str, str] = catalog.dialect_or_provider(dialect).get("endpoints", {})
    except Error:  # a faulty dialect in a folder of the user's
        return {}
    return endpoints


def _before_endpoint(catalog: Loader, dialect: str, given: str) -> list[str]:
    """The part of a path before an endpoint of a dialect that it ends in; [] where it ends in none."""
    paths = [path.partition("?")[0] for name, path in _endpoints(catalog, dialect).items() if name != "models"]
    return [match[1] for path in paths if (match := re.fullmatch(f"(.*){endpoint_pattern(path)}", given))]


def _stems(given: str, paths: Sequence[str]) -> list[str]:
    """The parts of the given path before each usual path that it ends in; the whole path where it ends in none."""
    return [given.removesuffix(path) for path in paths if path and given.endswith(path)] or [given]


# ------------------------------------------------------------------ trying doors

_SENSES: dict[str, Sense] = {
    "auth": "key_refused", "rate_limit": "busy", "quota": "busy", "protocol": "absent",
    "connection": "unreachable", "timeout": "unreachable",
}  # fmt: skip


def sense(answer: Answer) -> Sense:
    """What an answer shows about its door."""
    error = answer.error
    if error is None:
        return "answered"
    text = re.sub(r"\S*/\S*", "", error.message).lower()  # without paths, in which the word "model" may occur as well
    if error.kind == "not_found" and ("model" in text or _names_model(error)):
        return "unknown_model"
    if error.kind == "not_found" or error.status in _NO_PATH:
        return "absent"
    return _SENSES.get(error.kind, "understood")


def no_such_path(answer: Answer) -> bool:
    """Whether the server says that it has nothing at the path of the request."""
    return sense(answer) == "absent" and answer.error is not None and answer.error.status in _NO_PATH


def _names_model(error: Error) -> bool:
    """Whether an error has the name of the model that was called in it, in quotes."""
    name = (error.view.get("call") or {}).get("model")
    return bool(name) and any(f"{mark}{name}{mark}" in error.message for mark in "'\"`")


@dataclass
class Search:
    """The search for a door. name: id of the new provider; wanted: the model that the user named, "" for none."""

    line: Line
    catalog: Loader
    url: str
    name: str
    wanted: str
    say: Callable[[Finding], None]
    auth: dict[str, Any] | None = None  # the style of sending the key that was accepted after a refusal
    refused: str = ""  # a clause about the refusal
    hopeless: bool = False  # whether every style was refused
    lists: dict[str, Answer] = field(default_factory=dict)
    failures: list[Answer] = field(default_factory=list)

    def run(self) -> Found:
        """The first door at which a chat is answered. Raises Error, with the reason, where there is none."""
        try:
            for door in doors(self.catalog, self.url):
                found = self._try(door)
                if found is not None:
                    return found
                if self._is_pointless():
                    break
        except SpentError:
            pass
        raise self._failure()

    def _try(self, door: Door) -> Found | None:
        auth = self.auth or self._own_style(door.dialect)
        draft = Draft.of(self.name, door.dialect, door.base_url, auth, door.endpoint)
        draft, names = self._list(draft)
        for model in self._models(names):
            self.line.model = model
            draft, answer = self._ask_with_any_style(draft, Ask(HELLO))
            adapted = ask_with_remedies(self.line, draft, Ask(HELLO)) if sense(answer) == "understood" else None
            answer, draft = (adapted.answer, adapted.draft) if adapted else (answer, draft)
            if sense(answer) == "answered":
                return Found(draft, answer, model, names, list(adapted.findings) if adapted else [])
            self._note(answer)
            if sense(answer) != "unknown_model":
                return None
        return None

    def _list(self, draft: Draft) -> tuple[Draft, Answer | None]:
        """(draft with the accepted style of the key, list of models or None). A request that was sent before is not
        repeated.
        """
        endpoints = _endpoints(self.catalog, draft.raw["extends"])
        if "models" not in endpoints:
            return draft, None
        key = f"{endpoint_url(draft.base_url, endpoints['models'])} {draft.auth}"
        if key not in self.lists:
            draft, self.lists[key] = self._ask_with_any_style(draft, Ask(how="models"))
            self._note(self.lists[key])
        return draft, self.lists[key]

    def _models(self, names: Answer | None) -> list[str]:
        """The models to try: the one that the user named, or a few of the list; models with small names come first."""
        if self.wanted:
            return [self.wanted]
        listed = names.names if names else ()
        listed = listed or next((answer.names for answer in self.lists.values() if answer.names), ())
        return for_chats(listed)[:_MODELS] or [NO_MODEL]

    def _ask_with_any_style(self, draft: Draft, ask: Ask) -> tuple[Draft, Answer]:
        """Send a request; where the key is refused, with every other style of sending it."""
        answer = self.line.ask(draft, ask)
        if sense(answer) != "key_refused" or not self.line.key or self.hopeless:
            return draft, answer
        for style in self._styles(draft):
            other = self.line.ask(draft.with_auth(style), ask)
            if sense(other) != "key_refused":
                self.auth = style
                self.refused = (
                    f"after the key was refused in another place ({said(answer.error)})" if answer.error else ""
                )
                return draft.with_auth(style), other
        self.hopeless = True
        return draft, answer

    def _styles(self, draft: Draft) -> list[dict[str, Any]]:
        """Styles of sending a key other than the draft's: those of the dialects, then the usual ones."""
        styles: list[dict[str, Any]] = []
        for style in (*map(self._own_style, self.catalog.dialects()), *_STYLES):
            if style not in (draft.auth, *styles):
                styles.append(style)
        return styles

    def _own_style(self, dialect: str) -> dict[str, Any]:
        """The style in which a dialect sends a key; the style "none" where there is no key."""
        raw = {"auth": {}} if not _endpoints(self.catalog, dialect) else self.catalog.dialect_or_provider(dialect)
        own = {key: value for key, value in raw.get("auth", {}).items() if key in ("style", "name", "template")}
        return (own or {"style": "bearer"}) if self.line.key else {"style": "none"}

    # -------------------------------------------------------------- failures

    def _note(self, answer: Answer) -> None:
        """Keep the failure of an answer. Raises its error where the server was not reached twice in a row."""
        if answer.error is None:
            return
        if sense(answer) == "unreachable" and all(sense(each) == "unreachable" for each in self.failures[-1:]):
            raise answer.error
        self.failures.append(answer)
        self.say(Finding("door", "open", said(answer.error), answer.asked))

    def _is_pointless(self) -> bool:
        """Whether further doors are not worth trying: all answers are redirects, or an earlier door understood a chat."""
        statuses = [answer.error.status or 0 for answer in self.failures if answer.error]
        understood = next(
            (place for place, answer in enumerate(self.failures) if _understood_chat(answer)), len(self.failures)
        )
        only_redirects = len(statuses) >= _REDIRECTS and all(300 <= status < 400 for status in statuses)
        return only_redirects or len(self.failures) - understood > _MAX_FAILURES

    def _failure(self) -> Error:
        """The error of a search without a result; it explains the failure that shows most."""
        chats_first = sorted(self.failures, key=lambda answer: not answer.asked.startswith("POST"))
        for kind in ("key_refused", "busy", "unknown_model", "understood"):
            for answer in chats_first:
                if sense(answer) == kind and answer.error is not None:
                    return _explained(kind, answer, self)
        last = next((answer.error for answer in self.failures if answer.error and answer.error.status != 404), None)
        text = f"no dialect was understood at {self.url}"
        hint = last.hint if last and last.status and 300 <= last.status < 400 else _GIVE_URL
        return ProtocolError(f"{text}: {said(last)}" if last else text, hint=hint)


def _understood_chat(answer: Answer) -> bool:
    is_chat = answer.asked.startswith("POST")
    return is_chat and sense(answer) in ("key_refused", "understood", "unknown_model", "busy")


_GIVE_URL = "Give the URL of its API, up to where the endpoints begin."
_NAME_ONE = "Name a model that it has: --model NAME."
# {what the failure shows: (sentence, hint)}
_REASONS = {
    "key_refused": ("the server refuses the key, in every place of a request", "Is it the right key for this host?"),
    "no_key": ("the server requires a key", "Name the environment variable that holds it: --key-env NAME."),
    "busy": ("the server takes no requests now, so nothing was learned", "Try again later."),
    "unknown_model": ("the server does not know the model", _NAME_ONE),
    "understood": (
        "the server answers, but refuses every chat",
        "Are the key and the model right? --model NAME names one.",
    ),
}


def _explained(kind: str, answer: Answer, search: Search) -> Error:
    assert answer.error is not None
    request, reason = f"{answer.asked} at {search.url}", said(answer.error)
    if kind == "key_refused" and not search.line.key:
        kind = "no_key"
    sentence, hint = _REASONS[kind]
    if kind in ("understood", "unknown_model") and search.line.model == NO_MODEL and not search.wanted:
        hint = f"It lists no models, so the name {NO_MODEL!r} was tried. {_NAME_ONE}"
    cls = ConfigError if kind in ("understood", "unknown_model") else type(answer.error)
    return cls(f"{sentence} ({request}: {reason})", hint=hint)
