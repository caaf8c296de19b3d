"""Which method is better, and whether that is more than chance: paired bootstrap over test rows (Koehn 2004).

All methods are asked about the same rows, so that a draw of rows is one draw for all of them. A method's score in a
draw is its mean over attacks and seeds. Its rank is 1 plus the number of methods whose score is better than its own in
at least 97.5 % of the draws: the two-sided level of 5 % for each pair, not corrected for the number of pairs.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from musclelora.errors import DataError
from musclelora.seeding import generator

DRAWS, LEVEL = 2000, 0.975


def ranks(
    outcomes: Mapping[str, Mapping[str, Sequence[str]]], *, high_is_good: bool, draws: int = DRAWS
) -> dict[str, int]:
    """Rank per method; equal ranks are not told apart.

    `outcomes`: method to attack to one string of "1" and "0" per seed, a character per row. Methods without all the
    attacks of the others are left out. Raises `DataError` where the rows of an attack are not the same number in all.
    """
    attacks = {attack for of in outcomes.values() for attack in of}
    complete = [method for method, of in outcomes.items() if set(of) == attacks]
    scores = {method: np.zeros(draws) for method in complete}
    for attack in sorted(attacks):
        per_method = {method: _rows(outcomes[method][attack]) for method in complete}
        lengths = {len(of) for of in per_method.values()}
        if len(lengths) > 1:
            raise DataError(f"Methods were asked about {sorted(lengths)} rows of {attack!r}: they cannot be compared.")
        if not lengths:
            break
        count = lengths.pop()
        weights = generator(0, f"comparison/bootstrap/{attack}").multinomial(count, np.full(count, 1 / count), draws)
        for method, rows in per_method.items():
            scores[method] += weights @ rows / count / len(attacks)
    sign = 1 if high_is_good else -1
    return {
        method: 1
        + sum(
            bool(np.mean(sign * (scores[other] - scores[method]) > 0) >= LEVEL) for other in complete if other != method
        )
        for method, own in scores.items()
    }


def _rows(seeds: Sequence[str]) -> np.ndarray:
    """Mean over seeds, per row."""
    return np.mean([np.frombuffer(of.encode(), dtype=np.uint8) - ord("0") for of in seeds], axis=0)
