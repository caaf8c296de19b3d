"""The pages of a comparison: of one cell, and of all of them with the plot of CACC against ASR."""

from collections.abc import Callable
from dataclasses import dataclass

from materializers.charts import Tick
from materializers.pages import render
from musclelora.comparison.record import CellResult
from musclelora.comparison.results import LEGEND, Comparison, Group
from musclelora.comparison.tables import Line

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 560, 360, 52, 16, 16, 44
LABEL_GAP = 14  # between the names of two dots that lie close together
CHARACTER = 6.5  # width of a letter of a name


@dataclass(frozen=True)
class Dot:
    """One method: where its CACC and mean ASR are, where its floor is, its number in the legend."""

    name: str
    x: float
    y: float
    floor_x: float | None
    label_x: float
    label_y: float
    anchor: str


@dataclass(frozen=True)
class Plot:
    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    dots: list[Dot]


def cell_page(result: CellResult) -> str:
    """What one cell measured."""
    return render("cell.html.jinja", title=result.cell.id, result=result)


def comparison_page(comparison: Comparison) -> str:
    """Per dataset and backbone the table and the plot; then what gave no result."""
    groups = [(group, group.cells, plot(group)) for group in comparison.groups]
    title = f"Comparison: {comparison.name}"
    return render("comparison.html.jinja", title=title, comparison=comparison, groups=groups, legend=LEGEND)


def plot(group: Group) -> Plot:
    """CACC (up) against mean ASR (to the right): the better, the nearer to the upper left corner.

    Without methods that lack an attack: their mean would not be that of the others.
    """
    lines = [line for line in group.lines if line.method in group.asr_rank]
    lowest = min((line.cacc for line in lines), default=0.0)
    base = max(0.0, min(0.9, int(lowest * 10) / 10))

    def x_at(asr: float) -> float:
        return round(LEFT + asr * (WIDTH - LEFT - RIGHT), 1)

    def y_at(cacc: float) -> float:
        return round(HEIGHT - BOTTOM - (cacc - base) / (1 - base) * (HEIGHT - TOP - BOTTOM), 1)

    dots: list[Dot] = []
    for line in sorted(lines, key=lambda line: -line.cacc):
        dots.append(_dot(line, x_at(line.asr_mean), y_at(line.cacc), x_at, dots))
    shares = [i / 5 for i in range(6)]
    caccs = [base + (1 - base) * share for share in shares]
    return Plot(
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        right=WIDTH - RIGHT,
        top=TOP,
        bottom=HEIGHT - BOTTOM,
        x_ticks=[Tick(x_at(share), f"{100 * share:.0f}") for share in shares],
        y_ticks=[Tick(y_at(cacc), f"{100 * cacc:.0f}") for cacc in caccs],
        dots=dots,
    )


def _dot(line: Line, x: float, y: float, x_at: Callable[[float], float], before: list[Dot]) -> Dot:
    left = x + CHARACTER * len(line.method) + 10 > WIDTH
    near = [dot.label_y for dot in before if abs(dot.x - x) < CHARACTER * 24]
    label_y = y - 7  # above the stroke
    for other in sorted(near):
        if abs(label_y - other) < LABEL_GAP:
            label_y = other + LABEL_GAP
    return Dot(
        name=line.method,
        x=x,
        y=y,
        floor_x=None if line.floor_mean is None or line.broken_floors else x_at(line.floor_mean),
        label_x=x - 8 if left else x + 8,
        label_y=round(label_y, 1),
        anchor="end" if left else "start",
    )
