"""LlamaIndex before the gateway, by its client for servers that are like OpenAI's."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import common
from common import ADA, HELLO, HELLO_ANSWER, PERSON_BY_TOOL, WEATHER, WEATHER_ANSWER, same, weather

openai_like = common.needs("llama_index.llms.openai_like", "'llama-index-llms-openai-like>=0.3'")
core = common.needs("llama_index.core.llms", "llama-index-core")
tools = common.needs("llama_index.core.tools", "llama-index-core")
pydantic = common.needs("pydantic", "pydantic")


class Person(pydantic.BaseModel):
    """A person."""

    name: str
    age: int


get_weather = tools.FunctionTool.from_defaults(weather, name="get_weather")

with common.gateway() as gateway:

    def client(model: str) -> Any:
        return openai_like.OpenAILike(
            model=model, api_base=f"{gateway.url}/v1", api_key=gateway.key, is_chat_model=True,
            is_function_calling_model=True, max_retries=0,
        )  # fmt: skip

    def plain(model: str) -> Any:
        turns = [core.ChatMessage(role="system", content="Be brief."), core.ChatMessage(content=HELLO)]
        return same(client(model).chat(turns).message.content, HELLO_ANSWER)

    def streamed(model: str) -> Any:
        texts = [piece.delta or "" for piece in client(model).stream_chat([core.ChatMessage(content=HELLO)])]
        same(len(texts) > 10, True)
        return same("".join(texts), HELLO_ANSWER)

    def tool(model: str) -> Any:
        llm, turns = client(model), [core.ChatMessage(content=WEATHER)]
        said = llm.chat_with_tools([get_weather], chat_history=turns, allow_parallel_tool_calls=True)
        calls = llm.get_tool_calls_from_response(said)
        same(len(calls), 2)
        turns.append(said.message)
        for call in calls:
            text = weather(**call.tool_kwargs)
            turns.append(core.ChatMessage(role="tool", content=text, additional_kwargs={"tool_call_id": call.tool_id}))
        return same(llm.chat_with_tools([get_weather], chat_history=turns).message.content, WEATHER_ANSWER)

    def structured(model: str) -> Any:
        asked = core.ChatMessage(content=PERSON_BY_TOOL % "Person")
        return same(client(model).as_structured_llm(Person).chat([asked]).raw.model_dump(), ADA)

    common.judge(
        f"llama-index-llms-openai-like {version('llama-index-llms-openai-like')}",
        {"plain": plain, "streamed": streamed, "tool": tool, "structured": structured},
        gateway.models,
    )
