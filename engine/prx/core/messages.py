"""Messages: the markers of pictures in them, and the view of them that templates read.

Messages stay OpenAI-shaped dicts; the caller's own are never changed. The view (`turns`) is for APIs
of another shape: each message is a list of parts with a type, consecutive tool results are one turn.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

from prx.chat import Message
from prx.json_text import read_json

Part = dict[str, Any]
MARKER = "[IMAGE:"
SYSTEM_ROLES = ("system", "developer")


def expand_images(messages: Sequence[Message], locate: Callable[[str], str | None]) -> list[Message]:
    """Replace [IMAGE:…] in user messages by image parts, in the order of the text.

    `locate` gives the URL to send for the reference in a marker, or None where the marker stays text.
    """
    return [_expanded(message, locate) if message.get("role") == "user" else message for message in messages]


def _expanded(message: Message, locate: Callable[[str], str | None]) -> Message:
    content = message.get("content")
    if isinstance(content, str) and MARKER in content:
        parts = _split_markers(content, locate)
        return message if all(part["type"] == "text" for part in parts) else {**message, "content": parts}
    if isinstance(content, list) and any(MARKER in _text_of(part) for part in content):
        return {**message, "content": [piece for part in content for piece in _split_part(part, locate)]}
    return message


def _split_part(part: Any, locate: Callable[[str], str | None]) -> list[Any]:
    return _split_markers(part["text"], locate) if MARKER in _text_of(part) else [part]


def _split_markers(text: str, locate: Callable[[str], str | None]) -> list[Part]:
    """Text and image parts. A marker without its closing bracket, or for which `locate` has no URL, stays text."""
    parts: list[Part] = []
    text_start = searched = 0  # where the text begins that is in no part yet; how far markers have been looked for
    while (start := text.find(MARKER, searched)) >= 0 and (end := text.find("]", start)) >= 0:
        searched = end + 1
        if url := locate(text[start + len(MARKER) : end].strip()):
            plain = text[text_start:start]
            parts += [_text(plain)] if plain.strip() else []
            parts.append({"type": "image_url", "image_url": {"url": url}})
            text_start = searched
    plain = text[text_start:]
    return [*parts, _text(plain)] if plain.strip() or not parts else parts


def _text(text: str) -> Part:
    return {"type": "text", "text": text}


def _text_of(part: Any) -> str:
    return (
        part["text"]
        if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
        else ""
    )


def data_url(reference: str) -> str | None:
    """The reference in a marker if it is a data: URL of an image, the only kind that needs no permission; else None."""
    return reference if reference.startswith("data:image/") and ";base64," in reference[:100] else None


# ------------------------------------------------------------------ texts


def system_text(messages: Sequence[Message]) -> str:
    """The text of all system messages, with a blank line between them."""
    texts = (plain_text(message.get("content")) for message in messages if message.get("role") in SYSTEM_ROLES)
    return "\n\n".join(text for text in texts if text)


def system_parts(messages: Sequence[Message]) -> list[Part]:
    """The parts of all system messages, with every key that a caller has added to them (cache_control)."""
    contents = (message.get("content") for message in messages if message.get("role") in SYSTEM_ROLES)
    return [
        part
        for content in contents
        for part in (content if isinstance(content, list) else [_text(plain_text(content))])
    ]


def plain_text(content: Any) -> str:
    """A message's content as text: a text as it is, text parts with line breaks between them."""
    if isinstance(content, list):
        return "\n".join(part if isinstance(part, str) else _text_of(part) for part in content)
    return content if isinstance(content, str) else ""


# ------------------------------------------------------------------ the view for templates


def turns(messages: Sequence[Message], model: str = "") -> list[dict[str, Any]]:
    """[{role: user | assistant | tool, parts: [{type, role, model, …}, …], runs, message, open}, …], without system messages.

    A message without content makes no turn.

    role, message   of the message; of consecutive tool results the first one
    open            the turn comes after the last user message
    runs            [{role, parts, message, open}, …]: the turn, cut so that in each run reasoning comes before text and
                    text before tool calls; nearly always there is one
    parts           by type, besides role, model and any further keys that the caller gave it:
        text          text; of an assistant also replay
        reasoning     text, replay
        image         url, detail, source: "data" (with media_type and data) or "url" (with media_type)
        file          file, filename, source: "data" (as above), "url" or "id" (with id)
        audio         audio
        refusal       refusal
        tool_call     id, name, arguments, input, call, step
        tool_result   id, name, text, parts, custom, message
        other         given: the part itself, for a type that is none of these
    replay          the object that has, by key, the values that the provider of an answer requires back
    step            True for the first tool call of an open turn: some APIs require its signature
    """
    result: list[dict[str, Any]] = []
    calls: dict[str, Part] = {}
    for message in messages:
        role = message.get("role")
        if role in SYSTEM_ROLES:
            continue
        role = {"assistant": "assistant", "tool": "tool", "function": "tool"}.get(str(role), "user")
        parts = [{**part, "role": role, "model": model} for part in _parts(message, role, calls)]
        if role == "tool" and result and result[-1]["role"] == "tool":
            result[-1]["parts"] += parts
        elif parts:
            result.append({"role": role, "parts": parts, "message": message})
    _mark_open(result)
    for turn in result:
        turn["runs"] = [{**turn, "parts": parts} for parts in _runs(turn["parts"])]
    return result


def sides(messages: Sequence[Message], model: str = "") -> list[dict[str, Any]]:
    """[{role: user | assistant, parts, open}, …]: the turns, of which those in a row that are the user's or a tool's are one, and
    those of the assistant.
    """
    result: list[dict[str, Any]] = []
    for turn in turns(messages, model):
        role = "assistant" if turn["role"] == "assistant" else "user"
        if result and result[-1]["role"] == role:
            result[-1] = {**result[-1], "parts": [*result[-1]["parts"], *turn["parts"]]}
        else:
            result.append({"role": role, "parts": turn["parts"], "open": turn.get("open")})
    return result


_PLACE = {"reasoning": 0, "tool_call": 2}  # in the usual order of parts; every other type has place 1


def _runs(parts: list[Part]) -> list[list[Part]]:
    runs: list[list[Part]] = [[]]
    for part in parts:
        before = _PLACE.get(runs[-1][-1]["type"], 1) if runs[-1] else 0
        if _PLACE.get(part["type"], 1) < before:
            runs.append([])
        runs[-1].append(part)
    return runs


def _mark_open(all_turns: list[dict[str, Any]]) -> None:
    """Set `open` and `step`, see `turns`."""
    last_user = max((place for place, turn in enumerate(all_turns) if turn["role"] == "user"), default=-1)
    for turn in all_turns[last_user + 1 :]:
        turn["open"] = True
        for part in [part for part in turn["parts"] if part["type"] == "tool_call"][:1]:
            part["step"] = True


def _parts(message: Message, role: str, calls: dict[str, Part]) -> Iterator[Part]:
    content = message.get("content")
    if role == "tool":
        given = message.get("tool_call_id") or message.get("name")
        call = calls.get(str(given), {})
        parts = [_part(part) for part in content] if isinstance(content, list) else [_text(plain_text(content))]
        yield {
            "type": "tool_result",
            "id": given,
            "name": message.get("name") or call.get("name"),
            "text": plain_text(content),
            "parts": parts,
            "message": message,
            "custom": call.get("call", {}).get("type") == "custom",
        }
        return
    if role != "assistant":
        yield from (
            map(_part, content)
            if isinstance(content, list)
            else [_text(content)]
            if isinstance(content, str) and content
            else []
        )
        return
    for part in _in_answer_order(message, [*_assistant_parts(message, content)]):
        if part["type"] == "tool_call":
            calls[str(part["id"])] = part
        yield part


# The keys of an assistant's message that any provider understands; all others are for the provider that it came from.
_PLAIN = {"role", "content", "name", "refusal", "tool_calls", "function_call", "audio", "annotations", "parts"}


def _assistant_parts(message: Message, content: Any) -> Iterator[Part]:
    """The parts of an assistant's message in the usual order: reasoning, text, refusal, tool calls."""
    if message.keys() - _PLAIN:
        thought = message.get("reasoning_content")
        yield {"type": "reasoning", "text": thought if isinstance(thought, str) else "", "replay": message}
    if isinstance(content, list):
        yield from map(_part, content)
    elif isinstance(content, str) and content:
        yield {**_text(content), "replay": message}
    if isinstance(message.get("refusal"), str):
        yield {"type": "refusal", "refusal": message["refusal"]}
    older = message.get("function_call")  # the older form of a call, before tool_calls; it has no id but the name
    older_calls = [{"id": older.get("name"), "function": older}] if isinstance(older, dict) else []
    yield from (_tool_call(call) for call in message.get("tool_calls") or older_calls if isinstance(call, dict))


def _in_answer_order(message: Message, parts: list[Part]) -> list[Part]:
    """The parts in the order that the answer had (the message's `parts`), unless the message was edited since."""
    rows = message.get("parts")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return parts
    calls = {part["id"]: part for part in parts if part["type"] == "tool_call"}
    ordered = [_from_row(row, calls) for row in rows]
    known = [part for part in ordered if part is not None]
    return known if len(known) == len(ordered) and _content(known) == _content(parts) else parts


def _from_row(row: dict[str, Any], calls: dict[Any, Part]) -> Part | None:
    """An element of a message's `parts` as a part; None where it is not of a known type."""
    kind, text = row.get("type"), row.get("text") or ""
    if kind == "tool_call":
        return calls.get(row.get("id"))
    if kind == "refusal":
        return {"type": "refusal", "refusal": text}
    return (
        {"type": kind, "text": text, "replay": row} if kind in ("reasoning", "text") and isinstance(text, str) else None
    )


def _content(parts: list[Part]) -> tuple[str, str, list[Any]]:
    """(text, refusal, ids of the calls) of parts, whatever their order."""
    text = "".join(part["text"] for part in parts if part["type"] == "text" and isinstance(part.get("text"), str))
    refusal = "".join(str(part["refusal"]) for part in parts if part["type"] == "refusal")
    return text, refusal, [part["id"] for part in parts if part["type"] == "tool_call"]


def _part(part: Any) -> Part:
    if not isinstance(part, dict):
        return _text(str(part))
    kind = part.get("type")
    marks = {key: value for key, value in part.items() if key != kind}  # with which the caller marked it
    if kind == "image_url":
        image = part["image_url"] if isinstance(part.get("image_url"), dict) else {"url": part.get("image_url")}
        return {**marks, **_image(image)}
    if kind == "input_audio":
        return {**marks, "type": "audio", "audio": part.get("input_audio")}
    if kind == "file" and isinstance(part.get("file"), dict):
        return {**marks, **_file(part["file"])}
    return dict(part) if kind in ("text", "refusal") else {"type": "other", "given": part}


def _image(image: dict[str, Any]) -> Part:
    url = str(image.get("url") or "")
    return {"type": "image", "detail": image.get("detail"), **_source(url)}


def _file(file: dict[str, Any]) -> Part:
    given = file.get("file_id")
    source = {"source": "id", "id": given} if given else _source(str(file.get("file_data") or ""))
    return {"type": "file", "file": file, "filename": file.get("filename"), **source}


# Media types by the ending of a file's name. The mimetypes package would read the system's tables, so that requests would
# differ between machines.
_MEDIA = {
    "png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "gif": "image/gif", "webp": "image/webp",
    "pdf": "application/pdf", "txt": "text/plain", "mp3": "audio/mp3", "wav": "audio/wav", "mp4": "video/mp4",
}  # fmt: skip


def _source(url: str) -> Part:
    """The keys of an image or a file at a URL: of a data: URL its media type and base64 data, of any other the URL."""
    if url.startswith("data:") and "," in url:
        head, data = url[5:].split(",", 1)
        if not head.endswith(";base64"):
            data = base64.b64encode(unquote_to_bytes(data)).decode()
        return {"source": "data", "url": url, "media_type": head.split(";")[0] or "text/plain", "data": data}
    return {"source": "url", "url": url, "media_type": _MEDIA.get(url.partition("?")[0].rpartition(".")[2].lower())}


def _tool_call(call: dict[str, Any]) -> Part:
    given = call.get("function") or call.get("custom")
    function = given if isinstance(given, dict) else {}
    arguments = function.get("arguments", function.get("input", ""))
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {
        "type": "tool_call",
        "id": call.get("id"),
        "name": function.get("name"),
        "arguments": text,
        "input": _input(text),
        "call": call,
    }


def _input(text: str) -> dict[str, Any]:
    """Arguments as an object, which some APIs require; a value that is not an object becomes {"input": value}."""
    try:
        value = read_json(text or "{}")
    except ValueError:
        value = text
    return value if isinstance(value, dict) else {"input": value}
