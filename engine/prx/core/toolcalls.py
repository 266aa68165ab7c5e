"""Joins the pieces of tool calls: finds the call that an element of an answer belongs to, and decides what it changes.

Two tables decide, for every dialect alike: FINDS lists the identifiers by which a call is found, RULES what an element
means for the call that was found. Each row names the habit of servers that it is for; the first row that applies counts.
An element is never dropped because its call cannot be found: it continues a call, repeats one, or begins a call without
a name, which is an error at the end of the answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from prx.chat import NONE, ToolCall, ToolCallDelta
from prx.core.call_arguments import Arguments, is_json, strict
from prx.errors import ProtocolError
from prx.text import clean

_new = tuple.__new__  # a named tuple's own constructor takes three times as long
# How an element counts: as a piece of a call; as a new call, whatever its id; as a whole call, which may repeat one.
How = Literal["piece", "own", "whole"]


class Piece(NamedTuple):
    """The fields that one element has of a call; None for those that it lacks.

    item        an identifier of the call other than its id
    free_form   whether the server marks the arguments as any text, not JSON
    """

    index: Any = None
    item: str | None = None
    id: str | None = None
    name: str | None = None
    arguments: str | None = None
    free_form: bool = False

    @staticmethod
    def of(found: tuple[Any, ...]) -> Piece:
        """From the values that a file's `tool_call` finds."""
        index, item, given, name, arguments, free_form = found
        if name and not isinstance(name, str):
            raise ProtocolError(f"the name of a tool call is not a text: {json.dumps(name)[:80]}")
        return Piece(
            index, _identifier(item), _identifier(given), _identifier(name), _json_text(arguments), bool(free_form)
        )

    @property
    def keys(self) -> Iterator[tuple[Any, ...]]:
        """The identifiers of the call that this element has, the most reliable first: see FINDS."""
        if self.item is not None:
            yield "item", self.item
        if self.id is not None and self.index is not None:
            yield "id at index", self.id, _key(self.index)
        if self.id is not None:
            yield "id", self.id
        if self.index is not None:
            yield "index", _key(self.index)

    @property
    def begins_a_value(self) -> bool:
        """Whether a call can begin with these arguments: they are an object, or there are none yet."""
        return (self.arguments or "{").lstrip()[:1] in ("{", "[", "")


FINDS = {
    "item": "APIs whose pieces name the item that they belong to; its index may be wrong, or change",
    "id at index": "servers that give several calls the same id under different indexes",
    "id": "servers that send the id in each piece, and no index, or a new index for each piece",
    "index": "the usual piece: only the first one has an id and a name, the others have the index alone",
}  # an element that none of these finds belongs to the last call: some servers send pieces with neither id nor index


class _Call:
    """A call, as much of it as has arrived.

    place   among the calls that are handed on; None while the call may be a placeholder or a repetition
    doubt   the earlier call that this one may repeat, or None
    """

    __slots__ = ("arguments", "doubt", "held", "id", "index", "keys", "made", "name", "place", "replay", "told")

    def __init__(self, piece: Piece) -> None:
        self.index = piece.index
        self.arguments = Arguments()
        self.place: int | None = None
        self.doubt: _Call | None = None
        self.held = False  # whether "{}" was held back, since it may be a placeholder for arguments that follow
        self.keys: list[tuple[Any, ...]] = []  # of a call in doubt: they lead to the other call if it is a repetition
        self.id: str | None = None
        self.made = ""  # an id made by prx for a call that came without one
        self.name: str | None = None
        self.told: str | None = None  # what was handed on of the name, where some names come back changed
        self.replay: dict[str, Any] = {}

    @property
    def unfinished(self) -> bool:
        return not self.arguments.whole


class _Case(NamedTuple):
    """An element and the call that it may belong to. known: found by an identifier, not only as the last call."""

    piece: Piece
    call: _Call
    known: bool
    offered: Collection[str]

    @property
    def same_name(self) -> bool:
        return self.piece.name == self.call.name

    @property
    def other_name(self) -> bool:
        """The element's name is neither the call's name nor the next piece of it."""
        name, begun = self.piece.name, self.call.name
        if name is None or begun is None or name == begun:
            return False
        in_pieces = not self.call.arguments and (begun + name in self.offered or begun not in self.offered)
        return not in_pieces and not (name.startswith(begun) and not self.call.arguments)

    @property
    def other_id(self) -> bool:
        return bool(self.piece.id and self.call.id and self.piece.id != self.call.id)

    @property
    def no_identity(self) -> bool:
        return self.piece.id is None and self.piece.index is None and self.piece.item is None

    @property
    def nameless(self) -> bool:
        """No id and no name: it cannot be the beginning of a call."""
        return self.piece.name is None and self.piece.id is None

    @property
    def continues_text(self) -> bool:
        """Whether the arguments can be the next piece of this call's, rather than the first piece of another call's."""
        return not (self.call.arguments and self.piece.begins_a_value)


Does = Literal["ignore", "begin", "continue", "replace", "may_repeat"]

# (habit of a server, when the row applies, what the element then does). Rows above the line are for elements whose call
# no identifier found.
RULES: tuple[tuple[str, Callable[[_Case], bool], Does], ...] = (
    ("sends the name after everything else",
     lambda case: case.call.name is None and not case.other_id and (case.known or case.no_identity), "continue"),
    ("sends neither index nor id, and the name with each piece",
     lambda case: case.no_identity and case.same_name and case.call.unfinished and bool(case.call.arguments or case.piece.arguments), "continue"),
    ("gives each piece a new index or id, and sends the name with each",
     lambda case: not case.known and case.same_name and case.call.unfinished and not case.piece.begins_a_value, "continue"),
    ("changes the index between pieces, or gives the pieces another id than the call",
     lambda case: not case.known and case.piece.name is None and case.call.unfinished and case.call.name is not None, "continue"),
    ("begins a call with {} and sends its arguments under another index",
     lambda case: not case.known and case.nameless and case.call.held and bool((case.piece.arguments or "").strip()), "replace"),
    ("repeats a whole call in pieces, under an index or id that no call has",
     lambda case: not case.known and case.nameless and case.call.name is not None, "may_repeat"),
    ("begins a call: no other call has its index or id",
     lambda case: not case.known, "begin"),
    # ----------
    ("gives several calls the same index or id, so that only their names differ",
     lambda case: case.other_name, "begin"),
    ("gives every call the same index, and each its own id",
     lambda case: case.other_id and case.piece.name is not None and not (case.call.unfinished and case.continues_text), "begin"),
    ("sends the next piece, also under an id that changes",
     lambda case: case.call.unfinished or (case.call.arguments.undecided and not case.piece.begins_a_value), "continue"),
    ("repeats the id and the name, without arguments",
     lambda case: not (case.piece.arguments or "").strip(), "continue"),
    ("begins a call with {} and sends its arguments afterwards",
     lambda case: case.call.held and not (case.piece.name and not case.piece.id and not case.call.id), "replace"),
    ("sends a call twice, or gives two calls the same id and name",
     lambda _: True, "may_repeat"),
)  # fmt: skip


class ToolCalls:
    """The calls of one answer, in the order in which they began.

    new_id    makes an id for a call that has none
    offered   names of the tools that the model was given
    free      those among them whose input is a text of their own, not JSON
    own       the caller's names for those that went out by another
    """

    def __init__(
        self,
        new_id: Callable[[], str],
        offered: Collection[str] = (),
        free: Collection[str] = (),
        own: Mapping[str, str] = NONE,
    ) -> None:
        self._calls: list[_Call] = []
        self._known: dict[tuple[Any, ...], _Call] = {}
        self._server_calls: set[tuple[Any, ...]] = set()
        self._places = 0
        self._new_id, self._offered, self._free, self._own = new_id, offered, free, own

    def __bool__(self) -> bool:
        return bool(self._calls)

    def ignore_server_call(self, piece: Piece) -> None:
        """A call that the server runs itself has begun: pieces with its identifiers are ignored."""
        self._server_calls.update(piece.keys)

    def more_arguments(self, index: Any, item: Any, text: str) -> ToolCallDelta | None:
        """The delta of the usual piece, of which a long call has thousands: further arguments of a call that its item or
        index identifies. None where the tables have to decide; then nothing was done.
        """
        key = ("index", index) if item is None else ("item", item)
        call = self._known.get(key) if type(key[1]) in (int, str) else None
        if call is None or call.held or call.doubt is not None or not call.arguments.append_certain(text):
            return None
        return _new(ToolCallDelta, (call.place, None, None, text if text.isascii() else clean(text)))

    def add(self, piece: Piece, how: How = "piece", replay: dict[str, Any] | None = None) -> ToolCallDelta | None:
        """Add an element; gives its delta, or None where nothing is handed on yet. replay: what goes back with the call."""
        call, known = self._find(piece)
        if self._is_empty(piece):
            return None
        if not known and piece.name is None and not self._server_calls.isdisjoint(piece.keys):
            return None
        if call is None or how == "own":
            return self._begin(piece, replay, holds=how == "piece")
        if how == "whole":
            return self._complete(piece, call, replay, known=known)
        case = _Case(piece, call, known, self._offered)
        does = next(does for _, applies, does in RULES if applies(case))
        if does in ("begin", "may_repeat"):
            return self._begin(piece, replay, call if does == "may_repeat" else None, holds=True)
        if does == "replace":
            call.arguments.clear()
        return self._update(piece, call, replay, holds=True)

    def settle(self, *, end: bool) -> tuple[ToolCallDelta, ...]:
        """The deltas of what was held back. end: no element follows, so a call that is still in doubt is a call."""
        deltas = [self._release(call, end=end) for call in list(self._calls)]
        return tuple(delta for delta in deltas if delta is not None)

    def calls(self) -> tuple[ToolCall, ...]:
        """The calls so far. One that came without an id gets a made one, one that came without arguments "{}"."""
        return tuple(ToolCall(self._id(call), self._name(call), _arguments(call)) for call in self._handed_on())

    def messages(self) -> list[dict[str, Any]]:
        """The calls as elements of an assistant message's tool_calls, with what the provider requires back."""
        rows = zip(self.calls(), self._handed_on(), strict=True)
        return [{**_message(public, free=call.arguments.free), **call.replay} for public, call in rows]

    def replays(self) -> list[dict[str, Any]]:
        """What the provider requires back with each call, by key of the call."""
        return [call.replay for call in self._handed_on()]

    def nameless(self) -> bool:
        """Whether a call came without the name of a function."""
        return any(call.name is None for call in self._handed_on())

    def not_json(self) -> tuple[str, str] | None:
        """(name, arguments) of the first call whose arguments should be JSON and are not."""
        broken = (call for call in self._handed_on() if not call.arguments.free and not is_json(call.arguments.text))
        return next(((self._name(call) or "?", call.arguments.text) for call in broken), None)

    def _handed_on(self) -> list[_Call]:
        """The calls that have been handed on, in their order: no placeholder, and none that may repeat another."""
        return sorted((call for call in self._calls if call.place is not None), key=lambda call: call.place or 0)

    @staticmethod
    def _is_placeholder(call: _Call) -> bool:
        """Whether this is one of the empty calls that servers send beside the text: without a name, and without arguments,
        or without an id and with "{}".
        """
        if call.place is not None or call.name is not None:
            return False
        return not call.arguments or (call.id is None and call.arguments.is_empty_object)

    @staticmethod
    def _is_empty(piece: Piece) -> bool:
        """Some servers send an empty call beside the text, as a placeholder."""
        return not (piece.id or piece.name or piece.arguments)

    def _find(self, piece: Piece) -> tuple[_Call | None, bool]:
        """The call that an element belongs to, and whether an identifier found it; otherwise it is the last call."""
        for key in piece.keys:
            if key in self._known:
                return self._known[key], True
        return (self._calls[-1] if self._calls else None), False

    def _begin(
        self, piece: Piece, replay: dict[str, Any] | None, doubt: _Call | None = None, *, holds: bool = False
    ) -> ToolCallDelta | None:
        call = _Call(piece)
        call.doubt = doubt
        self._calls.append(call)
        self._server_calls.difference_update(piece.keys)
        return self._update(piece, call, replay, holds=holds)

    def _complete(
        self, piece: Piece, call: _Call, replay: dict[str, Any] | None, *, known: bool
    ) -> ToolCallDelta | None:
        """Add a whole call: it completes the call that its pieces began, or is a new one."""
        case = _Case(piece, call, known, self._offered)
        same = known and not (case.other_name or (case.other_id and piece.name))
        same_arguments = not known and piece.name is None and call.arguments.says(piece.arguments or "")
        if not same and not same_arguments:
            return self._begin(piece, replay)
        return self._update(piece, call, replay, whole=True)

    def _update(
        self, piece: Piece, call: _Call, replay: dict[str, Any] | None, *, whole: bool = False, holds: bool = False
    ) -> ToolCallDelta | None:
        """Put the fields of an element into its call. holds: "{}" is held back while it may be a placeholder."""
        self._remember_keys(piece, call)
        call.replay.update(replay or {})
        given, name = None if call.id else piece.id, self._rest_of_name(piece, call)
        call.id = call.id or given
        call.name = (call.name or "") + name if name else call.name
        call.arguments.free = call.arguments.free or piece.free_form or call.name in self._free
        text = piece.arguments
        if text:
            text = call.arguments.complete(text) if whole else call.arguments.add(text)
        if call.doubt is not None:
            return self._resolve_doubt(call)
        if call.place is None:
            if self._is_placeholder(call):
                return None  # a later element may have a name
            call.place, self._places = self._places, self._places + 1
            given, name, call.held = call.id, call.name, holds and call.arguments.is_empty_object
            text = None if call.held else call.arguments.text or text
        elif call.held or (holds and text == "{}" and call.arguments.is_empty_object):
            text = self._text_unless_held(call)
        if self._own:
            name = self._own_name(call, name, certain=not holds or bool(call.arguments))
        return self._delta(call, given, name, text) if given or name or text else None

    @staticmethod
    def _text_unless_held(call: _Call) -> str | None:
        """The arguments so far, or None while they are only "{}", which is held back."""
        call.held = call.arguments.is_empty_object
        return None if call.held else call.arguments.text

    @staticmethod
    def _delta(call: _Call, given: str | None, name: str | None, text: str | None) -> ToolCallDelta:
        return ToolCallDelta(call.place or 0, given, name, clean(text) if text else text)

    @staticmethod
    def _rest_of_name(piece: Piece, call: _Call) -> str | None:
        """The part of a name that the call lacks: servers send a name once, with each piece, in pieces, or longer and
        longer.
        """
        name, begun = piece.name, call.name
        if not name or name == begun or (begun and call.arguments):
            return None
        return name[len(begun) :] if begun and name.startswith(begun) else name

    def _own_name(self, call: _Call, more: str | None, *, certain: bool) -> str | None:
        """The part of a name to hand on, where names of tools were changed in the request: it is the caller's own name, and
        nothing is handed on until it is certain which one it is.

        more: the new part of the name. certain: the name is complete, since arguments have come or nothing follows.
        """
        if call.told is None and call.name is not None and (certain or not self._may_go_on(call.name)):
            more = call.told = self._own.get(call.name, call.name)
            return more
        if call.told is None or not more:
            return None
        call.told += more
        return more

    def _may_go_on(self, name: str) -> bool:
        """Whether an incomplete name may still become one of the changed names, or a longer one that is not changed."""
        longer = self._offered if name in self._own else self._own
        return any(other != name and other.startswith(name) for other in longer)

    def _name(self, call: _Call) -> str:
        return (call.told if self._own else call.name) or ""

    def _remember_keys(self, piece: Piece, call: _Call) -> None:
        """Find the call by the element's identifiers from now on. Only the first index of a call counts: some servers
        change it from piece to piece.
        """
        if call.index is None and piece.index is not None:
            call.index = piece.index
        own = _key(call.index) if call.index is not None else None
        for key in piece.keys:
            if key[-1] == own or key[0] in ("item", "id"):
                self._known[key] = call
                if call.doubt is not None:
                    call.keys.append(key)

    def _resolve_doubt(self, call: _Call) -> ToolCallDelta | None:
        """Decide about a call in doubt once its arguments are whole: it is a new call, or a repetition, which is removed."""
        assert call.doubt is not None
        if call.unfinished:
            return None
        if not (call.doubt.arguments.says(call.arguments.text) or self._is_placeholder(call)):
            return self._accept(call)
        self._calls.remove(call)
        for key in call.keys:
            self._known[key] = call.doubt
        return None

    def _accept(self, call: _Call) -> ToolCallDelta:
        """The delta of a call in doubt that turned out to be a new call."""
        call.arguments.settle()
        call.doubt, call.place, self._places = None, self._places, self._places + 1
        name = self._own_name(call, None, certain=True) if self._own else call.name
        return self._delta(call, call.id, name, call.arguments.text)

    def _release(self, call: _Call, *, end: bool) -> ToolCallDelta | None:
        if end and call.doubt is not None and not self._is_placeholder(call):
            return self._accept(call)
        rest = call.arguments.settle() if end else ""
        if call.held:
            call.held, rest = False, call.arguments.text
        late = end and self._own and call.place is not None and call.told is None
        name = self._own_name(call, None, certain=True) if late else None
        return self._delta(call, None, name, rest) if name or rest else None

    def _id(self, call: _Call) -> str:
        call.made = call.made or ("" if call.id else self._new_id())
        return call.id or call.made


def _arguments(call: _Call) -> str:
    text = call.arguments.text
    return clean(text if call.arguments.free else strict(text)) or "{}"


def _message(call: ToolCall, *, free: bool) -> dict[str, Any]:
    if free:
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _key(index: Any) -> Any:
    """An index as a key of a dict: one that is a list or an object cannot be hashed, its JSON text can."""
    return index if isinstance(index, str | int | float) else json.dumps(index)


def _identifier(value: Any) -> str | None:
    """A name or an id as text; None for a value that is neither a text nor a number, and for an empty text."""
    return clean(str(value)) if isinstance(value, str | int) and value not in ("", False, True) else None


def _json_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
