"""docs/demo.svg: a real run of `prx demo` on a terminal, drawn by rich."""

from __future__ import annotations

import io
import os
import pty
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text


def run() -> str:
    """What the terminal got, colours included."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm-256color"
        program = [sys.executable, "-m", "prx", "demo"]
        os.execv(program[0], program)  # noqa: S606 - our own program
    seen = b""
    try:
        while piece := os.read(terminal, 4096):
            seen += piece
    except OSError:
        pass  # the terminal is gone when the program is
    os.waitpid(pid, 0)
    return seen.decode().replace("\r\n", "\n").replace("\x1b[0m\x1b[2m", "")


def main() -> None:
    console = Console(record=True, width=104, file=io.StringIO())
    console.print(Text("$ prx demo", style="bold"))
    console.print(Text.from_ansi(run().rstrip()))
    drawn = console.export_svg(title="prx demo")
    drawn = re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL)  # a picture that asks nobody for its fonts
    (Path(__file__).parent / "demo.svg").write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    main()
