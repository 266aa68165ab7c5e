"""Changes messages and tools into the form that an API accepts, by the `request` block of its file.

They stay OpenAI-shaped dicts, and the caller's own are never changed: a message that differs is a new dict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from operator import is_
from typing import Any

from prx.chat import Call, Message
from prx.core.messages import SYSTEM_ROLES, Part, plain_text, system_parts, system_text
from prx.spec.model import Request

Messages = list[Message]
_TOOL_ROLES = ("tool", "function")
_FUNCTIONS = ("function", "custom")  # keys of a tool and of a call under which a function stands
_FUNCTIONS_OWN = {"name", "arguments", "parameters"}  # never stripped: without them it would not be a function
_USERS_PARTS = ("image_url", "input_audio", "file", "video_url")  # a part of any other type is the provider's own
_ELSEWHERE = "The result is in the message of the user that follows the results."


def prepared(call: Call, request: Request) -> Call:
    """The call with the changes that the provider's `request` requires in its messages and tools."""
    messages = given = list(call.messages)
    for key, wanted in request.changes:
        messages = _STEPS[key](messages, wanted)
    tools = [_function_stripped(tool, request.strip) for tool in call.tools] if request.strip else call.tools
    if messages is given and all(map(is_, tools, call.tools)):
        return call
    return call._replace(messages=tuple(messages), tools=tuple(tools))


def carries(call: Call, request: Request, name: str) -> bool:
    """Whether a key of this name is sent in a message or a tool, and would not be if it were stripped."""
    sent, names = prepared(call, request), frozenset({name})
    return any(_stripped(message, names) != message for message in sent.messages) or any(
        _function_stripped(tool, names) != tool for tool in sent.tools
    )


def _each(change: Callable[[Message, Any], Message]) -> Callable[[Messages, Any], Messages]:
    """A step that changes each message separately; it gives the same list where no message changes."""

    def step(messages: Messages, wanted: Any) -> Messages:
        changed = [change(message, wanted) for message in messages]
        return messages if all(map(is_, changed, messages)) else changed

    return step


# ------------------------------------------------------------------ roles and keys


def _renamed_roles(messages: Messages, roles: Any) -> Messages:
    if roles.keys().isdisjoint([str(message.get("role")) for message in messages]):
        return messages
    return [{**message, "role": roles.get(str(message.get("role")), message.get("role"))} for message in messages]


def _renamed_keys(message: Message, names: Any) -> Message:
    if names.keys().isdisjoint(message):
        return message
    found = {new: message[old] for old, new in names.items() if message.get(old) is not None}
    return {**{key: value for key, value in message.items() if key not in names}, **found} if found else message


def _filled(message: Message, rows: Any) -> Message:
    missing = {
        row.name: row.value
        for row in rows
        if message.get(row.name) is None and (row.when is None or row.when.run(message)[0])
    }
    return {**message, **missing} if missing else message


def _stripped(message: Message, names: frozenset[str]) -> Message:
    """A message without these keys, also in its parts and tool calls; the message itself if nothing is taken out."""
    kept: Message = _without(message, names)
    for key, change in (("content", _without), ("tool_calls", _function_stripped)):
        if isinstance(rows := kept.get(key), list):
            changed = [change(row, names) for row in rows]
            if not all(map(is_, changed, rows)):
                kept = {**kept, key: changed}
    return kept


def _strip(messages: Messages, names: frozenset[str]) -> Messages:
    """The messages without these keys. Most have none of them, nor anything inside that could have."""
    rows = [
        message
        if names.isdisjoint(message) and "tool_calls" not in message and type(message.get("content")) is str
        else _stripped(message, names)
        for message in messages
    ]
    return messages if all(map(is_, rows, messages)) else rows


def _function_stripped(call: Any, names: frozenset[str]) -> Any:
    """A tool call, or the definition of a tool, without these keys; its function keeps _FUNCTIONS_OWN."""
    if not isinstance(call, dict):
        return call
    kept, of_function = _without(call, names), _of_function(names)
    for key in _FUNCTIONS:
        function = kept.get(key)
        if isinstance(function, dict) and not of_function.isdisjoint(function):
            kept = {**kept, key: _without(function, of_function)}
    return kept


@lru_cache(maxsize=256)  # one a provider, where each message of a call asks for it
def _of_function(names: frozenset[str]) -> frozenset[str]:
    """Those of the keys that are taken out of a function."""
    return names - _FUNCTIONS_OWN


def _without(value: Any, names: frozenset[str]) -> Any:
    if not isinstance(value, dict) or names.isdisjoint(value):
        return value
    return {key: item for key, item in value.items() if key not in names}


def _marked(message: Message, marks: Sequence[str]) -> Message:
    """A message with its marks moved to its last part or tool call: other APIs have marks only there."""
    found = {name: message[name] for name in marks if message.get(name) is not None}
    calls, content = message.get("tool_calls"), message.get("content")
    if not found or message.get("role") in _TOOL_ROLES:
        return message
    rest = _without(message, frozenset(marks))
    if calls and isinstance(calls, list) and isinstance(calls[-1], dict):
        return {**rest, "tool_calls": [*calls[:-1], {**found, **calls[-1]}]}
    parts = content if isinstance(content, list) else [_text(content)] if content else []
    if not (parts and isinstance(parts[-1], dict)):
        return message
    return {**rest, "content": [*parts[:-1], {**found, **parts[-1]}]}


# ------------------------------------------------------------------ system messages


def merge_system(messages: Sequence[Message]) -> Messages:
    """The text of all system messages moved to the beginning of the first user message, which is made if there is none."""
    text, rest = system_text(messages), _others(messages)
    if not text:
        return rest
    place = next((i for i, message in enumerate(rest) if message.get("role") == "user"), None)
    if place is None:
        return [{"role": "user", "content": text}, *rest]
    first = rest[place]
    content = first.get("content") or ""
    merged = f"{text}\n\n{content}" if isinstance(content, str) else [_text(f"{text}\n\n"), *content]
    return [*rest[:place], {**first, "content": merged}, *rest[place + 1 :]]


def one_system(messages: Sequence[Message]) -> Messages:
    """All system messages as one message at the beginning; its content is a text, or a list of parts if one of the parts
    has further keys or is not a text.
    """
    found = [message for message in messages if message.get("role") in SYSTEM_ROLES]
    if not found or (len(found) == 1 and messages[0] is found[0]):
        return list(messages)
    parts = system_parts(found)
    content = system_text(found) if all(part.keys() == {"type", "text"} for part in parts) else parts
    return [{**found[0], "content": content}, *_others(messages)]


def _others(messages: Sequence[Message]) -> Messages:
    return [message for message in messages if message.get("role") not in SYSTEM_ROLES]


_SYSTEM = {"first": one_system, "merge_into_first_user": merge_system}


# ------------------------------------------------------------------ contents


def _flattened(message: Message) -> Message:
    """A message whose content is a text if all its parts are; others (pictures) stay parts."""
    content = message.get("content")
    if content is None:
        return {**message, "content": ""}
    if isinstance(content, list) and all(_said(part) for part in content):
        return {**message, "content": plain_text(content)}
    return message


def _text(text: Any) -> Part:
    return {"type": "text", "text": text}


def _said(part: Any) -> str:
    """The text of a text part; empty for any other."""
    return plain_text([part]) if isinstance(part, dict) else ""


def _is_blank(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and not _said(part).strip()


def _without_blank(message: Message) -> Message:
    """A message without texts that are only white space; a user message that has nothing else is kept."""
    content, called = message.get("content"), message.get("tool_calls") or message.get("function_call")
    if isinstance(content, str) and content and not content.strip() and message.get("role") != "user":
        return {**message, "content": None if called else ""}
    if not isinstance(content, list) or not any(map(_is_blank, content)):
        return message
    kept = [part for part in content if not _is_blank(part)]
    if not kept and message.get("role") == "user":
        return message
    return {**message, "content": kept or (None if called else "")}


def _prefill_with_keys(messages: Messages, keys: Any) -> Messages:
    """The messages, with these keys in the last one if it is the assistant's and calls no tool."""
    *before, last = messages
    is_prefill = last.get("role") == "assistant" and not (last.get("tool_calls") or last.get("function_call"))
    return [*before, {**keys, **last}] if is_prefill else messages


def _trimmed_end(messages: Messages) -> Messages:
    """The messages, without white space at the end of the last one if it is the assistant's."""
    *before, last = messages
    content = last.get("content")
    if last.get("role") != "assistant" or not content:
        return messages
    if isinstance(content, str):
        return [*before, {**last, "content": content.rstrip()}]
    if isinstance(content, list) and _said(content[-1]):
        return [*before, {**last, "content": [*content[:-1], {**content[-1], "text": _said(content[-1]).rstrip()}]}]
    return messages


def _results_as_text(messages: Messages) -> Messages:
    """Tool messages with their texts only; their other parts in a user message after the consecutive results."""
    lists = [message for message in messages if isinstance(message.get("content"), list)]
    if not any(_texts_and_others(message)[1] for message in lists):
        return messages
    made: Messages = []
    held: list[Any] = []
    for message in messages:
        if held and message.get("role") not in _TOOL_ROLES:
            made.append({"role": "user", "content": held})
            held = []
        texts, others = _texts_and_others(message)
        made.append({**message, "content": texts or _ELSEWHERE} if others else message)
        if others:
            name = message.get("name") or message.get("tool_call_id")
            held = [*held, _text(f"From the result of {name}:"), *others]
    return [*made, {"role": "user", "content": held}] if held else made


def _texts_and_others(message: Message) -> tuple[list[Any], list[Any]]:
    """(what stays, what only a user's message may have) of a tool message's parts; ([], []) for any other message."""
    content = message.get("content")
    if message.get("role") not in _TOOL_ROLES or not isinstance(content, list):
        return [], []
    others = [part for part in content if isinstance(part, dict) and part.get("type") in _USERS_PARTS]
    return [part for part in content if part not in others], others


# ------------------------------------------------------------------ the order of roles


def _joined_roles(messages: Messages) -> Messages:
    """The messages with consecutive ones of the user, or of the assistant, joined into one."""
    made: Messages = []
    for message in messages:
        if made and message.get("role") in ("user", "assistant") and made[-1].get("role") == message["role"]:
            made[-1] = _joined(made[-1], message)
        else:
            made.append(message)
    return made


def _joined(first: Message, second: Message) -> Message:
    calls = [call for message in (first, second) for call in message.get("tool_calls") or ()]
    one = {**first, **second, "content": _joined_contents(first.get("content"), second.get("content"))}
    return {**one, "tool_calls": calls} if calls else one


def _joined_contents(first: Any, second: Any) -> Any:
    if not (first and second):
        return first or second
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    return [
        part for content in (first, second) for part in (content if isinstance(content, list) else [_text(content)])
    ]


def _with_inserted(messages: Messages, rows: Any) -> Messages:
    """The messages, with the file's messages inserted between roles that may not follow each other."""
    between = {(row.after, row.before): row.message for row in rows}
    return [*_inserting(messages, between)]


def _inserting(messages: Messages, between: dict[tuple[Any, Any], Message]) -> Iterator[Message]:
    before: Any = "start"
    for message in messages:
        role = "tool" if message.get("role") in _TOOL_ROLES else message.get("role")
        if (put := between.get((before, role))) is not None:
            yield dict(put)
        yield message
        before = before if role in SYSTEM_ROLES and before == "start" else role


_STEPS: dict[str, Callable[[Messages, Any], Messages]] = {
    "roles": _renamed_roles,
    "marks": _each(_marked),
    "keys": _each(_renamed_keys),
    "fill": _each(_filled),
    "system": lambda messages, word: _SYSTEM[word](messages),
    "tool_results": lambda messages, _: _results_as_text(messages),
    "blank_text": lambda messages, _: [_without_blank(message) for message in messages],
    "content": lambda messages, _: [_flattened(message) for message in messages],
    "same_role": lambda messages, _: _joined_roles(messages),
    "insert": _with_inserted,
    "prefill": lambda messages, _: _trimmed_end(messages),
    "prefill_keys": _prefill_with_keys,
    "strip": _strip,
}
