"""prx models and prx doctor: list a provider's models, and check what may keep it from working."""

from __future__ import annotations

from typing import Any

import click

from prx import doctor as checks
from prx.cli import options, output
from prx.errors import ConfigError
from prx.text import nearest


@click.command()
@click.argument("name", metavar="[ID|FILE]", required=False, shell_complete=options.complete_provider)
@click.option(
    "--search", metavar="WORDS", multiple=True, help="Only names with each of these words in them; case does not count."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print as JSON, with all that the list says of each: [{id, data}]."
)
@options.settings
def models(
    name: str | None, search: tuple[str, ...], as_json: bool, config: str | None, folders: tuple[str, ...]
) -> None:
    """Print a provider's own list of its models."""
    if name:
        name, folders = options.by_name(name, folders)
    with options.client(config, folders) as client:
        rows = client.model_rows(name)
    if search:
        rows = _found(" ".join(search), rows)
    names = [row["id"] for row in rows]
    if as_json:
        output.print_json(rows)
    else:
        output.echo("\n".join(map(output.line, names)), nl=bool(names))
        if not names:
            output.note("(the list is empty)")


def _found(text: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The models whose names have every word of a text in them. Raises ConfigError where none has."""
    words = text.lower().split()
    found = [row for row in rows if all(word in row["id"].lower() for word in words)]
    if not found:
        raise ConfigError(f"no model matches {text!r}{nearest(text, [row['id'] for row in rows])}")
    return found


def _complete_check(ctx: click.Context, param: click.Parameter, start: str) -> list[str]:
    first = [] if ctx.params.get("names") or not "models".startswith(start) else ["models"]
    return first + options.complete_provider(ctx, param, start)


@click.command()
@click.argument("names", metavar="[models] [ID|FILE]...", nargs=-1, shell_complete=_complete_check)
@click.option(
    "-p",
    "--provider",
    "only",
    multiple=True,
    shell_complete=options.complete_provider,
    help="Only this provider; the same as ID or FILE.",
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@options.settings
def doctor(
    names: tuple[str, ...], only: tuple[str, ...], as_json: bool, config: str | None, folders: tuple[str, ...]
) -> None:
    """Check providers, all configured ones or those that are named: URL, key, models, and short chats.

    With `models` as the first argument, no chats. Each provider is called with its own key only. The chats cost a few
    tokens.
    """
    chat = names[:1] != ("models",)
    only = (*only, *(names if chat else names[1:]))
    for name in only:
        _, folders = options.by_name(name, folders)
    only = tuple(options.by_name(name, ())[0] for name in only)
    with options.client(config, folders) as client:
        rows = [checks.examine(client, name, chat=chat) for name in only or checks.configured(client)]
    if as_json:
        output.print_json([row.plain() for row in rows])
    else:
        for row in rows:
            output.echo("\n".join(row.lines()))
    if not rows:
        click.echo(
            "prx: no provider is configured; name one with --provider, or write [default] into config.toml", err=True
        )
    if not rows or any(row.failed for row in rows):
        raise click.exceptions.Exit(1)
