"""response_format as a class: what is sent, the instance that comes, and what is said of an answer that does not fit."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import enum
import json
import pickle
import subprocess
import sys
import textwrap
import types
import uuid
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, NewType, NotRequired, Optional, Required, TypedDict

import pydantic
import pytest
from helpers.byte_server import DONE, RawServer, delta, response, stream

import prx
from prx.typed.answer import parsed
from prx.typed.schema import schema_of, strict
from prx.typed.values import UnfitValueError, value_of


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


@dataclasses.dataclass
class Person:
    """Somebody.

    Args:
        name: what others call them
    """

    name: str
    age: Annotated[int, "in years"]
    mood: Mood = Mood.GOOD
    tags: list[str] = dataclasses.field(default_factory=list, metadata={"description": "words"})


@dataclasses.dataclass
class Node:
    value: int
    below: list[Node]
    best: Optional[Node] = None  # noqa: UP045 - older programs write it so


class Row(TypedDict):
    id: Required[int]
    note: NotRequired[str]
    about: NotRequired[str | None]


class Older(TypedDict, total=False):
    id: int


class Point(NamedTuple):
    x: float
    y: float = 0.0


UserId = NewType("UserId", int)


@dataclasses.dataclass
class Everything:
    a: Any
    b: Mapping[str, int]
    c: tuple[int, str]
    d: tuple[int, ...]
    e: set[int]
    f: Literal["x", 2]
    g: int | float | None
    h: dt.datetime
    i: dt.date
    j: uuid.UUID
    k: UserId
    l: Sequence[Point]  # noqa: E741
    m: frozenset[str]
    n: dt.time


PERSON = {
    "type": "object",
    "description": "Somebody.",
    "properties": {
        "name": {"type": "string", "description": "what others call them"},
        "age": {"type": "integer", "description": "in years"},
        "mood": {"type": "string", "enum": ["good", "bad"]},
        "tags": {"type": "array", "items": {"type": "string"}, "description": "words"},
    },
}
FULL = {
    "a": [1], "b": {"x": 1}, "c": [1, "a"], "d": [1, 2], "e": [1, 1], "f": 2, "g": 1.5, "h": "2026-01-31T12:00:00Z", "i": "2026-01-31",
    "j": "12345678123456781234567812345678", "k": 3, "l": [{"x": 1}], "m": ["a"], "n": "12:00:00",
}  # fmt: skip


def test_the_schema_of_a_class():
    assert schema_of(Person) == {**PERSON, "required": ["name", "age"]}
    assert strict(schema_of(Person)) == {**PERSON, "required": [*PERSON["properties"]], "additionalProperties": False}


def test_a_class_that_contains_itself():
    schema = strict(schema_of(Node))
    assert schema["type"] == "object"
    assert schema["properties"]["below"] == {"type": "array", "items": {"$ref": "#/$defs/Node"}}
    assert schema["$defs"]["Node"]["required"] == ["value", "below", "best"]
    tree = value_of(
        Node, {"value": 1, "below": [{"value": 2, "below": []}], "best": {"value": 3, "below": [], "best": None}}
    )
    assert tree == Node(1, [Node(2, [])], Node(3, []))


def test_keys_that_may_be_missing_are_null_where_a_schema_is_strict():
    schema = strict(schema_of(Row))
    assert schema["required"] == ["id", "note", "about"]
    assert schema["properties"]["note"] == {"anyOf": [{"type": "string"}, {"type": "null"}]}
    assert value_of(Row, {"id": 1, "note": None, "about": None}) == {"id": 1, "about": None}
    assert value_of(Row, {"id": 1}) == {"id": 1}
    assert value_of(Older, {}) == {}
    with pytest.raises(UnfitValueError, match="'id' is missing"):
        value_of(Row, {"note": "x"})


def test_what_cannot_be_strict_is_not():
    assert strict(schema_of(Everything)) is None
    for hint in (dict[str, int], dict, list, Any, tuple[int, str]):
        cls = dataclasses.make_dataclass("C", [("x", hint)])
        assert strict(schema_of(cls)) is None, hint


def test_every_type_that_is_known():
    assert value_of(Everything, FULL) == Everything(
        [1], {"x": 1}, (1, "a"), (1, 2), {1}, 2, 1.5, dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC), dt.date(2026, 1, 31),
        uuid.UUID("12345678123456781234567812345678"), 3, [Point(1.0)], frozenset("a"), dt.time(12),
    )  # fmt: skip
    assert schema_of(Everything)["properties"]["f"] == {"type": ["string", "integer"], "enum": ["x", 2]}
    assert isinstance(value_of(int | float, 1), int)
    assert isinstance(value_of(float | int, 1), int)


UNFIT = [
    ({"b": {"x": "1"}}, "b.x: must be a whole number, not '1'"),
    ({"c": [1]}, "c: must have 2 elements, not 1"),
    ({"d": [1, True]}, "d[1]: must be a whole number, not True"),
    ({"d": [1.5]}, "d[0]: must be a whole number, not 1.5"),
    ({"d": [float("inf")]}, "d[0]: must be a whole number, not inf"),
    ({"e": {}}, "e: must be a list, not {}"),
    ({"f": "2"}, "f: must be one of 'x', 2, not '2'"),
    ({"g": "x"}, "g: must be int or float or NoneType, not 'x'"),
    ({"h": "soon"}, "h: must be a date with a time, such as 2026-01-31T12:00:00Z, not 'soon'"),
    ({"j": "1"}, "j: must be a UUID, not '1'"),
    ({"l": [{"x": 1}, {"y": 1}]}, "l[1]: 'x' is missing"),
    ({"l": [1]}, "l[0]: must be an object, not 1"),
    ({"b": [1]}, "b: must be an object, not [1]"),
]


@pytest.mark.parametrize(("change", "sentence"), UNFIT)
def test_what_does_not_fit_is_told_with_its_place(change, sentence):
    with pytest.raises(UnfitValueError) as failed:
        value_of(Everything, {**FULL, **change})
    assert str(failed.value) == sentence


def test_a_class_may_refuse():
    @dataclasses.dataclass
    class Positive:
        n: int

        def __post_init__(self):
            if self.n < 1:
                raise ValueError("too small")

    with pytest.raises(UnfitValueError, match="is refused by Positive: ValueError: too small"):
        value_of(Positive, {"n": 0})


@dataclasses.dataclass
class Odd:
    x: bytes


@dataclasses.dataclass
class Keyed:
    x: dict[int, str]


@dataclasses.dataclass
class Lost:
    x: Nowhere  # noqa: F821 - it is what is tried


@pytest.mark.parametrize(
    ("cls", "sentence"),
    [
        (Odd, "Odd.x: bytes has no form in JSON Schema"),
        (Keyed, "Keyed.x: the keys of a mapping are texts in JSON, not int"),
        (Lost, "Lost: its types cannot be read: name 'Nowhere' is not defined"),
    ],
)
def test_a_type_without_a_schema_is_refused(cls, sentence):
    with pytest.raises(prx.ConfigError) as failed:
        schema_of(cls)
    assert failed.value.message == sentence


# ------------------------------------------------------------------ calls


def whole(content, finish="stop", **message):
    return response(
        200,
        {
            "model": "m",
            "choices": [{"message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        },
    )


ADA = '{"name": "Ada", "age": 36, "mood": "bad", "tags": []}'
ADA_TOO = Person("Ada", 36, Mood.BAD, [])


def client_of(server, cls=prx.Client):
    return cls(config={"providers": {"compatible": {"api_url": server.url, "api_key": "sk-secret-12345"}}}, env={})


def chat(server, client, **options):
    """A reply of either client."""
    if client == "Client":
        with client_of(server) as api:
            return api.chat("Who?", "compatible/m", deadline=20, **options)

    async def asked():
        async with client_of(server, prx.AsyncClient) as api:
            return await api.chat("Who?", "compatible/m", deadline=20, **options)

    return asyncio.run(asked())


both = pytest.mark.parametrize("client", ["Client", "AsyncClient"])


@both
def test_a_reply_is_parsed(client):
    with RawServer(whole(ADA)) as server:
        reply = chat(server, client, response_format=Person)
    assert reply.parsed == ADA_TOO
    assert reply.attempts == 1
    sent = server.requests[0]["body"]["response_format"]
    assert sent["type"] == "json_schema"
    assert sent["json_schema"] == {"name": "Person", "schema": strict(schema_of(Person)), "strict": True}
    assert pickle.loads(pickle.dumps(reply)) == reply
    assert "parsed" not in reply.to_dict()


@both
def test_a_reply_that_does_not_fit(client):
    with RawServer(whole('{"name": "Ada", "age": "old"}')) as server, pytest.raises(prx.UnfitReplyError) as failed:
        chat(server, client, response_format=Person)
    error = failed.value
    assert error.message == "the answer is no Person: age: must be a whole number, not 'old'"
    assert (error.kind, error.retryable, error.attempts, error.provider) == ("protocol", False, 1, "compatible")
    assert error.partial.content == '{"name": "Ada", "age": "old"}'
    assert len(server.requests) == 1


@both
def test_a_reply_that_does_not_fit_is_asked_for_once_again(client):
    with RawServer(whole("Ada, 36"), whole(ADA)) as server:
        reply = chat(server, client, response_format=Person, repair=True)
    assert reply.parsed == ADA_TOO
    assert (reply.attempts, reply.usage) == (2, prx.Usage(20, 10, 30))
    first, answer, again = server.requests[1]["body"]["messages"]
    assert first == {"role": "user", "content": "Who?"}
    assert answer == {"role": "assistant", "content": "Ada, 36"}
    assert "the answer is no Person: it is no JSON: Expecting value" in again["content"]


@both
def test_it_is_asked_for_no_more_often_than_allowed(client):
    with (
        RawServer(whole("no"), response(500), whole("no again"), whole("never")) as server,
        pytest.raises(prx.UnfitReplyError) as failed,
    ):
        chat(server, client, response_format=Person, repair=2, retries=1)
    assert len(server.requests) == failed.value.attempts == 4
    assert failed.value.partial.content == "never"


def test_an_error_of_asking_again_counts_all_requests():
    with (
        RawServer(whole("no"), response(401, {"error": {"message": "no key"}})) as server,
        pytest.raises(prx.AuthError) as failed,
    ):
        chat(server, "Client", response_format=Person, repair=True)
    assert failed.value.attempts == 2


@both
def test_a_stream_is_parsed_at_its_end(client):
    with RawServer(stream(delta(ADA[:9]), delta(ADA[9:]), delta("", "stop"), DONE)) as server:

        async def asynchronous():
            async with (
                client_of(server, prx.AsyncClient) as api,
                api.stream("Who?", "compatible/m", response_format=Person) as pieces,
            ):
                return "".join([piece.content or "" async for piece in pieces]), pieces.reply

        if client == "AsyncClient":
            text, reply = asyncio.run(asynchronous())
        else:
            with client_of(server) as api, api.stream("Who?", "compatible/m", response_format=Person) as pieces:
                text, reply = "".join(piece.content or "" for piece in pieces), pieces.reply
    assert text == ADA
    assert reply.parsed == ADA_TOO


def test_a_stream_that_does_not_fit_fails_at_its_end():
    with RawServer(stream(delta("[]"), delta("", "stop"), DONE)) as server, client_of(server) as api:
        pieces = api.stream("Who?", "compatible/m", response_format=Person)
        texts = []
        with pytest.raises(prx.UnfitReplyError, match=r"no Person: must be an object, not \[\]") as failed:
            texts.extend(piece.content for piece in pieces)
        assert "[]" in texts
        assert failed.value.partial.content == "[]"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"response_format": Person("a", 1)}, "response_format must be a mapping, or a dataclass"),
        ({"response_format": list[Person]}, "response_format must be a mapping, or a dataclass"),
        ({"response_format": int}, "response_format must be a mapping, or a dataclass"),
        ({"response_format": Odd}, "bytes has no form in JSON Schema"),
        ({"repair": True}, "repair is of use only where response_format is a class"),
        ({"response_format": Person, "repair": -1}, "repair must be True, False or a whole number, not -1"),
        ({"response_format": Person, "repairs": 1}, "did you mean 'repair'"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_sent(options, sentence):
    with RawServer(whole(ADA)) as server, pytest.raises(prx.ConfigError, match=sentence):
        chat(server, "Client", **options)
    assert not server.requests
    with (
        RawServer(whole(ADA)) as server,
        client_of(server) as api,
        pytest.raises(prx.ConfigError, match="stream cannot ask again"),
    ):
        api.stream("Who?", "compatible/m", response_format=Person, repair=True)


def test_what_is_no_class_is_sent_as_it_is():
    with RawServer(whole("{}")) as server:
        for given in ({"type": "json_object"}, types.MappingProxyType({"type": "json_object"})):
            reply = chat(server, "Client", response_format=given)
            assert reply.parsed is None
    assert [request["body"]["response_format"] for request in server.requests] == [{"type": "json_object"}] * 2


CALL = {"id": "1", "type": "function", "function": {"name": "add", "arguments": "{}"}}


def test_calls_have_no_value_yet():
    with RawServer(whole(None, "tool_calls", tool_calls=[CALL])) as server:
        reply = chat(
            server, "Client", response_format=Person, tools=[{"type": "function", "function": {"name": "add"}}]
        )
    assert reply.parsed is None
    assert reply.tool_calls


def test_an_answer_that_was_cut_off_or_refused_is_not_asked_for_again():
    for script, error in (
        (whole('{"name": "Ad', "length"), prx.TruncatedError),
        (whole(None, refusal="I will not."), prx.ContentFilterError),
    ):
        with RawServer(script, whole(ADA)) as server, pytest.raises(error) as failed:
            chat(server, "Client", response_format=Person, repair=True)
        assert len(server.requests) == 1
        assert failed.value.partial is not None
        assert not failed.value.retryable


def test_a_fence_of_markdown_is_no_fault():
    assert parsed(Person, prx.Reply(content=f"```json\n{ADA}\n```\n")) == ADA_TOO
    with pytest.raises(prx.UnfitReplyError, match="it is no JSON"):
        parsed(Person, prx.Reply(content=f"Here it is:\n```json\n{ADA}\n```"))
    with pytest.raises(prx.UnfitReplyError, match="it is empty"):
        parsed(Person, prx.Reply(content=" "))


def test_a_key_that_a_model_repeats_is_masked():
    with (
        RawServer(whole('{"name": "Ada", "age": "sk-secret-12345"}')) as server,
        pytest.raises(prx.UnfitReplyError) as failed,
    ):
        chat(server, "Client", response_format=Person)
    assert "sk-secret-12345" not in str(failed.value)


# ------------------------------------------------------------------ pydantic


def test_pydantic_is_not_needed():
    code = """
        import sys; sys.modules["pydantic"] = None
        import dataclasses, prx
        from prx.typed.answer import answer_form
        @dataclasses.dataclass
        class Person:
            name: str
        print(answer_form(Person, False).sent["json_schema"]["name"])
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("Person", "")


def test_a_class_of_pydantic():
    class Inner(pydantic.BaseModel):
        n: int = pydantic.Field(ge=0, description="how many")

    class Outer(pydantic.BaseModel):
        inner: Inner = pydantic.Field(description="what is inside")
        names: list[str] = pydantic.Field(default_factory=list)

    outer = dataclasses.make_dataclass("Holder", [("outer", Outer)])
    for cls in (Outer, outer):
        schema = strict(schema_of(cls))
        assert schema["required"] == [*schema["properties"]]
        assert schema["$defs"]["Inner"]["properties"]["n"]["description"] == "how many"
    assert strict(schema_of(Outer))["properties"]["inner"] == {
        "anyOf": [{"$ref": "#/$defs/Inner"}],
        "description": "what is inside",
    }
    assert parsed(Outer, prx.Reply(content='{"inner": {"n": 1}}')) == Outer(inner=Inner(n=1))
    assert value_of(outer, {"outer": {"inner": {"n": 2}}}).outer.inner.n == 2
    with pytest.raises(
        prx.UnfitReplyError, match=r"no Outer: inner.n: Input should be greater than or equal to 0 \(and 1 more\)"
    ):
        parsed(Outer, prx.Reply(content=json.dumps({"inner": {"n": -1}, "names": 3})))
