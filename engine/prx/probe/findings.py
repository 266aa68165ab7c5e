"""Findings, and what an answer proves: a feature counts as missing only where an error refuses that very feature.

A status of 200 alone proves nothing, and neither does an error that does not name the feature.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from prx.errors import Error

Verdict = Literal["yes", "no", "open"]

_LONGEST = 110  # characters of a server's message that a line repeats
# Kinds of errors that may be about a feature; all others are about the key, the rate, the connection, or a length.
_ABOUT_FEATURES = ("bad_request", "not_found", "server", "capability", "protocol")
# An error refuses a feature where it names the feature and has one of these phrases, and none of _ABOUT_CONTENT.
_REFUSING = (
    "support", "permitted", "allowed", "recognized", "recognised", "unknown", "unexpected", "not a ", "requires", "implemented",
    "available", "enabled", "disabled", "capable", "cannot say", "cannot take", "only user", "does not accept", "not accept", "unrecognized",
)  # fmt: skip
# Phrases about the content that was sent, such as a picture: a better one might be accepted.
_ABOUT_CONTENT = (
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
    """What one answer shows about a feature. ignored: the answer is as if the request had not contained it."""

    verdict: Literal["yes", "ignored", "open"]
    how: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What the probe has learned about one subject, or that it has not learned it (open).

    asked       the request that showed it: method, path and special parameters
    how         what the answer was, in words
    capability  the capability that it decides, "" for none
    overlay     the keys that it sets in the file
    """

    name: str
    verdict: Verdict
    how: str
    asked: str = ""
    capability: str = ""
    overlay: Mapping[str, Any] = field(default_factory=dict)

    @property
    def note(self) -> str:
        """Request and answer, as they stand beside a line of the file."""
        return f"{self.asked}: {self.how}" if self.asked else self.how

    def plain(self) -> dict[str, Any]:
        """The finding in JSON's types."""
        rows = {"name": self.name, "verdict": self.verdict, "asked": self.asked, "how": self.how}
        return rows | ({"capability": self.capability} if self.capability else {})


def told(text: str, longest: int = _LONGEST) -> str:
    """A text of a server's in one line, printable, and shortened to `longest` characters."""
    line = "".join(character for character in " ".join(text.split()) if character.isprintable())
    return line if len(line) <= longest else f"{line[:longest]}…"


def said(error: Error) -> str:
    """Status or kind, and message of an error, in one line."""
    return told(error.summary() if error.status else f"{error.kind}: {error.message}")


def text_of(error: Error) -> str:
    """Message, code and type of an error, in lower case."""
    return f"{error.message}\n{error.view.get('text', '')}".lower()


def refuses(error: Error, names: tuple[str, ...]) -> bool:
    """Whether an error refuses a feature. names: words by which an error may name it."""
    text = text_of(error)
    return (
        error.kind in _ABOUT_FEATURES
        and any(name in text for name in names)
        and any(phrase in text for phrase in _REFUSING)
        and not any(phrase in text for phrase in _ABOUT_CONTENT)
    )
