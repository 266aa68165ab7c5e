"""What each vendor's SDK says a request body is, as a type for either way of asking."""

from __future__ import annotations

import inspect
from typing import Any, Literal, Required

import ollama._types as ollama
from anthropic.types import message_create_params as anthropic
from cohere.v2.raw_client import RawV2Client
from google.genai import types as google
from judges.shapes import STANDS_FOR, Problem, problems
from openai.types.chat import completion_create_params as chat
from openai.types.responses import response_create_params as responses
from typing_extensions import TypedDict, get_type_hints

STANDS_FOR[ollama.Image] = bytes


class Gemini(TypedDict, total=False):
    """The body of generateContent: what the SDK writes beside and under `generationConfig` (it has no type for the whole)."""

    contents: Required[list[google.Content]]
    systemInstruction: google.Content
    tools: list[google.Tool]
    toolConfig: google.ToolConfig
    generationConfig: google.GenerationConfig
    safetySettings: list[google.SafetySetting]
    cachedContent: str
    serviceTier: google.ServiceTier
    store: bool


def _cohere(method: Any, stream: Any) -> Any:
    """A TypedDict of a method's parameters; the SDK adds `stream` by itself."""
    hints = get_type_hints(method, include_extras=True)
    given = [
        each for each in inspect.signature(method).parameters.values() if each.name not in ("self", "request_options")
    ]
    keys = {each.name: Required[hints[each.name]] if each.default is each.empty else hints[each.name] for each in given}
    return TypedDict("CohereChat", {**keys, "stream": Required[stream]}, total=False)


# dialect -> the body's type, without a stream and with one
BODIES: dict[str, tuple[Any, Any]] = {
    "openai-chat": (chat.CompletionCreateParamsNonStreaming, chat.CompletionCreateParamsStreaming),
    "openai-responses": (responses.ResponseCreateParamsNonStreaming, responses.ResponseCreateParamsStreaming),
    "anthropic-messages": (anthropic.MessageCreateParamsNonStreaming, anthropic.MessageCreateParamsStreaming),
    "gemini": (Gemini, Gemini),
    "cohere-v2": (_cohere(RawV2Client.chat, Literal[False]), _cohere(RawV2Client.chat_stream, Literal[True])),
    "ollama": (ollama.ChatRequest, ollama.ChatRequest),
}


def refusals(dialect: str, body: Any, *, stream: bool) -> list[Problem]:
    """What the vendor's types have against a body."""
    return problems(body, BODIES[dialect][stream])
