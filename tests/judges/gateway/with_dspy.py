"""DSPy before the gateway, by the client that it brings (litellm)."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Any

import common
from common import ADA, HELLO, HELLO_ANSWER, PERSON, WEATHER, WEATHER_SCHEMA, same

dspy = common.needs("dspy", "dspy")

TOOL = {"type": "function", "function": {"name": "get_weather", "description": "Weather", "parameters": WEATHER_SCHEMA}}

with common.gateway() as gateway:

    def client(model: str, **more: Any) -> Any:
        return dspy.LM(
            f"openai/{model}", api_base=f"{gateway.url}/v1", api_key=gateway.key, cache=False, num_retries=0, **more
        )

    def text(said: list[Any]) -> str:
        return str(said[0]["text"] if isinstance(said[0], dict) else said[0])

    def plain(model: str) -> Any:
        return same(text(client(model)(HELLO)), HELLO_ANSWER)

    def responses(model: str) -> Any:
        return same(text(client(model, model_type="responses")(HELLO)), HELLO_ANSWER)

    def streamed(model: str) -> Any:
        class Greet(dspy.Signature):
            """Give name and age in JSON."""

            question: str = dspy.InputField()
            name: str = dspy.OutputField()
            age: int = dspy.OutputField()

        async def pieces() -> list[Any]:
            program = dspy.streamify(dspy.Predict(Greet))
            with dspy.context(lm=client(model), adapter=dspy.JSONAdapter()):
                return [piece async for piece in program(question=PERSON)]

        found = asyncio.run(pieces())
        same(len(found) > 2, True)
        return same({"name": found[-1].name, "age": found[-1].age}, ADA)

    def tool(model: str) -> Any:
        said = client(model)(WEATHER, tools=[TOOL])
        calls = [call for each in said for call in each.get("tool_calls") or ()]
        arguments = [common.parsed(call.function.arguments) for call in calls]
        return same(arguments, [{"city": "Paris"}, {"city": "London"}])

    def structured(model: str) -> Any:
        with dspy.context(lm=client(model), adapter=dspy.JSONAdapter()):
            found = dspy.Predict("question -> name: str, age: int")(question=PERSON)
        return same({"name": found.name, "age": found.age}, ADA)

    common.judge(
        f"dspy {version('dspy')}",
        {"plain": plain, "responses": responses, "streamed": streamed, "tool": tool, "structured": structured},
        gateway.models,
    )
