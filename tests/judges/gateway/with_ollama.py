"""Ollama's library for Python before the gateway."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import common
from common import (
    ADA,
    HELLO,
    HELLO_ANSWER,
    PERSON,
    PERSON_SCHEMA,
    WEATHER,
    WEATHER_ANSWER,
    WEATHER_SCHEMA,
    same,
    weather,
)

ollama = common.needs("ollama", "ollama")

TOOL = {"type": "function", "function": {"name": "get_weather", "description": "Weather", "parameters": WEATHER_SCHEMA}}


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


with common.gateway() as gateway:
    client = ollama.Client(host=gateway.url, headers={"authorization": f"Bearer {gateway.key}"})

    def listed(model: str) -> Any:
        return same(model in [each.model for each in client.list().models], True)

    def plain(model: str) -> Any:
        response = client.chat(model, messages=user(HELLO), options={"num_predict": 200})
        same((response.done, response.done_reason), (True, "stop"))
        return same(response.message.content, HELLO_ANSWER)

    def streamed(model: str) -> Any:
        chunks = [*client.chat(model, messages=user(HELLO), stream=True)]
        same((len(chunks) > 10, chunks[-1].done), (True, True))
        return same("".join(chunk.message.content or "" for chunk in chunks), HELLO_ANSWER)

    def tool(model: str) -> Any:
        messages = user(WEATHER)
        message = client.chat(model, messages=messages, tools=[TOOL]).message
        same(len(message.tool_calls), 2)
        messages.append(message)
        for call in message.tool_calls:
            text = weather(**call.function.arguments)
            messages.append({"role": "tool", "tool_name": call.function.name, "content": text})
        return same(client.chat(model, messages=messages, tools=[TOOL]).message.content, WEATHER_ANSWER)

    def structured(model: str) -> Any:
        return same(common.parsed(client.chat(model, messages=user(PERSON), format=PERSON_SCHEMA).message.content), ADA)

    common.judge(
        f"ollama {version('ollama')}",
        {"models": listed, "plain": plain, "streamed": streamed, "tool": tool, "structured": structured},
        gateway.models,
    )
