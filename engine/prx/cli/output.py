"""Where all that a command prints goes through: known keys are masked, and nothing in it commands a terminal.

A server may say a key back, and it may say what moves a cursor, sets a title or fills the clipboard. Whatever a command
repeats of it is a text like any other here. Colours are the command's own, and are put around the text afterwards.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

from prx.client import Client
from prx.spec.document import printable
from prx.wire import MASK, Secret, redact, redact_value

_clients: list[Client] = []
_keys: list[Secret] = []
# In JSON a reader sees what they do: they change a terminal's state, or the direction of what stands beside them.
_UNSEEN = re.compile("[\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def watch(client: Client) -> Client:
    """Have the keys of a client's providers masked from now on."""
    _clients.append(client)
    return client


def guard(key: str) -> str:
    """Have a key masked that no client knows."""
    if key:
        _keys.append(Secret(key))
    return key


def secrets() -> list[Secret]:
    """The keys that this process may have sent."""
    accounts = [account for client in _clients for account in tuple(client.accounts.opened.values())]
    return [*_keys, *(secret for account in accounts for secret in account.target.secrets)]


def safe(text: str) -> str:
    """A text without keys, whose lines and tabs are all that it does to a terminal."""
    masked = redact(text, secrets())
    return "".join(part if part in ("\n", "\t") else printable(part) for part in re.split(r"([\n\t])", masked))


def echo(text: str = "", *, nl: bool = True, err: bool = False, **style: Any) -> None:
    _print(safe(text), nl=nl, err=err, **style)


def _print(text: str, *, nl: bool, err: bool, **style: Any) -> None:
    click.echo(click.style(text, **style) if style else text, nl=nl, err=err)  # without a style, it would end one


def note(text: str) -> None:
    """Something beside the answer: on stderr, dimmed where a terminal shows it."""
    sys.stdout.flush()
    echo(text, err=True, dim=True)


def json_text(value: Any, indent: int | None = None) -> str:
    """JSON that every reader takes: without keys, and without the numbers that JSON does not have, which are null."""
    text = json.dumps(
        _finite(redact_value(value, secrets())), indent=indent, ensure_ascii=False, allow_nan=False, default=str
    )
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
        self._held = ""
        self._plain: list[str] | None = None  # the keys, once somebody answers

    def piece(self, text: str) -> None:
        if self._plain is None:
            self._plain = [value for secret in secrets() if len(value := secret.plain) > 3]
        text = self._held + text
        for value in self._plain:
            text = text.replace(value, MASK)
        keep = max((_overlap(text, value) for value in self._plain), default=0)
        self._held = text[len(text) - keep :]
        self._print(text[: len(text) - keep])

    def end(self) -> None:
        held, self._held = self._held, ""
        self._print(held)

    def _print(self, text: str) -> None:
        if text:
            shown = redact(text, secrets()) if self._raw else safe(text)
            styled = self._style and (sys.stderr if self._err else sys.stdout).isatty()
            # Else click would take a text's own escapes out where no terminal is, and it is to be as it came.
            click.echo(
                click.style(shown, **self._style) if styled else shown, nl=False, err=self._err, color=self._raw or None
            )
            (sys.stderr if self._err else sys.stdout).flush()


def _overlap(text: str, value: str) -> int:
    """How many characters at the end of a text may be the beginning of a value."""
    return next((size for size in range(min(len(value) - 1, len(text)), 0, -1) if text.endswith(value[:size])), 0)
