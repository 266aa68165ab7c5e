"""Bytes of a response to deltas and a reply.

What arrives decides how it is read, not what was asked for: a JSON body in place of a stream is read as a
body, a stream in place of a body as a stream. Nothing is guessed: a frame that is no JSON is an error,
and so is a stream that stops without its end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from prx.chat import Call, Delta, Reply
from prx.core import fault
from prx.core.blocks import Key, Kind, key_of
from prx.core.choices import Choices, Event
from prx.core.reading import CUT_SHORT, NOTHING, Reading
from prx.core.result import Assembly
from prx.errors import Error, ProtocolError, TruncatedError, starved, unopened
from prx.json_text import BOM, parsed, read_json
from prx.secret import redact_json
from prx.spec.model import Found, Reader, Spec
from prx.wire import Head, Target, too_large

if TYPE_CHECKING:
    from prx.core.framing import Frame, Framer
    from prx.core.repeats import Repeats


class Decoder:
    """Reads one response with a status of success. `complete`: nothing more needs to be read."""

    def __init__(self, spec: Spec, call: Call, target: Target, head: Head, new_id: Callable[[], str]) -> None:
        self.spec, self.call, self.target, self.head = spec, call, target, head
        self.into = Assembly(spec, call, new_id)
        for name in spec.response.request_id:
            if name in head.headers:
                self.into.request_id = head.headers[name]
                break
        several = call.params.get("n")
        self.choices = Choices(spec.response.choices, several=isinstance(several, int) and several > 1)
        self.reading = Reading(spec, self.into, self.choices)
        self.complete = False
        self._repeats: Repeats | None = None
        self._body: list[bytes] = []
        self._size = 0
        self._framer: Framer | None = None
        self._is_body = False
        self._begun = False  # whether a byte-order mark, which only the first bytes can be, is behind us
        self._stranger = ""  # the kind of the first event that nobody reads

    def feed(self, data: bytes) -> tuple[list[Delta], Error | None]:
        """The deltas that these bytes complete, and the error that they turn out to be, if they do."""
        out: list[Delta] = []
        try:
            self._feed(data, out)
        except (Error, OSError) as error:
            return out, self._ours(error)
        return out, None

    def end(self) -> tuple[list[Delta], Error | None]:
        """As `feed`, for the end of the bytes."""
        out: list[Delta] = []
        try:
            self._end(out)
        except (Error, OSError) as error:
            return out, self._ours(error)
        return out, None

    def reply(self) -> Reply:
        """The answer as far as it has come."""
        return self.into.reply()

    def partial(self) -> Reply | None:
        """The same, or None where nothing has come."""
        return None if self.into.empty else self.into.reply()

    @property
    def finished(self) -> bool:
        """Whether the provider itself has said that the answer is over."""
        return self.complete or self.into.finish_reason is not None

    def _ours(self, error: Error | OSError) -> Error:
        """An error of this provider, also where a module that is loaded late could not be. Raises what is of neither."""
        made = error if isinstance(error, Error) else unopened(error) if starved(error) else None
        if made is None:
            raise error
        made.provider = made.provider or self.spec.id
        return made

    # -------------------------------------------------------------- bytes

    def _feed(self, data: bytes, out: list[Delta]) -> None:
        limit = self.spec.transport.max_body
        self._size += len(data)
        if self._size > limit:
            raise too_large(limit)
        if self._framer is None:
            self._body.append(data)
            if self._is_body or not self._recognise():
                return
            data, self._body = b"".join(self._body), []
        assert self._framer is not None
        assert self._repeats is not None
        repeats, more = self._repeats, self.reading.more
        for event in self._framer.events(data):
            text = repeats.text(event)
            if text is not None:
                delta = more(text, repeats.kind, repeats.key)
                if delta is not NOTHING:
                    out.append(delta)
                continue
            for frame in self._framer.frames(event):
                self._frame(frame, event, out)
            if self.complete:
                return

    def _recognise(self) -> bool:
        """Whether the first bytes that are no white space begin a stream. False as long as it is open."""
        whole = b"".join(self._body)
        if whole[:1] == b"{" and not self.call.stream:  # what nearly every answer without a stream begins with
            self._is_body = True
            return False
        if not self._begun and BOM.startswith(whole[:3]) and len(whole) < 3:
            return False
        start = (whole if self._begun else whole.removeprefix(BOM)).lstrip()
        self._body, self._begun = [start], True
        if not start or any(mark != start and mark.startswith(start) for mark in _SSE):
            return False
        framing = _framing(start, self.spec.stream.framing if self.call.stream else "")
        self._is_body = framing is None
        if framing is not None:
            from prx.core.framing import FRAMINGS
            from prx.core.repeats import Repeats

            self._repeats = Repeats()
            self._framer = FRAMINGS[framing](self.spec.transport.max_event)
            self.into.streamed = self.call.stream
        return not self._is_body

    def _end(self, out: list[Delta]) -> None:
        if self._framer is None and self.call.stream and not b"".join(self._body).strip():
            raise TruncatedError("the stream ended before it began")
        if self._framer is None:
            self._whole_body(b"".join(self._body), out)
        else:
            self._end_stream(self._framer, out)
        self.reading.refuse_half_calls()

    # -------------------------------------------------------------- a stream

    def _frame(self, frame: Frame, source: bytes, out: list[Delta]) -> None:
        text = frame.data
        if text == self.spec.stream.done and text:
            self.complete = True
        elif text and not text.isspace():
            if frame.name == "error":
                raise self._error(text, "stream")
            try:
                event = read_json(text)
            except ValueError:
                return self._no_json(frame)
            for each in event if isinstance(event, list) else (event,):
                if isinstance(each, dict):
                    self._parsed(each, frame, source if each is event else b"", out)
        return None

    def _no_json(self, frame: Frame) -> None:
        """An event of a kind that nobody reads may hold anything; any other is part of the answer."""
        if frame.data.strip() == self.spec.stream.done:
            self.complete = True
        elif not frame.name or frame.name in self.spec.stream.events:
            raise ProtocolError(f"an event of the stream is no JSON: {self._safe(frame.data)[:120]}")

    def _parsed(self, value: dict[str, Any], frame: Frame, source: bytes, out: list[Delta]) -> None:
        if self.choices.plain(value):
            return self._event(value, value, frame, source, out)
        for event in self.choices.ready(Event(value, frame, source)):
            self._event(self.choices.one(event.value), *event, out)
        return None

    def _event(
        self, event: dict[str, Any], whole: dict[str, Any], frame: Frame, source: bytes, out: list[Delta]
    ) -> None:
        reader: Reader | None = self.spec.stream
        if self.spec.stream.events:
            kind = self._kind(event, frame.name)
            reader = self.spec.stream.events.get(kind)
            self._stranger = self._stranger or ("" if reader else kind or "no kind at all")
        found = self.reading.run(reader.found.run if reader else self.spec.errors.detect.run, event)
        if found[0]:
            raise self._error(frame.data, "stream")
        if reader is not None:
            delta = self.reading.event(event, found, reader, whole)
            if delta is not NOTHING and delta != NOTHING:
                out.append(delta)
                if delta[2:] == _ONLY_TEXT:
                    self._alike(frame.name, source, reader, "text" if found[2] else "reasoning", key_of(found[1]))
            self.complete = self.complete or bool(found[-1])

    def _kind(self, event: dict[str, Any], name: str) -> str:
        (kind,) = self.reading.run(self.spec.stream.kind.run, event) if self.spec.stream.kind else (None,)
        return str(kind or name)

    def _alike(self, name: str, source: bytes, reader: Reader, kind: Kind, key: Key) -> None:
        """Have an event of text looked at for what it shares with others."""
        events = self.spec.stream.events

        def read(event: dict[str, Any]) -> Any:
            same = not events or events.get(self._kind(event, name)) is reader
            return self.reading.only_text(self.choices.one(event), reader, kind, key) if same else None

        if self._repeats is not None and self.spec.stream.done[:1] != "{":  # else a text may be the end
            self._repeats.miss(source, read, kind, key)

    def _end_stream(self, framer: Framer, out: list[Delta]) -> None:
        for frame in () if self.complete else framer.tail():
            if frame.data == self.spec.stream.done or parsed(frame.data) is not None:
                self._frame(frame, b"", out)
        for event in self.choices.rest():
            self._event(self.choices.one(event.value), *event, out)
        out += [delta for delta in (self.reading.held_back(), self.reading.fill_in()) if delta != NOTHING]
        if not self.finished or self.into.empty:
            raise TruncatedError(self._truncated())

    def _truncated(self) -> str:
        if not self.into.empty:
            return "the stream ended before the answer did"
        if self._stranger:
            return f"the stream ended, and its events were of no kind that is read (stream.events); the first: {self._stranger!r:.80}"
        return "the stream ended before it began"

    # -------------------------------------------------------------- one body

    def _whole_body(self, data: bytes, out: list[Delta]) -> None:
        text = data.decode("utf-8", "replace").strip()
        body = parsed(text)
        if not isinstance(body, dict):
            raise self._protocol("the answer is no JSON object", text)
        self.into.raw, body = body, self.choices.one(body)
        found = self.reading.found(self.reading.run(self.spec.response.found.run, body))
        if found.detect:
            raise self._error(text, "body")
        if not self._is_answer(body, found):
            raise self._protocol("the answer has nothing in it", text)
        delta = self.reading.body(body, found)
        self.complete = True
        if delta != NOTHING:
            out.append(delta)

    def _is_answer(self, body: dict[str, Any], found: Found) -> bool:
        """Whether there is an answer in a body. One that was cut short before its first word needs none."""
        answer, reasons = self.spec.response.answer, self.spec.response.finish_reasons
        if not answer.sources.get("answer") or any(self.reading.run(answer.run, body)):
            return True
        return (
            isinstance(found.finish_reason, str) and reasons.get(found.finish_reason, found.finish_reason) in CUT_SHORT
        )

    # -------------------------------------------------------------- errors

    def _error(self, text: str, stage: fault.Stage) -> Error:
        body, safe = redact_json(text, self.target.secrets)
        return fault.classify(self.spec, self.call, self.head, body, safe, stage)

    def _protocol(self, what: str, text: str) -> Error:
        words = " ".join(self._safe(text).split())[:200] or "it is empty"
        return fault.protocol(self.spec, self.call, self.head, f"{what}: {words}")

    def _safe(self, text: str) -> str:
        return redact_json(text, self.target.secrets)[1]


_ONLY_TEXT = NOTHING[2:]
_SSE = (b"data:", b"event:", b"id:", b"error:", b": ")


def _framing(start: bytes, asked: str) -> str | None:
    """The framing of a response that begins like this, or None for one body. asked: "" for no stream."""
    if start.startswith(_SSE):
        return "sse"
    if start[:1] == b"<":
        return None
    if start[:1] == b"[":
        return "json_array" if asked else None
    return None if start[:1] == b"{" and asked != "ndjson" else (asked or None)
