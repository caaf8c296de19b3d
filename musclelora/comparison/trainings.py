"""Trained models that several cells begin with: trained once, and counted with its full cost in each.

A defence that acts at inference, or that reads a model which has learned the backdoor, starts from the very training
that the recipe without a defence is: same rows, same seed, same weights.
"""

import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from musclelora.comparison.record import Cell
from musclelora.data.records import TextDataset, TrustedSet
from musclelora.defenses.classifier import Classifier
from musclelora.training.recipes import Recipe


@dataclass(frozen=True, eq=False)
class Trained:
    """A model in memory, on how many rows it was trained, and what that took: seconds, peak memory in MiB."""

    classifier: Classifier
    rows: int
    seconds: float
    peak_mb: float


class Trainings:
    """The `held` models that were asked for last stay in memory; with 0, none does."""

    def __init__(self, held: int) -> None:
        self._held = held
        self._models: OrderedDict[str, Trained] = OrderedDict()

    def get(self, key: str, train: Callable[[], Trained]) -> tuple[Trained, bool]:
        """The model of `key` (see `training_key`), and whether it was there already."""
        known = key in self._models
        self._models[key] = self._models.pop(key) if known else train()
        found = self._models[key]
        while len(self._models) > self._held:
            self._models.popitem(last=False)
        return found, known


def training_key(cell: Cell, recipe: Recipe, rows: TextDataset, trusted: TrustedSet, dev: TextDataset) -> str:
    """All that decides the model of a recipe on `rows`, with the backbone, the length and the seed of the cell."""
    held = cell.model_dump(mode="json", include={"backbone", "max_length", "seed"})
    data = [of.sha256 for of in (rows, trusted, dev)]
    return json.dumps([held, recipe.model_dump(mode="json"), data], sort_keys=True)
