"""instructor before the gateway, over the SDKs of OpenAI and Anthropic, in three of its modes."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import common
from common import ADA, HELLO, HELLO_ANSWER, PERSON, PERSON_BY_TOOL, same

instructor = common.needs("instructor", "instructor")
openai = common.needs("openai", "openai")
anthropic = common.needs("anthropic", "anthropic")
pydantic = common.needs("pydantic", "pydantic")


class Person(pydantic.BaseModel):
    """A person."""

    name: str
    age: int


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


with common.gateway() as gateway:
    open_ai = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0)
    claude = anthropic.Anthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0)

    def plain(model: str) -> Any:
        client = instructor.from_openai(open_ai)
        said = client.chat.completions.create(model=model, messages=user(HELLO), response_model=None)
        return same(said.choices[0].message.content, HELLO_ANSWER)

    def tool(model: str) -> Any:
        client = instructor.from_openai(open_ai, mode=instructor.Mode.TOOLS)
        asked = user(PERSON_BY_TOOL % "Person")
        return same(client.create(model=model, messages=asked, response_model=Person).model_dump(), ADA)

    def streamed(model: str) -> Any:
        client = instructor.from_openai(open_ai, mode=instructor.Mode.TOOLS)
        asked = user(PERSON_BY_TOOL % "PartialPerson")  # what it calls the tool here
        found = [*client.create_partial(model=model, messages=asked, response_model=Person)]
        # One without anything, and one for each piece of the arguments: two of the dialects give arguments in one piece.
        same(len(found), 2 if model.startswith(("gemini", "ollama")) else 5)
        return same(found[-1].model_dump(), ADA)

    def structured(model: str) -> Any:
        client = instructor.from_openai(open_ai, mode=instructor.Mode.JSON_SCHEMA)
        return same(client.create(model=model, messages=user(PERSON), response_model=Person).model_dump(), ADA)

    def anthropic_tool(model: str) -> Any:
        client = instructor.from_anthropic(claude, mode=instructor.Mode.ANTHROPIC_TOOLS)
        asked = user(PERSON_BY_TOOL % "Person")
        found = client.create(model=model, messages=asked, response_model=Person, max_tokens=200)
        return same(found.model_dump(), ADA)

    common.judge(
        f"instructor {version('instructor')}",
        {
            "plain": plain,
            "tool": tool,
            "streamed tool": streamed,
            "structured": structured,
            "anthropic, tool": anthropic_tool,
        },
        gateway.models,
    )
