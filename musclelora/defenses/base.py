"""What a baseline defence is: typed settings, its paper, and what it does to training rows, to inputs, or to both."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from musclelora.data.records import TextDataset, TrustedSet
from musclelora.defenses.classifier import Classifier
from musclelora.errors import DataError
from musclelora.frozen import Frozen
from musclelora.training.backbone import Backbone

Where = Literal["training data", "inference"]
Guard = Callable[[Sequence[str]], np.ndarray]
"""Class numbers of texts, shape [texts]; `REFUSED` where the guard takes a text for triggered and gives no answer."""
REFUSED = -1


@dataclass(frozen=True, eq=False)
class Defender:
    """What whoever defends has. `clean`: rows known to be clean, for thresholds; never test rows.

    `train` trains the undefended recipe on rows, for so many epochs (None: the recipe's); the result is in memory. It
    starts from `backbone`, and reads `max_length` tokens of a text.
    """

    trusted: TrustedSet
    clean: TextDataset
    seed: int
    train: Callable[[TextDataset, int | None], Classifier]
    backbone: Backbone
    max_length: int

    @property
    def label_names(self) -> tuple[str, ...]:
        return self.trusted.label_names


class Defense(Frozen):
    """The fields of a subclass are its settings. It overrides `suspects`, `guard` or both: that is where it acts.

    One that alters rows too, or takes some back, overrides `training_rows` in place of `suspects`.
    """

    name: ClassVar[str]
    paper: ClassVar[str]

    def suspects(self, rows: TextDataset, defender: Defender) -> np.ndarray:
        """Which training rows to leave out: bool, shape [rows]."""
        raise NotImplementedError

    def training_rows(self, rows: TextDataset, defender: Defender) -> TextDataset:
        """What the model is trained on: rows of `rows`, under their ids."""
        return kept_rows(rows, self.suspects(rows, defender), self.name)

    def guard(self, model: Classifier, defender: Defender) -> Guard:
        """What answers in the model's place, once it is trained."""
        raise NotImplementedError

    @classmethod
    def acts_on(cls) -> tuple[Where, ...]:
        places: tuple[tuple[Where, Any, Any], ...] = (
            ("training data", (cls.suspects, cls.training_rows), (Defense.suspects, Defense.training_rows)),
            ("inference", cls.guard, Defense.guard),
        )
        return tuple(where for where, own, base in places if own != base)


def kept_rows(rows: TextDataset, suspects: np.ndarray, name: str) -> TextDataset:
    """The rows that are not suspect; raises `DataError` where what is left has fewer than two labels."""
    kept = rows.where(~suspects)
    if len(set(kept.labels)) < 2:
        raise DataError(
            f"{name} suspects {int(suspects.sum())} of {len(rows)} training rows, and the {len(kept)} left have fewer "
            "than two labels: there is nothing to train on. Its settings do not fit this data."
        )
    return kept
