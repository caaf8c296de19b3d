"""From the cells of a comparison to its rows, its ranks and `results.json`."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from musclelora.comparison.ranking import ranks
from musclelora.comparison.record import CLEAN, Cell, CellResult, Failure
from musclelora.comparison.tables import Line, Row, cells_of, latex, lines_of, markdown
from musclelora.frozen import Frozen

SCHEMA = "compare/1"


class Group(Frozen):
    """All methods on one dataset and backbone. Ranks: of CACC and of ASR by method (`ranking.py`)."""

    dataset: str
    backbone: str
    lines: list[Line]
    cacc_rank: dict[str, int]
    asr_rank: dict[str, int]

    @property
    def cells(self) -> list[list[str]]:
        """The table as text, its head first."""
        ranked = {m: (self.cacc_rank[m], self.asr_rank[m]) for m in self.cacc_rank if m in self.asr_rank}
        return cells_of(self.lines, ranked)

    @property
    def remarks(self) -> list[str]:
        """What must be known before the table is believed: methods whose floor is a broken model's."""
        return [
            f"{line.method}: trained without any poison it calls most rows of other labels the target under "
            f"{', '.join(line.broken_floors)}. That model has learned no task (did the defence leave out nearly all "
            "rows of a label?), so how far its ASR lies above the floor says nothing."
            for line in self.lines
            if line.broken_floors
        ]


class Comparison(Frozen):
    """What a comparison found. `failures`: cells without a result, and why."""

    name: str
    groups: list[Group]
    rows: list[Row]
    failures: list[Failure]

    def as_json(self) -> dict[str, Any]:
        """results.json: rates are fractions."""
        failed = [{**_identity(failure.cell), "reason": failure.reason} for failure in self.failures]
        return {
            "schema": SCHEMA,
            "name": self.name,
            "groups": [group.model_dump(mode="json") | {"remarks": group.remarks} for group in self.groups],
            "rows": [row.model_dump(mode="json") for row in self.rows],
            "failures": failed,
        }

    def as_markdown(self) -> str:
        parts = [f"# {self.name}"]
        for group in self.groups:
            parts += [f"## {group.dataset}, {group.backbone}", markdown(group.cells), *group.remarks]
        parts.append(LEGEND)
        if self.failures:
            parts += ["## Cells without a result", *(f"- `{f.cell.id}`: {f.reason}" for f in self.failures)]
        return "\n\n".join(parts) + "\n"

    def as_latex(self) -> str:
        captions = [
            f"{' '.join([f'{group.dataset}, {group.backbone}.', *group.remarks, LEGEND])}" for group in self.groups
        ]
        tables = [latex(group.cells, caption) for group, caption in zip(self.groups, captions, strict=True)]
        return "\n\n".join(tables) + "\n"


LEGEND = """Rows: training rows, those that a defence left out not among them. CACC: accuracy on clean test rows, mean
(lowest to highest) over attacks and seeds. Each attack: ASR / floor in percent; the floor is the ASR of the same method
trained on the rows without poison. Worst: the attack whose ASR is most above its floor; its ASR (range over seeds) and
the largest one-sided 95 % upper bound. Seconds and MiB: of one cell, mean and largest. Rank: 1 + how many methods are
better in a paired bootstrap."""


def compared(name: str, results: Sequence[CellResult], failures: Sequence[Failure]) -> Comparison:
    """The same from the same cells, in whatever order they ended."""
    ordered = sorted(results, key=lambda result: (result.cell.seed, result.cell.id))
    rows = rows_of(ordered)
    places = list(dict.fromkeys((result.cell.dataset, result.cell.backbone_name) for result in results))
    groups = []
    for dataset, backbone in places:
        here = [result for result in ordered if (result.cell.dataset, result.cell.backbone_name) == (dataset, backbone)]
        of_rows = [row for row in rows if (row.dataset, row.backbone) == (dataset, backbone)]
        if of_rows:
            groups.append(
                Group(
                    dataset=dataset,
                    backbone=backbone,
                    lines=_in_order(lines_of(of_rows), results),
                    cacc_rank=ranks(_outcomes(here, clean=True), high_is_good=True),
                    asr_rank=ranks(_outcomes(here, clean=False), high_is_good=False),
                )
            )
    return Comparison(name=name, groups=groups, rows=rows, failures=list(failures))


def rows_of(results: Sequence[CellResult]) -> list[Row]:
    """One row per method, attack, seed, dataset and backbone; the floor from the clean cell of the same four."""
    clean = {_floor_key(r.cell): r for r in results if r.cell.attack == CLEAN}
    rows = []
    for result in results:
        if result.cell.attack == CLEAN and not result.cell.needs_no_poison:
            continue
        floor = clean.get(_floor_key(result.cell))
        for attack, measured in result.attacks.items():
            rows.append(
                Row(
                    method=result.cell.method,
                    attack=attack,
                    seed=result.cell.seed,
                    dataset=result.cell.dataset,
                    backbone=result.cell.backbone_name,
                    train_rows=result.train_rows,
                    cacc=result.cacc.value,
                    asr=measured.asr.value,
                    asr_upper95=measured.asr.upper95,
                    floor=floor.attacks[attack].asr.value if floor and attack in floor.attacks else None,
                    untriggered=result.untriggered.value,
                    n=measured.asr.n,
                    left_out_recall=result.left_out_recall,
                    left_out_precision=result.left_out_precision,
                    refused_clean=result.refused_clean,
                    seconds=sum(result.seconds.values()),
                    memory_mb=result.peak_memory_mb,
                )
            )
    return rows


def _floor_key(cell: Cell) -> tuple[str, str, str, int]:
    return cell.method, cell.dataset, cell.backbone_name, cell.seed


def _in_order(lines: list[Line], results: Sequence[CellResult]) -> list[Line]:
    """As the methods were listed."""
    order = list(dict.fromkeys(result.cell.method for result in results))
    return sorted(lines, key=lambda line: order.index(line.method))


def _outcomes(results: Sequence[CellResult], clean: bool) -> dict[str, dict[str, list[str]]]:
    """Method to attack to a string per seed: rows classified rightly, or triggered rows called the target."""
    found: defaultdict[str, defaultdict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        if result.cell.attack == CLEAN and not result.cell.needs_no_poison:
            continue
        for attack, measured in result.attacks.items():
            found[result.cell.method][attack].append(result.correct if clean else measured.called_target)
    return {method: dict(of) for method, of in found.items()}


def _identity(cell: Cell) -> dict[str, Any]:
    return cell.model_dump(include={"method", "attack", "dataset", "backbone_name", "seed"})
