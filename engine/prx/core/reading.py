"""What the extractors find in a body or an event, put into the assembly; the delta that it makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prx.chat import Delta, JsonText, ToolCallDelta, Usage
from prx.core.fault import safely
from prx.core.result import Assembly, text_of
from prx.core.think import ThinkSplitter, split_whole
from prx.core.toolcalls import How
from prx.errors import ProtocolError, ServerError, TruncatedError
from prx.spec.model import Query, Reader, Spec
from prx.words import clean

NOTHING = Delta()
_new = tuple.__new__  # a named tuple's own constructor takes three times as long


class Reading:
    """Reads for one answer. `splitter` and `surrogate` hold back what the next piece will decide."""

    def __init__(self, spec: Spec, into: Assembly) -> None:
        self.spec = spec
        self.into = into
        self.final: Any = None
        self.surrogate = ""
        tags = spec.response.think_tags
        self.splitter = ThinkSplitter(tags, inside=spec.stream.reasoning_first) if tags else None

    def run(self, function: Callable[[Any], Any], value: Any) -> Any:
        return safely(function, value, self.spec)

    # -------------------------------------------------------------- events

    def more(self, text: str, *, reasoning: bool) -> Delta:
        """The delta of an event that brought this text and nothing else; NOTHING where all of it is held back."""
        splitter = self.splitter
        if reasoning or self.surrogate or (splitter is not None and not splitter.passes(text)):
            said, thought = self._pieces(None, text) if reasoning else self._pieces(text, None)
            return Delta(said or None, thought or None) if said or thought else NOTHING
        self.into.content.append(text)
        return _new(Delta, (text, None, (), None, None))

    def only_text(self, event: dict[str, Any], reader: Reader, *, of_reasoning: bool) -> Any:
        """The content of an event, or its reasoning, if that is all that `reader` finds in it; else None."""
        detect, content, reasoning, refusal, calls, wholes, pieces, finish, usage, _, final, end = self.run(
            reader.found.run, event
        )
        if detect or refusal or calls or wholes or pieces or finish or usage or final or end:
            return None
        if self._found(reader.replay, event) or (content if of_reasoning else reasoning):
            return None
        return reasoning if of_reasoning else content

    def event(self, event: dict[str, Any], found: tuple[Any, ...], reader: Reader) -> Delta:
        """One event, with what `reader` found in it. Gives NOTHING for an event without output."""
        _, content, reasoning, refusal, calls, wholes, pieces, finish, usage, model, final, _ = found
        into = self.into
        if model and not into.model:
            into.model = str(model)
        if final:
            self.final = final
        if refusal:
            into.refusal.append(text_of(refusal))
        if reader.replay.names:
            into.replay.add(self._found(reader.replay, event), reader.grows)
        if not (content or reasoning) or calls or wholes or pieces or finish or usage:
            into.raw.append(event)
        text, thought = self._pieces(content, reasoning)
        fragments = self._fragments(reader, calls, "piece") if calls else ()
        fragments += self._fragments(reader, wholes, "whole") if wholes else ()
        fragments += self._fragments(reader, pieces, "more") if pieces else ()
        reason = self._finish_reason(finish) if finish else None
        counts = self._usage(reader, usage) if usage else None
        if not (text or thought or fragments or reason or counts):
            return NOTHING
        return Delta(text or None, thought or None, fragments, reason, counts)

    def _pieces(self, content: Any, reasoning: Any) -> tuple[str, str]:
        """(text, reasoning) of an event, noted. A provider that tells them apart leaves no tags."""
        thought = text_of(reasoning) if reasoning else ""
        if thought and not self.into.content:
            self.splitter = None
        text = self._text(content) if content else ""
        if text and self.splitter is not None:
            text, more = self.splitter.feed(text)
            thought += more
        self._note(text, thought)
        return text, thought

    def _text(self, content: Any) -> str:
        """A piece of text; half of a surrogate pair waits for its other half."""
        if not isinstance(content, str):
            return text_of(content)
        if self.surrogate:
            content, self.surrogate = self.surrogate + content, ""
        if content and "\ud800" <= content[-1] <= "\udbff":
            content, self.surrogate = content[:-1], content[-1]
        return content if content.isascii() else clean(content)

    def _note(self, text: str, thought: str) -> None:
        if text:
            self.into.content.append(text)
        if thought:
            self.into.reasoning.append(thought)

    def held_back(self) -> Delta:
        """At the end of a stream: what was waiting for more."""
        text, thought = self.splitter.flush() if self.splitter is not None else ("", "")
        text += "\ufffd" if self.surrogate else ""
        self._note(text, thought)
        return Delta(text or None, thought or None) if text or thought else NOTHING

    def fill_in(self) -> Delta:
        """Whatever the stream itself did not bring, from the whole answer in one of its events."""
        if self.final is None:
            return NOTHING
        into, reader = self.into, self.spec.response
        _, content, reasoning, refusal, calls, _, _, finish, usage, model, *_ = self.run(reader.found.run, self.final)
        text, thought = self._whole_pieces(content, reasoning)
        text, thought = ("" if into.content else text), ("" if into.reasoning else thought)
        self._note(text, thought)
        if refusal and not into.refusal:
            into.refusal.append(text_of(refusal))
        fragments = self._fragments(reader, calls, "own") if calls and not into.calls.slots else ()
        reason = self._finish_reason(finish) if finish and into.finish_reason is None else None
        counts = self._usage(reader, usage) if usage and into.usage is None else None
        into.model = into.model or str(model or "")
        return Delta(text or None, thought or None, fragments, reason, counts)

    # -------------------------------------------------------------- one body

    def body(self, body: dict[str, Any], found: list[Any]) -> Delta:
        """A whole answer, with what the spec's response found in it."""
        into, reader = self.into, self.spec.response
        content, reasoning, refusal, calls, _, _, finish, usage, model, *_ = found
        text, thought = self._whole_pieces(content, reasoning)
        self._note(text, thought)
        if refusal:
            into.refusal.append(text_of(refusal))
        fragments = self._fragments(reader, calls, "own") if calls else ()
        reason = self._finish_reason(finish)
        counts = self._usage(reader, usage) if usage else None
        into.model = str(model or "")
        into.replay.add(self._found(reader.replay, body), reader.grows)
        into.raw = body
        return Delta(text or None, thought or None, fragments, reason, counts)

    def _whole_pieces(self, content: Any, reasoning: Any) -> tuple[str, str]:
        text, thought, tags = text_of(content), text_of(reasoning), self.spec.response.think_tags
        if thought or not tags or isinstance(text, JsonText):
            return text, thought
        return split_whole(text, tags)

    def refuse_half_calls(self) -> None:
        """Half a call is never handed out, unless the provider itself ended the answer there."""
        if self.into.finish_reason is None and (name := self.into.half_call()):
            raise TruncatedError(f"the answer ended inside the arguments of the tool call {name!r}")
        if any(slot.name is None for slot in self.into.calls.slots):
            raise ProtocolError("a tool call came without the name of a function")

    # -------------------------------------------------------------- what both share

    def _fragments(self, reader: Reader, calls: Any, how: How) -> tuple[ToolCallDelta, ...]:
        items = calls if isinstance(calls, list) else [calls]
        read, add = reader.tool_call.run, self.into.calls.add
        made = (
            add(self.run(read, item), how, self._found(reader.call_replay, item))
            for item in items
            if isinstance(item, dict)
        )
        return tuple(delta for delta in made if delta is not None)

    def _finish_reason(self, found: Any) -> str | None:
        """Note and give the reason in prx's words. One that means failure is raised."""
        if isinstance(found, int) and not isinstance(found, bool):
            found = str(found)
        if not isinstance(found, str) or not found:
            return None
        reason = self.spec.response.finish_reasons.get(found, found)
        if reason == "error":
            raise ServerError(f"the provider ended the answer with finish reason {found!r}")
        self.into.finish_reason = reason
        return reason

    def _usage(self, reader: Reader, found: Any) -> Usage | None:
        whole = self.into.add_counts(found) if self.spec.stream.usage_in_parts else found
        counts = [_count(value) for value in self.run(reader.tokens.run, whole)]
        return self.into.add_usage(Usage(*counts)) if any(count is not None for count in counts) else None

    def _found(self, query: Query, value: Any) -> dict[str, Any]:
        """What a query with names of its own finds, without its nulls."""
        found = zip(query.names, self.run(query.run, value), strict=True) if query.names else ()
        return {name: item for name, item in found if item}


def _count(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
