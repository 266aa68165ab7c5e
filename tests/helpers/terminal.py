"""A command in a terminal of its own: what is typed reaches it as from a keyboard, and what it shows is read."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time

# The terminal controls the command: otherwise Ctrl-C would be a character and no signal.
_TAKE = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
ENTER, TAB, LEFT, BACKSPACE, CTRL_C, CTRL_D, CTRL_R, ALT_ENTER = "\r", "\t", "\x1b[D", "\x7f", "\x03", "\x04", "\x12", "\x1b\r"  # fmt: skip


def paste(text):
    """What a terminal sends for a text that is pasted."""
    return f"\x1b[200~{text}\x1b[201~"


class Terminal:
    """A context manager: the command runs until it ends by itself, or is killed at the end."""

    def __init__(self, *arguments, env, command=(sys.executable, "-m", "prx"), rows=24, columns=80):
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        env = {
            "PATH": os.environ["PATH"], "TERM": "xterm", "LANG": "C.UTF-8", "PROMPT_TOOLKIT_NO_CPR": "1", "COLUMNS": str(columns), "LINES": str(rows),
            **env,
        }  # fmt: skip
        run = [sys.executable, "-ISc", _TAKE, *map(str, (*command, *arguments))]
        self.process = subprocess.Popen(run, stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True)  # fmt: skip
        os.close(theirs)
        self.raw = ""
        self._seen = 0
        self._bytes = b""

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        os.close(self._ours)

    @property
    def text(self):
        """All that was shown, without what commands the terminal."""
        return _ESCAPES.sub("", self.raw).replace("\r", "")

    def type(self, *keys):
        for key in keys:
            os.write(self._ours, key.encode())

    def until(self, text, seconds=20):
        """Read on until a text is shown that was not there at the last call; gives what was shown since then."""
        end = time.monotonic() + seconds
        while (at := self.text.find(text, self._seen)) < 0:
            reading = time.monotonic() < end and self.read()
            assert reading, f"{text!r} is not in {self.text[self._seen :]!r}"
        before, self._seen = self._seen, at + len(text)
        return self.text[before : self._seen]

    def end(self, seconds=20):
        """Read to the end of the command; gives its exit code."""
        end = time.monotonic() + seconds
        while self.read():
            assert time.monotonic() < end, self.text
        return self.process.wait(10)

    def read(self, seconds=1):
        """Read what is there, or comes within this time; False where the command has ended."""
        if not select.select([self._ours], [], [], seconds)[0]:
            return True
        try:
            self._bytes += (piece := os.read(self._ours, 65536))
        except OSError:  # nobody has the other end any more
            return False
        self.raw = self._bytes.decode(errors="replace")
        return bool(piece)


def screen(raw, rows=24, columns=80):
    """The lines of a terminal after all of this was written to it: as far as prx makes use of one."""
    lines, row, column = [[]], 0, 0
    for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|[\s\S]", raw):
        if part == "\r":
            column = 0
        elif part == "\n":
            row += 1
        elif part.startswith("\x1b[") and part[-1] == "A":
            row = max(row - int(part[2:-1] or 1), len(lines) - rows, 0)
        elif part == "\x1b[J":
            lines[row] = lines[row][:column]
            del lines[row + 1 :]
        elif part[0] != "\x1b":
            if column == columns:
                row, column = row + 1, 0
            lines += [[] for _ in range(row + 1 - len(lines))]
            lines[row] += [" "] * (column + 1 - len(lines[row]))
            lines[row][column] = part
            column += 1
        else:
            assert part[-1] in "mhl", part
        lines += [[] for _ in range(row + 1 - len(lines))]
    return ["".join(line).rstrip() for line in lines]
