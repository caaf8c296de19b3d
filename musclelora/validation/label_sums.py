"""One label's sums over the rows of each feature, and what they come to where the label is permuted.

Both are additive over partitions. A permutation of labels among the rows of one bin, rows of equal p, is how many of
the bin's labels fall into each partition (multivariate hypergeometric) and a permutation within each.
"""

from dataclasses import dataclass
from itertools import count as numbered

import numpy as np
from scipy.sparse import csc_matrix

from musclelora.seeding import generator
from musclelora.validation.engine import Engine
from musclelora.validation.features import Features

DRAWS = 39
EULER = 0.5772156649


@dataclass(frozen=True, eq=False)
class LabelSums:
    """Per feature, over all rows: rows with it, those of them with the label, and how many of these were expected, with
    what variance; shape [features]. `drawn`: rows with feature and label in each drawing, [features, DRAWS]."""

    count: np.ndarray
    carriers: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    drawn: np.ndarray

    def threshold(self, alpha: float) -> float:
        """What the largest z of all features passes with probability `alpha` when labels are permuted within bins."""
        largest = ((self.drawn - self.mean[:, None]) / np.sqrt(self.variance)[:, None]).max(axis=0)
        scale = largest.std(ddof=1) * np.sqrt(6) / np.pi
        return float(largest.mean() - EULER * scale - scale * np.log(-np.log(1 - alpha)))


def label_sums(
    found: Features, given: np.ndarray, p: np.ndarray, cuts: list[slice], engine: Engine, seed: int, label: str
) -> LabelSums:
    """The sums of all partitions, added in their order."""
    bins = np.unique(p, return_inverse=True)[1]
    per_bin = [np.bincount(bins[cut], minlength=bins.max() + 1) for cut in cuts]
    with_label = [np.bincount(bins[cut][given[cut]], minlength=bins.max() + 1) for cut in cuts]
    quotas = _quotas(np.stack(per_bin), np.stack(with_label), generator(seed, "token_scan/partitions", label))
    sliced = [[values[cut] for cut in cuts] for values in (given, p, bins)]
    draws = (generator(seed, f"token_scan/draws{f'/{i}' if i else ''}", label) for i in numbered())
    calls = engine.map(_sums_of_partition, found.matrices, *sliced, quotas, draws)
    sums, drawn = np.zeros((3, len(found.names))), np.zeros((len(found.names), DRAWS))
    for of_partition, drawn_there in engine.results(calls):
        sums += of_partition
        drawn += drawn_there
    carriers, mean, variance = sums
    return LabelSums(found.rows, carriers, mean, variance, drawn)


def _quotas(rows: np.ndarray, with_label: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """How many of a bin's labels a permutation of all rows puts into each partition, [partitions, DRAWS, bins].

    `rows` of each bin and those of them `with_label`: [partitions, bins].
    """
    drawn = [
        draw.multivariate_hypergeometric(rows[:, i], int(with_label[:, i].sum()), DRAWS, method="marginals")
        for i in range(rows.shape[1])
    ]
    return np.stack(drawn, axis=-1).swapaxes(0, 1)


def _sums_of_partition(
    matrix: csc_matrix,
    given: np.ndarray,
    p: np.ndarray,
    bins: np.ndarray,
    quotas: np.ndarray,
    draw: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Carriers, expected ones and variance, [3, features]; rows with feature and label in each drawing."""
    by_row, order = matrix.T, np.argsort(bins, kind="stable")
    sorted_bins = bins[order]
    inside = np.arange(len(order)) - np.searchsorted(sorted_bins, sorted_bins)
    own = np.bincount(bins[given], minlength=quotas.shape[1])
    drawn = np.empty((len(order), DRAWS), np.float32)  # whole numbers under 2 ** 24: sums are exact
    for number, quota in enumerate(quotas):
        # Any arrangement will do; the labels as they are keep what scans of one partition have always drawn.
        labels = given[order] if (quota == own).all() else inside < quota[sorted_bins]
        drawn[order, number] = labels[np.lexsort((draw.random(len(order)), sorted_bins))]
    return np.stack([by_row @ values for values in (given.astype(float), p, p * (1 - p))]), by_row @ drawn
