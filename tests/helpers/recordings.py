"""What each dialect's recordings hold: whole answers, streams and refusals, as bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from helpers import data_files
from prx.conformance import cases

CASSETTES = Path(__file__).resolve().parents[2] / "cassettes"


class Answer(NamedTuple):
    """A recorded answer of a dialect."""

    dialect: str
    case: str
    stream: bool
    body: bytes


# Where each dialect is recorded.
_RECORDED = {
    "openai-chat": "compatible", "openai-responses": "openai-responses", "anthropic-messages": "anthropic",
    "gemini": "gemini", "cohere-v2": "cohere", "ollama": "ollama-native",
}  # fmt: skip


# Cases of calls that are no chats have answers of other forms.
_OTHERS = {case.name for case in cases.load() if case.kind}


def chats(provider: str) -> Iterator[Path]:
    """A provider's recordings of chats, streams and lists of models."""
    return (path for path in sorted((CASSETTES / provider).glob("*.yaml")) if path.stem not in _OTHERS)


def answers(*, errors: bool = True) -> Iterator[Answer]:
    """Each dialect's recorded answers, `errors` as well."""
    for dialect, provider in _RECORDED.items():
        for path in chats(provider):
            for row in data_files.read(path)["interactions"]:
                if row["request"]["method"] == "POST" and (errors or row["response"]["status"] < 300):
                    yield Answer(dialect, path.stem, path.stem.startswith("stream"), _body(row["response"]))


def _body(response: dict[str, object]) -> bytes:
    if "text" in response:
        return str(response["text"]).encode()
    return json.dumps(response["json"], ensure_ascii=False).encode()
