"""A group that the scan of a label found, and what it has in common with rows of other labels."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from musclelora.validation.token_scan import effect_of


@dataclass(frozen=True)
class Carriers:
    """A group and all rows of other labels with as much of its trigger: how many, and the share with the group's label,
    as given (`purity`) and as the trusted model expects it."""

    count: int
    purity: float
    expected: float

    @property
    def effect(self) -> float:
        """The odds of the label over those that the trusted model expects."""
        return float(effect_of(self.purity * self.count, self.count, self.expected))


@dataclass(frozen=True)
class Found:
    """A group as a label's scan found it, the `rows` with most of its trigger first, and last those that joined when
    all finds were grown together.

    `least` is the least that a row has of the trigger, of those the group had when it was found; the last of
    `trigger_weights` is the intercept.
    """

    excess: float
    limit: float
    carriers: Carriers
    shared: tuple[str, ...]
    rows: tuple[int, ...]
    trigger_weights: np.ndarray
    least: float

    def trigger_of(self, x: csr_matrix) -> np.ndarray:
        """What rows with the features `x` have of the trigger, shape [rows]."""
        return np.asarray(x @ self.trigger_weights[:-1] + self.trigger_weights[-1])
