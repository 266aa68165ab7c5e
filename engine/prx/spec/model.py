"""The Spec: a provider's file, compiled, as the core uses it. Field names are the schema's keys, and a field's default is the
schema's `default`; the engine has it nowhere else.

Expressions are compiled at first use and once: a call for a whole answer needs no extractor of a stream, and a process that
makes one call should not pay for fifty. `prx check` and the loading of a user's file check them all at once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from prx.chat import NONE
from prx.lang.codegen import Function
from prx.lang.compiled import Expressions, Key
from prx.lang.template import Template
from prx.lang.tree import QueryError
from prx.record import Record
from prx.spec.document import Keys
from prx.spec.resolve import PART, fits


class Found(NamedTuple):
    """The values that a reader finds in a body or an event: whether it is an error (detect), then the schema's keys."""

    detect: Any
    block: Any
    content: Any
    reasoning: Any
    refusal: Any
    tool_calls: Any
    older_call: Any
    whole: Any
    whole_calls: Any
    server_calls: Any
    finish_reason: Any
    usage: Any
    model: Any
    final: Any
    end: Any


FOUND = Found._fields[1:]  # the keys of `response` and `stream`; `detect` is a key of `errors`
CALL = ("index", "item", "id", "name", "arguments", "free_form")
TOKENS = ("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "reasoning_tokens")
FOUND_IN_TOKEN = ("token", "expires_in", "expires_at", "base_url", "message")  # of the answer of an exchange
FAULT = ("message", "reason", "code", "type", "status", "retry_after")
# The names that the formulas of a request's body can read.
VIEW = (
    "model", "messages", "tools", "tool_choice", "stream", "params", "system", "system_parts", "turns", "sides",
    "choice",
)  # fmt: skip
# Of each kind of call that is no chat: its arguments, what is found in its answer, and in each row of the answer's list.
KINDS_OF_CALLS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "embed": (("input", "dimensions", "input_type", "rows"), ("vectors", "order"), ()),
    "rerank": (("query", "documents", "top_n", "rows"), ("results",), ("index", "score")),
    "image": (("prompt", "n", "size"), ("images", "media_type"), ("data", "url", "media_type", "revised_prompt")),
    "speech": (("text", "voice", "format"), ("audio", "media_type"), ()),
    "transcribe": (("file", "language"), ("text", "language", "duration", "segments"), ()),
    "moderate": (("input",), ("results",), ("flagged",)),
    "count_tokens": (("messages", "tools", "body"), ("count",), ()),
    "complete": (("prompt", "suffix"), ("text", "finish_reason"), ()),
}
OF_ALL_ANSWERS = ("usage", "model")
BINARY = ("speech",)  # kinds whose answers are bytes, unless the server says that they are JSON
MODEL_PLACES = ("model", "encoded_model")  # what stands in paths for the model's name
PLACE = re.compile(r"\{(\w+)\}")  # of an argument, in the path of a call that is no chat
# The keys of `request` that change messages, in the order in which they are applied.
MESSAGE_CHANGES = (
    "roles", "marks", "keys", "fill", "system", "tool_results", "blank_text", "content", "same_role", "insert", "prefill", "prefill_keys", "strip",
)  # fmt: skip
NOTHING = "`null`"


class Query:
    """One or several expressions of a spec, compiled at first use.

    path      of the block of the file that has them
    sources   {name: an expression, or a list of alternatives}
    names     the names to evaluate, in this order
    """

    def __init__(
        self, expressions: Expressions, path: Keys, sources: Mapping[Any, Any], names: tuple[Any, ...] = ()
    ) -> None:
        self._expressions = expressions
        self.path = path
        self.sources = sources
        self.names = names or tuple(sources)

    @property
    def key(self) -> Key:
        """The expressions, one for each name."""
        return tuple(_any_of(self.sources.get(name) or NOTHING) for name in self.names)

    @cached_property
    def run(self) -> Function:
        """The function from a JSON value to a tuple in the order of `names`, with None for a name without expression."""
        return self._expressions.function(self.key)

    def problems(self) -> Iterator[tuple[Keys, str, int | None]]:
        """(path, sentence, column) of every expression that cannot be compiled."""
        if self._expressions.are_checked(self.key):
            return
        from prx.lang import query  # imported here: it imports jmespath

        for name in self.names:
            source = self.sources.get(name) or ()
            for place, text in enumerate([source] if isinstance(source, str) else source):
                try:
                    query.checked(text)
                except QueryError as error:
                    yield (*self.path, name, *([] if isinstance(source, str) else [place])), str(error), error.column


def _any_of(alternatives: str | Sequence[str]) -> str:
    """One expression for a list of alternatives: the first that finds something counts."""
    if isinstance(alternatives, str):
        return alternatives
    return alternatives[0] if len(alternatives) == 1 else " || ".join(f"({item})" for item in alternatives)


class Jwt(Record):
    """The JSON Web Token that a credential signs; see the schema."""

    claims: Mapping[str, Any] = NONE
    key: str = ""
    header: Mapping[str, str] = NONE
    lasts: float = 3600


class TokenAnswer(Record):
    """What the answer of an exchange has; see the schema. found: gives the values of FOUND_IN_TOKEN."""

    found: Query
    unit: str = "s"


class TokenForm(Record):
    """How a credential is exchanged for a token; see the schema."""

    answer: TokenAnswer
    url: str = ""
    method: str = "POST"
    basic: str = ""
    headers: Mapping[str, str] = NONE
    form: Mapping[str, str] | None = None
    json: Mapping[str, Any] | None = None
    lasts: float = 300
    hosts: tuple[str, ...] = ()
    sent: Mapping[str, str] = NONE


class Aws4(Record):
    """How requests are signed where `sign` is aws4; see the schema. The last three are names of environment variables."""

    service: str = ""
    region: str = ""
    access_id: str = ""
    secret: str = ""
    session_token: str = ""


class Auth(Record):
    """How a key is sent. name, template: those of the style, unless the file has others.

    credential  {part: environment variable}, or the variables of which the first that is set counts; see the schema
    """

    name: str
    template: str
    style: str = "bearer"
    env: tuple[str, ...] = ()
    required: bool = False
    credential: Mapping[str, str] | tuple[str, ...] = ()
    sign: str = ""
    jwt: Jwt | None = None
    token: TokenForm | None = None
    aws4: Aws4 | None = None


class Parameter(Record):
    """How one parameter is changed; see the schema."""

    name: str
    default: Any = None
    values: Mapping[str, Any] = NONE
    min: float | None = None
    max: float | None = None
    drop: bool = False
    rename: str = ""


class Inserted(Record):
    """A message to insert between two roles; see the schema."""

    after: str
    before: str
    message: Mapping[str, str]


class Filled(Record):
    """A key to add to messages for which `when` holds, or to all; see the schema."""

    name: str
    value: Any
    when: Query | None = None


class NameForm(Record):
    """The form of names or ids that an API accepts; see the schema."""

    characters: str = ""
    first: str = ""
    min: int = 1
    max: int | None = None

    @cached_property
    def fits(self) -> Callable[[str], Any]:
        """A function from a name to whether it has this form."""
        first, rest = self.pattern_of_first, _class(self.characters)
        most = "" if self.max is None else self.max - 1
        return re.compile(f"{first}{rest}{{{self.min - 1},{most}}}", re.DOTALL).fullmatch

    @property
    def pattern_of_first(self) -> str:
        return _class(self.first or self.characters)

    @cached_property
    def letters(self) -> str:
        """The allowed lower-case letters and digits, of which the hashes in changed names are made."""
        return "".join(re.findall(_class(self.characters), "0123456789abcdefghijklmnopqrstuvwxyz"))

    @cached_property
    def starts(self) -> str:
        """The allowed characters with which a changed name may begin."""
        return "".join(re.findall(self.pattern_of_first, "_abcdefghijklmnopqrstuvwxyz0123456789"))


def _class(characters: str) -> str:
    return f"[{characters}]" if characters else "."


class SchemaForm(Record):
    """The form of JSON Schemas that an API accepts; see the schema."""

    recursion: bool = True
    inline: bool = False
    rename: Mapping[str, str] = NONE
    types_in_unions: bool = False
    objects: Mapping[str, Any] = NONE
    drop: Mapping[str, str] = NONE
    keep: Mapping[str, Sequence[Any]] = NONE

    @cached_property
    def text(self) -> str:
        """All fields as a JSON text, the key of the cache of changed schemas."""
        values = [getattr(self, name) for name in self._fields]
        plain = [dict(value) if isinstance(value, Mapping) else value for value in values]
        return json.dumps(dict(zip(self._fields, plain, strict=True)))


class Schemas(Record):
    """The forms of the schemas of a call; see the schema."""

    tools: SchemaForm | None = None
    answers: SchemaForm | None = None
    strict: SchemaForm | None = None
    always_strict: tuple[str, ...] = ()

    def form(self, kind: str, *, strict: bool) -> SchemaForm | None:
        """The form of schemas of a kind ("tools" or "answers"), or None. strict: the schema is marked `strict: true`."""
        plain: SchemaForm | None = getattr(self, kind)
        return self.strict or plain if strict or kind in self.always_strict else plain


class Request(Record):
    """How a call becomes a body and headers; see the schema."""

    expressions: Expressions
    body_source: Any
    system: str = "keep"
    roles: Mapping[str, str] = NONE
    content: str = "as_given"
    tool_results: str = "as_given"
    blank_text: str = "keep"
    same_role: str = "keep"
    insert: tuple[Inserted, ...] = ()
    prefill: str = "keep"
    prefill_keys: Mapping[str, Any] = NONE
    marks: tuple[str, ...] = ()
    keys: Mapping[str, str] = NONE
    fill: tuple[Filled, ...] = ()
    strip: frozenset[str] = frozenset()
    tool_names: NameForm | None = None
    call_ids: NameForm | None = None
    schemas: Schemas | None = None
    headers: Mapping[str, str] = NONE
    query: Mapping[str, str] = NONE
    parameters: tuple[Parameter, ...] = ()
    other_parameters: str = ""

    @cached_property
    def changes(self) -> tuple[tuple[str, Any], ...]:
        """(key, value) of those MESSAGE_CHANGES whose value differs from the default."""
        rows = ((key, getattr(self, key)) for key in MESSAGE_CHANGES)
        return tuple((key, value) for key, value in rows if value != getattr(Request, key))

    @cached_property
    def body(self) -> Template:
        return Template(self.body_source, ("request", "body"), VIEW, self.expressions)

    @cached_property
    def placed(self) -> frozenset[str]:
        """The parameters for which there is a place, or a rule."""
        return frozenset(self.body.params).union(row.name for row in self.parameters)

    @cached_property
    def dropped(self) -> frozenset[str]:
        """The parameters that are never sent."""
        return frozenset(row.name for row in self.parameters if row.drop)


class Reader(Record):
    """How a body, or one kind of event, is read.

    found    gives the values of a Found
    blocks   path of the list of an answer's blocks, as keys and places; () for none
    """

    found: Query
    tool_call: Query
    call_replay: Query
    tokens: Query
    replay: Query
    grows: Mapping[str, tuple[str, ...]]
    blocks: Keys


class Response(Reader):
    """How a whole body is read, and settings for all answers; see the schema."""

    answer: Query
    choices: str = ""
    finish_reasons: Mapping[str, str] = NONE
    request_id: tuple[str, ...] = ()
    think_tags: tuple[tuple[str, str], ...] = ()


class Stream(Reader):
    """How events of a stream are read: itself is the Reader where events have no kinds, otherwise `events` has one each."""

    framing: str = "sse"
    done: str = ""
    reasoning_first: bool = False
    usage_in_parts: bool = False
    kind: Query | None = None
    events: Mapping[str, Reader] = NONE


class Rule(Record):
    """See the schema. says, unless: phrases in lower case."""

    name: str
    when: Query
    kind: str = ""
    says: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    retryable: bool | None = None
    hint: str = ""


class Errors(Record):
    """See the schema. found: gives the values of FAULT; refused: gives the value of each of its expressions."""

    detect: Query
    found: Query
    refused: Query
    rules: tuple[Rule, ...] = ()
    statuses: Mapping[str, str] = NONE


class Fallback(Record):
    """See the schema. says, unless: phrases in lower case."""

    name: str
    when: Query
    says: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    needs: str = ""
    enabled: bool = True
    leaves_out: Mapping[str, tuple[str, ...]] | None = None
    strips: Mapping[str, tuple[str, ...]] | None = None

    @cached_property
    def words(self) -> Mapping[str, tuple[str, ...]] | None:
        """{parameter or key that the row leaves out or strips: words for it in errors}; None for a row with a `then`."""
        return self.strips if self.leaves_out is None else self.leaves_out

    @cached_property
    def names(self) -> Mapping[str, str]:
        """{name of a fallback: the parameter or key that it leaves out, or ""}: one for each of `words`, or the row itself."""
        return {self.name: ""} if self.words is None else {PART + name: name for name in self.words}


class Retry(Record):
    times: int = 2
    wait: float = 0.5
    max_wait: float = 60.0


class Limits(Record):
    connect: float = 10.0
    first_byte: float = 300.0
    idle: float = 120.0
    total: float | None = None
    max_event: int = 32 << 20
    max_body: int = 64 << 20


class Models(Record):
    list: Query
    default: str = ""


class CallForm(Record):
    """How a call of one kind that is no chat is made and read; see the schema.

    found   gives what KINDS_OF_CALLS has for the kind, and OF_ALL_ANSWERS
    row     gives the same for each row of a list in the answer
    path    gives the endpoint, where it is no constant
    """

    kind: str
    expressions: Expressions
    request_source: Any
    found: Query
    row: Query
    tokens: Query
    packed: Query
    endpoint: Any = ""
    encoding: str = "json"
    query_source: Any = None
    most: int | None = None
    most_tokens: int | None = None

    @property
    def reads(self) -> frozenset[str]:
        """The names that its request reads, wherever in the templates."""
        formulas = [formula for template in self.templates for formula in template.formulas.values()]
        return frozenset(name for formula in formulas for name in formula.reads).union(
            PLACE.findall(str(self.endpoint))
        )

    @cached_property
    def placed(self) -> frozenset[str]:
        """The parameters that its request places, as Template.params."""
        return frozenset(name for template in self.templates for name in template.params)

    @cached_property
    def request(self) -> Template:
        return self._template(self.request_source, "request")

    @cached_property
    def query(self) -> Template:
        return self._template(self.query_source or {}, "query")

    @cached_property
    def path(self) -> Template:
        return self._template({"endpoint": self.endpoint})

    @property
    def templates(self) -> tuple[Template, ...]:
        return self.request, self.query, self.path

    def _template(self, source: Any, *key: str) -> Template:
        arguments = KINDS_OF_CALLS[self.kind][0]
        return Template(source, ("calls", self.kind, *key), ("model", "params", *arguments), self.expressions)


class CallForms(Mapping[str, CallForm]):
    """The forms of a file's calls by kind, each made when it is looked at: a program that only chats makes none."""

    def __init__(self, kinds: Iterable[str], make: Callable[[str], CallForm]) -> None:
        self._kinds, self._make = dict.fromkeys(kinds), make
        self._made: dict[str, CallForm] = {}

    def __getitem__(self, kind: str) -> CallForm:
        if kind not in self._made:
            self._kinds[kind]  # raises KeyError
            self._made[kind] = self._make(kind)
        return self._made[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def __len__(self) -> int:
        return len(self._kinds)


class Source(Record):
    """The evidence for some rules of a file; see the schema."""

    of: tuple[str, ...] = ()
    model: str | tuple[str, ...] = "*"
    kind: str = ""
    source: str = ""
    says: str = ""
    date: str = ""
    read: str = ""


class Retired(Record):
    """A provider that no longer exists: since when, and the provider to use instead."""

    date: str
    successor: str = ""

    def __str__(self) -> str:
        return f"retired on {self.date}" + (f"; use {self.successor}" if self.successor else "")


class Spec(Record):
    """One provider, in one variant.

    dialect   the id of the dialect it speaks
    plain     whether it makes the same bodies of calls as its dialect's file does
    reads_plainly whether answers are read as its dialect's file says
    own_calls {kind of call that is no chat, which its own file names: whether it asks or reads it in another way than its dialect}
    """

    id: str
    name: str
    dialect: str
    auth: Auth
    request: Request
    response: Response
    stream: Stream
    errors: Errors
    fallbacks: tuple[Fallback, ...]
    retry: Retry
    transport: Limits
    models: Models
    evidence: tuple[Source, ...]
    base_url: str = ""
    docs: str = ""
    telemetry_name: str = ""
    source: tuple[str, ...] = ()
    former_urls: tuple[str, ...] = ()
    retired: Retired | None = None
    aliases: tuple[str, ...] = ()
    capabilities: Mapping[str, bool] = NONE
    endpoints: Mapping[str, str] = NONE
    calls: Mapping[str, CallForm] = NONE
    deviations: Mapping[str, list[str]] = NONE
    plain: bool = False
    reads_plainly: bool = False
    own_calls: Mapping[str, bool] = NONE

    @cached_property
    def fallback_rows(self) -> Mapping[str, Fallback]:
        """{name of a fallback, as Reply.fallbacks has it: its row}."""
        return {name: row for row in reversed(self.fallbacks) for name in row.names}

    @cached_property
    def repeats(self) -> dict[Any, Any]:
        """What the events of its streams have in common, kept from one stream to the next: see core.repeats.Known."""
        return {}

    @cached_property
    def unable(self) -> frozenset[str]:
        """The capabilities that the file denies."""
        return frozenset(name for name, able in self.capabilities.items() if not able)

    def can(self, capability: str) -> bool:
        """Whether the provider has a capability; only an explicit false in the file means that it has not."""
        return self.capabilities.get(capability, True)

    def dated(self, rule: str, model: str = "") -> str:
        """The newest date of the evidence for a rule of this model; "" without evidence."""
        rows = (row for row in self.evidence if rule in row.of and fits(row.model, model))
        return max((row.date for row in rows), default="")
