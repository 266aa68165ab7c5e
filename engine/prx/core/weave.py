"""Writes an answer in the dialect of the caller: a whole one as a body, a stream as events.

A stream is written in blocks (reasoning, text, refusal, tool call), one after the other: each is opened, gets its pieces, and is
closed. Some providers send pieces of several calls in turn, or text in the middle of a call; what belongs to another block
waits until the arguments of the open call are complete.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prx.chat import NONE, Delta, Part, Reply, ToolCallDelta, Usage, plain
from prx.core.blocks import BLANK_LINE
from prx.core.kind_results import Embeddings, Images, Ranking
from prx.json_text import compact, read_finite
from prx.lang.template import Template
from prx.record import Record
from prx.spec.face import Face

# Of a stream, by its framing.
MEDIA_TYPES = {
    "sse": "text/event-stream; charset=utf-8",
    "ndjson": "application/x-ndjson",
    "json_array": "application/json",
}
_MARK = "\ue000piece\ue001"  # stands for a piece of text while the event around it is rendered
_NUMBER = 7_000_000_000_000_007  # the same for the number of an event


class Identity(Record, often=True):
    """What an answer is called. created: epoch seconds; created_text: the same as RFC 3339."""

    id: str
    model: str
    created: int = 0
    created_text: str = ""


class Weaver:
    """One answer in the dialect of a face. asked: the caller's body. framing: of the stream, if not the face's own."""

    def __init__(self, face: Face, asked: Mapping[str, Any], identity: Identity, framing: str = "") -> None:
        self.face = face
        self.begun = False
        self._as_values = False
        self._framing = framing or face.framing
        self._view: dict[str, Any] = {
            "answer": {**vars(identity), "completed": None},
            "asked": dict(asked),
            "blocks": [],
        }
        self._blocks: list[dict[str, Any]] = []
        self._open: dict[str, Any] | None = None
        self._mould: bytes | None = None
        self._pieces: list[
            str
        ] = []  # of the open block's text, which is made of them when it is read: adding each takes quadratic time
        self._waiting: list[tuple[str, int, str, ToolCallDelta | None]] = []
        self._calls: dict[int, dict[str, Any]] = {}
        self._events = 0
        self._so_far: Callable[[], Reply] = Reply
        self._has_replay = False

    # -------------------------------------------------------------- a whole answer

    def body(self, reply: Reply) -> Any:
        """The body of a whole answer."""
        blocks = self._blocks_of(reply) if "blocks" in self.face.reply.reads else []
        return self.face.reply({**self._view, **self._ended(reply), "blocks": blocks})

    def _blocks_of(self, reply: Reply) -> list[dict[str, Any]]:
        blocks: list[dict[str, Any]] = []
        for place, part in enumerate(reply.parts):
            call = part.call
            block = _block(part.kind, place, sum(each["kind"] == part.kind for each in blocks), self._key(place))
            block |= {
                "text": part.text,
                "replay": plain(part.replay),
                "hidden": part.kind == "reasoning" and not part.text,
            }
            block |= (
                {"id": call.id, "name": call.name, "arguments": call.arguments, "input": _input(call.arguments)}
                if call
                else {}
            )
            blocks.append(block)
        return blocks

    def call_body(self, kind: str, result: Any, inputs: Mapping[str, Any] = NONE) -> Any:
        """The body of the answer to a call that is no chat, or its bytes, where the dialect has no template of it."""
        reply = self.face.calls[kind].reply
        if reply is None:
            return result.audio
        reason = getattr(result, "finish_reason", None)
        return reply({
            **self._view, "result": _without_rows(result), "rows": call_rows(result, inputs), "usage": _usage(result.usage),
            "finish_reason": self.face.finish_reasons.get(reason or "stop", self.face.finish_reasons.get("stop")),
        })  # fmt: skip

    def error_body(self, error: Mapping[str, Any]) -> Any:
        """The body of an error. error: message, type, status, kind, provider, retryable, retry_after, code, param."""
        return self.face.error_body({**self._view, "error": self._named(error)})

    # -------------------------------------------------------------- a stream

    def feed(self, deltas: Iterable[Delta], so_far: Callable[[], Reply]) -> bytes:
        """The events for these deltas; the first time, those that begin the stream before them."""
        self._so_far = so_far
        return b"".join(self._fed(deltas))

    def end(self, reply: Reply) -> bytes:
        """The events that end the stream."""
        self._so_far = lambda: reply
        return b"".join(self._ending(reply))

    @property
    def done(self) -> bytes:
        """The mark behind the last event, b"" where the dialect has none."""
        return f"data: {self.face.done}\n\n".encode() if self.face.done else b""

    def values(self, deltas: Iterable[Delta], so_far: Callable[[], Reply]) -> list[tuple[dict[str, Any], int]]:
        """The events as `feed` gives them, each as a value, of which `framed` makes bytes, and with the index of the tool call
        that it belongs to, -1 for none.
        """
        self._so_far, self._as_values = so_far, True
        return self._with_calls(self._fed(deltas))

    def last_values(self, reply: Reply) -> list[tuple[dict[str, Any], int]]:
        """The same for `end`, without the mark of the end."""
        self._so_far, self._as_values = lambda: reply, True
        return self._with_calls(self._ending(reply))

    def _with_calls(self, events: Iterable[Any]) -> list[tuple[dict[str, Any], int]]:
        return [(event, self._open["index"] if self._open else -1) for event in events]

    def takes(self, kind: str, text: str) -> bool:
        """Whether a piece only continues the block that is open; it is noted then as if it had been written."""
        pieces = self.continued(kind)
        if pieces is None:
            return False
        pieces.append(text)
        self.wrote(1)
        return True

    def continued(self, kind: str) -> list[str] | None:
        """Where pieces go that are as `takes` wants them, until anything else is fed; None where it would take none."""
        block = self._open
        return None if block is None or block["kind"] != kind or self._waiting else self._pieces

    def wrote(self, events: int) -> None:
        """Note that so many events were written by somebody else."""
        self._events += events

    def nothing(self, call: int = -1) -> dict[str, Any] | None:
        """The event of an empty piece of text, or of the call of an index, as a value; None for a call that has not begun."""
        block = _block("text", 0, 0, "") if call < 0 else self._calls.get(call)
        templates = self.face.steps["piece", block["kind"]] if block is not None else ()
        event: dict[str, Any] | None = templates[0]({**self._view, **(block or {}), "piece": ""}) if templates else None
        return event

    def framed(self, event: Mapping[str, Any]) -> bytes:
        """The bytes of an event, with no number added."""
        text = compact(event)
        if self._framing == "ndjson":
            return f"{text}\n".encode()
        name = f"event: {event[self.face.event_name]}\n" if self.face.event_name else ""
        return f"{name}data: {text}\n\n".encode()

    def final(self, reply: Reply) -> list[dict[str, Any]]:
        """The events that would end the stream of a whole answer, as values."""
        view = {**self._view, **self._ended(reply), "blocks": self._blocks_of(reply)}
        events = (template(view) for template in self.face.end)
        return [event for event in events if event is not None]

    def fail(self, error: Mapping[str, Any], so_far: Reply | None = None) -> bytes:
        """The event of an error after which nothing else comes, and no mark of an end. so_far: the answer, if it is not woven."""
        self._as_values = False
        self._join()
        self._view |= {"blocks": self._blocks_of(so_far) if so_far else [{**block} for block in self._blocks]}
        view = {"error": self._named(error), "finish_reason": "failed"}
        written = b"".join(self._written(self.face.error, view))
        return written + (b"]" if self._framing == "json_array" else b"")

    def _fed(self, deltas: Iterable[Delta]) -> Iterator[Any]:
        yield from self._beginning()
        for delta in deltas:
            self._has_replay = self._has_replay or bool(delta.replay)
            for kind, text in (("reasoning", delta.reasoning), ("text", delta.content), ("refusal", delta.refusal)):
                if text:
                    yield from self._piece(kind, -1, text, None)
            for call in delta.tool_calls:
                yield from self._piece("tool_call", call.index, call.arguments or "", call)

    def _beginning(self) -> Iterator[Any]:
        if not self.begun:
            self.begun = True
            if self._framing == "json_array" and not self._as_values:
                yield b"["
            yield from self._written(self.face.begin, {})

    def _ending(self, reply: Reply) -> Iterator[Any]:
        yield from self._beginning()
        while self._waiting:
            yield from self._closed()
            waiting, self._waiting = self._waiting, []
            for piece in waiting:
                yield from self._piece(*piece)
        yield from self._closed()
        yield from self._hidden()
        self._view |= {"blocks": [{**block} for block in self._blocks]}
        yield from self._written(self.face.end, self._ended(reply))
        if self._as_values:
            return
        if self._framing == "json_array":
            yield b"]"
        else:
            yield self.done

    # -------------------------------------------------------------- blocks

    def _piece(self, kind: str, index: int, text: str, call: ToolCallDelta | None) -> Iterator[Any]:
        block = self._open
        if block is None or block["kind"] != kind or block["index"] != index:
            if block is not None and block["kind"] == "tool_call" and _input(block["arguments"], None) is None:
                self._waiting.append((kind, index, text, call))
                return
            if index in self._calls:  # a closed call: what still comes of it is white space
                return
            yield from self._closed()
            yield from self._opened(kind, index, call)
            if kind == "reasoning":
                text = self._own_text(text)
        if text and not self._is_free_form(text):
            yield from self._written_piece(text)
        if self._waiting and self._open is not None and _input(self._open["arguments"], None) is not None:
            waiting, self._waiting = self._waiting, []
            for piece in waiting:
                yield from self._piece(*piece)

    def _opened(self, kind: str, index: int, call: ToolCallDelta | None) -> Iterator[Any]:
        yield from self._hidden()
        yield from self._begun(kind, index, self._named_call(index, call) if call else {})

    def _own_text(self, piece: str) -> str:
        """The first piece of a block of reasoning, without the line breaks that stand before it in the reasoning as one text: its signature
        is for the text alone.
        """
        assert self._open is not None
        number = self._open["number"]
        if not number or piece[0] != "\n":
            return piece
        thoughts = self._thoughts()
        own = thoughts[number].text if number < len(thoughts) else piece
        return next((piece[cut:] for cut in range(len(BLANK_LINE) + 1) if own.startswith(piece[cut:])), piece)

    def _named_call(self, index: int, call: ToolCallDelta) -> dict[str, Any]:
        """The id and the name of a call. Some APIs have no ids: theirs are made, and stand in the reply alone."""
        calls = self._so_far().tool_calls if call.id is None or call.name is None else ()
        known = calls[index] if index < len(calls) else call
        return {"id": call.id or known.id, "name": call.name or known.name}

    def _begun(self, kind: str, index: int, more: Mapping[str, Any]) -> Iterator[Any]:
        place = len(self._blocks)
        number = sum(block["kind"] == kind for block in self._blocks)
        self._open = {**_block(kind, place, number, self._key(place)), "index": index, **more}
        self._blocks.append(self._open)
        if kind == "tool_call":
            self._calls[index] = self._open
        self._mould = None
        yield from self._written(self.face.steps["open", kind], self._open)

    def _written_piece(self, text: str) -> Iterator[Any]:
        """The events of a piece. They differ in the piece alone, so they are rendered once for each block."""
        block = self._open
        assert block is not None
        if block["kind"] == "tool_call":
            block["arguments"] += text
        else:
            self._pieces.append(text)
        templates = self.face.steps["piece", block["kind"]]
        if self._mould is None and not self._as_values:
            self._join()
            self._mould = self._moulded(templates, block)
        if not self._mould:
            self._join()
            yield from self._written(templates, {**block, "piece": text})
            return
        yield self._mould % {b"piece": compact(text).encode(), b"number": self._events}
        self._events += 1

    def _moulded(self, templates: tuple[Template, ...], block: Mapping[str, Any]) -> bytes:
        """The event of a piece with holes for the piece and its number; b"" where it cannot be made this way."""
        if len(templates) != 1 or self._framing == "json_array":
            return b""
        event = templates[0]({**self._view, **block, "piece": _MARK})
        if event is None:
            return b""
        text = self._bytes(self._numbered(event, _NUMBER)).replace(b"%", b"%%")
        mark = compact(_MARK).encode()
        if text.count(mark) != 1 or _MARK.encode() in text.replace(mark, b""):
            return b""
        return text.replace(mark, b"%(piece)b").replace(str(_NUMBER).encode(), b"%(number)d")

    def _join(self) -> None:
        """Give the open block the text of its pieces."""
        if self._open is not None and self._pieces:
            self._open["text"] += "".join(self._pieces)
        self._pieces = []

    def _closed(self) -> Iterator[Any]:
        self._join()
        block, self._open = self._open, None
        if block is None:
            return
        if block["kind"] == "tool_call":
            yield from self._as_object(block)
            block["input"] = _input(block["arguments"])
        if block["kind"] == "reasoning" and self._has_replay:
            block["replay"] = self._replay(block["number"])
        yield from self._written(self.face.steps["close", block["kind"]], block)

    def _is_free_form(self, piece: str) -> bool:
        """Whether a piece belongs to arguments that are no object, where the dialect has objects only; it is noted then."""
        block = self._open
        assert block is not None
        if (
            not self.face.objects_only
            or block["kind"] != "tool_call"
            or (block["arguments"] or piece).lstrip()[:1] in ("", "{")
        ):
            return False
        block["free_form"] = True
        block["arguments"] += piece
        return True

    def _as_object(self, block: dict[str, Any]) -> Iterator[Any]:
        """The one piece of arguments that came as a text."""
        if block.pop("free_form", False):
            written = {**block, "piece": compact({"input": block["arguments"]})}
            yield from self._written(self.face.steps["piece", "tool_call"], written)

    def _replay(self, number: int) -> Any:
        thoughts = self._thoughts()
        return plain(thoughts[number].replay) if number < len(thoughts) else {}

    def _thoughts(self) -> list[Part]:
        """The blocks of reasoning that have come so far."""
        return [part for part in self._so_far().parts if part.kind == "reasoning"]

    def _hidden(self) -> Iterator[Any]:
        """The blocks of reasoning that come next and that the provider keeps to itself: they have no text, but have to go back."""
        if not self._has_replay:
            return
        for part in self._thoughts()[sum(block["kind"] == "reasoning" for block in self._blocks) :]:
            if part.text or not part.replay:
                return
            yield from self._begun("reasoning", -1, {"hidden": True, "replay": plain(part.replay)})
            yield from self._closed()

    def _key(self, place: int) -> str:
        return f"{self._view['answer']['id']}{place}"

    # -------------------------------------------------------------- events

    def _written(self, templates: Iterable[Template], more: Mapping[str, Any]) -> Iterator[Any]:
        for template in templates:
            event = template({**self._view, **more})
            if event is not None:
                numbered = self._numbered(event, self._events)
                yield numbered if self._as_values else self._bytes(numbered)
                self._events += 1

    def _numbered(self, event: Mapping[str, Any], number: int) -> Mapping[str, Any]:
        return {**event, self.face.numbered: number} if self.face.numbered else event

    def _bytes(self, event: Mapping[str, Any]) -> bytes:
        if self._framing == "json_array":
            return f"{',' if self._events else ''}{compact(event)}\n".encode()
        return self.framed(event)

    def _ended(self, reply: Reply) -> dict[str, Any]:
        reason = reply.finish_reason
        return {
            "reply": {"content": reply.content if reply.content_source == "content" else "", "reasoning": reply.reasoning,
                      "refusal": reply.refusal, "finish_reason": reason},
            "message": reply.message,
            "usage": _usage(reply.usage),
            "finish_reason": self.face.finish_reasons.get(reason or "stop", self.face.finish_reasons.get("stop")),
            "answer": {**self._view["answer"], "completed": self._view["answer"]["created"]},
        }  # fmt: skip

    def _named(self, error: Mapping[str, Any]) -> dict[str, Any]:
        kind = str(error.get("kind") or "server")
        return {**error, "type": self.face.error_types.get(kind, self.face.error_types.get("server"))}


def call_rows(result: Any, inputs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of a result that has some, as the templates of a call see them."""
    if isinstance(result, Embeddings):
        return [{"index": place, "vector": [*vector]} for place, vector in enumerate(result.vectors)]
    if isinstance(result, Ranking):
        documents = inputs.get("documents") or ()
        return [
            {"index": row.index, "score": row.score, "document": documents[row.index] if documents else None}
            for row in result.results
        ]
    if isinstance(result, Images):
        return [{**plain(image), "data": _base64(image.data)} for image in result.images]
    return []


def _base64(data: bytes | None) -> str | None:
    return None if data is None else b64encode(data).decode()


def _without_rows(result: Any) -> dict[str, Any]:
    """The fields of a result but for those of which there are rows, and for what only the provider's own answer has."""
    left_out = ("raw", "vectors", "images", *(("results",) if isinstance(result, Ranking) else ()))
    return {name: plain(getattr(result, name)) for name in result._fields if name not in left_out}


def _block(kind: str, place: int, number: int, key: str) -> dict[str, Any]:
    return {
        "kind": kind, "place": place, "number": number, "key": key, "index": -1, "text": "", "id": None, "name": None,
        "arguments": "", "input": None, "replay": {}, "hidden": False,
    }  # fmt: skip


def _input(arguments: str, otherwise: Any = "") -> Any:
    """The arguments of a call as a value; for what is not JSON, {"input": the text}, or `otherwise` where it is given."""
    try:
        return read_finite(arguments)
    except ValueError:
        return ({"input": arguments} if arguments else {}) if otherwise == "" else otherwise


def _usage(usage: Usage | None) -> dict[str, Any] | None:
    """The counts as reported, and two differences: fresh_tokens of the prompt were not cached, spoken_tokens were no reasoning."""
    if usage is None:
        return None
    counts: dict[str, Any] = plain(usage)
    counts["fresh_tokens"] = _difference(usage.prompt_tokens, usage.cached_tokens)
    counts["spoken_tokens"] = _spoken(usage.completion_tokens, usage.reasoning_tokens)
    return counts


def _spoken(completion: int | None, reasoning: int | None) -> int | None:
    """Some providers do not count reasoning among the completion, as is plain where there is more of it."""
    return completion if (completion or 0) < (reasoning or 0) else _difference(completion, reasoning)


def _difference(whole: int | None, part: int | None) -> int | None:
    return None if whole is None else max(0, whole - (part or 0))
