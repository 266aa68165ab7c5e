"""-v and --log-json, which every command has: lines on standard error of what calls do."""

from __future__ import annotations

import logging

import click

from prx import session
from prx.cli import output

LEVELS = ("warning", "info", "debug")  # by how often -v is given
LINES = "A line on standard error for each request, retry, fallback and end of a call; -vv: all that is known of it."
AS_JSON = "The lines of -v as JSON, also without -v."
_AT = "prx.verbosity"


def added(command: click.Command) -> click.Command:
    """The command with both options, but for one whose own -v says something else."""
    if not any("-v" in option.opts for option in command.params):
        command.params += [
            click.Option(["-v", "--verbose"], count=True, expose_value=False, callback=_verbose, help=LINES),
            click.Option(["--log-json"], is_flag=True, expose_value=False, callback=_as_json, help=AS_JSON),
        ]
    return command


def level(verbose: int, *, as_json: bool) -> str:
    """The level that is wanted."""
    return LEVELS[min(max(verbose, int(as_json)), len(LEVELS) - 1)]


def _verbose(ctx: click.Context, _option: click.Parameter, value: int) -> None:
    ctx.meta[f"{_AT}.verbose"] = value
    _set_up(ctx)


def _as_json(ctx: click.Context, _option: click.Parameter, value: bool) -> None:
    ctx.meta[f"{_AT}.json"] = value
    _set_up(ctx)


def _set_up(ctx: click.Context) -> None:
    """Log from now on, once both options are known, where one of them is given."""
    verbose, as_json = ctx.meta.get(f"{_AT}.verbose"), ctx.meta.get(f"{_AT}.json")
    if verbose is None or as_json is None or not (verbose or as_json):
        return
    from prx import log_lines

    handler = logging.StreamHandler()
    handler.setFormatter(log_lines.FORMS["json" if as_json else "text"](output.mask))
    logger = logging.getLogger("prx")
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(level(verbose, as_json=as_json).upper())
    session.EVERYWHERE.append(log_lines.log_event)
