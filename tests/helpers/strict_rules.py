"""Rules by which a vendor refuses a request of Chat Completions. Each is made by a function here, with the vendor's figures.

A rule is given the body, and what the server itself has said before: its messages by the id of their first call, and
those without calls by their text. It gives what is wrong, in the vendor's words or words like them, or nothing.
"""

from __future__ import annotations

import json
import re
from itertools import pairwise

SYSTEM = ("system", "developer")


def listed(content):
    return content if isinstance(content, list) else []


def each(body, role=None):
    """The messages of a role with their places."""
    return [(place, message) for place, message in enumerate(body["messages"]) if role in (None, message["role"])]


def calls(body):
    return [call for _, message in each(body, "assistant") for call in message.get("tool_calls") or ()]


def first(found):
    return next((text for text in found if text), None)


# ------------------------------------------------------------------ words and keys


def roles(*taken):
    return lambda body, _: first(
        message["role"] not in taken and f"messages[{place}].role: unknown variant {message['role']!r}"
        for place, message in each(body)
    )


def keys(told="messages.{place}.{role}.{key}: property is unsupported", **by_role):
    """Keys of messages by role, and under `call` those of a tool call: nothing beside them is taken."""

    def rule(body, own):
        rows = [(place, message["role"], message, by_role[message["role"]]) for place, message in each(body)]
        rows += [("?", "tool_calls", call, by_role["call"]) for call in calls(body)]
        return first(
            told.format(place=place, role=role, key=key)
            for place, role, found, taken in rows
            for key in found.keys() - {*taken.split()}
        )

    return rule


def body_keys(taken):
    return lambda body, _: first(
        f"body.{key}: Extra inputs are not permitted" for key in body.keys() - {*taken.split()}
    )


def names(form):
    """Names of tools, wherever they stand."""

    def rule(body, own):
        found = [tool["function"]["name"] for tool in body.get("tools") or ()]
        found += [call["function"]["name"] for call in calls(body)]
        found += [message["name"] for _, message in each(body, "tool") if message.get("name")]
        return first(not re.fullmatch(form, name) and f"function name {name!r} is invalid" for name in found)

    return rule


def ids(form):
    return lambda body, _: first(
        not re.fullmatch(form, call["id"]) and f"Tool call id was {call['id']}, which has not the form {form}"
        for call in calls(body)
    )


def tools_have_parameters(body, own):
    return first(
        not tool["function"].get("parameters") and "function name or parameters is empty"
        for tool in body.get("tools") or ()
    )


def forced_calls_do_not_think(thinks):
    return lambda body, _: (
        f"tool_choice {body['tool_choice']!r} is incompatible with thinking enabled"
        if body.get("tool_choice", "auto") not in ("auto", "none") and thinks(body)
        else None
    )


def not_both(one, other):
    return lambda body, _: f"cannot specify both '{one}' and '{other}'" if {one, other} <= body.keys() else None


def thinks_unasked(body):
    return body.get("thinking", {"type": "enabled"})["type"] != "disabled"


# ------------------------------------------------------------------ contents


def parts(*taken, role=None):
    """Types of the parts of a content."""
    return lambda body, _: first(
        part["type"] not in taken
        and f"messages[{place}]: unknown variant {part['type']!r} in a message of {message['role']}"
        for place, message in each(body, role)
        for part in listed(message.get("content"))
    )


def content_is_there(body, own):
    return first(
        message.get("content") is None and f"messages[{place}]: Each message must have at least one content element"
        for place, message in each(body)
    )


def says_something(body, own):
    """A turn of the assistant has a content or calls."""
    return first(
        not (message.get("content") or message.get("tool_calls") or message.get("refusal"))
        and f"messages[{place}] is empty"
        for place, message in each(body, "assistant")
    )


def arguments_are_json(body, own):
    for call in calls(body):
        try:
            json.loads(call["function"]["arguments"])
        except (ValueError, TypeError):
            return f"invalid function arguments json string, tool_call_id: {call['id']}"
    return None


# ------------------------------------------------------------------ order


def calls_are_answered(body, own):
    """Each call has its result before anything else is said, and each result its call."""
    waiting: set[str] = set()
    for _, message in [*each(body), (0, {"role": "end"})]:
        if message["role"] == "tool":
            if message["tool_call_id"] not in waiting:
                return f"tool result's tool id({message['tool_call_id']}) not found"
            waiting.remove(message["tool_call_id"])
        elif waiting:
            return f"tool_call_ids did not have response messages: {', '.join(sorted(waiting))}"
        else:
            waiting = {call["id"] for call in message.get("tool_calls") or ()}
    return None


def one_system_in_front(body, own):
    return first(
        message["role"] in SYSTEM and place and "chat content has invalid message role: system"
        for place, message in each(body)
    )


def order(**may_follow):
    """Which roles may follow which."""

    def rule(body, own):
        said = [message["role"] for _, message in each(body)]
        return first(
            after not in may_follow[before].split() and f"Unexpected role {after!r} after role {before!r}"
            for before, after in pairwise(said)
        )

    return rule


def last(*taken):
    return lambda body, _: (
        None
        if body["messages"][-1]["role"] in taken or body["messages"][-1].get("prefix")
        else f"Expected last role {' or '.join(taken)} for serving but got {body['messages'][-1]['role']}"
    )


def has_a_user(body, own):
    return None if each(body, "user") else "The messages parameter is illegal."


# ------------------------------------------------------------------ thoughts


def thoughts_with_calls(fits):
    """A turn with calls has its thoughts; fits says which texts count as some."""
    return lambda body, _: first(
        message.get("tool_calls")
        and not fits(message.get("reasoning_content"))
        and f"thinking is enabled but reasoning_content is missing in assistant tool call message at index {place}"
        for place, message in each(body, "assistant")
    )


def own_comes_back(*names_of_keys):
    """What the server itself said comes back as it was, in each of these keys."""
    return lambda body, own: first(
        message.get(key) != own[message["tool_calls"][0]["id"]].get(key)
        and f"messages[{place}].{key} is not what was said: {message.get(key)!r}"
        for place, message in each(body, "assistant")
        if message.get("tool_calls") and message["tool_calls"][0]["id"] in own
        for key in names_of_keys
    )


def own_texts_come_back(body, own):
    """The same of turns without calls: who says the end of one says all of it."""
    found = [(place, message["content"]) for place, message in each(body, "assistant") if message.get("content")]
    return first(
        (said := own.get(visible(text)))
        and said["content"] != text
        and f"messages[{place}]: {text!r} is not what was said"
        for place, text in found
    )


def visible(text):
    """A text without the thought in front of it."""
    return text.rpartition("</think>")[2].strip() if isinstance(text, str) else ""
