"""The command line. One file a group of commands; none decides anything that the library does not.

Exit codes: 0 done · 1 the user's or the provider's fault, said in a sentence · 2 wrong usage · 3 our bug ·
130 interrupted.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import click

from prx.cli import chat, completion, conformance, demo, doctor, output, probe, providers, record
from prx.errors import Error


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="prx-engine", prog_name="prx")
def prx() -> None:
    """One YAML file, one working LLM provider."""


for command in (
    chat.chat, providers.providers, providers.show, providers.check, providers.schema, doctor.models, doctor.doctor, demo.demo, record.record, conformance.conformance,
    probe.probe, completion.completion,
):  # fmt: skip
    prx.add_command(command)


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
    except OSError as error:  # of files the commands speak themselves; what is left is the output
        _say(f"prx: the output cannot be written: {error.strerror or error}")
        code = _closed_pipe() or 1
    except Exception as error:
        if os.environ.get("PRX_DEBUG"):
            raise
        _say(
            f"prx: a fault of prx itself: {type(error).__name__}: {error}\nSet PRX_DEBUG=1 to see where, and please report it."
        )
        code = 3
    sys.exit(code)


def _streams() -> None:
    """Something to read from and to write to, also where a shell has closed it. Raises OSError without an output."""
    nothing = Path(os.devnull)
    sys.stdin = sys.stdin or nothing.open(encoding="utf-8")  # open as long as the process
    sys.stderr = sys.stderr or nothing.open("w", encoding="utf-8")
    if sys.stdout is None:
        raise OSError("standard output is closed")


def _say(text: str) -> None:
    """A sentence for people. What a server or a file put into it commands no terminal."""
    with contextlib.suppress(OSError):
        output.echo(text, err=True)


def _closed_pipe() -> int:
    """Nobody takes our output; say nothing more, and let nothing be flushed into what is closed."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
