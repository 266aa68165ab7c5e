"""A conversation of `prx chat`: its messages, how they are sent and shown, and where its turns are kept.

A turn is what was said and what was answered. A call that fails leaves the conversation as it was before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from prx import images
from prx.accounts.choose import ModelRef
from prx.chat import Message, Reply
from prx.cli import hints, show
from prx.cli.kept import Kept
from prx.client import Client
from prx.errors import ConfigError, Error
from prx.session import Session


class Conversation:
    """See the module.

    shown    calls the model and prints its answer: one of the functions of `show`
    asked    further arguments of the calls
    kept     the file of this conversation; None where it is not kept
    """

    def __init__(
        self, client: Client, model: str | ModelRef | None, shown: Callable[..., Reply], asked: dict[str, Any], kept: Kept | None
    ) -> None:  # fmt: skip
        self.client, self.model = client, model
        self.system = ""
        self.turns: list[list[Message]] = []
        self.unanswered: Message | None = None  # what was said last, if its call has failed
        self._shown, self._asked, self._kept = shown, asked, kept

    def check(self) -> None:
        """Raise ConfigError or SpecError where the model cannot be called at all: before somebody writes a message."""
        try:
            self.client.accounts.choose(self.model)
        except Error as error:
            hints.add(error, self.client, self.model)
            raise

    def go_on(self, turns: Sequence[dict[str, Any]], system: str | None) -> None:
        """Go on after these turns, as they are stored. system: a system message in place of the one before."""
        self.turns = [turn["messages"] for turn in turns]
        self.system = (turns[-1]["system"] if turns else "") if system is None else system

    def messages(self, turns: Sequence[Sequence[Message]]) -> list[Message]:
        """These turns as a model gets them: after the system message."""
        first: list[Message] = [{"role": "system", "content": self.system}] if self.system else []
        return first + [message for turn in turns for message in turn]

    def say(self, message: Message, *, again: bool = False) -> None:
        """Send a message, show the answer, and keep both. again: they take the place of the last turn. Raises Error, and
        KeyboardInterrupt where the answer was cut off: what came of its text is kept.
        """
        before = self.turns[:-1] if again else self.turns
        if not again:
            self.unanswered = message
        try:
            reply = self._shown(self.client, self.messages([*before, [message]]), self.model, self._asked)
        except Error as error:
            hints.add(error, self.client, self.model)
            raise
        except show.CutOffError as cut:
            if cut.partial.content:
                # Of an unfinished answer only its text can go back: a thought without its signature, or half the arguments
                # of a tool call, would be refused.
                answer: Message = {"role": "assistant", "content": cut.partial.content}
                self._add([*before, [message, answer]], cut.partial, again=again, cut=True)
            raise
        self._add([*before, [message, reply.message]], reply, again=again)

    def retry(self) -> None:
        """Send again what failed, or what was answered last. Raises Error."""
        if self.unanswered is not None:
            self.say(self.unanswered)
        elif self.turns:
            self.say(self.turns[-1][0], again=True)
        else:
            raise ConfigError("nothing has been said yet")

    def _add(self, turns: list[list[Message]], reply: Reply, *, again: bool, cut: bool = False) -> None:
        self.turns, self.unanswered = turns, None
        if self._kept is None:
            return
        record = {
            "model": _stored(self.client, self.model),
            "answered_by": f"{reply.provider}/{reply.model}",
            "system": self.system,
            "messages": turns[-1],
            "finish_reason": reply.finish_reason,
            "tokens": reply.usage and reply.usage.total_tokens,
        }
        self._kept.add(record | ({"replaces_last": True} if again else {}) | ({"cut_off": True} if cut else {}))


def _stored(client: Client, model: str | ModelRef | None) -> Any:
    """A model in JSON, so that the conversation goes on with the same one: a name that may be routed stays as it is."""
    if isinstance(model, str):
        return model
    account, name = client.accounts.choose(model)
    return {"provider": account.settings.name or account.id, "model": name}


def restored(model: Any) -> str | ModelRef:
    """The model of a stored turn."""
    return ModelRef(model["provider"], model["model"]) if isinstance(model, dict) else str(model)


def chosen(client: Client | Session, provider: str | None, model: str | None) -> str | ModelRef | None:
    """The model to call, from --provider and --model; None for the configuration's default. Raises ConfigError."""
    if provider is None:
        return model
    account = client.accounts.get(provider)
    name = model or account.settings.model or account.definition.spec().models.default
    if not name and client.config.provider in (provider, account.id):
        name = client.config.model or ""
    if not name:
        raise ConfigError(
            "no model is named",
            provider=account.id,
            hint=f"Add --model; `prx models {account.id}` lists the models.",
        )
    return ModelRef(provider, name)


def user(text: str, pictures: Sequence[Path] = ()) -> Message:
    """The message of a user. Raises ConfigError for an empty text, or a file that is no picture."""
    if not text.strip():
        raise ConfigError("the prompt is empty", hint="Write it as the argument, or on standard input.")
    if not pictures:
        return {"role": "user", "content": text}
    shown = [{"type": "image_url", "image_url": {"url": images.read(path)}} for path in pictures]
    return {"role": "user", "content": [{"type": "text", "text": text}, *shown]}


def text_of(message: Message) -> str:
    """The text of a message, with a mark in place of each picture."""
    content = message.get("content")
    if not isinstance(content, list):
        return str(content or "")
    return "\n".join(str(part["text"]) if "text" in part else f"[{part.get('type', 'part')}]" for part in content)
