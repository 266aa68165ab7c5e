"""Names of tools and ids of calls, in the form that an API demands; and the caller's own names on the way back.

What a name becomes depends on that name alone. So it is the same in the definition of a tool, in a choice, in the
history and in the next call, whatever other tools there are, and nothing has to be remembered.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, NamedTuple

from prx.chat import Call, Message
from prx.spec.model import NameForm, Request

Change = Callable[[Any], Any]
Changes = Mapping[str, Change]  # by the key of a mapping under which the value to be changed stands
_RESULTS = ("tool", "function")  # roles
_USUAL = 256  # characters that a name has at most, if it is worth being remembered
_END = 8  # letters and digits that tell changed names apart
_ROOM_FOR_WORDS = 16  # a name that may not be longer than this has no room for words beside its end


def fitted(name: str, form: NameForm) -> str:
    """A name in this form: itself, where it fits."""
    if form.fits(name):
        return name
    if form.max is not None and form.max < _ROOM_FOR_WORDS:
        return _digits(name, form.max, form)
    mark = "_" if re.fullmatch(f"[{form.characters}]" if form.characters else ".", "_") else ""
    stem = re.sub(f"[^{form.characters}]", mark, name) if form.characters else name
    if form.first and not re.match(form.pattern_of_first, stem):
        stem = form.starts[0] + stem
    if form.max is not None:
        stem = stem[: form.max - _END - len(mark)]
    return stem + mark + _digits(name, max(_END, form.min - len(stem) - len(mark)), form, first=not stem + mark)


def _digits(name: str, number: int, form: NameForm, *, first: bool = True) -> str:
    """So many letters and digits of a name's SHA-256. first: the first of them is that of the changed name."""
    value = int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest())
    made = ""
    while len(made) < number:
        letters = (form.starts.replace("_", "") or form.starts) if first and not made else form.letters
        value, place = divmod(value, len(letters))
        made += letters[place]
    return made


# ------------------------------------------------------------------ on the way out


def outgoing(call: Call, request: Request) -> Call:
    """The call with names and ids as the API takes them; the caller's own values are not touched."""
    if (request.tool_names is None and request.call_ids is None) or not _has_names(call):
        return call
    places = _places(request.tool_names, request.call_ids)
    return call._replace(
        messages=tuple(map(places.message, call.messages)),
        tools=tuple(map(places.tool, call.tools)),
        tool_choice=places.choice(call.tool_choice),
        params=_with(dict(call.params), places.in_params),
    )


def _has_names(call: Call) -> bool:
    """Whether a call speaks of tools at all: most that do not are short, and are made as fast as they were."""
    if call.tools or call.tool_choice or not call.params.keys().isdisjoint(("functions", "function_call")):
        return True
    for message in call.messages:
        if "tool_calls" in message or "function_call" in message or message.get("role") in _RESULTS:
            return True
    return False


@lru_cache(maxsize=64)
def _places(names: NameForm | None, ids: NameForm | None) -> _Places:
    return _Places(_change(names), _change(ids))


def _change(form: NameForm | None) -> Change:
    """Makes a name fit; what is no text is left for the API to judge. An agent says the same names in each call."""
    if form is None:
        return lambda name: name
    known = lru_cache(maxsize=1024)(partial(fitted, form=form))

    def change(name: Any) -> Any:
        if type(name) is not str:
            return name
        return known(name) if len(name) <= _USUAL else fitted(name, form)

    return change


class _Places:
    """Where names and ids stand in a call. Each method gives what it was given, if nothing in it changes."""

    def __init__(self, name: Change, given: Change) -> None:
        called: Changes = {"name": name}
        inner: dict[str, Change] = {kind: partial(_with, changes=called) for kind in ("function", "custom")}
        self._tool = inner
        self._flat_tool: Changes = {**inner, "name": name}
        self._call: dict[str, Change] = {**inner, "id": given}
        self._flat_call: Changes = {**self._call, "name": name}
        self._choice = {"allowed_tools": partial(_with, changes={"tools": partial(_each, self.tool)})}
        self._row = {"id": given}
        self._result = {"tool_call_id": given, **called}
        older: Change = partial(_with, changes=called)  # the form from before there were tools
        self._said: Changes = {
            "tool_calls": partial(_each, self._one_call),
            "parts": partial(_each, self._part),
            "function_call": older,
        }
        self.in_params: Changes = {"functions": partial(_each, older), "function_call": older}

    def tool(self, tool: Any) -> Any:
        return _with(tool, self._flat_tool if _is_flat(tool) else self._tool)

    def choice(self, choice: Any) -> Any:
        return _with(self.tool(choice), self._choice)

    def message(self, message: Message) -> Message:
        role = message.get("role")
        changed: Message = message
        if role == "assistant":
            if "tool_calls" in message or "function_call" in message:
                changed = _with(message, self._said)
        elif role in _RESULTS:
            changed = _with(message, self._result)
        return changed

    def _one_call(self, call: Any) -> Any:
        return _with(call, self._flat_call if _is_flat(call) else self._call)

    def _part(self, row: Any) -> Any:
        """A row of a message's `parts`, which says by its id where a call stood."""
        return _with(row, self._row) if isinstance(row, dict) and row.get("type") == "tool_call" else row


def _is_flat(tool: Any) -> bool:
    """Whether the name stands beside the type; that of a tool which the API itself has is the API's."""
    return isinstance(tool, dict) and tool.get("type") in ("function", "custom", "tool") and "name" in tool


def _with(value: Any, changes: Changes) -> Any:
    """A mapping with some of its values changed; itself, where none changes."""
    if not isinstance(value, dict):
        return value
    made = value
    for key, change in changes.items():
        if key in value:
            old = value[key]
            new = change(old)
            if new is not old and new != old:
                made = {**made, key: new}
    return made


def _each(change: Change, listed: Any) -> Any:
    """A list with its elements changed; itself, where none changes."""
    if not isinstance(listed, list):
        return listed
    made = list(map(change, listed))
    return made if made != listed else listed


# ------------------------------------------------------------------ on the way back


class Names(NamedTuple):
    """What the tools of a call are called.

    offered   as the model was told
    free      those among them whose input is a text of their own, not JSON
    own       the caller's names, by the changed ones
    """

    offered: list[str]
    free: list[str]
    own: dict[str, str]


def of_tools(call: Call, form: NameForm | None) -> Names:
    """The names of a call's tools."""
    rows = [(tool.get("type"), tool.get(str(tool.get("type")))) for tool in call.tools]
    names = [(kind, str(row.get("name"))) for kind, row in rows if isinstance(row, dict)]
    told = [name if form is None else fitted(name, form) for _, name in names]
    known = {name for _, name in names}
    return Names(
        told,
        [name for name, (kind, _) in zip(told, names, strict=True) if kind == "custom"],
        {other: name for other, (_, name) in zip(told, names, strict=True) if other not in known},
    )


def in_words(text: str, call: Call, form: NameForm | None) -> str:
    """A text of the provider with the caller's own names in it."""
    for told, name in of_tools(call, form).own.items():
        text = text.replace(told, name)
    return text
