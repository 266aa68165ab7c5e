"""Reads what is typed in a chat, with editing, history and completion. The only module that imports prompt_toolkit."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import has_focus
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from prx.cli import kept, output, words
from prx.cli.conversation import Conversation
from prx.cli.lines import FURTHER, PROMPT


class Editing:
    """A line, or several, with the keys that shells have. Alt-Enter and a backslash at the end begin a new line; the line
    breaks of a pasted text stay in it.
    """

    def __init__(self, conversation: Conversation, *, remember: bool) -> None:
        self._session: PromptSession[str] = PromptSession(
            FormattedText([("bold", PROMPT)]),
            history=_history() if remember else InMemoryHistory(),
            completer=_Words(conversation),
            complete_while_typing=False,  # at Tab alone: a provider may have to be asked
            complete_in_thread=True,
            multiline=True,
            prompt_continuation=lambda _width, _number, wrapped: "  " if wrapped else FURTHER,
            key_bindings=_keys(),
        )

    def read(self) -> str:
        """See lines.Reader."""
        try:
            return self._session.prompt()
        except KeyboardInterrupt:
            if self._session.default_buffer.text:
                return ""
            raise


def _keys() -> KeyBindings:
    keys = KeyBindings()
    typing = has_focus(DEFAULT_BUFFER)  # not while the history is searched

    @keys.add("enter", filter=typing)
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.document.text_before_cursor.endswith("\\"):
            buffer.delete_before_cursor()
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter", filter=typing)
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys


class _Masked(FileHistory):
    """A history without keys."""

    def store_string(self, string: str) -> None:
        super().store_string(output.mask().text(string))


def _history() -> History:
    """What was typed in earlier chats, in a file that only its owner may read."""
    base = kept.state()
    if base is None:
        return InMemoryHistory()
    try:
        path = kept.private(base) / "history"
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600))
        path.chmod(0o600)
    except OSError as error:
        output.note(f"(what you type is not remembered: {base / 'history'}: {error.strerror})")
        return InMemoryHistory()
    return _Masked(str(path))


class _Words(Completer):
    """Completes commands, names of models, and paths."""

    def __init__(self, conversation: Conversation) -> None:
        self._known = words.Words(conversation)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        start, found = self._known.complete(document.text_before_cursor)
        return _completions(start, found)


def _completions(start: str, found: Iterable[tuple[str, str]]) -> Iterator[Completion]:
    for word, meaning in found:
        yield Completion(word, -len(start), display_meta=meaning)
