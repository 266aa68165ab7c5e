"""Where all that a command prints goes through: known keys are masked, and nothing in it commands a terminal.

A server may say a key back, and it may say what moves a cursor, sets a title or fills the clipboard. Whatever a command
repeats of it is a text like any other here. Colours are the command's own, and are put around the text afterwards.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import click

from prx.client import Client
from prx.mask import Flow, Mask, strict
from prx.secret import Secret
from prx.session import Session

Watched = TypeVar("Watched", Client, Session)
_clients: list[Client | Session] = []
_keys: list[Secret] = []
# All but tabs and line breaks that a terminal obeys, or by which what stands beside them changes its place.
_COMMANDS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\U000e0000-\U000e007f]"
)
# In JSON a reader sees what they do: they change a terminal's state, or the direction of what stands beside them.
_UNSEEN = re.compile("[\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def watch(client: Watched) -> Watched:
    """Have the keys of a client's providers masked from now on."""
    _clients.append(client)
    return client


def guard(key: str) -> str:
    """Have a key masked that no client knows."""
    if key:
        _keys.append(Secret(key))
    return key


def mask() -> Mask:
    """Of the keys that this process may have sent."""
    accounts = [account for client in _clients for account in tuple(client.accounts.opened.values())]
    return Mask([*_keys, *(secret for account in accounts for secret in account.target.secrets)])


def safe(text: str) -> str:
    """A text without keys, whose lines and tabs are all that it does to a terminal."""
    return _tame(mask().text(text))


def line(text: str) -> str:
    """The same on one line: a name that a server gives makes no second one."""
    return _tame(mask().text(text)).replace("\n", "\\n").replace("\t", "\\t")


def _tame(text: str) -> str:
    return _COMMANDS.sub(lambda found: found[0].encode("unicode_escape").decode(), text.replace("\r\n", "\n"))


def echo(text: str = "", *, nl: bool = True, err: bool = False, **style: Any) -> None:
    _print(safe(text), nl=nl, err=err, **style)


def _print(text: str, *, nl: bool, err: bool, **style: Any) -> None:
    click.echo(click.style(text, **style) if style else text, nl=nl, err=err)  # without a style, it would end one


def file(text: str) -> None:
    """A file, as it is; on a terminal, nothing in it commands it."""
    click.echo(_tame(text) if sys.stdout.isatty() else text, nl=False, color=True)


def note(text: str) -> None:
    """Something beside the answer: on stderr, dimmed where a terminal shows it."""
    sys.stdout.flush()
    echo(text, err=True, dim=True)


def json_text(value: Any, indent: int | None = None) -> str:
    """JSON that every reader takes: without keys, and without the numbers that JSON does not have, which are null."""
    text = json.dumps(strict(mask().value(value)), indent=indent, ensure_ascii=False, allow_nan=False, default=str)
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def print_json(value: Any) -> None:
    click.echo(json_text(value, indent=2))


def print_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table for eyes on a terminal, lines with tabs for programs elsewhere."""
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
    """A text that comes in pieces. A key in it is masked, also where it is cut in two: its beginning waits for the rest.

    raw: as it came, but for keys; else what would command a terminal is shown by its number
    """

    def __init__(self, *, err: bool = False, raw: bool, **style: Any) -> None:
        self._err, self._raw, self._style = err, raw, style
        self._flow: Flow | None = None  # there are keys once somebody answers
        self._return = ""  # one that the last piece ended with: a line break may follow

    def piece(self, text: str) -> None:
        self._flow = self._flow or mask().flow()
        self._show(self._flow.piece(text))

    def end(self) -> None:
        """Nothing more comes."""
        rest = self._flow.rest() if self._flow else ""
        self._show(rest if self._raw else _tame(self._return + rest), tame=False)
        self._return = ""

    def _show(self, text: str, *, tame: bool = True) -> None:
        if tame and not self._raw:
            text = self._return + text
            self._return = text[len(text.removesuffix("\r")) :]
            text = _tame(text.removesuffix("\r"))
        if text:
            stream = sys.stderr if self._err else sys.stdout
            styled = click.style(text, **self._style) if self._style and stream.isatty() else text
            # Else click would take a text's own escapes out where no terminal is, and it is to be as it came.
            click.echo(styled, nl=False, err=self._err, color=self._raw or None)
            stream.flush()
