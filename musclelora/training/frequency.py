"""What is measured of the frequencies of a model while it learns. Records only: `evaluation.fourier` computes them."""

from collections.abc import Callable
from dataclasses import dataclass

from transformers import PreTrainedModel

from musclelora.frozen import Frozen


class FrequencyErrors(Frozen):
    """Relative errors of the low- and high-frequency part per filter width, and the share of rows called their label.

    An error is None where it is undefined: labels that are all the same have no high-frequency part.
    """

    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    accuracy: float

    @property
    def mean_low(self) -> float | None:
        """Mean over the filter widths; None where any is undefined."""
        return _mean(self.low)

    @property
    def mean_high(self) -> float | None:
        return _mean(self.high)


class FrequencyPoint(Frozen):
    """One measurement: after how many steps, on the clean dev rows and on the same number with the trigger in."""

    step: int
    clean: FrequencyErrors
    poisoned: FrequencyErrors

    @property
    def means(self) -> dict[str, float | None]:
        """By the name of the curve that each is a point of."""
        sets = {"clean": self.clean, "poisoned": self.poisoned}
        return {
            f"frequency.{part}.{rows}": mean
            for rows, errors in sets.items()
            for part, mean in (("low", errors.mean_low), ("high", errors.mean_high), ("accuracy", errors.accuracy))
        }


class FrequencyCurve(Frozen):
    """All measurements of one training. `rows` of each kind; of the poisoned ones the accuracy is the ASR."""

    attack: str
    target: str
    rows: int
    deltas: tuple[float, ...]
    points: list[FrequencyPoint]


@dataclass(frozen=True)
class FrequencyObserver:
    """`measure` a model after so many steps; `steps_of` says after which, of so many steps in all."""

    attack: str
    target: str
    rows: int
    deltas: tuple[float, ...]
    steps_of: Callable[[int], frozenset[int]]
    measure: Callable[[PreTrainedModel, int], FrequencyPoint]

    def curve(self, points: list[FrequencyPoint]) -> FrequencyCurve:
        return FrequencyCurve(attack=self.attack, target=self.target, rows=self.rows, deltas=self.deltas, points=points)


def _mean(errors: tuple[float | None, ...]) -> float | None:
    known = [error for error in errors if error is not None]
    return sum(known) / len(known) if known and len(known) == len(errors) else None
