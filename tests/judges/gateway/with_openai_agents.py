"""OpenAI's Agents SDK before the gateway, by both of its APIs."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Any

import common
from common import ADA, HELLO, HELLO_ANSWER, PERSON, WEATHER, same, weather

agents = common.needs("agents", "openai-agents")
openai = common.needs("openai", "openai")
pydantic = common.needs("pydantic", "pydantic")
agents.set_tracing_disabled(disabled=True)


class Person(pydantic.BaseModel):
    name: str
    age: int


@agents.function_tool
def get_weather(city: str) -> str:
    """Weather of a city"""
    return weather(city)


async def plain(model: Any) -> Any:
    agent = agents.Agent(name="brief", instructions="Be brief.", model=model)
    return same((await agents.Runner.run(agent, HELLO)).final_output, HELLO_ANSWER)


async def streamed(model: Any) -> Any:
    result = agents.Runner.run_streamed(agents.Agent(name="brief", model=model), HELLO)
    events = [event async for event in result.stream_events() if event.type == "raw_response_event"]
    texts = [event.data.delta for event in events if event.data.type == "response.output_text.delta"]
    same((len(texts) > 10, result.final_output), (True, "".join(texts)))
    return same("".join(texts), HELLO_ANSWER)


async def tool(model: Any) -> Any:
    agent = agents.Agent(name="weather", model=model, tools=[get_weather])
    output = (await agents.Runner.run(agent, WEATHER)).final_output
    same(output, "sunny in Paris")
    return same(output, "sunny in London")


async def structured(model: Any) -> Any:
    agent = agents.Agent(name="person", model=model, output_type=Person)
    return same((await agents.Runner.run(agent, PERSON)).final_output.model_dump(), ADA)


QUESTIONS = {"plain": plain, "streamed": streamed, "tool": tool, "structured": structured}

with common.gateway() as gateway:

    def client() -> Any:
        return openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0)

    made = {
        "responses": lambda model: agents.OpenAIResponsesModel(model=model, openai_client=client()),
        "chat": lambda model: agents.OpenAIChatCompletionsModel(model=model, openai_client=client()),
    }
    common.judge(
        f"openai-agents {version('openai-agents')}",
        {
            f"{api}, {name}": lambda model, make=make, question=question: asyncio.run(question(make(model)))
            for api, make in made.items()
            for name, question in QUESTIONS.items()
        },
        gateway.models,
    )
