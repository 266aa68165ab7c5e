"""Prints the answer of `prx chat`: as text while it arrives, as JSON, or as events; or only the request."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from prx.accounts.choose import ModelRef
from prx.chat import Delta, Message, Reply, ToolCallDelta, plain
from prx.cli import output
from prx.client import Client, Stream
from prx.core.request import build
from prx.errors import ConfigError, Error
from prx.mask import Flow
from prx.session import Options, Session

_TEXTS = ("content", "reasoning", "refusal")  # fields of a delta whose texts continue in later deltas


class CutOffError(KeyboardInterrupt):
    """Ctrl-C has ended an answer. partial: what had come of it."""

    def __init__(self, partial: Reply) -> None:
        super().__init__()
        self.partial = partial


@contextmanager
def _streamed(
    client: Client, messages: list[Message], model: str | ModelRef | None, asked: dict[str, Any]
) -> Iterator[Stream]:
    """The stream of a call; Ctrl-C closes its connection. Raises Error and CutOffError."""
    deltas = client.stream(messages, model, **asked)
    try:
        with deltas:
            yield deltas
    except KeyboardInterrupt:
        raise CutOffError(deltas.partial) from None


def as_text(
    client: Client,
    messages: list[Message],
    model: str | ModelRef | None,
    asked: dict[str, Any],
    *,
    stream: bool,
    raw: bool = False,
    plainly: bool = True,
) -> Reply:
    """Print the text on stdout as it arrives; reasoning and remarks, dimmed, on stderr.

    plainly: print Markdown as it is written, also on a terminal
    """
    printer = _Printer(raw=raw, plainly=plainly)
    if not stream:
        reply = client.chat(messages, model, **asked)
        printer.piece(Delta(reply.message.get("content"), reply.reasoning))
        printer.end(reply)
        return reply
    with _streamed(client, messages, model, asked) as deltas:
        try:
            for delta in deltas:
                printer.piece(delta)
        except (Error, KeyboardInterrupt):
            deltas.close()  # first of all: nothing more of this answer is wanted, or paid for
            printer.newline()
            raise
    printer.end(deltas.reply)
    return deltas.reply


class _Printer:
    """Prints text and reasoning, with a line break between them; they go to different streams, so each can be piped."""

    def __init__(self, *, raw: bool, plainly: bool) -> None:
        self.open = ""  # kind of the text on the current line: "text", "thought" or ""
        self._made: output.Running | None = None
        self._raw = raw or not sys.stdout.isatty()
        self._plainly = plainly or self._raw or os.environ.get("TERM", "dumb") == "dumb"  # which writes nothing over
        self._thought = output.Running(raw=raw or not sys.stderr.isatty(), err=True, dim=True)

    @property
    def _text(self) -> output.Running:
        """What prints the text, made when some has come."""
        if self._made is None and self._plainly:
            self._made = output.Running(raw=self._raw)
        elif self._made is None:
            from prx.cli.markdown import Rendered  # takes as long to import as the rest of the command

            self._made = Rendered()
        return self._made

    def piece(self, delta: Delta) -> None:
        if delta.reasoning:
            self._to("thought")
            self._thought.piece(delta.reasoning)
        if delta.content:
            self._to("text")
            self._text.piece(delta.content)

    def _to(self, kind: str) -> None:
        if self.open and self.open != kind:
            self.newline()
        self.open = kind

    def newline(self) -> None:
        if self.open:
            (self._thought if self.open == "thought" else self._text).end()
            click.echo(err=self.open == "thought")
        self.open = ""

    def end(self, reply: Reply) -> None:
        if reply.content_source == "reasoning":
            self.piece(Delta(content=reply.content))
        if reply.refusal:
            self.piece(Delta(content=reply.refusal))
        self.newline()
        for call in reply.tool_calls:
            output.echo(f"{call.name}({call.arguments})")
        if reply.finish_reason in ("length", "content_filter"):
            output.note(f"(ended early: {reply.finish_reason})")
        elif not (reply.content or reply.refusal or reply.tool_calls):
            output.note(f"(the answer is empty: neither a text nor a call; {_ended(reply)})")
        if sys.stderr.isatty():
            output.note(_summary(reply))


def _summary(reply: Reply) -> str:
    tokens = f" · {reply.usage.total_tokens} tokens" if reply.usage and reply.usage.total_tokens is not None else ""
    fallbacks = f" · with {', '.join(reply.fallbacks)}" if reply.fallbacks else ""
    return f"{reply.provider}/{reply.model}{tokens} · {_ended(reply)}{fallbacks}"


def _ended(reply: Reply) -> str:
    return reply.finish_reason or "no finish reason"


def as_json(
    client: Client, messages: list[Message], model: str | ModelRef | None, asked: dict[str, Any], *, stream: bool
) -> Reply:
    if not stream:
        reply = client.chat(messages, model, **asked)
    else:
        with _streamed(client, messages, model, asked) as deltas:
            for _ in deltas:
                pass
        reply = deltas.reply
    output.print_json(reply.to_dict(raw=True))
    return reply


def as_events(
    client: Client, messages: list[Message], model: str | ModelRef | None, asked: dict[str, Any], *, stream: bool
) -> Reply:
    if not stream:
        raise ConfigError("--events needs a stream", hint="Leave out --no-stream, or use --json.")
    pieces = _Pieces()
    with _streamed(client, messages, model, asked) as deltas:
        try:
            for delta in deltas:
                pieces.show(delta)
        finally:
            pieces.end()
    return deltas.reply


class _Pieces:
    """Prints deltas as lines of JSON. What may be the beginning of a key is held back until the next piece of its text."""

    def __init__(self) -> None:
        self._flows: dict[tuple[str, int], Flow] = {}

    def show(self, delta: Delta) -> None:
        texts: dict[str, Any] = {name: self._piece(name, text) for name in _TEXTS if (text := getattr(delta, name))}
        calls = tuple(
            call._replace(arguments=call.arguments and self._piece("arguments", call.arguments, call.index))
            for call in delta.tool_calls
        )
        replay = {
            name: self._piece(name, text) if isinstance(text, str) else text
            for name, text in (delta.replay or {}).items()
        }
        self._line(delta._replace(tool_calls=calls, replay=replay or delta.replay, **texts))

    def end(self) -> None:
        """Print what was held back."""
        for (name, index), flow in self._flows.items():
            if rest := flow.rest():
                calls = (ToolCallDelta(index, arguments=rest),) if name == "arguments" else ()
                texts = {name: rest} if name in _TEXTS else {} if calls else {"replay": {name: rest}}
                self._line(Delta(tool_calls=calls, **texts))

    def _piece(self, name: str, text: str, index: int = 0) -> str:
        flow = self._flows.setdefault((name, index), output.mask().flow())
        return flow.piece(text)

    def _line(self, delta: Delta) -> None:
        rows = {name: value for name, value in plain(delta).items() if value not in (None, [])}
        click.echo(output.json_text(rows))
        sys.stdout.flush()


def request(
    session: Session, messages: list[Message], model: str | ModelRef | None, asked: dict[str, Any], *, stream: bool
) -> None:
    params = {name: value for name, value in asked.items() if name not in ("tools", "tool_choice")}
    options = Options(messages, model, tools=asked.get("tools"), tool_choice=asked.get("tool_choice"), params=params)
    account, call = session.plan(options, stream=stream)
    http_request = build(account.definition.spec(call.model), call, account.target)
    output.echo(f"{http_request.method} {http_request.full_url()}")
    for name, value in http_request.headers.items():
        output.echo(f"{name}: {value}")
    click.echo()
    output.print_json(json.loads(http_request.body))
