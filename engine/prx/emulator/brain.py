"""What the emulator answers: the same words for the same messages, in no wire format."""

from __future__ import annotations

import base64
import itertools
import re
import struct
from dataclasses import dataclass, field
from typing import Any

GREETING = (
    "Hello! I am a small program on your own machine, not a language model. "
    "These words came to you over real HTTP, one event at a time, read by a YAML file."
)


@dataclass(frozen=True, slots=True)
class Answer:
    """Words of text and reasoning, and calls as (name, arguments)."""

    words: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    finish: str = "stop"
    prompt_tokens: int = 0

    @property
    def text(self) -> str:
        return "".join(self.words)

    @property
    def completion_tokens(self) -> int:
        return len(self.words) + len(self.reasoning) + 8 * len(self.calls)


def answer(
    messages: list[dict[str, Any]],
    tools: list[dict[str, Any]],
    *,
    reason: bool,
    limit: int | None = None,
    stop: list[str] | None = None,
) -> Answer:
    """The answer to OpenAI-shaped messages. limit: tokens at most; stop: texts to stop before."""
    last = messages[-1] if messages else {}
    prompt = _text(last.get("content"))
    spent = sum(len(_text(message.get("content")).split()) + 3 for message in messages)
    results = [
        _text(message.get("content"))
        for message in itertools.takewhile(lambda message: message.get("role") == "tool", reversed(messages))
    ]
    if results:
        return _said(f"The tool says: {' and '.join(reversed(results))}.", spent, limit, stop)
    calls = [call for tool in tools[:1] for call in _calls(tool, prompt)]
    if calls:
        return Answer(calls=calls, finish="tool_calls", prompt_tokens=spent)
    thoughts = _split(_thought(prompt)) if reason else []
    return _said(_reply(prompt, last.get("content")), spent, limit, stop, thoughts)


def _said(
    text: str, spent: int, limit: int | None, stop: list[str] | None, thoughts: list[str] | None = None
) -> Answer:
    for end in stop or ():
        text = text.partition(end)[0]
    words = _split(text)
    cut = limit is not None and len(words) > limit
    return Answer(
        words[:limit] if cut else words, thoughts or [], finish="length" if cut else "stop", prompt_tokens=spent
    )


def _reply(prompt: str, content: Any) -> str:
    pictures = (
        [found for part in content or [] if isinstance(part, dict) and (found := _picture(part))]
        if isinstance(content, list)
        else []
    )
    if pictures:
        return f"I see {' and '.join(pictures)}."
    if sum_ := re.search(r"(\d+)\s*\+\s*(\d+)", prompt):
        return f"{sum_[1]} + {sum_[2]} = {int(sum_[1]) + int(sum_[2])}."
    return GREETING if re.search(r"\bhello\b", prompt, re.IGNORECASE) else f"You said: {prompt}"


def _thought(prompt: str) -> str:
    return f"The message has {len(prompt.split())} words. I look for a sum, a picture, or a greeting in it."


def _calls(tool: dict[str, Any], prompt: str) -> list[tuple[str, dict[str, Any]]]:
    """One call for each place that the prompt names after "in", for a tool with a text parameter."""
    function = tool.get("function", tool)
    properties = (function.get("parameters") or {}).get("properties") or {}
    name = next((key for key, row in properties.items() if row.get("type") == "string"), None)
    places = re.findall(r"\b(?:in|and|,)\s+([A-Z]\w+)", prompt)
    return [(function.get("name", "tool"), {name: place}) for place in places] if name else []


def _picture(part: dict[str, Any]) -> str:
    """A picture's kind and size, from its first bytes."""
    url = (part.get("image_url") or {}).get("url") if isinstance(part.get("image_url"), dict) else part.get("image_url")
    if not isinstance(url, str):
        return ""
    if not url.startswith("data:"):
        return f"the address {url}"
    data = base64.b64decode(url.partition(",")[2] + "==", validate=False)
    if data.startswith(b"\x89PNG") and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return f"a PNG picture of {width} by {height} pixels"
    return f"a picture of {len(data)} bytes"


def _text(content: Any) -> str:
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict) and "text" in part)
    return str(content or "")


def _split(text: str) -> list[str]:
    """A text in words, each with the space before it."""
    return re.findall(r"\s*\S+", text)
