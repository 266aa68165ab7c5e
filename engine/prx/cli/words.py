"""The words that can be completed in a chat: commands, names of models, and paths."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from prx.cli import slash
from prx.cli.conversation import Conversation
from prx.errors import Error

Found = Iterable[tuple[str, str]]  # (a word, what it means)
_LIST_SECONDS = 5.0  # the longest time that Tab waits for a provider's list


class Words:
    """Completes in a conversation. A provider's list of models is asked for once."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._lists: dict[str, list[str]] = {}

    def complete(self, text: str) -> tuple[str, Found]:
        """(the word that the cursor is behind, what it may become)."""
        command, space, start = text.partition(" ")
        if not text.startswith("/") or "\n" in text:
            return "", ()
        if not space:
            return text, [(f"/{name}", row.help) for name, row in slash.COMMANDS.items() if name.startswith(text[1:])]
        row = slash.COMMANDS.get(command[1:])
        of_kind: dict[str, Callable[[str], Found]] = {"NAME": self._models, "PATH": _paths, "FILE": _paths}
        return start, of_kind[row.takes](start) if row and row.takes in of_kind else ()

    def _models(self, start: str) -> Found:
        provider, slash_, _ = start.partition("/")
        accounts = self._conversation.client.accounts
        if not slash_:
            return [(f"{name}/", "") for name in dict.fromkeys(accounts.names) if name.startswith(start)]
        names = self._list(provider) if accounts.knows(provider) else []
        return [(name, "") for model in names if (name := f"{provider}/{model}").startswith(start)]

    def _list(self, provider: str) -> list[str]:
        """A provider's list of its models; [] where it is not to be had soon."""
        if provider not in self._lists:
            try:
                self._lists[provider] = self._conversation.client.models(provider, timeout=_LIST_SECONDS)
            except Error:
                self._lists[provider] = []
        return self._lists[provider]


def _paths(start: str) -> Found:
    folder, name = os.path.split(start)
    try:
        entries = sorted(Path(folder or ".").expanduser().iterdir())
    except OSError:
        return []
    return [
        (os.path.join(folder, entry.name) + ("/" if entry.is_dir() else ""), "")  # noqa: PTH118 - keeps ~ and ./
        for entry in entries
        if entry.name.startswith(name) and (name or not entry.name.startswith("."))
    ]
