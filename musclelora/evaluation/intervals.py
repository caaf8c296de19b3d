"""Exact one-sided bounds of a share (Clopper and Pearson 1934), from SciPy."""

from scipy.stats import binomtest

from musclelora.evaluation.report import Rate

CONFIDENCE = 0.95


def rate(successes: int, n: int) -> Rate:
    """The share with its one-sided 95 % lower and upper bound; raises `ValueError` for n = 0: no share exists."""
    if n == 0:
        raise ValueError("a share of no rows is undefined")
    lower = binomtest(successes, n, alternative="greater").proportion_ci(CONFIDENCE, "exact").low
    upper = binomtest(successes, n, alternative="less").proportion_ci(CONFIDENCE, "exact").high
    return Rate(value=successes / n, n=n, lower95=float(lower), upper95=float(upper))
