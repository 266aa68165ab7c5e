"""Runs a command that prints a key."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence

from prx.errors import ConfigError
from prx.secret import Secret, redact

_PATIENCE = 30.0  # seconds
_SHOWN = 200  # characters of what a command complains about


def printed(argv: Sequence[str], env: Mapping[str, str], where: str) -> str:
    """What the command prints, without spaces around it. where: its key in the configuration, for the error, which never has
    what the command has printed: it may be the key. Raises ConfigError.
    """
    try:
        # In a session of its own, so that all that it starts can be ended with it; with no input, so that it asks nobody.
        process = subprocess.Popen(  # noqa: S603 - the user's own configuration names it
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(env),
            start_new_session=True,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise _failed(where, argv, f"cannot be run: {getattr(error, 'strerror', None) or error}") from None
    try:
        out, complaint = process.communicate(timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        raise _failed(where, argv, f"had not ended after {_PATIENCE:g} s") from None
    finally:
        _end(process)
    text = out.decode(errors="replace").strip()
    if process.returncode:
        raise _failed(where, argv, f"ended with exit code {process.returncode}{_first_line(complaint, text)}")
    if not text:
        raise _failed(where, argv, f"printed nothing{_first_line(complaint, text)}")
    return text


def _end(process: subprocess.Popen[bytes]) -> None:
    """End what still runs, and close the pipes: a child of the command may hold them open."""
    if process.poll() is None:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _first_line(complaint: bytes, text: str) -> str:
    """The first line of what a command complains about, without what it has printed, which may be a key."""
    words = complaint.decode(errors="replace").strip()
    line = redact(words, [Secret(part) for part in (text, *text.split()) if part]).partition("\n")[0]
    return f": {line[:_SHOWN]}" if line else ""


def _failed(where: str, argv: Sequence[str], what: str) -> ConfigError:
    return ConfigError(f"{where}: the command {argv[0]} {what}", hint="Run it yourself to see what it says.")
