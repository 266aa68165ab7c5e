"""Changes names of tools and ids of calls into the form that an API requires, and back into the caller's in the answer.

The changed name depends on the name alone. So it is the same in the definition of a tool, in tool_choice, in the
history and in the next call, whatever other tools there are, and nothing has to be stored.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from operator import is_
from typing import Any, NamedTuple

from prx.chat import Call, Message
from prx.spec.model import NameForm, Request

Change = Callable[[Any], Any]
Changes = Mapping[str, Change]  # by the key of a mapping under which the value to be changed stands
_RESULTS = ("tool", "function")  # roles
_USUAL = 256  # characters; longer names are not cached
_END = 8  # letters of a hash at the end of a changed name, so that different names stay different
_ROOM_FOR_WORDS = 16  # a name that may not be longer than this consists of the hash only


def fitted(name: str, form: NameForm) -> str:
    """A name in this form: the name itself if it fits, otherwise a changed one."""
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
    """So many letters and digits made of a name's SHA-256. first: they stand at the beginning of the changed name."""
    value = int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest())
    made = ""
    while len(made) < number:
        letters = (form.starts.replace("_", "") or form.starts) if first and not made else form.letters
        value, place = divmod(value, len(letters))
        made += letters[place]
    return made


# ------------------------------------------------------------------ requests


def outgoing(call: Call, request: Request) -> Call:
    """The call with names and ids in the API's form; the caller's own values are not changed."""
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
    """Whether a call has names of tools or ids of calls anywhere; most calls have none, and need no further work."""
    if call.tools or call.tool_choice or not call.params.keys().isdisjoint(("functions", "function_call")):
        return True
    for message in call.messages:
        if "tool_calls" in message or "function_call" in message or message.get("role") in _RESULTS:
            return True
    return False


@lru_cache(maxsize=64)
def _places(names: NameForm | None, ids: NameForm | None) -> _Places:
    return _Places(_change(names), _change(ids))


def _change(form: NameForm | None) -> Change | None:
    """A function that changes a name into this form; a value that is not a text stays. Cached: agents send the same names in
    each call. None where the API takes any name.
    """
    if form is None:
        return None
    known = lru_cache(maxsize=1024)(partial(fitted, form=form))

    def change(name: Any) -> Any:
        if type(name) is not str:
            return name
        return known(name) if len(name) <= _USUAL else fitted(name, form)

    return change


class _Places:
    """Changes the names and ids in parts of a call. Each method gives its argument itself if nothing in it changes."""

    def __init__(self, name: Change | None, given: Change | None) -> None:
        function = name and partial(_with, changes={"name": name})
        self._tool = _needed(function=function, custom=function)
        self._flat_tool = _needed(function=function, custom=function, name=name)
        self._call = _needed(function=function, custom=function, id=given)
        self._flat_call = _needed(function=function, custom=function, id=given, name=name)
        self._choice = _needed(allowed_tools=name and partial(_with, changes={"tools": partial(_each, self.tool)}))
        self._row = _needed(id=given)
        self._result = _needed(tool_call_id=given, name=name)
        self._said = _needed(
            tool_calls=partial(_each, self._one_call),
            parts=given and partial(_each, self._part),
            function_call=function,  # the older form of a call; in_params has that of tools
        )
        self.in_params = _needed(functions=function and partial(_each, function), function_call=function)

    def tool(self, tool: Any) -> Any:
        return _with(tool, self._flat_tool if _is_flat(tool) else self._tool)

    def choice(self, choice: Any) -> Any:
        return _with(self.tool(choice), self._choice)

    def message(self, message: Message) -> Message:
        role = message.get("role")
        if role == "assistant":
            called = "tool_calls" in message or "function_call" in message
            return _with(message, self._said) if called else message
        return _with(message, self._result) if role in _RESULTS else message

    def _one_call(self, call: Any) -> Any:
        return _with(call, self._flat_call if _is_flat(call) else self._call)

    def _part(self, row: Any) -> Any:
        """An element of a message's `parts`; that of a tool call has its id."""
        return _with(row, self._row) if isinstance(row, dict) and row.get("type") == "tool_call" else row


def _needed(**changes: Change | None) -> Changes:
    """The changes that there are: one that would change nothing takes as long as any other."""
    return {key: change for key, change in changes.items() if change is not None}


def _is_flat(tool: Any) -> bool:
    """Whether a tool has its name beside its type. Names of tools that the API itself has are not changed."""
    return isinstance(tool, dict) and tool.get("type") in ("function", "custom", "tool") and "name" in tool


def _with(value: Any, changes: Changes) -> Any:
    """A mapping with some of its values changed; the mapping itself if none changes."""
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
    """A list with its elements changed; the list itself if none changes."""
    if not isinstance(listed, list):
        return listed
    made = list(map(change, listed))
    return listed if all(map(is_, made, listed)) else made


# ------------------------------------------------------------------ answers


class Names(NamedTuple):
    """The names of a call's tools.

    offered   as they are sent
    free      those of them whose input is any text, not JSON
    own       {changed name: the caller's name}
    """

    offered: list[str]
    free: list[str]
    own: dict[str, str]


def of_tools(call: Call, form: NameForm | None) -> Names:
    """The names of a call's tools."""
    rows = [(tool.get("type"), tool.get(str(tool.get("type")))) for tool in call.tools]
    names = [(kind, str(row.get("name"))) for kind, row in rows if isinstance(row, dict)]
    sent = [name if form is None else fitted(name, form) for _, name in names]
    known = {name for _, name in names}
    return Names(
        sent,
        [name for name, (kind, _) in zip(sent, names, strict=True) if kind == "custom"],
        {other: name for other, (_, name) in zip(sent, names, strict=True) if other not in known},
    )


def in_words(text: str, call: Call, form: NameForm | None) -> str:
    """A text of the provider with the caller's names in place of the changed ones."""
    for sent, name in of_tools(call, form).own.items():
        text = text.replace(sent, name)
    return text
