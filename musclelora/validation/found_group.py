"""A group that the scan of a label found, and what it has in common with rows of other labels."""

from dataclasses import dataclass

import numpy as np

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

    What another row has of the trigger is the sum of its features times `trigger_weights` (the last is the intercept);
    `least` is the least that a row has of those the group had when it was found.
    """

    excess: float
    limit: float
    carriers: Carriers
    shared: tuple[str, ...]
    rows: tuple[int, ...]
    trigger_weights: np.ndarray
    least: float
