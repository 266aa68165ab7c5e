"""Both halves of each dialect's file, judged by readers and writers that were written by hand.

What one half of a file writes and the other reads may be wrong in both; tests/judges/dialects shares nothing with either, and
refuses what real servers and clients would.
"""

from __future__ import annotations

import json
import struct
from base64 import b64encode
from urllib.parse import parse_qsl

import pytest
from helpers.answers import answers, read
from hypothesis import example, given
from hypothesis import strategies as st
from judges.dialects import find
from judges.dialects.answers import READERS, Heard
from judges.dialects.asks import WRITERS
from judges.dialects.common import Asked
from judges.dialects.meaning import meant

from prx import arguments
from prx.chat import Call, Reply
from prx.conformance import cases
from prx.core.request import build
from prx.core.weave import Identity, Weaver
from prx.emulator.brain import Answer, deltas_of, reply_of
from prx.emulator.common import Head, RefusedError
from prx.emulator.faces import Faces
from prx.errors import CapabilityError
from prx.spec.loader import Loader
from prx.wire import Target

CASES = [case for case in cases.load() if case.ask in ("chat", "stream") and case.name not in ("overlong", "wrong_key")]
FORMLESS = {("ollama", "tool_required"), ("ollama", "tool_named")}
# How many of the last counts of an answer are not told: by hand, and by a face.
NOT_BY_HAND = {"cohere-v2": 1, "ollama": 2}
NOT_BY_FACE = {"anthropic-messages": 1, "ollama": 2}
FACES = {face.id: face for face in Loader().faces()}
SPOKEN = Faces({})
IDENTITY = Identity("abc", "words", 1_767_225_600, "2026-01-01T00:00:00Z")
each_dialect = pytest.mark.parametrize("dialect", [*WRITERS])
whole_and_streamed = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@pytest.fixture(scope="module")
def spec_of(tmp_path_factory):
    """A function: the spec of a provider that has nothing but its dialect."""
    folder = tmp_path_factory.mktemp("providers")
    for dialect in WRITERS:
        can = "capabilities: {vision: true, reasoning: true, tools: true, json_schema: true}"
        (folder / f"by-{dialect}.yaml").write_text(f"spec: 1\nid: by-{dialect}\nextends: {dialect}\n{can}\n")
    loader = Loader([folder])
    return lambda dialect, model="words": loader.get(f"by-{dialect}").spec(model)


def test_every_dialect_is_judged():
    """One has no face; test_converse_by_hand.py judges it."""
    assert {*WRITERS} == {*READERS} == {*FACES} == {*Loader().dialects()} - {"json-http", "bedrock-converse"}


def heard_by_hand(path, body):
    """A request as the hand-written reader of its path reads it. Raises RefusedError."""
    place, _, query = path.partition("?")
    bound = find(Head("POST", place, dict(parse_qsl(query)), {}), {})
    return bound.read(json.loads(json.dumps(body)))


# ------------------------------------------------------------------ what prx sends


def wanted(case, spec):
    """What a case asks for, from its own text."""
    call = case.call
    tools = [] if call.get("tool_choice") == "none" else call.get("tools", [])
    stop = call.get("stop", [])
    return Asked(
        "words",
        arguments.messages(call["messages"]),
        tools,
        stream=case.ask == "stream",
        reason=call.get("reasoning_effort") not in (None, "none"),
        limit=call.get("max_tokens"),
        stop=[stop] if isinstance(stop, str) else stop,
    )


def sent(case, spec):
    """The path and the body that prx sends for a case."""
    call = dict(case.call)
    messages, tools, choice = call.pop("messages"), call.pop("tools", None), call.pop("tool_choice", None)
    made = Call(
        "words", tuple(arguments.messages(messages)), arguments.tools(tools), choice, call, case.ask == "stream"
    )
    request = build(spec, made, Target(spec.id, "http://x/v1"))
    return request.url.removeprefix("http://x"), json.loads(request.body)


@each_dialect
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_sent_for_a_case_means_what_it_says(spec_of, dialect, case):
    spec = spec_of(dialect)
    if (dialect, case.name) in FORMLESS:
        with pytest.raises(CapabilityError):
            sent(case, spec)
        return
    path, body = sent(case, spec)
    asked, meaning = meant(heard_by_hand(path, body)), meant(wanted(case, spec))
    if (
        case.call.get("max_tokens") is None or meaning["reason"]
    ):  # a limit may be needed, or be raised by what thoughts take
        assert (asked.pop("limit") or 1) >= (meaning.pop("limit") or 1)
    assert asked == meaning


# ------------------------------------------------------------------ what prx is answered

TEXTS = st.text('ab <{}"\\\né\U0001f600', min_size=1, max_size=6).map(lambda text: f" {text}x")


def ended(answer):
    """An answer that can be: with words or calls; an end with calls is one of its own kind."""
    words = answer.words if answer.words or answer.calls else [" so"]
    finish = "tool_calls" if answer.calls else answer.finish
    return Answer(words, answer.reasoning, answer.calls, finish, answer.prompt_tokens, answer.cached_tokens)


ANSWERS = st.builds(
    Answer,
    words=st.lists(TEXTS, max_size=4),
    reasoning=st.lists(TEXTS, max_size=3),
    calls=st.lists(
        st.tuples(st.sampled_from(["get_weather", "f"]), st.dictionaries(st.sampled_from("abc"), TEXTS)), max_size=3
    ),
    finish=st.sampled_from(["stop", "length"]),
    prompt_tokens=st.integers(50, 99),
    cached_tokens=st.integers(0, 49),
).map(ended)


FULL = Answer([" one", " two"], [" hm", " so"], [("get_weather", {"city": "Paris"}), ("f", {})], "tool_calls", 60, 20)
CUT = Answer([" one"], [" hm"], [], "length", 60, 20)


def counts(answer, missing):
    all_of_them = (answer.prompt_tokens, answer.completion_tokens, answer.cached_tokens, len(answer.reasoning))
    return (*all_of_them[: 4 - missing], *([0] * missing))


@whole_and_streamed
@each_dialect
@example(answer=FULL)
@example(answer=CUT)
@given(answer=ANSWERS)
def test_what_is_written_by_hand_is_read_as_meant(spec_of, dialect, stream, answer):
    """The texts of a stream cut into pieces of 40 bytes."""
    path, body = WRITERS[dialect](Asked("words", [{"role": "user", "content": [{"type": "text", "text": "hi"}]}], stream=stream, limit=9))  # fmt: skip
    bound = find(Head("POST", path.partition("?")[0], {}, {}), {})
    asked = bound.read(body)
    data = b"".join(bound.events(answer, asked)) if stream else json.dumps(bound.whole(answer, asked)).encode()
    _, reply = read(spec_of(dialect), data, stream=stream, pieces=40 if stream else 0)
    assert reply.content == answer.text
    assert (reply.reasoning or "") == "".join(answer.reasoning)
    assert [(call.name, json.loads(call.arguments)) for call in reply.tool_calls] == answer.calls
    assert reply.finish_reason == answer.finish
    usage = reply.usage
    found = (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens or 0, usage.reasoning_tokens or 0)
    assert found == counts(answer, NOT_BY_HAND.get(dialect, 0))


# ------------------------------------------------------------------ what a face writes


def hand_read(dialect, weaver, answer, stream):
    reply = reply_of(answer, "words")
    if not stream:
        return READERS[dialect].whole(json.loads(json.dumps(weaver.body(reply))))
    made = b"".join([*(weaver.feed([delta], lambda: reply) for delta in deltas_of(answer)), weaver.end(reply)])
    return READERS[dialect].stream(made.decode())


@whole_and_streamed
@each_dialect
@example(answer=FULL)
@example(answer=CUT)
@given(answer=ANSWERS)
def test_what_a_face_writes_is_read_by_hand_as_meant(dialect, stream, answer):
    weaver = Weaver(FACES[dialect], {"stream_options": {"include_usage": True}}, IDENTITY)
    heard = hand_read(dialect, weaver, answer, stream)
    assert heard == Heard("".join(answer.reasoning), answer.text, answer.calls, answer.finish, heard.counts)
    assert tuple(count or 0 for count in heard.counts) == counts(answer, NOT_BY_FACE.get(dialect, 0))


@each_dialect
@example(pieces=([*deltas_of(FULL)], reply_of(FULL, "words")))
@given(pieces=answers())
def test_pieces_in_any_order_keep_the_grammar_of_each_dialect(dialect, pieces):
    deltas, reply = pieces
    deltas = [delta for delta in deltas if not delta.refusal]
    reply = reply._replace(refusal=None)
    weaver = Weaver(FACES[dialect], {"stream_options": {"include_usage": True}}, IDENTITY)
    made = b"".join([*(weaver.feed([delta], lambda: reply) for delta in deltas), weaver.end(reply)])
    heard = READERS[dialect].stream(made.decode())
    assert sorted(heard.text) == sorted(reply.content)
    assert sorted(heard.reasoning) == sorted(reply.reasoning or "")
    given_ = [(call.name, json.loads(call.arguments)) for call in reply.tool_calls]
    assert sorted(map(str, heard.calls)) == sorted(map(str, given_))


NEEDED = {
    "openai-chat": "choices", "openai-responses": "parallel_tool_calls", "anthropic-messages": "stop_reason", "gemini": "candidates", "cohere-v2": "message",
    "ollama": "done",
}  # fmt: skip


@each_dialect
def test_readers_of_answers_refuse_what_is_odd(dialect):
    """So that the above proves something; what readers of requests refuse is in test_roundtrip.py."""
    weaver = Weaver(FACES[dialect], {"stream_options": {"include_usage": True}}, IDENTITY)
    body = weaver.body(reply_of(FULL, "words"))
    with pytest.raises(RefusedError, match=r"odd: not permitted"):
        READERS[dialect].whole({**body, "odd": 1})
    with pytest.raises(RefusedError, match=f"{NEEDED[dialect]}: missing"):
        READERS[dialect].whole({name: value for name, value in body.items() if name != NEEDED[dialect]})
    made = b"".join([*(weaver.feed([delta], Reply) for delta in deltas_of(FULL)), weaver.end(reply_of(FULL, "words"))])
    events = made.decode().splitlines(keepends=True)
    assert READERS[dialect].stream("".join(events))
    for cut in (2, 4):
        with pytest.raises((RefusedError, KeyError, ValueError)):
            READERS[dialect].stream("".join(events[:-cut]))


# ------------------------------------------------------------------ what a face is asked

PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + struct.pack(">II", 3, 2)
PICTURE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{b64encode(PNG).decode()}"}}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}}


def text_part(text):
    return {"type": "text", "text": text}


@st.composite
def requests(draw):
    """A conversation in the common form: texts, pictures, calls and their results, and at last a text of the user."""
    messages = [{"role": "system", "content": [text_part(draw(TEXTS))]}] if draw(st.booleans()) else []
    number = 0
    for kind in draw(st.lists(st.sampled_from(["answered", "called", "interrupted", "said"]), max_size=3)):
        pictures = [PICTURE] if draw(st.booleans()) else []
        messages.append({"role": "user", "content": [text_part(draw(TEXTS)), *pictures]})
        if kind in ("called", "interrupted"):
            calls = [(f"call_{number + place}", draw(TEXTS)) for place in range(draw(st.integers(1, 3)))]
            number += len(calls)
            made = [
                {"id": given, "type": "function", "function": {"name": "get_weather", "arguments": json.dumps({"city": city})}}
                for given, city in calls
            ]  # fmt: skip
            content = [text_part(draw(TEXTS))] if draw(st.booleans()) else []
            messages.append({"role": "assistant", "content": content, "tool_calls": made})
            messages += [
                {"role": "tool", "tool_call_id": given, "content": [text_part(draw(TEXTS))]} for given, _ in calls
            ]
        if kind in ("answered", "called"):
            messages.append({"role": "assistant", "content": [text_part(draw(TEXTS))]})
    messages.append({"role": "user", "content": [text_part(draw(TEXTS))]})
    return Asked(
        "words",
        messages,
        draw(st.sampled_from([[], [WEATHER]])),
        stream=draw(st.booleans()),
        reason=draw(st.booleans()),
        limit=draw(st.integers(2000, 3000)),
        stop=draw(st.lists(TEXTS, max_size=2)),
    )


def called(*ids):
    made = {"type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
    return {
        "role": "assistant",
        "content": [text_part("I will ask.")],
        "tool_calls": [{"id": given_, **made} for given_ in ids],
    }


def result(given_):
    return {"role": "tool", "tool_call_id": given_, "content": [text_part(f"of {given_}")]}


ALL_AT_ONCE = Asked(
    "words",
    [
        {"role": "system", "content": [text_part("Be brief.")]},
        {"role": "user", "content": [text_part("What is this?"), PICTURE]},
        {"role": "assistant", "content": [text_part("A picture.")]},
        {"role": "user", "content": [text_part("And the weather?")]},
        called("call_1", "call_2"),
        result("call_1"),
        result("call_2"),
        {"role": "assistant", "content": [text_part("Sunny.")]},
        {"role": "user", "content": [text_part("And now?")]},
        called("call_3"),
        result("call_3"),
        {"role": "user", "content": [text_part("Never mind.")]},
    ],
    [WEATHER],
    stream=True,
    reason=True,
    limit=2000,
    stop=["one", "two"],
)


@each_dialect
@example(asked=ALL_AT_ONCE)
@given(asked=requests())
def test_what_is_asked_by_hand_is_accepted_as_meant(dialect, asked):
    """And read by the other hand: a writer that is wrong would prove nothing."""
    path, body = WRITERS[dialect](asked)
    place, _, query = path.partition("?")
    accepted = SPOKEN.find(Head("POST", place, dict(parse_qsl(query)), {})).read(json.loads(json.dumps(body)))
    meaning = meant(asked)
    if dialect == "openai-responses":  # which has no such parameter
        meaning["stop"] = []
    assert meant(heard_by_hand(path, body)) == meaning
    assert meant(accepted) == meaning
