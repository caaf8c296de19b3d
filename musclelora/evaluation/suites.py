"""Triggered test rows of one attack: made from clean rows, or ready-made by somebody else."""

from dataclasses import dataclass

import numpy as np

from musclelora.attacks.base import triggered_rows
from musclelora.attacks.registry import attack_by_name
from musclelora.data.records import TextDataset
from musclelora.errors import DataError
from musclelora.evaluation.metrics import ASR
from musclelora.evaluation.report import Rate
from musclelora.frozen import Frozen


class TriggeredFrom(Frozen):
    """What the triggered rows are made from: attack names, the target label's name, the seed."""

    attacks: list[str]
    target: str
    seed: int


@dataclass(frozen=True, eq=False)
class Suite:
    """The triggered rows of one attack, the rows they are read beside, and their true classes, shape [rows].

    `untriggered` are the same rows before the trigger went in (`paired`), or, where the triggered rows came ready-made,
    all test rows of the other classes.
    """

    attack: str
    target: str
    target_id: int
    triggered: TextDataset
    untriggered: TextDataset
    paired: bool
    truth: np.ndarray
    transform_rate: float

    def asr(self, predictions: np.ndarray, truth: np.ndarray | None = None) -> Rate:
        references = self.truth if truth is None else truth
        computed = ASR(self.target_id).compute(predictions=predictions, references=references)
        return Rate.model_validate(computed["asr"])


def made_suite(attack: str, test: TextDataset, triggers: TriggeredFrom, label_names: list[str]) -> Suite:
    """The suite of a built-in attack on `test`; raises `DataError` when no test row can carry it."""
    triggered, untriggered = triggered_rows(test, attack_by_name(attack), target=triggers.target, seed=triggers.seed)
    return Suite(
        attack=attack,
        target=triggers.target,
        target_id=label_names.index(triggers.target),
        triggered=triggered,
        untriggered=untriggered,
        paired=True,
        truth=triggered.label_ids(label_names),
        transform_rate=len(triggered) / sum(label != triggers.target for label in test.labels),
    )


def ready_made_suite(
    attack: str, triggered: TextDataset, test: TextDataset, target: str, label_names: list[str]
) -> Suite:
    """The suite of triggered rows that somebody else made; their labels are true, or the target.

    A file of poisoned rows carries the target in place of the true label. ASR needs no more than that the row was of
    another class, so that such a row counts as one of the first other class. Raises `DataError` where there is no row.
    """
    untriggered = test.where([label != target for label in test.labels])
    if len(triggered) == 0 or len(untriggered) == 0:
        raise DataError(
            f"The triggered rows of {attack!r} are {len(triggered)}, and {len(untriggered)} of {len(test)} test rows "
            f"are of another class than the target {target!r}: both are needed. Check the file and the target label."
        )
    target_id = label_names.index(target)
    other = next(i for i in range(len(label_names)) if i != target_id)
    truth = triggered.label_ids(label_names)
    return Suite(
        attack=attack,
        target=target,
        target_id=target_id,
        triggered=triggered,
        untriggered=untriggered,
        paired=False,
        truth=np.where(truth == target_id, other, truth),
        transform_rate=min(1.0, len(triggered) / len(untriggered)),
    )
