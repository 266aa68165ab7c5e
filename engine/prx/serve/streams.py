"""How the stream of a provider is written for a caller: as it came, joined with what was read in it, or written anew."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

from prx.chat import Delta, Reply
from prx.core import overlay
from prx.core.weave import Weaver
from prx.json_text import compact, parsed
from prx.serve.relay import ENDS, Heard, Relay
from prx.serve.shortcut import Shortcut, shortcut
from prx.spec.face import Face

_PLAIN = b"data: "  # how an event begins that has no name; not all readers know it without the space


class Writer(Protocol):
    def feed(self, heard: Iterable[Heard]) -> bytes: ...
    def end(self, reply: Reply) -> bytes: ...
    def shortcut(self, reader: Any, write: Callable[[bytes], bool]) -> Shortcut | None: ...
    def fail(self, error: Mapping[str, Any]) -> bytes: ...


def writer(
    face: Face, asked: Mapping[str, Any], relay: Relay, weaver: Weaver, framing: str, *, several: bool
) -> Writer:
    """The writer for a stream whose first output has come. asked: the caller's body. framing, several: what the caller wants."""
    same = relay.dialect == face.id and relay.framing == framing
    if same and (several or (face.as_it_comes and relay.reads_plainly)):
        return Verbatim(face, asked, relay, weaver)
    if same and not face.as_it_comes:
        return Joined(face, relay, weaver)
    return Woven(relay, weaver)


class Woven:
    """Everything is written anew: the provider speaks another dialect, or has habits of its own."""

    def __init__(self, relay: Relay, weaver: Weaver) -> None:
        self._relay, self._weaver = relay, weaver

    def feed(self, heard: Iterable[Heard]) -> bytes:
        return self._weaver.feed([delta for each in heard for delta in each.deltas], self._relay.so_far)

    def end(self, reply: Reply) -> bytes:
        return self._weaver.end(reply)

    def shortcut(self, reader: Any, write: Callable[[bytes], bool]) -> Shortcut | None:
        return None  # each event is made

    def fail(self, error: Mapping[str, Any]) -> bytes:
        return self._weaver.fail(error)


class Verbatim:
    """The events as they came, without those that the caller has not asked for.

    Two gaps are filled that some servers leave: events without their number, and a last event without the list of blocks.
    """

    def __init__(self, face: Face, asked: Mapping[str, Any], relay: Relay, weaver: Weaver) -> None:
        self._face, self._asked, self._relay, self._weaver = face, asked, relay, weaver
        self._end = ENDS[relay.framing]
        self._events = 0
        self._counts: bool | None = None  # whether the events lack their numbers; None before the first
        self._done_seen = False

    def feed(self, heard: Iterable[Heard]) -> bytes:
        return b"".join(self._passed(each) for each in heard if each.event)

    def end(self, reply: Reply) -> bytes:
        return b"" if self._done_seen else self._weaver.done

    def shortcut(self, reader: Any, write: Callable[[bytes], bool]) -> Shortcut | None:
        return None  # events may get their number, and some are left out

    def fail(self, error: Mapping[str, Any]) -> bytes:
        return self.feed(self._relay.before_error()) + self._weaver.fail(error, self._relay.so_far())

    def _passed(self, heard: Heard) -> bytes:
        face = self._face
        event = _PLAIN + heard.event[5:] if heard.event[:5] == _PLAIN[:5] and heard.event[:6] != _PLAIN else heard.event
        self._done_seen = self._done_seen or (bool(face.done) and event.endswith(face.done.encode()))
        if face.unasked is not None and all(delta.usage for delta in heard.deltas) and self._is_unasked(event):
            return b""
        if event.startswith(b":"):  # a comment: no event
            return event + self._end
        if face.numbered and self._counts is None:
            self._counts = f'"{face.numbered}"'.encode() not in event
        last = bool(face.event_name and heard.deltas) and heard.deltas[-1].finish_reason is not None
        filled = self._filled(event, last=last) if self._counts or last else event
        self._events += 1
        return filled + self._end

    def _is_unasked(self, event: bytes) -> bool:
        value = value_of(event)
        assert self._face.unasked is not None
        return bool(value and self._face.unasked({**value, "asked": dict(self._asked)}))

    def _filled(self, event: bytes, *, last: bool) -> bytes:
        value, name = value_of(event), self._face.event_name
        if not value or (name and name not in value):  # an event of no kind that is known: it stays as it came
            return event
        if self._counts:
            value[self._face.numbered] = self._events
        if last:
            written = self._weaver.final(self._relay.so_far())
            like = next((each for each in written if each.get(name) == value.get(name)), None)
            full = overlay.filled(value, like)
            if full == value and not self._counts:
                return event
            value = full
        return self._weaver.framed(value).removesuffix(self._end)


class Joined:
    """What was read in each event is written over it, so that what nobody knows stays.

    An event that brings a piece of text and already is as it would be written is handed on as it came.
    """

    def __init__(self, face: Face, relay: Relay, weaver: Weaver) -> None:
        self._face, self._relay, self._weaver = face, relay, weaver
        self._end = ENDS[relay.framing]
        self._said: dict[str, Any] = {}  # what the answer is called
        self._left: dict[str, Any] = {}  # unknown keys for the last events
        self._good_repeat: object = None  # of which an event was handed on: all others that repeat it may be, too
        self._of_calls: dict[int, Any] = {}  # the same for the next event of a tool call, by its index
        self._keys: dict[
            str, bytes
        ] = {}  # by kind of block: the key of the piece in an event that is as it would be written

    def feed(self, heard: Iterable[Heard]) -> bytes:
        return b"".join([self._good(each) or b"".join(self._joined(each)) for each in heard])

    def _good(self, heard: Heard) -> bytes:
        """An event that only continues a text and is as it would be written, as it came; b"" for any other."""
        if heard.repeats is not None and heard.repeats is self._good_repeat and heard.deltas:
            delta = heard.deltas[0]
            kind, text = ("text", delta.content) if delta.content else ("reasoning", delta.reasoning or "")
            # What was held back, or stands between tags, is read as another text than the event has.
            key = self._keys.get(kind)
            as_it_stands = key is not None and b'%b"%b"' % (key, text.encode()) in heard.event
            return heard.event + self._end if as_it_stands and self._weaver.takes(kind, text) else b""
        kind, text = _only_text(heard.deltas)
        key = self._keys.get(kind)
        if key is None or heard.event[:6] != _PLAIN or key + _json(text) not in heard.event:
            return b""
        if not self._weaver.takes(kind, text):
            return b""
        self._good_repeat = heard.repeats
        return heard.event + self._end

    def end(self, reply: Reply) -> bytes:
        written, left, known = self._weaver.last_values(reply), self._left, self._face.written
        out = []
        for value in self._with_their_own(written):
            fits = {key: each for key, each in left.items() if key in value or key not in known}
            left = {key: each for key, each in left.items() if key not in fits}
            out.append(self._bytes(overlay.over(fits, value)))
        return b"".join((*out, self._weaver.done))

    def shortcut(self, reader: Any, write: Callable[[bytes], bool]) -> Shortcut | None:
        is_good = self._good_repeat is not None and reader.present_repeat is self._good_repeat
        return shortcut(reader, self._weaver, self._end, write) if is_good else None

    def fail(self, error: Mapping[str, Any]) -> bytes:
        return self.feed(self._relay.before_error()) + self._weaver.fail(error)

    def _joined(self, heard: Heard) -> Iterator[bytes]:
        kind, text = _only_text(heard.deltas)
        said = value_of(heard.event)
        self._said |= {key: said[key] for key in overlay.SAID if said.get(key) is not None}
        written = self._weaver.values(heard.deltas, self._relay.so_far)
        left = overlay.unknown({key: each for key, each in said.items() if key not in overlay.SAID}, self._face.written)
        calls = [call.index for delta in heard.deltas for call in delta.tool_calls]
        # What waits until a call before it is complete may be written later than what came after it, so each call has its own.
        left, of_calls = overlay.apart(left, len(calls))
        for index, own in zip(calls, of_calls, strict=False):
            self._of_calls[index] = overlay.over(own, self._of_calls.get(index, {}))
        if not written:
            yield from self._without_output(heard.deltas, left)
        else:
            if kind and overlay.covers(said, written[-1][0]):
                self._learn(kind, text, heard.event)
            *others, last = self._with_their_own(written)
            yield from map(self._bytes, (*others, overlay.over(left, last)))
        for index in {*calls} & {*self._of_calls}:
            if (nothing := self._weaver.nothing(index)) is not None and overlay.says_something(self._of_calls[index]):
                yield self._bytes(overlay.over(self._of_calls.pop(index), nothing))

    def _with_their_own(self, written: Iterable[tuple[dict[str, Any], int]]) -> list[dict[str, Any]]:
        """The events, those of a call with what nobody knows of it."""
        return [overlay.over(self._of_calls.pop(index, {}), value) for value, index in written]

    def _without_output(self, deltas: Iterable[Delta], left: Any) -> Iterator[bytes]:
        """Of the event that ends the answer, what nobody knows waits for the end."""
        if any(delta.finish_reason or delta.usage for delta in deltas):
            self._left = overlay.over(left or {}, self._left)
        elif overlay.says_something(left) and (nothing := self._weaver.nothing()):
            yield self._bytes(overlay.over(left, nothing))

    def _bytes(self, value: Mapping[str, Any]) -> bytes:
        return self._weaver.framed({**value, **{key: said for key, said in self._said.items() if key in value}})

    def _learn(self, kind: str, text: str, event: bytes) -> None:
        """Note the key before the piece: it is found again faster than the event is parsed."""
        before, found, _ = event.partition(_json(text))
        start = before.rfind(b'"', 0, before.rfind(b'"'))
        if found and start >= 0 and before.rstrip().endswith(b":"):
            self._keys[kind] = before[start:]


def _only_text(deltas: list[Delta]) -> tuple[str, str]:
    """(kind of block, text) of what is one piece of text and nothing else; else ("", "")."""
    if len(deltas) != 1:
        return "", ""
    content, reasoning, *others = deltas[0]
    if any(others) or bool(content) == bool(reasoning):
        return "", ""
    return ("text", content) if content else ("reasoning", reasoning or "")


def _json(text: str) -> bytes:
    return compact(text).encode()


def value_of(event: bytes) -> dict[str, Any]:
    """The object in the data of an event; {} for what is none."""
    lines = [line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:")] or [event]
    value = parsed(b"\n".join(lines).decode("utf-8", "replace"))
    return value if isinstance(value, dict) else {}
