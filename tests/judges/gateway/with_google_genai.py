"""Google's Gen AI SDK for Python before the gateway."""

from __future__ import annotations

from typing import Any

import common
from common import ADA, HELLO, HELLO_ANSWER, PERSON, WEATHER, same, weather

genai = common.needs("google.genai", "google-genai")
types = common.needs("google.genai.types", "google-genai")
pydantic = common.needs("pydantic", "pydantic")


class Person(pydantic.BaseModel):
    name: str
    age: int


def get_weather(city: str) -> str:
    """Weather of a city"""
    return weather(city)


with common.gateway() as gateway:
    client = genai.Client(api_key=gateway.key, http_options={"base_url": gateway.url})
    models = client.models

    def listed(model: str) -> Any:
        return same(f"models/{model}" in [each.name for each in models.list()], True)

    def plain(model: str) -> Any:
        config = types.GenerateContentConfig(system_instruction="Be brief.", max_output_tokens=200)
        response = models.generate_content(model=model, contents=HELLO, config=config)
        same(response.candidates[0].finish_reason, types.FinishReason.STOP)
        return same(response.text, HELLO_ANSWER)

    def streamed(model: str) -> Any:
        chunks = [*models.generate_content_stream(model=model, contents=HELLO)]
        same((len(chunks) > 10, chunks[-1].usage_metadata.total_token_count > 0), (True, True))
        return same("".join(chunk.text or "" for chunk in chunks), HELLO_ANSWER)

    def tool(model: str) -> Any:
        """The SDK runs the function and asks again by itself."""
        config = types.GenerateContentConfig(tools=[get_weather])
        return same(models.generate_content(model=model, contents=WEATHER, config=config).text, "sunny in London")

    def structured(model: str) -> Any:
        config = types.GenerateContentConfig(response_mime_type="application/json", response_schema=Person)
        return same(models.generate_content(model=model, contents=PERSON, config=config).parsed.model_dump(), ADA)

    common.judge(
        f"google-genai {genai.__version__}",
        {"models": listed, "plain": plain, "streamed": streamed, "tool": tool, "structured": structured},
        gateway.plain,
    )
