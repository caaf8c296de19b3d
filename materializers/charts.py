"""Geometry of the charts; the templates draw it."""

import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

WIDTH, HEIGHT = 360, 200
LEFT, RIGHT, TOP, BOTTOM = 40, 12, 12, 32
MIN_X_STEP = 26  # between two labels of the x axis, of up to four figures


class Tick(NamedTuple):
    at: float
    text: str


@dataclass(frozen=True)
class Line:
    """One named series: SVG paths (split where values are missing) and its points."""

    name: str
    paths: list[str]
    points: list[tuple[float, float]]


@dataclass(frozen=True)
class LineChart:
    width: int
    height: int
    left: int
    right: int
    bottom: int
    over: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    lines: list[Line]


class Bar(NamedTuple):
    name: str
    rows: int
    share_of_longest: float


def line_chart(
    epochs: Sequence[int],
    series: Mapping[str, Sequence[float | None]],
    top: float | None = None,
    over: str = "epoch",
) -> LineChart:
    """Series over epochs or what `over` says, y from 0 to `top` (a round number over the largest value without it)."""
    known = [y for ys in series.values() for y in ys if y is not None and math.isfinite(y)]
    top = top or _round_up(max(known, default=1.0))
    first, last = epochs[0], epochs[-1]

    def x_at(epoch: int) -> float:
        share = 0.5 if first == last else (epoch - first) / (last - first)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y_at(y: float) -> float:
        return round(HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM), 1)

    x_ticks: list[Tick] = []
    for epoch in epochs:
        if not x_ticks or x_at(epoch) - x_ticks[-1].at >= MIN_X_STEP:
            x_ticks.append(Tick(x_at(epoch), str(epoch)))
    lines = []
    for name, ys in series.items():
        points = [
            None if y is None or not math.isfinite(y) else (x_at(x), y_at(y)) for x, y in zip(epochs, ys, strict=True)
        ]
        lines.append(Line(name, _paths(points), [point for point in points if point]))
    return LineChart(
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        right=WIDTH - RIGHT,
        bottom=HEIGHT - BOTTOM,
        over=over,
        x_ticks=x_ticks,
        y_ticks=[Tick(y_at(top * i / 4), f"{top * i / 4:.3g}") for i in range(5)],
        lines=lines,
    )


def bars(counts: dict[str, int]) -> list[Bar]:
    longest = max(counts.values(), default=0) or 1
    return [Bar(name, count, count / longest) for name, count in counts.items()]


def length_bars(lengths: Sequence[int], bins: int = 10) -> list[Bar]:
    """Histogram of lengths in words, from the shortest; the last bar takes all over the 99th percentile."""
    if not lengths:
        return []
    ordered = sorted(lengths)
    cut = ordered[int(0.99 * (len(ordered) - 1))]
    width = max(1, math.ceil((cut + 1) / bins))
    last = cut // width
    found = Counter(min(length // width, last) for length in lengths)
    counts = {}
    for i in range(last + 1):
        low, high = i * width, (i + 1) * width - 1
        name = f"{low}+" if i == last and ordered[-1] > high else f"{low}–{high}" if width > 1 else str(low)
        counts[name] = found[i]
    return bars(counts)


def _round_up(value: float) -> float:
    """The next of 1, 2, 4, 5 or 8 times a power of ten: quarters of it are short numbers. 1 for what draws as 0."""
    if value < sys.float_info.min:  # smaller powers of ten are not exact, or 0
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 5, 8, 10) if step * power >= value * (1 - 1e-9))


def _paths(points: Sequence[tuple[float, float] | None]) -> list[str]:
    paths: list[list[str]] = [[]]
    for point in points:
        if point is None:
            paths.append([])
        else:
            paths[-1].append(f"{'L' if paths[-1] else 'M'}{point[0]} {point[1]}")
    return [" ".join(path) for path in paths if path]
