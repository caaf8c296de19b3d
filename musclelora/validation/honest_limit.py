"""How great the greatest excess of a label's clusters is where nobody planted anything, from draws of honest labels."""

from collections.abc import Callable, Sequence

import numpy as np

FIRST_DRAWS = 6
MOST_DRAWS = 5  # times those asked for, where the excess lies near a limit
SURELY = 2.0  # standard errors of a limit
MEAN, SKEWNESS, KURTOSIS = 0.5772, 1.1395, 5.4  # of the standard Gumbel distribution


def limits_of(
    excess: float,
    greatest_of: Callable[[range], Sequence[float | None]],
    draws: int,
    rates: np.ndarray,
) -> tuple[float, np.ndarray]:
    """The median of the draws, and what a further one exceeds with the chances `rates`, shape like these.

    `greatest_of` tells the greatest excess of draws by their numbers, None where a label is too rare for it. No limit
    (it is infinite) needs an `excess` that half of the first draws reach. One that lies near a limit gets more draws
    than were asked for: the 99 % quantile of 20 is off by 0.9 of what the draws differ by, as often more as less.
    """
    greatest: list[float] = []
    for last in (FIRST_DRAWS, *range(draws, draws * MOST_DRAWS + 1, draws)):
        found = [one for one in greatest_of(range(len(greatest), last)) if one is not None]
        if len(greatest) + len(found) < last:  # the label is nearly used up
            return np.inf, np.full(len(rates), np.inf)
        greatest += found
        median = float(np.median(greatest))
        if last == FIRST_DRAWS and excess <= median:
            return median, np.full(len(rates), np.inf)
        limits, errors = quantiles_of_greatest(np.array(greatest), rates)
        if last >= draws and (abs(excess - limits) > SURELY * errors).all():
            break
    return median, limits


def quantiles_of_greatest(values: np.ndarray, rates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a further value exceeds with the chances `rates`, and its standard errors; both shaped like `rates`.

    `values`, shape [draws], are each the greatest of many: a Gumbel distribution of their mean and spread. The errors
    are those of these two, which go together as far as that distribution is skew.
    """
    deviations = (-np.log(-np.log(1 - rates)) - MEAN) * np.sqrt(6) / np.pi
    spread = values.std(ddof=1)
    variances = 1 + SKEWNESS * deviations + (KURTOSIS - 1) / 4 * deviations**2
    return values.mean() + deviations * spread, spread * np.sqrt(variances / len(values))
