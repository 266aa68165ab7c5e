"""What is done to messages: pictures in markers, system messages merged, the view that templates read."""

from __future__ import annotations

from types import MappingProxyType

import pytest

from prx import arguments
from prx.chat import Call
from prx.core.messages import data_url, expand_images, turns
from prx.core.request import build_body
from prx.core.shape import merge_system, prepared
from prx.lang.compiled import Expressions
from prx.spec.model import Request

PNG = "data:image/png;base64,AAAA"
JPG = "data:image/jpeg;base64,BBBB"


def text(words):
    return {"type": "text", "text": words}


def image(url):
    return {"type": "image_url", "image_url": {"url": url}}


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("no marker", "no marker"),
        (f"look [IMAGE:{PNG}] here", [text("look "), image(PNG), text(" here")]),
        (f"[IMAGE:{PNG}]", [image(PNG)]),
        (f"first [IMAGE:{PNG}] second [IMAGE:{JPG}]", [text("first "), image(PNG), text(" second "), image(JPG)]),
        (f"[IMAGE:{PNG}][IMAGE:{JPG}]", [image(PNG), image(JPG)]),
        (f"[IMAGE: {PNG} ]", [image(PNG)]),
        ("[IMAGE:]", "[IMAGE:]"),
        (f"[IMAGE:{PNG}", f"[IMAGE:{PNG}"),
        ("[IMAGE:/etc/passwd]", "[IMAGE:/etc/passwd]"),
        ("[IMAGE:https://x.example/a.png]", "[IMAGE:https://x.example/a.png]"),
        (f"[image:{PNG}]", f"[image:{PNG}]"),
        (f"a [IMAGE:] b [IMAGE:{PNG}]", [text("a [IMAGE:] b "), image(PNG)]),
        ([text(f"x [IMAGE:{PNG}]"), text("y")], [text("x "), image(PNG), text("y")]),
    ],
)
def test_markers(content, wanted):
    message = {"role": "user", "content": content}
    assert expand_images([message], data_url) == [{"role": "user", "content": wanted}]


@pytest.mark.parametrize("role", ["system", "assistant", "tool"])
def test_markers_of_others_stay_text(role):
    message = {"role": role, "content": f"[IMAGE:{PNG}]"}
    assert expand_images([message], data_url) == [message]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([("system", "S"), ("user", "U")], [("user", "S\n\nU")]),
        (
            [("system", "S"), ("assistant", "A"), ("user", "U"), ("user", "V")],
            [("assistant", "A"), ("user", "S\n\nU"), ("user", "V")],
        ),
        ([("system", "S"), ("developer", "D"), ("user", "U")], [("user", "S\n\nD\n\nU")]),
        ([("user", "U"), ("system", "S")], [("user", "S\n\nU")]),
        ([("system", "S"), ("assistant", "A")], [("user", "S"), ("assistant", "A")]),
        ([("system", ""), ("user", "U")], [("user", "U")]),
        ([("user", "U")], [("user", "U")]),
    ],
)
def test_system_messages_merged(before, after):
    made = merge_system([{"role": role, "content": content} for role, content in before])
    assert [(message["role"], message["content"]) for message in made] == after


def test_system_messages_merged_into_parts():
    made = merge_system([{"role": "system", "content": "S"}, {"role": "user", "content": [image(PNG)]}])
    assert made == [{"role": "user", "content": [text("S\n\n"), image(PNG)]}]


def test_the_callers_messages_are_not_touched():
    given = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
    merge_system(given)
    assert given == [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]


def test_turns():
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    odd = {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "not json"}}
    made = turns(
        [
            {"role": "system", "content": "S"},
            {
                "role": "user",
                "content": [
                    "plain",
                    text("U"),
                    image(PNG),
                    image("https://x.example/a"),
                    {"type": "input_audio", "input_audio": {"data": "A"}},
                    {"type": "file", "file": {"id": 1}},
                ],
            },
            {"role": "assistant", "content": "A", "reasoning_content": "R", "tool_calls": [call, odd]},
            {"role": "tool", "tool_call_id": "c1", "content": "one"},
            {"role": "tool", "tool_call_id": "c2", "content": [text("two"), text("three")]},
            {"role": "user", "content": ""},
        ]
    )
    assert [(turn["role"], [part["type"] for part in turn["parts"]]) for turn in made] == [
        ("user", ["text", "text", "image", "image", "audio", "file"]),
        ("assistant", ["reasoning", "text", "tool_call", "tool_call"]),
        ("tool", ["tool_result", "tool_result"]),
    ], "a message that says nothing makes no turn"
    picture, address = made[0]["parts"][2:4]
    assert (picture["source"], picture["media_type"], picture["data"], picture["role"]) == (
        "data",
        "image/png",
        "AAAA",
        "user",
    )
    assert (address["source"], address["url"]) == ("url", "https://x.example/a")
    first, second = made[1]["parts"][2:]
    assert (first["id"], first["name"], first["arguments"], first["input"]) == ("c1", "f", '{"a": 1}', {"a": 1})
    assert second["input"] == {"input": "not json"}
    results = made[2]["parts"]
    assert [(part["id"], part["name"], part["text"]) for part in results] == [
        ("c1", "f", "one"),
        ("c2", "g", "two\nthree"),
    ]


@pytest.mark.parametrize("dialect", ["openai-chat", "anthropic-messages", "gemini"])
def test_mappings_and_tuples_are_read_as_json_reads_them(tmp_path, dialect):
    """A tool whose parts are of another kind of mapping, contents and stops in tuples: none of it is dropped."""
    from collections import OrderedDict
    from types import MappingProxyType

    import prx

    (tmp_path / "mine.yaml").write_text(
        f"spec: 1\nid: mine\nname: M\nextends: {dialect}\nbase_url: http://localhost:1/v1\nauth: {{style: none}}\n"
    )
    client = prx.Client({}, tmp_path, env={})

    def body(tool, content, stop):
        account, call = client.plan(
            [{"role": "user", "content": content}], "mine/m", tools=[tool], params={"stop": stop, "max_tokens": 5}
        )
        return build_body(account.definition.spec(), call)

    function = {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {"a": {"enum": ["b"]}}}}
    parts = [{"type": "text", "text": "hello"}]
    plain = body({"type": "function", "function": function}, parts, ["a", "b"])
    for kind in (OrderedDict, MappingProxyType):
        other = body(kind({"type": "function", "function": kind(function)}), tuple(map(kind, parts)), ("a", "b"))
        assert other == plain


@pytest.mark.parametrize(
    ("last", "has_it"),
    [
        ({"role": "assistant", "content": "The answer is"}, True),
        ({"role": "assistant", "content": "so", "prefix": False}, False),  # the caller's own word stays
        ({"role": "assistant", "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": "{}"}}]}, None),
        ({"role": "user", "content": "hi"}, None),
    ],
)
def test_a_last_message_of_the_assistant_gets_the_keys_it_needs(last, has_it):
    request = Request(Expressions(), {}, prefill_keys={"prefix": True})
    made = prepared(Call("m", ({"role": "assistant", "content": "a"}, last)), request).messages
    assert [message.get("prefix") for message in made] == [None, has_it]


def called(**more):
    return {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}", **more}}


def test_only_what_has_a_key_to_be_taken_out_is_made_anew():
    """A conversation of hundreds of messages goes out in each call; most of its messages change in nothing."""
    names = frozenset({"name", "note", "arguments"})
    request = Request(Expressions(), {}, strip=names)
    same = (
        {"role": "user", "content": "a"},
        {"role": "user", "content": [text("b")]},
        {"role": "assistant", "content": None, "tool_calls": [called(), "no call"]},
    )
    tools = ({"type": "function", "function": {"name": "look"}},)
    call = Call("m", same, tools)
    assert prepared(call, request) is call
    changed = (
        {"role": "user", "content": "a", "name": "me"},
        {"role": "user", "content": [{**text("b"), "note": 1}]},
        {"role": "assistant", "content": None, "tool_calls": [called(note=1), "no call"]},
    )
    noted = {"type": "function", "note": 1, "function": {"name": "look", "note": 1}}
    made = prepared(Call("m", (*same, *changed), (*tools, noted)), request)
    assert made.messages == (*same, *same)
    assert [one is other for one, other in zip(made.messages, same, strict=False)] == [True, True, True]
    assert made.tools == (*tools, *tools)
    assert noted["function"] == {"name": "look", "note": 1}


def test_values_of_a_call_are_copied_at_every_depth():
    given = {"a": [{"b": ("c", {"d": None})}], "e": MappingProxyType({"f": {"g": 1}})}
    made = arguments.plain(given)
    assert made == {"a": [{"b": ["c", {"d": None}]}], "e": {"f": {"g": 1}}}
    made["a"][0]["b"][1]["d"] = made["e"]["f"]["g"] = 2
    assert given == {"a": [{"b": ("c", {"d": None})}], "e": {"f": {"g": 1}}}
