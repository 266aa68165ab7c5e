"""Any answer of any provider: read the same however it is cut, refused in so many words, and never made up.

Realistic answers are recordings with one of their parts swapped for anything; the rest is bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from helpers import any_json, properties, recordings
from hypothesis import example, given
from hypothesis import strategies as st

from prx import json_text
from prx.core.framing import BOM
from prx.errors import Error

ANSWERS = list(recordings.answers(errors=False))
BODIES = [answer for answer in ANSWERS if not answer.stream]
STREAMS = [answer for answer in ANSWERS if answer.stream and len(answer.body) < 5000]
LONGER = [answer for answer in ANSWERS if answer.case == "stream" and answer not in STREAMS]
CUT = [answer for answer in STREAMS if answer.case in ("stream_stop", "stream_tools", "stream_reasoning")]
DIALECTS = pytest.mark.parametrize("dialect", properties.DIALECT_NAMES)
LEADS = st.sampled_from([b"", BOM, b"\n", b"\r\n", b" ", BOM + b"\n", BOM[:2], b": hello\n\n"])
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


def name_of(answer):
    return f"{answer.dialect}-{answer.case}"


def of(dialect, answers):
    return st.sampled_from([answer for answer in answers if answer.dialect == dialect])


# ------------------------------------------------------------------ streams, taken apart and put together


def events(answer) -> list[tuple[str, Any]]:
    """A recorded stream as [(name of the event, its data), …]; data that is no JSON is a text."""
    if answer.dialect == "ollama":
        return [("", json.loads(line)) for line in answer.body.splitlines()]
    blocks = re.split(rb"\n\n", answer.body.replace(b"\r\n", b"\n").strip())
    found = (dict(line.split(b": ", 1) for line in block.splitlines()) for block in blocks)
    return [(row.get(b"event", b"").decode(), parsed(row[b"data"])) for row in found]


def parsed(data: bytes) -> Any:
    return data.decode() if data == b"[DONE]" else json.loads(data)


def written(rows, *, lines: bool, end: bytes = b"\n", lead: bytes = b"", escaped: bool = True) -> bytes:
    """Events as the bytes of a stream: lines of JSON, or server-sent events with these line ends."""
    texts = ((name, data if data == "[DONE]" else _json(data, escaped=escaped)) for name, data in rows)
    if lines:
        return lead + b"".join(text.encode() + b"\n" for _, text in texts)
    blocks = ((f"event: {name}".encode() + end if name else b"") + f"data: {text}".encode() for name, text in texts)
    return lead + b"".join(block + end + end for block in blocks)


def _json(data: Any, *, escaped: bool) -> str:
    text = json.dumps(data, ensure_ascii=escaped)
    return text if escaped else any_json.printable(text)


@st.composite
def streams(draw, dialect) -> tuple[bytes, list[tuple[str, Any]]]:
    """A recorded stream with events dropped, said twice or grafted on, and its bytes."""
    rows = list(events(draw(of(dialect, STREAMS))))
    for place in draw(st.lists(st.integers(0, len(rows) - 1), max_size=3)):
        change = draw(st.sampled_from(["graft", "graft", "graft", "drop", "again"]))
        name, data = rows[place % len(rows)]
        grafted = (name, draw(any_json.grafted(data)) if change == "graft" else data)
        rows[place % len(rows) : place % len(rows) + 1] = {"drop": [], "again": [grafted] * 2}.get(change, [grafted])
        if not rows:
            break
    return written(rows, lines=dialect == "ollama", end=draw(ENDS), lead=draw(LEADS)), rows


# ------------------------------------------------------------------ the same however it is cut, and sound


@DIALECTS
@given(data=st.data())
def test_a_stream_in_any_cuts(dialect, data):
    body, rows = data.draw(streams(dialect))
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=6))
    outcome = properties.read_alike(dialect, body, properties.pieces(body, cuts), stream=data.draw(st.booleans()))
    nothing_made_up(outcome, rows)


SAID = st.lists(
    st.text('ab "\\\n\x00\x7f\u2028é豆😀', max_size=6)
    | any_json.TEXTS
    | st.sampled_from(["\\n", "\\", "\\u0041", '"', "a"]),
    min_size=6,
    max_size=24,
)


@DIALECTS
@given(said=SAID, escaped=st.booleans(), stream=st.booleans())
def test_events_that_are_alike_but_for_their_text(dialect, said, escaped, stream):
    """A shape that is known by now is read as the first of its kind was, whatever the text is made of."""
    (answer,) = (answer for answer in STREAMS + LONGER if (answer.dialect, answer.case) == (dialect, "stream"))
    rows = events(answer)
    texts = {delta.content for delta in properties.read(dialect, [answer.body], stream=True).deltas}
    at, place = next((at, place) for at, (_, data) in enumerate(rows) for place in text_places(data, texts))
    name, data = rows[at]
    rows[at : at + 1] = [(name, any_json.put(data, place, text)) for text in said]
    body = written(rows, lines=dialect == "ollama", escaped=escaped)
    properties.read_alike(dialect, body, properties.pieces(body, range(0, len(body), 97)), stream=stream)


def text_places(data: Any, texts: set[str]) -> Iterator[tuple[Any, ...]]:
    """Where one of the texts stands in an event."""
    for place in any_json.places(data):
        found = data
        for name in place:
            found = found[name]
        if isinstance(found, str) and found in texts:
            yield place


@pytest.mark.parametrize("answer", [answer for answer in CUT if answer.case == "stream_tools"], ids=name_of)
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("lead", [b"", BOM])
def test_a_stream_byte_by_byte(answer, end, lead):
    """With text of two, three and four bytes a character in every place where there is text."""
    rows = [(name, wide(data)) for name, data in events(answer)]
    body = written(rows, lines=answer.dialect == "ollama", end=end, lead=lead)
    outcome = properties.read_alike(answer.dialect, body, properties.singles(body), stream=True)
    assert outcome.error is None
    assert outcome.reply.finish_reason


def wide(value: Any) -> Any:
    """The value with every text that is content made one of wide characters."""
    if isinstance(value, dict):
        return {key: f"{item}é豆😀" if key in ("content", "text") and isinstance(item, str) else wide(item) for key, item in value.items()}  # fmt: skip
    return [wide(item) for item in value] if isinstance(value, list) else value


@DIALECTS
@given(data=st.data())
def test_a_body_with_anything_in_it(dialect, data):
    body = data.draw(any_json.grafted(json.loads(data.draw(of(dialect, BODIES)).body)))
    text = json.dumps(body).encode()
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=4))
    for stream in (False, True):
        outcome = properties.read_alike(dialect, text, properties.pieces(text, cuts), stream=stream)
        nothing_made_up(outcome, [("", body)])


@DIALECTS
@given(
    body=st.binary(max_size=60) | any_json.JSON.map(lambda value: json.dumps(value).encode()),
    stream=st.booleans(),
    lead=LEADS,
)
def test_any_bytes(dialect, body, stream, lead):
    properties.read_alike(dialect, lead + body, properties.singles(lead + body), stream=stream)


@DIALECTS
@pytest.mark.parametrize("stream", [False, True])
def test_deep_nesting_at_every_place(dialect, stream):
    """What is too deep to be written again is not taken for JSON, wherever it stands."""
    case = "stream_tools" if stream else "tools"
    (answer,) = (answer for answer in ANSWERS if (answer.dialect, answer.case) == (dialect, case))
    for name, data in events(answer) if stream else [("", parsed(answer.body))]:
        for place in any_json.places(data) if isinstance(data, dict) else ():
            marked = written([(name, any_json.put(data, place, "HERE"))], lines=not stream or dialect == "ollama")
            for depth in (190, 300, 900):
                body = marked.replace(b'"HERE"', b"[" * depth + b"]" * depth)
                outcome = properties.read(dialect, [body], stream=stream)
                assert depth < 200 or outcome.error


@pytest.mark.parametrize(
    "content", [{"\udfaa": 0}, ["\udfaa"], [{"type": "text", "text": "\udfaa"}], "\udfaa"], ids=repr
)
def test_what_cannot_be_encoded_is_printed_all_the_same(content):
    body = {"choices": [{"message": {"content": content}, "finish_reason": "stop"}]}
    outcome = properties.read("openai-chat", [json.dumps(body).encode()], stream=False)
    assert "\ufffd" in outcome.reply.content


@pytest.mark.parametrize("lead", [BOM + BOM, b" " + BOM, BOM + b"\n" + BOM], ids=repr)
@pytest.mark.parametrize("answer", [answer for answer in ANSWERS if answer.case == "stream_stop"], ids=name_of)
@pytest.mark.parametrize("stream", [True, False])
def test_one_byte_order_mark_is_taken_off(answer, stream, lead):
    """The first: any other is as wrong in one piece as it is in many."""
    properties.read_alike(answer.dialect, lead + answer.body, properties.singles(lead + answer.body), stream=stream)


PIECES = st.sampled_from(
    [
        *(b"data: ", b"data:", b"event: error", b"event: ", b"id: 1", b": ", b"\n", b"\r", b"\r\n", b"\n\n", b" "),
        *(b"{", b"}", b"[", b"]", b'"', b'"a":', b"1", b",", b"[DONE]", b"null", b'{"error":"x"}', b"<html>", b"\xff", BOM),
        *(b'{"choices":[{"delta":{"content":"a"}}]}', b'{"message":{"content":"a"},"done":true,"done_reason":"stop"}'),
        *(b'{"type":"content_block_delta","delta":{"type":"text_delta","text":"a"}}', b'{"candidates":[{"content":{"parts":[{"text":"a"}]}}]}'),
    ]
)  # fmt: skip


@DIALECTS
@given(pieces=st.lists(PIECES, max_size=12), stream=st.booleans())
def test_any_pieces_of_a_stream(dialect, pieces, stream):
    body = b"".join(pieces)
    properties.read_alike(dialect, body, pieces, stream=stream)
    properties.read_alike(dialect, body, properties.singles(body), stream=stream)


# ------------------------------------------------------------------ nothing is made up


def nothing_made_up(outcome: properties.Outcome, rows) -> None:
    """Each text handed out stands in the events, in their order. Text held back for a tag's end may join two events."""
    texts = list(any_json.texts([data for _, data in rows]))
    for delta in outcome.deltas:
        thought = (delta.reasoning or "").lstrip("\n")  # between two thoughts, a blank line is ours
        for piece in (delta.content, thought):
            if piece and "<" not in piece and ">" not in piece:
                assert stands(piece, texts), f"{piece!r} is nowhere in {texts}"
    assert stands(outcome.text, texts) or in_order(outcome.text, "".join(texts))


def stands(piece: str, texts: list[str]) -> bool:
    """Whether one of the texts has it, or it is several of them, joined; JSON of found parts is of texts that are there."""
    return (
        any(piece in text for text in texts)
        or any(piece.startswith(text) and stands(piece[len(text) :], texts) for text in texts if text)
        or (piece[:1] in "[{" and all(text in texts for text in any_json.leaves(json_text.parsed(piece))))
    )


def in_order(piece: str, whole: str) -> bool:
    left = iter(whole)
    return all(character in left for character in piece)


@pytest.mark.parametrize("answer", CUT, ids=name_of)
def test_a_stream_that_is_cut_short(answer):
    """Truncated with the beginning of the answer; whole only where the provider had said that it is over."""
    whole = properties.read(answer.dialect, [answer.body], stream=True)
    assert whole.error is None
    for place in cuts_of(len(answer.body)):
        short = properties.read(answer.dialect, [answer.body[:place]], stream=True)
        assert whole.text.startswith(short.text)
        assert whole.thought.startswith(short.thought)
        if short.error is None:
            assert short.reply.finish_reason == whole.reply.finish_reason
            assert (short.text, short.thought) == (whole.text, whole.thought)
            assert [call[1:] for call in short.reply.tool_calls] == [call[1:] for call in whole.reply.tool_calls]
        else:
            assert short.error.kind in ("truncated", "protocol"), place


def cuts_of(length: int) -> Iterator[int]:
    """Some 600 places: every one near the end, and steps that share no factor with what the events are made of."""
    yield from range(0, length - 300, 1 + length // 500)
    yield from range(max(0, length - 300), length)


# ------------------------------------------------------------------ refusals

HEADERS = st.dictionaries(
    st.sampled_from(["retry-after", "retry-after-ms", "content-type", "location", "x-request-id"]),
    st.text(max_size=20)
    | st.sampled_from(["5", "-1", "nan", "inf", "1e400", "Wed, 21 Oct 2015 07:28:00 GMT", "Mon, 01 Jan 0001 00:00:00 -2400", "text/html"]),
)  # fmt: skip
REFUSALS = st.sampled_from(
    [
        {"error": {"message": "a", "code": "b", "type": "c", "status": 1, "details": [{"retryDelay": "5s"}]}},
        {"error": "a", "message": "b", "detail": [{"msg": "c"}], "errors": [{"message": "d"}], "code": 5},
        [{"error": {"message": "a", "code": 429}}],
    ]
)


@DIALECTS
@given(
    status=st.sampled_from([301, 400, 401, 402, 403, 404, 413, 422, 429, 500, 503, 529]) | st.integers(300, 999),
    headers=HEADERS,
    body=st.binary(max_size=40) | REFUSALS.flatmap(any_json.grafted).map(lambda value: json.dumps(value).encode()),
)
@example(429, {}, b'{"error":{"details":[{"retryDelay":1%s}]},"retry_after":1%s}' % (b"0" * 400, b"0" * 400))
@example(500, {}, b'{"error":' + b"[" * 600 + b"]" * 600 + b"}")
def test_any_refusal(dialect, status, headers, body):
    properties.refusal(dialect, status, headers, body)


@DIALECTS
def test_a_key_that_an_error_repeats_is_masked(dialect):
    """However it is written: the law looks for the key in all that an error says."""
    escaped = "".join(f"\\u{ord(character):04x}" for character in properties.KEY)
    for text in (properties.KEY, escaped):
        error: Error = properties.refusal(dialect, 401, {}, f'{{"error":{{"message":"no {text}"}}}}'.encode())
        assert "***" in error.message
