"""Never run, only type-checked: the public API as a caller writes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, TypedDict, assert_type

import prx


def chat() -> None:
    with prx.Client(config={"default": {"provider": "x"}}, providers=["a", "b"], env={"A": "b"}) as client:
        reply = client.chat(
            "hi", model="a/b", temperature=0, stop=["x"], timeout=3, deadline=9.5, retries=0, fallbacks=()
        )
        assert_type(reply, prx.Reply)
        assert_type(reply.content, str)
        assert_type(reply.reasoning, str | None)
        assert_type(reply.tool_calls, tuple[prx.ToolCall, ...])
        if reply.usage is not None:
            assert_type(reply.usage.total_tokens, int | None)
        assert_type(client.models("x"), list[str])
        assert_type(client.model_rows("x"), list[dict[str, Any]])


def stream(client: prx.Client) -> Iterator[str]:
    messages: list[prx.Message] = [{"role": "user", "content": "hi"}]
    with client.stream(messages, tools=[{"type": "function"}], tool_choice="auto") as pieces:
        assert_type(pieces, prx.Stream)
        for piece in pieces:
            assert_type(piece, prx.Delta)
            if piece.content is not None:
                yield piece.content
            for call in piece.tool_calls:
                assert_type(call.index, int)
    assert_type(pieces.reply, prx.Reply)


def failing(client: prx.Client) -> float | None:
    try:
        client.chat("hi")
    except prx.RateLimitError as error:
        assert_type(error.partial, prx.Reply | None)
        return error.retry_after
    except prx.Error as error:
        assert_type(error.retryable, bool)
        assert_type(error.status, int | None)
    return None


async def asynchronous() -> str:
    async with prx.AsyncClient(config={}, env={"A": "b"}, watch=True) as client:
        reply = await client.chat("hi", model="a/b", temperature=0, deadline=9.5)
        assert_type(reply, prx.Reply)
        assert_type(await client.models("x"), list[str])
        assert_type(await client.model_rows("x"), list[dict[str, Any]])
        async with client.stream("hi", tools=[{"type": "function"}]) as pieces:
            assert_type(pieces, prx.AsyncStream)
            async for piece in pieces:
                assert_type(piece, prx.Delta)
        return pieces.reply.content


def other_kinds(client: prx.Client) -> None:
    found = client.embed(["a", "b"], "a/b", dimensions=3, user="me", timeout=3)
    assert_type(found, prx.Embeddings)
    assert_type(found.usage, prx.Usage | None)
    ranking = client.rerank("q", ["a"], "a/b", top_n=1)
    assert_type([(row.index, row.score) for row in ranking.results], list[tuple[int, float]])
    assert_type(client.image("p", n=1).images, tuple[prx.Image, ...])
    assert_type(client.speech("hi", voice="v").audio, bytes)
    assert_type(client.transcribe(("a.wav", b"x"), language="en"), prx.Transcript)
    assert_type(client.moderate("a").flagged, bool)
    assert_type(client.count_tokens("hi", tools=[{"type": "function"}]), int)
    assert_type(client.complete("a", suffix="b"), prx.Reply)


async def other_kinds_asynchronously(client: prx.AsyncClient) -> None:
    assert_type(await client.embed("a"), prx.Embeddings)
    assert_type(await client.rerank("q", ["a"]), prx.Ranking)
    assert_type(await client.image("p"), prx.Images)
    assert_type(await client.speech("hi"), prx.Speech)
    assert_type(await client.transcribe("a.wav"), prx.Transcript)
    assert_type(await client.moderate("a"), prx.Moderation)
    assert_type(await client.count_tokens("hi"), int)
    assert_type(await client.complete("a"), prx.Reply)


@dataclasses.dataclass
class Person:
    name: str


class Row(TypedDict):
    name: str


def typed(client: prx.Client) -> None:
    reply = client.chat("hi", "a/b", response_format=Person, repair=True, timeout=3)
    assert_type(reply, prx.Reply[Person])
    assert_type(reply.parsed.name, str)
    assert_type(client.chat("hi", response_format=Row).parsed, Row)
    with client.stream("hi", response_format=Person) as pieces:
        assert_type(pieces, prx.Stream[Person])
    assert_type(pieces.reply.parsed, Person)
    assert_type(client.chat("hi", response_format={"type": "json_object"}).parsed, Any)
    assert_type(reply.to_dict(), dict[str, Any])
    assert_type(reply.copy(content="x"), prx.Reply[Person])


async def typed_asynchronously(client: prx.AsyncClient) -> None:
    assert_type((await client.chat("hi", response_format=Person)).parsed, Person)
    async with client.stream("hi", response_format=Person) as pieces:
        assert_type(pieces, prx.AsyncStream[Person])
    assert_type(pieces.reply.parsed, Person)
    assert_type(await client.chat("hi", repair=False), prx.Reply)


@prx.tool
def add(a: int, b: int) -> int:
    return a + b


@prx.tool(name="minus", strict=True)
def subtract(a: int, b: int) -> int:
    return a - b


def seen(call: prx.ToolCall, arguments: dict[str, Any]) -> str | None:
    return "no" if call.name == "add" and arguments["a"] else None


async def running_tools(client: prx.Client, other: prx.AsyncClient) -> None:
    assert_type(add, prx.Tool)
    assert_type(subtract, prx.Tool)
    client.chat("hi", tools=[add, {"type": "function"}])
    done = client.run_tools("hi", "a/b", tools=[add], max_turns=3, on_call=seen, deadline=3)
    assert_type(done, prx.ToolRun)
    assert_type(done.messages, list[prx.Message])
    assert_type(await other.run_tools("hi", tools=[add]), prx.ToolRun)
