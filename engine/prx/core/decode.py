"""Decodes the bytes of a response into deltas and a reply.

The bytes that arrive decide how they are read, not the request: a JSON body in place of a stream is read as a
body, a stream in place of a body as a stream. Nothing is guessed: a frame that is not JSON is an error,
and so is a stream that stops before the provider has ended it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

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


class Continued(NamedTuple):
    """How events are read that only continue a text; it holds until any other event is read.

    text      gives the text of such an event, None for any other
    passes    whether a text is handed on as it stands; None where every text is
    content   where the text goes
    room      bytes that the body may still have
    """

    text: Callable[[bytes], str | None]
    passes: Callable[[str], bool] | None
    content: list[str]
    room: int


class Decoder:
    """Reads one response whose status is 2xx. `complete`: the rest of the body needs no reading."""

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
        self._past_bom = (
            False  # whether the first bytes, the only ones that can be a byte-order mark, have been looked at
        )
        self._unread_kind = ""  # kind of the first event for which stream.events has no entry

    def feed(self, data: bytes) -> tuple[list[Delta], Error | None]:
        """Read the next bytes of the body: gives the deltas that they complete, and the error in them or None."""
        out: list[Delta] = []
        try:
            self._feed(data, out)
        except (Error, OSError) as error:
            return out, self._as_error(error)
        return out, None

    def repeated(self, event: bytes) -> Delta | None:
        """The delta of an event that fits the present repeat, as `feed` would give it; None for any other event, which stays unread."""
        repeats = self._repeats
        if repeats is None or (text := repeats.text(event)) is None:
            return None
        if self._size + len(event) > self.spec.transport.max_body:
            return None
        self._size += len(event)
        return self.reading.text_delta(text, repeats.kind, repeats.key)

    @property
    def present_repeat(self) -> object:
        """What events that fit it have in common: the same object as long as it stays the present one."""
        return self._repeats.text if self._repeats is not None else None

    def continued(self) -> Continued | None:
        """How events are read that only continue the text as the last one did; None where no event is known to."""
        repeats, splitter = self._repeats, self.reading.splitter
        if self.complete or repeats is None or not self.reading.continues(repeats.kind, repeats.key):
            return None
        room = self.spec.transport.max_body - self._size
        return Continued(repeats.text, splitter.passes if splitter is not None else None, self.into.content, room)

    def used(self, size: int) -> None:
        """Note that so many bytes of the body were read by a Continued."""
        self._size += size

    def end(self) -> tuple[list[Delta], Error | None]:
        """The body has ended: gives the deltas that were held back, and an error where the answer is not complete."""
        out: list[Delta] = []
        try:
            self._end(out)
        except (Error, OSError) as error:
            return out, self._as_error(error)
        return out, None

    def reply(self) -> Reply:
        """The answer, as much of it as has arrived."""
        return self.into.reply()

    def partial(self) -> Reply | None:
        """The answer as `reply` gives it, or None where nothing has arrived."""
        return None if self.into.empty else self.into.reply()

    @property
    def finished(self) -> bool:
        """Whether the provider has marked the end of the answer, by its last event or by a finish reason."""
        return self.complete or self.into.finish_reason is not None

    def _as_error(self, error: Error | OSError) -> Error:
        """The error, with the provider's id. An OSError is only expected where a module that is imported late cannot be
        opened, and becomes a ConfigError; any other is raised again.
        """
        known = error if isinstance(error, Error) else unopened(error) if starved(error) else None
        if known is None:
            raise error
        known.provider = known.provider or self.spec.id
        return known

    # -------------------------------------------------------------- bytes

    def _feed(self, data: bytes, out: list[Delta]) -> None:
        limit = self.spec.transport.max_body
        self._size += len(data)
        if self._size > limit:
            raise too_large(limit)
        if self._framer is None:
            self._body.append(data)
            if self._is_body or not self._is_stream():
                return
            data, self._body = b"".join(self._body), []
        assert self._framer is not None
        assert self._repeats is not None
        repeats, text_delta = self._repeats, self.reading.text_delta
        for event in self._framer.events(data):
            text = repeats.text(event)
            if text is not None:
                delta = text_delta(text, repeats.kind, repeats.key)
                if delta is not NOTHING:
                    out.append(delta)
                continue
            for frame in self._framer.frames(event):
                self._frame(frame, event, out)
            if self.complete:
                return

    def _is_stream(self) -> bool:
        """Whether the first bytes after white space begin a stream; False also while there are too few to tell."""
        whole = b"".join(self._body)
        if whole[:1] == b"{" and not self.call.stream:  # as nearly every answer that is not a stream
            self._is_body = True
            return False
        if not self._past_bom and BOM.startswith(whole[:3]) and len(whole) < 3:
            return False
        start = (whole if self._past_bom else whole.removeprefix(BOM)).lstrip()
        self._body, self._past_bom = [start], True
        if not start or any(mark != start and mark.startswith(start) for mark in _SSE_STARTS):
            return False
        framing = framing_of(start, self.spec.stream.framing if self.call.stream else "")
        self._is_body = framing is None
        if framing is not None:
            from prx.core.framing import FRAMINGS
            from prx.core.repeats import Repeats

            self._repeats = Repeats(self.spec.repeats)
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
                return self._not_json(frame)
            for each in event if isinstance(event, list) else (event,):
                if isinstance(each, dict):
                    self._object(each, frame, source if each is event else b"", out)
        return None

    def _not_json(self, frame: Frame) -> None:
        """A frame whose data is not JSON: ignored where the file does not read events of its name, else an error."""
        if frame.data.strip() == self.spec.stream.done:
            self.complete = True
        elif not frame.name or frame.name in self.spec.stream.events:
            raise ProtocolError(f"an event of the stream is not JSON: {self._safe(frame.data)[:120]}")

    def _object(self, value: dict[str, Any], frame: Frame, source: bytes, out: list[Delta]) -> None:
        if self.choices.plain(value):
            return self._event(value, value, frame, source, out)
        ready = self.choices.ready(Event(value, frame, source))
        if not ready and self._repeats is not None:
            self._repeats.forget()  # the number of the next event decides which ones are read
        for event in ready:
            self._event(self.choices.one(event.value), *event, out)
        return None

    def _event(
        self, event: dict[str, Any], whole: dict[str, Any], frame: Frame, source: bytes, out: list[Delta]
    ) -> None:
        reader: Reader | None = self.spec.stream
        if self.spec.stream.events:
            kind = self._kind(event, frame.name)
            reader = self.spec.stream.events.get(kind)
            self._unread_kind = self._unread_kind or ("" if reader else kind or "no kind at all")
        # Errors are looked for in events that the file does not read, too.
        found = self.reading.run(reader.found.run if reader else self.spec.errors.detect.run, event)
        if found[_DETECT]:
            raise self._error(frame.data, "stream")
        if reader is not None:
            delta = self.reading.event(event, found, reader, whole)
            if delta is not NOTHING and delta != NOTHING:
                out.append(delta)
                if delta[2:] == _NO_MORE_THAN_TEXT:
                    kind_of_text: Kind = "text" if found[_CONTENT] else "reasoning"
                    self._learn_repeat(frame.name, source, reader, kind_of_text, key_of(found[_BLOCK]))
            self.complete = self.complete or bool(found[_END])

    def _kind(self, event: dict[str, Any], name: str) -> str:
        (kind,) = self.reading.run(self.spec.stream.kind.run, event) if self.spec.stream.kind else (None,)
        return str(kind or name)

    def _learn_repeat(self, name: str, source: bytes, reader: Reader, kind: Kind, key: Key) -> None:
        """Show an event that brought only text to the repeats: later events like it need no parsing."""
        events = self.spec.stream.events

        def read(event: dict[str, Any]) -> Any:
            same = not events or events.get(self._kind(event, name)) is reader
            return self.reading.only_text(self.choices.one(event), reader, kind, key) if same else None

        # A JSON object that ends the stream might fit a repeat, and would be taken for text.
        if self._repeats is not None and self.spec.stream.done[:1] != "{":
            form = (id(reader), name, kind, key, self.choices.state)  # all that `read` depends on
            self._repeats.miss(source, read, kind, key, form)

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
        if self._unread_kind:
            return (
                "the stream ended without an answer: the file's stream.events has no entry for the kinds of its events;"
                f" the first kind was {self._unread_kind!r:.80}"
            )
        return "the stream ended before it began"

    # -------------------------------------------------------------- one body

    def _whole_body(self, data: bytes, out: list[Delta]) -> None:
        text = data.decode("utf-8", "replace").strip()
        body = parsed(text)
        if not isinstance(body, dict):
            raise self._protocol("the answer is not a JSON object", text)
        self.into.raw, body = body, self.choices.one(body)
        found = self.reading.found(self.reading.run(self.spec.response.found.run, body))
        if found.detect:
            raise self._error(text, "body")
        if not self._is_answer(body, found):
            raise self._protocol("the answer is empty: it has nothing where the file looks for content", text)
        delta = self.reading.body(body, found)
        self.complete = True
        if delta != NOTHING:
            out.append(delta)

    def _is_answer(self, body: dict[str, Any], found: Found) -> bool:
        """Whether a body has an answer in it. A finish reason of CUT_SHORT needs none: the answer may have had no word."""
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

    def _protocol(self, problem: str, text: str) -> Error:
        excerpt = " ".join(self._safe(text).split())[:200] or "the body is empty"
        return fault.protocol(self.spec, self.call, self.head, f"{problem}: {excerpt}")

    def _safe(self, text: str) -> str:
        return redact_json(text, self.target.secrets)[1]


# The values of a reader are a plain tuple in the order of Found's fields: making a Found for each event takes longer.
_DETECT, _BLOCK, _CONTENT, _END = (Found._fields.index(name) for name in ("detect", "block", "content", "end"))
_NO_MORE_THAN_TEXT = NOTHING[2:]  # the fields of a delta behind content and reasoning, all of them empty
_SSE_STARTS = (b"data:", b"event:", b"id:", b"error:", b": ")


def framing_of(start: bytes, requested: str) -> str | None:
    """The framing of a response that begins with `start`, or None for one body. requested: the spec's framing where a
    stream was asked for, else "".
    """
    if start.startswith(_SSE_STARTS):
        return "sse"
    if start[:1] == b"\0":  # a length of 4 bytes, the first of which is 0 below 16 MB
        return "aws_eventstream"
    if start[:1] == b"<":  # a web page
        return None
    if start[:1] == b"[":
        return "json_array" if requested else None
    return None if start[:1] == b"{" and requested != "ndjson" else (requested or None)
