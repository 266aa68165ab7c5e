"""The wire formats of the emulator, one file each; the path of a request selects one."""

from __future__ import annotations

import re

from prx.emulator.common import Api, Persona
from prx.emulator.shapes.blocks import Blocks
from prx.emulator.shapes.choices import Choices
from prx.emulator.shapes.items import Items
from prx.emulator.shapes.lines import Lines
from prx.emulator.shapes.parts import Parts
from prx.emulator.shapes.segments import Segments

_POST = (
    (r".*/chat/completions", Choices()),
    (r".*/responses", Items()),
    (r".*/messages", Blocks()),
    (r".*/models/(?P<model>[^:]+):(?P<verb>generateContent|streamGenerateContent)", Parts()),
    (r".*/v2/chat", Segments()),
    (r".*/api/chat", Lines()),
)
_LISTS = ((r".*/v1beta/models", Parts()), (r".*/api/tags", Lines()))
# Several APIs have their list of models at /models; the persona's `api` selects one.
_NAMED = {"blocks": Blocks(), "parts": Parts(), "segments": Segments()}


def find(method: str, path: str, persona: Persona) -> tuple[Api, dict[str, str] | None]:
    """(the API of a path, its named parts). For an unknown path: the persona's API, and None."""
    usual = _NAMED.get(persona.get("api", ""), Choices())
    rows = _POST if method == "POST" else (*_LISTS, (r".*/models", usual))
    for pattern, api in rows:
        if found := re.fullmatch(pattern, path):
            return api, found.groupdict()
    return usual, None
