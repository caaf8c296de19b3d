"""One cell of the grid: defend, train, classify, count."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from musclelora.comparison.memory import peak_mb, reset_peak
from musclelora.comparison.record import Attacked, Cell, CellResult
from musclelora.comparison.trainings import Trained, Trainings, training_key
from musclelora.data.records import TextDataset, TrustedSet
from musclelora.defenses.base import REFUSED, Defender, Defense
from musclelora.defenses.classifier import Classifier
from musclelora.defenses.registry import defense_by_name
from musclelora.evaluation.intervals import rate
from musclelora.training.defended_model import EpochMetrics
from musclelora.training.fit import train
from musclelora.training.predict import on_accelerator
from musclelora.training.recipes import Recipe

Answers = Callable[[Sequence[str]], np.ndarray]


def measure(
    cell: Cell,
    rows: TextDataset,
    trusted: TrustedSet,
    dev: TextDataset,
    test: TextDataset,
    triggered: Mapping[str, TextDataset],
    target: str,
    *,
    on_epoch: Callable[[EpochMetrics], None] = lambda _: None,
    checkpoints: Path | None = None,
    trainings: Trainings | None = None,
) -> CellResult:
    """Train the cell's method on `rows` and count on clean and on triggered rows, by attack.

    A text that a defence refuses to answer is wrong in CACC and no success in ASR. `trainings` is what this cell shares
    with others. Raises what training, the defence or a metric without rows raises.
    """
    cost, trainings = _Cost(), trainings or Trainings(held=0)
    defense = None if cell.defense is None else defense_by_name(cell.defense, json.loads(cell.settings))

    def fitted(some: TextDataset, epochs: int | None) -> Trained:
        recipe = cell.recipe if epochs is None else cell.recipe.model_copy(update={"epochs": epochs})
        options = {"on_epoch": on_epoch, "checkpoints": checkpoints}
        key = training_key(cell, recipe, some, trusted, dev)
        trained, was_there = trainings.get(key, lambda: _trained(cell, recipe, some, trusted, dev, **options))
        if was_there:
            cost.add(trained)
        return trained

    defender = Defender(
        trusted, dev, cell.seed, lambda some, epochs: fitted(some, epochs).classifier, cell.backbone, cell.max_length
    )
    kept = None
    if defense is not None and "training data" in defense.acts_on():
        with cost.part("defend"):
            kept = defense.training_rows(rows, defender)
    with cost.part("train"):
        model = fitted(rows if kept is None else kept, None)
    with cost.part("defend"):
        answers = _answers(defense, model.classifier, defender)
    names = list(trusted.label_names)
    with cost.part("classify"):
        said = answers(test.texts)
        called = {attack: answers(of.texts) == names.index(target) for attack, of in triggered.items()}
    truth = test.label_ids(names)
    others = truth != names.index(target)
    return CellResult(
        cell=cell,
        train_rows=model.rows,
        **_left_out(rows, kept),
        refused_clean=float((said == REFUSED).mean()),
        cacc=rate(int((said == truth).sum()), len(truth)),
        correct=_bits(said == truth),
        untriggered=rate(int((said[others] == names.index(target)).sum()), int(others.sum())),
        attacks={
            attack: Attacked(asr=rate(int(hits.sum()), len(hits)), called_target=_bits(hits))
            for attack, hits in called.items()
        },
        seconds={name: round(value, 2) for name, value in cost.seconds.items()},
        peak_memory_mb=round(cost.peak_mb, 1),
        train_sha256=rows.sha256,
        test_sha256=test.sha256,
    )


def _trained(
    cell: Cell, recipe: Recipe, rows: TextDataset, trusted: TrustedSet, dev: TextDataset, **options: Any
) -> Trained:
    started = time.monotonic()
    with TemporaryDirectory(prefix="musclelora-cell-") as folder:
        model = train(
            rows,
            trusted,
            dev if len(dev) else None,
            recipe=recipe,
            backbone=cell.backbone,
            max_length=cell.max_length,
            seed=cell.seed,
            folder=Path(folder),
            **options,
        )
        loaded, tokenizer = model.load()
        classifier = Classifier(on_accelerator(loaded), tokenizer, cell.max_length)
        return Trained(classifier, model.record.rows, time.monotonic() - started, peak_mb())


def _answers(defense: Defense | None, model: Classifier, defender: Defender) -> Answers:
    if defense is None or "inference" not in defense.acts_on():
        return model.classes
    return defense.guard(model, defender)


def _left_out(rows: TextDataset, kept: TextDataset | None) -> dict[str, Any]:
    found: dict[str, Any] = {"left_out": None, "left_out_recall": None, "left_out_precision": None}
    if kept is None:
        return found
    suspects = ~np.isin(rows.row_ids, kept.row_ids)
    found["left_out"] = int(suspects.sum())
    if "is_poisoned" in rows.rows.column_names:
        poisoned = np.array(rows.column("is_poisoned"), dtype=bool)
        hit = int((suspects & poisoned).sum())
        found["left_out_recall"] = hit / int(poisoned.sum()) if poisoned.any() else None
        found["left_out_precision"] = hit / int(suspects.sum()) if suspects.any() else None
    return found


def _bits(flags: np.ndarray) -> str:
    return "".join("1" if flag else "0" for flag in flags.tolist())


class _Cost:
    """Seconds by part and peak memory of a cell; what it did not have to train again counts as if it had."""

    def __init__(self) -> None:
        reset_peak()
        self.seconds: dict[str, float] = {}
        self._added, self._peak_mb = 0.0, 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        started, self._added = time.monotonic(), 0.0
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started + self._added

    def add(self, trained: Trained) -> None:
        self._added += trained.seconds
        self._peak_mb = max(self._peak_mb, trained.peak_mb)

    @property
    def peak_mb(self) -> float:
        return max(self._peak_mb, peak_mb())
