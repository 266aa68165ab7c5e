"""Options that several commands share, and what they print with."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import click

from prx.client import Client

Command = TypeVar("Command", bound=Callable[..., Any])


def settings(command: Command) -> Command:
    """--config and --providers, where every command looks for files."""
    command = click.option(
        "--providers",
        "folders",
        multiple=True,
        metavar="DIR",
        help="Further folder of provider files; before all others.",
    )(command)
    return click.option("--config", metavar="FILE", help="config.toml to use in place of the usual one.")(command)


def client(config: str | None, folders: Sequence[str]) -> Client:
    return Client(config=config, providers=list(folders))


def complete_provider(_ctx: click.Context, _param: click.Parameter, start: str) -> list[str]:
    """Names of providers, for the shell's completion."""
    return [name for name in Client(config={}).catalog.names if name.startswith(start)]


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def print_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table for eyes on a terminal, lines with tabs for programs elsewhere."""
    if not sys.stdout.isatty():
        for row in rows:
            click.echo("\t".join(" ".join(cell.split()) for cell in row))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(*headers, box=box.SIMPLE, header_style="bold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def note(text: str) -> None:
    """Something beside the answer: on stderr, dimmed where a terminal shows it."""
    sys.stdout.flush()
    click.secho(text, dim=True, err=True)
