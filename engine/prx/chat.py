"""The types of a call and its answer: Call, Delta, Reply and their parts.

Nothing here depends on a wire format. Values are immutable. Types of which a stream makes thousands are NamedTuples:
to make a value takes a quarter of the time of a Record, to import the class ten times as much.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, Self

from prx.record import Record

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # for its default, which typing has since Python 3.13

    ParsedT = TypeVar("ParsedT", default=Any)
else:
    from typing import TypeVar

    ParsedT = TypeVar("ParsedT")

Message = dict[str, Any]
NONE: Mapping[Any, Any] = MappingProxyType({})


class ToolCall(NamedTuple):
    """A tool that the model calls. arguments: JSON text; of a custom tool any text."""

    id: str
    name: str
    arguments: str


class ToolCallDelta(NamedTuple):
    """A piece of a tool call. index: which call; other fields are None where the piece does not have them."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which is not needed here
    id: str | None = None
    name: str | None = None
    arguments: str | None = None


class Usage(NamedTuple):
    """Token counts as reported, None where the provider reported none. Nothing is estimated.

    prompt_tokens includes cached_tokens; completion_tokens includes reasoning_tokens.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


def total(usages: Iterable[Usage | None]) -> Usage | None:
    """The counts of several answers, added up as far as they are known; None where none were reported."""
    columns = zip(*filter(None, usages), strict=True)
    counts = [[count for count in column if count is not None] for column in columns]
    return Usage(*(sum(known) if known else None for known in counts)) if counts else None


class Delta(NamedTuple):
    """The output of one event of a stream; None or () for what the event did not have.

    replay   values that the provider requires back in the next turn, by key of the assistant message; pieces of texts are
             to be joined, lists extended
    """

    content: str | None = None
    reasoning: str | None = None
    tool_calls: tuple[ToolCallDelta, ...] = ()
    finish_reason: str | None = None
    usage: Usage | None = None
    refusal: str | None = None
    replay: Mapping[str, Any] | None = None


class Part(NamedTuple):
    """One block of an answer.

    text     of reasoning, text and refusal; "" for a call, and for reasoning that the provider keeps to itself
    call     the tool call, of kind "tool_call"
    replay   values that the provider requires back with this block, such as a signature; by key of the assistant message
    """

    kind: Literal["reasoning", "text", "refusal", "tool_call"]
    text: str = ""
    call: ToolCall | None = None
    replay: Mapping[str, Any] = NONE

    def __reduce__(self) -> tuple[Any, ...]:
        # The default of `replay` can be neither pickled nor copied: a copy takes it from the class again.
        return type(self), (*self[:3], dict(self.replay)) if self.replay else tuple(self[:3])


class Reply(Record, Generic[ParsedT], often=True):
    """A finished answer.

    content         the text; "" where there is none
    reasoning       the model's thinking where the provider shows it
    finish_reason   "stop", "length", "tool_calls", "content_filter", another word as it came, or None
    streamed        the answer came as a stream
    content_source  "reasoning" where the provider's content was empty and `content` is the reasoning
    fallbacks       names of the fallbacks that this answer needed
    message         the assistant message to append to `messages`
    refusal         the text of a refusal; content is empty then
    parts           the blocks of the answer in their order; content, reasoning and tool_calls are views of them
    raw             the parsed body; of a stream, its events other than plain text (the newest 1,000)
    attempts        requests that were sent for it, those that failed included
    parsed          where response_format was a class: an instance of it, or None beside tool calls
    """

    content: str = ""
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    usage: Usage | None = None
    model: str = ""
    provider: str = ""
    streamed: bool = False
    content_source: Literal["content", "reasoning"] = "content"
    fallbacks: tuple[str, ...] = ()
    request_id: str | None = None
    message: Message = {}  # noqa: RUF012 - each reply has its own, see Record
    refusal: str | None = None
    parts: tuple[Part, ...] = ()
    raw: Any = None
    attempts: int = 1
    parsed: ParsedT = None  # type: ignore[assignment]  # no class was named

    def __str__(self) -> str:
        return self.content

    def to_dict(self, *, raw: bool = False) -> dict[str, Any]:
        """The fields in JSON's types, without `parsed`, of which `content` is the JSON. raw: also what came, as it came."""
        from copy import deepcopy  # not needed by a call

        left_out = ("parsed",) if raw else ("parsed", "raw")
        return deepcopy({name: plain(getattr(self, name)) for name in self._fields if name not in left_out})

    def copy(self, **changes: Any) -> Self:
        """A copy whose message and raw may be changed without changing this reply. changes: new values of fields."""
        from copy import deepcopy

        return deepcopy(self)._replace(**changes)

    def _repr_markdown_(self) -> str:
        """What a notebook shows: the reasoning as a quotation, the text as it is, calls as code."""
        thought = self.reasoning if self.reasoning and self.content_source == "content" else ""
        quoted = "\n".join(f"> {line}".rstrip() for line in thought.splitlines())
        calls = [_fenced(f"{call.name}({call.arguments})") for call in self.tool_calls]
        return "\n\n".join(filter(None, [quoted, self.content, self.refusal, *calls]))

    def __repr__(self) -> str:
        parts = [f"{self.provider}/{self.model}", repr(_shorten(self.content))]
        parts += [f"{call.name}({_shorten(call.arguments)})" for call in self.tool_calls]
        parts += [f"reasoning={_shorten(self.reasoning)!r}"] if self.reasoning else []
        return f"Reply({', '.join(parts)}, finish_reason={self.finish_reason!r})"


class JsonText(str):
    """JSON text of a content that the server sent as an object instead of as text. value: the object.

    It is a str, as every content is. The vendors' SDKs hand out the object in this case, so code that was written for them
    compares the content with an object: a JsonText is equal to its object, too.
    """

    __slots__ = ("value",)
    value: Any

    def __eq__(self, other: object) -> bool:
        return self.value == other if isinstance(other, dict | list) else str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


class Extra(Record):
    """Keys of the body, headers and parameters of the query that a call adds to its request unchanged."""

    body: Mapping[str, Any] = NONE
    headers: Mapping[str, str] = NONE
    query: Mapping[str, str] = NONE


NO_EXTRA = Extra()


class Given(Record, often=True):
    """A body in a dialect. To a provider of this dialect whose file changes nothing in bodies it goes as it is, but for the
    model's name.

    adds      keys that the call has besides
    endpoint  of a body that is no chat
    encoding  of such a body: json or multipart
    """

    dialect: str
    body: Mapping[str, Any]
    adds: tuple[str, ...] = ()
    endpoint: str = ""
    encoding: str = "json"


class Call(Record, often=True):
    """One call in canonical form: OpenAI's names and message shapes, whatever API the provider has.

    model   the provider's own name for it
    params  sampling and other parameters, by OpenAI's names
    given   the body that the call was made of, or None
    inputs  of a call that is no chat: its arguments by their names, such as input or query
    """

    model: str
    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()
    tool_choice: Any = None
    params: Mapping[str, Any] = NONE
    stream: bool = False
    extra: Extra = NO_EXTRA
    given: Given | None = None
    inputs: Mapping[str, Any] = NONE


_AS_IT_IS = frozenset({str, int, float, bool, type(None)})


def plain(value: Any) -> Any:
    """A Reply, a Delta, or a part of one in JSON's types, by the names of its fields."""
    if type(value) in _AS_IT_IS:  # first, since most values are of these types and the other checks take longer
        return value
    if hasattr(value, "_fields"):
        return {name: plain(getattr(value, name)) for name in value._fields}
    if isinstance(value, Mapping):
        return dict(value)
    return [plain(item) for item in value] if isinstance(value, tuple | list) else value


def _fenced(text: str) -> str:
    """A text as a block of code in Markdown; the fence is longer than any in the text."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}"


def _shorten(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"
