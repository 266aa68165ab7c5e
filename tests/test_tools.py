"""prx.tool: from a function to a definition; run_tools: the model calls, the functions answer, within bounds."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import json
import threading
import time
from typing import Annotated, Literal, Optional, TypedDict

import pydantic
import pytest
from helpers.byte_server import RawServer, response

import prx
from prx.toolruns import text_of_result
from prx.typed.docstrings import described
from prx.typed.values import UnfitValueError

# ------------------------------------------------------------------ docstrings

STYLES = {
    "google": """Weather of a city.

    As it is now,
    or later.

    Args:
        city (str, optional): the city's name,
            and its country
        *days: how many
        unit: such as "C": not "K"

    Returns:
        dict: nothing of this is a parameter
    """,
    "numpy": """Weather of a city.

    As it is now,
    or later.

    Parameters
    ----------
    city : str
        the city's name,
        and its country
    days
        how many
    unit : {"C", "F"}, optional
        such as "C": not "K"

    Returns
    -------
    dict
        nothing of this is a parameter
    """,
    "sphinx": """Weather of a city.

    As it is now,
    or later.

    :param str city: the city's name,
        and its country
    :param days: how many
    :param unit: such as "C": not "K"
    :type unit: str
    :returns: nothing of this is a parameter
    :raises ValueError: neither is this
    """,
}


@pytest.mark.parametrize("style", STYLES)
def test_a_docstring_in_each_style(style):
    found = described(STYLES[style])
    assert found.text == "Weather of a city. As it is now, or later."
    assert found.of == {"city": "the city's name, and its country", "days": "how many", "unit": 'such as "C": not "K"'}


@pytest.mark.parametrize(
    ("text", "whole", "of"),
    [
        ("", "", {}),
        ("One line.", "One line.", {}),
        ("Args:\n    a: x", "", {"a": "x"}),
        ("It is: so.\n\nNote:\n    b: no", "It is: so.", {}),
        ("T.\n\nArgs:\n    a (dict[str, list[int]]): x\n    b (Callable[[int], str]): y", "T.", {"a": "x", "b": "y"}),
        ("T.\n\nParameters\n----------\na, b : int\n    both", "T.", {"a": "both", "b": "both"}),
        ("T.\n\nArguments:\n    a:\n        below\n\n        and further", "T.", {"a": "below and further"}),
        (":param a: x\n:return: y", "", {"a": "x"}),
    ],
)
def test_docstrings_of_other_forms(text, whole, of):
    assert (described(text).text, dict(described(text).of)) == (whole, of)


# ------------------------------------------------------------------ definitions


class Unit(enum.Enum):
    CELSIUS = "C"
    FAHRENHEIT = "F"


@dataclasses.dataclass
class Place:
    city: str
    country: str = "FR"


class Window(TypedDict):
    first: int


class Options(pydantic.BaseModel):
    verbose: bool = False


@prx.tool
def get_weather(
    place: Place,
    unit: Unit = Unit.CELSIUS,
    days: Annotated[Optional[int], "how many"] = None,  # noqa: UP045 - older programs write it so
    *,
    kind: Literal["now", "later"] = "now",
    tags: list[str] = [],  # noqa: B006 - it is not changed
    window: Window | None = None,
    options: Options | None = None,
    extra: dict[str, float] | None = None,
) -> str:
    """Weather of a place.

    Args:
        place: where
        days: is said already
    """
    return f"{place} {unit} {days} {kind} {tags} {window} {options} {extra}"


def test_the_definition_of_a_function():
    function = get_weather["function"]
    assert function["name"] == "get_weather"
    assert function["description"] == "Weather of a place."
    schema = function["parameters"]
    assert schema["required"] == ["place"]
    properties = schema["properties"]
    assert properties["place"] == {"anyOf": [{"$ref": "#/$defs/Place"}], "description": "where"}
    assert properties["days"] == {"anyOf": [{"type": "integer"}, {"type": "null"}], "description": "how many"}
    assert properties["kind"] == {"type": "string", "enum": ["now", "later"]}
    assert properties["unit"] == {"type": "string", "enum": ["C", "F"]}
    assert properties["extra"]["anyOf"][0] == {"type": "object", "additionalProperties": {"type": "number"}}
    assert schema["$defs"].keys() == {"Place", "Window", "Options"}
    assert json.loads(json.dumps(dict(get_weather))) == get_weather
    assert repr(get_weather) == "Tool(get_weather(place, unit, days, kind, tags, window, options, extra))"


def test_arguments_become_what_the_function_takes():
    found = get_weather.arguments(
        '{"place": {"city": "Paris"}, "unit": "F", "window": {"first": 1}, "options": {"verbose": true}, "extra": {"a": 1}}'
    )
    assert found == {
        "place": Place("Paris"), "unit": Unit.FAHRENHEIT, "window": {"first": 1}, "options": Options(verbose=True), "extra": {"a": 1.0},
    }  # fmt: skip
    assert get_weather(**found).startswith("Place(city='Paris', country='FR') Unit.FAHRENHEIT None now []")


def test_arguments_that_are_no_json():
    with pytest.raises(UnfitValueError, match="they are no JSON: Expecting property name"):
        get_weather.arguments("{")


def test_a_decorator_with_options():
    @prx.tool(name="add", description="Adds.", strict=True)
    def plus(a: int, b: int = 1) -> int:
        return a + b

    assert plus["function"] == {
        "name": "add",
        "description": "Adds.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
            "additionalProperties": False,
        },
        "strict": True,
    }
    assert plus(1, 2) == 3


class Shop:
    def buy(self, what, how_many: int = 1):
        """Buys."""
        return f"{how_many} {what}"

    def __call__(self, what: str) -> str:
        """Asks."""
        return what


def test_methods_and_objects_and_parameters_without_a_type():
    buy = prx.tool(Shop().buy)
    assert buy.parameters == {
        "type": "object",
        "properties": {"what": {}, "how_many": {"type": "integer"}},
        "required": ["what"],
    }
    assert prx.tool(Shop()).name == "Shop"
    assert prx.tool(Shop(), name="ask")(what="x") == "x"
    assert prx.tool(lambda: 1, name="one").parameters == {"type": "object", "properties": {}}


def variadic(*things: int):
    return things


def free(x: dict[str, int]):
    return x


@pytest.mark.parametrize(
    ("work", "sentence"),
    [
        (lambda: prx.tool(variadic), r"variadic: a model cannot give \*things: 'int'"),
        (lambda: prx.tool(Place), "a tool is made of a function, not of"),
        (lambda: prx.tool("f"), "a tool is made of a function, not of 'f'"),
        (lambda: prx.tool(free, strict=True), "free: strict=True is not possible"),
    ],
)
def test_what_is_no_tool(work, sentence):
    with pytest.raises(prx.ConfigError, match=sentence):
        work()


def test_tools_go_beside_definitions():
    other = {"type": "function", "function": {"name": "other", "parameters": {"type": "object"}}}
    with RawServer(response()) as server, client_of(server) as api:
        api.chat("hi", "compatible/m", tools=[get_weather, other])
        with pytest.raises(prx.ConfigError) as failed:
            api.chat("hi", "compatible/m", tools=[variadic])
    assert server.requests[0]["body"]["tools"] == [get_weather, other]
    assert failed.value.hint == "A function becomes one with prx.tool(function)."


# ------------------------------------------------------------------ runs


def client_of(server, cls=prx.Client):
    return cls(config={"providers": {"compatible": {"api_url": server.url, "api_key": "k"}}}, env={})


def calls(*named):
    rows = [
        {"id": f"c{place}", "type": "function", "function": {"name": name, "arguments": given}}
        for place, (name, given) in enumerate(named)
    ]
    message = {"role": "assistant", "content": None, "tool_calls": rows}
    usage = {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11}
    return response(
        200, {"model": "m", "choices": [{"message": message, "finish_reason": "tool_calls"}], "usage": usage}
    )


@prx.tool
def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


@prx.tool
def fail(what: str) -> str:
    """Fails."""
    raise KeyError(what)


@prx.tool
async def later(seconds: float) -> dict[str, float]:
    """Waits."""
    await asyncio.sleep(seconds)
    return {"waited": seconds}


def run(server, client, **options):
    if client == "Client":
        with client_of(server) as api:
            return api.run_tools("go", "compatible/m", deadline=20, **options)

    async def running():
        async with client_of(server, prx.AsyncClient) as api:
            return await api.run_tools("go", "compatible/m", deadline=20, **options)

    return asyncio.run(running())


both = pytest.mark.parametrize("client", ["Client", "AsyncClient"])


@both
def test_calls_are_made_and_answered_in_order(client):
    with RawServer(calls(("add", '{"a": 1, "b": 2}'), ("add", '{"a": 3, "b": 4.0}')), response()) as server:
        done = run(server, client, tools=[add])
    assert (done.reply.content, done.turns, done.pending) == ("hello", 2, ())
    assert done.usage == prx.Usage(10, 1, 11)
    assert [message["role"] for message in done.messages] == ["user", "assistant", "tool", "tool", "assistant"]
    assert done.messages[2:4] == [
        {"role": "tool", "tool_call_id": "c0", "content": "3"},
        {"role": "tool", "tool_call_id": "c1", "content": "7"},
    ]
    assert server.requests[1]["body"]["messages"] == done.messages[:4]


@both
def test_what_goes_wrong_is_told_to_the_model(client):
    script = calls(
        ("add", '{"a": 1}'),
        ("add", "[1]"),
        ("add", '{"a": 1, "b": 2, "c": 3}'),
        ("ad", "{}"),
        ("fail", '{"what": "x"}'),
    )
    with RawServer(script, response()) as server:
        done = run(server, client, tools=[add, fail])
    told = [message["content"] for message in done.messages if message["role"] == "tool"]
    assert told == [
        "The arguments of add do not fit: 'b' is missing. The call was not made.",
        "The arguments of add do not fit: must be an object, not [1]. The call was not made.",
        "The arguments of add do not fit: 'c' is none of its keys: a, b. The call was not made.",
        "There is no tool 'ad'. The tools are: add, fail.",
        "fail failed: KeyError: 'x'",
    ]


@both
def test_an_exception_ends_the_run_where_it_is_asked_for(client):
    with RawServer(calls(("fail", '{"what": "x"}')), response()) as server, pytest.raises(KeyError, match="x"):
        run(server, client, tools=[fail], raise_errors=True)
    assert len(server.requests) == 1


@both
def test_a_run_has_an_end(client):
    with RawServer(calls(("add", '{"a": 1, "b": 2}'))) as server, pytest.raises(prx.TooManyTurnsError) as failed:
        run(server, client, tools=[add], max_turns=3)
    error = failed.value
    assert len(server.requests) == 3
    assert (error.kind, error.retryable) == ("overflow", False)
    assert error.message == "the model was asked 3 times and still calls tools: add"
    assert error.partial.tool_calls
    assert [message["role"] for message in error.messages] == ["user", *["assistant", "tool"] * 2, "assistant"]
    assert prx.TooManyTurnsError("x").messages == []


@both
def test_a_choice_that_demands_a_call_does_so_once(client):
    with RawServer(calls(("add", '{"a": 1, "b": 2}')), response()) as server:
        run(server, client, tools=[add], tool_choice="required")
        run(server, client, tools=[add], tool_choice="auto")
    assert [request["body"].get("tool_choice") for request in server.requests[:2]] == ["required", None]
    assert server.requests[2]["body"]["tool_choice"] == "auto"


@both
def test_who_is_asked_before_a_call(client):
    seen = []

    def on_call(call, arguments):
        seen.append((call.name, arguments))
        return "The user said no." if arguments["a"] == 3 else None

    async def on_call_async(call, arguments):
        await asyncio.sleep(0)
        return on_call(call, arguments)

    with RawServer(calls(("add", '{"a": 1, "b": 2}'), ("add", '{"a": 3, "b": 4}')), response()) as server:
        done = run(server, client, tools=[add], on_call=on_call if client == "Client" else on_call_async)
    assert seen == [("add", {"a": 1, "b": 2}), ("add", {"a": 3, "b": 4})]
    assert [message["content"] for message in done.messages[2:4]] == ["3", "The user said no."]


@both
def test_a_definition_without_a_function_ends_the_run(client):
    other = {"type": "function", "function": {"name": "other", "parameters": {"type": "object"}}}
    with RawServer(calls(("other", "{}"), ("add", '{"a": 1, "b": 2}')), response()) as server:
        done = run(server, client, tools=[add, other])
    assert len(server.requests) == 1
    assert [call.name for call in done.pending] == ["other"]
    assert [message.get("tool_call_id") for message in done.messages] == [None, None, "c1"]


@both
def test_the_answer_may_be_of_a_class(client):
    answer = response(200, {"choices": [{"message": {"content": '{"city": "Paris"}'}, "finish_reason": "stop"}]})
    with RawServer(calls(("add", '{"a": 1, "b": 2}')), answer) as server:
        done = run(server, client, tools=[add], response_format=Place)
    assert done.reply.parsed == Place("Paris")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"tools": []}, "run_tools needs tools"),
        ({"tools": [add, add]}, "two tools are called 'add'"),
        ({"tools": [add], "max_turns": 0}, "max_turns must be a whole number, 1 or more, not 0"),
        ({"tools": [later]}, "later is a coroutine function, which a Client cannot await"),
        ({"tools": [add], "retry": 1}, "did you mean 'retries'"),
    ],
)
def test_what_cannot_be_run(options, sentence):
    with RawServer(response()) as server, pytest.raises(prx.ConfigError, match=sentence):
        run(server, "Client", **options)
    assert not server.requests


def test_calls_of_a_turn_run_at_the_same_time_and_are_answered_in_order():
    threads = []

    @prx.tool
    def block(seconds: float) -> str:
        threads.append(threading.current_thread())
        time.sleep(seconds)
        return "blocked"

    script = calls(("later", '{"seconds": 2}'), ("block", '{"seconds": 2}'), ("later", '{"seconds": 0}'))
    with RawServer(script, response()) as server:
        began = time.monotonic()
        done = run(server, "AsyncClient", tools=[later, block])
    assert time.monotonic() - began < 3.5
    assert [message["content"] for message in done.messages[2:5]] == ['{"waited": 2.0}', "blocked", '{"waited": 0.0}']
    assert threads[0] is not threading.main_thread()


def test_a_task_that_is_cancelled_cancels_its_tools():
    ended = []

    @prx.tool
    async def wait() -> str:
        try:
            await asyncio.sleep(30)
        finally:
            ended.append(True)

    async def running(server):
        async with client_of(server, prx.AsyncClient) as api:
            task = asyncio.ensure_future(api.run_tools("go", "compatible/m", tools=[wait]))
            await asyncio.sleep(0.5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with RawServer(calls(("wait", "{}")), response()) as server:
        asyncio.run(running(server))
    assert ended == [True]


def test_results_of_every_type_become_text():
    assert text_of_result("ä") == "ä"
    assert text_of_result(None) == "null"
    assert (
        text_of_result({"ä": [1, Place("x"), Unit.CELSIUS, {2}]})
        == '{"ä": [1, {"city": "x", "country": "FR"}, "C", [2]]}'
    )
    assert text_of_result(Options()) == '{"verbose": false}'
    assert text_of_result(1j) == '"1j"'
