"""OpenAI's SDK for Python before the gateway: Chat Completions and Responses."""

from __future__ import annotations

import json
from typing import Any

import common
from common import ADA, HELLO, HELLO_ANSWER, PERSON, WEATHER, WEATHER_ANSWER, WEATHER_SCHEMA, same, weather

openai = common.needs("openai", "openai")
pydantic = common.needs("pydantic", "pydantic")

FUNCTION = {"name": "get_weather", "description": "Weather of a city", "parameters": WEATHER_SCHEMA}
CHAT_TOOL = {"type": "function", "function": FUNCTION}
ITEM_TOOL = {"type": "function", **FUNCTION, "strict": True}


class Person(pydantic.BaseModel):
    name: str
    age: int


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


with common.gateway() as gateway:
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0, timeout=60)
    chats, responses = client.chat.completions, client.responses

    def listed(model: str) -> Any:
        names = [each.id for each in client.models.list()]
        same(model in names, True)
        return same(client.models.retrieve(model).id, model)

    def plain(model: str) -> Any:
        completion = chats.create(model=model, messages=user(HELLO))
        same((completion.choices[0].finish_reason, completion.object), ("stop", "chat.completion"))
        return same(completion.choices[0].message.content, HELLO_ANSWER)

    def streamed(model: str) -> Any:
        chunks = [*chats.create(model=model, messages=user(HELLO), stream=True, stream_options={"include_usage": True})]
        texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
        same((len(texts) > 10, bool(chunks[-1].usage.total_tokens)), (True, True))
        return same("".join(texts), HELLO_ANSWER)

    def tool(model: str) -> Any:
        messages = user(WEATHER)
        with chats.stream(model=model, messages=messages, tools=[CHAT_TOOL]) as stream:
            choice = stream.get_final_completion().choices[0]
        same((choice.finish_reason, len(choice.message.tool_calls)), ("tool_calls", 2))
        messages.append(choice.message)
        for call in choice.message.tool_calls:
            text = weather(**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": text})
        return same(
            chats.create(model=model, messages=messages, tools=[CHAT_TOOL]).choices[0].message.content, WEATHER_ANSWER
        )

    def structured(model: str) -> Any:
        parsed = chats.parse(model=model, messages=user(PERSON), response_format=Person).choices[0].message.parsed
        return same(parsed.model_dump(), ADA)

    def unknown(model: str) -> Any:
        try:
            chats.create(model="nobody/has-this", messages=user(HELLO))
        except openai.NotFoundError as error:
            return same(error.code, "model_not_found")
        raise AssertionError("no error")

    def item_plain(model: str) -> Any:
        response = responses.create(model=model, input=HELLO, instructions="Be brief.", store=False)
        same(response.status, "completed")
        return same(response.output_text, HELLO_ANSWER)

    def item_streamed(model: str) -> Any:
        with responses.stream(model=model, input=HELLO) as stream:
            events = [*stream]
        texts = [event.delta for event in events if event.type == "response.output_text.delta"]
        same(([event.sequence_number for event in events], len(texts) > 10), ([*range(len(events))], True))
        return same((stream.get_final_response().output_text == "".join(texts)) and "".join(texts), HELLO_ANSWER)

    def item_tool(model: str) -> Any:
        items: list[Any] = user(WEATHER)
        with responses.stream(model=model, input=items, tools=[ITEM_TOOL]) as stream:
            for _ in stream:
                pass
        output = stream.get_final_response().output
        items += output
        for call in output:
            if call.type == "function_call":
                text = weather(**json.loads(call.arguments))
                items.append({"type": "function_call_output", "call_id": call.call_id, "output": text})
        return same(responses.create(model=model, input=items, tools=[ITEM_TOOL]).output_text, WEATHER_ANSWER)

    def item_structured(model: str) -> Any:
        return same(responses.parse(model=model, input=PERSON, text_format=Person).output_parsed.model_dump(), ADA)

    common.judge(
        f"openai {openai.__version__}",
        {
            "models": listed,
            "plain": plain,
            "streamed": streamed,
            "tool": tool,
            "structured": structured,
            "unknown model": unknown,
            "responses, plain": item_plain,
            "responses, streamed": item_streamed,
            "responses, tool": item_tool,
            "responses, structured": item_structured,
        },
        gateway.models,
    )
