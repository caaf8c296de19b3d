"""One cell of the grid: defend, train, classify, count."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from musclelora.comparison.memory import peak_mb, reset_peak
from musclelora.comparison.record import Attacked, Cell, CellResult
from musclelora.data.records import TextDataset, TrustedSet
from musclelora.defenses.base import REFUSED, Defender, Defense
from musclelora.defenses.classifier import Classifier
from musclelora.defenses.registry import defense_by_name
from musclelora.evaluation.intervals import rate
from musclelora.training.defended_model import DefendedModel, EpochMetrics
from musclelora.training.fit import train
from musclelora.training.predict import on_accelerator

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
) -> CellResult:
    """Train the cell's method on `rows` and count on clean and on triggered rows, by attack.

    A text that a defence refuses to answer is wrong in CACC and no success in ASR. Raises what training, the defence or
    a metric without rows raises.
    """
    reset_peak()
    seconds: dict[str, float] = {}
    defense = None if cell.defense is None else defense_by_name(cell.defense, json.loads(cell.settings))
    fitted = partial(_fitted, cell, trusted, dev, on_epoch=on_epoch, checkpoints=checkpoints)
    defender = Defender(
        trusted, dev, cell.seed, lambda some, epochs: fitted(some, epochs)[0], cell.backbone, cell.max_length
    )
    kept = None
    if defense is not None and "training data" in defense.acts_on():
        with _timed(seconds, "defend"):
            kept = defense.training_rows(rows, defender)
    with _timed(seconds, "train"):
        model, train_rows = fitted(rows if kept is None else kept, None)
    with _timed(seconds, "defend"):
        answers = _answers(defense, model, defender)
    names = list(trusted.label_names)
    with _timed(seconds, "classify"):
        said = answers(test.texts)
        called = {attack: answers(of.texts) == names.index(target) for attack, of in triggered.items()}
    truth = test.label_ids(names)
    others = truth != names.index(target)
    return CellResult(
        cell=cell,
        train_rows=train_rows,
        **_left_out(rows, kept),
        refused_clean=float((said == REFUSED).mean()),
        cacc=rate(int((said == truth).sum()), len(truth)),
        correct=_bits(said == truth),
        untriggered=rate(int((said[others] == names.index(target)).sum()), int(others.sum())),
        attacks={
            attack: Attacked(asr=rate(int(hits.sum()), len(hits)), called_target=_bits(hits))
            for attack, hits in called.items()
        },
        seconds={name: round(value, 2) for name, value in seconds.items()},
        peak_memory_mb=round(peak_mb(), 1),
        train_sha256=rows.sha256,
        test_sha256=test.sha256,
    )


def _fitted(
    cell: Cell, trusted: TrustedSet, dev: TextDataset, rows: TextDataset, epochs: int | None, **options: Any
) -> tuple[Classifier, int]:
    """The cell's recipe trained on `rows`, in memory, and on how many rows."""
    recipe = cell.recipe if epochs is None else cell.recipe.model_copy(update={"epochs": epochs})
    with TemporaryDirectory(prefix="musclelora-cell-") as folder:
        model: DefendedModel = train(
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
        return Classifier(on_accelerator(loaded), tokenizer, cell.max_length), model.record.rows


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


@contextmanager
def _timed(seconds: dict[str, float], part: str) -> Any:
    started = time.monotonic()
    yield
    seconds[part] = seconds.get(part, 0.0) + time.monotonic() - started
