"""What the configuration says about a key that is not a text: where it is got, and several of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prx.record import Record
from prx.secret import Secret


class Command(Record):
    """A program and its arguments; it prints the key, which holds for `seconds`."""

    argv: tuple[str, ...]
    seconds: float = 300

    def __str__(self) -> str:
        return f"the command {self.argv[0]}"


class KeyFile(Record):
    """A file that contains the key."""

    path: str

    def __str__(self) -> str:
        return f"the file {self.path}"


Entry = Secret | Command | KeyFile


class KeySources(Secret):
    """Stands in a table where a key would: it prints as one, and has no text of its own."""

    __slots__ = ("entries",)

    def __init__(self, entries: tuple[Entry, ...]) -> None:
        super().__init__("")
        self.entries = entries

    @property
    def texts(self) -> list[Secret]:
        """The keys that are written in the table, as ${NAME} or as they are."""
        return [entry for entry in self.entries if isinstance(entry, Secret)]

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeySources) and self.entries == other.entries

    def __hash__(self) -> int:
        return hash(self.entries)


def key_of(value: Any) -> Secret:
    """The key that a table says, which the schema has accepted: a text, a mapping, or a list of both."""
    if isinstance(value, str):
        return Secret(value)
    return KeySources(tuple(map(_entry, value if isinstance(value, list) else [value])))


def _entry(value: str | Mapping[str, Any]) -> Entry:
    if isinstance(value, str):
        return Secret(value)
    if "file" in value:
        return KeyFile(value["file"])
    return Command(tuple(value["command"]), **({"seconds": value["for"]} if "for" in value else {}))
