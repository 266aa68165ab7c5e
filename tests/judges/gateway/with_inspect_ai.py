"""Inspect before the gateway, by its clients for OpenAI (both APIs), Anthropic and Google."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Any

import common
from common import ADA, HELLO, HELLO_ANSWER, PERSON, PERSON_SCHEMA, WEATHER, same, weather

inspect = common.needs("inspect_ai.model", "inspect_ai")
tools = common.needs("inspect_ai.tool", "inspect_ai")
schemas = common.needs("inspect_ai.util", "inspect_ai")
common.needs("openai", "openai")


@tools.tool
def get_weather() -> Any:
    async def execute(city: str) -> str:
        """Weather of a city.

        Args:
            city: Its name.
        """
        return weather(city)

    return execute


async def plain(model: Any) -> Any:
    return same((await model.generate(HELLO)).completion, HELLO_ANSWER)


async def streamed(model: Any) -> Any:
    """Inspect streams for itself; what it gives is whole."""
    return same((await model.generate(HELLO, config=inspect.GenerateConfig(max_tokens=9000))).completion, HELLO_ANSWER)


async def tool(model: Any) -> Any:
    turns, output = await model.generate_loop([inspect.ChatMessageUser(content=WEATHER)], tools=[get_weather()])
    same(len(turns) >= 3, True)
    same(output.completion, "sunny in Paris")
    return same(output.completion, "sunny in London")


async def structured(model: Any) -> Any:
    schema = inspect.ResponseSchema(name="person", json_schema=schemas.JSONSchema(**PERSON_SCHEMA))
    output = await model.generate(PERSON, config=inspect.GenerateConfig(response_schema=schema))
    return same(common.parsed(output.completion), ADA)


QUESTIONS = {"plain": plain, "long": streamed, "tool": tool, "structured": structured}

with common.gateway() as gateway:

    def get(name: str, url: str, **more: Any) -> Any:
        config = inspect.GenerateConfig(max_retries=0)
        return inspect.get_model(name, base_url=url, api_key=gateway.key, memoize=False, config=config, **more)

    made = {
        "chat": lambda model: get(f"openai/{model}", f"{gateway.url}/v1", responses_api=False),
        "responses": lambda model: get(f"openai/{model}", f"{gateway.url}/v1", responses_api=True),
        "anthropic": lambda model: get(f"anthropic/{model}", gateway.url, streaming=True),
        "google": lambda model: get(f"google/{model}", gateway.url),
    }
    common.judge(
        f"inspect_ai {version('inspect_ai')}",
        {
            f"{api}, {name}": lambda model, make=make, question=question: asyncio.run(question(make(model)))
            for api, make in made.items()
            for name, question in QUESTIONS.items()
        },
        gateway.plain,
    )
