"""Replies, deltas, embeddings and errors as values: pickled, copied, written as JSON, and shown by a notebook."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
from helpers.byte_server import RawServer, response

import prx
from prx.chat import JsonText

CALL = prx.ToolCall("call_1", "add", '{"a": 1}')
PARTS = (
    prx.Part("reasoning", "Think.", replay={"signature": ["s"]}),
    prx.Part("text", "Hello."),
    prx.Part("tool_call", call=CALL),
)
REPLY = prx.Reply(
    content="Hello.", reasoning="Think.\n\nMore.", tool_calls=(CALL,), finish_reason="tool_calls", usage=prx.Usage(1, 2, 3),
    model="m", provider="p", message={"role": "assistant", "content": "Hello.", "tool_calls": [{"id": "call_1"}]}, parts=PARTS, raw={"a": [1]},
)  # fmt: skip
DELTA = prx.Delta("a", tool_calls=(prx.ToolCallDelta(0, "i", "add", "{"),), usage=prx.Usage(1), replay={"s": [1]})
EMBEDDINGS = prx.Embeddings(vectors=((0.5, 1.0),), model="m", usage=prx.Usage(1), raw={"data": []})


@pytest.mark.parametrize("value", [REPLY, DELTA, EMBEDDINGS, *PARTS], ids=lambda value: type(value).__name__)
@pytest.mark.parametrize(
    "copied",
    [lambda value: pickle.loads(pickle.dumps(value)), copy.copy, copy.deepcopy],
    ids=["pickle", "copy", "deepcopy"],
)
def test_values_are_pickled_and_copied(value, copied):
    made = copied(value)
    assert type(made) is type(value)
    assert made == value
    assert repr(made) == repr(value)


def test_content_that_was_an_object_stays_one():
    text = JsonText('{"a": 1}')
    text.value = {"a": 1}
    made = pickle.loads(pickle.dumps(prx.Reply(content=text)))
    assert made.content == {"a": 1}
    assert made.content == '{"a": 1}'


@pytest.mark.parametrize("cls", [getattr(prx, name) for name in prx.__all__ if name.endswith("Error")])
def test_errors_are_pickled(cls):
    error = cls("no", status=429, retry_after=2.0, provider="p", hint="Wait.")
    error.partial, error.attempts, error.history, error.fallbacks = REPLY, 3, ("429: no",), ("responses",)
    error.view = {"headers": {"x": "y"}}
    made = pickle.loads(pickle.dumps(error))
    assert type(made) is cls
    assert {**vars(made), "view": error.view} == vars(error)
    assert str(made) == str(error)
    assert made.view == {}


def test_an_error_of_a_call_is_pickled():
    config = {"providers": {"compatible": {"api_key": "sk-hidden-1234"}}}
    with RawServer(response(401, {"error": {"message": "bad key sk-hidden-1234"}})) as server:
        config["providers"]["compatible"]["api_url"] = server.url
        with prx.Client(config=config, env={}) as client, pytest.raises(prx.AuthError) as failed:
            client.chat("hi", "compatible/m")
    pickled = pickle.dumps(failed.value)
    assert b"sk-hidden-1234" not in pickled
    made = pickle.loads(pickled)
    assert (made.status, made.kind, made.attempts, str(made)) == (401, "auth", 1, str(failed.value))


def test_a_reply_as_json():
    written = REPLY.to_dict()
    assert json.loads(json.dumps(written)) == written
    assert "raw" not in written
    assert written["tool_calls"] == [{"id": "call_1", "name": "add", "arguments": '{"a": 1}'}]
    assert written["parts"][0]["replay"] == {"signature": ["s"]}
    assert REPLY.to_dict(raw=True)["raw"] == {"a": [1]}
    assert prx.Reply.__annotations__.keys() - written.keys() == {"raw", "parsed"}
    written["message"]["tool_calls"].clear()
    assert REPLY.message["tool_calls"]


def test_a_copy_is_changed_without_the_reply():
    made = REPLY.copy(content="Bye.")
    made.message["content"] = "Bye."
    made.raw["a"].append(2)
    assert (made.content, made.model) == ("Bye.", "m")
    assert (REPLY.content, REPLY.message["content"], REPLY.raw) == ("Hello.", "Hello.", {"a": [1]})
    with pytest.raises(TypeError, match="contents"):
        REPLY.copy(contents="x")


def test_a_reply_in_a_notebook():
    assert REPLY._repr_markdown_() == '> Think.\n>\n> More.\n\nHello.\n\n```\nadd({"a": 1})\n```'
    only_thought = prx.Reply(content="Think.", reasoning="Think.", content_source="reasoning")
    assert only_thought._repr_markdown_() == "Think."
    assert prx.Reply(refusal="No.")._repr_markdown_() == "No."
    fenced = prx.Reply(tool_calls=(prx.ToolCall("1", "run", "```\nls\n```"),))._repr_markdown_()
    assert fenced.splitlines()[0] == fenced.splitlines()[-1] == "````"
