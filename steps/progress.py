"""One line per step, for whoever watches the run."""

from collections.abc import Mapping
from statistics import fmean

from musclelora.progress import about, logger
from musclelora.training.defended_model import EpochMetrics


def announce(message: str) -> None:
    """Say what begins or was found."""
    logger.info(message)


def announce_epoch(metrics: EpochMetrics) -> None:
    """Say how an epoch of training went."""
    parts = [f"loss {metrics.loss:.3f}"]
    if metrics.reference_loss is not None:
        parts.append(f"reference loss {metrics.reference_loss:.3f}")
        parts.append(f"steps aligned {metrics.aligned:.0%}, mixed {metrics.mixed:.0%}, raw {metrics.raw:.0%}")
    if metrics.dev_accuracy is not None:
        parts.append(f"dev accuracy {metrics.dev_accuracy:.1%}")
    announce(f"  epoch {metrics.epoch}: " + ", ".join(parts))


class Countdown:
    """Which cell of a comparison is measured, of how many, and about how long the others will take."""

    def __init__(self) -> None:
        self.expect({})

    def expect(self, methods: Mapping[str, str]) -> None:
        """The cells to come in their order, each with its method. Where the launcher is another process, none are."""
        self._methods, self._seconds = dict(methods), dict[str, list[float]]()

    def place(self, cell: str) -> str:
        """Such as "cell 3 of 19, about 4 min left"; empty for a cell that nobody expected."""
        if cell not in self._methods:
            return ""
        cells = list(self._methods)
        number = cells.index(cell)
        return f"cell {number + 1} of {len(cells)}{self._left(cells[number:])}: "

    def measured(self, cell: str, seconds: float) -> None:
        """A cell of a method takes about as long as the method's others; of a new method, as the mean of all."""
        self._seconds.setdefault(self._methods.get(cell, ""), []).append(seconds)

    def _left(self, cells: list[str]) -> str:
        if not self._seconds:
            return ""
        mean = fmean(fmean(of) for of in self._seconds.values())
        left = sum(fmean(self._seconds.get(self._methods[cell], [mean])) for cell in cells)
        return f", {about(left)} left"


COUNTDOWN = Countdown()
