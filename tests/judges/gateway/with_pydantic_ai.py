"""pydantic-ai before the gateway, by its models for OpenAI, Anthropic and Google."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Any

import common
from common import ADA, HELLO, HELLO_ANSWER, PERSON, PERSON_BY_TOOL, WEATHER, same, weather

ai = common.needs("pydantic_ai", "'pydantic-ai-slim[openai,anthropic,google]'")
common.needs("anthropic", "anthropic")
pydantic = common.needs("pydantic", "pydantic")
openai_models = common.needs("pydantic_ai.models.openai", "'pydantic-ai-slim[openai]'")
openai_provider = common.needs("pydantic_ai.providers.openai", "'pydantic-ai-slim[openai]'")
anthropic_models = common.needs("pydantic_ai.models.anthropic", "'pydantic-ai-slim[anthropic]'")
anthropic_provider = common.needs("pydantic_ai.providers.anthropic", "'pydantic-ai-slim[anthropic]'")
google_models = common.needs("pydantic_ai.models.google", "'pydantic-ai-slim[google]'")
google_provider = common.needs("pydantic_ai.providers.google", "'pydantic-ai-slim[google]'")


class Person(pydantic.BaseModel):
    name: str
    age: int


def get_weather(city: str) -> str:
    """Weather of a city"""
    return weather(city)


async def plain(model: Any) -> Any:
    return same((await ai.Agent(model, instructions="Be brief.").run(HELLO)).output, HELLO_ANSWER)


async def streamed(model: Any) -> Any:
    async with ai.Agent(model).run_stream(HELLO) as result:
        texts = [text async for text in result.stream_text(delta=True, debounce_by=None)]
    same(len(texts) > 10, True)
    return same("".join(texts), HELLO_ANSWER)


async def tool(model: Any) -> Any:
    output = (await ai.Agent(model, tools=[get_weather]).run(WEATHER)).output
    same(output, "sunny in Paris")
    return same(output, "sunny in London")


async def structured(model: Any) -> Any:
    """By the API's own word for a schema."""
    output = ai.NativeOutput(Person, strict=True)
    return same((await ai.Agent(model, output_type=output).run(PERSON)).output.model_dump(), ADA)


async def structured_by_tool(model: Any) -> Any:
    agent = ai.Agent(model, output_type=ai.ToolOutput(Person, name="final_result"))
    return same((await agent.run(PERSON_BY_TOOL % "final_result")).output.model_dump(), ADA)


QUESTIONS = {
    "plain": plain,
    "streamed": streamed,
    "tool": tool,
    "structured": structured,
    "structured by a tool": structured_by_tool,
}

with common.gateway() as gateway:

    def open_ai() -> Any:
        return openai_provider.OpenAIProvider(base_url=f"{gateway.url}/v1", api_key=gateway.key)

    def anthropic() -> Any:
        return anthropic_provider.AnthropicProvider(base_url=gateway.url, api_key=gateway.key)

    def google() -> Any:
        return google_provider.GoogleProvider(base_url=gateway.url, api_key=gateway.key)

    made = {
        "chat": lambda model: openai_models.OpenAIChatModel(model, provider=open_ai()),
        "responses": lambda model: openai_models.OpenAIResponsesModel(model, provider=open_ai()),
        "anthropic": lambda model: anthropic_models.AnthropicModel(model, provider=anthropic()),
        "google": lambda model: google_models.GoogleModel(model, provider=google()),
    }
    common.judge(
        f"pydantic-ai {version('pydantic-ai-slim')}",
        {
            f"{client}, {name}": lambda model, make=make, question=question: asyncio.run(question(make(model)))
            for client, make in made.items()
            for name, question in QUESTIONS.items()
            if (client, name) != ("anthropic", "structured")  # it allows that for names of Anthropic's models alone
        },
        gateway.plain,
    )
