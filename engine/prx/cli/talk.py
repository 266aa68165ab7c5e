"""A chat of several turns on a terminal. Ctrl-C ends an answer, and nothing but /exit and Ctrl-D ends the chat."""

from __future__ import annotations

import os
import sys

from prx.cli import output, show, slash
from prx.cli.conversation import Conversation, text_of, user
from prx.cli.lines import Plain, Reader
from prx.errors import Error

_EDITING = "(For editing, history and completion: pip install 'prx-engine[chat]')"
_LEAVE = "(Ctrl-D or /exit leaves)"


def talk(desk: slash.Desk, first: str, *, remember: bool) -> None:
    """Send what is typed, and run commands, until the end. first: a message to begin with; remember: keep what is typed for the next chats."""
    talk = desk.conversation
    talk.check()
    if talk.turns:
        count = len(talk.turns)
        output.note(
            f"(going on after {count} turn{'s' * (count != 1)}; the last: {output.line(text_of(talk.turns[-1][0])[:60])})"
        )
    if first:
        _do(desk, first)
    typed = _reader(desk.conversation, remember=remember)
    while not desk.over:
        text = _read(typed)
        if text is None:
            return
        if text.strip():
            _do(desk, text)


def _reader(conversation: Conversation, *, remember: bool) -> Reader:
    """The reader for this terminal: with editing, where the extra `chat` is installed."""
    if not sys.stdout.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return Plain()
    try:
        from prx.cli.editing import Editing
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("prompt_toolkit"):
            raise
        output.note(_EDITING)
        return Plain()
    return Editing(conversation, remember=remember)


def _read(typed: Reader) -> str | None:
    """What is typed; None at the end."""
    try:
        return typed.read()
    except EOFError:
        return None
    except KeyboardInterrupt:
        output.note(_LEAVE)
        return ""


def _do(desk: slash.Desk, text: str) -> None:
    """Run a command, or send a message. An error, or Ctrl-C, leads back to the prompt."""
    talk = desk.conversation
    try:
        if slash.run(desk, text):
            return
        message = user(text, desk.pictures)
        desk.pictures = ()
        talk.say(message)
    except Error as error:
        output.echo(f"prx: {error}", err=True)
        _offer(talk)
    except show.CutOffError as cut:
        output.note("(cut off)" if cut.partial.content else "(cut off before its text began)")
        _offer(talk)
    except KeyboardInterrupt:
        output.note("\n(cut off)")
        _offer(talk)


def _offer(talk: Conversation) -> None:
    if talk.unanswered is not None:
        output.note("(/retry asks again)")
