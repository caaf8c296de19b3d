"""Baseline defences x attack: `python -m benchmarks.defenses --data ../shared/data/sst2 [--quick] [--minutes 30]`.

The grid of `musclelora compare` without ZenML, on the ready-made poisoned sets of the data folder (what it holds is in
benchmarks/recipes.py). Each finished cell is a line of benchmarks/results/defenses.jsonl under the hash of all that
decides it: started again, the command goes on where it stopped. A cell that fails is in the result with its reason,
and is tried again. What is measured so far goes to benchmarks/results/defenses.json and to docs/benchmarks.md.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from transformers import AutoConfig

from benchmarks import results
from benchmarks.recipes import ATTACKS, MAX_LENGTH, backbone_name
from benchmarks.recipes_tables import write_section
from musclelora.comparison.deliver import attacked, deliver
from musclelora.comparison.grid import grid
from musclelora.comparison.measure import measure
from musclelora.comparison.method import Method
from musclelora.comparison.record import CLEAN, Cell, CellResult, Failure
from musclelora.comparison.results import Comparison, compared
from musclelora.comparison.tables import markdown
from musclelora.comparison.trainings import Trainings
from musclelora.data.config import CompareData, ReadyMade
from musclelora.data.records import TextDataset
from musclelora.defenses.registry import all_defenses
from musclelora.errors import MuscleLoRAError
from musclelora.ingest import Delivery
from musclelora.training.backbone import resolve_backbone
from musclelora.training.presets import auto_preset

RECIPES = ("none", "trusted-only", "musclelora", "musclelora-guided")
QUICK = ("none", "z-def", "strip")
LANGUAGE_MODEL = Path.home() / ".cache/musclelora/backbones/smollm2-135m"  # python -m benchmarks.backbones smollm2-135m
DOCUMENT = Path(__file__).parents[1] / "docs" / "benchmarks.md"
HEADING = """## Defences and attacks

`python -m benchmarks.defenses --data ../shared/data/sst2`. The same sets, trusted rows and floors as above; a defence
acts on the recipe `none`. The last columns are ranks in a paired bootstrap ([compare.md](compare.md))."""


def folder_data(folder: Path, train_rows: int | None) -> CompareData:
    """The data folder as a dataset of a comparison; None takes all training rows."""

    def ready(attack: str) -> ReadyMade:
        return ReadyMade(train=str(folder / attack / "train.csv"), triggered=str(folder / attack / "test_poisoned.csv"))

    return CompareData(
        train=str(folder / "train.csv"),
        dev=str(folder / "dev.csv"),
        test=str(folder / "test.csv"),
        trusted_from_dev=96,
        target="1",
        train_rows=train_rows,
        ready_made={attack: ready(attack) for attack in ATTACKS},
    )


class Bench:
    """The rows of the folder, read once."""

    def __init__(self, data: CompareData, test_rows: int | None) -> None:
        self._data, self._test_rows = data, test_rows
        self._delivered, self._attacked = cache(self._deliver), cache(self._attack)
        self._trainings = Trainings(held=4)  # between two cells that begin with the undefended one come no more

    def _deliver(self, seed: int) -> Delivery:
        given = deliver(self._data, seed)
        return Delivery(given.train, self._some(given.dev), self._some(given.test), given.trusted)

    def _attack(self, attack: str, seed: int) -> tuple[TextDataset, TextDataset]:
        given = self._delivered(seed)
        poisoned, triggered = attacked(self._data, given.train, given.test, attack, seed)
        return poisoned, self._some(triggered)

    def _some(self, rows: TextDataset) -> TextDataset:
        return (
            rows if self._test_rows is None else TextDataset(rows.rows.select(range(min(len(rows), self._test_rows))))
        )

    @property
    def data_sha256(self) -> str:
        """Of the clean training rows, which are the same for every seed."""
        return self._delivered(0).train.sha256

    def inputs(self, cell: Cell) -> tuple[TextDataset, Delivery, dict[str, TextDataset]]:
        given, asked = self._delivered(cell.seed), ATTACKS if cell.attack == CLEAN else [cell.attack]
        rows = given.train if cell.attack == CLEAN else self._attacked(cell.attack, cell.seed)[0]
        return rows, given, {attack: self._attacked(attack, cell.seed)[1] for attack in asked}

    def key(self, cell: Cell) -> str:
        """SHA-256 of all that decides a cell's figures but the code."""
        rows, given, triggered = self.inputs(cell)
        parts = [rows, given.dev, given.test, given.trusted.data, *triggered.values()]
        decides = {"cell": cell.model_dump(mode="json"), "data": [part.sha256 for part in parts]}
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]

    def measure(self, cell: Cell) -> CellResult:
        rows, given, triggered = self.inputs(cell)
        return measure(
            cell, rows, given.trusted, given.dev, given.test, triggered, self._data.target, trainings=self._trainings
        )


def run(bench: Bench, cells: Sequence[Cell], journal: results.Journal, deadline: float) -> tuple[list[Failure], bool]:
    """Measure what is not in the journal; what failed, and False where the time ran out first."""
    failures: list[Failure] = []
    for number, cell in enumerate(cells, 1):
        key = bench.key(cell)
        if key in journal.done:
            continue
        if time.monotonic() > deadline:
            print(f"Time is up at cell {number} of {len(cells)}: run the same command again to go on.")
            return failures, False
        try:
            result = bench.measure(cell)
        except MuscleLoRAError as error:
            failures.append(Failure(cell=cell, reason=" ".join(str(error).split())))
            print(f"{number}/{len(cells)} {cell.id} FAILED: {failures[-1].reason}", flush=True)
            continue
        journal.add(key, {"result": result.model_dump(mode="json")})
        asr = {attack: round(measured.asr.value, 4) for attack, measured in result.attacks.items()}
        print(f"{number}/{len(cells)} {cell.id}: CACC {result.cacc.value:.4f}, ASR {asr}, {result.seconds}", flush=True)
    return failures, True


def first_attack_first(cells: Sequence[Cell], attacks: Sequence[str]) -> list[Cell]:
    """All methods under one attack, then without poison, then under the next: each is tried for real early on."""
    order = [attacks[0], CLEAN, *attacks[1:]]
    return sorted(cells, key=lambda cell: (cell.seed, order.index(cell.attack)))


def methods(names: Iterable[str]) -> list[Method]:
    """By name; ONION reads with the embedded decoder where `benchmarks.backbones` has made it."""
    made = {"onion": {"language_model": str(LANGUAGE_MODEL)}} if LANGUAGE_MODEL.is_dir() else {}
    return [
        Method.model_validate({"defense": name, "settings": made[name]} if name in made else name) for name in names
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help=f"the same code on 200 rows: {', '.join(QUICK)}, AddSent")
    parser.add_argument("--backbone", default="default")
    parser.add_argument("--methods", default=",".join([*RECIPES, *all_defenses()]))
    parser.add_argument("--attacks", default=",".join(ATTACKS))
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--minutes", type=float, default=30, help="start no cell after so many")
    options = parser.parse_args(arguments)
    deadline = time.monotonic() + 60 * options.minutes
    chosen, attacks = options.methods.split(","), options.attacks.split(",")
    if options.quick:
        chosen, attacks = list(QUICK), ["addsent"]
    backbone = resolve_backbone(options.backbone)
    config = AutoConfig.from_pretrained(backbone.location)
    preset = auto_preset(config.model_type, config.hidden_size, backbone.name)
    held = {backbone_name(backbone): (backbone, MAX_LENGTH, preset)}
    cells = grid(methods(chosen), attacks, [options.data.name], held, [int(seed) for seed in options.seeds.split(",")])
    count = 200 if options.quick else None
    bench, name = Bench(folder_data(options.data, count), count), "defenses_quick" if options.quick else "defenses"
    journal = results.Journal(results.FOLDER / f"{name}.jsonl")
    failures, finished = run(bench, first_attack_first(cells, attacks), journal, deadline)
    found = compared(name, measured_so_far(journal), failures)
    rows = [{"recipe": row.method, **row.model_dump(mode="json", exclude={"method"})} for row in found.rows]
    figures = {"rows": rows, "failures": found.as_json()["failures"], "finished": finished}
    results.write(name, figures, data_sha256=bench.data_sha256)
    if not options.quick:
        write_section(DOCUMENT, section(found), "benchmarks.defenses", HEADING)


def measured_so_far(journal: results.Journal) -> list[CellResult]:
    """The newest of each cell, method by method, without attacks that only models without poison were asked about."""
    measured = [CellResult.model_validate(line["result"]) for line in journal.done.values()]
    newest, order = {result.cell.id: result for result in measured}, [*RECIPES, *all_defenses()]
    tried = {result.cell.attack for result in measured}
    return [
        result.model_copy(update={"attacks": {attack: of for attack, of in result.attacks.items() if attack in tried}})
        for result in sorted(newest.values(), key=lambda result: order.index(result.cell.method))
    ]


def section(found: Comparison) -> str:
    """The tables and what failed, as Markdown."""
    parts = [f"### {group.dataset}, {group.backbone}\n\n{markdown(group.cells)}" for group in found.groups]
    return "\n\n".join([*parts, *(f"- no result: `{failure.cell.id}`: {failure.reason}" for failure in found.failures)])


if __name__ == "__main__":
    main()
