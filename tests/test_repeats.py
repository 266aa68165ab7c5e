"""Events alike but for their text: read without parsing where that is certain, and then exactly as if they were parsed."""

from __future__ import annotations

import json

import pytest
from helpers import driver_without_io, properties
from hypothesis import example, given
from hypothesis import strategies as st

from prx.core import decode, repeats
from prx.core.decode import Decoder
from prx.wire import Head

DIALECTS = {
    "openai-chat": lambda text, n: sse({"id": "c", "created": 1700000000 + n // 7, "model": "m", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}], "obfuscation": "x" * (n % 5)}),
    "openai-responses": lambda text, n: sse({"type": "response.output_text.delta", "item_id": "i", "output_index": 0, "content_index": 0, "delta": text, "sequence_number": 4 + n}, "response.output_text.delta"),
    "anthropic-messages": lambda text, _: sse({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}, "content_block_delta"),
    "gemini": lambda text, _: sse({"candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}], "modelVersion": "m"}),
    "cohere-v2": lambda text, _: sse({"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": text}}}}, "content-delta"),
    "ollama": lambda text, n: json.dumps({"model": "m", "created_at": f"2026-01-01T00:00:{n % 60:02d}Z", "message": {"role": "assistant", "content": text}, "done": False}, ensure_ascii=False).encode() + b"\n",
}  # fmt: skip
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=0, max_size=6) | st.sampled_from(
    [" word", "\n", '"', "\\", "<think>", "</think>", "<", "й", "\u200b", "\x7f0\x7f", "data: ", "{", "0"]
)


def sse(event, name="", *, escaped=False):
    line = f"data: {json.dumps(event, ensure_ascii=escaped)}\n\n"
    return (f"event: {name}\n{line}" if name else line).encode()


def looked_at(monkeypatch):
    """The events that are parsed from now on."""
    parsed = []
    read = decode.read_json

    def counted(text):
        parsed.append(text)
        return read(text)

    monkeypatch.setattr(decode, "read_json", counted)
    return parsed


@pytest.mark.parametrize("dialect", sorted(set(DIALECTS) - {"gemini"}))  # whose parts are given back, so each is parsed
def test_most_events_are_not_parsed(dialect, monkeypatch):
    texts = [f" word{n}" for n in range(200)]
    data = [DIALECTS[dialect](text, n) for n, text in enumerate(texts)]
    parsed = looked_at(monkeypatch)
    outcome = properties.read(dialect, data, stream=True)
    assert outcome.reply.content == "".join(texts)
    assert len(outcome.deltas) == 200
    events = [text for text in parsed if "word" in str(text)]
    assert len(events) < 40, "a few are parsed, to see what they share"


def test_what_changes_seldom_is_learnt(monkeypatch):
    """A time in seconds, which is the same in most events that follow each other."""
    texts = [f" word{n}" for n in range(1000)]
    data = [DIALECTS["openai-chat"](text, n // 10) for n, text in enumerate(texts)]
    parsed = looked_at(monkeypatch)
    assert properties.read("openai-chat", data, stream=True).reply.content == "".join(texts)
    assert len([text for text in parsed if "word" in str(text)]) < 100


@pytest.mark.parametrize("dialect", DIALECTS)
@given(texts=st.lists(TEXTS, min_size=8, max_size=30), data=st.data())
@example(texts=["a", "b", "c", "d", "e", '\\"', "\\u0041", "é", "\u2028", "<th", "ink>", "deep", "</think>", "ok"], data=None)  # fmt: skip
def test_they_are_read_as_if_they_were_parsed(dialect, texts, data):
    body = b"".join(DIALECTS[dialect](text, n) for n, text in enumerate(texts))
    places = data.draw(st.lists(st.integers(0, len(body)), max_size=4)) if data else [7, 100]
    properties.read_alike(dialect, body, properties.pieces(body, places), stream=True)


@pytest.mark.parametrize(
    ("response", "why"),
    [
        ({"reasoning": "choices[0].delta.content == 'c' && 'thinks'"}, "compares the text"),
        ({"reasoning": "contains(choices[0].delta.content, 'c') && 'thinks'"}, "searches the text"),
        ({"refusal": "length(choices[0].delta.content) > `2` && 'no'"}, "measures the text"),
        ({"content": "choices[0].delta.content || to_string(choices[0])"}, "has another place for a text"),
        ({"refusal": "to_string(choices[0].delta) == '{}' && 'no'"}, "writes out what has the text in it"),
        ({"refusal": "starts_with(obfuscation, 'xx') && 'no'"}, "looks at what differs, too"),
        ({"usage": "created > `1700000001` && {prompt_tokens: `1`}"}, "looks at a number that differs"),
    ],
)
def test_a_reader_that_looks_into_a_text_is_asked_about_each(response, why):
    spec = driver_without_io.definition({"extends": "openai-chat", "stream": response})
    texts = ["a", "b", "d", "e", "f", "c", "abc", "g"] * 4
    events = [{"data": json.loads(DIALECTS["openai-chat"](text, n)[6:])} for n, text in enumerate(texts)]
    answers = [{"events": [*events, "[DONE]"]}]
    with_repeats = driver_without_io.play(
        {"extends": "openai-chat", "stream": response}, {"stream": True}, answers, retries=0
    )
    never = repeats._FIRST_TRY
    try:
        repeats._FIRST_TRY = 10**9
        without = driver_without_io.play(
            {"extends": "openai-chat", "stream": response}, {"stream": True}, answers, retries=0
        )
    finally:
        repeats._FIRST_TRY = never
    assert spec.id == "played"
    assert with_repeats.view() == without.view(), why


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (b'data: {"a": "x", "b": 1}', b'data: {"a": "y", "c": 1}'),  # another key
        (b'data: {"a": "x"}', b'data: {"a": null}'),  # another type
        (b'data: {"a": "x"}', b'data: {"a": "y", "b": 1}'),  # another form
        (b'data: {"a": 1.5, "t": "x"}', b'data: {"a": 2.5, "t": "y"}'),  # a fraction
        (b"data: [1]", b"data: [2]"),  # no object
        (b'data: {"t": "x"}\ndata: ', b'data: {"t": "y"}\ndata: '),  # two lines of data
        (b'id: 1\ndata: {"t": "x"}', b'id: 2\ndata: {"t": "y"}'),  # another head
        (b'data: {"t": "x"}', b'data: {"t": "x"}'),  # no difference
    ],
)
def test_what_has_no_repeat(first, second):
    assert repeats.repeat_of(first, second, lambda event: event.get("t") or event.get("a")) is None


def test_what_fits_a_repeat():
    first, second = (sse({"n": n, "t": text, "z": "q"}).strip() for n, text in ((11, "one"), (12, "two")))
    made = repeats.repeat_of(first, second, lambda event: event["t"])
    assert made.text(sse({"n": 130, "t": "three", "z": "q"}).strip()) == "three"
    for event in (
        {"n": 13, "t": 'say "x"', "z": "q"},  # an escape
        {"n": 13, "t": "", "z": "q"},
        {"n": 13, "t": "x", "z": "r"},
        {"n": "13", "t": "x", "z": "q"},
        {"n": 13, "t": ["x"], "z": "q"},
        {"n": 13, "t": "x", "z": "q", "error": "y"},
    ):
        assert made.text(sse(event).strip()) is None, event
    assert made.text(b'data: {"n": 013, "t": "x", "z": "q"}') is None, "no number of JSON's"
    assert made.text(b'data: {"n": 13, "t": "a\tb", "z": "q"}') is None, "no text of JSON's"


def test_nobody_can_look_into_a_marked_value():
    for look in (
        lambda value: value == "x", lambda value: value != "x", lambda value: value < "x", lambda value: value in {"x", "y"}, len,
        lambda value: "x" in value, lambda value: json.dumps({"a": value}), lambda value: f"{value}", lambda value: {value: 1}, lambda value: value + "x",
    ):  # fmt: skip
        with pytest.raises((repeats._RevealedError, TypeError)):
            look(repeats._Marked(str, is_text=True))
    assert bool(repeats._Marked(str, is_text=True))
    with pytest.raises(repeats._RevealedError):
        bool(repeats._Marked(str, is_text=False))


@pytest.mark.parametrize("dialect", sorted(set(DIALECTS) - {"gemini"}))
def test_what_earlier_streams_have_shown_need_not_be_seen_again(dialect, monkeypatch):
    """From the second stream on one event is parsed, although each stream has a name and a time of its own."""
    spec, target = properties.given(dialect)
    fresh = spec._replace(), target  # which no other test has used
    monkeypatch.setattr(properties, "given", lambda _: fresh)
    counts = []
    for number in range(4):
        texts = [f" word{n}" for n in range(20)]
        whole = b"".join(DIALECTS[dialect](text, n) for n, text in enumerate(texts))
        data = [whole.replace(b'"c"', b'"c%d"' % number).replace(b"1700000000", b"17000000%02d" % number)]
        parsed = looked_at(monkeypatch)
        assert properties.read(dialect, data, stream=True).reply.content == "".join(texts)
        counts.append(sum("word" in str(text) for text in parsed))
    assert counts[0] > 3
    assert counts[1:] == [1, 1, 1]


def test_a_form_that_changes_from_stream_to_stream_is_tried_less_and_less(monkeypatch):
    made = []
    monkeypatch.setattr(repeats, "repeat_of", lambda *_: made.append(1))
    known = repeats.Known(b"first")
    for _ in range(1000):
        known.repeat(b"other", lambda _: None)
    assert 5 < len(made) < 12


def test_what_earlier_streams_have_shown_does_not_hide_that_there_are_several_answers():
    """While an event of another number is held, the next number says which events are the answer's."""
    spec, target = properties.given("openai-chat")
    fresh = spec._replace()

    def read(events):
        decoder = Decoder(fresh, properties.call(stream=True), target, Head(200, {}, 0.0), lambda: "made")
        return "".join(delta.content or "" for event in events for delta in decoder.feed(event)[0])

    def numbered(index, text):
        return DIALECTS["openai-chat"](text, 0).replace(b'"index": 0', b'"index": %d' % index)

    three = [numbered(*each) for each in ((0, "a"), (1, "b"), (0, "c"), (2, "d"), (0, "e"), (1, "f"), (2, "g"))]
    assert read(three) == "ace"
    alone = [numbered(0, f"w{number}") for number in range(6)]
    assert [read(alone) for _ in range(2)] == ["w0w1w2w3w4w5"] * 2
    assert read(three) == "ace"
    assert read([*alone, *three]) == "w0w1w2w3w4w5ace"
