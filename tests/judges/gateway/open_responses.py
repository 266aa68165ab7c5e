"""Open Responses (openresponses.org) before the gateway: the seven turns that its compliance test asks, each answer and each event of
a stream read by the types that are generated of its specification. Its own runner is in no package registry.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import common
from common import HELLO, HELLO_ANSWER, WEATHER, WEATHER_SCHEMA, same

types = common.needs("openresponses_types", "openresponses-types")
pydantic = common.needs("pydantic", "pydantic")

TOOL = {"type": "function", "name": "get_weather", "description": "Weather of a city", "parameters": WEATHER_SCHEMA}
RED_DOT = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)


def event_types() -> dict[str, Any]:
    """{type of an event: its class}"""
    classes = [getattr(types, name) for name in dir(types) if name.endswith("StreamingEvent")]
    return {str(word.value): each for each in classes for word in each.model_fields["type"].annotation}


EVENTS = event_types()


def turn(role: str, content: Any) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": content}


def checked(kind: Any, value: Any, where: str) -> None:
    try:
        kind.model_validate(value)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise AssertionError(f"{where}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


with common.gateway() as gateway:

    def sent(model: str, *turns: Any, **more: Any) -> str:
        body = json.dumps({"model": model, "input": turns, **more}).encode()
        headers = {"content-type": "application/json", "authorization": f"Bearer {gateway.key}"}
        request = urllib.request.Request(f"{gateway.url}/v1/responses", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{error.code}: {error.read().decode()}") from None

    def whole(model: str, *turns: Any, **more: Any) -> dict[str, Any]:
        response: dict[str, Any] = json.loads(sent(model, *turns, **more))
        checked(types.ResponseResource, response, "response")
        same(response["status"], "completed")
        return response

    def events(model: str, *turns: Any, **more: Any) -> list[dict[str, Any]]:
        """The events of a stream that ends with a whole answer. The specification wants `[DONE]` behind it, which OpenAI does not send,
        nor prx; its compliance test does not look for it.
        """
        blocks = sent(model, *turns, stream=True, **more).removesuffix("\n\n").split("\n\n")
        found = []
        for block in blocks:
            name, _, data = block.partition("\n")
            event = json.loads(data.removeprefix("data: "))
            same(name, f"event: {event['type']}")
            checked(EVENTS[event["type"]], event, event["type"])
            found.append(event)
        same([event["sequence_number"] for event in found], [*range(len(found))])
        same((found[-1]["type"], found[-1]["response"]["status"]), ("response.completed", "completed"))
        return found

    def text(response: dict[str, Any]) -> str:
        parts = [part for item in response["output"] if item["type"] == "message" for part in item["content"]]
        return "".join(part["text"] for part in parts)

    def calls(items: list[dict[str, Any]]) -> list[str]:
        return [item["name"] for item in items if item["type"] == "function_call"]

    def plain(model: str) -> Any:
        return same(text(whole(model, turn("user", HELLO))), HELLO_ANSWER)

    def streamed(model: str) -> Any:
        found = events(model, turn("user", HELLO))
        pieces = [event["delta"] for event in found if event["type"] == "response.output_text.delta"]
        same(len(pieces) > 10, True)
        return same("".join(pieces), text(found[-1]["response"]))

    def system(model: str) -> Any:
        return same(text(whole(model, turn("system", "Speak as a pirate does."), turn("user", HELLO))), HELLO_ANSWER)

    def tool(model: str) -> Any:
        output = whole(model, turn("user", WEATHER), tools=[TOOL])["output"]
        return same(calls(output), ["get_weather", "get_weather"])

    def streamed_tool(model: str) -> Any:
        found = events(model, turn("user", WEATHER), tools=[TOOL])
        words = [event["type"] for event in found]
        for word in ("function_call_arguments.delta", "function_call_arguments.done"):
            same(f"response.{word}" in words, True)
        for word in ("added", "done"):
            items = [event["item"] for event in found if event["type"] == f"response.output_item.{word}"]
            same(calls(items), ["get_weather", "get_weather"])
        return same(calls(found[-1]["response"]["output"]), ["get_weather", "get_weather"])

    def image(model: str) -> Any:
        parts = [{"type": "input_text", "text": "What is this?"}, {"type": "input_image", "image_url": RED_DOT}]
        return same(text(whole(model, turn("user", parts))), "I see a red PNG picture of 1 by 1 pixels.")

    def several_turns(model: str) -> Any:
        turns = turn("user", "My name is Ada."), turn("assistant", "Good day, Ada."), turn("user", "What is my name?")
        return same(text(whole(model, *turns)), "What is my name?")

    common.judge(
        f"openresponses-types {types.__version__}",
        {
            "plain": plain,
            "streamed": streamed,
            "system": system,
            "tool": tool,
            "streamed tool": streamed_tool,
            "image": image,
            "several turns": several_turns,
        },
        gateway.models,
    )
