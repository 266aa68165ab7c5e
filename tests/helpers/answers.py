"""Answers in pieces, in any order that providers have; and how prx reads the bytes of one."""

from __future__ import annotations

import json
import time

from hypothesis import strategies as st

from prx.chat import Call, Delta, Part, Reply, ToolCall, ToolCallDelta, Usage
from prx.core.decode import Decoder
from prx.wire import Head, Target

TOOLS = ({"type": "function", "function": {"name": "get_weather"}}, {"type": "function", "function": {"name": "f"}})


def read(spec, data, *, stream, pieces=0):
    """([(deltas, the reply so far), …], the reply) of a body."""
    call = Call("m", ({"role": "user", "content": "hi"},), TOOLS, None, {}, stream)
    ids = iter(range(1000))
    decoder = Decoder(spec, call, Target(spec.id, "http://x"), Head(200, {}, time.time()), lambda: f"call_{next(ids)}")
    size = pieces or len(data)
    found = [(*decoder.feed(data[place : place + size]), decoder.reply()) for place in range(0, len(data), size)]
    found.append((*decoder.end(), decoder.reply()))
    for _, error, _ in found:
        if error is not None:
            raise error
    return [(deltas, reply) for deltas, _, reply in found if deltas], decoder.reply()


WORDS = st.text('ab <%{}"\\\n\ue000é\U0001f600', min_size=1, max_size=8).filter(str.strip)


@st.composite
def answers(draw):
    """([deltas, …], the reply): blocks in any order, the pieces of calls in turn, text in the middle of a call."""
    kinds = draw(st.lists(st.sampled_from(["reasoning", "text", "refusal", "call", "call"]), min_size=1, max_size=6))
    pieces, texts, calls = [], {"reasoning": "", "text": "", "refusal": ""}, []
    for kind in kinds:
        if kind == "call":
            index, arguments = len(calls), json.dumps({"city": draw(WORDS)})
            cut = draw(st.integers(0, len(arguments)))
            calls.append(ToolCall(f"call_{index}", "f", arguments))
            first = Delta(tool_calls=(ToolCallDelta(index, f"call_{index}", "f", arguments[:cut]),))
            pieces.append([first, Delta(tool_calls=(ToolCallDelta(index, None, None, arguments[cut:]),))])
        else:
            text = draw(WORDS)
            texts[kind] += text
            field = {"text": "content"}.get(kind, kind)
            pieces.append([Delta(**{field: letter}) for letter in text])
    deltas = []
    while pieces:
        row = pieces[draw(st.integers(0, min(1, len(pieces) - 1)))]
        deltas.append(row.pop(0))
        pieces = [row for row in pieces if row]
    for kind in texts:  # in the order in which they came
        texts[kind] = "".join(getattr(delta, {"text": "content"}.get(kind, kind)) or "" for delta in deltas)
    reply = Reply(
        content=texts["text"],
        reasoning=texts["reasoning"] or None,
        refusal=texts["refusal"] or None,
        tool_calls=tuple(calls),
        finish_reason="tool_calls" if calls else "stop",
        usage=Usage(3, 4, 7, 1, 2),
        parts=tuple(Part("tool_call", "", call) for call in calls),
    )
    return deltas, reply
