"""Where a server listens and what it speaks: every dialect at the paths where its providers have it, until one chats.

The dialects are those of the catalogue, the most spoken first; where each is usually found, its providers' own
files say. What a server answers with a web page, a redirect, or "no such path" is no door.
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
from prx.probe.remedies import coax
from prx.spec.loader import Loader

BASES = ("/v1", "", "/api/v1", "/v1beta")  # where any API may be
_COMMON = 2  # a path that so many providers of a dialect have is tried anywhere
_REDIRECTS = 3  # so many, and nothing else, and the server is elsewhere
_PATIENCE = 12  # so many more failures after a chat was heard and refused
_MODELS = 3  # so many models are tried where one is unknown
NO_MODEL = "default"  # asked for where nobody names one and there is no list
LIMIT = 400  # max_tokens of a question
HELLO: dict[str, Any] = {"messages": "Say hello.", "temperature": 0, "max_tokens": LIMIT}

# Ways of sending a key, after those of the dialects.
_STYLES: tuple[dict[str, Any], ...] = (
    {"style": "bearer"},
    {"style": "x-api-key"},
    {"style": "custom", "name": "api-key"},
    {"style": "custom", "name": "authorization"},
    {"style": "query", "name": "key"},
)
_NO_CHAT = re.compile(r"embed|rerank|moderat|image|audio|speech|tts|transcri|ocr|guard|video|realtime", re.IGNORECASE)
_CHEAP = re.compile(r"(?<![a-z])(nano|tiny|mini|small|lite|flash|fast|instant|free)(?![a-z])", re.IGNORECASE)

Sense = Literal["speaks", "walled", "busy", "hears", "unknown", "absent", "dead"]


class Door(NamedTuple):
    """A dialect and where it may be spoken."""

    dialect: str
    base_url: str


@dataclass
class Found:
    """The door that opened: the draft that got through, the first answer, and what was seen on the way."""

    draft: Draft
    answer: Answer
    model: str
    names: Answer | None
    findings: list[Finding]


# ------------------------------------------------------------------ where to look


def doors(catalog: Loader, url: str) -> list[Door]:
    """Every dialect at every path worth asking, the likeliest first."""
    own = _homes(catalog)
    homes = {dialect: list(dict.fromkeys([*paths[:1], *BASES, *paths[1:]])) for dialect, paths in own.items()}
    parts = urlsplit(url)
    given = parts.path.rstrip("/")
    paths = [(dialect, stem) for dialect in homes for stem in _named(catalog, dialect, given)]
    given = paths[0][1] if paths else given
    at_home = sorted(own, key=lambda dialect: not any(home and given.endswith(home) for home in own[dialect]))
    paths += [(dialect, given) for dialect in at_home] if given else []
    for rank in range(max(map(len, homes.values()), default=0)):
        ranked = ((dialect, home) for dialect, home in homes.items() if rank < len(home))
        paths += [(dialect, stem + home[rank]) for dialect, home in ranked for stem in _stems(given, home)]
    made = [Door(dialect, urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))) for dialect, path in paths]
    return list(dict.fromkeys(made))


def _homes(catalog: Loader) -> dict[str, list[str]]:
    """Dialects, the most spoken first, each with the paths of its base URLs: plain ones, then the commonest."""
    seen: dict[str, Counter[str]] = {name: Counter() for name in catalog.dialects() if _endpoints(catalog, name)}
    for entry in catalog.entries():
        if entry.packaged:
            raw = catalog.load(entry).raw
            path = urlsplit(raw.get("base_url", "")).path
            seen.setdefault(raw["dialect"], Counter()).update([path])
    order = sorted(seen, key=lambda name: -seen[name].total())
    return {name: list(_usual(seen[name])) for name in order}


def _usual(paths: Counter[str]) -> Iterator[str]:
    plain_first = sorted(paths.most_common(), key=lambda row: row[0] not in BASES)
    for place, (path, count) in enumerate(plain_first):
        if "$" not in path and (place == 0 or count >= _COMMON):
            yield path


def _endpoints(catalog: Loader, dialect: str) -> Mapping[str, str]:
    try:
        found: Mapping[str, str] = catalog.dialect_or_provider(dialect).get("endpoints", {})
    except Error:  # somebody's own dialect, with faults
        return {}
    return found


def _named(catalog: Loader, dialect: str, given: str) -> list[str]:
    """What stands before a dialect's own endpoint, where the path given ends in it."""
    paths = [path.partition("?")[0] for name, path in _endpoints(catalog, dialect).items() if name != "models"]
    return [found[1] for path in paths if (found := re.fullmatch(f"(.*){endpoint_pattern(path)}", given))]


def _stems(given: str, homes: Sequence[str]) -> list[str]:
    """What stands in the path given before a usual one; all of it, where it ends in none."""
    return [given.removesuffix(home) for home in homes if home and given.endswith(home)] or [given]


# ------------------------------------------------------------------ knocking

_SENSES: dict[str, Sense] = {
    "auth": "walled", "rate_limit": "busy", "quota": "busy", "protocol": "absent", "connection": "dead", "timeout": "dead",
}  # fmt: skip


def sense(answer: Answer) -> Sense:
    """What an answer says of the door it came from."""
    error = answer.error
    if error is None:
        return "speaks"
    words = re.sub(r"\S*/\S*", "", error.message).lower()  # without paths, which may hold the word as well
    if error.kind == "not_found" and "model" in words:
        return "unknown"
    if error.kind == "not_found" or error.status in (405, 410, 501):
        return "absent"
    return _SENSES.get(error.kind, "hears")


@dataclass
class Search:
    """One walk from door to door. wanted: the model that was named, "" for none."""

    line: Line
    catalog: Loader
    url: str
    name: str
    wanted: str
    say: Callable[[Finding], None]
    auth: dict[str, Any] | None = None  # the style that got past a refusal
    refused: str = ""  # what was refused before, in words
    hopeless: bool = False  # no style did
    lists: dict[str, Answer] = field(default_factory=dict)
    failures: list[Answer] = field(default_factory=list)

    def run(self) -> Found:
        """The first door that chats. Raises Error: nothing did, and why."""
        try:
            for door in doors(self.catalog, self.url):
                found = self._knock(door)
                if found is not None:
                    return found
                if self._enough():
                    break
        except SpentError:
            pass
        raise self._nothing()

    def _knock(self, door: Door) -> Found | None:
        draft = Draft.of(self.name, door.dialect, door.base_url, self.auth or self._own(door.dialect))
        draft, names = self._list(draft)
        for model in self._models(names):
            self.line.model = model
            draft, answer = self._let_in(draft, Ask(HELLO))
            coaxed = coax(self.line, draft, Ask(HELLO)) if sense(answer) == "hears" else None
            answer, draft = (coaxed.answer, coaxed.draft) if coaxed else (answer, draft)
            if sense(answer) == "speaks":
                return Found(draft, answer, model, names, list(coaxed.findings) if coaxed else [])
            self._note(answer)
            if sense(answer) != "unknown":
                return None
        return None

    def _list(self, draft: Draft) -> tuple[Draft, Answer | None]:
        """The list of models at a door; the same request is sent once only."""
        endpoints = _endpoints(self.catalog, draft.raw["extends"])
        if "models" not in endpoints:
            return draft, None
        key = f"{endpoint_url(draft.base_url, endpoints['models'])} {draft.auth}"
        if key not in self.lists:
            draft, self.lists[key] = self._let_in(draft, Ask(how="models"))
            self._note(self.lists[key])
        return draft, self.lists[key]

    def _models(self, names: Answer | None) -> list[str]:
        """Models to ask for: the one named, or a few of the list, those first that are small by their names."""
        if self.wanted:
            return [self.wanted]
        listed = names.names if names else ()
        listed = listed or next((answer.names for answer in self.lists.values() if answer.names), ())
        chats = [name for name in listed if not _NO_CHAT.search(name)]
        chats.sort(key=lambda name: not _CHEAP.search(name))
        return chats[:_MODELS] or [NO_MODEL]

    def _let_in(self, draft: Draft, ask: Ask) -> tuple[Draft, Answer]:
        """Ask; where the key is refused, send it in every other way."""
        answer = self.line.ask(draft, ask)
        if sense(answer) != "walled" or not self.line.key or self.hopeless:
            return draft, answer
        for style in self._styles(draft):
            other = self.line.ask(draft.with_auth(style), ask)
            if sense(other) != "walled":
                self.auth = style
                self.refused = f"as the key in another place was refused ({said(answer.error)})" if answer.error else ""
                return draft.with_auth(style), other
        self.hopeless = True
        return draft, answer

    def _styles(self, draft: Draft) -> list[dict[str, Any]]:
        """Ways of sending a key that are not the draft's own: the dialects', then the usual ones."""
        made: list[dict[str, Any]] = []
        for style in (*map(self._own, self.catalog.dialects()), *_STYLES):
            if style not in (draft.auth, *made):
                made.append(style)
        return made

    def _own(self, dialect: str) -> dict[str, Any]:
        """How a dialect sends a key; not at all where there is none."""
        found = {"auth": {}} if not _endpoints(self.catalog, dialect) else self.catalog.dialect_or_provider(dialect)
        own = {key: value for key, value in found.get("auth", {}).items() if key in ("style", "name", "template")}
        return (own or {"style": "bearer"}) if self.line.key else {"style": "none"}

    # -------------------------------------------------------------- what to say where nothing opened

    def _note(self, answer: Answer) -> None:
        """Keep a failure. Raises the error of a line that does not stand."""
        if answer.error is None:
            return
        if sense(answer) == "dead" and all(sense(each) == "dead" for each in self.failures[-1:]):
            raise answer.error
        self.failures.append(answer)
        self.say(Finding("door", "open", said(answer.error), answer.asked))

    def _enough(self) -> bool:
        """Whether it is no use to go on: all that came is redirects, or a door some way back has heard a chat."""
        statuses = [answer.error.status or 0 for answer in self.failures if answer.error]
        heard = next((place for place, answer in enumerate(self.failures) if _heard(answer)), len(self.failures))
        elsewhere = len(statuses) >= _REDIRECTS and all(300 <= status < 400 for status in statuses)
        return elsewhere or len(self.failures) - heard > _PATIENCE

    def _nothing(self) -> Error:
        """One sentence of why there is no file: the most telling failure."""
        chats_first = sorted(self.failures, key=lambda answer: not answer.asked.startswith("POST"))
        for kind in ("walled", "busy", "unknown", "hears"):
            for answer in chats_first:
                if sense(answer) == kind and answer.error is not None:
                    return _explained(kind, answer, self)
        last = next((answer.error for answer in self.failures if answer.error and answer.error.status != 404), None)
        text = f"no dialect was understood at {self.url}"
        hint = last.hint if last and last.status and 300 <= last.status < 400 else _WHERE
        return ProtocolError(f"{text}: {said(last)}" if last else text, hint=hint)


def _heard(answer: Answer) -> bool:
    return answer.asked.startswith("POST") and sense(answer) in ("walled", "hears", "unknown", "busy")


_WHERE = "Give the URL of its API, up to where the endpoints begin."
_NAME_ONE = "Name a model that it has: --model NAME."
_REASONS = {
    "walled": ("the key is refused, however it is sent", "Is it the right key for this host?"),
    "keyless": ("the server wants a key", "Name the variable that holds it: --key-env NAME."),
    "busy": ("the server takes no requests now, so nothing was learned", "Try again later."),
    "unknown": ("the server does not know the model", _NAME_ONE),
    "hears": (
        "something answers, but no chat came through",
        "Are the key and the model right? --model NAME names one.",
    ),
}


def _explained(kind: str, answer: Answer, search: Search) -> Error:
    assert answer.error is not None
    where, what = f"{answer.asked} at {search.url}", said(answer.error)
    if kind == "walled" and not search.line.key:
        kind = "keyless"
    sentence, hint = _REASONS[kind]
    cls = ConfigError if kind in ("hears", "unknown") else type(answer.error)
    return cls(f"{sentence} ({where}: {what})", hint=hint)
