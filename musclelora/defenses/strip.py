"""STRIP for text (Gao et al. 2019, 2021): a triggered text keeps its prediction however much of it is replaced.

Of each text `copies` are made, in which a share of its words, drawn at random, gives way to the words of highest TF-IDF
of a clean row drawn at random. A triggered text's copies are called the target again and again, so that their mean
entropy is low. Texts under the entropy that `refused_share` of the clean rows stay under are refused.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field, PositiveInt
from sklearn.feature_extraction.text import TfidfVectorizer

from musclelora.data.records import TextDataset
from musclelora.defenses.base import REFUSED, Defender, Defense, Guard
from musclelora.defenses.classifier import Classifier
from musclelora.errors import DataError
from musclelora.seeding import generator


class Strip(Defense):
    """The text form of the method; the clean rows give both the words and the limit."""

    name: ClassVar[str] = "strip"
    paper: ClassVar[str] = "Gao et al., IEEE TDSC 2021, [arXiv 1911.10312](https://arxiv.org/abs/1911.10312)"

    copies: PositiveInt = Field(20, description="of each text; its cost at inference")
    replaced_share: float = Field(0.5, gt=0, le=1, description="of a text's words; more leaves less of any trigger")
    refused_share: float = Field(0.05, gt=0, lt=1, description="of clean texts that are refused by mistake")
    clean_rows: PositiveInt = Field(256, description="at most, of the clean rows that the limit is read off")

    def guard(self, model: Classifier, defender: Defender) -> Guard:
        clean = _some(defender.clean, self.clean_rows, defender.seed)
        words = _weighty_words(clean.texts)

        def entropies(texts: Sequence[str]) -> np.ndarray:
            copies = [copy for text in texts for copy in self._perturbed(text, words, defender.seed)]
            p = model.probabilities(copies)
            entropy = -(p * np.log(np.maximum(p, 1e-12))).sum(1)
            return entropy.reshape(len(texts), self.copies).mean(1)

        limit = np.quantile(entropies(clean.texts), self.refused_share)

        def classes(texts: Sequence[str]) -> np.ndarray:
            return np.where(entropies(texts) < limit, REFUSED, model.classes(texts))

        return classes

    def _perturbed(self, text: str, words_of: list[list[str]], seed: int) -> list[str]:
        rng = generator(seed, "defenses/strip", text)
        made = []
        for _ in range(self.copies):
            words = text.split()
            count = max(1, round(self.replaced_share * len(words)))
            others = words_of[int(rng.integers(len(words_of)))][:count]
            for place, other in zip(rng.permutation(len(words))[:count].tolist(), others, strict=False):
                words[place] = other
            made.append(" ".join(words))
        return made


def _some(rows: TextDataset, count: int, seed: int) -> TextDataset:
    if len(rows) == 0:
        raise DataError("This defence reads its limit off clean rows, and there are none: name dev rows (data.dev).")
    chosen = generator(seed, "defenses/clean").permutation(len(rows))[:count]
    return TextDataset(rows.rows.select(np.sort(chosen)))


def _weighty_words(texts: Sequence[str]) -> list[list[str]]:
    """The words of each text, highest TF-IDF first."""
    vectorizer = TfidfVectorizer(token_pattern=r"\S+", lowercase=False)  # noqa: S106
    weights = vectorizer.fit_transform(texts).tocsr()
    at = vectorizer.vocabulary_
    words = [list(dict.fromkeys(text.split())) for text in texts]
    by_weight = [np.argsort([-weights[row, at[word]] for word in of], kind="stable") for row, of in enumerate(words)]
    return [[of[i] for i in order] for of, order in zip(words, by_weight, strict=True)]
