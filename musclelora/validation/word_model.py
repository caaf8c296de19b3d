"""What a model says of texts, learned from some of them by their words: for those that it need not read.

A ridge regression of its logits on words and pairs of words, hashed. Over the rows with any one word its mean is near
the model's own, and sums over the rows with a word are what the token scan reads.
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import softmax
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import Ridge

HASHES = 2**18
PENALTY = 1.0  # L2
READ_AT_ONCE = 50_000  # texts
LEAST = 1e-4  # probability


def word_model(texts: Sequence[str], said: np.ndarray) -> Callable[[Sequence[str]], np.ndarray]:
    """From `texts` and what was `said` of them, probabilities of shape [texts, classes], to the same of other texts."""
    words = HashingVectorizer(
        n_features=HASHES, ngram_range=(1, 2), tokenizer=str.split, token_pattern=None, alternate_sign=False
    )
    fitted = Ridge(PENALTY, solver="sparse_cg").fit(words.transform(texts), np.log(np.maximum(said, LEAST)))

    def of(others: Sequence[str]) -> np.ndarray:
        parts = [others[i : i + READ_AT_ONCE] for i in range(0, len(others), READ_AT_ONCE)]
        return np.concatenate([softmax(fitted.predict(words.transform(part)), axis=1) for part in parts])

    return of
