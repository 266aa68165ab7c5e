"""Anthropic's SDK for Python before the gateway."""

from __future__ import annotations

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

anthropic = common.needs("anthropic", "anthropic")

TOOL = {"name": "get_weather", "description": "Weather of a city", "input_schema": WEATHER_SCHEMA}


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


with common.gateway() as gateway:
    client = anthropic.Anthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0, timeout=60)
    messages = client.messages

    def listed(model: str) -> Any:
        same(model in [each.id for each in client.models.list()], True)
        return same(client.models.retrieve(model).id, model)

    def plain(model: str) -> Any:
        message = messages.create(model=model, max_tokens=200, system="Be brief.", messages=user(HELLO))
        same((message.stop_reason, message.type), ("end_turn", "message"))
        return same(message.content[0].text, HELLO_ANSWER)

    def streamed(model: str) -> Any:
        with messages.stream(model=model, max_tokens=200, messages=user(HELLO)) as stream:
            texts = [*stream.text_stream]
            final = stream.get_final_message()
        same((len(texts) > 10, final.stop_reason, final.usage.output_tokens > 0), (True, "end_turn", True))
        return same("".join(texts), HELLO_ANSWER)

    def tool(model: str) -> Any:
        turns = user(WEATHER)
        with messages.stream(model=model, max_tokens=200, messages=turns, tools=[TOOL]) as stream:
            final = stream.get_final_message()
        calls = [block for block in final.content if block.type == "tool_use"]
        same((final.stop_reason, len(calls)), ("tool_use", 2))
        results = [{"type": "tool_result", "tool_use_id": call.id, "content": weather(**call.input)} for call in calls]
        turns += [{"role": "assistant", "content": final.content}, {"role": "user", "content": results}]
        answer = messages.create(model=model, max_tokens=200, messages=turns, tools=[TOOL])
        return same(answer.content[0].text, WEATHER_ANSWER)

    def structured(model: str) -> Any:
        config = {"format": {"type": "json_schema", "schema": PERSON_SCHEMA}}
        message = messages.create(model=model, max_tokens=200, messages=user(PERSON), output_config=config)
        return same(common.parsed(message.content[0].text), ADA)

    def thinking(model: str) -> Any:
        budget = {"type": "enabled", "budget_tokens": 1024}
        message = messages.create(model=model, max_tokens=2000, messages=user(HELLO), thinking=budget)
        return same(message.content[-1].text, HELLO_ANSWER)

    def unknown(model: str) -> Any:
        try:
            messages.create(model="nobody/has-this", max_tokens=9, messages=user(HELLO))
        except anthropic.NotFoundError as error:
            return same(error.body["error"]["type"], "not_found_error")
        raise AssertionError("no error")

    common.judge(
        f"anthropic {anthropic.__version__}",
        {
            "models": listed,
            "plain": plain,
            "streamed": streamed,
            "tool": tool,
            "structured": structured,
            "thinking": thinking,
            "unknown model": unknown,
        },
        gateway.models,
    )
