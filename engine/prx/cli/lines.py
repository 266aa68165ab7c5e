"""Reads standard input: what is typed in a chat, a line at a time, and what stands beside a prompt."""

from __future__ import annotations

import select
import sys
from collections.abc import Callable
from typing import Protocol

import click

from prx.cli import output
from prx.errors import ConfigError

_PATIENCE = 3.0  # seconds after which it is said that standard input is waited for
PROMPT, FURTHER = "> ", "… "


class Reader(Protocol):
    """Reads messages."""

    def read(self) -> str:
        """The next message; "" where Ctrl-C has thrown one away. Raises EOFError at the end, and KeyboardInterrupt for
        Ctrl-C where nothing had been typed.
        """


class Plain:
    """Reads lines of standard input; one that ends with a backslash goes on in the next."""

    def read(self) -> str:
        lines: list[str] = []
        while True:
            output.echo(FURTHER if lines else PROMPT, nl=False, err=True, bold=True)
            try:
                line = text_of(sys.stdin.readline)
            except KeyboardInterrupt:
                click.echo(err=True)
                raise
            if not line and not lines:
                click.echo(err=True)
                raise EOFError
            lines.append(line.removesuffix("\n"))
            if not lines[-1].endswith("\\"):
                return "\n".join([*(each[:-1] for each in lines[:-1]), lines[-1]])


def whole() -> str:
    """All of standard input, up to its end. Raises ConfigError."""
    try:
        waiting = not select.select([sys.stdin], [], [], _PATIENCE)[0]
    except (OSError, ValueError):  # a file of a kind that cannot be waited for
        waiting = False
    if waiting:
        output.note("(waiting for the end of standard input; with < /dev/null the prompt is sent alone)")
    return text_of(sys.stdin.read)


def text_of(read: Callable[[], str]) -> str:
    """What a function reads of standard input. Raises ConfigError."""
    try:
        return read()
    except UnicodeDecodeError:
        raise ConfigError("standard input is not valid UTF-8") from None
    except OSError as error:
        raise ConfigError(f"standard input cannot be read: {error.strerror}") from None
