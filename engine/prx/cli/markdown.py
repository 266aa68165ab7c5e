"""Shows an answer on a terminal as the Markdown that it is, while it arrives.

Text is shown as it comes. When a block of it is finished (a paragraph, a list, a table, some code), it is written over,
once, in its final form: so nothing waits and nothing flickers. A block that has grown taller than the terminal stays as it
was written, since its beginning can no longer be reached; long code is set in several pieces.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from typing import ClassVar

from markdown_it import MarkdownIt
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import CodeBlock, Heading, Markdown, MarkdownElement
from rich.segment import Segment, Segments
from rich.syntax import Syntax

from prx.cli import output

_FENCE = re.compile(r"\s*(`{3,}|~{3,})([^`]*)")
_ITEM = re.compile(r"\s*(?:[-*+]|\d{1,9}[.)])\s")
_VARYING = ("\u200d", "\ufe0f")  # characters that join or widen the one before: terminals differ in how wide that is
_PARSER = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"])


class Rendered(output.Running):
    """Prints Markdown that comes in pieces; see the module."""

    def __init__(self) -> None:
        super().__init__(raw=False)
        self._blocks = _Blocks()

    def _write(self, text: str) -> None:
        self._blocks.add(text)
        sys.stdout.flush()

    def end(self) -> None:
        """The text has ended. The cursor stays behind its last character."""
        super().end()
        self._blocks.finish()
        sys.stdout.flush()
        self._blocks = _Blocks()


class _Blocks:
    """Cuts a text into blocks as it arrives, and shows them. The cursor is always behind the last character that is seen.

    _source   the present block, as far as it has come
    _shown    what stands on the terminal of it
    _line     the present line
    _fence    the mark that ends the code that the present line is in; "" outside of code
    _opening  the first line of the block, if the block is code
    _blank    an empty line has come: the next line says whether the block goes on
    _stays    the block cannot be written over
    _gap      what to put before the next block
    """

    def __init__(self) -> None:
        self._gap = ""
        self._begin()

    def _begin(self, opening: str = "") -> None:
        self._source, self._shown, self._stays, self._blank = opening, "", False, False
        self._line, self._opening = "", opening
        if not opening:
            self._fence = ""

    def add(self, text: str) -> None:
        for part in text.splitlines(keepends=True):
            self._line += part
            if self._fence or self._line.strip():
                self._visible(part)
            elif part.endswith("\n"):
                self._blank, self._line = bool(self._source), ""

    def _visible(self, part: str) -> None:
        if self._blank:
            # After an empty line an item of a list goes on where the next line stands further in.
            if self._line[0].isspace() and _ITEM.match(self._source):
                self._blank = False
                self._show("\n")
            else:
                line = self._line
                self.finish()
                self._line = line
        # Spaces at the beginning of a line have been held back until it was clear what they belong to.
        self._show(self._line if not self._line.removesuffix(part).strip() and not self._fence else part)
        if part.endswith("\n"):
            line, self._line = self._line, ""
            self._ended(line)

    def _show(self, text: str) -> None:
        self._source += text
        # A line feed at the end is put with what follows it.
        text = self._shown + text
        _put((self._gap if not self._shown.strip("\n") else "") + _without(text, self._shown))
        if text.strip("\n"):
            self._gap = ""
        self._shown = text
        rows, sure = _rows(self._shown)
        self._stays = self._stays or not sure or rows >= shutil.get_terminal_size().lines

    def _ended(self, line: str) -> None:
        """A line has ended."""
        fence = _FENCE.fullmatch(line.rstrip("\n"))
        if not self._fence:
            if fence:
                self._fence, self._opening = fence[1], line if self._source == line else ""
        elif fence and fence[1].startswith(self._fence) and not fence[2].strip():
            self._fence = ""
            self._blank = True
        elif self._opening and not self._stays and _rows(self._shown)[0] > shutil.get_terminal_size().lines // 2:
            self._over(f"{self._source}{self._fence}\n")
            self._begin(self._opening)
            self._gap = "\n"

    def finish(self) -> None:
        """The block has ended."""
        if self._shown.strip():
            self._over(self._source)
            self._gap = "\n\n"
        self._begin()

    def _over(self, source: str) -> None:
        """Write a block over what is shown of it."""
        text = None if self._stays else _rendered(source)
        if text is not None:
            up = _rows(self._shown)[0] - 1
            _put("\r" + (f"\x1b[{up}A" if up else "") + "\x1b[J" + text)


def _without(text: str, before: str) -> str:
    """What is put of a text whose beginning is shown: line feeds at its end are put with what follows them."""
    return text.rstrip("\n")[len(before.rstrip("\n")) :]


def _put(text: str) -> None:
    sys.stdout.write(text)


def _rows(text: str) -> tuple[int, bool]:
    """(rows of the terminal that a text takes, whether all terminals agree)."""
    width = shutil.get_terminal_size().columns
    rows, sure = 0, True
    for line in text.rstrip("\n").split("\n"):
        cells = cell_len(line.expandtabs(8))
        doubt = 2 * sum(map(line.count, _VARYING)) + (cells != len(line)) * (cells // width)
        rows += _over_width(cells, width)
        sure = sure and _over_width(cells - doubt, width) == _over_width(cells + doubt, width)
    return rows, sure


def _over_width(cells: int, width: int) -> int:
    return max(1, -(-cells // width))


# ------------------------------------------------------------------ a block in its final form


def _rendered(source: str) -> str | None:
    """A block with the terminal's colours; None where it has to stay as it is: a key shows only without its marks."""
    console = Console(highlight=False)
    lines = console.render_lines(_Answer(source), console.options.update(height=None), pad=False)
    plain = "\n".join("".join(segment.text for segment in line) for line in lines)
    if output.mask().text(plain) != plain:
        return None
    with console.capture() as capture:
        console.print(Segments(_separated(lines)), end="", soft_wrap=True)
    return capture.get().strip("\n")


def _separated(lines: list[list[Segment]]) -> Iterator[Segment]:
    """The segments of lines, with what commands a terminal escaped: marks such as &#8238; have become characters by now."""
    for number, line in enumerate(lines):
        if number:
            yield Segment.line()
        for segment in _trimmed(line):
            yield Segment(output.escaped(segment.text), segment.style)


def _trimmed(line: list[Segment]) -> list[Segment]:
    """A line without the spaces at its end, which would be copied with it."""
    while line and not line[-1].text.strip():
        line = line[:-1]
    return [*line[:-1], Segment(line[-1].text.rstrip(), line[-1].style)] if line else []


class _Code(CodeBlock):
    """Code in the terminal's own colours, without a border: so pieces of it stand one below the other."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        text = str(self.text).rstrip("\n")
        yield Syntax(text, self.lexer_name, theme="ansi_dark", word_wrap=True, background_color="default")


class _Heading(Heading):
    """A heading that begins where the text does."""

    LEVEL_ALIGN: ClassVar = dict.fromkeys(("h1", "h2", "h3", "h4", "h5", "h6"), "left")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        text = self.text.copy()
        text.justify = "left"
        yield text


class _Answer(Markdown):
    """Markdown as models write it: what looks like a tag is text, and a line ends where it was ended."""

    elements: ClassVar[dict[str, type[MarkdownElement]]] = {
        **Markdown.elements, "fence": _Code, "code_block": _Code, "heading_open": _Heading,
    }  # fmt: skip

    def __init__(self, source: str) -> None:
        super().__init__("", hyperlinks=False)  # a link's address is shown: its text may name another
        self.parsed = _PARSER.parse(source)
        for token in self.parsed:
            for child in token.children or ():
                child.type = "hardbreak" if child.type == "softbreak" else child.type
