"""What was found, and what an answer means: nothing is called impossible that was not refused as such.

A status of success shows nothing by itself, and neither does an error that does not speak of what was asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from prx.errors import Error

Verdict = Literal["yes", "no", "open"]

_LONGEST = 110  # characters of a server's words that a line repeats
# Kinds of errors that may speak of a feature; the others are about the key, the pace, the line, or the length.
_SPEAKING = ("bad_request", "not_found", "server", "capability", "protocol")
# An error refuses a feature where it names it and says one of these, and is not about the thing sent.
_REFUSING = (
    "support", "permitted", "allowed", "recognized", "recognised", "unknown", "unexpected", "not a ", "requires", "implemented",
    "available", "enabled", "disabled", "capable", "cannot say", "cannot take", "only user", "does not accept", "not accept", "unrecognized",
)  # fmt: skip
_OF_THE_THING = (
    "too small",
    "too large",
    "too short",
    "too long",
    "dimension",
    "decode",
    "corrupt",
    "at least",
    "download",
)


class Judged(NamedTuple):
    """What one answer shows. verdict: yes · ignored (as if it had not been asked for) · open."""

    verdict: Literal["yes", "ignored", "open"]
    how: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing learned, or not.

    asked       the request that showed it
    how         what came, in words
    capability  the flag that it settles, "" for none
    overlay     what it changes in the file
    """

    name: str
    verdict: Verdict
    how: str
    asked: str = ""
    capability: str = ""
    overlay: Mapping[str, Any] = field(default_factory=dict)

    @property
    def note(self) -> str:
        return f"{self.asked}: {self.how}" if self.asked else self.how

    def plain(self) -> dict[str, Any]:
        rows = {"name": self.name, "verdict": self.verdict, "asked": self.asked, "how": self.how}
        return rows | ({"capability": self.capability} if self.capability else {})


def told(text: str, longest: int = _LONGEST) -> str:
    """A server's words on one line, printable, and not endless."""
    words = "".join(character for character in " ".join(text.split()) if character.isprintable())
    return words if len(words) <= longest else f"{words[:longest]}…"


def said(error: Error) -> str:
    """An error on one line."""
    return told(error.summary() if error.status else f"{error.kind}: {error.message}")


def text_of(error: Error) -> str:
    """All that an error says, in lower case."""
    return f"{error.message}\n{error.view.get('text', '')}".lower()


def refuses(error: Error, words: tuple[str, ...]) -> bool:
    """Whether an error says of the feature with these names that there is none."""
    text = text_of(error)
    return (
        error.kind in _SPEAKING
        and any(word in text for word in words)
        and any(word in text for word in _REFUSING)
        and not any(word in text for word in _OF_THE_THING)
    )
