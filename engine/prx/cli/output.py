"""Prints the output of all commands: with known keys masked, and with control characters escaped.

A server's answer may repeat a key, and may contain control sequences that move the cursor of a terminal, set its title or
fill the clipboard. Colours are added by prx itself, after the text has been escaped.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn, TypeVar

import click

from prx.client import Client
from prx.mask import Flow, Mask, strict
from prx.secret import Secret
from prx.session import Session

Watched = TypeVar("Watched", Client, Session)
_clients: list[Client | Session] = []
_keys: list[Secret] = []
# Characters that control a terminal, or the order in which it shows those beside them; without tabs and line feeds.
_COMMANDS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\U000e0000-\U000e007f]"
)
# Invisible characters and those that control a terminal: JSON is printed with their escapes.
_UNSEEN = re.compile("[\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def watch(client: Watched) -> Watched:
    """Mask the keys of a client's accounts in all further output; gives the client."""
    _clients.append(client)
    return client


def guard(key: str) -> str:
    """Mask a key that no client has in all further output; gives the key."""
    if key:
        _keys.append(Secret(key))
    return key


def mask() -> Mask:
    """A Mask of all keys that this process may have sent."""
    accounts = [account for client in _clients for account in tuple(client.accounts.opened.values())]
    return Mask([*_keys, *(secret for account in accounts for secret in account.secrets)])


def safe(text: str) -> str:
    """A text with keys masked, and with control characters other than tabs and line feeds escaped."""
    return escaped(mask().text(text))


def line(text: str) -> str:
    """As `safe`, in one line: also tabs and line feeds are escaped."""
    return escaped(mask().text(text)).replace("\n", "\\n").replace("\t", "\\t")


def escaped(text: str) -> str:
    """A text with all that may command a terminal escaped; keys are not masked."""
    return _COMMANDS.sub(lambda match: match[0].encode("unicode_escape").decode(), text.replace("\r\n", "\n"))


def echo(text: str = "", *, nl: bool = True, err: bool = False, **style: Any) -> None:
    _print(safe(text), nl=nl, err=err, **style)


def _print(text: str, *, nl: bool, err: bool, **style: Any) -> None:
    # click.style adds a reset at the end even if it has no style to apply.
    click.echo(click.style(text, **style) if style else text, nl=nl, err=err)


def refuse(sentence: str, hint: str = "") -> NoReturn:
    """Print a sentence about bad input on stderr, and end the command with the exit code of wrong usage."""
    echo(f"prx: {sentence}" + (f"\n{hint}" if hint else ""), err=True)
    raise click.exceptions.Exit(2)


def file(text: str) -> None:
    """Print the text of a file: unchanged, but on a terminal with control characters escaped."""
    click.echo(escaped(text) if sys.stdout.isatty() else text, nl=False, color=True)


def note(text: str) -> None:
    """Print a remark on stderr, dimmed on a terminal."""
    sys.stdout.flush()
    echo(text, err=True, dim=True)


def json_text(value: Any, indent: int | None = None) -> str:
    """The JSON text of a value, with keys masked, and with null for NaN and infinite numbers."""
    text = json.dumps(strict(mask().value(value)), indent=indent, ensure_ascii=False, allow_nan=False, default=str)
    return _UNSEEN.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def print_json(value: Any, indent: int | None = 2) -> None:
    click.echo(json_text(value, indent))


def print_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table on a terminal, and lines of cells separated by tabs elsewhere, for programs."""
    rows = [[safe(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in rows:
            click.echo("\t".join(" ".join(cell.split()) for cell in row))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE, header_style="bold")
    for place, header in enumerate(headers):
        table.add_column(header, min_width=max(len(row[0]) for row in rows) if rows and not place else None)
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)


class Running:
    """Prints a text that comes in pieces. A key in it is masked, also if it is cut in two: its beginning is held back.

    raw: mask keys only; otherwise control characters are escaped as well
    """

    def __init__(self, *, err: bool = False, raw: bool, **style: Any) -> None:
        self._err, self._raw, self._style = err, raw, style
        self._flow: Flow | None = None  # made with the first piece: accounts, and so keys, are known only then
        self._return = ""  # a carriage return at the end of the last piece, held back: a line feed may follow

    def piece(self, text: str) -> None:
        self._flow = self._flow or mask().flow()
        self._show(self._flow.piece(text))

    def end(self) -> None:
        """The text has ended: print what was held back."""
        rest = self._flow.rest() if self._flow else ""
        self._show(rest if self._raw else escaped(self._return + rest), escape=False)
        self._return = ""

    def _show(self, text: str, *, escape: bool = True) -> None:
        if escape and not self._raw:
            text = self._return + text
            self._return = text[len(text.removesuffix("\r")) :]
            text = escaped(text.removesuffix("\r"))
        if text:
            self._write(text)

    def _write(self, text: str) -> None:
        stream = sys.stderr if self._err else sys.stdout
        styled = click.style(text, **self._style) if self._style and stream.isatty() else text
        # color: otherwise click removes escape sequences from a raw text where the output is not a terminal.
        click.echo(styled, nl=False, err=self._err, color=self._raw or None)
        stream.flush()
