"""Checks the arguments of calls that are no chats, before anything is sent; each fault is one sentence."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from prx.errors import ConfigError

# {ending of a file's name: its media type}; another file is sent without one of its own
_MEDIA_TYPES = {
    "wav": "audio/wav", "mp3": "audio/mpeg", "mpga": "audio/mpeg", "mpeg": "audio/mpeg", "m4a": "audio/mp4", "mp4": "audio/mp4",
    "ogg": "audio/ogg", "oga": "audio/ogg", "opus": "audio/ogg", "flac": "audio/flac", "webm": "audio/webm", "aac": "audio/aac",
}  # fmt: skip


_NEEDED = {
    "embed": ("input",), "rerank": ("query", "documents"), "image": ("prompt",), "speech": ("text",),
    "transcribe": ("file",), "moderate": ("input",), "complete": ("prompt",),
}  # fmt: skip


def checked(kind: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments in JSON's types, without those that are None; checked ones stay as they are. Raises ConfigError."""
    present = {name: value for name, value in given.items() if value is not None}
    for name in _NEEDED.get(kind, ()):
        if name not in present:
            raise ConfigError(f"{name} is missing")
    return {name: _CHECKS.get((kind, name), _same)(value) for name, value in present.items()}


def _same(value: Any) -> Any:
    return value


def _inputs(value: Any) -> list[Any]:
    """One input or several, as a list; a list of numbers is one input, in tokens."""
    one = isinstance(value, str | Mapping) or (
        _listed(value) and bool(value) and all(isinstance(n, int) for n in value)
    )
    inputs = [value] if one else [*value] if _listed(value) else []
    if not inputs:
        raise ConfigError("input must be a text, or a list of texts with one at least")
    if not all(isinstance(each, str | Mapping) or _listed(each) for each in inputs):
        raise ConfigError("input must be a text, or a list of texts; one of its elements is of another type")
    return [[*each] if _listed(each) else each for each in inputs]


def _listed(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _documents(value: Any) -> list[Any]:
    if not _listed(value) or not value or not all(isinstance(each, str | Mapping) for each in value):
        raise ConfigError("documents must be a list of texts with one at least")
    return [*value]


def _text(name: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str) or not value:
            raise ConfigError(f"{name} must be a text that is not empty")
        return value

    return check


def _prompt(value: Any) -> Any:
    if not (isinstance(value, str) or (_listed(value) and value)):
        raise ConfigError("prompt must be a text")
    return value if isinstance(value, str) else [*value]


def _number(name: str) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ConfigError(f"{name} must be a whole number above 0, not {value!r:.60}")
        return value

    return check


def _file(value: Any) -> dict[str, str]:
    if isinstance(value, dict) and value.keys() == {"name", "media_type", "data"}:
        return value
    if not (
        isinstance(value, tuple | list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], bytes)
    ):
        raise ConfigError("file must be the path of a file, or its name and its bytes: (name, bytes)")
    name, data = value
    media_type = _MEDIA_TYPES.get(name.rpartition(".")[2].lower(), "application/octet-stream")
    return {"name": name, "media_type": media_type, "data": base64.b64encode(data).decode()}


_CHECKS: Mapping[tuple[str, str], Callable[[Any], Any]] = {
    ("embed", "input"): _inputs, ("embed", "dimensions"): _number("dimensions"),
    ("rerank", "query"): _text("query"), ("rerank", "documents"): _documents, ("rerank", "top_n"): _number("top_n"),
    ("image", "prompt"): _text("prompt"), ("image", "n"): _number("n"), ("speech", "text"): _text("text"),
    ("transcribe", "file"): _file, ("moderate", "input"): _inputs, ("complete", "prompt"): _prompt,
}  # fmt: skip
