"""The rows of a comparison and their tables, in Markdown and in LaTeX."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from statistics import fmean
from typing import TypeVar

from musclelora.frozen import Frozen

Key = TypeVar("Key", bound=Hashable)
BROKEN_FLOOR = 0.5  # a model without poison that calls most rows of other labels the target has learned no task


class Row(Frozen):
    """One method under one attack, one seed. `floor`: the ASR of the same method trained without the poison.

    `left_out_recall`, `left_out_precision`, `refused_clean`: as in `record.CellResult`.
    """

    method: str
    attack: str
    seed: int
    dataset: str
    backbone: str
    train_rows: int
    cacc: float
    asr: float
    asr_upper95: float
    floor: float | None
    untriggered: float
    n: int
    left_out_recall: float | None = None
    left_out_precision: float | None = None
    refused_clean: float = 0.0
    seconds: float
    memory_mb: float | None = None


class Line(Frozen):
    """One line of a table: a method over all attacks and seeds of one dataset and backbone.

    `asr` and `floor` by attack are means over seeds; `asr_worst` is of the attack whose ASR is most above its floor
    (highest at all, where no floor is known), its bounds are the lowest and the highest over seeds.
    """

    method: str
    train_rows_range: tuple[int, int]
    seeds: int
    cacc: float
    cacc_range: tuple[float, float]
    asr: dict[str, float]
    floor: dict[str, float | None]
    asr_mean: float
    floor_mean: float | None
    worst: str
    asr_worst: float
    asr_worst_range: tuple[float, float]
    asr_upper95: float
    seconds: float
    memory_mb: float | None

    @property
    def broken_floors(self) -> list[str]:
        """The attacks whose floor is a broken model's."""
        return [attack for attack, floor in self.floor.items() if floor is not None and floor > BROKEN_FLOOR]


def grouped(rows: Iterable[Row], key: Callable[[Row], Key]) -> dict[Key, list[Row]]:
    """In the order of the first of each."""
    groups: defaultdict[Key, list[Row]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return dict(groups)


def lines_of(rows: Iterable[Row]) -> list[Line]:
    """Of the rows of one dataset and backbone, a line per method, in the order of the first of each."""
    return [_line(of) for of in grouped(rows, lambda row: row.method).values()]


def _line(rows: list[Row]) -> Line:
    by_attack = grouped(rows, lambda row: row.attack)
    floors = {attack: _mean([row.floor for row in of]) for attack, of in by_attack.items()}
    asr = {attack: fmean(row.asr for row in of) for attack, of in by_attack.items()}
    worst = max(asr, key=lambda attack: asr[attack] - (floors[attack] or 0.0))
    caccs = [row.cacc for row in rows]
    memory = [row.memory_mb for row in rows if row.memory_mb is not None]
    return Line(
        method=rows[0].method,
        train_rows_range=(min(row.train_rows for row in rows), max(row.train_rows for row in rows)),
        seeds=len({row.seed for row in rows}),
        cacc=fmean(caccs),
        cacc_range=(min(caccs), max(caccs)),
        asr=asr,
        floor=floors,
        asr_mean=fmean(row.asr for row in rows),
        floor_mean=_mean([row.floor for row in rows]),
        worst=worst,
        asr_worst=asr[worst],
        asr_worst_range=(min(row.asr for row in by_attack[worst]), max(row.asr for row in by_attack[worst])),
        asr_upper95=max(row.asr_upper95 for row in by_attack[worst]),
        seconds=fmean(row.seconds for row in rows),
        memory_mb=max(memory, default=None),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def cells_of(lines: Sequence[Line], ranks: dict[str, tuple[int, int]]) -> list[list[str]]:
    """A header and a row of text per line. `ranks`: per method that of CACC and that of ASR; none of a method that was
    not measured under every attack, whose mean would not be that of the others."""
    attacks = list(dict.fromkeys(attack for line in lines for attack in line.asr))
    head = ["method", "rows", "seeds", "CACC", *attacks, "mean", "worst above floor", "worst, <= 95 %"]
    head += ["seconds", "MiB", "rank CACC", "rank ASR"]
    body = []
    for line in lines:
        floor = line.floor[line.worst]
        above = "-" if floor is None or line.worst in line.broken_floors else f"{100 * (line.asr_worst - floor):+.1f}"
        body.append(
            [
                line.method,
                " to ".join(f"{count:,}" for count in dict.fromkeys(line.train_rows_range)),
                str(line.seeds),
                spread(line.cacc, *line.cacc_range),
                *(asr_and_floor(line.asr.get(attack), line.floor.get(attack)) for attack in attacks),
                asr_and_floor(line.asr_mean, line.floor_mean) if line.method in ranks else "-",
                f"{above} ({line.worst})",
                f"{spread(line.asr_worst, *line.asr_worst_range)}, {100 * line.asr_upper95:.1f}",
                f"{line.seconds:.0f}",
                "-" if line.memory_mb is None else f"{line.memory_mb:,.0f}",
                *map(str, ranks.get(line.method, ("-", "-"))),
            ]
        )
    return [head, *body]


def markdown(cells: Sequence[Sequence[str]]) -> str:
    """A table; the first of the rows is its head."""
    rows = [cells[0], ["---"] * len(cells[0]), *([f"`{row[0]}`", *row[1:]] for row in cells[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def latex(cells: Sequence[Sequence[str]], caption: str) -> str:
    """A table for booktabs and graphicx, as wide as the page; the first of the rows is its head."""
    columns = "l" + "r" * (len(cells[0]) - 1)
    rows = [" & ".join(map(_escaped, row)) + r" \\" for row in cells]
    inside = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", rows[0], r"\midrule", *rows[1:], r"\bottomrule"]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            r"\resizebox{\linewidth}{!}{%",
            *inside,
            r"\end{tabular}}",
            rf"\caption{{{_escaped(caption)}}}",
            r"\end{table}",
        ]
    )


def _escaped(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<=": r"$\le$"}
    special |= {character: f"\\{character}" for character in "&%$#_{}"}
    out, rest = "", text
    while rest:
        match = next((key for key in sorted(special, key=len, reverse=True) if rest.startswith(key)), None)
        out, rest = (out + special[match], rest[len(match) :]) if match else (out + rest[0], rest[1:])
    return out


def asr_and_floor(asr: float | None, floor: float | None) -> str:
    if asr is None:
        return "-"
    return f"{100 * asr:.1f} / {'-' if floor is None else f'{100 * floor:.1f}'}"


def spread(mean: float, low: float, high: float) -> str:
    """The mean, and the range where there is one."""
    texts = [f"{100 * value:.1f}" for value in (mean, low, high)]
    return texts[0] if texts[1] == texts[2] else f"{texts[0]} ({texts[1]} to {texts[2]})"
