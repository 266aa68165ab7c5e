"""prx log: lists, prints and removes the conversations that `prx chat` has kept."""

from __future__ import annotations

import time
from pathlib import Path

import click

from prx.cli import kept, options, output
from prx.cli.conversation import text_of
from prx.errors import ConfigError


@click.command()
@click.argument("name", metavar="[ID]", required=False, shell_complete=options.complete_conversation)
@click.option(
    "--json", "as_json", is_flag=True, help="Print as JSON; of one conversation its lines, as they are stored."
)
@click.option("--search", metavar="TEXT", help="List only those in which this text stands, in capitals or not.")
@click.option(
    "--remove",
    metavar="ID",
    multiple=True,
    shell_complete=options.complete_conversation,
    help="Delete this conversation.",
)
@click.option("--remove-all", is_flag=True, help="Delete all conversations.")
def log(name: str | None, as_json: bool, search: str | None, remove: tuple[str, ...], remove_all: bool) -> None:
    """List the conversations that `prx chat` has kept, or print one.

    They are files below $XDG_STATE_HOME/prx or ~/.local/state/prx, which only you may read. An id may be shortened.
    """
    if search is not None and (name or remove or remove_all):
        raise click.UsageError("--search cannot be used together with ID, --remove and --remove-all")
    if remove or remove_all:
        if name:
            raise click.UsageError("ID cannot be used together with --remove and --remove-all")
        _remove(kept.paths() if remove_all else [kept.find(each) for each in remove])
    elif name:
        _print(name, as_json=as_json)
    else:
        _list(search, as_json=as_json)


def _list(search: str | None, *, as_json: bool) -> None:
    rows = [row for row in kept.listed() if not search or _has(row.path, search.casefold())]
    if as_json:
        output.print_json(
            [{"id": row.id, "changed": _date(row.changed), **row.about, "file": str(row.path)} for row in rows]
        )
        return
    cells = [(row.id, _date(row.changed), str(row.about.get("model")), str(row.about.get("first"))) for row in rows]
    if rows:
        output.print_table(("id", "date", "model", "begins with"), cells)
    else:
        output.note("(in no conversation that is kept does this text stand)" if search else "(no conversation is kept)")


def _has(path: Path, text: str) -> bool:
    """Whether a text stands in a question or an answer of a conversation."""
    try:
        messages = [message for turn in kept.turns(path) for message in turn["messages"]]
    except ConfigError as error:  # one file that is no conversation does not end the search
        output.note(f"({error})")
        return False
    return any(text in text_of(message).casefold() for message in messages)


def _date(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))


def _print(name: str, *, as_json: bool) -> None:
    path = kept.find(name)
    if as_json:
        for row in kept.rows(path):
            output.print_json(row, indent=None)
        return
    system = ""
    for place, turn in enumerate(kept.turns(path)):
        output.note(f"{'' if not place else chr(10)}{turn.get('at')} · {turn.get('answered_by')}")
        if turn["system"] != system:
            system = turn["system"]
            output.note(f"system: {system}" if system else "no system message")
        question, *answers = turn["messages"]
        output.echo(f"> {text_of(question)}\n")
        for message in answers:
            _answer(message)
        if turn.get("cut_off"):
            output.note("(cut off)")


def _answer(message: dict[str, object]) -> None:
    if text := text_of(message):
        output.echo(text)
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function", {})
        output.echo(f"{function.get('name')}({function.get('arguments')})")


def _remove(paths: list[Path]) -> None:
    for path in paths:
        try:
            path.unlink()
        except OSError as error:
            raise ConfigError(f"{path}: cannot be removed: {error.strerror}") from None
    output.note(f"({len(paths)} removed)")
