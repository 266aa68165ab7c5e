"""prx check: prints the faults of provider files and configurations, for people, for programs, or for GitHub."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from prx import checks
from prx.accounts import config as configuration
from prx.cli import options, output
from prx.spec.document import Problem
from prx.spec.files import SUFFIXES
from prx.spec.model import Retired
from prx.spec.read import read_quickly


@click.command()
@click.argument("paths", metavar="[PATH...]", nargs=-1, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the faults as JSON.")
@click.option("--github", is_flag=True, help="Print the faults as annotations of GitHub Actions.")
@options.settings
def check(paths: tuple[Path, ...], as_json: bool, github: bool, config: str | None, folders: tuple[str, ...]) -> None:
    """Check provider files, folders of them, and config.toml together: print every fault, with its place and what to write instead.

    What they name is looked up in all of them: the providers of `extends`, of routes and of the default; aliases that
    lead to another provider; routes that never fit, since an earlier one takes all.
    Without a PATH: the config.toml and the folders that other commands would use.

    \b
    --json      a list of {file, line, column, path, severity, code, message, hint}
    --github    ::error file=…,line=…,col=…::message
    exit code   0 no fault, 1 faults, 2 nothing to read
    """
    if as_json and github:
        raise click.UsageError("--json and --github cannot be used together")
    with options.bad_input():
        usual = configuration.folders(folders, os.environ)
    files = _files(paths, config, usual)
    faults = checks.check(files, usual, os.environ)
    (_json if as_json else _github if github else _text)(faults)
    if any(faults.values()):
        raise click.exceptions.Exit(1 if any(path.exists() for path in files) else 2)


def _files(paths: tuple[Path, ...], config: str | None, usual: list[Path]) -> list[Path]:
    given = paths or tuple(path for path in (*usual, *configuration.files(config, os.environ)) if path.exists())
    given = given if config is None or Path(config) in given else (*given, Path(config))
    files = list(dict.fromkeys(checks.files_in(given)))
    if not files:
        output.refuse(
            f"{given[0]}: there is no .yaml file in this folder"
            if given
            else "there is no provider file or config.toml of yours to check",
            "Name provider files, folders of them, or a config.toml.",
        )
    return files


def _text(faults: Mapping[Path, list[Problem]]) -> None:
    for path, problems in faults.items():
        output.echo("\n".join(map(str, problems)) if problems else f"{path}: good{_retired(path)}")


def _retired(path: Path) -> str:
    """A clause for a file of a retired provider; "" for any other."""
    row = read_quickly(path).get("retired") if path.suffix in SUFFIXES else None
    return f", of a provider {Retired(**row)}" if row else ""


def _json(faults: Mapping[Path, list[Problem]]) -> None:
    output.print_json([_row(problem) for problems in faults.values() for problem in problems])


def _row(problem: Problem) -> dict[str, Any]:
    names = ("file", "line", "column", "path", "severity", "code", "message", "hint")
    return {name: getattr(problem, name) for name in names}


# How GitHub reads a command of a workflow: % begins an escape, and in a property : and , end its value.
_MESSAGE = {"%": "%25", "\r": "%0D", "\n": "%0A"}
_PROPERTY = _MESSAGE | {":": "%3A", ",": "%2C"}


def _github(faults: Mapping[Path, list[Problem]]) -> None:
    for problem in (problem for problems in faults.values() for problem in problems):
        place = {"file": problem.file} | ({"line": problem.line, "col": problem.column} if problem.line else {})
        properties = ",".join(f"{name}={_escaped(str(value), _PROPERTY)}" for name, value in place.items())
        text = f"{problem.path}: {problem.text}" if problem.path else problem.text
        output.echo(f"::{problem.severity} {properties}::{_escaped(text, _MESSAGE)}")


def _escaped(text: str, letters: Mapping[str, str]) -> str:
    return "".join(letters.get(letter, letter) for letter in text)
