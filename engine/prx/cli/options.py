"""Options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from prx import arguments
from prx.cli import output
from prx.client import Client
from prx.errors import ConfigError
from prx.session import Session

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
    """For a command that calls somebody."""
    return output.watch(Client(config=config, providers=list(folders)))


def session(config: str | None, folders: Sequence[str]) -> Session:
    """For a command that calls nobody: it has no connections, and loads nothing that makes some."""
    return output.watch(Session(config, list(folders), None))


def key(variable: str | None) -> str:
    """The key in the variable that --key-env names, "" where it names none. Raises ConfigError for an empty one."""
    found = output.guard(os.environ.get(variable, "").strip() if variable else "")
    if variable and not found:
        raise ConfigError(f"the environment variable {variable} is not set")
    return found


def complete_provider(_ctx: click.Context, _param: click.Parameter, start: str) -> list[str]:
    """Names of providers, for the shell's completion."""
    return [name for name in Session({}, None, None).catalog.names if name.startswith(start)]


def complete_model(ctx: click.Context, param: click.Parameter, start: str) -> list[str]:
    """The providers that a model's name may begin with."""
    return [] if "/" in start else [f"{name}/" for name in complete_provider(ctx, param, start)]


def seconds(text: str) -> float:
    """A limit on the command line: a finite number above 0."""
    try:
        return arguments.seconds("it", float(text)) or 0.0
    except (ValueError, ConfigError):
        raise click.BadParameter(f"{text!r} is no number of seconds above 0") from None
