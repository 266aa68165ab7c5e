"""Makes the emulator's answers, in no wire format; the same messages always get the same answer."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from prx.chat import Delta, Part, Reply, ToolCall, ToolCallDelta, Usage

GREETING = (
    "Hello! I am a small program on your own machine, not a language model. "
    "These words came to you over real HTTP, one event at a time, read by a YAML file."
)

STORY = "There was a wire between two hills, and " + "on it a word, and behind the word a word, and " * 12 + "an end."


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: words of text and of reasoning, and calls as (name, arguments).

    cached_tokens   of the messages before the last one
    stopped         the stop text at which the answer ends, or None
    called          how many calls the conversation has had before
    """

    words: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    finish: str = "stop"
    prompt_tokens: int = 0
    cached_tokens: int = 0
    stopped: str | None = None
    called: int = 0

    def numbered(self) -> list[tuple[int, str, dict[str, Any]]]:
        """The calls, each with its number in the conversation."""
        return [(self.called + place, *call) for place, call in enumerate(self.calls, 1)]

    def tool_calls(self) -> tuple[ToolCall, ...]:
        return tuple(ToolCall(f"call_{number:09}", name, json.dumps(given)) for number, name, given in self.numbered())

    @property
    def text(self) -> str:
        return "".join(self.words)

    @property
    def completion_tokens(self) -> int:
        return len(self.words) + len(self.reasoning) + 8 * len(self.calls)


def reply_of(answer: Answer, model: str) -> Reply:
    """An answer as a provider's reply would be."""
    reasoning, calls = "".join(answer.reasoning), answer.tool_calls()
    parts = [Part("reasoning", reasoning)] if reasoning else []
    parts += [Part("text", answer.text)] if answer.text else []
    parts += [Part("tool_call", "", call) for call in calls]
    total = answer.prompt_tokens + answer.completion_tokens
    counts = (answer.prompt_tokens, answer.completion_tokens, total, answer.cached_tokens, len(answer.reasoning))
    made = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in calls
    ]
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or (None if made else "")}
    return Reply(
        content=answer.text,
        reasoning=reasoning or None,
        tool_calls=calls,
        finish_reason=answer.finish,
        usage=Usage(*counts),
        model=model,
        message={**message, **({"tool_calls": made} if made else {})},
        parts=tuple(parts),
    )


def deltas_of(answer: Answer) -> Iterator[Delta]:
    """An answer in pieces, word by word; the arguments of calls in pieces of eight characters, as providers send them."""
    yield from (Delta(reasoning=word) for word in answer.reasoning)
    yield from (Delta(content=word) for word in answer.words)
    for place, call in enumerate(answer.tool_calls()):
        yield Delta(tool_calls=(ToolCallDelta(place, call.id, call.name, ""),))
        for start in range(0, len(call.arguments), 8):
            yield Delta(tool_calls=(ToolCallDelta(place, None, None, call.arguments[start : start + 8]),))


def answer(
    messages: list[dict[str, Any]],
    tools: list[dict[str, Any]],
    *,
    reason: bool,
    limit: int | None = None,
    stop: list[str] | None = None,
) -> Answer:
    """The answer to messages, in the form of Chat Completions. limit: the most tokens; stop: texts to end before."""
    spoken = [message for message in messages if message.get("role") not in {"system", "developer"}]
    last = spoken[-1] if spoken else {}
    prompt = _text(last.get("content"))
    costs = [len(_text(message.get("content")).split()) + 3 for message in messages]
    spent, cached = sum(costs), sum(costs[:-1])
    thoughts = _split(_thought(prompt)) if reason else []
    results = [
        _text(message.get("content"))
        for message in itertools.takewhile(lambda message: message.get("role") == "tool", reversed(spoken))
    ]
    calls = [] if results else _told(prompt, tools) or [call for tool in tools[:1] for call in _calls(tool, prompt)]
    if calls:
        called = sum(len(message.get("tool_calls") or ()) for message in messages)
        return Answer([], thoughts, calls, "tool_calls", spent, cached, called=called)
    full = f"The tool says: {' and '.join(reversed(results))}." if results else _reply(prompt, last.get("content"))
    text, stopped = _stopped(full, stop or [])
    words = _split(text)
    if limit is not None and len(words) > limit:
        return Answer(words[:limit], thoughts, [], "length", spent, cached)
    return Answer(words, thoughts, [], "stop", spent, cached, stopped)


def _stopped(text: str, stop: list[str]) -> tuple[str, str | None]:
    """(a text up to the first stop text in it, that stop text or None)."""
    place, end = min(((text.find(end), end) for end in stop if end and end in text), default=(len(text), None))
    return text[:place], end


def _reply(prompt: str, content: Any) -> str:
    pictures = (
        [found for part in content or [] if isinstance(part, dict) and (found := _picture(part))]
        if isinstance(content, list)
        else []
    )
    if pictures:
        return f"I see {' and '.join(pictures)}."
    if re.search(r"\bJSON\b", prompt):
        return '{"name": "Ada", "age": 36}'
    if re.search(r"\bstory\b", prompt):
        return STORY
    if sum_ := re.search(r"(\d+)\s*\+\s*(\d+)", prompt):
        return f"{sum_[1]} + {sum_[2]} = {int(sum_[1]) + int(sum_[2])}."
    return GREETING if re.search(r"\bhello\b", prompt, re.IGNORECASE) else f"You said: {prompt}"


def _thought(prompt: str) -> str:
    return f"The message has {len(prompt.split())} words. I look for a sum, a picture, or a greeting in it."


def _told(prompt: str, tools: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """The call that a prompt words as "Call NAME with {arguments}", for a tool that is offered."""
    offered = {tool.get("function", tool).get("name") for tool in tools}
    for found in re.finditer(r"\b[Cc]all (\S+) with (?=\{)", prompt):
        with contextlib.suppress(ValueError, RecursionError):
            given, _ = json.JSONDecoder().raw_decode(prompt, found.end())
            if found[1] in offered:
                return [(found[1], given)]
    return []


def _calls(tool: dict[str, Any], prompt: str) -> list[tuple[str, dict[str, Any]]]:
    """One call for each place that the prompt names after "in", for a tool that needs no more than a text parameter."""
    function = tool.get("function", tool)
    schema = function.get("parameters") or {}
    properties = schema.get("properties") or {}
    name = next((key for key, row in properties.items() if row.get("type") == "string"), None)
    if not {*(schema.get("required") or ())} <= {name}:
        return []
    places = re.findall(r"\b(?:in|and|,)\s+([A-Z]\w+)", prompt)
    return [(function.get("name", "tool"), {name: place}) for place in places] if name else []


def _picture(part: dict[str, Any]) -> str:
    """A phrase with a picture's kind and size, from its first bytes; "" where the part has no URL."""
    url = (part.get("image_url") or {}).get("url") if isinstance(part.get("image_url"), dict) else part.get("image_url")
    if not isinstance(url, str):
        return ""
    if not url.startswith("data:"):
        return f"the address {url}"
    data = base64.b64decode(url.partition(",")[2] + "==", validate=False)
    if data.startswith(b"\x89PNG") and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return f"a {_colour(data)}PNG picture of {width} by {height} pixels"
    return f"a picture of {len(data)} bytes"


def _colour(png: bytes) -> str:
    """The colour of a PNG's first pixel, if it is pure red, green or blue: it shows that the picture arrived."""
    start = png.find(b"IDAT")
    try:
        red, green, blue = zlib.decompress(png[start + 4 : start + 4 + int.from_bytes(png[start - 4 : start])])[1:4]
    except (zlib.error, ValueError):
        return ""
    plain = {(True, False, False): "red ", (False, True, False): "green ", (False, False, True): "blue "}
    return plain.get((red > 127, green > 127, blue > 127), "")


def _text(content: Any) -> str:
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict) and "text" in part)
    return str(content or "")


def _split(text: str) -> list[str]:
    """The words of a text, each with the space before it."""
    return re.findall(r"\s*\S+", text)
