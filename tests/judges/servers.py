"""Real servers as judges of what the dialects send: the same conversation, by every dialect that a server speaks.

    python tests/judges/servers.py --key KEY --model MODEL DIALECT=BASE_URL…

The servers must know "Say hello." and "What is the weather in Paris and London?" (two calls of get_weather).
Prints a line a question; exit 1 where one fails, or where nothing was asked.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

import prx

HELLO = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hello."}]
WEATHER = [{"role": "user", "content": "What is the weather in Paris and London?"}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Weather of a city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]
# Once more: a server may close a kept connection in the moment in which the next question goes out.
LIMITS: dict[str, Any] = {"max_tokens": 60, "temperature": 0, "retries": 1, "timeout": 60}


def whole(client: prx.Client, model: str, messages: list[dict[str, Any]], **asked: Any) -> prx.Reply:
    return client.chat(messages, model, **LIMITS, **asked)


def streamed(client: prx.Client, model: str, messages: list[dict[str, Any]], **asked: Any) -> prx.Reply:
    with client.stream(messages, model, **LIMITS, **asked) as stream:
        pieces = [delta.content or "" for delta in stream]
    reply = stream.reply
    if not reply.streamed or "".join(pieces) != reply.content:
        raise AssertionError(f"the pieces {pieces} are not the reply {reply!r}")
    return reply


def hello(reply: prx.Reply) -> bool:
    counts = reply.usage.prompt_tokens if reply.usage else None
    return "hello" in reply.content.lower() and reply.finish_reason == "stop" and counts is not None


def two_calls(reply: prx.Reply) -> bool:
    cities = [json.loads(call.arguments).get("city") for call in reply.tool_calls]
    return cities == ["Paris", "London"] and all(call.id for call in reply.tool_calls)


def results(client: prx.Client, model: str) -> prx.Reply:
    first = whole(client, model, WEATHER, tools=TOOLS)
    answers = [{"role": "tool", "tool_call_id": call.id, "content": "sunny"} for call in first.tool_calls]
    return whole(client, model, [*WEATHER, first.message, *answers], tools=TOOLS)


Question = tuple[str, Callable[[], prx.Reply], Callable[[prx.Reply], bool]]


def questions(client: prx.Client, model: str) -> Iterator[Question]:
    for name, ask in (("chat", whole), ("stream", streamed)):
        yield name, lambda ask=ask: ask(client, model, HELLO), hello  # type: ignore[misc]
        yield f"{name}, tools", lambda ask=ask: ask(client, model, WEATHER, tools=TOOLS), two_calls  # type: ignore[misc]
    yield "tool results", lambda: results(client, model), lambda reply: bool(reply.content or reply.tool_calls)


@click.command()
@click.argument("servers", nargs=-1, required=True, metavar="DIALECT=BASE_URL...")
@click.option("--key", default="")
@click.option("--model", required=True)
@click.option("--auth", default="", help="An auth style in place of the dialect's.")
def main(servers: tuple[str, ...], key: str, model: str, auth: str) -> None:
    """Ask each server, each in its dialect."""
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for place, server in enumerate(servers):
            dialect, _, url = server.partition("=")
            (Path(folder) / f"judge{place}.yaml").write_text(
                f"spec: 1\nid: judge{place}\nextends: {dialect}\nbase_url: {url}\n"
                + (auth and f"auth: {{style: {auth}}}\n")
            )
            config = {"providers": {f"judge{place}": {"api_key": key}}}
            with prx.Client(config=config, providers=folder, env={}) as client:
                for name, ask, holds in questions(client, f"judge{place}/{model}"):
                    said = answer(ask, holds)
                    failed += bool(said)
                    click.echo(f"{'FAIL' if said else 'ok':5}{dialect:20}{url:34}{name}{said and ': ' + said}")
    if failed:
        raise click.exceptions.Exit(1)


def answer(ask: Callable[[], prx.Reply], holds: Callable[[prx.Reply], bool]) -> str:
    """What is wrong, or nothing."""
    try:
        reply = ask()
    except (prx.Error, AssertionError) as error:
        return str(error)
    return "" if holds(reply) else repr(reply)


if __name__ == "__main__":
    main()
