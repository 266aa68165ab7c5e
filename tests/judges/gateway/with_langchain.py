"""LangChain before the gateway: langchain-openai (both of its APIs) and langchain-anthropic."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import common
from common import ADA, HELLO, HELLO_ANSWER, PERSON, PERSON_BY_TOOL, WEATHER, WEATHER_ANSWER, same, weather

langchain_openai = common.needs("langchain_openai", "langchain-openai")
langchain_anthropic = common.needs("langchain_anthropic", "langchain-anthropic")
tools = common.needs("langchain_core.tools", "langchain-core")
messages = common.needs("langchain_core.messages", "langchain-core")
pydantic = common.needs("pydantic", "pydantic")


class Person(pydantic.BaseModel):
    """A person."""

    name: str
    age: int


get_weather = tools.tool("get_weather")(weather)


def plain(chat: Any) -> Any:
    return same(chat.invoke([("system", "Be brief."), ("user", HELLO)]).text, HELLO_ANSWER)


def streamed(chat: Any) -> Any:
    texts = [chunk.text for chunk in chat.stream(HELLO)]
    same(len(texts) > 10, True)
    return same("".join(texts), HELLO_ANSWER)


def tool(chat: Any) -> Any:
    bound, turns = chat.bind_tools([get_weather]), [messages.HumanMessage(WEATHER)]
    said = bound.invoke(turns)
    same(len(said.tool_calls), 2)
    turns += [said, *(get_weather.invoke(call) for call in said.tool_calls)]
    return same(bound.invoke(turns).text, WEATHER_ANSWER)


def streamed_tool(chat: Any) -> Any:
    whole = None
    for chunk in chat.bind_tools([get_weather]).stream(WEATHER):
        whole = chunk if whole is None else whole + chunk
    return same([call["args"] for call in whole.tool_calls], [{"city": "Paris"}, {"city": "London"}])


def structured(chat: Any) -> Any:
    return same(chat.with_structured_output(Person, method="json_schema").invoke(PERSON).model_dump(), ADA)


def structured_by_tool(chat: Any) -> Any:
    asked = PERSON_BY_TOOL % "Person"
    return same(chat.with_structured_output(Person, method="function_calling").invoke(asked).model_dump(), ADA)


QUESTIONS = {
    "plain": plain,
    "streamed": streamed,
    "tool": tool,
    "streamed tool": streamed_tool,
    "structured": structured,
    "structured by a tool": structured_by_tool,
}

with common.gateway() as gateway:
    open_ai = {"base_url": f"{gateway.url}/v1", "api_key": gateway.key, "max_retries": 0}

    def chat_completions(model: str) -> Any:
        return langchain_openai.ChatOpenAI(model=model, stream_usage=True, use_responses_api=False, **open_ai)

    def responses(model: str) -> Any:
        return langchain_openai.ChatOpenAI(model=model, use_responses_api=True, **open_ai)

    def anthropic(model: str) -> Any:
        return langchain_anthropic.ChatAnthropic(
            model=model, base_url=gateway.url, api_key=gateway.key, max_retries=0, max_tokens=200
        )

    made = {"ChatOpenAI": chat_completions, "ChatOpenAI, responses": responses, "ChatAnthropic": anthropic}
    common.judge(
        f"langchain-openai {version('langchain-openai')}, langchain-anthropic {version('langchain-anthropic')}",
        {
            f"{client}, {name}": lambda model, make=make, question=question: question(make(model))
            for client, make in made.items()
            for name, question in QUESTIONS.items()
        },
        gateway.models,
    )
