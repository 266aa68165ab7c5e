"""The commands of a chat, such as /model: one row each."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from prx import images
from prx.cli import hints, output
from prx.cli.conversation import Conversation, chosen, text_of
from prx.errors import ConfigError
from prx.text import nearest

_COMMAND = re.compile(r"/([A-Za-z]*)(?:\s+(.*))?", re.DOTALL)


class Desk:
    """What the commands work on: the conversation, and pictures for the next message."""

    def __init__(self, conversation: Conversation, pictures: tuple[Path, ...] = ()) -> None:
        self.conversation, self.pictures = conversation, pictures
        self.over = False


class Command(NamedTuple):
    """One command. takes: what stands behind its name; run: gets the Desk and that text, and may raise Error."""

    takes: str
    help: str
    run: Callable[[Desk, str], None]


def run(desk: Desk, text: str) -> bool:
    """Run the command in a text; False for a text that is none. Raises Error."""
    found = _COMMAND.fullmatch(text)
    if not found:
        return False
    name, rest = found[1].lower(), (found[2] or "").strip()
    if name not in COMMANDS:
        near = nearest(name, COMMANDS).replace("'", "'/", 1)
        raise ConfigError(
            f"there is no command /{name}{near}",
            hint="/help lists them; a message that begins with a slash is sent if a space stands before it.",
        )
    COMMANDS[name].run(desk, rest)
    return True


def _model(desk: Desk, name: str) -> None:
    talk = desk.conversation
    accounts = talk.client.accounts
    if name:
        if strange := hints.of_name(accounts, name) if "/" in name else "":
            output.note(f"({strange})")
        first, mark, _ = name.partition("/")
        if not mark and accounts.knows(name):
            talk.model = chosen(talk.client, name, None)
        elif (mark and accounts.knows(first)) or any(route.fits(name) for route in accounts.config.routes):
            accounts.choose(name)
            talk.model = name
        else:
            account, _ = accounts.choose(talk.model)
            talk.model = chosen(talk.client, account.settings.name or account.id, name)
    account, wire_name = accounts.choose(talk.model)
    output.note(f"(model: {account.settings.name or account.id}/{wire_name})")


def _system(desk: Desk, text: str) -> None:
    talk = desk.conversation
    if text:
        talk.system = "" if text == "-" else text
    output.note(f"(system message: {talk.system})" if talk.system else "(no system message)")


def _image(desk: Desk, path: str) -> None:
    if not path:
        raise ConfigError("no picture is named", hint="/image PATH shows a picture with the next message.")
    picture = Path(path).expanduser()
    images.read(picture)
    desk.pictures += (picture,)
    output.note(f"(with the next message: {', '.join(map(str, desk.pictures))})")


def _save(desk: Desk, name: str) -> None:
    if not name:
        raise ConfigError("no file is named", hint="/save FILE writes the conversation as text.")
    path = Path(name).expanduser()
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(as_text(desk.conversation))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
    output.note(f"(saved: {path})")


def as_text(conversation: Conversation) -> str:
    """A conversation as text, with keys masked."""
    said = [f"> {text_of(turn[0])}\n\n{text_of(turn[1])}\n" for turn in conversation.turns]
    system = [f"system: {conversation.system}\n"] if conversation.system else []
    return output.mask().text("\n".join([*system, *said]))


def _retry(desk: Desk, _rest: str) -> None:
    desk.conversation.retry()


def _help(_desk: Desk, _rest: str) -> None:
    rows = [(f"/{name} {row.takes}".rstrip(), row.help) for name, row in COMMANDS.items()]
    keys = [("Ctrl-C", "ends an answer"), ("Ctrl-D", "leaves")]
    for left, right in [*rows, *keys]:
        output.note(f"{left:<14}{right}")


def _exit(desk: Desk, _rest: str) -> None:
    desk.over = True


COMMANDS = {
    "model": Command("NAME", "go on with another model; alone: show the present one", _model),
    "system": Command("TEXT", "set the system message; - takes it away", _system),
    "image": Command("PATH", "show a picture with the next message", _image),
    "save": Command("FILE", "write the conversation as text into a new file", _save),
    "retry": Command("", "ask the last message again", _retry),
    "help": Command("", "show this", _help),
    "exit": Command("", "leave", _exit),
    "quit": Command("", "leave", _exit),
}
