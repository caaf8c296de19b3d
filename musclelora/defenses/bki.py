"""BKI (Chen and Dai 2021): the word whose removal changes the hidden state most, in many rows of one label.

The paper reads an LSTM's states step by step. A transformer has no such states: as in later comparisons on
transformers, a word's weight in a row is the largest change of any unit of the state that the head reads, when the word
is taken out. The `words_per_row` weightiest words of each row are candidates; over a label's rows a word scores

    mean weight * log10(rows) * log10(limit / rows),   limit = `frequent_share` * all rows

so that it occurs often, but not as often as the words of the language do. Rows of the label that have the best word
among their candidates are left out.
"""

from collections import defaultdict
from typing import ClassVar

import numpy as np
from pydantic import Field, PositiveInt

from musclelora.data.records import TextDataset
from musclelora.defenses.base import Defender, Defense
from musclelora.defenses.classifier import Classifier, without_each_word
from musclelora.progress import watched

CHUNK = 256  # rows whose shortened copies are classified together


class Bki(Defense):
    """Section 4 of the paper; the state at the token that the head reads stands for the LSTM's."""

    name: ClassVar[str] = "bki"
    paper: ClassVar[str] = "Chen and Dai, Neurocomputing 2021, [arXiv 2007.12070](https://arxiv.org/abs/2007.12070)"

    words_per_row: PositiveInt = Field(5, description="candidates of each row")
    frequent_share: float = Field(0.5, gt=0, le=1, description="of all rows: a word in more of them scores under 0")
    keywords: PositiveInt = Field(1, description="how many words, best first, whose rows are left out")

    def suspects(self, rows: TextDataset, defender: Defender) -> np.ndarray:
        labels = rows.label_ids(defender.label_names)
        candidates = self._candidates(rows.texts, defender.train(rows, None))
        weights: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
        for label, words in zip(labels.tolist(), candidates, strict=True):
            for word, weight in words.items():
                weights[word, label].append(weight)
        limit = self.frequent_share * len(rows)
        scores = {
            keyword: float(np.mean(of) * np.log10(len(of)) * np.log10(limit / len(of)))
            for keyword, of in weights.items()
        }
        best = sorted((k for k in scores if scores[k] > 0), key=lambda k: (-scores[k], k))[: self.keywords]
        return np.array(
            [
                any((word, label) in best for word in words)
                for label, words in zip(labels.tolist(), candidates, strict=True)
            ]
        )

    def _candidates(self, texts: list[str], model: Classifier) -> list[dict[str, float]]:
        """Of each row its weightiest words and their weights."""
        found = []
        chunks = [texts[start : start + CHUNK] for start in range(0, len(texts), CHUNK)]
        for chunk in watched(chunks, [len(chunk) for chunk in chunks], f"BKI weighing words of {len(texts):,} rows"):
            shortened = [without_each_word(text) for text in chunk]
            states = model.states([*chunk, *(text for copies in shortened for text in copies)])
            at = len(chunk)
            for number, (text, copies) in enumerate(zip(chunk, shortened, strict=True)):
                change = np.abs(states[at : at + len(copies)] - states[number]).max(1)
                at += len(copies)
                words: dict[str, float] = {}
                for word, weight in zip(text.split(), change.tolist(), strict=False):
                    words[word] = max(weight, words.get(word, 0.0))
                top = sorted(words, key=lambda word: (-words[word], word))[: self.words_per_row]
                found.append({word: words[word] for word in top})
        return found
