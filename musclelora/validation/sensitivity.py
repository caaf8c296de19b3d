"""How right the trusted model is, and how right it would still be if some of the trusted rows had a wrong label.

The heads alone are fitted again, to the states of encoders that were tuned on the labels as delivered: wrong labels
would also have tuned these, so that with contrastive steps the curve is the better case. The wrong labels are drawn;
an attacker would choose the rows that do most harm.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression

from musclelora.seeding import generator
from musclelora.validation.report import SensitivityPoint, is_weak

SHARES = (0.01, 0.02, 0.05, 0.1, 0.2)  # of the trusted rows
DRAWS = 10


@dataclass(frozen=True, eq=False)
class Judged:
    """States of the trusted rows with these `numbers`, which a head is fitted to, and of rows that it is to judge."""

    numbers: np.ndarray
    states: np.ndarray
    judged: np.ndarray
    truth: np.ndarray


def right_of(parts: Sequence[Judged], labels: np.ndarray, inverse_penalty: float) -> int:
    """How many of the judged rows the heads name rightly; `labels` of all trusted rows, shape [trusted rows]."""
    hits = 0
    for part in parts:
        head = LogisticRegression(C=inverse_penalty, max_iter=1000).fit(part.states, labels[part.numbers])
        hits += int((head.predict(part.judged) == part.truth).sum())
    return hits


def sensitivity(
    parts: Sequence[Judged], labels: np.ndarray, classes: int, inverse_penalty: float, chance: float, seed: int
) -> list[SensitivityPoint]:
    """The curve from no wrong label to a fifth of the trusted rows, `DRAWS` draws each.

    It ends before a number of wrong labels with which a draw leaves some head one label only.
    """
    n, trusted = sum(len(part.truth) for part in parts), len(labels)
    points = []
    for wrong in sorted({0, *(max(1, round(share * trusted)) for share in SHARES)}):
        draws = [_with_wrong(labels, wrong, classes, seed, draw) for draw in range(DRAWS if wrong else 1)]
        if any(len(np.unique(drawn[part.numbers])) < 2 for drawn in draws for part in parts):
            break
        hits = [right_of(parts, drawn, inverse_penalty) for drawn in draws]
        lower95 = lower_bound(round(float(np.mean(hits))), n)
        points.append(
            SensitivityPoint(
                wrong=wrong,
                accuracy=float(np.mean(hits)) / n,
                worst=min(hits) / n,
                is_weak=is_weak(lower95, chance),
            )
        )
    return points


def lower_bound(hits: int, n: int) -> float:
    """One-sided 95 % lower bound of a rate (Clopper and Pearson 1934)."""
    return float(binomtest(hits, n, alternative="greater").proportion_ci(0.95, "exact").low)


def _with_wrong(labels: np.ndarray, wrong: int, classes: int, seed: int, draw: int) -> np.ndarray:
    random, drawn = generator(seed, "trusted model/wrong labels", f"{wrong}/{draw}"), labels.copy()
    rows = random.permutation(len(labels))[:wrong]
    drawn[rows] = (labels[rows] + random.integers(1, classes, size=wrong)) % classes
    return drawn
