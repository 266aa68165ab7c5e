"""The public surface: what __init__ lists, no more and no less, documented, typed, and as the contract has it."""

from __future__ import annotations

import inspect
import types

import pytest

import prx

LATE = {
    "AsyncClient", "AsyncStream", "Embeddings", "Image", "Images", "Moderation", "Ranked", "Ranking", "Speech", "Transcript",
    "BatchResult", "Tool", "ToolRun", "tool",
}  # fmt: skip
#  # what is imported when it is first named


def test_all_is_what_is_public():
    public = {
        name
        for name, value in vars(prx).items()
        if not name.startswith("_")
        and not isinstance(value, types.ModuleType)
        and name not in ("annotations", "Any", "TYPE_CHECKING", "import_module")
    }
    assert public | LATE == set(prx.__all__)
    assert all(callable(getattr(prx, name)) for name in LATE)
    assert list(prx.__all__) == sorted(prx.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        prx.Nothing  # noqa: B018 - it raises


@pytest.mark.parametrize("name", prx.__all__)
def test_everything_public_is_documented(name):
    value = getattr(prx, name)
    if isinstance(value, type) and issubclass(value, prx.Error) and value is not prx.Error:
        return  # the tree in prx.errors says it all
    if isinstance(value, type):
        assert value.__doc__
        for member, function in vars(value).items():
            if callable(function) and not member.startswith("_") and isinstance(function, types.FunctionType):
                assert function.__doc__, f"{name}.{member}"


def test_every_error_is_in_the_drawing():
    drawn = prx.errors.__doc__
    for name in prx.__all__:
        value = getattr(prx, name)
        if isinstance(value, type) and issubclass(value, prx.Error) and value is not prx.Error:
            assert f"─ {name} " in drawn
            assert value.kind in drawn


def test_the_contract():
    for method in (prx.Client.chat, prx.Client.stream, prx.AsyncClient.chat, prx.AsyncClient.stream):
        parameters = list(inspect.signature(method).parameters)
        assert parameters == [
            "self",
            "messages",
            "model",
            "tools",
            "tool_choice",
            "timeout",
            "deadline",
            "retries",
            "fallbacks",
            *(["repair"] if method.__name__ == "chat" else []),
            "params",
        ]
    for client in (prx.Client, prx.AsyncClient):
        assert list(inspect.signature(client).parameters) == ["config", "providers", "env", "watch", "on_event"]
    reply = prx.Reply()
    for name in (
        "content", "reasoning", "tool_calls", "finish_reason", "usage", "model", "provider", "streamed", "content_source", "fallbacks",
        "request_id", "message", "refusal", "parts", "raw", "attempts", "parsed",
    ):  # fmt: skip
        assert hasattr(reply, name)
    assert prx.Delta._fields == ("content", "reasoning", "tool_calls", "finish_reason", "usage", "refusal", "replay")
    assert prx.Part._fields == ("kind", "text", "call", "replay")
    assert prx.ToolCall._fields == ("id", "name", "arguments")
    assert prx.ToolCallDelta._fields == ("index", "id", "name", "arguments")
    assert prx.Usage._fields == (
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "cached_tokens",
        "reasoning_tokens",
    )
    error = prx.Error("x")
    for name in ("kind", "status", "retryable", "retry_after", "message", "provider", "partial", "attempts"):
        assert hasattr(error, name)
