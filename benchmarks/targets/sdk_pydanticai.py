"""pydantic-ai, its model without an agent around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pydantic_ai.direct import model_request_stream_sync, model_request_sync
from pydantic_ai.messages import ModelRequest
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

VENV = "pydanticai"
PACKAGES = ("pydantic-ai-slim[openai]",)
IMPORT = "from pydantic_ai.direct import model_request_sync; from pydantic_ai.models.openai import OpenAIChatModel"


def connect(url: str) -> tuple[Callable[[str], str], Callable[[str], Iterator[str]]]:
    model = OpenAIChatModel("m", provider=OpenAIProvider(base_url=url, api_key="sk-none"))

    def chat(text: str) -> str:
        return model_request_sync(model, [ModelRequest.user_text_prompt(text)]).parts[0].content

    def stream(text: str) -> Iterator[str]:
        with model_request_stream_sync(model, [ModelRequest.user_text_prompt(text)]) as events:
            for event in events:
                if event.event_kind == "part_start" and event.part.content:
                    yield event.part.content
                elif event.event_kind == "part_delta":
                    yield event.delta.content_delta

    return chat, stream
