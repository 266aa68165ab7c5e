"""Runs a command that prints a key."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from prx.errors import ConfigError, ProviderTimeoutError
from prx.secret import Secret, redact

_PATIENCE = 30.0  # seconds
_LARGEST = 65536  # bytes that a command may print
_READS = 16  # of as many bytes, before it is looked whether the command is to go on
_LOOKS = 0.002, 0.05  # seconds between two looks at what a command has printed: at first, and later
_SHOWN = 200  # characters of what a command complains about
_MOST_WORDS = 100  # printed words that are looked for in a complaint


def printed(argv: Sequence[str], env: Mapping[str, str], where: str, stopped: Callable[[], bool]) -> str:
    """What the command prints, without spaces around it. where: its key in the configuration, for the error, which never has
    what the command has printed: it may be the key. stopped: whether nobody waits for it any more. Raises ConfigError, and
    ProviderTimeoutError where it was stopped.
    """
    try:
        # In a session of its own, so that all that it starts can be ended with it; with no input, so that it asks nobody.
        process = subprocess.Popen(  # noqa: S603 - the user's own configuration names it
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(env),
            start_new_session=True,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise _failed(where, argv, f"cannot be run: {getattr(error, 'strerror', None) or error}") from None
    assert process.stdout is not None
    assert process.stderr is not None
    out, complaint = _Pipe(process.stdout), _Pipe(process.stderr)
    try:
        ended = _heard(process, (out, complaint), stopped)
    finally:
        _end(process)
    if stopped() and not ended:
        raise ProviderTimeoutError(f"the deadline passed while the command {argv[0]} was running")
    text = out.data.decode(errors="replace").strip()
    if len(out.data) > _LARGEST:
        raise _failed(where, argv, f"printed more than {_LARGEST} bytes, which is too much for a key")
    if not ended:
        raise _failed(where, argv, f"had not ended after {_PATIENCE:g} s")
    if process.returncode:
        raise _failed(where, argv, f"ended with exit code {process.returncode}{_first_line(complaint.data, text)}")
    if not text:
        raise _failed(where, argv, f"printed nothing{_first_line(complaint.data, text)}")
    return text


class _Pipe:
    """What a command prints, as far as it has come."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._number = stream.fileno()
        os.set_blocking(self._number, False)
        self.data = b""

    def read(self) -> None:
        for _ in range(_READS):
            try:
                piece = os.read(self._number, _LARGEST)
            except BlockingIOError:
                return
            if not piece:
                return
            self.data += piece[: _LARGEST + 1 - len(self.data)]


def _heard(process: subprocess.Popen[bytes], pipes: Sequence[_Pipe], stopped: Callable[[], bool]) -> bool:
    """Read what the command prints; whether it has ended by itself. What it has started may run on, with its pipes open."""
    until, (pause, longest) = time.monotonic() + _PATIENCE, _LOOKS
    while True:
        ended = process.poll() is not None  # before it is read: what was printed last is read then
        for pipe in pipes:
            pipe.read()
        if ended:
            return True
        if stopped() or time.monotonic() > until or len(pipes[0].data) > _LARGEST:
            return False
        time.sleep(pause)
        pause = min(pause * 1.5, longest)


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
    printed_words = text.split()
    if len(printed_words) > _MOST_WORDS:
        return ""
    words = complaint.decode(errors="replace").strip()
    line = redact(words, [Secret(part) for part in (text, *printed_words) if part]).partition("\n")[0]
    return f": {line[:_SHOWN]}" if line else ""


def _failed(where: str, argv: Sequence[str], what: str) -> ConfigError:
    return ConfigError(f"{where}: the command {argv[0]} {what}", hint="Run it yourself to see what it says.")
