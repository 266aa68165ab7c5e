"""Bars on a logarithmic scale, as SVG that asks nobody for its fonts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH, NAMES, RIGHT = 860, 230, 70
ROW, TITLE, GAP, TOP = 17, 22, 12, 46
INK, SOFT, EDGE, OURS, THEIRS = "#1f2328", "#59636e", "#d1d9e0", "#0969da", "#afb8c1"


class Bar(NamedTuple):
    """A value with its spread."""

    name: str
    value: float
    least: float
    most: float
    ours: bool


class Panel(NamedTuple):
    title: str
    bars: Sequence[Bar]


def draw(title: str, panels: Sequence[Panel]) -> str:
    """A picture: a panel below the other, all on one scale."""
    most = max(bar.most for panel in panels for bar in panel.bars)
    least = min(1.0, *(bar.least for panel in panels for bar in panel.bars))
    scale = Scale(least, most)
    height = TOP + sum(TITLE + ROW * len(panel.bars) + GAP for panel in panels) + 10
    parts = [
        f'<rect width="{WIDTH}" height="{height}" rx="6" fill="#ffffff"/>',
        text(16, 24, title, size=14, bold=True),
    ]
    parts += ticks(scale, height)
    top = TOP
    for panel in panels:
        parts.append(text(16, top + 14, panel.title, bold=True))
        for place, bar in enumerate(panel.bars):
            parts += drawn(bar, scale, top + TITLE + place * ROW)
        top += TITLE + ROW * len(panel.bars) + GAP
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}"'
    return f'{head} font-family="system-ui, sans-serif" font-size="12">\n' + "\n".join(parts) + "\n</svg>\n"


class Scale:
    """Ratios to places from left to right."""

    def __init__(self, least: float, most: float) -> None:
        self.low, self.high = math.log10(least), math.log10(max(most, least * 10))

    def __call__(self, ratio: float) -> float:
        part = (math.log10(max(ratio, 10**self.low)) - self.low) / (self.high - self.low)
        return round(NAMES + part * (WIDTH - NAMES - RIGHT), 1)

    def marks(self) -> list[float]:
        found = [step * 10**power for power in range(-2, 5) for step in (1, 2, 5)]
        return [mark for mark in found if self.low <= math.log10(mark) <= self.high]


def ticks(scale: Scale, height: int) -> list[str]:
    parts = []
    for mark in scale.marks():
        parts.append(f'<path d="M{scale(mark)} {TOP - 4}V{height - 10}" stroke="{EDGE}"/>')
        parts.append(text(scale(mark), TOP - 8, f"{mark:g}", colour=SOFT, anchor="middle", size=10))
    return parts


def drawn(bar: Bar, scale: Scale, top: float) -> list[str]:
    start, end, middle = scale(1), scale(bar.value), top + ROW / 2 - 1
    left, width = min(start, end), max(abs(end - start), 1)
    return [
        text(NAMES - 8, middle + 4, bar.name, anchor="end", colour=INK, bold=bar.ours),
        f'<rect x="{left}" y="{top}" width="{width:.1f}" height="{ROW - 4}" rx="2" fill="{OURS if bar.ours else THEIRS}"/>',
        f'<path d="M{scale(bar.least)} {middle}H{scale(bar.most)}" stroke="{INK}"/>',
        text(max(start, scale(bar.most)) + 6, middle + 4, f"{bar.value:.3g}", colour=SOFT),
    ]


def text(x: float, y: float, said: str, *, size: int = 12, bold: bool = False, colour: str = INK, anchor: str = "start") -> str:  # fmt: skip
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" fill="{colour}" text-anchor="{anchor}"{weight}>{escape(said)}</text>'
    )
