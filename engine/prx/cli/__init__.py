"""The command line, one file for each group of commands. All decisions are in the library.

Exit codes: 0 success · 1 an error of the user or the provider, explained in a sentence · 2 wrong usage · 3 a bug of prx ·
130 interrupted.
"""

from __future__ import annotations

import contextlib
import os
import sys
from importlib import import_module
from pathlib import Path

import click

from prx.cli import output, verbosity
from prx.errors import Error

# Which file each command is in. Only that of the command that was asked for is imported: all take half as long as a call.
_FILES = {
    "batch": "batch", "chat": "chat", "check": "check", "completion": "completion", "conformance": "conformance", "demo": "demo", "doctor": "doctor",
    "complete": "kinds", "count": "kinds", "embed": "kinds", "image": "kinds", "moderate": "kinds", "rerank": "kinds", "speak": "kinds",
    "transcribe": "kinds",
    "log": "log", "explain": "explain", "diff": "diff",
    "models": "doctor", "probe": "probe", "providers": "providers", "record": "record", "schema": "providers", "serve": "serve", "show": "providers",
}  # fmt: skip


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_FILES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _FILES:
            return None
        command: click.Command = getattr(import_module(f"prx.cli.{_FILES[cmd_name]}"), cmd_name)
        return verbosity.added(command)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="prx-engine", prog_name="prx")
def prx() -> None:
    """One YAML file, one working LLM provider."""


def main() -> None:
    """Run the command line, and end the process with the right code."""
    try:
        _streams()
        code = prx.main(prog_name="prx", standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        code = 2
    except (KeyboardInterrupt, click.Abort):
        code = 130
    except BrokenPipeError:
        code = _closed_pipe()
    except Error as error:
        _say(f"prx: {error}")
        code = 1
    except OSError as error:  # the commands report errors of files themselves, so this is one of the output
        _say(f"prx: the output cannot be written: {error.strerror or error}")
        code = _closed_pipe() or 1
    except Exception as error:
        if os.environ.get("PRX_DEBUG"):
            raise
        _say(f"prx: a bug of prx: {type(error).__name__}: {error}\nPlease report it; PRX_DEBUG=1 shows the traceback.")
        code = 3
    sys.exit(code)


def _streams() -> None:
    """Replace standard input and error by the null device where the shell has closed them. Raises OSError where standard
    output is closed.
    """
    null = Path(os.devnull)
    sys.stdin = sys.stdin or null.open(encoding="utf-8")  # never closed: it is needed as long as the process runs
    sys.stderr = sys.stderr or null.open("w", encoding="utf-8")
    if sys.stdout is None:
        raise OSError("standard output is closed")


def _say(text: str) -> None:
    """Print a sentence on stderr, with keys masked and control characters escaped."""
    with contextlib.suppress(OSError):
        output.echo(text, err=True)


def _closed_pipe() -> int:
    """The reader of the output has closed the pipe: send the rest, which Python flushes at exit, to the null device."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
