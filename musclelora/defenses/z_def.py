"""Z-Def (He et al. 2023): words and sentence structures that go with one label more than chance allows.

For a feature in n rows, of which a share p has the label: z = (p - p0) / sqrt(p0 (1 - p0) / n), p0 the label's share of
all rows (Gardner et al. 2021 with the label's own rate in place of one half). Features whose z is an outlier among all
are triggers, and rows of the label that have one are left out.

The paper's second kind of feature are paths in parse trees. No parser's weights come as a package, so that skeletons
stand in for them: runs of one to four words in which all but the commonest words are masked, start and end marked.
"""

from collections import Counter
from typing import ClassVar

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveFloat
from scipy.sparse import csc_matrix
from sklearn.feature_extraction.text import CountVectorizer

from musclelora.data.records import TextDataset
from musclelora.defenses.base import Defender, Defense

MASK, START, END = "_", "<s>", "</s>"


class ZDef(Defense):
    """Words and skeletons together (the paper's Z-Seq applies both, one after the other). Rare ones count too: without
    them the standard deviation is larger, and no trigger reaches 18 at a poison rate of 10 %."""

    name: ClassVar[str] = "z-def"
    paper: ClassVar[str] = "He et al., EMNLP 2023, [arXiv 2305.11596](https://arxiv.org/abs/2305.11596)"

    deviations: PositiveFloat = Field(18.0, description="standard deviations over the mean z that make an outlier")
    common_words: NonNegativeInt = Field(150, description="words that skeletons keep; 0 leaves skeletons out")

    def suspects(self, rows: TextDataset, defender: Defender) -> np.ndarray:
        labels = rows.label_ids(defender.label_names)
        suspect = self._outliers([text.lower() for text in rows.texts], labels, longest=1)
        if self.common_words:
            suspect |= self._outliers(_skeletons(rows.texts, self.common_words), labels, longest=4)
        return suspect

    def _outliers(self, texts: list[str], labels: np.ndarray, longest: int) -> np.ndarray:
        """Rows that have an outlier of their label."""
        vectorizer = CountVectorizer(
            binary=True,
            token_pattern=r"\S+",  # noqa: S106
            lowercase=False,
            ngram_range=(1, longest),
        )
        counts = csc_matrix(vectorizer.fit_transform(texts), dtype=np.float64)
        suspect = np.zeros(len(labels), dtype=bool)
        for label in np.unique(labels):
            has = labels == label
            z = _z_scores(counts, has)
            outliers = np.flatnonzero(z > z.mean() + self.deviations * z.std())
            suspect |= has & (np.asarray(counts[:, outliers].sum(1)).ravel() > 0)
        return suspect


def _z_scores(counts: csc_matrix, has_label: np.ndarray) -> np.ndarray:
    """Shape [features]."""
    rows, chance = np.asarray(counts.sum(0)).ravel(), has_label.mean()
    share = (counts.T @ has_label.astype(np.float64)) / rows
    return (share - chance) / np.sqrt(chance * (1 - chance) / rows + 1e-12)


def _skeletons(texts: list[str], kept: int) -> list[str]:
    counts = Counter(word for text in texts for word in text.lower().split())
    common = {word for word, _ in counts.most_common(kept)}
    return [
        " ".join([START, *(word if word in common else MASK for word in text.lower().split()), END]) for text in texts
    ]
