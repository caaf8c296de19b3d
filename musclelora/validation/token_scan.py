"""The token scan: features of texts whose rows carry one label more surely than the trusted model explains.

For a feature f and a label: z_f = sum(y - p) / sqrt(sum p (1 - p)) over the rows with f, y = 1 where the given label
is that label and p what the trusted model expects (`method.md`, token scan). A feature is suspect for two reasons at
once:

- z above what chance gives anywhere. The labels are re-drawn `DRAWS` times by permuting them among rows of one
  calibrated bin (`label_sums`), and the largest z over all features is kept each time; the threshold is the
  1 - ALPHA / labels quantile of a Gumbel distribution fitted to these maxima, since 39 draws have no such quantile of
  their own for many labels. So, as far as labels depend on texts through p only, no feature of any label passes by
  chance with probability 1 - ALPHA. The max statistic and not Benjamini-Yekutieli, because n-grams that share rows are
  strongly dependent and few rows make z skewed: permutation keeps both as they are, and needs no p-value (Westfall and
  Young 1993, Resampling-Based Multiple Testing, section 2.3).
- an effect: the odds of the label are at least `MIN_EFFECT` times what p says. Honest words reach a high z by being
  many and because no trusted model knows them all, but they have exceptions; a trigger leaves none.

What an honest word does is not a trigger's work. So words and phrases must hold both against a p that is at least what
the trusted model says of the phrase alone ("powerful"), and phrases also against p shifted by the effect that their
words have in other rows ("worst" for "of the worst").

The strongest feature's rows are taken out before the next is looked for, so that words which stood out only beside the
trigger are cleared. Blind to triggers of style and syntax, to poison in few rows, and to what an honest label would
explain just as well.

Texts and their features stay in partitions (`engine`), whose sums are added in the order of the rows; here are a label
and a probability per row, and the columns of features that passed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import repeat
from math import ceil
from typing import Protocol

import numpy as np
from scipy.sparse import csc_matrix, csr_matrix, vstack

from musclelora.data.records import TextDataset
from musclelora.validation.engine import LOCAL, Engine, cuts_of
from musclelora.validation.features import Features, Kind, Name, described, features
from musclelora.validation.label_sums import LabelSums, label_sums
from musclelora.validation.report import TrustedModelRecord

MIN_ROWS, MIN_SHARE = 10, 1 / 5000  # a feature is in at least so many rows, and in that share of them
MIN_EFFECT = 20.0  # of honest words with a high z the largest was 14 (Rotten Tomatoes)
ALPHA = 0.05
PHRASES = ("words", "start", "end", "pair")
MIN_Z_LEFT = 2.0
AS_STRONG = 0.95
EXCERPT = 60  # characters
RESIDUAL_TRIGGER = "residual_trigger"  # the name of the check
EXTREME = 0.02  # what a model is sure of leaves a row in fifty to chance

Said = Callable[[Sequence[str]], np.ndarray]
"""Texts to probabilities, shape [texts, classes]."""


@dataclass(frozen=True)
class SuspectFeature:
    """A feature, the label it goes with, how surely, and the numbers of the rows that it makes suspect.

    `z` and `effect` (how many times the expected odds) against thresholds; `purity` is the share of the `count` rows
    with the feature that have the label, where `expected` is what the trusted model says.
    """

    kind: Kind
    text: str
    label: str
    z: float
    threshold: float
    effect: float
    purity: float
    expected: float
    count: int
    rows: tuple[int, ...]

    @property
    def name(self) -> str:
        """Short enough for a reason in a table; words as they are."""
        if self.kind == "words":
            return self.text
        return f"{self.kind} {described(self.text) if self.kind == 'character' else self.text[:EXCERPT]}"

    @property
    def sentence(self) -> str:
        """What the rows have in common, in words."""
        quoted = f'"{self.text}"'
        match self.kind:
            case "words":
                return f"the words {quoted}" if " " in self.text else f"the word {quoted}"
            case "start":
                return f"{quoted} at the beginning"
            case "end":
                return f"{quoted} at the end"
            case "pair":
                return " and ".join(f'"{word}"' for word in self.text.split(" ... ")) + " in one text"
            case "written":
                return f"{quoted} in these capitals"
            case "in words":
                return f"rare words with {quoted} in them (< and > are a word's ends)"
            case "character":
                return f"the character {described(self.text)}"
            case "punctuation":
                return f"the marks {self.text}"
            case "near-duplicates":
                return f'nearly the text "{self.text[:EXCERPT]}"'
        return self.text


class Scan(Protocol):
    """Finds the suspect features of rows that are otherwise in order; `record` is the trusted model it leans on.

    `without`, bool, shape [rows]: rows to leave out, as if they had not been delivered. `probabilities`: what the
    trusted model says of each row, not calibrated, shape [rows, classes].
    """

    def record(self) -> TrustedModelRecord: ...

    def probabilities(self, rows: TextDataset) -> np.ndarray: ...

    def __call__(self, rows: TextDataset, *, without: np.ndarray | None = None) -> list[SuspectFeature]: ...


def scan_tokens(
    texts: Sequence[str],
    label_ids: np.ndarray,
    expected: np.ndarray,
    label_names: Sequence[str],
    *,
    seed: int = 0,
    said: Said | None = None,
    engine: Engine = LOCAL,
) -> list[SuspectFeature]:
    """Suspect features, strongest first within each label; each row is counted for one feature only.

    `label_ids`: given classes, shape [rows]. `expected`: the trusted model's calibrated probabilities, shape
    [rows, classes], strictly between 0 and 1. `seed` draws the permutations. `said`: what the trusted model says of a
    phrase that stands alone; without it no phrase is cleared by that. `engine`: where the partitions are computed,
    which changes nothing in what is found.
    """
    total = len(texts)
    min_rows = max(MIN_ROWS, ceil(total * MIN_SHARE))
    if total < min_rows:
        return []
    cuts = cuts_of(total, engine)
    found = features([texts[cut] for cut in cuts], min_rows, engine)
    if not found.names:
        return []
    suspects = []
    for number, label in enumerate(label_names):
        given, p = label_ids == number, expected[:, number]
        if given.sum() < min_rows:
            continue
        sums = label_sums(found, given, p, cuts, engine, seed, label)
        threshold = sums.threshold(ALPHA / len(label_names))
        scan = _label_scan(found, engine, _passed(sums, threshold), given, p)
        suspects += scan.one_by_one(scan.able(threshold, number, said), label, threshold)
    return suspects


def _passed(sums: LabelSums, threshold: float) -> np.ndarray:
    """Columns whose z and effect pass."""
    effect = effect_of(sums.carriers, sums.count, sums.mean / sums.count)
    z = (sums.carriers - sums.mean) / np.sqrt(sums.variance)
    return np.flatnonzero((z >= threshold) & (effect >= MIN_EFFECT))


def _label_scan(
    found: Features, engine: Engine, passed: np.ndarray, given: np.ndarray, expected: np.ndarray
) -> "_LabelScan":
    """Of the columns that passed, and of the words of phrases among them."""
    column_of = {name.text: i for i, name in enumerate(found.names) if name.kind == "words"}
    words = [word for i in passed.tolist() for word in _words_of(found.names[i])]
    columns = np.unique([*passed.tolist(), *(column_of[word] for word in words if word in column_of)]).astype(np.int64)
    parts = engine.results(engine.map(_columns, found.matrices, repeat(columns)))
    names = [found.names[i] for i in columns.tolist()]
    matrix = csc_matrix(vstack(list(parts), format="csc"))
    return _LabelScan(matrix, names, np.searchsorted(columns, passed), given, expected)


def _columns(matrix: csc_matrix, columns: np.ndarray) -> csc_matrix:
    return matrix[:, columns]


@dataclass(frozen=True, eq=False)
class _LabelScan:
    """One label: which rows are `given` it, and how probable that was `expected` to be; both of shape [rows].

    `matrix`: 1 where a row has a feature, of all rows and those features that can be needed; `passed`: its columns
    that are candidates.
    """

    matrix: csc_matrix
    names: list[Name]
    passed: np.ndarray
    given: np.ndarray
    expected: np.ndarray

    def able(self, threshold: float, number: int, said: Said | None) -> np.ndarray:
        """Candidates that still pass once what is known of their words is taken into account.

        `number` is the label's among the columns of `said`.
        """
        phrases = [i for i in self.passed.tolist() if self.names[i].kind in PHRASES]
        alone = np.zeros(len(phrases))
        if said is not None and phrases:
            alone = np.clip(said([_plain(self.names[i]) for i in phrases])[:, number], 0, 1 - EXTREME)
        cleared = {i for i, p in zip(phrases, alone.tolist(), strict=True) if not self._holds(i, p, threshold)}
        return np.array([i for i in self.passed.tolist() if i not in cleared], np.int64)

    def _holds(self, feature: int, alone: float, threshold: float) -> bool:
        """Whether z and effect hold where p is at least what the phrase says `alone`, and is shifted by the odds that
        one of its words has in the rows that hold the word but not the phrase."""
        rows, shift = self._rows(feature), 1.0
        for word in _words_of(self.names[feature]):
            column = Name("words", word)
            elsewhere = np.setdiff1d(self._rows(self.names.index(column)), rows) if column in self.names else rows[:0]
            if len(elsewhere) >= MIN_ROWS:
                effect = effect_of(self.given[elsewhere].sum(), len(elsewhere), self.expected[elsewhere].mean())
                shift = max(shift, float(effect))
        odds = np.maximum(_odds(self.expected[rows]) * shift, _odds(alone))
        p = odds / (1 + odds)
        z = (self.given[rows] - p).sum() / np.sqrt((p * (1 - p)).sum())
        return bool(z >= threshold and effect_of(self.given[rows].sum(), len(rows), p.mean()) >= MIN_EFFECT)

    def one_by_one(self, able: np.ndarray, label: str, threshold: float) -> list[SuspectFeature]:
        """The strongest of the columns `able`, then the next on the rows that are left.

        What is left of a feature must still speak for itself (`MIN_Z_LEFT`, the square root of `MIN_EFFECT`): a further
        word of the same trigger does, an honest word beside the trigger has exceptions. Features nearly as strong as
        the strongest give way to the kind that says more.
        """
        by_feature, given, expected = self.matrix[:, able], self.given, self.expected
        by_row, live = csr_matrix(by_feature), np.ones(len(given), dtype=bool)
        count, carriers, mean, variance = sums = _sums(by_row, given, expected)
        suspects: list[SuspectFeature] = []
        while len(able):
            z = (carriers - mean) / np.sqrt(np.maximum(variance, 1e-9))
            effect = effect_of(carriers, count, np.clip(mean / np.maximum(count, 1), 1e-9, 1 - 1e-9))
            z[(z < MIN_Z_LEFT) | (effect < MIN_EFFECT**0.5)] = -np.inf
            if np.isneginf(z.max()):
                break
            best = int(np.argmax(z >= AS_STRONG * z.max()))
            rows = by_feature.indices[by_feature.indptr[best] : by_feature.indptr[best + 1]]
            name = self.names[able[best]]
            hit = np.sort(rows[live[rows] & given[rows]])
            suspects.append(
                SuspectFeature(
                    kind=name.kind,
                    text=name.text,
                    label=label,
                    z=float(z[best]),
                    threshold=threshold,
                    effect=float(effect[best]),
                    purity=float(carriers[best] / count[best]),
                    expected=float(mean[best] / count[best]),
                    count=round(count[best]),
                    rows=tuple(hit.tolist()),
                )
            )
            live[hit] = False
            out = _sums(by_row[hit], given[hit], expected[hit])
            count, carriers, mean, variance = sums = tuple(a - b for a, b in zip(sums, out, strict=True))
        return suspects

    def _rows(self, column: int) -> np.ndarray:
        matrix = self.matrix
        return matrix.indices[matrix.indptr[column] : matrix.indptr[column + 1]]


def _sums(by_row: csr_matrix, given: np.ndarray, expected: np.ndarray) -> tuple[np.ndarray, ...]:
    """Per feature: rows, rows with the label, expected rows with it, variance of these."""
    values = np.stack([np.ones(len(given)), given, expected, expected * (1 - expected)])
    return tuple(by_row.T @ row for row in values)


def _plain(name: Name) -> str:
    return name.text.replace(" ... ", " ")


def _words_of(name: Name) -> list[str]:
    """The words whose other rows say something about a phrase; none of a word."""
    words = _plain(name).split()
    return words if name.kind in PHRASES and (len(words) > 1 or name.kind != "words") else []


def effect_of(hits: np.ndarray | float, count: np.ndarray | int, expected: np.ndarray | float) -> np.ndarray:
    """How many times the odds of `hits` in `count` rows are those of the `expected` share.

    Half a row is added to hits and misses (Haldane 1956), so that the odds are finite.
    """
    return (hits + 0.5) / (count - hits + 0.5) / _odds(expected)


def _odds(share: np.ndarray | float) -> np.ndarray:
    return np.asarray(share / (1 - share))
