"""Clusters of one label's rows by what speaks for the label in them, ranked by how much the trusted model misses."""

import numpy as np
from scipy.sparse import csr_matrix
from scipy.special import expit
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA, TruncatedSVD

from musclelora.validation.text_residual import contributions, cross_fitted

CLUSTERINGS = (15, 25, 50)  # k of each k-means: coarse for a frequent trigger, fine for a rare one
DIRECTIONS, WHITENED = 40, 30
MIN_CLUSTER = 15  # rows
MIN_LABEL_ROWS = 150  # rows of a label without which there are no clusters to compare


def greatest_excess(x: csr_matrix, offset: np.ndarray, folds: np.ndarray, y: np.ndarray, random: int) -> float | None:
    clusters = clusters_of(x, offset, folds, y, random)
    return clusters[0][0] if clusters else None


def clusters_of(
    x: csr_matrix, offset: np.ndarray, folds: np.ndarray, y: np.ndarray, random: int, near: np.ndarray | None = None
) -> list[tuple[float, np.ndarray]]:
    """Excess and row numbers of each cluster of the label's rows, `y`, greatest excess first; none of too few rows.

    A cluster's excess is its rows' mean evidence above the label's median, less its standard error.

    `near`: weights that those of these labels are near to.
    """
    residual = cross_fitted(x, y, offset, folds, start=near)
    mine = np.flatnonzero(y)
    if len(mine) < MIN_LABEL_ROWS:
        return []
    evidence = evidence_of(residual.values[mine], offset[mine])
    excess = evidence - np.median(evidence)
    moved = contributions(x[mine], residual.weights, folds[mine])
    directions = TruncatedSVD(min(DIRECTIONS, x.shape[1] - 1), n_iter=2, random_state=random).fit_transform(moved)
    white = PCA(min(WHITENED, directions.shape[1]), whiten=True, random_state=random).fit_transform(directions)
    clusters = []
    for k in CLUSTERINGS:
        of_row = KMeans(min(k, len(mine) // MIN_CLUSTER), n_init=1, random_state=random).fit_predict(white)
        for cluster in range(of_row.max() + 1):
            rows = of_row == cluster
            if rows.sum() >= MIN_CLUSTER:
                score = excess[rows].mean() - excess.std() / np.sqrt(rows.sum())
                clusters.append((float(score), mine[rows]))
    return sorted(clusters, key=lambda cluster: -cluster[0])


def evidence_of(residual: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """The residual of rows that have the label, in logits, times the trusted model's doubt of it, whose logit is
    `offset`: the slope of the label's log-likelihood. Little where the trusted model expects the label anyhow."""
    return residual * expit(-offset)
