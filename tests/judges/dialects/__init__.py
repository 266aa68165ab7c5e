"""Six dialects by hand, to judge those in YAML: what one half of a file writes and the other reads may be wrong in both.

    reads/      readers of requests: they refuse every unknown or malformed key, as the real servers do
    writes/     writers of answers
    asks        writers of requests
    answers     readers of answers, as strict

The path of a request selects one; `Emulator` is the server of `prx demo` that speaks them in place of the faces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from judges.dialects.common import Api, Json
from judges.dialects.writes.blocks import Blocks
from judges.dialects.writes.choices import Choices
from judges.dialects.writes.items import Items
from judges.dialects.writes.lines import Lines
from judges.dialects.writes.parts import Parts
from judges.dialects.writes.segments import Segments

from prx.emulator import server
from prx.emulator.brain import Answer
from prx.emulator.common import Asked, Head, Persona, RefusedError

BY_DIALECT = {
    "openai-chat": Choices(),
    "openai-responses": Items(),
    "anthropic-messages": Blocks(),
    "gemini": Parts(),
    "cohere-v2": Segments(),
    "ollama": Lines(),
}
_POST = (
    (r".*/chat/completions", "openai-chat"),
    (r".*/responses", "openai-responses"),
    (r".*/messages", "anthropic-messages"),
    (r".*/models/(?P<model>[^:]+):(?P<verb>generateContent|streamGenerateContent)", "gemini"),
    (r".*/v2/chat", "cohere-v2"),
    (r".*/api/chat", "ollama"),
)
_LISTS = ((r".*/v1beta/models", "gemini"), (r".*/api/tags", "ollama"))


class Emulator(server.Emulator):
    """The server of `prx demo` with the dialects of this folder, which refuse what real servers refuse.

    Keys of a persona, besides those of the server, of reads and of writes:
        speaks      the dialects that it has; default: all
        lists       the dialect of the list at /models; default: openai-chat
    """

    def __init__(self, persona: Persona | None = None, port: int = 0) -> None:
        super().__init__(persona, port, lambda head: find(head, persona or {}))


def find(head: Head, persona: Persona) -> Bound | None:
    """The dialect of a request, or None."""
    usual = (r".*/models", persona.get("lists", "openai-chat"))
    for pattern, name in _POST if head.method == "POST" else (*_LISTS, usual):
        found = re.fullmatch(pattern, head.path)
        if found and name in persona.get("speaks", BY_DIALECT):
            return Bound(BY_DIALECT[name], found.groupdict(), persona, asks=head.method == "POST")
    return None


class Bound:
    """A dialect at one request. said: the named parts of its path."""

    def __init__(self, api: Api, said: Mapping[str, str], persona: Persona, *, asks: bool) -> None:
        self.api, self.said, self.persona, self.asks = api, said, persona, asks
        self.media = api.media

    def read(self, body: Json) -> Asked:
        return self.api.read(body, self.said, self.persona)

    def whole(self, answer: Answer, asked: Asked) -> Json:
        return self.api.whole(answer, asked, self.persona)

    def events(self, answer: Answer, asked: Asked) -> Iterator[bytes]:
        return (event.encode(errors="replace") for event in self.api.events(answer, asked, self.persona))

    def listed(self, names: list[str]) -> Json:
        return self.api.models(names)

    def error(self, refused: RefusedError) -> tuple[int, Json]:
        return self.api.error(refused, self.persona)
