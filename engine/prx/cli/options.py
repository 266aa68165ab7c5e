"""Options that several commands share."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from prx import arguments
from prx.cli import output
from prx.client import Client
from prx.errors import ConfigError, Error
from prx.session import Session
from prx.spec.files import SUFFIXES

Command = TypeVar("Command", bound=Callable[..., Any])


def settings(command: Command) -> Command:
    """Adds --config and --providers to a command."""
    command = click.option(
        "--providers",
        "folders",
        multiple=True,
        metavar="DIR",
        help="Further folder of provider files; it replaces files of the same name in all others.",
    )(command)
    return click.option("--config", metavar="FILE", help="config.toml to use in place of the usual one.")(command)


def client(config: str | None, folders: Sequence[str]) -> Client:
    """The client of a command that calls providers; its keys are masked in all output."""
    return output.watch(Client(config=config, providers=list(folders)))


def session(config: str | None, folders: Sequence[str]) -> Session:
    """The session of a command that calls no provider: unlike a client, it imports nothing for connections."""
    return output.watch(Session(config, list(folders), None))


@contextlib.contextmanager
def bad_input() -> Iterator[None]:
    """Ends a command that asks nobody with the exit code of wrong usage where what it was given is faulty."""
    try:
        yield
    except Error as error:
        output.refuse(str(error))


def by_name(name: str, folders: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """A provider's name and the folders that have it, from its name or from the path of its file. Raises ConfigError."""
    path = Path(name)
    if path.suffix not in SUFFIXES:
        return name, tuple(folders)
    if not path.is_file():
        raise ConfigError(
            f"{name}: there is no such file", hint="Write a provider's name, or the path of its YAML file."
        )
    return path.stem, (str(path.parent), *folders)


def key(variable: str | None) -> str:
    """The key in the variable of --key-env, "" without the option. Raises ConfigError for a variable that is not set."""
    value = output.guard(os.environ.get(variable, "").strip() if variable else "")
    if variable and not value:
        raise ConfigError(f"the environment variable {variable} is not set")
    return value


def complete_provider(ctx: click.Context, _param: click.Parameter, start: str) -> list[str]:
    """Completes names of providers, those of the configuration among them."""
    given = ctx.params
    try:
        accounts = Session(given.get("config"), given.get("folders"), None).accounts
    except Error:  # a faulty configuration is no reason to complete nothing
        accounts = Session({}, None, None).accounts
    return [name for name in dict.fromkeys(accounts.names) if name.startswith(start)]


def complete_model(ctx: click.Context, param: click.Parameter, start: str) -> list[str]:
    """Completes a model's name: provider/, and behind it the models that conversations were had with. Nobody is asked for a
    list: a key may be needed for that, and time.
    """
    if "/" not in start:
        return [f"{name}/" for name in complete_provider(ctx, param, start)]
    from prx.cli import kept

    models = dict.fromkeys(str(row.about.get("model")) for row in kept.listed())
    return [name for name in models if name.startswith(start)]


def complete_conversation(_ctx: click.Context, _param: click.Parameter, start: str) -> list[CompletionItem]:
    """Completes ids of conversations, with their first words."""
    from prx.cli import kept

    return [
        CompletionItem(row.id, help=output.line(str(row.about.get("first"))))
        for row in kept.listed()
        if row.id.startswith(start)
    ]


def seconds(text: str) -> float:
    """A number of seconds on the command line. Raises BadParameter."""
    try:
        return arguments.seconds("it", float(text)) or 0.0
    except (ValueError, ConfigError):
        raise click.BadParameter(f"{text!r} is not a number of seconds above 0") from None
