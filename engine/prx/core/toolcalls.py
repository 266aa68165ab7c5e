"""Pieces of tool calls, joined: which call an element of an answer is about, and what it does to it.

Two tables decide, for every dialect alike: FINDS says by what a call is known, RULES what an element means for the
call that was found. Each row names the habit of servers that it serves; the first row that holds counts. An element
is never dropped because nobody knows whose it is: it continues a call, says one again, or is a call without a name,
which is an error in the end.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from prx.chat import NONE, ToolCall, ToolCallDelta
from prx.core.call_arguments import Arguments, is_json, strict
from prx.errors import ProtocolError
from prx.text import clean

# How an element counts: a piece of a call · a call of its own, whatever it is called · a whole call, maybe said again
_new = tuple.__new__  # a named tuple's own constructor takes three times as long
How = Literal["piece", "own", "whole"]


class Piece(NamedTuple):
    """What one element says of a call; None for what it does not say.

    item        a name for the call that is not its id
    free_form   whether the server says that the arguments are no JSON but a text of their own
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
            raise ProtocolError(f"the name of a tool call is no text: {json.dumps(name)[:80]}")
        return Piece(index, _word(item), _word(given), _word(name), _json_text(arguments), bool(free_form))

    @property
    def keys(self) -> Iterator[tuple[Any, ...]]:
        """By what this element knows its call, the surest first: see FINDS."""
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
    "item": "APIs whose pieces name the item that they belong to; its place may be wrong, or change",
    "id at index": "servers that give several calls one id under different indexes",
    "id": "servers that say the id in each piece, and no index, or a new index for each piece",
    "index": "the ordinary piece: an index, and after the first one nothing else",
}  # what none of these finds is about the last call, if about any: pieces may have neither id nor index


class _Call:
    """A call as far as it has come. `place` is None while it may be another one, said again (`doubt`)."""

    __slots__ = ("arguments", "doubt", "held", "id", "index", "keys", "made", "name", "place", "replay", "told")

    def __init__(self, piece: Piece) -> None:
        self.index = piece.index
        self.arguments = Arguments()
        self.place: int | None = None
        self.doubt: _Call | None = None
        self.held = False  # "{}" that was not handed on: it may be a placeholder for what follows
        self.keys: list[tuple[Any, ...]] = []
        self.id: str | None = None
        self.made = ""  # stands in for an id that never came
        self.name: str | None = None
        self.told: str | None = None  # what was handed on of the name, where some names come back changed
        self.replay: dict[str, Any] = {}

    @property
    def unfinished(self) -> bool:
        return not self.arguments.whole


class _Case(NamedTuple):
    """An element and the call that it may be about. known: by its item, id or index, not by order alone."""

    piece: Piece
    call: _Call
    known: bool
    offered: Collection[str]

    @property
    def same_name(self) -> bool:
        return self.piece.name == self.call.name

    @property
    def other_name(self) -> bool:
        """A name that is neither the call's nor the rest of one that comes in pieces."""
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
        """Whether the arguments read as the next piece of the call's, and not as the first one of another's."""
        return not (self.call.arguments and self.piece.begins_a_value)


Does = Literal["ignore", "begin", "continue", "replace", "may_repeat"]

# Habit of servers, when it applies, what the element then does. Rows above the line are for elements of no known call.
RULES: tuple[tuple[str, Callable[[_Case], bool], Does], ...] = (
    ("says everything but the name first",
     lambda case: case.call.name is None and not case.other_id and (case.known or case.no_identity), "continue"),
    ("has neither index nor id, and says the name with each piece",
     lambda case: case.no_identity and case.same_name and case.call.unfinished and bool(case.call.arguments or case.piece.arguments), "continue"),
    ("gives each piece a new index or id, and says the name with each",
     lambda case: not case.known and case.same_name and case.call.unfinished and not case.piece.begins_a_value, "continue"),
    ("lets the index drift, or gives the pieces another id than the call",
     lambda case: not case.known and case.piece.name is None and case.call.unfinished and case.call.name is not None, "continue"),
    ("opens a call with {} and sends its arguments under an index that drifts",
     lambda case: not case.known and case.nameless and case.call.held and bool((case.piece.arguments or "").strip()), "replace"),
    ("sends a whole call again, in pieces, where nobody opened one",
     lambda case: not case.known and case.nameless and case.call.name is not None, "may_repeat"),
    ("begins a call: nothing else knows its index or id",
     lambda case: not case.known, "begin"),
    # ----------
    ("gives several calls one index or one id, told apart by their names",
     lambda case: case.other_name, "begin"),
    ("gives every call the same index, and each an id",
     lambda case: case.other_id and case.piece.name is not None and not (case.call.unfinished and case.continues_text), "begin"),
    ("sends the next piece, also under an id that changes",
     lambda case: case.call.unfinished or (case.call.arguments.undecided and not case.piece.begins_a_value), "continue"),
    ("says id and name again, and no more",
     lambda case: not (case.piece.arguments or "").strip(), "continue"),
    ("opens a call with {} and sends its arguments afterwards",
     lambda case: case.call.held and not (case.piece.name and not case.piece.id and not case.call.id), "replace"),
    ("sends a call twice, or gives two calls one id and one name",
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
        self._not_ours: set[tuple[Any, ...]] = set()
        self._places = 0
        self._new_id, self._offered, self._free, self._own = new_id, offered, free, own

    def __bool__(self) -> bool:
        return bool(self._calls)

    def not_ours(self, piece: Piece) -> None:
        """A call that the server runs itself has begun: pieces under its index or item are passed over."""
        self._not_ours.update(piece.keys)

    def more(self, index: Any, item: Any, text: str) -> ToolCallDelta | None:
        """The ordinary piece, of which a long call has thousands: more of the arguments of a call known by its item or
        index. None where the tables have to say what it is.
        """
        key = ("index", index) if item is None else ("item", item)
        call = self._known.get(key) if type(key[1]) in (int, str) else None
        if call is None or call.held or call.doubt is not None or not call.arguments.goes_on(text):
            return None
        return _new(ToolCallDelta, (call.place, None, None, text if text.isascii() else clean(text)))

    def add(self, piece: Piece, how: How = "piece", replay: dict[str, Any] | None = None) -> ToolCallDelta | None:
        """Take an element in; the delta that it makes, if it makes one. replay: what the provider wants back with it."""
        call, known = self._find(piece)
        if self._is_empty(piece) or (not known and piece.name is None and not self._not_ours.isdisjoint(piece.keys)):
            return None
        if call is None or how == "own":
            return self._begun(piece, replay, holds=how == "piece")
        if how == "whole":
            return self._completed(piece, call, replay, known=known)
        case = _Case(piece, call, known, self._offered)
        does = next(does for _, holds, does in RULES if holds(case))
        if does in ("begin", "may_repeat"):
            return self._begun(piece, replay, call if does == "may_repeat" else None, holds=True)
        if does == "replace":
            call.arguments.clear()
        return self._taken(piece, call, replay, holds=True)

    def settle(self, *, end: bool) -> tuple[ToolCallDelta, ...]:
        """What was held back. end: nothing follows, so that a call in doubt is one."""
        made = [self._released(call, end=end) for call in list(self._calls)]
        return tuple(delta for delta in made if delta is not None)

    def calls(self) -> tuple[ToolCall, ...]:
        """The calls as they stand; an id is made only where there is none, "{}" only where nothing came."""
        return tuple(ToolCall(self._id(call), self._name(call), _written(call)) for call in self._standing())

    def messages(self) -> list[dict[str, Any]]:
        """The calls as an assistant message carries them, with what the provider wants back."""
        rows = zip(self.calls(), self._standing(), strict=True)
        return [{**_message(made, free=call.arguments.free), **call.replay} for made, call in rows]

    def replays(self) -> list[dict[str, Any]]:
        """What the provider wants back with each call."""
        return [call.replay for call in self._standing()]

    def nameless(self) -> bool:
        """Whether a call came without the name of a function."""
        return any(call.name is None for call in self._standing())

    def no_json(self) -> tuple[str, str] | None:
        """(name, arguments) of a call whose arguments are no JSON though they should be."""
        broken = (call for call in self._standing() if not call.arguments.free and not is_json(call.arguments.text))
        return next(((self._name(call) or "?", call.arguments.text) for call in broken), None)

    def _standing(self) -> list[_Call]:
        """The calls that have been handed on, by their places: no placeholder, and none that may be another said again."""
        return sorted((call for call in self._calls if call.place is not None), key=lambda call: call.place or 0)

    @staticmethod
    def _is_placeholder(call: _Call) -> bool:
        """Servers put an empty call beside the text: without a name, and with no arguments, or without an id and with "{}"."""
        if call.place is not None or call.name is not None:
            return False
        return not call.arguments or (call.id is None and call.arguments.is_empty_object)

    @staticmethod
    def _is_empty(piece: Piece) -> bool:
        """Servers put an empty call beside the text, as a placeholder."""
        return not (piece.id or piece.name or piece.arguments)

    def _find(self, piece: Piece) -> tuple[_Call | None, bool]:
        """The call that an element is about, and whether it is known by more than order. See FINDS."""
        for key in piece.keys:
            if key in self._known:
                return self._known[key], True
        return (self._calls[-1] if self._calls else None), False

    def _begun(
        self, piece: Piece, replay: dict[str, Any] | None, doubt: _Call | None = None, *, holds: bool = False
    ) -> ToolCallDelta | None:
        call = _Call(piece)
        call.doubt = doubt
        self._calls.append(call)
        self._not_ours.difference_update(piece.keys)
        return self._taken(piece, call, replay, holds=holds)

    def _completed(
        self, piece: Piece, call: _Call, replay: dict[str, Any] | None, *, known: bool
    ) -> ToolCallDelta | None:
        """A whole call: fills in what its pieces did not bring, or is a call of its own."""
        case = _Case(piece, call, known, self._offered)
        same = known and not (case.other_name or (case.other_id and piece.name))
        told = not known and piece.name is None and call.arguments.says(piece.arguments or "")
        if not same and not told:
            return self._begun(piece, replay)
        return self._taken(piece, call, replay, whole=True)

    def _taken(
        self, piece: Piece, call: _Call, replay: dict[str, Any] | None, *, whole: bool = False, holds: bool = False
    ) -> ToolCallDelta | None:
        """Put what an element says into its call. holds: "{}" is not handed on until it is known to be no placeholder."""
        self._note(piece, call)
        call.replay.update(replay or {})
        given, name = None if call.id else piece.id, self._rest_of_name(piece, call)
        call.id = call.id or given
        call.name = (call.name or "") + name if name else call.name
        call.arguments.free = call.arguments.free or piece.free_form or call.name in self._free
        text = piece.arguments
        if text:
            text = call.arguments.complete(text) if whole else call.arguments.add(text)
        if call.doubt is not None:
            return self._resolved(call)
        if call.place is None:
            if self._is_placeholder(call):
                return None  # until more is said of it
            call.place, self._places = self._places, self._places + 1
            given, name, call.held = call.id, call.name, holds and call.arguments.is_empty_object
            text = None if call.held else call.arguments.text or text
        elif call.held or (holds and text == "{}" and call.arguments.is_empty_object):
            text = self._held(call)
        if self._own:
            name = self._told(call, name, certain=not holds or bool(call.arguments))
        return self._delta(call, given, name, text) if given or name or text else None

    @staticmethod
    def _held(call: _Call) -> str | None:
        """What of the arguments is handed on, where all there was is "{}"."""
        call.held = call.arguments.is_empty_object
        return None if call.held else call.arguments.text

    @staticmethod
    def _delta(call: _Call, given: str | None, name: str | None, text: str | None) -> ToolCallDelta:
        return ToolCallDelta(call.place or 0, given, name, clean(text) if text else text)

    @staticmethod
    def _rest_of_name(piece: Piece, call: _Call) -> str | None:
        """What a name adds to the name so far: servers send it once, with each piece, in pieces, or longer and longer."""
        name, begun = piece.name, call.name
        if not name or name == begun or (begun and call.arguments):
            return None
        return name[len(begun) :] if begun and name.startswith(begun) else name

    def _told(self, call: _Call, more: str | None, *, certain: bool) -> str | None:
        """What is handed on of a name that may have gone out by another: nothing until it is certain which one it is.

        more: what the name has grown by. certain: the name is whole, since its arguments have begun or nothing follows.
        """
        if call.told is None and call.name is not None and (certain or not self._may_go_on(call.name)):
            more = call.told = self._own.get(call.name, call.name)
            return more
        if call.told is None or not more:
            return None
        call.told += more
        return more

    def _may_go_on(self, name: str) -> bool:
        """Whether a name as far as it has come may still become one of those that go out by another, or stop being one."""
        longer = self._offered if name in self._own else self._own
        return any(other != name and other.startswith(name) for other in longer)

    def _name(self, call: _Call) -> str:
        return (call.told if self._own else call.name) or ""

    def _note(self, piece: Piece, call: _Call) -> None:
        """Remember by what the call is known; a drifting index says nothing of it, unless it never had one."""
        if call.index is None and piece.index is not None:
            call.index = piece.index
        own = _key(call.index) if call.index is not None else None
        for key in piece.keys:
            if key[-1] == own or key[0] in ("item", "id"):
                self._known[key] = call
                if call.doubt is not None:
                    call.keys.append(key)

    def _resolved(self, call: _Call) -> ToolCallDelta | None:
        """A call in doubt, once its arguments are whole: another one, or one said again, which makes no call."""
        assert call.doubt is not None
        if call.unfinished:
            return None
        if not (call.doubt.arguments.says(call.arguments.text) or self._is_placeholder(call)):
            return self._stands(call)
        self._calls.remove(call)
        for key in call.keys:
            self._known[key] = call.doubt
        return None

    def _stands(self, call: _Call) -> ToolCallDelta:
        call.arguments.settle()
        call.doubt, call.place, self._places = None, self._places, self._places + 1
        name = self._told(call, None, certain=True) if self._own else call.name
        return self._delta(call, call.id, name, call.arguments.text)

    def _released(self, call: _Call, *, end: bool) -> ToolCallDelta | None:
        if end and call.doubt is not None and not self._is_placeholder(call):
            return self._stands(call)
        rest = call.arguments.settle() if end else ""
        if call.held:
            call.held, rest = False, call.arguments.text
        late = end and self._own and call.place is not None and call.told is None
        name = self._told(call, None, certain=True) if late else None
        return self._delta(call, None, name, rest) if name or rest else None

    def _id(self, call: _Call) -> str:
        call.made = call.made or ("" if call.id else self._new_id())
        return call.id or call.made


def _written(call: _Call) -> str:
    text = call.arguments.text
    return clean(text if call.arguments.free else strict(text)) or "{}"


def _message(call: ToolCall, *, free: bool) -> dict[str, Any]:
    if free:
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _key(index: Any) -> Any:
    """An index that can be looked up, whatever it is."""
    return index if isinstance(index, str | int | float) else json.dumps(index)


def _word(value: Any) -> str | None:
    """A name or an id; what is neither a text nor a number is none."""
    return clean(str(value)) if isinstance(value, str | int) and value not in ("", False, True) else None


def _json_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
