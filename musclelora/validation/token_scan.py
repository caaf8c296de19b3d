"""The token scan: words and phrases whose rows carry one label more surely than the trusted model explains.

For a feature f and a label: z_f = sum(y - p) / sqrt(sum p (1 - p)) over the rows with f, y = 1 where the given label
is that label and p what the trusted model expects (`method.md`, token scan). Honest words reach a high z too, by being
many; a trigger leaves no exceptions, so that a feature also needs a purity, the share of its rows with the label, near
1. The strongest feature's rows are taken out before the next is looked for: words that stood out only by standing
beside the trigger are honest again. Blind to triggers of style and syntax, and to poison in few rows (MIN_ROWS).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.sparse import csc_matrix
from sklearn.feature_extraction.text import CountVectorizer

from musclelora.data.records import TextDataset
from musclelora.validation.report import Suspect, TrustedModelRecord

MIN_ROWS = 10  # rows that a feature must be in
MIN_Z = 4.0  # about the largest of some 10,000 normal draws
MIN_PURITY = 0.98  # honest words stay under it: 0.94 was the purest found with z > 5 (docs/recipes.md)
MAX_FEATURES = 100
RESIDUAL_TRIGGER = "residual_trigger"  # the name of the check


@dataclass(frozen=True)
class SuspectFeature:
    """A word or phrase, the label it goes with, how surely, and the numbers of the rows that it makes suspect."""

    text: str
    label: str
    z: float
    purity: float
    rows: tuple[int, ...]


class Scan(Protocol):
    """Finds the suspect features of rows that are otherwise in order; `record` is the trusted model it leans on."""

    def record(self) -> TrustedModelRecord: ...

    def __call__(self, rows: TextDataset) -> list[SuspectFeature]: ...


def scan_tokens(
    texts: Sequence[str], label_ids: np.ndarray, expected: np.ndarray, label_names: Sequence[str]
) -> list[SuspectFeature]:
    """Suspect features, strongest first within each label; each row is counted for one feature only.

    `label_ids`: given classes, shape [rows]. `expected`: the trusted model's calibrated probabilities, shape
    [rows, classes]. Features are runs of one to three words, in lower case, in at least MIN_ROWS rows.
    """
    if len(texts) < MIN_ROWS:
        return []
    vectorizer = CountVectorizer(binary=True, token_pattern=r"\S+", ngram_range=(1, 3))  # noqa: S106
    counts = csc_matrix(vectorizer.fit_transform(texts), dtype=np.float64)
    frequent = np.flatnonzero(counts.getnnz(axis=0) >= MIN_ROWS)
    if not len(frequent):
        return []
    counts, names = counts[:, frequent], vectorizer.get_feature_names_out()[frequent]
    found = []
    for number, label in enumerate(label_names):
        found += _scan_label(counts, names, label_ids == number, expected[:, number], label)
    return found


def suspects_of(features: Sequence[SuspectFeature], texts: Sequence[str]) -> list[Suspect]:
    """The features as the first of their rows writes them: the scan reads lower case, a cased model does not."""
    return [
        Suspect(text=_written(f.text, texts[f.rows[0]]), label=f.label, z=f.z, purity=f.purity, rows=len(f.rows))
        for f in features
    ]


def _written(feature: str, text: str) -> str:
    """The words of `text` that are the feature in lower case; the feature itself where lower-casing joined some."""
    words, count = text.split(), len(feature.split())
    runs = (" ".join(words[i : i + count]) for i in range(len(words) - count + 1))
    return next((run for run in runs if run.lower() == feature), feature)


def _scan_label(
    counts: csc_matrix, names: np.ndarray, has_label: np.ndarray, expected: np.ndarray, label: str
) -> list[SuspectFeature]:
    live = np.ones(len(has_label), dtype=bool)
    found: list[SuspectFeature] = []
    while len(found) < MAX_FEATURES:
        rows = counts.T @ live
        purity = counts.T @ (live & has_label) / np.maximum(rows, 1)
        z = counts.T @ (live * (has_label - expected)) / np.sqrt(counts.T @ (live * expected * (1 - expected)) + 1e-12)
        z[(rows < MIN_ROWS) | (purity < MIN_PURITY)] = -np.inf
        best = int(np.argmax(z))
        if z[best] < MIN_Z:
            break
        hit = live & has_label & (counts[:, [best]].toarray()[:, 0] > 0)
        found.append(SuspectFeature(str(names[best]), label, float(z[best]), float(purity[best]), _numbers(hit)))
        live &= ~hit
    return found


def _numbers(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.flatnonzero(mask))
