"""Undefended models to audit: one per poisoned set of the data folder, and four on its clean rows.

Kept under the hash of what decides them, so that a second benchmark or a second start does not train them again.
"""

import argparse
from pathlib import Path

from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from benchmarks import results
from benchmarks.kept import kept_model
from benchmarks.recipes import ATTACKS, CLEAN, MAX_LENGTH, Bench, Cell
from musclelora.training.backbone import resolve_backbone
from musclelora.training.defended_model import DefendedModel
from musclelora.training.presets import resolve_recipe
from musclelora.training.recipes import RecipeChoice

# Trained on the clean rows with other seeds: what models do that never saw a poison. The seeds are those that follow
# the first, and were named before any of these models was measured.
FLOORS = {"floor": 2, "floor-3": 3, "floor-4": 4}
FLOOR = next(iter(FLOORS))
SEEDS = {CLEAN: 1, **FLOORS}


def options(description: str | None, quick: str) -> argparse.ArgumentParser:
    """Of a benchmark on these models; `quick` says what --quick does."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/sst2"))
    parser.add_argument("--quick", action="store_true", help=quick)
    return parser


def audited_bench(data: Path, *, quick: bool) -> Bench:
    """The folder's rows on the embedded backbone, 200 of each part where it is to be quick."""
    set_verbosity_error()
    disable_progress_bar()
    return Bench(
        data=data,
        backbone=resolve_backbone("default"),
        preset="minilm",
        attacks=ATTACKS,
        journal=results.FOLDER / "audited_models.jsonl",
        quick_rows=200 if quick else None,
    )


def audited_model(bench: Bench, name: str) -> DefendedModel:
    """The undefended model trained on the set `name` of the folder; trained now where it is not kept."""
    seed = SEEDS.get(name, 1)
    trained_on = CLEAN if name in SEEDS else name
    rows = bench.training_rows(Cell(recipe="none", trained_on=trained_on, seed=seed))
    trusted, dev = bench.trusted_and_dev(seed)
    recipe = resolve_recipe(RecipeChoice(name="none"), bench.preset)
    return kept_model(rows, trusted, dev, recipe, bench.backbone, MAX_LENGTH, seed)
