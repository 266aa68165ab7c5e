"""A face: the inbound half of a dialect, by which programs that speak it call any provider. Made from a file's `serve`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

from prx.chat import NONE
from prx.lang import bounds
from prx.lang.compiled import Expressions
from prx.lang.template import WORDS, Template
from prx.record import Record
from prx.spec import written
from prx.spec.document import Keys
from prx.spec.faults import Fault
from prx.spec.model import BINARY, KINDS_OF_CALLS
from prx.text import nearest

KINDS = ("reasoning", "text", "refusal", "tool_call")  # of blocks, as in prx.chat.Part
OPERATIONS = ("models", "model", "version", "example")
MOMENTS = ("open", "piece", "close")  # of a block in a stream
_OF_REQUEST = ("model", "stream", "messages", "tools", "tool_choice")
# Names that the formulas of an answer can read: of the whole answer, and, where a block is written, of that block.
ANSWER = ("answer", "asked", "reply", "message", "blocks", "usage", "finish_reason", "error", "names")
# Of the answer to a call that is no chat.
OF_CALL = ("answer", "asked", "result", "rows", "usage", "finish_reason")
BLOCK = ("kind", "place", "number", "key", "text", "piece", "id", "name", "arguments", "input", "replay", "hidden")
_OF_EVENTS = {"unasked": "unasked", "several": "as_it_comes"}  # {field of Face: its key of `stream`}
_MOST_NESTED = 20  # shapes within shapes


class Entrance(Record):
    """A route of a face: `at`, "METHOD /path" with {model} for a name; `use`, what is asked for there.

    stream   the answer is a stream whatever the body says
    header   name of a header that has to be there
    query    a parameter of the URL that has to be there, as name=value
    endpoint path at the provider, where the provider's file does not say it
    framing  of the stream, where it is another than the face's
    """

    at: str
    use: str
    stream: bool = False
    header: str = ""
    query: str = ""
    endpoint: str = ""
    framing: str = ""


class ServedCall(Record):
    """How a call that is no chat is understood and answered; see the schema.

    request  {argument or parameter: its template}
    """

    kind: str
    request: Mapping[str, Template] = NONE
    within: Template | None = None
    same_name: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    as_it_comes: bool = True
    reply: Template | None = None

    @property
    def arguments(self) -> frozenset[str]:
        """Those names of `request` that are arguments of the kind."""
        return frozenset(self.request).intersection(KINDS_OF_CALLS[self.kind][0])

    @property
    def parameters(self) -> frozenset[str]:
        """The parameters that bodies of this dialect have."""
        return frozenset((*self.request, *self.same_name)) - self.arguments

    def templates(self) -> Iterator[Template]:
        yield from self.request.values()
        yield from (template for template in (self.within, self.reply) if template is not None)


class Face(Record):
    """How a dialect is spoken to its callers; see `serve` in the schema. Templates are compiled at first use.

    request      {part of the call: its template}; formulas read the body's keys, and `path`
    parameters   {parameter of the call: its template}
    calls        {kind of a call that is no chat: how it is served}
    steps        {(moment, kind of block): templates of events}
    written      the keys of its events, as a tree: a mapping of keys, a list with one such tree, or None
    error_types  {kind of Error: the dialect's word}
    as_it_comes  whether answers in this dialect are handed on as they came
    several      the formula that says so of a stream, by the caller's body
    """

    id: str
    entrances: tuple[Entrance, ...]
    request: Mapping[str, Template]
    parameters: Mapping[str, Template]
    reply: Template
    error_body: Template
    begin: tuple[Template, ...] = ()
    end: tuple[Template, ...] = ()
    error: tuple[Template, ...] = ()
    steps: Mapping[tuple[str, str], tuple[Template, ...]] = NONE
    operations: Mapping[str, Template] = NONE
    calls: Mapping[str, ServedCall] = NONE
    written: Any = None
    unasked: Template | None = None
    several: Template | None = None
    as_it_comes: bool = False
    passes: tuple[str, ...] = ()
    same_name: tuple[str, ...] = ()
    adds: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    refuses: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    join: str = ""
    pair_results: bool = False
    finish_reasons: Mapping[str, str] = NONE
    error_types: Mapping[str, str] = NONE
    framing: str = "sse"
    event_name: str = ""
    numbered: str = ""
    objects_only: bool = False
    done: str = ""

    @cached_property
    def keys(self) -> frozenset[str]:
        """The keys that bodies of this dialect have."""
        templates = (*self.request.values(), *self.parameters.values())
        return frozenset(name for template in templates for name in template.reads).union(self.same_name, self.reads)

    @cached_property
    def renamed(self) -> frozenset[str]:
        """The keys of a body that become no parameter of their own name."""
        return self.keys.difference(self.same_name)

    def templates(self) -> Iterator[Template]:
        yield from (*self.request.values(), *self.parameters.values(), *self.operations.values())
        yield from (self.reply, self.error_body, *self.begin, *self.end, *self.error)
        yield from (template for template in (self.unasked, self.several) if template is not None)
        for events in self.steps.values():
            yield from events
        for call in self.calls.values():
            yield from call.templates()


def compile_face(name: str, serve: Mapping[str, Any], expressions: Expressions) -> Face:
    """The Face of a dialect from its `serve`, which the schema has accepted."""
    shapes = serve.get("shapes", {})

    def template(node: Any, *path: str | int, known: tuple[str, ...] = (*ANSWER, *BLOCK)) -> Template:
        return Template(expanded(node, shapes), ("serve", *path), known, expressions)

    def events(path: Keys, rows: Any) -> tuple[Template, ...]:
        return tuple(template(row, *path, place) for place, row in enumerate(rows or ()))

    request, stream, errors = serve["request"], serve.get("stream", {}), serve.get("errors", {})
    wanted = {key: request[key] for key in _OF_REQUEST if key in request}
    given = request.get("parameters", {})
    fields: dict[str, Any] = {
        "id": name,
        "entrances": tuple(map(_entrance, serve["routes"])),
        "request": {key: template(node, "request", key, known=()) for key, node in wanted.items()},
        "parameters": {key: template(node, "request", "parameters", key, known=()) for key, node in given.items()},
        "reply": template(serve.get("reply", {}), "reply"),
        "error_body": template(errors.get("body", {}), "errors", "body"),
        "steps": {
            (moment, kind): events(("stream", moment, kind), _rows(stream.get(moment, {}), kind))
            for moment in MOMENTS
            for kind in KINDS
        },
        "calls": {kind: _call(kind, row, template) for kind, row in serve.get("calls", {}).items()},
        "operations": {key: template(serve[key], key) for key in OPERATIONS if key in serve},
        **{name: template(stream[key], "stream", key, known=()) for name, key in _OF_EVENTS.items() if key in stream},
        "written": written.keys(expanded(stream, shapes), MOMENTS),
    }
    fields |= {moment: events(("stream", moment), stream.get(moment)) for moment in ("begin", "end", "error")}
    return Face(**fields, **_plain_keys(serve))


def _call(kind: str, row: Mapping[str, Any], template: Callable[..., Template]) -> ServedCall:
    path = ("calls", kind)
    fields: dict[str, Any] = {key: tuple(row[key]) for key in ("same_name", "reads", "hints") if key in row}
    fields |= {"as_it_comes": row["as_it_comes"]} if "as_it_comes" in row else {}
    fields |= {"within": template(row["within"], *path, "within", known=())} if "within" in row else {}
    fields |= {"reply": template(row["reply"], *path, "reply", known=OF_CALL)} if "reply" in row else {}
    asked = row.get("request", {}).items()
    request = {name: template(node, *path, "request", name, known=()) for name, node in asked}
    return ServedCall(kind, request, **fields)


def _plain_keys(serve: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that stand in the file as they are."""
    request, stream = serve["request"], serve.get("stream", {})
    lists = {key: tuple(serve[key]) for key in ("passes", "reads", "refuses", "hints") if key in serve}
    lists |= {key: tuple(request[key]) for key in ("same_name", "adds") if key in request}
    words = {"finish_reasons": serve.get("finish_reasons", {}), "error_types": serve.get("errors", {}).get("types", {})}
    own = {key: request[key] for key in ("join", "pair_results") if key in request}
    of_stream = ("framing", "event_name", "numbered", "objects_only", "done")
    own |= {key: stream[key] for key in of_stream if key in stream}
    return {**lists, **words, **own, "as_it_comes": serve.get("as_it_comes", False)}


def _entrance(row: Mapping[str, Any]) -> Entrance:
    return Entrance(**{"use" if key == "for" else key: value for key, value in row.items()})


def _rows(by_kind: Mapping[str, Any], kind: str) -> Any:
    """The events for a kind of block; a kind may name another one, whose events it shares."""
    rows = by_kind.get(kind)
    return by_kind.get(rows) if isinstance(rows, str) else rows


def expanded(node: Any, shapes: Mapping[str, Any], depth: int = 0) -> Any:
    """A template with {use: name} replaced by the shape of that name; one that is not there, or within itself, stays."""
    if isinstance(node, dict):
        if node.keys() == {"use"} and node["use"] in shapes and depth < _MOST_NESTED:
            return expanded(shapes[node["use"]], shapes, depth + 1)
        return {key: expanded(child, shapes, depth) for key, child in node.items()}
    return [expanded(child, shapes, depth) for child in node] if isinstance(node, list) else node


def faults(name: str, serve: Mapping[str, Any], expressions: Expressions) -> Iterator[Fault]:
    """The faults of a `serve` that the schema has accepted."""
    yield from _unknown_shapes(serve, serve.get("shapes", {}), ("serve",))
    yield from _of_routes(serve)
    yield from _of_streams(serve)
    for kind, row in serve.get("calls", {}).items():
        if "reply" not in row and kind not in BINARY:
            yield ("serve", "calls", kind), "needs `reply`: how its answer is written", None
    stream = serve.get("stream", {})
    for moment in MOMENTS:
        by_kind = stream.get(moment, {})
        for kind, rows in by_kind.items():
            if isinstance(rows, str) and not isinstance(by_kind.get(rows), list):
                yield ("serve", "stream", moment, kind), f"{rows!r} has no list of events here", None
    for template in compile_face(name, serve, expressions).templates():
        yield from template.problems
        if template.growth > bounds.MAX_TEMPLATE:
            yield template.path, f"may repeat its input more than {bounds.MAX_TEMPLATE} times in its result", None


def _of_routes(serve: Mapping[str, Any]) -> Iterator[Fault]:
    """What a route asks for, and nothing answers."""
    for place, route in enumerate(serve["routes"]):
        path, use = ("serve", "routes", place), route["for"]
        if use == "pass" and "endpoint" not in route:
            yield path, "needs `endpoint`: the path at the provider to which it is passed on", None
        if use in KINDS_OF_CALLS and use not in serve.get("calls", {}):
            yield path, f"needs `calls.{use}` beside `routes`: how its body is read, and its answer written", None
        if use in OPERATIONS and use not in serve:
            yield path, f"needs `{use}` beside `routes`: a template of the body that is given here", None
        for hole in re.findall(r"\{[^}]*\}", route["at"].replace("{model}", "", 1)):
            yield (*path, "at"), f"{hole} stands for nothing; only {{model}} does, once", None


def _of_streams(serve: Mapping[str, Any]) -> Iterator[Fault]:
    request, stream = serve["request"], serve.get("stream", {})
    for key in ("model", "stream"):
        if not request.get(key, "=").startswith("="):
            yield (
                ("serve", "request", key),
                f"is no formula, so every call would have it; did you mean '={request[key]}'?",
                None,
            )
    wanted = "stream" in request or any(route.get("stream") for route in serve["routes"])
    if "stream" in request and not stream:
        yield (
            ("serve", "request", "stream"),
            "needs `stream` beside `request`: how the events of a stream are written",
            None,
        )
    if stream and not wanted:
        yield (
            ("serve", "stream"),
            "is never asked for: `request.stream` says when it is, or `stream: true` in a route",
            None,
        )
    if (name := stream.get("event_name")) and stream.get("framing", "sse") == "sse":
        for path, event in _events(stream):
            shown = expanded(event, serve.get("shapes", {}))
            if name not in shown and not shown.keys() & {"use", *WORDS}:
                yield path, f"needs {name!r}, which is the name of an event by `event_name`", None


def _events(stream: Mapping[str, Any]) -> Iterator[tuple[Keys, Any]]:
    """(path, template) of each event."""
    lists: dict[Keys, Any] = {(moment,): stream.get(moment, ()) for moment in ("begin", "end", "error")}
    lists |= {(moment, kind): rows for moment in MOMENTS for kind, rows in stream.get(moment, {}).items()}
    for keys, rows in lists.items():
        for place, row in enumerate(rows if isinstance(rows, list) else ()):
            yield ("serve", "stream", *keys, place), row


def _unknown_shapes(node: Any, shapes: Mapping[str, Any], path: Keys) -> Iterator[Fault]:
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in inner:
        yield from _unknown_shapes(child, shapes, (*path, key))
    if isinstance(node, dict) and node.keys() == {"use"}:
        if node["use"] not in shapes:
            yield (*path, "use"), f"there is no shape {node['use']!r}{nearest(str(node['use']), shapes)}", None
        elif _holds_itself(node["use"], shapes):
            yield (*path, "use"), f"the shape {node['use']!r} is within itself", None


def _holds_itself(name: str, shapes: Mapping[str, Any]) -> bool:
    within: set[str] = set()
    found = _used(shapes[name])
    while found:
        within |= found
        found = {inner for each in found if each in shapes for inner in _used(shapes[each])} - within
    return name in within


def _used(node: Any) -> set[str]:
    if isinstance(node, dict) and node.keys() == {"use"}:
        return {str(node["use"])}
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return {name for child in inner for name in _used(child)}
