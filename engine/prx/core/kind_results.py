"""What calls other than chats give: embeddings, a ranking, pictures, speech, a transcript, a judgement, a count.

Nothing here depends on a wire format. Values are immutable. This module is imported by the first call that needs it.
"""

from __future__ import annotations

from typing import Any

from prx.chat import Usage
from prx.record import Record


class Answer(Record):
    """What all of these have.

    model      as reported, otherwise as asked for
    usage      token counts as reported, or None
    attempts   requests that were sent for it, those that failed included
    fallbacks  names of the fallbacks that it needed
    raw        the parsed body; of an input that was split, the list of all bodies; of a binary answer None
    """

    model: str = ""
    provider: str = ""
    usage: Usage | None = None
    attempts: int = 1
    fallbacks: tuple[str, ...] = ()
    request_id: str | None = None
    raw: Any = None


class Embeddings(Answer):
    """vectors: one for each input, in the order of the inputs; a numpy array where as_numpy=True asked for one."""

    vectors: Any = ()


class Ranked(Record):
    """A document, by its place in the list that was given, and how well it fits. Scores are no probabilities."""

    index: int
    score: float


class Ranking(Answer):
    """results: the documents in the order in which the provider gives them; of one that gives more than top_n, the best."""

    results: tuple[Ranked, ...] = ()


class Image(Record):
    """A picture: its bytes, or the address where it can be fetched."""

    data: bytes | None = None
    url: str | None = None
    media_type: str | None = None
    revised_prompt: str | None = None


class Images(Answer):
    """images: the pictures that were made."""

    images: tuple[Image, ...] = ()


class Speech(Answer):
    """audio: the bytes of the recording, of the format that media_type names."""

    audio: bytes = b""
    media_type: str | None = None


class Transcript(Answer):
    """What was said. duration: in seconds. segments: as the provider gives them."""

    text: str = ""
    language: str | None = None
    duration: float | None = None
    segments: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return self.text


class Moderation(Answer):
    """flagged: whether any of the results is. results: as the provider gives them, one for each input."""

    flagged: bool = False
    results: tuple[dict[str, Any], ...] = ()


class TokenCount(Answer):
    """count: how many tokens the messages have."""

    count: int = 0
