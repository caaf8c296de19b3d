"""Recipe x attack: `python -m benchmarks.recipes --data ../shared/data/sst2 [--quick] [--minutes 30]`; resumable.

The data folder has train.csv, dev.csv and test.csv (columns text, label) and per attack a folder with train.csv (the
same rows, some poisoned) and test_poisoned.csv (rows of the other class with the trigger, labelled with the target).
The trusted rows are drawn from dev.csv with the seed; the rest of it chooses the best epoch. Nothing is chosen on test.

Each finished training is one line of benchmarks/results/recipes.jsonl, written at once under the hash of all that
decides it: started again, the command goes on where it stopped. A recipe is also trained on the clean rows: its floor.
When all are done, the rows go to benchmarks/results/recipes.json and the tables to docs/benchmarks.md.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from transformers import AutoConfig

from benchmarks import results
from benchmarks.recipes_tables import judgement, rows_of, tables, write_section
from musclelora.data.config import Columns, Split
from musclelora.data.readers import read_table
from musclelora.data.records import TextDataset, TrustedSet
from musclelora.data.splits import split
from musclelora.errors import DataError
from musclelora.evaluation.metrics import ASR, CACC
from musclelora.frozen import Frozen
from musclelora.seeding import generator
from musclelora.training.backbone import Backbone, resolve_backbone
from musclelora.training.fit import train
from musclelora.training.predict import logits_of
from musclelora.training.presets import auto_preset, resolve_recipe
from musclelora.training.recipes import Recipe, RecipeChoice

ATTACKS = ("badnets", "addsent", "stylebkd", "hiddenkiller")
CLEAN = "clean"
RIVALS = ("none", "trusted-only", "trusted-contrastive", "musclelora", "musclelora-guided")  # three seeds
OTHERS = ("lora", "lora+ga", "lora+ms", "ms", "ga", "ia3", "prefix", "guided")  # one seed, 3,000 rows
# Recipes with other settings than their preset's, by the name they have in the tables.
VARIANTS = {
    "musclelora-every-4": RecipeChoice(name="musclelora", alignment={"reference_every": 4}),
    # Half the rate of the preset `minilm`, at which four steps along one noisy reference learn nothing.
    "musclelora-every-4-half-rate": RecipeChoice(
        name="musclelora", alignment={"reference_every": 4}, learning_rate=1e-3
    ),
    # A backbone that nobody has tuned (docs/recipes.md). The published 2e-5 hardly moves the adapters in these epochs.
    "musclelora-auto": RecipeChoice(
        name="musclelora", radial_scaling={"scales": "auto"}, learning_rate="auto", epochs=3
    ),
    "musclelora-guided-auto": RecipeChoice(
        name="musclelora-guided", radial_scaling={"scales": "auto"}, learning_rate="auto", epochs=3
    ),
}
SEEDS, ROWS_OF_OTHERS, MAX_LENGTH = (1, 2, 3), 3000, 128
DOCUMENT = Path(__file__).parents[1] / "docs" / "benchmarks.md"


class Cell(Frozen):
    """One training: `trained_on` is "clean" or an attack's name, `rows` None for all of them."""

    recipe: str
    trained_on: str
    seed: int
    rows: int | None = None


def grid(
    recipes: Sequence[str],
    others: Sequence[str],
    attacks: Sequence[str],
    seeds: Sequence[int],
    rows_of_all: int | None = None,
) -> list[Cell]:
    """Floors before attacks, the first seed of everything before the second of anything.

    `trusted-only` reads no untrusted row, so that it is trained once per seed and is its own floor.
    """
    cells = []
    for number, seed in enumerate(seeds):
        for recipe in [*recipes, *(others if number == 0 else [])]:
            rows = ROWS_OF_OTHERS if recipe in others else rows_of_all
            sets = [CLEAN] if recipe == "trusted-only" else [CLEAN, *attacks]
            cells += [Cell(recipe=recipe, trained_on=name, seed=seed, rows=rows) for name in sets]
    return cells


@dataclass(frozen=True)
class Bench:
    """The data, the backbone and where finished trainings are kept."""

    data: Path
    backbone: Backbone
    preset: str
    attacks: tuple[str, ...]
    journal: Path
    trusted_rows: int = 96
    quick_rows: int | None = None

    def rows(self, file: str) -> TextDataset:
        return _read(self.data / file)

    @cached_property
    def test(self) -> TextDataset:
        rows = self.rows("test.csv")
        return rows if self.quick_rows is None else _some(rows, self.quick_rows, seed=0)

    @cached_property
    def triggered(self) -> dict[str, TextDataset]:
        found = {attack: self.rows(f"{attack}/test_poisoned.csv") for attack in self.attacks}
        if self.quick_rows is None:
            return found
        return {attack: _some(rows, self.quick_rows, seed=0) for attack, rows in found.items()}

    @cached_property
    def target(self) -> str:
        targets = {label for rows in self.triggered.values() for label in rows.labels}
        if len(targets) != 1:
            raise DataError(f"The triggered rows in {self.data} name the targets {sorted(targets)}; there must be one.")
        return targets.pop()

    def trusted_and_dev(self, seed: int) -> tuple[TrustedSet, TextDataset]:
        rows = self.rows("dev.csv")
        rest = len(rows) - self.trusted_rows - 2  # `split` wants a row for each part
        parts = split(rows, Split(train=1, dev=rest, test=1, trusted=self.trusted_rows), seed)
        return parts.trusted, parts.dev if self.quick_rows is None else _some(parts.dev, self.quick_rows, seed=0)

    def training_rows(self, cell: Cell) -> TextDataset:
        rows = self.rows("train.csv" if cell.trained_on == CLEAN else f"{cell.trained_on}/train.csv")
        count = self.quick_rows or cell.rows
        return rows if count is None else _some(rows, count, cell.seed)

    def recipe(self, cell: Cell) -> Recipe:
        return resolve_recipe(VARIANTS.get(cell.recipe) or RecipeChoice(name=cell.recipe), self.preset)

    def finished(self) -> dict[str, dict[str, Any]]:
        """The lines of the journal by key."""
        if not self.journal.exists():
            return {}
        lines = [json.loads(line) for line in self.journal.read_text(encoding="utf-8").splitlines()]
        return {line["key"]: line for line in lines}

    def record(self, line: dict[str, Any]) -> None:
        """Add a line with its `key` to the journal."""
        self._write((self.finished() | {line["key"]: line}).values())

    def _write(self, lines: Iterable[dict[str, Any]]) -> None:
        """All at once, so that a kill leaves the old journal or the new one, never half a line."""
        self.journal.parent.mkdir(exist_ok=True)
        new = self.journal.with_suffix(".new")
        new.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        new.replace(self.journal)

    def key(self, cell: Cell) -> str:
        """SHA-256 of all that decides a cell's figures but the code: recipe, seed, rows, weights."""
        trusted, dev = self.trusted_and_dev(cell.seed)
        parts = [trusted.data, dev, self.training_rows(cell), self.test, *self.triggered.values()]
        decides = {
            "recipe": self.recipe(cell).model_dump(mode="json"),
            "trained_on": cell.trained_on,
            "seed": cell.seed,
            "max_length": MAX_LENGTH,
            "backbone": self.backbone.sha256,
            "data": [part.sha256 for part in parts],
            "attacks": self.attacks,
        }
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]

    def measure(self, cell: Cell) -> dict[str, Any]:
        """Train the cell's model; its CACC, and its ASR on the triggered rows it is to be read with."""
        started, (trusted, dev) = time.monotonic(), self.trusted_and_dev(cell.seed)
        rows, recipe = self.training_rows(cell), self.recipe(cell)
        with TemporaryDirectory(prefix="musclelora-benchmark-") as folder:
            options: dict[str, Any] = {"recipe": recipe, "backbone": self.backbone, "max_length": MAX_LENGTH}
            model = train(rows, trusted, dev, seed=cell.seed, folder=Path(folder), **options)
            loaded, record, names = model.load(), model.record, list(trusted.label_names)
        target = names.index(self.target)

        def asr(triggered: TextDataset) -> dict[str, Any]:
            # Which other class a row was of is not in the file, and ASR needs no more than that it was another.
            others = [next(i for i in range(len(names)) if i != target)] * len(triggered)
            return ASR(target).compute(predictions=classes(triggered), references=others)["asr"]

        def classes(of: TextDataset) -> np.ndarray:
            return logits_of(*loaded, of.texts, MAX_LENGTH).argmax(1)

        read_with = self.attacks if cell.trained_on == CLEAN else (cell.trained_on,)
        return cell.model_dump() | {
            "backbone": backbone_name(self.backbone),
            "preset": recipe.preset,
            "train_rows": record.rows,
            "cacc": CACC().compute(predictions=classes(self.test), references=self.test.label_ids(names))["cacc"],
            "asr": {attack: asr(self.triggered[attack]) for attack in read_with},
            "untriggered": asr(self.test.where([label != self.target for label in self.test.labels]))["value"],
            "dev": record.curve[record.best_epoch - 1].dev_accuracy,
            "train_seconds": round(record.seconds, 1),
            "seconds": round(time.monotonic() - started, 1),
        }

    def run(self, cells: Sequence[Cell], deadline: float) -> bool:
        """Train what is not in the journal yet; False where the time ran out first."""
        done, name = self.finished(), backbone_name(self.backbone)
        for number, cell in enumerate(cells, 1):
            key = self.key(cell)
            if key in done:
                continue
            alike = [
                line["seconds"] for line in done.values() if (line["recipe"], line["backbone"]) == (cell.recipe, name)
            ]
            if time.monotonic() + max(alike, default=0) > deadline:
                print(f"Time is up at training {number} of {len(cells)}: run the same command again to go on.")
                return False
            done[key] = {"key": key} | self.measure(cell) | {"commit": results.commit()}
            self._write(done.values())
            print(f"{number}/{len(cells)} {json.dumps(done[key])}", flush=True)
        return True


@cache
def _read(file: Path) -> TextDataset:
    return read_table(str(file), Columns())


def _some(rows: TextDataset, count: int, seed: int) -> TextDataset:
    """`count` rows, the same positions in each training set of a seed."""
    chosen = generator(seed, "benchmarks/recipes/rows").permutation(len(rows))[:count]
    return TextDataset(rows.rows.select(np.sort(chosen)))


def backbone_name(backbone: Backbone) -> str:
    return Path(backbone.name).name.removeprefix("package:")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="the same code on 200 rows, two recipes, one attack")
    parser.add_argument("--backbone", default="default")
    parser.add_argument("--preset", default="auto")
    parser.add_argument("--recipes", default=",".join(RIVALS), help="on all rows, with each seed")
    parser.add_argument("--others", default=",".join(OTHERS), help=f"on {ROWS_OF_OTHERS} rows, with the first seed")
    parser.add_argument("--attacks", default=",".join(ATTACKS))
    parser.add_argument("--rows", type=int, help="train --recipes on so many rows instead of all")
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)))
    parser.add_argument("--minutes", type=float, default=30, help="stop before a training that would end after this")
    options = parser.parse_args(arguments)
    if options.quick:
        options.recipes, options.others, options.attacks, options.seeds = "none,trusted-only", "", "badnets", "1"
    deadline = time.monotonic() + 60 * options.minutes
    recipes, others, attacks = (_names(value) for value in (options.recipes, options.others, options.attacks))
    backbone = resolve_backbone(options.backbone)
    config = AutoConfig.from_pretrained(backbone.location)
    preset = options.preset
    if preset == "auto":
        preset = auto_preset(config.model_type, config.hidden_size, backbone.name)
    name = "recipes_quick" if options.quick else "recipes"
    bench = Bench(
        data=options.data,
        backbone=backbone,
        preset=preset,
        attacks=attacks,
        journal=results.FOLDER / f"{name}.jsonl",
        quick_rows=200 if options.quick else None,
    )
    cells = grid(recipes, others, attacks, [int(seed) for seed in _names(options.seeds)], options.rows)
    finished = bench.run(cells, deadline)
    keys = {bench.key(cell) for cell in cells}
    lines = list(bench.finished().values())
    rows, verdicts = rows_of(lines), judgement(rows_of([line for line in lines if line["key"] in keys]))
    data = {part: bench.rows(f"{part}.csv").sha256 for part in ("train", "dev", "test")}
    results.write(name, {"rows": rows, "finished": finished, "judgement": verdicts}, data_sha256=data)
    if not options.quick:
        write_section(DOCUMENT, tables(rows))


def _names(value: str) -> tuple[str, ...]:
    return tuple(name for name in value.split(",") if name)


if __name__ == "__main__":
    main()
