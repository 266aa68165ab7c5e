"""Runs the file's extractors over a body or an event, adds what they find to the assembly, and makes the delta of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from prx.chat import Delta, JsonText, ToolCallDelta, Usage
from prx.core.blocks import Key, Kind, key_of
from prx.core.call_arguments import begins_json
from prx.core.choices import Choices
from prx.core.fault import safely
from prx.core.result import Assembly, text_of
from prx.core.think import Split, ThinkSplitter, split_whole
from prx.core.toolcalls import How, Piece
from prx.errors import ProtocolError, ServerError, TruncatedError
from prx.spec.model import Found, Query, Reader, Spec
from prx.text import clean

NOTHING = Delta()
_NO_COUNTS = Usage()
CUT_SHORT = ("length", "content_filter")  # finish reasons of an answer that is unfinished, or has not one word
_NOT_CUT_SHORT = (None, "stop", "tool_calls")  # finish reasons with which the arguments of a call must be whole
_new = tuple.__new__  # a named tuple's own constructor takes three times as long
_CALLS, _MODEL = Found._fields.index("tool_calls"), Found._fields.index("model")


class _Block(NamedTuple):
    """What the extractors find of one block, and what the provider requires back with it."""

    content: Any
    reasoning: Any
    refusal: Any
    tool_calls: Any
    replay: dict[str, Any]


class Reading:
    """Reads one answer.

    final       the whole answer that an event of the stream brought, or None
    surrogate   half of a surrogate pair, held back until its other half comes
    splitter    holds back what may be the beginning of a tag; None where the answer has no tags
    """

    def __init__(self, spec: Spec, into: Assembly, choices: Choices) -> None:
        self.spec = spec
        self.into = into
        self.choices = choices
        self.final: Any = None
        self.surrogate = ""
        self._calls_placed = 0
        tags = spec.response.think_tags
        self.splitter = ThinkSplitter(tags, inside=spec.stream.reasoning_first) if tags else None

    def run(self, function: Callable[[Any], Any], value: Any) -> Any:
        return safely(function, value, self.spec)

    def found(self, values: tuple[Any, ...]) -> Found:
        """The values of a reader by name. A call in the older form (function_call) counts where the caller passed `tools`;
        a caller who passed the older `functions` reads it from `raw`.
        """
        found = Found._make(values)
        if found.older_call and not found.tool_calls and self.into.call.tools:
            return found._replace(tool_calls=found.older_call)
        return found

    # -------------------------------------------------------------- events

    def text_delta(self, text: str, kind: Kind, key: Key) -> Delta:
        """The delta of an event that brought this text and nothing else; NOTHING where all of it is held back."""
        splitter = self.splitter
        if kind != "text" or self.surrogate or (splitter is not None and not splitter.passes(text)):
            content, reasoning = self._pieces(text, None, key) if kind == "text" else self._pieces(None, text, key)
            return Delta(content or None, reasoning or None) if content or reasoning else NOTHING
        block = self.into.blocks.current
        if block is not None and block.kind == "text" and block.key == key:
            self.into.content.append(text)
        else:
            self.into.blocks.write("text", text, key)
        return _new(Delta, (text, None, (), None, None, None, None))

    def continues(self, kind: Kind, key: Key) -> bool:
        """Whether a piece of text would only continue the block that is open."""
        block = self.into.blocks.current
        same = block is not None and block.kind == kind == "text" and block.key == key
        return same and not self.surrogate

    def only_text(self, event: dict[str, Any], reader: Reader, kind: Kind, key: Key) -> Any:
        """The content of an event, or its reasoning, if that is all that `reader` finds in it; else None."""
        found = Found._make(self.run(reader.found.run, event))
        if any((found.detect, found.refusal, *found[_CALLS:_MODEL], found.final, found.end)):
            return None
        if self._wanted_back(reader, event) or key_of(found.block) != key:
            return None
        wanted, other = (found.content, found.reasoning) if kind == "text" else (found.reasoning, found.content)
        return None if other else wanted

    def event(self, event: dict[str, Any], values: tuple[Any, ...], reader: Reader, raw: dict[str, Any]) -> Delta:
        """The delta of one event, NOTHING where it has no output. values: what `reader` found; raw: the event as it came."""
        _, block, content, reasoning, *others, model, final, _ = values
        into, key = self.into, key_of(block) if block is not None else ()
        if model and not into.model:
            into.model = str(model)
        if final:
            self.final = final
        if any(others):
            into.raw.append(raw)
            return self._many(event, self.found(values), reader, key)
        if not (content or reasoning):
            into.raw.append(raw)
        if reader.blocks or reader.replay.names:
            return self._blocks(reader, event, _new(Found, values), key)
        if content or reasoning:
            text, thought = self._pieces(content, reasoning, key)
            if text or thought:
                return _new(Delta, (text or None, thought or None, (), None, None, None, None))
        return NOTHING

    def _many(self, event: dict[str, Any], found: Found, reader: Reader, key: Key) -> Delta:
        """An event that brings more than text."""
        if found.server_calls:
            self._ignore_server_calls(reader, found.server_calls)
        if reader.blocks or reader.replay.names:
            delta = self._blocks(reader, event, found, key)
        else:
            delta = self._block(reader, found, key, None)
        if found.whole or found.whole_calls:
            delta = _with(delta, self._wholes(reader, found, key))
        if found.finish_reason or found.usage:
            delta = _with(delta, self._end(reader, found))
        return delta

    def _ignore_server_calls(self, reader: Reader, calls: Any) -> None:
        for item in _dicts(calls):
            self.into.calls.ignore_server_call(Piece.of(self.run(reader.tool_call.run, item)))

    def _blocks(self, reader: Reader, event: dict[str, Any], found: Found, key: Key) -> Delta:
        """The delta of the blocks that an event has pieces of: nearly always one block."""
        replay = self._wanted_back(reader, event) if reader.replay.names else None
        listed = _at(event, reader.blocks) if reader.blocks else None
        if listed is None:
            delta = self._block(reader, found, key, replay)
        else:
            delta = NOTHING
            for block in self._each(reader, event, listed):
                delta = _with(delta, self._block(reader, block, key, block.replay))
        if replay:
            self.into.replay.add(replay, reader.grows)
            delta = delta._replace(replay={**replay, **(delta.replay or {})})
        return delta

    def _block(self, reader: Reader, block: _Block | Found, key: Key, replay: dict[str, Any] | None) -> Delta:
        text = thought = refused = ""
        if block.content or block.reasoning:
            text, thought = self._pieces(block.content, block.reasoning, key)
        if block.refusal:
            refused = self.into.blocks.write("refusal", text_of(block.refusal), key)
        if replay:
            self.into.blocks.add_replay(replay, reader.grows, key)
        fragments, call_replay = self._fragments(reader, block.tool_calls, "piece") if block.tool_calls else ((), None)
        if not (text or thought or fragments or refused):
            return NOTHING
        return _new(Delta, (text or None, thought or None, fragments, None, None, refused or None, call_replay))

    def _wholes(self, reader: Reader, found: Found, key: Key) -> Delta:
        """The delta of blocks and calls that a server sends whole: what was missing from their pieces, if there were any."""
        text = thought = refused = ""
        if isinstance(found.whole, dict):
            fill, whole = self.into.blocks.fill, self.found(self.run(self.spec.response.found.run, found.whole))
            text, thought = self._whole_text(whole.content, whole.reasoning)
            text, thought = fill("text", text, key), fill("reasoning", thought, key)
            refused = fill("refusal", text_of(whole.refusal), key)
        fragments, replay = self._fragments(reader, found.whole_calls, "whole") if found.whole_calls else ((), None)
        return Delta(text or None, thought or None, fragments, None, None, refused or None, replay)

    def _end(self, reader: Reader, found: Found) -> Delta:
        reason = self._finish_reason(found.finish_reason) if found.finish_reason else None
        held = self._placed(self.into.calls.settle(end=False)) if reason else ()
        return Delta(None, None, held, reason, self._usage(reader, found.usage) if found.usage else None)

    def _pieces(self, content: Any, reasoning: Any, key: Key) -> tuple[str, str]:
        """Add the text and the reasoning of an event; gives both as they are handed on."""
        thought = text_of(reasoning) if reasoning else ""
        if thought:
            if not self.into.content:
                self.splitter = None  # a provider with a field for reasoning puts none between tags in the text
            thought = self.into.blocks.write("reasoning", thought, key)
        text = self._text(content) if content else ""
        if not text or self.splitter is None or self.splitter.passes(text):
            return (self.into.blocks.write("text", text, key) if text else ""), thought
        text, thought_in_tags = self._write_split(self.splitter.feed(text), key)
        return text, thought + thought_in_tags

    def _write_split(self, split: Split, key: Key = ()) -> tuple[str, str]:
        """Add pieces of text and reasoning in their order; gives (text, reasoning) as they are handed on."""
        out = [
            (inside, self.into.blocks.write("reasoning" if inside else "text", piece, key))
            for inside, piece in split
            if piece
        ]
        return _joined(piece for inside, piece in out if not inside), _joined(piece for inside, piece in out if inside)

    def _text(self, content: Any) -> str:
        """A piece of text as UTF-8 can carry it: half of a surrogate pair is held back until its other half comes."""
        if not isinstance(content, str):
            return _content_text(content)
        if self.surrogate:
            content, self.surrogate = self.surrogate + content, ""
        if content and "\ud800" <= content[-1] <= "\udbff":
            content, self.surrogate = content[:-1], content[-1]
        return content if content.isascii() else clean(content)

    def held_back(self) -> Delta:
        """The delta of what was held back, at the end of a stream."""
        split = self.splitter.flush() if self.splitter is not None else []
        text, thought = self._write_split([*split, (False, "\ufffd" if self.surrogate else "")])
        held = self._placed(self.into.calls.settle(end=True))
        return Delta(text or None, thought or None, held) if text or thought or held else NOTHING

    def fill_in(self) -> Delta:
        """The delta of what no piece of the stream brought, from the whole answer that one of its events had."""
        if not isinstance(self.final, dict):
            return NOTHING
        into, reader, final = self.into, self.spec.response, self.choices.one(self.final)
        found = self.found(self.run(reader.found.run, final))
        is_first_output = not (into.blocks or into.calls)
        delta = self._whole_blocks(final, found) if is_first_output else self._missing_kinds(found)
        into.model = into.model or str(found.model or "")
        reason = (
            self._finish_reason(found.finish_reason) if found.finish_reason and into.finish_reason is None else None
        )
        counts = self._usage(reader, found.usage) if found.usage and into.usage is None else None
        return delta._replace(finish_reason=reason, usage=counts)

    def _missing_kinds(self, found: Found) -> Delta:
        """The delta of those kinds of blocks in a whole answer of which no piece came."""
        into = self.into
        text, thought = self._whole_text(found.content, found.reasoning)
        text = into.blocks.write("text", text) if text and not into.content else ""
        thought = into.blocks.write("reasoning", thought) if thought and not into.reasoning else ""
        if thought:
            into.blocks.last_to_front()  # where it stood is not known; answers begin with reasoning
        refused = into.blocks.write("refusal", text_of(found.refusal)) if found.refusal and not into.refusal else ""
        calls = found.tool_calls if not into.calls else None
        fragments, replay = self._fragments(self.spec.response, calls, "own") if calls else ((), None)
        return Delta(text or None, thought or None, fragments, None, None, refused or None, replay)

    # -------------------------------------------------------------- one body

    def body(self, body: dict[str, Any], found: Found) -> Delta:
        """The delta of a whole answer. found: what the spec's `response` finds in it."""
        text, thought, fragments, _, _, refused, replay = self._whole_blocks(body, found)
        reason = self._finish_reason(found.finish_reason)
        counts = self._usage(self.spec.response, found.usage) if found.usage else None
        self.into.model = str(found.model or "")
        return Delta(text, thought, fragments, reason, counts, refused, replay)

    def _whole_blocks(self, body: dict[str, Any], found: Found) -> Delta:
        into, reader = self.into, self.spec.response
        replay = self._wanted_back(reader, body) if reader.replay.names else {}
        listed = _at(body, reader.blocks)
        if listed is None:
            delta = self._whole_block(
                _Block(found.content, found.reasoning, found.refusal, found.tool_calls, replay), ()
            )
        else:
            delta = NOTHING
            for place, block in enumerate(self._each(reader, body, listed)):
                delta = _with(delta, self._whole_block(block, (place,)))
        if replay:
            into.replay.add(replay, reader.grows)
        return delta

    def _whole_block(self, block: _Block, key: Key) -> Delta:
        blocks, reader = self.into.blocks, self.spec.response
        text, thought = _content_text(block.content), text_of(block.reasoning, "\n\n")
        if thought or self.splitter is None or isinstance(text, JsonText) or self.splitter.passes(text):
            thought = blocks.write("reasoning", thought, key) if thought else ""
            text = blocks.write("text", text, key) if text else ""
        else:
            text, thought = self._write_split(split_whole(text, reader.think_tags), key)
        refused = blocks.write("refusal", text_of(block.refusal), key) if block.refusal else ""
        if block.replay:
            blocks.add_replay(block.replay, reader.grows, key)
        fragments, replay = self._fragments(reader, block.tool_calls, "own") if block.tool_calls else ((), None)
        return Delta(text or None, thought or None, fragments, None, None, refused or None, replay)

    def _whole_text(self, content: Any, reasoning: Any) -> tuple[str, str]:
        text, thought, tags = _content_text(content), text_of(reasoning, "\n\n"), self.spec.response.think_tags
        if thought or not tags or isinstance(text, JsonText):
            return text, thought
        split = split_whole(text, tags)
        return _joined(piece for inside, piece in split if not inside), _joined(
            piece for inside, piece in split if inside
        )

    def refuse_half_calls(self) -> None:
        """Raise where a tool call is incomplete. One that the provider itself cut short (CUT_SHORT) is handed out."""
        calls = self.into.calls
        if not calls:
            self._refuse_missing_calls()
            return
        if calls.nameless():
            raise ProtocolError("a tool call came without the name of a function")
        broken = calls.not_json() if self.into.finish_reason in _NOT_CUT_SHORT else None
        if broken is None:
            return
        name, arguments = broken
        if self.into.finish_reason is None or begins_json(arguments):
            raise TruncatedError(f"the answer ended inside the arguments of the tool call {name!r}")
        raise ProtocolError(f"the arguments of the tool call {name!r} are not JSON")

    def _refuse_missing_calls(self) -> None:
        """Raise where an answer ends with tool calls and has none: some proxies lose them, and it would look empty."""
        has_output = self.into.content or self.into.refusal
        if self.into.finish_reason == "tool_calls" and self.into.call.tools and not has_output:
            raise ProtocolError("the answer ended with tool calls, and none came")

    # -------------------------------------------------------------- events and bodies

    def _each(self, reader: Reader, value: dict[str, Any], listed: list[Any]) -> Iterator[_Block]:
        """The blocks of a list. Expressions find the values of all blocks together, so each block is read from a copy of
        the value in which it stands alone. What is found where the list is empty stands beside it, and is given apart:
        reasoning before the blocks, everything else behind them.
        """
        beside = self._alone(reader, value, [])
        yield _Block(None, beside.reasoning, None, None, {})
        for element in listed:
            alone = self._alone(reader, value, [element])
            fields = zip(_Block._fields, alone, beside, strict=True)
            without: dict[str, Any] = {name: {} if name == "replay" else None for name, _, also in fields if also}
            yield alone._replace(**without)
        yield _Block(beside.content, None, beside.refusal, beside.tool_calls, beside.replay)

    def _alone(self, reader: Reader, value: dict[str, Any], elements: list[Any]) -> _Block:
        alone = _put(value, reader.blocks, elements)
        found = self.found(self.run(reader.found.run, alone))
        return _Block(found.content, found.reasoning, found.refusal, found.tool_calls, self._wanted_back(reader, alone))

    def _fragments(
        self, reader: Reader, calls: Any, how: How
    ) -> tuple[tuple[ToolCallDelta, ...], dict[str, Any] | None]:
        """The deltas of calls, and what the provider requires back with them, by key of the message."""
        deltas: list[ToolCallDelta] = []
        replays: list[dict[str, Any]] = []
        read, into, has_replay = reader.tool_call.run, self.into.calls, bool(reader.call_replay.names)
        for item in calls if isinstance(calls, list) else [calls]:
            if not isinstance(item, dict):
                continue
            index, item_id, call_id, name, arguments, _ = found = self.run(read, item)
            replay = self._found(reader.call_replay, item) if has_replay else None
            if how == "piece" and type(arguments) is str and not (call_id or name or replay):
                delta = into.more_arguments(index, item_id, arguments)
                if delta is not None:
                    deltas.append(delta)
                    continue
            delta = into.add(Piece.of(found), how, replay)
            if delta is not None:
                deltas += self._placed([delta])
                replays += [{"index": delta.index, **replay}] if replay else []
        return tuple(deltas), {"tool_calls": replays} if replays else None

    def _placed(self, deltas: Sequence[ToolCallDelta]) -> tuple[ToolCallDelta, ...]:
        """The deltas, with a place among the blocks for each call that begins in them."""
        for delta in deltas:
            while self._calls_placed <= delta.index:
                self.into.blocks.begin_call(self._calls_placed)
                self._calls_placed += 1
        return tuple(deltas)

    def _finish_reason(self, found: Any) -> str | None:
        """Note the finish reason; gives it in prx's words. Raises ServerError for one that the file maps to "error"."""
        if isinstance(found, int) and not isinstance(found, bool):
            found = str(found)  # APIs that number their finish reasons
        if not isinstance(found, str) or not found:
            return None
        reason = self.spec.response.finish_reasons.get(found, found)
        if reason == "error":
            raise ServerError(f"the provider ended the answer with finish reason {found!r}")
        self.into.finish_reason = reason
        return reason

    def _usage(self, reader: Reader, found: Any) -> Usage | None:
        whole = self.into.add_counts(found) if self.spec.stream.usage_in_parts else found
        tokens = self.run(reader.tokens.run, whole)
        counts = _new(Usage, tokens if _PLAIN_COUNTS.issuperset(map(type, tokens)) else map(_count, tokens))
        return self.into.add_usage(counts) if counts != _NO_COUNTS else None

    def _wanted_back(self, reader: Reader, value: Any) -> dict[str, Any]:
        """The replay values in a body or an event. Keys of empty texts are noted: some APIs refuse the next turn without."""
        if not reader.replay.names:
            return {}
        found = dict(zip(reader.replay.names, self.run(reader.replay.run, value), strict=True))
        self.into.replay.empty.update(name for name, item in found.items() if item == "")
        return {name: item for name, item in found.items() if item}

    def _found(self, query: Query, value: Any) -> dict[str, Any]:
        """What a query finds, by the query's names; without null and empty values."""
        found = zip(query.names, self.run(query.run, value), strict=True) if query.names else ()
        return {name: item for name, item in found if item}


def _with(first: Delta, second: Delta) -> Delta:
    """Two deltas of one event, joined."""
    if first == NOTHING:
        return second
    replay = {**(first.replay or {}), **(second.replay or {})}
    if first.replay and second.replay and "tool_calls" in first.replay and "tool_calls" in second.replay:
        replay["tool_calls"] = [*first.replay["tool_calls"], *second.replay["tool_calls"]]
    return Delta(
        _both(first.content, second.content),
        _both(first.reasoning, second.reasoning),
        first.tool_calls + second.tool_calls,
        second.finish_reason or first.finish_reason,
        second.usage or first.usage,
        _both(first.refusal, second.refusal),
        replay or None,
    )


def _both(first: str | None, second: str | None) -> str | None:
    return first + second if first and second else second or first


def _joined(pieces: Iterable[str]) -> str:
    return "".join(pieces)


def _content_text(content: Any) -> str:
    """The content as text. Raises ProtocolError for true, which would otherwise be read as an empty text."""
    if content is True:
        raise ProtocolError("the content is not text but true")
    return text_of(content)


def _dicts(found: Any) -> list[dict[str, Any]]:
    listed = found if isinstance(found, list) else [found]
    return [item for item in listed if isinstance(item, dict)]


def _at(value: Any, path: Sequence[str | int]) -> list[Any] | None:
    """The list of blocks at a path; None where there is none, or where it has fewer than two blocks, which have no order."""
    try:
        for step in path:
            value = value[step]
    except (LookupError, TypeError):
        return None
    return value if path and isinstance(value, list) and len(value) > 1 else None


def _put(value: Any, path: Sequence[str | int], elements: list[Any]) -> Any:
    """A copy of the value that has these elements in place of the list at a path."""
    if not path:
        return elements
    step, *rest = path
    if isinstance(step, str):
        return {**value, step: _put(value[step], rest, elements)}
    return [_put(item, rest, elements) if place == step else item for place, item in enumerate(value)]


_PLAIN_COUNTS = {int, type(None)}  # nearly every provider reports only these


def _count(value: Any) -> int | None:
    if value is None or type(value) is int:
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
