"""Undefended models to audit: one per poisoned set of the data folder, and two on its clean rows.

Kept under the hash of what decides them, so that a second benchmark or a second start does not train them again.
"""

from benchmarks.kept import kept_model
from benchmarks.recipes import ATTACKS, CLEAN, MAX_LENGTH, Bench, Cell
from musclelora.training.defended_model import DefendedModel
from musclelora.training.presets import resolve_recipe
from musclelora.training.recipes import RecipeChoice

FLOOR = "floor"  # trained on the clean rows with another seed: what a model does that never saw a poison
MODELS = (CLEAN, FLOOR, *ATTACKS)
SEEDS = {CLEAN: 1, FLOOR: 2}


def audited_model(bench: Bench, name: str) -> DefendedModel:
    """The undefended model trained on the set `name` of the folder; trained now where it is not kept."""
    seed = SEEDS.get(name, 1)
    trained_on = CLEAN if name == FLOOR else name
    rows = bench.training_rows(Cell(recipe="none", trained_on=trained_on, seed=seed))
    trusted, dev = bench.trusted_and_dev(seed)
    recipe = resolve_recipe(RecipeChoice(name="none"), bench.preset)
    return kept_model(rows, trusted, dev, recipe, bench.backbone, MAX_LENGTH, seed)
